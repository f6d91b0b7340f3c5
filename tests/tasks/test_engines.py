from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import numpy as np
import pytest

from cellunet.core import device as core_device
from cellunet.engine.onnx_graph import build
from cellunet.errors import CheckpointError, ConfigError, DeviceError
from cellunet.tasks import engines as choice
from cellunet.tasks.engines import ENGINES, choose_engine, gpu_possible, load_engine


@pytest.fixture
def linux(monkeypatch):
    """A Linux machine with a CUDA build of torch and no GPU."""
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.9.0")
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(choice, "_driver_files", list)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [
        ("auto", "cpu", "onnxruntime"),
        ("auto", "cuda", "torch"),
        ("auto", "cuda:1", "torch"),
        ("auto", "mps", "torch"),
        ("onnxruntime", "auto", "onnxruntime"),
        ("onnxruntime", "cpu", "onnxruntime"),
        ("torch", "auto", "torch"),
        ("torch", "cpu", "torch"),
        ("torch", "cuda", "torch"),
    ],
)
def test_the_engine_follows_the_device_unless_it_is_asked_for(name, device, expected):
    assert choose_engine(name, device) == expected
    assert expected in ENGINES


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_onnxruntime_on_a_gpu_is_refused_with_the_way_out(device):
    with pytest.raises(DeviceError, match=device) as caught:
        choose_engine("onnxruntime", device)
    assert f"--engine torch --device {device}" in caught.value.hint


def test_an_unknown_engine_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="onnxruntime, torch") as caught:
        choose_engine("tensorflow", "cpu")
    assert "auto" in caught.value.hint


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (["cpu"], "onnxruntime"),
        (["cuda", "cuda:0", "cpu"], "torch"),
        (["mps", "cpu"], "torch"),
    ],
)
def test_with_both_left_open_torch_says_what_there_is(monkeypatch, there, expected):
    monkeypatch.setattr(choice, "gpu_possible", lambda: True)
    monkeypatch.setattr(core_device, "available", lambda: there)
    assert choose_engine("auto", "auto") == expected


def test_torch_is_not_asked_where_there_can_be_no_gpu(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(choice, "gpu_possible", lambda: False)
    monkeypatch.setattr(core_device, "available", lambda: pytest.fail("asked"))
    assert choose_engine("auto", "auto") == "onnxruntime"


@pytest.mark.usefixtures("linux")
def test_a_machine_without_driver_has_no_gpu():
    assert not gpu_possible()


@pytest.mark.usefixtures("linux")
def test_a_driver_makes_a_gpu_possible(monkeypatch, tmp_path):
    monkeypatch.setattr(choice, "_driver_files", lambda: [tmp_path])
    assert gpu_possible()


@pytest.mark.usefixtures("linux")
def test_a_drivers_program_makes_a_gpu_possible(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert gpu_possible()


@pytest.mark.usefixtures("linux")
@pytest.mark.parametrize("hidden", ["", "-1", " "])
def test_hidden_gpus_are_no_gpus(monkeypatch, tmp_path, hidden):
    monkeypatch.setattr(choice, "_driver_files", lambda: [tmp_path])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not gpu_possible()


@pytest.mark.usefixtures("linux")
def test_a_build_for_cpus_finds_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(choice, "_driver_files", lambda: [tmp_path])
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.9.0+cpu")
    assert not gpu_possible()


@pytest.mark.usefixtures("linux")
def test_without_torch_there_is_no_gpu_to_use(monkeypatch, tmp_path):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(choice, "_driver_files", lambda: [tmp_path])
    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert not gpu_possible()


@pytest.mark.parametrize(("machine", "there"), [("arm64", True), ("x86_64", False)])
def test_a_mac_has_a_gpu_for_torch_if_it_is_apple_silicon(monkeypatch, machine, there):
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert gpu_possible() is there


def test_the_files_of_a_windows_driver_are_in_its_system_folder(monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Windows")
    monkeypatch.setenv("SYSTEMROOT", "W")
    assert choice._driver_files() == [Path("W") / "System32" / "nvcuda.dll"]
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert Path("/dev/nvidiactl") in choice._driver_files()


@pytest.fixture
def onnx_file(tmp_path, small_weights, small_config):
    path = tmp_path / "model.onnx"
    path.write_bytes(build(small_weights, small_config))
    return path


def test_onnxruntime_is_loaded_from_the_onnx_file_alone(onnx_file, small_config):
    engine = load_engine(
        onnx=onnx_file,
        safetensors=onnx_file / "none",
        config=small_config,
        engine="auto",
        device="cpu",
        threads=1,
    )
    assert engine.name.startswith("onnxruntime ")


def test_a_twin_of_another_model_is_refused(onnx_file, small_config):
    with pytest.raises(CheckpointError, match=r"another model.*classes=3.*classes=2"):
        load_engine(
            onnx=onnx_file,
            safetensors=onnx_file,
            config=small_config.replace(classes=2),
            engine="onnxruntime",
            device="auto",
            threads=1,
        )


def test_torch_is_loaded_from_the_safetensors_file_alone(
    monkeypatch, tmp_path, onnx_file, small_config, make_network, rng
):
    checkpoint = pytest.importorskip("cellunet.core.checkpoint")
    asked = []

    def load_network(path):
        asked.append(path)
        return make_network(small_config)

    monkeypatch.setattr(checkpoint, "load_network", load_network)
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    torch_engine, twin = (
        load_engine(
            onnx=onnx_file,
            safetensors=tmp_path / "w",
            config=small_config,
            engine=name,
            device="cpu",
            threads=2,
        )
        for name in ("torch", "onnxruntime")
    )
    assert asked == [2, tmp_path / "w"]
    assert torch_engine.name.startswith("torch ")
    assert torch_engine.name.endswith(" cpu")
    image = rng.standard_normal((1, 2, 8, 8), np.float32)
    np.testing.assert_allclose(torch_engine(image), twin(image), atol=1e-5)


def test_torch_on_a_device_that_is_not_there_is_refused(onnx_file, small_config):
    with pytest.raises(DeviceError, match="gpu"):
        load_engine(
            onnx=onnx_file,
            safetensors=onnx_file,
            config=small_config,
            engine="auto",
            device="gpu",
            threads=1,
        )
