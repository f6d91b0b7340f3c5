"""What scribbles say, in every way to draw them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import roifile
import tifffile
from scipy import ndimage

from cellunet.annotations.label_pairs import pair_folders
from cellunet.annotations.pairs import find_annotations, find_pairs
from cellunet.annotations.pixels import read_scribbles, with_scribbles
from cellunet.annotations.read import read_annotation
from cellunet.annotations.types import Annotation
from cellunet.config import EncodingConfig
from cellunet.errors import AnnotationError
from cellunet.imaging.targets import add_scribbles, encode, trainable_mask
from cellunet.presets import for_target

SHAPE = (24, 32)
CELL = [[20, 4], [28, 4], [28, 12], [20, 12]]
"""Corners of an outlined object."""
CLICK = (5.5, 6.5)
LINE = [(3.5, 18.5), (20.5, 18.5)]
ACROSS = [(12.5, 2), (12.5, 22)]


def expected():
    """Labels, what they annotate and scribbles: one object, click and line."""
    labels = np.zeros(SHAPE, np.int32)
    labels[4:12, 20:28] = 1
    said = np.zeros(SHAPE, np.uint8)
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    said[(y + 0.5 - 6.5) ** 2 + (x + 0.5 - 5.5) ** 2 <= 4] = 2
    said[17:20, 2:22] = 1
    # Around an outlined object is background.
    around = ndimage.binary_dilation(labels, iterations=3) & (labels == 0)
    said[around] = 1
    return labels, labels > 0, said


def roi(points, kind, name):
    one = roifile.ImagejRoi.frompoints(np.array(points), name=name)
    one.roitype = kind
    return one


def write_rois(folder):
    kinds = roifile.ROI_TYPE
    # ImageJ's points and lines count from the center of a pixel, areas from its corner.
    line = roifile.ImagejRoi(roitype=kinds.LINE, x1=3, y1=18, x2=20, y2=18)
    line.name = "background"
    rois = [
        roi(CELL, kinds.POLYGON, "0003-0024"),
        roi([(5, 6)], kinds.POINT, "nucleus"),
        line,
    ]
    path = folder / "a.zip"
    roifile.roiwrite(path, rois, name=[r.name for r in rois], mode="w")
    return path


def feature(geometry, name=None):
    given = {"classification": {"name": name}} if name else {}
    return {"type": "Feature", "geometry": geometry, "properties": given}


def write_geojson(folder):
    features = [
        feature({"type": "Polygon", "coordinates": [[*CELL, CELL[0]]]}, "Nucleus"),
        feature({"type": "Point", "coordinates": CLICK}, "Nucleus"),
        feature({"type": "LineString", "coordinates": LINE}, "Background"),
    ]
    path = folder / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def write_labelme(folder):
    shapes = [
        {"label": "nucleus", "points": CELL, "shape_type": "polygon"},
        {"label": "interior", "points": [CLICK], "shape_type": "point"},
        {"label": "background", "points": LINE, "shape_type": "linestrip"},
    ]
    size = {"imageHeight": SHAPE[0], "imageWidth": SHAPE[1]}
    path = folder / "a.json"
    path.write_text(json.dumps({"shapes": shapes} | size))
    return path


@pytest.mark.parametrize("write", [write_rois, write_geojson, write_labelme])
def test_every_format_says_the_same(write, tmp_path):
    found = read_annotation(write(tmp_path), shape=SHAPE)
    for array, wanted in zip(
        (found.labels, found.annotated, found.scribbles), expected(), strict=True
    ):
        np.testing.assert_array_equal(array, wanted)


def test_more_clicks_and_lines_of_qupath_and_fiji_are_read(tmp_path):
    two = [[5, 6], [20, 8]]
    features = [
        feature({"type": "MultiPoint", "coordinates": two}, "Cell"),
        feature({"type": "MultiLineString", "coordinates": [LINE, two]}, "background"),
    ]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(features[:1]))
    assert (read_annotation(path, shape=SHAPE).scribbles == 2).sum() == 2 * 12
    path.write_text(json.dumps(features[1:]))
    assert (read_annotation(path, shape=SHAPE).scribbles == 1).sum() > 2 * 3 * 15
    for kind, points in (("POINT", two), ("FREELINE", LINE), ("POLYLINE", LINE)):
        one = roi(np.array(points, int), roifile.ROI_TYPE[kind], "background-2")
        one.tofile(tmp_path / "b.roi")
        found = read_annotation(tmp_path / "b.roi", shape=SHAPE)
        assert set(np.unique(found.scribbles)) == {0, 1}, kind
        assert not found.labels.any()


def test_brushed_areas_named_so_are_scribbles(tmp_path):
    path = tmp_path / "a.geojson"
    areas = {"type": "Polygon", "coordinates": [[*CELL, CELL[0]]]}
    path.write_text(json.dumps([feature(areas, "Interior")]))
    found = read_annotation(path, shape=SHAPE)
    assert not found.labels.any()
    np.testing.assert_array_equal(found.scribbles == 2, expected()[1])


def test_a_painted_image_of_scribbles_says_the_same(tmp_path):
    labels, annotated, said = expected()
    for folder, image in (("images", labels), ("labels", labels), ("scribbles", said)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", image.astype(np.uint16))
    (pair,) = find_pairs(tmp_path).pairs
    assert pair.annotation.parent.name == "labels"
    (drawn,) = find_annotations(tmp_path).drawn
    (scored,) = pair_folders(tmp_path / "images", tmp_path / "labels")
    for one in (pair, drawn, scored):
        assert one.scribbles == tmp_path / "scribbles" / "a.tif"
    found = read_annotation(pair.annotation, scribbles=pair.scribbles)
    np.testing.assert_array_equal(found.scribbles, said)
    np.testing.assert_array_equal(found.annotated, annotated)


def test_shapes_in_a_folder_of_that_name_are_shapes(tmp_path):
    (tmp_path / "scribbles").mkdir()
    path = tmp_path / "scribbles/a_scribbles.geojson"
    write_geojson(tmp_path).rename(path)
    assert read_annotation(path, shape=SHAPE).kind == "geojson"


@pytest.mark.parametrize("kind", ["auto", "labels", "binary"])
@pytest.mark.parametrize("layout", ["folders", "sides", "only sides", "flat"])
def test_a_painted_image_is_enough_of_an_annotation(tmp_path, layout, kind):
    said = expected()[2]
    image, painted = tmp_path / "a.tif", tmp_path / "a_scribbles.png"
    if layout != "flat":
        side = "train/" if "sides" in layout else ""
        image = tmp_path / f"images/{side}a.tif"
        painted = tmp_path / f"scribbles/{side}a.tif"
        image.parent.mkdir(parents=True)
        painted.parent.mkdir(parents=True)
    if layout == "sides":
        (tmp_path / "labels/train").mkdir(parents=True)
        tifffile.imwrite(tmp_path / "images/train/b.tif", np.zeros(SHAPE, np.uint16))
        tifffile.imwrite(tmp_path / "labels/train/b.tif", expected()[0])
    tifffile.imwrite(image, np.zeros(SHAPE, np.uint16))
    tifffile.imwrite(painted, said)
    pair, *_ = find_pairs(tmp_path).pairs
    assert (pair.annotation, pair.scribbles) == (painted, painted)
    found = read_annotation(pair.annotation, scribbles=pair.scribbles, kind=kind)
    np.testing.assert_array_equal(found.scribbles, said)
    assert not found.labels.any()
    assert not found.annotated.any()
    assert found.kind == "scribbles"


def test_labels_in_a_folder_called_scribbles_are_labels(tmp_path):
    folder = tmp_path / "scribbles"
    folder.mkdir()
    for name in ("a.tif", "a_labels.tif"):
        tifffile.imwrite(folder / name, expected()[0])
    (pair,) = find_pairs(folder).pairs
    found = read_annotation(pair.annotation, scribbles=pair.scribbles)
    np.testing.assert_array_equal(found.labels, expected()[0])
    assert found.annotated is None


@pytest.mark.parametrize(
    ("values", "message"), [((0, 7), "the values 0, 7"), ((0, 0), "holds no scribble")]
)
def test_painted_values_that_mean_nothing_are_refused(tmp_path, values, message):
    path = tmp_path / "a_scribbles.tif"
    tifffile.imwrite(path, np.array([values] * 4, np.uint8))
    with pytest.raises(AnnotationError, match=message):
        read_scribbles(path)


def test_painted_scribbles_of_another_size_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    tifffile.imwrite(tmp_path / "s.tif", np.ones((4, 5), np.uint8))
    with pytest.raises(AnnotationError, match=r"s.tif has 4 x 5 pixels, a.tif has 4"):
        read_annotation(tmp_path / "a.tif", scribbles=tmp_path / "s.tif")


LABELS = np.array([[0, 1, 1, 0, 0, 0]], np.int32)
SAID = np.array([[1, 1, 2, 2, 1, 0]], np.uint8)


@pytest.mark.parametrize(
    ("annotated", "counts", "scribbles"),
    [
        # Nothing says what is annotated: objects, what is around them, and scribbles.
        (None, [0, 1, 1, 0, 0, 0], [1, 0, 0, 2, 1, 1]),
        # In a region background need not be said; an inside takes its pixel out.
        ([1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 2, 1, 0]),
        ([0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 2, 1, 0]),
    ],
)
def test_a_pixel_counts_by_its_label_or_by_a_scribble(annotated, counts, scribbles):
    whole = None if annotated is None else np.array([annotated], bool)
    found = with_scribbles(Annotation(LABELS, "labels", annotated=whole), SAID)
    assert found.annotated.astype(int).tolist() == [counts]
    assert found.scribbles.tolist() == [scribbles]
    both = trainable_mask(found.annotated, found.scribbles)
    assert both.tolist() == [
        [a or s > 0 for a, s in zip(counts, scribbles, strict=True)]
    ]


def test_scribbles_that_say_nothing_new_leave_none():
    whole = np.ones((1, 6), bool)
    said = np.array([[1, 1, 2, 0, 1, 0]], np.uint8)
    found = with_scribbles(Annotation(LABELS, "labels", annotated=whole), said)
    assert found.scribbles is None
    assert found.annotated.all()


def test_contradictions_and_ignored_parts_say_nothing(tmp_path):
    shapes = [
        {"label": "interior", "points": LINE, "shape_type": "line"},
        {
            "label": "background",
            "points": ACROSS,
            "shape_type": "line",
        },
        {"label": "ignore", "points": [[0, 20], [32, 24]], "shape_type": "rectangle"},
        {"label": "nucleus", "points": CELL, "shape_type": "polygon"},
    ]
    size = {"imageHeight": SHAPE[0], "imageWidth": SHAPE[1]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"shapes": shapes} | size))
    found = read_annotation(path)
    assert not found.scribbles[17:20, 11:14].any()
    assert not found.scribbles[20:].any()
    assert found.scribbles[3, 20] == 1
    assert (found.scribbles == 2).sum() == 3 * (20 - 3)
    # What is neither outlined nor scribbled nor ignored does not count either.
    np.testing.assert_array_equal(found.annotated, found.labels > 0)


def test_scribbles_outside_the_image_are_told_or_refused(tmp_path):
    far = {"label": "background", "points": [[99, 99]], "shape_type": "point"}
    near = {"label": "background", "points": [[9, 9]], "shape_type": "point"}
    size = {"imageHeight": SHAPE[0], "imageWidth": SHAPE[1]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"shapes": [near, near, far]} | size))
    (note,) = read_annotation(path).notes
    assert note.startswith("1 of 3 scribbles lie outside the image")
    path.write_text(json.dumps({"shapes": [near, far]} | size))
    with pytest.raises(AnnotationError, match="1 of 2 scribbles lie outside"):
        read_annotation(path)


@pytest.mark.parametrize(
    ("target", "classes"),
    [("three-class", [0, 2, 2, 1, 0, 0]), ("boundary", [0, 1, 1, 0, 0, 0])],
)
def test_both_targets_have_classes_for_scribbles(target, classes):
    from cellunet.config import TrainConfig

    config = for_target(TrainConfig(), target).encoding
    assert isinstance(config, EncodingConfig)
    labeled = encode(np.array([[0, 1, 2, 0, 0, 0]]), config)
    assert labeled.tolist() != [classes] or target == "boundary"
    said = np.array([[0, 0, 0, 2, 1, 0]], np.uint8)
    assert add_scribbles(labeled, said, config)[0, 3:].tolist() == classes[3:]
    assert add_scribbles(labeled, None, config) is labeled
