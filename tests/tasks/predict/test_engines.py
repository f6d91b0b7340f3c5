from __future__ import annotations

import importlib.metadata
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
from cellunet.engine.int8 import measure_ranges
from cellunet.errors import CheckpointError, ConfigError, DeviceError
from cellunet.tasks.predict import settings as choice
from cellunet.tasks.predict.settings import (
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
    """A model on disk that was not calibrated."""
    card = store.ModelCard(name="small", config=TrainConfig(network=small_config))
    weights = {k: v for k, v in small_weights.items() if "tracked" not in k}
    file = tmp_path / "small.safetensors"
    store.write(file, weights, card.to_dict())
    return store.find_model(str(file))


@pytest.fixture
def calibrated(model, small_weights, small_config, window):
    """The same model with ranges for eight bits."""
    ranges = measure_ranges(small_weights, small_config, [window])
    card = replace(model.card, int8_ranges=ranges)
    tensors = store.read_tensors(model.weights)
    store.write(model.weights, tensors, card.to_dict())
    return store.find_model(str(model.weights))


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


def test_onnxruntime_is_loaded_from_the_weights_file(model):
    assert loaded(model, "auto").name.startswith("onnxruntime ")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "openvino-int8"])
def test_weights_of_another_shape_are_refused(calibrated, engine):
    with pytest.raises(CheckpointError, match="not fit the network of its card"):
        loaded(changed(calibrated, channels=(4, 8)), engine)


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
    torch_engine, other = (
        loaded(model, name, threads=2) for name in ("torch", "onnxruntime")
    )
    assert asked == [2, model.weights]
    assert torch_engine.name.startswith("torch ")
    assert torch_engine.name.endswith(" cpu")
    image = window[np.newaxis]
    np.testing.assert_allclose(torch_engine(image), other(image), atol=1e-5)


def test_torch_on_a_device_that_is_not_there_is_refused(model):
    with pytest.raises(DeviceError, match="gpu"):
        loaded(model, "auto", device="gpu")


def test_all_engines_say_nearly_the_same_and_tell_themselves_apart(calibrated, window):
    engines = {name: loaded(calibrated, name) for name in ENGINES}
    assert len({engine.name for engine in engines.values()}) == len(ENGINES)
    expected = engines["onnxruntime"](window[np.newaxis])
    for name, engine in engines.items():
        rough = name in ("openvino-int8", "torch-bfloat16")
        difference = np.abs(engine(window[np.newaxis]) - expected)
        assert difference.mean() < (2e-2 if rough else 1e-6)
        # Eight bits that change nothing are none.
        assert bool(difference.mean() > 1e-5) is rough


def test_the_command_that_measures_missing_ranges_is_named(model):
    with pytest.raises(CheckpointError, match="no ranges for eight bits") as caught:
        loaded(model, "openvino-int8")
    assert f"cellunet models calibrate {model.weights} IMAGES" in caught.value.hint
    with pytest.raises(CheckpointError) as caught:
        loaded(replace(model, shipped=True), "openvino-int8")
    assert "cellunet models calibrate small IMAGES" in caught.value.hint


def test_ranges_of_another_network_are_refused(calibrated):
    ranges = dict(calibrated.card.int8_ranges)
    ranges["stem.9"] = ranges.pop("stem.5")
    wrong = replace(calibrated, card=replace(calibrated.card, int8_ranges=ranges))
    with pytest.raises(CheckpointError, match="are of another network") as caught:
        loaded(wrong, "openvino-int8")
    assert f"calibrate {wrong.weights} IMAGES --overwrite" in caught.value.hint


@pytest.mark.parametrize("name", [f.name for f in store.list_folders() if f.shipped])
def test_a_shipped_model_computes_in_eight_bits(name):
    model = store.find_model(str(store.SHIPPED / name))
    assert " int8 " in loaded(model, "openvino-int8").name


@pytest.mark.parametrize("engine", ["openvino", "openvino-int8"])
def test_a_missing_openvino_is_refused_with_the_line_that_installs_it(
    monkeypatch, calibrated, engine
):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match="needs the package openvino") as caught:
        loaded(calibrated, engine)
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
    calibrated, engine
):
    program = (
        "import sys, socket, numpy as np\n"
        "socket.socket.connect = lambda *_: sys.exit('a connection')\n"
        "from cellunet import store\n"
        "from cellunet.tasks.predict.settings import load_engine\n"
        "model = store.find_model(sys.argv[1])\n"
        "run = load_engine(model, engine=sys.argv[2], device='cpu', threads=1)\n"
        "run(np.zeros((1, 2, 8, 8), np.float32))\n"
        "heavy = {'torch', 'skimage', 'onnx', 'typer', 'rich'}\n"
        "heavy |= {'openvino_telemetry'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(calibrated.weights), engine],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
