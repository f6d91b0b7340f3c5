"""Overlays that ImageJ keeps inside a TIFF, written by tifffile and roifile."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from cellunet.annotations.pairs import find_annotations, find_pairs
from cellunet.annotations.read import read_annotation
from cellunet.config import EncodingConfig
from cellunet.errors import AnnotationError
from cellunet.tasks.make_labels import make_labels

SHAPE = (200, 220)
NOTE = "Annotated by the overlay inside the image: 1."


def box(left, top, right, bottom, name="", **changes):
    roi = ImagejRoi(
        roitype=ROI_TYPE.RECT,
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        name=name,
    )
    for key, value in changes.items():
        setattr(roi, key, value)
    return roi


CELLS = (box(3, 4, 9, 10), box(20, 12, 30, 20))


def expected():
    labels = np.zeros(SHAPE, np.int32)
    labels[4:10, 3:9], labels[12:20, 20:30] = 1, 2
    return labels


@pytest.fixture
def save(tmp_path, rng):
    def save(*rois, name="a.tif", pixels=None):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if pixels is None:
            pixels = rng.integers(100, 4000, SHAPE).astype(np.uint16)
        inside = [roi.tobytes() for roi in rois]
        tifffile.imwrite(path, pixels, imagej=True, metadata={"Overlays": inside})
        return path

    return save


def test_the_selections_of_an_overlay_are_objects(save):
    found = read_annotation(save(*CELLS), shape=SHAPE)
    assert (found.kind, found.labels.tolist()) == ("rois", expected().tolist())


@pytest.mark.parametrize("name", ["a.tif", "images/a.tif"])
def test_an_image_with_an_overlay_alone_annotates_itself(save, tmp_path, name):
    path = save(*CELLS, name=name)
    found = find_pairs(tmp_path)
    assert [(p.image, p.annotation) for p in found.pairs] == [(path, path)]
    assert NOTE in found.notes


@pytest.mark.parametrize(
    ("name", "other"), [("a.tif", "a_masks.tif"), ("images/a.tif", "labels/a.tif")]
)
def test_what_lies_beside_an_image_goes_before_its_overlay(save, tmp_path, name, other):
    save(*CELLS, name=name)
    labels = save(name=other, pixels=np.ones(SHAPE, np.uint16))
    found = find_pairs(tmp_path)
    assert [p.annotation for p in found.pairs] == [labels]
    assert NOTE not in found.notes


def test_label_images_stay_labels_whatever_is_drawn_on_them(save, tmp_path):
    drawn = np.zeros(SHAPE, np.uint16)
    drawn[30:36, 30:40] = 7
    path = save(*CELLS, pixels=drawn)
    (one,) = find_annotations(tmp_path).drawn
    assert (one.annotation, one.image) == (path, None)
    assert np.array_equal(read_annotation(path, shape=SHAPE).labels, drawn)


def test_the_bars_that_imagej_draws_are_no_objects(save):
    bars = box(0, 30, 40, 34, "|SB|"), box(40, 0, 46, 20, "|CB|")
    found = read_annotation(save(*CELLS, *bars), shape=SHAPE)
    assert np.array_equal(found.labels, expected())


def test_an_image_of_bars_alone_is_not_annotated(save, tmp_path):
    path = save(box(0, 30, 40, 34, "|SB|"))
    assert find_annotations(tmp_path).drawn[0].image is None
    with pytest.raises(AnnotationError, match="intensity image"):
        read_annotation(path, shape=SHAPE)


def test_text_in_an_overlay_is_left_out_by_name(save):
    text = box(0, 0, 9, 9, "note", subtype=ROI_SUBTYPE.TEXT, version=227)
    found = read_annotation(save(*CELLS, text), shape=SHAPE)
    assert found.labels.max() == len(CELLS)
    assert any("note (text)" in note for note in found.notes)


def test_positions_that_differ_by_channel_alone_are_one_plane(save, rng):
    pixels = rng.integers(100, 4000, (2, *SHAPE)).astype(np.uint16)
    rois = box(3, 4, 9, 10, position=1), box(20, 12, 30, 20, position=2)
    path = save(*rois, pixels=pixels)
    found = read_annotation(path, shape=SHAPE, channels=2)
    assert np.array_equal(found.labels, expected())
    with pytest.raises(AnnotationError, match="2 planes of a stack"):
        read_annotation(path, shape=SHAPE, channels=1)


@pytest.mark.parametrize("whole", [True, False])
def test_make_labels_takes_a_folder_or_one_image(save, tmp_path, whole):
    path = save(*CELLS, name="data/a.tif")
    out = tmp_path / "out"
    made = make_labels(
        path.parent if whole else path, out, encoding=EncodingConfig(boundary_px=1)
    )
    assert made.failures == ()
    assert np.array_equal(tifffile.imread(out / "labels" / "a.tif"), expected())
