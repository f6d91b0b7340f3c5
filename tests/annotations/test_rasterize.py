"""Polygons fill the pixels whose centers they hold, and no others."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellunet.annotations import shapes
from cellunet.annotations.shapes import fill_window
from cellunet.errors import AnnotationError
from tests.annotations.polygons import fill

SHAPE = (7, 9)
# Eighths are exact in binary, so that an exact reference can be compared with.
eighths = st.integers(-16, 88).map(lambda n: n / 8)
rings = st.lists(st.tuples(eighths, eighths), min_size=3, max_size=9).map(np.array)


def square(x0, y0, x1, y1):
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)


def brute_force(outlines, shape):
    """Count, for each center, the edges to the left of it; in exact fractions."""
    inside = np.zeros(shape, bool)
    for row, column in np.ndindex(shape):
        x, y = Fraction(2 * column + 1, 2), Fraction(2 * row + 1, 2)
        crossed = 0
        for ring in outlines:
            points = [(Fraction(a), Fraction(b)) for a, b in ring.tolist()]
            for (xa, ya), (xb, yb) in zip(points, points[1:] + points[:1], strict=True):
                if (ya <= y) != (yb <= y):
                    crossed += xa + (y - ya) * (xb - xa) / (yb - ya) <= x
        inside[row, column] = crossed % 2
    return inside


@pytest.mark.slow
@given(outlines=st.lists(rings, min_size=1, max_size=3))
def test_filling_equals_an_exact_reference(outlines):
    # Where a crossing is no binary fraction, rounding may decide about a center that
    # lies within 1e-12 px of an edge; those are left out of the comparison.
    found, expected = fill(outlines, SHAPE), brute_force(outlines, SHAPE)
    for row, column in np.argwhere(found != expected):
        nearest = min(
            abs(float(_crossing(a, b, row + 0.5)) - (column + 0.5))
            for ring in outlines
            for a, b in zip(ring, np.roll(ring, -1, axis=0), strict=True)
            if (a[1] <= row + 0.5) != (b[1] <= row + 0.5)
        )
        assert nearest < 1e-12


def _crossing(a, b, y):
    return a[0] + (y - a[1]) * (b[0] - a[0]) / (b[1] - a[1])


def test_the_first_pixel_covers_the_square_from_0_to_1():
    assert np.argwhere(fill([square(0, 0, 1, 1)], SHAPE)).tolist() == [[0, 0]]
    assert not fill([square(-0.5, -0.5, 0.49, 0.49)], SHAPE).any()
    assert fill([square(0.49, 0.49, 0.51, 0.51)], SHAPE)[0, 0]


@given(data=st.data())
def test_polygons_that_share_an_edge_share_no_pixel_and_leave_none_out(data):
    a, b = (data.draw(st.tuples(eighths, eighths)) for _ in range(2))
    # The same two triangles joined along a-b, drawn together and apart.
    c, d = np.array([-50.0, 3.1]), np.array([60.0, 2.7])
    left, right = (fill([np.array([a, b, p])], SHAPE) for p in (c, d))
    both = fill([np.array([a, b, c]), np.array([a, b, d])], SHAPE)
    assert np.array_equal(left ^ right, both)


def test_a_ring_within_a_ring_is_a_hole_whichever_way_round():
    outer, inner = square(0, 0, 6, 6), square(2, 2, 4, 4)
    for hole in (inner, inner[::-1]):
        inside = fill([outer, hole], SHAPE)
        assert inside.sum() == 36 - 4
        assert not inside[2:4, 2:4].any()


def test_what_lies_outside_the_image_is_cut_off():
    assert fill([square(-100, -100, 3, 2)], SHAPE).sum() == 6
    assert not fill([square(20, 0, 30, 5)], SHAPE).any()
    assert fill_window([square(20, 0, 30, 5)], SHAPE).inside.size == 0
    huge = fill([square(-1e150, -1e150, 1e150, 1e150)], SHAPE)
    assert huge.all()


def test_a_closing_point_changes_nothing():
    ring = np.array([(0.3, 0.2), (6.1, 1.4), (3.3, 6.8)])
    closed = np.vstack([ring, ring[:1]])
    assert np.array_equal(fill([ring], SHAPE), fill([closed], SHAPE))


def test_rings_without_an_area_hold_nothing():
    assert not fill([], SHAPE).any()
    assert not fill([np.zeros((0, 2))], SHAPE).any()
    assert not fill([np.array([(1.0, 1.0), (5.0, 5.0)])], SHAPE).any()


def test_a_ring_that_crosses_itself_is_noticed():
    eight = np.array([(0, 0), (6, 6), (6, 0), (0, 6)], float)
    assert fill_window([eight], SHAPE).crosses
    twice = np.vstack([square(0, 0, 4, 4), square(0, 0, 4, 4)])
    assert fill_window([twice], SHAPE).crosses
    assert not fill_window([square(0, 0, 4, 4)], SHAPE).crosses
    assert not fill_window([square(0, 0, 4, 4)[::-1]], SHAPE).crosses
    # A hole is a ring of its own.
    hole = [square(0, 0, 6, 6), square(2, 2, 4, 4)[::-1]]
    assert not fill_window(hole, SHAPE).crosses


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_coordinates_that_are_not_finite_are_refused(bad):
    with pytest.raises(AnnotationError, match="finite"):
        fill([np.array([(0, 0), (5, 0), (bad, 5)])], SHAPE)


def test_many_crossings_are_counted_in_pieces(monkeypatch):
    zigzag = np.array([(i / 4, 7 * (i % 2)) for i in range(36)] + [(9, 7), (0, 7)])
    whole = fill([zigzag], SHAPE)
    monkeypatch.setattr(shapes, "CHUNK", 8)
    assert np.array_equal(fill([zigzag], SHAPE), whole)
    monkeypatch.setattr(shapes, "MAX_CROSSINGS", 100)
    with pytest.raises(AnnotationError, match="38 points goes up and down"):
        fill([zigzag], SHAPE)


@pytest.mark.slow
def test_ten_thousand_polygons_take_seconds_not_minutes(rng):
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = 12 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    begin = time.perf_counter()
    for center in rng.uniform(0, 4000, (10_000, 2)):
        fill_window([circle + center], (4000, 4000))
    assert time.perf_counter() - begin < 30
