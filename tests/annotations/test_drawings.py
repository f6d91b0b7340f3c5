"""Shapes of one image become labels by one rule, and what is odd is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellunet.annotations.shapes import DrawnShape, Oval, Polygons, paint, role_of
from cellunet.errors import AnnotationError

SHAPE = (6, 8)
PATH = Path("set.zip")


def box(name, x0, y0, x1, y1, role="object"):
    ring = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)
    return DrawnShape(name, Polygons(((ring,),)), role)


def painted(*drawings):
    return paint(drawings, SHAPE, PATH, "rois")


def test_a_pixel_that_two_claim_goes_to_the_smaller_and_is_counted():
    large, small = box("large", 0, 0, 8, 4), box("small", 2, 1, 5, 6)
    found = painted(large, small)
    # The smaller is whole, whichever was drawn last.
    assert np.bincount(found.labels.ravel()).tolist() == [48 - 32 - 6, 32 - 9, 15]
    assert found.overlap_px == 9
    assert np.array_equal(painted(small, large).labels == 1, found.labels == 2)


def test_of_equal_objects_the_first_keeps_the_pixel():
    found = painted(box("a", 0, 0, 3, 2), box("b", 1, 0, 4, 2))
    assert found.labels[0].tolist() == [1, 1, 1, 2, 0, 0, 0, 0]
    assert painted(box("a", 0, 0, 3, 2), box("copy", 0, 0, 3, 2)).hidden == 1


boxes = st.lists(
    st.tuples(*(st.integers(0, n) for n in (7, 5, 8, 6))).map(
        lambda b: (min(b[0], b[2]), min(b[1], b[3]), min(b[2] + 1, 8), min(b[3] + 1, 6))
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda b: (b[2] - b[0]) * (b[3] - b[1]),
)


@pytest.mark.slow
@given(corners=boxes, order=st.randoms(use_true_random=False))
def test_the_order_of_drawing_changes_numbers_alone(corners, order):
    drawings = [box(str(i), *c) for i, c in enumerate(corners)]
    shuffled = order.sample(drawings, len(drawings))
    one, two = painted(*drawings), painted(*shuffled)
    names, same = (np.array(["", *(d.name for d in s)]) for s in (drawings, shuffled))
    assert np.array_equal(names[one.labels], same[two.labels])
    assert one.overlap_px == two.overlap_px


def test_ignored_parts_and_regions_say_what_is_annotated():
    found = painted(box("a", 1, 1, 3, 3), box("i", 0, 0, 2, 6, "ignore"))
    assert found.annotated.tolist() == [[False] * 2 + [True] * 6] * 6
    # The object itself stays whole.
    assert (found.labels == 1).sum() == 4
    regions = (box("r", 0, 0, 4, 6, "region"), box("s", 3, 0, 6, 6, "region"))
    found = painted(*regions, box("i", 0, 0, 2, 6, "ignore"))
    assert found.annotated[0].tolist() == [False] * 2 + [True] * 4 + [False] * 2
    assert painted(box("a", 1, 1, 3, 3)).annotated is None


def test_objects_outside_the_image_are_told_and_many_of_them_refused():
    inside = [box(str(i), i, 0, i + 1, 2) for i in range(3)]
    found = painted(*inside, box("far", 20, 0, 30, 5))
    assert (found.outside, found.hidden) == (1, 0)
    assert found.notes == (
        "1 of 4 objects lie outside the image and are left out: far.",
    )
    with pytest.raises(AnnotationError, match="1 of 2 objects lie outside the image"):
        painted(inside[0], box("far", 20, 0, 30, 5))


def test_what_lies_partly_outside_is_cut_off():
    found = painted(box("a", -5, -5, 2, 2))
    assert (found.labels == 1).sum() == 4
    assert (found.outside, found.notes) == (0, ())


def test_what_is_smaller_than_a_pixel_is_hidden():
    assert painted(box("dot", 1.1, 1.1, 1.2, 1.2), box("a", 3, 3, 5, 5)).hidden == 1


def test_a_crossing_outline_is_told_by_name():
    eight = np.array([(0, 0), (6, 6), (6, 0), (0, 6)], float)
    found = painted(DrawnShape("eight", Polygons(((eight,),))), box("a", 0, 0, 1, 1))
    assert "that cross themselves (1)" in found.notes[0]
    assert found.notes[0].endswith(": eight.")


def test_a_figure_that_cannot_be_filled_is_named():
    ring = np.array([(0, 0), (np.nan, 1), (2, 2)])
    with pytest.raises(AnnotationError, match=r"set\.zip: bad: A coordinate"):
        painted(DrawnShape("bad", Polygons(((ring,),))))


def test_several_polygons_are_one_object_and_their_union():
    parts = [box("", *c).figure.polygons[0] for c in ((0, 0, 3, 3), (2, 2, 5, 5))]
    figure = Polygons((*parts, box("", 90, 90, 95, 95).figure.polygons[0]))
    labels = painted(DrawnShape("a", figure)).labels
    assert (labels == 1).sum() == 9 + 9 - 1
    window, inside, *_ = figure.fill(SHAPE)
    assert np.array_equal(labels[window] == 1, inside)
    nowhere = Polygons(tuple((p[0] + 50,) for p in parts)).fill(SHAPE)
    assert (nowhere.inside.size, nowhere.outside) == (0, True)


def test_an_oval_holds_the_centers_within_its_ellipse():
    window, inside, crosses, _ = Oval(1, 0, 7, 4).fill(SHAPE)
    assert window == (slice(0, 4), slice(1, 7))
    assert not crosses
    # ((y - 2) / 2)^2 + ((x - 4) / 3)^2 <= 1 at y = .5, x = 1.5, 2.5, 3.5: no, yes, yes.
    assert inside.astype(int).tolist() == [
        [0, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1],
        [0, 1, 1, 1, 1, 0],
    ]
    assert Oval(20, 20, 30, 30).fill(SHAPE).inside.size == 0
    assert Oval(2, 2, 2, 2).fill(SHAPE).inside.size == 0


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("ignore", "ignore"),
        ("Ignore*", "ignore"),
        ("IGNORE-12", "ignore"),
        (" region_3 ", "region"),
        ("Region*", "region"),
        ("region 2", "region"),
        ("ignore this", "object"),
        ("regional", "object"),
        ("", "object"),
        (None, "object"),
        (7, "object"),
    ],
)
def test_two_names_mean_something(name, role):
    assert role_of(name) == role
