"""Outlines: valid polygons that fill to the very label, however the plane is cut."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from cellunet.imaging.outlines import FORMS, Tracer, outlines
from cellunet.imaging.shapes import ring_areas


def ring_area(ring) -> float:
    return float(ring_areas(ring, np.array([0]))[0])


LABELS = arrays(
    np.int32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.sampled_from([0, 0, 1, 1, 2, 7]),
)
"""Small planes of any pattern: pieces, holes, pixels that touch at corners."""
FORM = st.sampled_from(sorted(FORMS))


def fill(outline, shape) -> np.ndarray:
    """Pixels whose centre lies inside, by the even-odd rule over all rings."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for polygon in outline:
        for ring in polygon:
            ahead = np.roll(ring, -1, axis=0)
            for (ax, ay), (bx, by) in zip(ring, ahead, strict=True):
                if ay != by:
                    crosses = (ay > y) != (by > y)
                    inside ^= crosses & (x < ax + (y - ay) * (bx - ax) / (by - ay))
    return inside


def shape_of(outline) -> shapely.MultiPolygon:
    return shapely.MultiPolygon([(p[0], p[1:]) for p in outline])


@settings(max_examples=300)
@given(labels=LABELS, form=FORM)
def test_filling_an_outline_gives_its_label_back(labels, form) -> None:
    found = outlines(labels, form)
    assert list(found) == sorted(set(np.unique(labels)) - {0})
    for number, outline in found.items():
        np.testing.assert_array_equal(fill(outline, labels.shape), labels == number)


@settings(max_examples=300)
@given(labels=LABELS, form=FORM)
def test_polygons_are_valid_and_run_the_right_way_round(labels, form) -> None:
    for number, outline in outlines(labels, form).items():
        shape = shape_of(outline)
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert len(outline) == ndimage.label(labels == number)[1]
        for outer, *holes in outline:
            assert ring_area(outer) > 0
            assert shapely.LinearRing(outer).is_ccw
            assert all(ring_area(hole) < 0 for hole in holes)


@settings(max_examples=100)
@given(labels=LABELS, form=FORM)
def test_outlines_of_neighbours_do_not_overlap(labels, form) -> None:
    shapes = [shape_of(outline) for outline in outlines(labels, form).values()]
    parts = sum(shape.area for shape in shapes)
    assert shapely.union_all(shapes).area == pytest.approx(parts)


@settings(max_examples=100)
@given(labels=LABELS, form=FORM, heights=st.lists(st.integers(1, 4), min_size=9))
def test_bands_of_any_height_give_the_same_outlines(labels, form, heights) -> None:
    whole = outlines(labels, form)
    tracer = Tracer(labels.shape[1], form)
    y0, found = 0, {}
    for height in heights:
        rows = labels[y0 : y0 + height]
        y0 += height
        if not len(rows):
            break
        tracer.add(rows)
        if y0 >= len(labels):
            tracer.end()
        below = set(np.unique(labels[y0:])) | set(rows[-1] if y0 < len(labels) else ())
        found |= tracer.take(~np.isin(np.arange(8), list(below)))
    assert sorted(found) == sorted(whole)
    for number, outline in whole.items():
        for pieces in zip(outline, found[number], strict=True):
            for ring, other in zip(*pieces, strict=True):
                np.testing.assert_array_equal(ring, other)


def test_the_forms_of_one_pixel_by_hand() -> None:
    labels = np.array([[0, 0], [0, 5]])
    forms = {form: outlines(labels, form)[5][0][0].tolist() for form in FORMS}
    assert forms == {
        "pixels": [[1, 1], [2, 1], [2, 2], [1, 2]],
        "midpoints": [[1.5, 1], [2, 1.5], [1.5, 2], [1, 1.5]],
        "smooth": [[1.25, 1.25], [1.75, 1.25], [1.75, 1.75], [1.25, 1.75]],
    }


def test_points_on_a_straight_line_are_left_out() -> None:
    ((ring,),) = outlines(np.ones((5, 40), np.uint8), "pixels")[1]
    assert ring.tolist() == [[0, 0], [40, 0], [40, 5], [0, 5]]


def test_a_hole_is_a_ring_of_its_piece() -> None:
    labels = np.ones((3, 3), np.uint8)
    labels[1, 1] = 0
    ((outer, hole),) = outlines(labels, "pixels")[1]
    assert ring_area(outer) == 9
    assert ring_area(hole) == -1


def test_pixels_that_touch_at_a_corner_are_two_pieces() -> None:
    found = outlines(np.array([[3, 0], [0, 3]]), "pixels")[3]
    assert [[ring_area(ring) for ring in piece] for piece in found] == [[1], [1]]


def test_a_ring_that_would_touch_itself_becomes_a_hole() -> None:
    # The hole and the outside meet at a corner.
    labels = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]])
    ((outer, hole),) = outlines(labels, "pixels")[1]
    assert (ring_area(outer), ring_area(hole)) == (8, -1)
    # Cut corners open the gap instead: one ring around all.
    ((ring,),) = outlines(labels, "midpoints")[1]
    assert ring_area(ring) == 6.5


def test_a_piece_in_the_hole_of_another_keeps_its_own_hole() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[:] = 1
    labels[1:8, 1:8] = 0
    labels[2:7, 2:7] = 1
    labels[4, 4] = 0
    found = outlines(labels, "pixels")[1]
    areas = [[ring_area(ring) for ring in piece] for piece in found]
    assert areas == [[81, -49], [25, -1]]


def test_no_object_has_no_outline() -> None:
    assert outlines(np.zeros((3, 4), np.uint16)) == {}


def test_far_corners_of_large_planes_are_exact() -> None:
    tracer = Tracer(200_000, "midpoints")
    for _ in range(3):
        tracer.add(np.zeros((1, 200_000), np.uint8))
    row = np.zeros((1, 200_000), np.uint8)
    row[0, -1] = 1
    tracer.add(row)
    tracer.end()
    ((ring,),) = tracer.take(np.array([False, True]))[1]
    assert ring.tolist() == [
        [199999.5, 3], [200000, 3.5], [199999.5, 4], [199999, 3.5]
    ]  # fmt: skip


def test_the_default_form_measures_a_disc_best() -> None:
    y, x = np.mgrid[:60, :60]
    disc = (y - 29.7) ** 2 + (x - 30.2) ** 2 <= 20**2
    found = {}
    for form in FORMS:
        (((ring,)),) = (outlines(disc.astype(np.uint8), form)[1],)[0]
        steps = np.roll(ring, -1, axis=0) - ring
        found[form] = np.hypot(*steps.T).sum() / (2 * np.pi * 20) - 1
    assert 0 < found["smooth"] < 0.035 < found["midpoints"] < 0.07 < found["pixels"]
