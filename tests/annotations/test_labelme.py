"""labelme's JSON, one file per image."""

from __future__ import annotations

import base64
import json

import imagecodecs
import numpy as np
import pytest

from cellunet.annotations.read import read_annotation
from cellunet.errors import AnnotationError


def shape(points, kind="polygon", label="nucleus", group=None):
    return {
        "label": label,
        "points": points,
        "group_id": group,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }


@pytest.fixture
def read(tmp_path):
    def read(*shapes, **more):
        document = {
            "version": "5.5.0",
            "flags": {},
            "shapes": list(shapes),
            "imagePath": "..\\x\\a.png",
            "imageData": None,
            "imageHeight": 10,
            "imageWidth": 12,
        }
        path = tmp_path / "a.json"
        path.write_text(json.dumps(document | more), encoding="utf-8")
        return read_annotation(path)

    return read


def test_polygons_rectangles_and_circles_are_objects(read):
    found = read(
        shape([[0, 0], [4, 0], [4, 4], [0, 4]]),
        shape([[9, 3], [6, 1]], "rectangle"),
        shape([[6, 7], [6, 9]], "circle"),
    )
    assert found.kind == "labelme"
    assert found.labels.shape == (10, 12)
    # 12 of the 16 centers within 2 px of the middle of 4 x 4: not the corners.
    assert np.bincount(found.labels.ravel())[1:].tolist() == [16, 6, 12]


def test_shapes_of_one_group_are_one_object(read):
    found = read(
        shape([[0, 0], [2, 2]], "rectangle", group=1),
        shape([[4, 0], [6, 2]], "rectangle", group=1),
        shape([[0, 4], [2, 6]], "rectangle", group=2),
        shape([[8, 5], [8, 7]], "circle", group=2),
        shape([[4, 8], [6, 10]], "rectangle", label="other", group=1),
        shape([[10, 8], [12, 10]], "rectangle"),
    )
    assert np.bincount(found.labels.ravel())[1:].tolist() == [8, 16, 4, 4]


def masked(x, y, pixels, **more):
    """A mask as labelme keeps it, its first and last pixel its points."""
    png = imagecodecs.png_encode(np.asarray(pixels, np.uint8) * 255)
    end = [x + len(pixels[0]) - 1, y + len(pixels) - 1]
    return shape([[x, y], end], "mask", **more) | {
        "mask": base64.b64encode(png).decode()
    }


def test_masks_are_objects_pixel_by_pixel(read):
    found = read(
        masked(1, 2, [[0, 1, 1], [1, 1, 0]]),
        masked(10, 8, [[1, 1, 1], [1, 1, 1], [0, 1, 1]]),  # cut off by the image
        masked(-1, 0, [[1, 1]]),
    )
    assert found.labels[2].tolist() == [0, 0, 1, 1] + [0] * 8
    assert found.labels[3].tolist() == [0, 1, 1, 0] + [0] * 8
    assert np.bincount(found.labels.ravel())[1:].tolist() == [4, 4, 1]


def test_a_mask_and_a_polygon_of_one_group_are_one_object(read):
    found = read(
        masked(0, 0, [[1, 1]], group=4),
        shape([[4, 0], [6, 2]], "rectangle", group=4),
    )
    assert np.bincount(found.labels.ravel())[1:].tolist() == [6]


def test_one_shape_that_encloses_nothing_is_left_out_by_name(read):
    found = read(
        shape([[0, 0], [1, 1]]),
        shape([[3, 3]], "rectangle"),
        shape([[5, 5], [8, 8]], "rectangle"),
    )
    assert np.bincount(found.labels.ravel())[1:].tolist() == [9]
    assert "2 of 3 shapes enclose nothing" in found.notes[0]
    assert "nucleus (shape 1), nucleus (shape 2)" in found.notes[0]


def test_labels_say_what_does_not_count(read):
    found = read(
        shape([[0, 0], [2, 10]], "rectangle", label="ignore"),
        shape([[1, 1], [5, 5]], "rectangle"),
    )
    assert found.annotated[0].tolist() == [False] * 2 + [True] * 10
    assert found.labels.max() == 1


@pytest.mark.parametrize("kind", ["rectangle", "oriented_rectangle", "rotation"])
def test_a_rectangle_may_be_given_by_its_four_corners(read, kind):
    found = read(shape([[1, 0], [4, 0], [4, 2], [1, 2]], kind))
    assert (found.labels > 0).sum() == 6


@pytest.mark.parametrize("kind", ["line", "spiral", ["polygon"]])
def test_other_shapes_are_left_out_by_name(read, kind):
    square = shape([[1, 0], [4, 0], [4, 2], [1, 2]])
    found = read(square, shape([[0, 0], [3, 3]], kind, label="x"))
    assert found.labels.max() == 1
    (note,) = found.notes
    assert "1 of 2 shapes enclose nothing and are left out: x (shape 2): " in note


@pytest.mark.parametrize("kind", ["point", "points", "line", "linestrip"])
def test_strokes_alone_that_say_neither_inside_nor_outside_are_refused(read, kind):
    with pytest.raises(AnnotationError, match=rf"spot \(shape 1\): .*{kind}") as caught:
        read(shape([[0, 0], [1, 1]], kind, label="spot"))
    assert "'interior' or 'background'" in caught.value.hint


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (shape([[0, 0], [1, 1]]), r"encloses an area: nucleus \(shape 1\)"),
        (shape([[0, 0], [1, 1], [2, 5]], "circle"), "3 points; 2 are expected"),
        (shape([[1, 1], [1, 1]], "circle"), "encloses an area"),
        (shape([[1, 1], [2, 2]], "mask"), "mask of nucleus .* is no PNG"),
        (shape(None), "points|null"),
        (7, "Shape 1 is 7"),
    ],
)
def test_what_is_no_shape_is_refused(read, one, message):
    with pytest.raises(AnnotationError, match=message) as caught:
        read(one)
    assert "a.json" in caught.value.message


def test_a_size_that_no_image_has_is_refused_before_memory_is_taken(read):
    with pytest.raises(AnnotationError, match="1,000,000 x 1,000,000"):
        read(imageHeight=10**6, imageWidth=10**6)
    with pytest.raises(AnnotationError, match="imageHeight is -3"):
        read(imageHeight=-3)


def test_without_a_size_that_of_the_image_counts(tmp_path, read):
    with pytest.raises(AnnotationError, match="there is no image"):
        read(shape([[0, 0], [4, 4]], "rectangle"), imageHeight=None)
    found = read_annotation(tmp_path / "a.json", shape=(7, 9))
    assert found.labels.shape == (7, 9)
