"""How a model is applied: engine, scale, constants, memory."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")


import importlib.metadata
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cellunet import store
from cellunet.command_config import PredictConfig
from cellunet.config import DecodeConfig, TrainConfig, UNetConfig
from cellunet.core import device as core_device
from cellunet.engine.int8 import measure_ranges
from cellunet.errors import CheckpointError, ConfigError, DeviceError
from cellunet.imaging.blocks import network_plan
from cellunet.io import label_tiff
from cellunet.store import Model
from cellunet.tasks.predict import settings as choice
from cellunet.tasks.predict.settings import (
    BAND_BYTES,
    ENGINES,
    FURTHER_BAND_BYTES,
    FURTHER_MAPS,
    LEAST_TILE_PX,
    MEGABYTE,
    TILE_BYTES,
    WAITING_TILE_BYTES,
    Memory,
    at_scale,
    choose_engine,
    gpu_possible,
    load_engine,
    memory_for,
    scale_of,
    settings_for,
    window_bytes,
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
@pytest.mark.parametrize("system", ["Linux", "Darwin"])
def test_without_torch_there_is_no_gpu_to_use(monkeypatch, tmp_path, system):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: "arm64")
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


@pytest.mark.parametrize(
    "name", [f.name for f, shipped in store.list_folders() if shipped]
)
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


@pytest.fixture
def known(tiny_model) -> Model:
    return store.find_model(str(tiny_model.folder))


def made(known: Model, **asked):
    return settings_for(known, PredictConfig(**asked), "onnxruntime", "cpu", 1)


def test_constants_are_as_trained_where_nothing_is_asked(known) -> None:
    recipe = made(known)
    assert recipe.decode == known.card.config.decode
    assert recipe.config == known.card.config
    assert recipe.scale == 1.0


def test_areas_and_lengths_follow_the_scale() -> None:
    trained = DecodeConfig(
        min_area_px=20, growth_px=10, max_hole_px=40, max_core_px=1000
    )
    assert at_scale(trained, 1.0) is trained
    # Seen at half its size, an object has a quarter of its pixels.
    half = at_scale(trained, 0.5)
    assert (half.min_area_px, half.growth_px) == (80, 20)
    assert (half.max_hole_px, half.max_core_px) == (160, 4000)
    double = at_scale(trained, 2.0)
    assert (double.min_area_px, double.growth_px) == (5, 5)
    assert (double.max_hole_px, double.max_core_px) == (10, 250)
    # Growth has a limit, and no core is of no pixel.
    assert at_scale(trained, 0.05).growth_px == 64
    assert at_scale(trained, 20.0).max_core_px == 2
    assert at_scale(trained.replace(max_core_px=1), 20.0).max_core_px == 1


def test_what_is_asked_for_is_taken_as_it_is(known) -> None:
    diameter = known.card.diameter_px[1]
    for size in ({}, {"scale": 3.0}, {"diameter_px": diameter / 3}):
        recipe = made(known, min_area_px=33, seed_threshold=0.25, **size)
        assert recipe.decode.min_area_px == 33
        assert recipe.decode.seed_threshold == 0.25


def test_the_scale_follows_from_the_diameter(known) -> None:
    known = replace(known, card=replace(known.card, diameter_px=(8.0, 12.0, 30.0)))
    assert scale_of(PredictConfig(), known) == 1
    assert scale_of(PredictConfig(scale=0.7), known) == 0.7
    assert scale_of(PredictConfig(diameter_px=24.0), known) == 0.5
    # 12 / 20 and 12 / .05 pixels are the ends.
    with pytest.raises(ConfigError, match="12 px") as caught:
        scale_of(PredictConfig(diameter_px=241.0), known)
    assert "0.6 to 240 px" in caught.value.hint


def test_a_model_without_a_diameter_needs_a_scale(known) -> None:
    without = replace(known, card=replace(known.card, diameter_px=(0.0, 0.0, 0.0)))
    with pytest.raises(ConfigError, match="does not know") as caught:
        scale_of(PredictConfig(diameter_px=24.0), without)
    assert "--scale" in caught.value.hint


def test_a_models_own_scale_is_multiplied_within_limits(known) -> None:
    config = known.card.config
    own = replace(known, card=replace(known.card, config=config.replace(scale=0.1)))
    assert scale_of(PredictConfig(scale=2.0), own) == pytest.approx(0.2)
    with pytest.raises(ConfigError, match=r"images by 0\.1; 0\.01 in all"):
        scale_of(PredictConfig(scale=0.1), own)


SHAPE = (30_000, 40_000)
WINDOW = window_bytes(SHAPE, UNetConfig())
HELD = 64 * 2**20 + label_tiff.held_bytes(SHAPE)


def test_without_a_bound_the_defaults_hold() -> None:
    assert memory_for(None, SHAPE, WINDOW, HELD, 0) == Memory()


def test_with_room_enough_too() -> None:
    assert memory_for(10_000, SHAPE, WINDOW, HELD, 0) == Memory()


def test_less_room_makes_smaller_parts() -> None:
    found = [memory_for(mb, SHAPE, WINDOW, HELD, 0) for mb in (700, 750, 800, 1000)]
    for less, more in pairwise(found):
        assert less.tile_px <= more.tile_px
        assert less.band_pixels <= more.band_pixels
        assert less.scratch_bytes <= more.scratch_bytes
    assert LEAST_TILE_PX <= found[0].tile_px < found[-1].tile_px


def test_the_least_that_is_named_does() -> None:
    with pytest.raises(ConfigError, match="too little") as caught:
        memory_for(100, SHAPE, WINDOW, HELD, 0)
    least = int(re.findall(r"--max-memory (\d+)", caught.value.hint)[0])
    memory_for(least, SHAPE, WINDOW, HELD, 0)
    with pytest.raises(ConfigError):
        memory_for(least - 2, SHAPE, WINDOW, HELD, 0)


def test_what_the_reader_holds_is_taken_off() -> None:
    less = memory_for(1000, SHAPE, WINDOW, HELD + 200 * MEGABYTE, 0)
    assert less == memory_for(800, SHAPE, WINDOW, HELD, 0)
    with pytest.raises(ConfigError, match="too little"):
        memory_for(1000, SHAPE, WINDOW, 900 * MEGABYTE, 0)


@pytest.mark.parametrize("workers", [2, 3, 4, 64])
@pytest.mark.parametrize("limit", [None, 700, 10_000])
def test_tiles_at_once_share_what_one_would_take(limit, workers) -> None:
    one = memory_for(limit, SHAPE, WINDOW, HELD, 0)
    found = memory_for(limit, SHAPE, WINDOW, HELD, 0, workers)
    assert (found.band_pixels, found.scratch_bytes) == (
        one.band_pixels,
        one.scratch_bytes,
    )
    assert 1 < found.workers <= workers
    of_one = (TILE_BYTES + WAITING_TILE_BYTES) * found.tile_px**2
    share = one.tile_px if limit != 700 else one.tile_px + 64
    assert found.workers * of_one <= TILE_BYTES * share**2


def test_threads_change_nothing_of_what_fits() -> None:
    with pytest.raises(ConfigError, match="too little") as caught:
        memory_for(100, SHAPE, WINDOW, HELD, 0, 4)
    least = int(re.findall(r"--max-memory (\d+)", caught.value.hint)[0])
    assert memory_for(least, SHAPE, WINDOW, HELD, 0).workers == 1
    found = memory_for(least, SHAPE, WINDOW, HELD, 0, 4)
    assert found.tile_px == LEAST_TILE_PX
    with pytest.raises(ConfigError):
        memory_for(least - 2, SHAPE, WINDOW, HELD, 0, 4)


def test_each_further_channel_takes_room_for_its_windows() -> None:
    one, two, three = (
        window_bytes(SHAPE, UNetConfig(in_channels=2 * n), n) for n in (1, 2, 3)
    )
    assert one == WINDOW
    height, width = network_plan(SHAPE, UNetConfig()).block_shape
    assert two - one == three - two == 4 * (2 + FURTHER_MAPS) * height * width


@pytest.mark.parametrize("limit", [None, 800])
def test_bands_of_several_channels_are_lower(limit) -> None:
    memory = memory_for(limit, SHAPE, WINDOW, HELD, 0)
    for channels in (2, 3):
        found = memory_for(limit, SHAPE, WINDOW, HELD, 0, 1, channels)
        own = BAND_BYTES + (channels - 1) * FURTHER_BAND_BYTES
        assert found.band_pixels * own <= memory.band_pixels * BAND_BYTES
        assert found.band_pixels > memory.band_pixels // 3
        assert found == replace(memory, band_pixels=found.band_pixels)


def test_the_least_bound_holds_the_lowest_band_of_every_channel() -> None:
    least = []
    for channels in (1, 2, 3):
        with pytest.raises(ConfigError) as caught:
            memory_for(100, SHAPE, WINDOW, HELD, 0, 1, channels)
        least.append(int(caught.value.hint.split()[1]))
    further = 16 * FURTHER_BAND_BYTES * SHAPE[1] / MEGABYTE
    assert [b - a for a, b in pairwise(least)] == [pytest.approx(further, abs=1)] * 2
