"""Scribbles alone, and boxes in a large field, train from the file to the model."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

pytest.importorskip("torch")

import tifffile
from scipy import ndimage

from cellunet import store
from cellunet.command_config import SplitConfig
from cellunet.config import EncodingConfig, WeightConfig
from cellunet.core.augment import warp, warp_grid
from cellunet.core.dataset import CropSampler, prepare
from cellunet.errors import ConfigError, InputError
from cellunet.imaging.targets import encode, weight_map
from cellunet.outputs.pictures import PREDICTION, TRUTH
from cellunet.presets import for_target
from cellunet.tasks.evaluate import evaluate_model
from cellunet.tasks.make_labels import make_labels
from cellunet.tasks.train.request import Hooks
from cellunet.tasks.train.train import train
from tests.networks import loaded
from tests.tasks.conftest import stop_at


@pytest.fixture
def scribbled(write_data, tmp_path):
    """``scribbled(kept=n)``: three images; objects up to n stay, others are clicked."""

    def make(kept=0):
        folder = write_data(tmp_path / f"kept{kept}", 3)
        (folder / "scribbles").mkdir()
        for path in (folder / "labels").glob("*.tif"):
            labels = tifffile.imread(path)
            said = np.zeros(labels.shape, np.uint8)
            for number in np.unique(labels[labels > kept]):
                y, x = np.argwhere(labels == number).mean(axis=0).round().astype(int)
                said[y, x] = 2 if labels[y, x] == number else 0
            said[:3][labels[:3] == 0] = 1
            tifffile.imwrite(folder / "scribbles" / path.name, said)
            tifffile.imwrite(path, np.where(labels <= kept, labels, 0))
            if not kept:
                path.unlink()
        return folder

    return make


def samples(folder):
    data = loaded(folder, config=SplitConfig(validation_fraction=0.4))
    return data, (*data.training, *data.validation)


def test_only_outlined_objects_and_scribbles_have_weight(scribbled, quick_config):
    data, every = samples(scribbled(kept=3))
    assert data.notes[-1].startswith("With scribbles: 3 of 3 images: ")
    for sample in every:
        np.testing.assert_array_equal(sample.annotated, sample.labels > 0)
        prepared = prepare(sample, quick_config)
        said = sample.scribbles
        known = (sample.labels > 0) | (said > 0)
        np.testing.assert_array_equal(prepared.weight_map > 0, known)
        assert (prepared.class_map[said == 2] == 1).all()
        assert (prepared.class_map[said == 1] == 0).all()
        whole = encode(sample.labels, quick_config.encoding)
        assert (prepared.class_map == whole)[said == 0].all()
        assert (whole == 2).any()


def test_scribbles_move_with_their_crop(scribbled, quick_config, rng):
    _, (sample, *_) = samples(scribbled(kept=3))
    prepared = prepare(sample, quick_config)
    still = np.mgrid[:32, :32].astype(np.float32) - 15.5
    crop = warp(prepared.crop, (15.5, 15.5), still)
    np.testing.assert_array_equal(crop.scribbles, sample.scribbles[:32, :32])
    turned = warp(prepared.crop, (31.5, 31.5), np.stack((-still[0], still[1])))
    np.testing.assert_array_equal(turned.scribbles, sample.scribbles[47:15:-1, 16:48])
    # However it is warped, a pixel that counts has its label's class or its scribble's.
    grid = warp_grid(32, quick_config.augment, rng)
    crop = warp(prepared.crop, (30, 30), grid)
    assert (crop.annotated[crop.scribbles > 0]).all()
    assert not (crop.labels[crop.scribbles > 0]).any()


@pytest.mark.parametrize("target", ["three-class", "boundary"])
def test_crops_of_scribbles_hold_their_classes_alone(scribbled, quick_config, target):
    config = for_target(quick_config, target)
    _, every = samples(scribbled())
    prepared = [prepare(sample, config) for sample in every]
    seen = set()
    for index in range(12):
        _, class_map, weights = CropSampler(prepared, config).crop(0, index)
        assert (weights > 0).any()
        seen |= set(np.unique(class_map[weights > 0]).tolist())
    assert seen == ({0, 1} if target == "three-class" else {0})


@pytest.mark.slow
def test_scribbles_alone_train_a_model_that_knows_outlines(
    scribbled, quick, tiny_model
):
    start = str(tiny_model.folder)
    told: list[str] = []
    done = train(
        quick(
            scribbled(),
            start=start,
            config=tiny_model.config.replace(epochs=1, steps_per_epoch=2),
        ),
        Hooks(on_note=told.append),
    )
    assert done.finished
    assert not done.scores
    assert any("forgets where objects end" in n for n in told)
    assert any("there will be no score" in n for n in told)
    card = store.read_card(done.folder / store.WEIGHTS_FILE)
    theirs = store.find_model(start).card
    assert card.diameter_px == theirs.diameter_px
    # What was chosen on outlined objects is not chosen anew on none.
    assert card.config.decode == theirs.config.decode


@pytest.mark.slow
def test_single_objects_beside_scribbles_are_trained_on_and_not_scored(
    scribbled, quick, tiny_model, caplog
):
    """Nothing found beside them could be an error: such a score is too good."""
    config = tiny_model.config.replace(epochs=1, steps_per_epoch=2)
    told: list[str] = []
    folder, start = scribbled(kept=3), str(tiny_model.folder)
    done = train(
        quick(folder, start=start, config=config, split=SplitConfig(folds=3)),
        Hooks(on_note=told.append),
    )
    assert done.finished
    assert not done.scores
    assert any("there will be no score" in note for note in told)
    assert not any("forgets" in note for note in told)
    evaluate_model(folder, model=start, threads=1)
    assert "a0: only single objects count, not the background" in caplog.text


@pytest.mark.parametrize(
    ("value", "words"),
    [(1, "outlined object or click inside one"), (2, "annotated as background")],
)
def test_scribbles_of_one_side_alone_are_refused(
    scribbled, quick, tiny_model, value, words
):
    folder = scribbled()
    for path in (folder / "scribbles").iterdir():
        said = tifffile.imread(path)
        tifffile.imwrite(path, np.where(said == value, said, 0))
    with pytest.raises(InputError, match=words):
        train(quick(folder, start=str(tiny_model.folder)))


@pytest.mark.slow
def test_a_stopped_training_on_scribbles_goes_on_without_saying_where_from(
    scribbled, quick, tiny_model
):
    folder = scribbled()
    config = tiny_model.config.replace(epochs=1, steps_per_epoch=2)
    asked = {"config": config, "start": str(tiny_model.folder)}
    assert not train(quick(folder, **asked), stop_at(1)).finished
    assert train(quick(folder, config=config, start=None, resume=True)).finished


@pytest.mark.parametrize(
    ("target", "words"), [("three-class", "--from nuclei"), ("boundary", "three-class")]
)
def test_scribbles_alone_do_not_train_from_nothing(
    scribbled, quick, quick_config, target, words
):
    config = for_target(quick_config, target)
    with pytest.raises(ConfigError, match="No object is outlined") as caught:
        train(quick(scribbled(), config=config))
    assert words in caught.value.hint


def test_scribbles_are_no_one_s_object_in_scores(scribbled, tiny_model, caplog):
    model = str(tiny_model.folder)
    part = evaluate_model(scribbled(kept=3), model=model, threads=1)
    assert part.headline is None or part.headline.totals.true_objects <= 9
    totals = [s.totals for g in part.groups.values() for s in g.summaries.values()]
    assert totals[0].true_objects == 9
    assert totals[0].left_out > 0
    with pytest.raises(InputError, match="no images to score") as caught:
        evaluate_model(scribbled(), model=model, threads=1)
    assert "outlined" in caught.value.hint
    assert "a0 is not scored: scribbles" in caplog.text


@pytest.mark.parametrize("kept", [0, 3])
def test_made_labels_show_scribbles_and_are_read_back(scribbled, kept, tmp_path):
    folder, out = scribbled(kept), tmp_path / "out"
    made = make_labels(folder, out, encoding=EncodingConfig(), weights=WeightConfig())
    assert made.failures == ()
    said = tifffile.imread(folder / "scribbles" / "a0.tif")
    image = made.images[0]
    drawn = (
        tifffile.imread(folder / "labels" / "a0.tif") if kept else np.zeros_like(said)
    )
    # Background is what lies around outlined objects, too.
    around = ndimage.binary_dilation(drawn > 0, iterations=3) & (drawn == 0)
    said[around & (said == 0)] = 1
    assert image.scribbled_px == ((said == 1).sum(), (said == 2).sum())
    np.testing.assert_array_equal(tifffile.imread(out / "scribbles" / "a0.tif"), said)
    classes = tifffile.imread(out / "classes" / "a0.tif")
    assert (classes[said == 2] == 1).all()
    weight = tifffile.imread(out / "weights" / "a0.tif")
    labels = tifffile.imread(out / "labels" / "a0.tif")
    np.testing.assert_array_equal(weight > 0, (labels > 0) | (said > 0))
    whole = weight_map(labels, classes, WeightConfig())
    np.testing.assert_array_equal(weight[weight > 0], whole[weight > 0])
    picture = imagecodecs.png_decode((out / "previews" / "a0.png").read_bytes())
    for color in (TRUTH, PREDICTION):
        assert (picture == color).all(axis=2).any()
    (out / "images").symlink_to(folder / "images")
    _, again = samples(out)
    _, before = samples(folder)
    for one, other in zip(again, before, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.annotated, other.annotated)
        np.testing.assert_array_equal(one.scribbles, other.scribbles)


@pytest.mark.slow
def test_a_box_in_a_large_field_trains_on_the_box(tmp_path, nuclei_image, quick):
    for side in ("images", "labels", "annotated"):
        (tmp_path / side).mkdir()
    for name in ("a", "b"):
        image, labels = nuclei_image((200, 200), 40, ord(name))
        field = np.full((1500, 1500), 300, np.uint16)
        field[700:900, 600:800] = image
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", field)
        counts = np.zeros(field.shape, np.uint8)
        counts[740:860, 640:760] = 1
        drawn = np.zeros(field.shape, np.uint16)
        drawn[700:900, 600:800] = labels
        tifffile.imwrite(tmp_path / "labels" / f"{name}.tif", drawn)
        tifffile.imwrite(tmp_path / "annotated" / f"{name}.tif", counts)
    done = train(quick(tmp_path))
    assert done.finished
    assert np.isfinite(done.scores["mean_ap"])
    assert any("Large images: 2; of them annotated" in note for note in done.notes)
    assert all(np.isfinite(row["validation_loss"]) for row in done.history)
