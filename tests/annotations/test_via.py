"""What VGG Image Annotator saves is read as the COCO file that it would export."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import tifffile

from cellunet.annotations.pairs import find_annotations, find_pairs
from cellunet.annotations.read import read_annotation
from cellunet.errors import AnnotationError

SQUARE = {"name": "polygon", "all_points_x": [2, 8, 8, 2], "all_points_y": [3, 3, 7, 7]}


def region(shape, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def image(name, *regions, **more):
    return {f"{name}9": {"filename": name, "size": 9, "regions": list(regions), **more}}


@pytest.fixture
def labels(tmp_path):
    """``labels(document)``: the annotation of a.tif, 30 x 40 px."""
    tifffile.imwrite(tmp_path / "a.tif", np.arange(1200, dtype="u2").reshape(30, 40))

    def read(document):
        (tmp_path / "via.json").write_text(json.dumps(document))
        (pair,) = find_pairs(tmp_path).pairs
        return read_annotation(pair.annotation, member=pair.member, shape=(30, 40))

    return read


def test_shapes_are_filled_where_they_were_drawn(labels):
    shapes = (
        SQUARE,
        {"name": "rect", "x": 20, "y": 1, "width": 5, "height": 2},
        {"name": "circle", "cx": 10, "cy": 20, "r": 3},
        {"name": "ellipse", "cx": 30, "cy": 15, "rx": 6, "ry": 2, "theta": math.pi / 2},
    )
    found = labels(image("a.tif", *map(region, shapes)))
    assert found.kind == "via"
    assert np.bincount(found.labels.ravel())[1:3].tolist() == [24, 10]
    assert (found.labels[3:7, 2:8] == 1).all()
    assert (found.labels[1:3, 20:25] == 2).all()
    # Pixels whose centers lie within 3 of the middle: 6, 6, 6, 6, 4, 4 in a row.
    assert (found.labels == 3).sum() == 32
    rows, columns = np.nonzero(found.labels == 4)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (12, 4)


@pytest.mark.parametrize("project", [False, True])
def test_a_project_and_an_export_hold_the_same(labels, project):
    regions = image("a.tif", region(SQUARE))
    document = (
        {"_via_settings": {}, "_via_img_metadata": regions} if project else regions
    )
    assert labels(document).labels.sum() == 24


def test_regions_numbered_by_version_1_are_read(labels):
    numbered = image("a.tif", regions={"0": region(SQUARE), "1": region(SQUARE)})
    assert labels(numbered).hidden == 1


def test_points_and_lines_are_left_out_and_named(labels):
    point = region({"name": "point", "cx": 3, "cy": 3})
    (note,) = labels(image("a.tif", region(SQUARE), point)).notes
    assert "1 of 2 shapes enclose nothing" in note
    assert "2 (point)" in note


@pytest.mark.parametrize("value", ["ignore", {"nucleus": False, "ignore": True}])
def test_an_attribute_says_what_does_not_count(labels, value):
    drawn = (
        region(SQUARE),
        region({**SQUARE, "all_points_x": [12, 18, 18, 12]}, type=value),
    )
    found = labels(image("a.tif", *drawn))
    assert (~found.annotated).sum() == 24


def test_images_of_one_file_are_found_by_name(labels, tmp_path):
    tifffile.imwrite(tmp_path / "b.tif", np.arange(1200, dtype="u2").reshape(30, 40))
    both = {**image("a.tif", region(SQUARE)), **image("b.png", region(SQUARE))}
    (tmp_path / "via.json").write_text(json.dumps(both))
    found = find_annotations(tmp_path)
    assert [(one.name, one.image.name) for one in found.drawn] == [
        ("a", "a.tif"),
        ("b", "b.tif"),
    ]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"name": "polygon", "all_points_x": 3}, "all_points_x is 3; a list"),
        ({"name": "rect", "x": "1"}, 'x of a rect is "1"; a number'),
        ({"name": "circle", "cx": 1, "cy": 2}, "r of a circle is null"),
        (7, "A shape is 7"),
    ],
)
def test_what_is_no_shape_is_refused_by_name(labels, shape, message):
    with pytest.raises(AnnotationError, match=f"via.json: {message}"):
        labels(image("a.tif", region(shape)))
