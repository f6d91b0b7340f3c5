"""labelme's JSON, one file per image."""

from __future__ import annotations

import json

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


def test_labels_say_what_does_not_count(read):
    found = read(
        shape([[0, 0], [2, 10]], "rectangle", label="ignore"),
        shape([[1, 1], [5, 5]], "rectangle"),
    )
    assert found.annotated[0].tolist() == [False] * 2 + [True] * 10
    assert found.labels.max() == 1


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("mask", [[0, 0], [3, 3]]),
        ("oriented_rectangle", [[0, 0], [3, 0], [3, 3], [0, 3]]),
        (["polygon"], [[0, 0]]),
    ],
)
def test_other_shapes_are_refused_by_name(read, kind, points):
    name = kind if isinstance(kind, str) else "polygon"
    with pytest.raises(AnnotationError, match=rf"nucleus \(shape 1\): .*{name}"):
        read(shape(points, kind))


@pytest.mark.parametrize("kind", ["point", "points", "line", "linestrip"])
def test_strokes_that_say_neither_inside_nor_outside_are_refused(read, kind):
    with pytest.raises(AnnotationError, match=rf"spot \(shape 1\): .*{kind}") as caught:
        read(shape([[0, 0], [1, 1]], kind, label="spot"))
    assert "'interior' or 'background'" in caught.value.hint


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (shape([[0, 0], [1, 1]]), "2 different points; 3"),
        (shape([[0, 0], [1, 1], [2, 5]], "circle"), "3 points; 2 are expected"),
        (shape([[1, 1], [1, 1]], "circle"), "1 different points"),
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
