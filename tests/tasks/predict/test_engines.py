from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from cellunet import store
from cellunet.config import TrainConfig
from cellunet.core import device as core_device
from cellunet.engine.int8 import write_int8
from cellunet.engine.onnx import build
from cellunet.errors import CheckpointError, ConfigError, DeviceError
from cellunet.tasks.predict import session as choice
from cellunet.tasks.predict.session import (
    ENGINES,
    choose_engine,
    gpu_possible,
    load_engine,
)


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
        ("torch-bfloat16", "cuda", "torch-bfloat16"),
        ("openvino", "auto", "openvino"),
        ("openvino-int8", "cpu", "openvino-int8"),
    ],
)
def test_the_engine_follows_the_device_unless_it_is_asked_for(name, device, expected):
    assert choose_engine(name, device) == expected
    assert expected in ENGINES


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "openvino-int8"])
def test_an_engine_of_the_cpu_on_a_gpu_is_refused_with_the_way_out(engine, device):
    with pytest.raises(DeviceError, match=f"{engine} runs.*{device}") as caught:
        choose_engine(engine, device)
    assert f"--engine torch --device {device}" in caught.value.hint


def test_an_unknown_engine_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="onnxruntime, openvino") as caught:
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
def model(tmp_path, small_weights, small_config):
    """A model on disk whose weights file is empty, so that no one can read it."""
    content = build(small_weights, small_config)
    (tmp_path / "model.onnx").write_bytes(content)
    (tmp_path / "model.safetensors").touch()
    return store.Model(
        name="small",
        weights=tmp_path / "model.safetensors",
        onnx=tmp_path / "model.onnx",
        card=store.ModelCard(
            name="small",
            config=TrainConfig(network=small_config),
            onnx_sha256=hashlib.sha256(content).hexdigest(),
        ),
        shipped=False,
    )


@pytest.fixture
def window(rng, small_config):
    return rng.standard_normal((small_config.in_channels, 32, 24), np.float32)


def loaded(model, engine, device="cpu", threads=1):
    return load_engine(model, engine=engine, device=device, threads=threads)


def changed(model, **network):
    config = model.card.config
    network = config.network.replace(**network)
    card = replace(model.card, config=config.replace(network=network))
    return replace(model, card=card)


def test_onnxruntime_is_loaded_from_the_onnx_file_alone(model):
    assert loaded(model, "auto").name.startswith("onnxruntime ")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_twin_of_another_shape_is_refused(model, engine):
    with pytest.raises(CheckpointError, match=r"another model.*\(4, 6\).*\(4, 8\)"):
        loaded(changed(model, channels=(4, 8)), engine)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_twin_of_other_weights_is_refused(model, engine):
    with pytest.raises(CheckpointError, match="is not the twin"):
        loaded(replace(model, card=replace(model.card, onnx_sha256="0")), engine)


def test_torch_is_loaded_from_the_safetensors_file_alone(
    monkeypatch, model, small_config, make_network, window
):
    checkpoint = pytest.importorskip("cellunet.core.checkpoint")
    asked = []

    def load_network(path):
        asked.append(path)
        return make_network(small_config)

    monkeypatch.setattr(checkpoint, "load_network", load_network)
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    torch_engine, twin = (
        loaded(model, name, threads=2) for name in ("torch", "onnxruntime")
    )
    assert asked == [2, model.weights]
    assert torch_engine.name.startswith("torch ")
    assert torch_engine.name.endswith(" cpu")
    image = window[np.newaxis]
    np.testing.assert_allclose(torch_engine(image), twin(image), atol=1e-5)


def test_torch_on_a_device_that_is_not_there_is_refused(model):
    with pytest.raises(DeviceError, match="gpu"):
        loaded(model, "auto", device="gpu")


def test_all_engines_say_nearly_the_same_and_tell_themselves_apart(
    monkeypatch, model, small_config, make_network, window
):
    checkpoint = pytest.importorskip("cellunet.core.checkpoint")
    monkeypatch.setattr(
        checkpoint, "load_network", lambda _: make_network(small_config)
    )
    write_int8(model, [window])
    engines = {name: loaded(model, name) for name in ENGINES}
    assert len({engine.name for engine in engines.values()}) == len(ENGINES)
    expected = engines["onnxruntime"](window[np.newaxis])
    for name, engine in engines.items():
        rough = name in ("openvino-int8", "torch-bfloat16")
        difference = np.abs(engine(window[np.newaxis]) - expected)
        assert difference.mean() < (2e-2 if rough else 1e-6)
        # Eight bits that change nothing are none.
        assert bool(difference.mean() > 1e-5) is rough


def test_the_command_that_makes_a_missing_int8_twin_is_named(model):
    with pytest.raises(CheckpointError, match="no int8 twin") as caught:
        loaded(model, "openvino-int8")
    assert f"cellunet models calibrate {model.weights} IMAGES" in caught.value.hint
    with pytest.raises(CheckpointError) as caught:
        loaded(replace(model, shipped=True), "openvino-int8")
    assert "cellunet models calibrate small IMAGES" in caught.value.hint


def test_an_int8_twin_of_other_weights_is_refused(model, window):
    write_int8(model, [window])
    again = replace(model, card=replace(model.card, onnx_sha256="0"))
    with pytest.raises(CheckpointError, match="made from other weights") as caught:
        loaded(again, "openvino-int8")
    assert f"calibrate {model.weights} IMAGES --overwrite" in caught.value.hint


@pytest.mark.parametrize("place", [200, -400, 5000])
def test_a_damaged_int8_twin_is_refused(model, window, place):
    write_int8(model, [window])
    content = bytearray(model.int8.read_bytes())
    content[place % len(content)] ^= 4
    model.int8.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model-int8\.onnx") as caught:
        loaded(model, "openvino-int8")
    assert "--overwrite" in caught.value.hint


def test_the_float32_file_does_not_pass_for_the_int8_twin(model):
    model.int8.write_bytes(model.onnx.read_bytes())
    with pytest.raises(CheckpointError, match="no model that this cellunet writes"):
        loaded(model, "openvino-int8")


@pytest.mark.parametrize("engine", ["openvino", "openvino-int8"])
def test_a_missing_openvino_is_refused_with_the_line_that_installs_it(
    monkeypatch, model, window, engine
):
    write_int8(model, [window])
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match="needs the package openvino") as caught:
        loaded(model, engine)
    assert 'pip install "cellunet-torch[openvino]"' in caught.value.hint


@pytest.mark.parametrize("there", [True, False])
def test_an_installed_openvino_is_mentioned_once_and_never_taken(
    monkeypatch, caplog, model, there
):
    monkeypatch.setattr("cellunet.engine.runtimes.installed", lambda: there)
    with caplog.at_level("INFO", logger="cellunet"):
        engine = loaded(model, "auto")
        loaded(model, "onnxruntime")
    assert engine.name.startswith("onnxruntime ")
    hints = [r.message for r in caplog.records if "openvino" in r.message]
    assert len(hints) == there


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "openvino-int8"])
def test_prediction_on_a_cpu_imports_no_torch_and_nothing_that_reports(
    model, window, engine
):
    write_int8(model, [window])
    card = json.dumps(model.card.to_dict())
    program = (
        "import sys, json, socket, numpy as np\n"
        "from pathlib import Path\n"
        "socket.socket.connect = lambda *_: sys.exit('a connection')\n"
        "from cellunet import store\n"
        "from cellunet.tasks.predict.session import load_engine\n"
        "weights, engine, card = sys.argv[1:]\n"
        "model = store.Model(name='m', weights=Path(weights), shipped=False,\n"
        "    onnx=Path(weights).with_suffix('.onnx'),\n"
        "    card=store.ModelCard.from_dict(json.loads(card)))\n"
        "run = load_engine(model, engine=engine, device='cpu', threads=1)\n"
        "run(np.zeros((1, 2, 8, 8), np.float32))\n"
        "heavy = {'torch', 'skimage', 'onnx', 'typer', 'rich'}\n"
        "heavy |= {'openvino_telemetry'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(model.weights), engine, card],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
