"""Calibrating a model for eight bits on images."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet import store
from cellunet.command_config import PredictConfig
from cellunet.errors import (
    BusyError,
    CheckpointError,
    ConfigError,
    InputError,
    OutputError,
)
from cellunet.imaging.blocks import LARGEST_PX
from cellunet.imaging.normalize import network_input
from cellunet.io.label_tiff import read_provenance
from cellunet.io.paths import find_inputs
from cellunet.io.source import ArraySource, array_source
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.inputs import evenly, few_images
from cellunet.tasks.predict.session import load_model
from cellunet.tasks.quantize import MOST_IMAGES, calibrate, network_window


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A copy of the tiny model."""
    return shutil.copytree(tiny_model.folder, tmp_path / "model")


@pytest.fixture
def images(tiny_model):
    return tiny_model.data / "images"


def ranges(folder):
    return store.find_model(str(folder)).card.int8_ranges


def without_ranges(folder):
    """Make the model in a folder one that was not calibrated."""
    file = folder / store.WEIGHTS_FILE
    metadata = store.read_metadata(file)
    del metadata["int8_ranges"]
    store.write(file, store.read_tensors(file), metadata)


def test_training_leaves_the_ranges_of_its_training_images(tiny_model, folder, images):
    trained = store.find_model(str(tiny_model.folder))
    names = [name.rpartition("/")[2] for name in trained.card.training]
    calibrate(str(folder), [str(images / f"{n}.tif") for n in names], overwrite=True)
    assert ranges(folder) == trained.card.int8_ranges


def test_a_model_without_ranges_is_given_them(folder, images):
    before = ranges(folder)
    without_ranges(folder)
    assert ranges(folder) == {}
    made = calibrate(str(folder), [str(images)])
    assert made.path == folder / store.WEIGHTS_FILE
    assert (made.images, made.skipped) == (6, ())
    assert ranges(folder).keys() == before.keys()


def test_label_images_among_the_images_are_left_out(folder, images, tmp_path):
    mixed = shutil.copytree(images, tmp_path / "mixed")
    options = {"model": str(folder), "threads": 1}
    predict([str(images / "a0.tif")], tmp_path / "out", **options)
    (tmp_path / "out" / "a0.tif").rename(mixed / "z.tif")
    made = calibrate(str(folder), [str(mixed)], overwrite=True)
    assert (made.images, made.skipped) == (6, ())


def test_few_images_are_picked_anew_where_some_are_label_images(folder, images):
    out = folder.parent
    predict([str(images)], out / "in", model=str(folder), threads=1)
    for path in [*(out / "in").glob("*.tif")]:
        path.rename(path.with_name(f"m{path.name}"))
    for name in ("a0.tif", "a1.tif", "a2.tif"):
        shutil.copy(images / name, out / "in")
    found = find_inputs([str(out / "in")])
    assert len(found.files) == 9
    assert [p.name for p in few_images(found, 2)] == ["a0.tif", "a2.tif"]
    assert len(few_images(find_inputs([str(out / "in")], include=["labels"]), 9)) == 9


def test_ranges_that_are_there_are_replaced_only_if_asked(folder, images):
    before = ranges(folder)
    with pytest.raises(OutputError, match="is calibrated for eight bits") as caught:
        calibrate(str(folder), [str(images)])
    assert "--overwrite" in caught.value.hint
    assert ranges(folder) == before
    calibrate(str(folder), [str(images / "a0.tif")], overwrite=True)
    assert ranges(folder) != before


def test_calibration_changes_the_ranges_and_nothing_else(folder, images):
    file = folder / store.WEIGHTS_FILE
    without_ranges(folder)
    plain = store.find_model(str(folder))
    tensors, digest = store.read_tensors(file), hashlib.sha256(file.read_bytes())
    assert plain.sha256 == digest.hexdigest()
    for subset in ("*", "a0.tif"):
        calibrate(str(folder), [str(images / subset)], overwrite=True)
        found = store.find_model(str(folder))
        assert found.sha256 == plain.sha256 != store.file_sha256(file)
        assert replace(found.card, int8_ranges={}) == plain.card
        for name, values in store.read_tensors(file).items():
            np.testing.assert_array_equal(values, tensors[name])


def test_a_training_that_ends_meanwhile_keeps_its_weights(folder, images):
    file = folder / store.WEIGHTS_FILE
    newer = b"newer"

    def track(items, *_):
        yield from items
        shutil.copy(file, folder / "new")
        (folder / "new").write_bytes(newer)
        (folder / "new").replace(file)

    with pytest.raises(CheckpointError, match="was replaced while it was read"):
        calibrate(str(folder), [str(images)], overwrite=True, track=track)
    assert file.read_bytes() == newer


def test_a_model_that_ships_stays_as_it_is(folder, images, monkeypatch):
    monkeypatch.setattr(store, "SHIPPED", folder.parent)
    before = (folder / store.WEIGHTS_FILE).read_bytes()
    for asked in ("model", str(folder), str(folder / store.WEIGHTS_FILE)):
        with pytest.raises(ConfigError, match="'model' ships with cellunet") as caught:
            calibrate(asked, [str(images)], overwrite=True)
        assert f"models add {folder} --name MY-CELLS" in caught.value.hint
    assert (folder / store.WEIGHTS_FILE).read_bytes() == before


def test_a_model_that_is_trained_anew_is_not_written_to(
    folder, images, tmp_path, monkeypatch
):
    monkeypatch.setenv("CELLUNET_HOME", str(tmp_path / "home"))
    mine = shutil.copytree(folder, tmp_path / "home" / "models" / "mine")
    before = (mine / store.WEIGHTS_FILE).read_bytes()
    with store.training("mine"), pytest.raises(BusyError, match="is being trained"):
        calibrate("mine", [str(images / "a0.tif")], overwrite=True)
    assert (mine / store.WEIGHTS_FILE).read_bytes() == before
    calibrate("mine", [str(images / "a0.tif")], overwrite=True)
    assert (mine / store.WEIGHTS_FILE).read_bytes() != before


def test_an_image_that_cannot_be_read_costs_itself_alone(folder, images, tmp_path):
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"nothing")
    made = calibrate(
        str(folder), [str(images), str(bad), str(tmp_path / "no.tif")], overwrite=True
    )
    assert made.images == 6
    assert len(made.skipped) == 2
    assert "bad.tif" in made.skipped[1]


def test_without_any_usable_image_the_model_stays_as_it_was(folder, tmp_path):
    before = (folder / store.WEIGHTS_FILE).read_bytes()
    (tmp_path / "bad.tif").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="no image to calibrate on") as caught:
        calibrate(str(folder), [str(tmp_path / "bad.tif")], overwrite=True)
    assert "bad.tif" in caught.value.hint
    with pytest.raises(InputError):
        calibrate(str(folder), [str(tmp_path / "none")], overwrite=True)
    assert (folder / store.WEIGHTS_FILE).read_bytes() == before


def test_of_a_stack_the_middle_plane_is_taken(folder, tmp_path, rng):
    stack = rng.integers(0, 900, (3, 64, 64)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "stack.tif", stack, imagej=True, metadata={"axes": "ZYX"}
    )
    tifffile.imwrite(tmp_path / "middle.tif", stack[1])
    found = []
    for name in ("stack", "middle"):
        calibrate(str(folder), [str(tmp_path / f"{name}.tif")], overwrite=True)
        found.append(ranges(folder))
    assert found[0] == found[1]


@pytest.mark.parametrize("shape", [(1, 1), (13, 40), (1100, 9)])
def test_a_window_is_the_middle_and_fits_the_network(tiny_model, rng, shape):
    config = store.read_card(tiny_model.folder / store.WEIGHTS_FILE).config
    window = network_window(ArraySource(rng.random(shape)), 0, config)
    stride = config.network.stride_px
    assert window.dtype == np.float32
    for side, length in zip(shape, window.shape[1:], strict=True):
        assert length % stride == 0
        assert min(side, LARGEST_PX) <= length < min(side, LARGEST_PX) + stride


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_a_window_is_what_the_network_sees_in_training(
    scale, tiny_model, make_sample
) -> None:
    from cellunet.core.dataset import prepare

    card = store.read_card(tiny_model.folder / store.WEIGHTS_FILE)
    config = card.config.replace(scale=scale)
    sample = make_sample((64, 96))
    statistics = sample.statistics_for(config.normalization)
    window = network_window(array_source(sample.image), 0, config, statistics)
    seen = prepare(sample, config).crop.image
    assert window.shape[1:] == (round(64 * scale), round(96 * scale))
    np.testing.assert_array_equal(window, network_input(seen, config.normalization))


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


@pytest.mark.slow
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
        config=PredictConfig(diameter_px="model"),
        should_stop=should_stop,
    )
    assert ran.stopped
    assert 0 < len(ran.images) < 6
