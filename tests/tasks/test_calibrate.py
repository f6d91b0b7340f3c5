"""Making a model's int8 twin from images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet import store
from cellunet.config import PredictConfig
from cellunet.engine.int8 import open_int8
from cellunet.errors import ConfigError, InputError, OutputError
from cellunet.imaging.blocks import LARGEST_PX
from cellunet.io.metadata import read_provenance
from cellunet.io.source import ArraySource
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.session import load_model
from cellunet.tasks.quantize import MOST_IMAGES, calibrate, network_window
from cellunet.tasks.train.checks import evenly


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A copy of the tiny model."""
    return shutil.copytree(tiny_model.folder, tmp_path / "model")


@pytest.fixture
def images(tiny_model):
    return tiny_model.data / "images"


def test_training_leaves_a_twin_of_the_training_images(tiny_model):
    opened = open_int8(store.find_model(str(tiny_model.folder)))
    card = store.read_card(tiny_model.folder / store.WEIGHTS_FILE)
    assert opened.metadata["images"] == str(len(card.training))
    assert opened.metadata["onnx_sha256"] == card.onnx_sha256


def test_a_lost_twin_is_made_again(folder, images):
    twin = folder / "model-int8.onnx"
    twin.unlink()
    made = calibrate(str(folder), [str(images)])
    assert (made.path, made.images, made.skipped) == (twin, 6, ())
    assert made.bytes == twin.stat().st_size
    assert open_int8(store.find_model(str(folder))).metadata["images"] == "6"


def test_a_twin_that_is_there_is_replaced_only_if_asked(folder, images):
    before = (folder / "model-int8.onnx").read_bytes()
    with pytest.raises(OutputError, match="has an int8 twin") as caught:
        calibrate(str(folder), [str(images)])
    assert "--overwrite" in caught.value.hint
    assert (folder / "model-int8.onnx").read_bytes() == before
    calibrate(str(folder), [str(images / "a0.tif")], overwrite=True)
    assert (folder / "model-int8.onnx").read_bytes() != before


def test_calibration_changes_neither_card_nor_weights(folder, images):
    kept = {p.name: p.read_bytes() for p in folder.glob("model.*")}
    calibrate(str(folder), [str(images)], overwrite=True)
    assert {p.name: p.read_bytes() for p in folder.glob("model.*")} == kept


def test_an_image_that_cannot_be_read_costs_itself_alone(folder, images, tmp_path):
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"nothing")
    made = calibrate(
        str(folder), [str(images), str(bad), str(tmp_path / "no.tif")], overwrite=True
    )
    assert made.images == 6
    assert len(made.skipped) == 2
    assert "bad.tif" in made.skipped[1]


def test_without_any_usable_image_the_twin_stays_as_it_was(folder, tmp_path):
    before = (folder / "model-int8.onnx").read_bytes()
    (tmp_path / "bad.tif").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="no image to calibrate on") as caught:
        calibrate(str(folder), [str(tmp_path / "bad.tif")], overwrite=True)
    assert "bad.tif" in caught.value.hint
    with pytest.raises(InputError):
        calibrate(str(folder), [str(tmp_path / "none")], overwrite=True)
    assert (folder / "model-int8.onnx").read_bytes() == before


def test_of_a_stack_the_middle_plane_is_taken(folder, tmp_path, rng):
    stack = rng.integers(0, 900, (3, 64, 64)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "stack.tif", stack, imagej=True, metadata={"axes": "ZYX"}
    )
    tifffile.imwrite(tmp_path / "middle.tif", stack[1])
    twins = []
    for name in ("stack", "middle"):
        calibrate(str(folder), [str(tmp_path / f"{name}.tif")], overwrite=True)
        twins.append((folder / "model-int8.onnx").read_bytes())
    assert twins[0] == twins[1]


@pytest.mark.parametrize("shape", [(1, 1), (13, 40), (1100, 9)])
def test_a_window_is_the_middle_and_fits_the_network(tiny_model, rng, shape):
    config = store.read_card(tiny_model.folder / store.WEIGHTS_FILE).config
    window = network_window(ArraySource(rng.random(shape)), 0, config)
    stride = config.network.stride_px
    assert window.dtype == np.float32
    for side, length in zip(shape, window.shape[1:], strict=True):
        assert length % stride == 0
        assert min(side, LARGEST_PX) <= length < min(side, LARGEST_PX) + stride


def test_of_many_images_few_are_taken_from_first_to_last():
    assert evenly([], MOST_IMAGES) == []
    assert evenly(range(3), MOST_IMAGES) == [0, 1, 2]
    for count in (31, 32, 33, 64, 65, 1000):
        chosen = evenly(range(count), MOST_IMAGES)
        assert 0.5 * min(count, MOST_IMAGES) <= len(chosen) <= MOST_IMAGES
        assert chosen[-1] >= count - len(range(count)) / len(chosen) - 1


@pytest.mark.usefixtures("tiny_home")
def test_labels_in_eight_bits_are_nearly_those_of_float32(tiny_model, images):
    pixels = tifffile.imread(images / "a0.tif")
    exact, rough = (
        load_model("tiny", engine=engine, threads=1).segment(pixels).labels
        for engine in ("onnxruntime", "openvino-int8")
    )
    assert exact.max() > 3
    assert ((exact > 0) != (rough > 0)).mean() < 0.02


@pytest.mark.usefixtures("tiny_home")
@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("engine", ["openvino", "openvino-int8"])
def test_tiles_change_no_label_and_the_engine_is_in_the_provenance(
    nuclei_image, tmp_path, engine, flips
):
    for seed in range(2):
        tifffile.imwrite(
            tmp_path / f"f{seed}.tif", nuclei_image((150, 90), 40, seed)[0]
        )
    found = {}
    for tile in (512, 64):
        config = PredictConfig(tile_px=tile, flips=flips)
        out = tmp_path / str(tile)
        ran = predict(
            [str(tmp_path / "f*.tif")],
            out,
            model="tiny",
            engine=engine,
            threads=1,
            config=config,
        )
        assert {image.status for image in ran.images} == {"done"}
        assert ran.engine.startswith("openvino ")
        assert (" int8 " in ran.engine) is (engine == "openvino-int8")
        outputs = [Path(image.output) for image in ran.images]
        assert read_provenance(outputs[0])["engine"] == ran.engine
        found[tile] = [tifffile.imread(path) for path in outputs]
    assert [labels.max() > 3 for labels in found[64]] == [True, True]
    for one, other in zip(*found.values(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("tiny_home")
def test_a_run_in_eight_bits_stops_when_it_is_told_to(images, tmp_path):
    asked = []

    def should_stop():
        asked.append(1)
        return len(asked) > 14

    ran = predict(
        [str(images)],
        tmp_path / "out",
        model="tiny",
        engine="openvino-int8",
        should_stop=should_stop,
    )
    assert ran.stopped
    assert 0 < len(ran.images) < 6


@pytest.mark.parametrize("name", [f.name for f in store.list_folders() if f.shipped])
def test_a_shipped_twin_is_of_the_shipped_weights(name):
    model = store.find_model(str(store.SHIPPED / name))
    if not model.int8.exists():
        pytest.skip(f"{name} ships without an int8 twin")
    assert open_int8(model).config == model.card.config.network
