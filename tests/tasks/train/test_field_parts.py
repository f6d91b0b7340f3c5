"""Of a large field with little annotated, that is kept which training looks at."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import tifffile

from cellunet import store
from cellunet.annotations.pairs import fingerprint
from cellunet.config import NormalizationConfig, PredictConfig, SplitConfig, TrainConfig
from cellunet.core.dataset import Sample, prepare
from cellunet.errors import InputError
from cellunet.imaging.normalize import measure, rescale_intensity
from cellunet.progress import silent_track
from cellunet.tasks.predict.settings import settings_for
from cellunet.tasks.train.checks import training_statistics
from cellunet.tasks.train.data import (
    MARGIN_PX,
    ChannelChoice,
    ReadImage,
    annotated_boxes,
    cut,
    load,
    measured_in,
    partly_annotated,
)


def test_parts_hold_all_that_counts_once_with_their_surroundings():
    counted = np.zeros((3000, 2500), bool)
    counted[1500:1564, 1000:1100] = True
    counted[2990:, 2400:] = True
    boxes = annotated_boxes(counted)
    assert len(boxes) == 2
    (rows, columns), own = boxes[0]
    # Whole blocks of 64 px with 256 px around them.
    assert (rows.start, rows.stop) == (1472 - MARGIN_PX, 1600 + MARGIN_PX)
    assert (columns.start, columns.stop) == (960 - MARGIN_PX, 1152 + MARGIN_PX)
    assert own.sum() == 64 * 100
    (rows, columns), own = boxes[1]
    assert (rows.stop, columns.stop) == (3000, 2500)
    assert own.sum() == 10 * 100


def test_parts_whose_surroundings_meet_are_one():
    counted = np.zeros((400, 4000), bool)
    counted[100, 1000] = counted[100, 1500] = True
    assert len(annotated_boxes(counted)) == 1
    counted[100, 1500], counted[100, 1700] = False, True
    assert len(annotated_boxes(counted)) == 2


def test_no_pixel_counts_in_two_parts(rng):
    counted = np.zeros((3000, 3000), bool)
    # An angle around a dot: the angle's box holds the dot.
    counted[0, :2600] = counted[:2600, 0] = True
    counted[1500, 1500] = True
    boxes = annotated_boxes(counted)
    assert len(boxes) == 2
    assert sum(int(own.sum()) for _, own in boxes) == counted.sum()
    again = np.zeros_like(counted)
    for view, own in boxes:
        assert not (again[view] & own).any()
        again[view] |= own
    np.testing.assert_array_equal(again, counted)


@pytest.fixture
def field(nuclei_image):
    """A field of 1,400 x 1,200 px, bright beyond a small annotated part."""
    image, labels = nuclei_image((1400, 1200), 30, 1)
    image[:, 900:] += 3000
    annotated = np.zeros(labels.shape, bool)
    annotated[40:104, 60:130] = True
    return Sample(
        name="field", image=image[np.newaxis], labels=labels, annotated=annotated
    )


def test_a_part_is_prepared_like_its_place_in_the_whole(field, tmp_path):
    tifffile.imwrite(tmp_path / "field.tif", field.image[0])
    (part,) = cut(field, measured_in(tmp_path / "field.tif", None, gray=False))
    assert part.name == "field"
    assert part.image.base is None
    assert part.image.shape == (1, 128 + MARGIN_PX, 192 + MARGIN_PX)
    assert part.annotated.sum() == field.annotated.sum()
    config = TrainConfig()
    whole, small = prepare(field, config), prepare(part, config)
    view = np.s_[: part.labels.shape[0], : part.labels.shape[1]]
    np.testing.assert_array_equal(small.crop.image, whole.crop.image[:, *view])
    np.testing.assert_array_equal(small.weight_map, whole.weight_map[view])
    # By its own statistics it would look otherwise: brighter.
    alone = prepare(replace(part, measured=None), config)
    assert np.abs(alone.crop.image - small.crop.image).max() > 0.1


def test_a_part_of_a_crop_is_scaled_as_the_field_that_the_crop_was_cut_from(field):
    statistics = measure(lambda: [field.image[0] * 2], NormalizationConfig())
    crop = replace(field, measured=lambda config: [statistics])
    never = measured_in("nowhere", None, gray=False)  # type: ignore[arg-type]
    (part,) = cut(crop, never)
    assert part.statistics_for(NormalizationConfig()) == [statistics]


def test_what_a_model_knows_of_its_images_is_of_their_whole_field(
    field, tmp_path, tiny_model
):
    tifffile.imwrite(tmp_path / "field.tif", field.image[0])
    (part,) = cut(field, measured_in(tmp_path / "field.tif", None, gray=False))
    recipe = settings_for(
        store.find_model(str(tiny_model.folder)), PredictConfig(), "torch", "cpu", 1
    )
    whole, kept, alone = (
        training_statistics([sample], recipe)
        for sample in (field, part, replace(part, measured=None))
    )
    assert kept["contrast"] == whole["contrast"]
    assert alone["contrast"] != whole["contrast"]


@pytest.mark.parametrize(("asked", "numbers"), [("1", (1,)), ("1,0", (1, 0))])
def test_channels_are_measured_over_the_whole_file_in_their_order(
    tmp_path, rng, asked, numbers
):
    image = rng.integers(0, 900, (2, 1100, 40)).astype(np.uint16)
    image[1] *= 3
    tifffile.imwrite(tmp_path / "a.tif", image, metadata={"axes": "CYX"}, ome=True)
    config = NormalizationConfig()
    found = measured_in(tmp_path / "a.tif", asked, gray=False)(config)
    assert found == tuple(measure(lambda k=k: [image[k]], config) for k in numbers)
    assert rescale_intensity(image[1, :5], found[0], config).max() <= 1.01


def test_what_is_mostly_annotated_stays_whole(field):
    never = measured_in("nowhere", None, gray=False)  # type: ignore[arg-type]
    everything = replace(field, annotated=np.ones_like(field.annotated))
    assert cut(everything, never) == [everything]
    half = field.annotated.copy()
    half[:, :800] = True
    half = replace(field, annotated=half)
    assert cut(half, never) == [half]


def test_boxes_in_a_field_become_parts_under_the_field_s_fingerprint(tmp_path, field):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    boxes = [(40, 40, 100, 100), (1000, 1200, 1100, 1290)]
    for name in ("a", "b"):
        image = field.image[0] + (name == "b")
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", image)
        features = [_box(box, "Region*") for box in boxes]
        features.append(_box((50, 50, 66, 66), None))
        path = tmp_path / "labels" / f"{name}.geojson"
        path.write_text(json.dumps(features))
    data = load(
        (tmp_path,),
        None,
        SplitConfig(validation_fraction=0.5),
        seed=0,
        channel=ChannelChoice(),
        track=silent_track,
    )
    (name,) = {s.name[0] for s in data.training}
    names = [f"{name} (1 of 2)", f"{name} (2 of 2)"]
    assert [s.name for s in data.training] == names
    image = tifffile.imread(tmp_path / "images" / f"{name}.tif")
    prints = {fingerprint(image[np.newaxis])}
    assert set(data.training_prints.values()) == prints
    assert list(data.training_prints) == names
    assert data.notes[-1].startswith("Large images: 2; of them annotated parts with")
    assert "on average less than 1%" in data.notes[-2]


def test_a_share_that_rounds_to_all_is_not_called_all():
    image = ReadImage(
        parts=(), reduced=False, print_="", annotated_share=0.999, scribbled_px=(0, 0)
    )
    (note,) = partly_annotated([image])
    assert "(on average more than 99%)" in note


def test_a_box_without_an_object_is_refused(tmp_path, field):
    for side in ("images", "labels"):
        (tmp_path / side).mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", field.image[0])
    path = tmp_path / "labels" / "a.geojson"
    path.write_text(json.dumps([_box((40, 40, 100, 100), "Region*")]))
    with pytest.raises(InputError, match="a, the only training image, has no object"):
        load(
            (tmp_path,),
            None,
            SplitConfig(folds=2),
            seed=0,
            channel=ChannelChoice(),
            track=silent_track,
        )


def _box(box, name):
    x0, y0, x1, y1 = box
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": name}} if name else {},
    }
