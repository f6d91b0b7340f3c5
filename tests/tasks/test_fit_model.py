"""A model fitted to a few annotated images, without training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from cellunet import store
from cellunet.annotations.pairs import content_hash
from cellunet.command_config import PredictConfig
from cellunet.engine.int8 import ranges_of
from cellunet.errors import AnnotationError, CheckpointError, ConfigError
from cellunet.imaging.normalize import measure_channels
from cellunet.io.crops import CropChannel, CropMetadata
from cellunet.io.images import open_image
from cellunet.io.label_tiff import write_crop
from cellunet.io.source import Region
from cellunet.tasks import fit_model as task
from cellunet.tasks.evaluate import evaluate_model
from cellunet.tasks.fit_model import fit_model
from cellunet.tasks.models import list_models
from cellunet.tasks.predict.batch import predict

WHOLE = Region(0, 0, 256, 0, 256)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLUNET_HOME", str(tmp_path / "home"))


@pytest.fixture
def data(tmp_path, nuclei_image):
    """Annotated images whose outlines lie two pixels further out than usual."""

    def write(count: int, wider_px: int = 2, **how):
        folder = tmp_path / "data"
        for side in ("images", "labels"):
            (folder / side).mkdir(parents=True)
        for number in range(count):
            image, labels = nuclei_image((256, 256), 12, number, **how)
            soft = ndimage.gaussian_filter(image.astype(float), 2.0)
            wider = ndimage.grey_dilation(labels, size=2 * wider_px + 1)
            labels = np.where(labels > 0, labels, wider)
            name = f"f{number}.tif"
            tifffile.imwrite(folder / "images" / name, soft.astype(np.uint16))
            tifffile.imwrite(folder / "labels" / name, labels.astype(np.uint16))
        return folder

    return write


@pytest.mark.slow
def test_an_edge_that_is_drawn_further_out_is_learned(data, tmp_path) -> None:
    folder = data(3, radius_px=(12, 16))
    found = fit_model("nuclei", folder, "wide", threads=1)
    assert found.setting.edge is not None
    assert found.setting.edge < 0.5
    assert (found.images, found.pieces) == (3, 3)
    assert found.after["mean_ap"] > found.before["mean_ap"] + 0.05
    assert any(note.startswith("Edge: ") for note in found.notes)
    made = store.find_model("wide")
    start = store.find_model("nuclei")
    assert made.card.config.decode.edge == found.setting.edge
    assert made.card.start["sha256"] == start.sha256
    assert made.card.start["calibrated"] == "yes"
    assert made.sha256 != start.sha256
    old, new = (store.read_tensors(m.weights) for m in (start, made))
    assert all(np.array_equal(new[name], old[name]) for name in old)
    # Its images are known to it, and it is applied as it was fitted.
    image = tifffile.imread(folder / "images" / "f0.tif")
    assert content_hash(image[np.newaxis]) in made.card.validation.values()
    scores = evaluate_model(folder, model="wide", threads=1)
    assert scores.unseen is None
    done = predict([str(folder / "images")], tmp_path / "out", model="wide", threads=1)
    assert len(done.done) == 3
    assert done.settings["decode"]["edge"] == found.setting.edge


@pytest.mark.slow
def test_crops_are_scaled_as_their_field_as_in_evaluation(data) -> None:
    folder = data(3, 0, radius_px=(13, 16))
    for path in (folder / "images").iterdir():
        pixels = tifffile.imread(path)
        with open_image(path) as source:
            config = store.find_model("nuclei").card.config.normalization
            (found,) = measure_channels(lambda s=source: [s.read(WHOLE)], config)
        # The rest of the field is four times as bright.
        field = replace(found, high=4 * found.high, foreground=4 * found.foreground)
        cut = CropMetadata(
            image="field.tif",
            plane=0,
            y=0,
            x=0,
            percentiles=(config.low_percentile, config.high_percentile),
            channels=(CropChannel(channel="", statistics=field, negative=field),),
        )
        write_crop(path, pixels, cut, None)
    before = fit_model("nuclei", folder, "fitted", threads=1).before["mean_ap"]
    scores = evaluate_model(folder, model="nuclei", threads=1)
    assert before == pytest.approx(scores.headline.mean_ap.value)


@pytest.mark.slow
def test_one_image_is_scored_in_quarters_and_kept_as_it_is_if_it_fits(data) -> None:
    found = fit_model("nuclei", data(1, 0, radius_px=(13, 16)), "same", threads=1)
    assert (found.images, found.pieces) == (1, 4)
    assert found.after["mean_ap"] >= found.before["mean_ap"]
    assert found.setting.scale is None


def test_what_cannot_be_fitted_is_refused(data, tmp_path) -> None:
    folder = data(1)
    labels = folder / "labels" / "f0.tif"
    fit = {"threads": 1}
    store.model_folder("taken").mkdir(parents=True)
    with pytest.raises(ConfigError, match="exists already"):
        fit_model("nuclei", folder, "taken", **fit)
    with pytest.raises(ConfigError, match="name of a model that ships"):
        fit_model("nuclei", folder, "nuclei", overwrite=True, **fit)
    tifffile.imwrite(labels, np.zeros((256, 256), np.uint16))
    with pytest.raises(AnnotationError, match="No object is annotated"):
        fit_model("nuclei", folder, "empty", **fit)
    assert not store.model_folder("empty").exists()


def test_ranges_for_eight_bits_do_not_outlast_the_curve_they_were_measured_with(
    data, monkeypatch
) -> None:
    def choose(trial, now, what, candidates):
        chosen = {what: "square-root" if what == "curve" else None}
        return replace(now, **chosen), np.zeros((len(trial.pieces), 2)), ""

    monkeypatch.setattr(task, "_stage", choose)
    assert store.find_model("nuclei").card.int8_ranges
    fit_model("nuclei", data(1), "curved", threads=1)
    made = store.find_model("curved")
    assert made.card.config.normalization.curve == "square-root"
    with pytest.raises(CheckpointError, match="no ranges for eight bits") as caught:
        ranges_of(made)
    assert "cellunet models calibrate curved IMAGES" in caught.value.hint


def test_a_model_fitted_twice_knows_the_images_of_both_times(data, monkeypatch) -> None:
    monkeypatch.setattr(task, "_stage", lambda t, now, *_: (now, 0.0, ""))
    folder = data(1)
    fit_model("nuclei", folder, "once", threads=1)
    image = folder / "images" / "f0.tif"
    pixels = tifffile.imread(image)
    # Another image of the same name.
    tifffile.imwrite(image, pixels + 1)
    fit_model("once", folder, "twice", threads=1)
    known = store.find_model("twice").card.validation
    assert {content_hash(p[np.newaxis]) for p in (pixels, pixels + 1)} <= {
        *known.values()
    }
    (listed,) = (info for info in list_models() if info.name == "twice")
    assert (listed.copy_of, listed.calibrated_from) == ("", "once")


def test_pictures_of_a_model_that_was_replaced_are_gone(data, monkeypatch) -> None:
    monkeypatch.setattr(task, "_stage", lambda t, now, *_: (now, 0.0, ""))
    folder = store.model_folder("mine")
    (folder / "validation").mkdir(parents=True)
    (folder / "validation" / "old.png").touch()
    (folder / "history.csv").touch()
    fit_model("nuclei", data(1), "mine", threads=1, overwrite=True)
    left = [p for p in folder.rglob("*") if p.is_file()]
    assert left == [folder / store.WEIGHTS_FILE]


def test_diameters_take_no_memory_for_labels_that_are_not_used(monkeypatch) -> None:
    monkeypatch.setattr(np, "bincount", None)
    # As of a program that numbers objects at random: 4 pixels, and 1.
    labels = np.array([[0, 2**31 - 1, 2**31 - 1], [7, 2**31 - 1, 2**31 - 1]])
    assert task._diameters(labels).tolist() == pytest.approx(
        [2 * (1 / np.pi) ** 0.5, 2 * (4 / np.pi) ** 0.5]
    )


def test_the_edge_changes_outlines_the_same_for_any_tile(data, tmp_path) -> None:
    image = data(1) / "images" / "f0.tif"

    def labels(out: str, **asked):
        config = PredictConfig(**asked)
        done = predict([str(image)], tmp_path / out, threads=1, config=config)
        (result,) = done.images
        assert result.status == "done", result.message
        assert result.output is not None
        return tifffile.imread(result.output)

    usual, further = labels("a"), labels("b", edge=0.25)
    assert (further > 0).sum() > 1.1 * (usual > 0).sum()
    np.testing.assert_array_equal(labels("c", edge=0.25, tile_px=64), further)
    again = labels("d", edge=0.25, max_memory_mb=400)
    np.testing.assert_array_equal(again, further)
    assert set(np.unique(further)) == set(range(further.max() + 1))
    with pytest.raises(ConfigError, match="edge is 2"):
        PredictConfig(edge=2.0)
