"""What follows from outlines."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from cellunet.imaging.measure import convex_hull, ring_area, shapes_of

SQUARE = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
HOLE = np.array([[1.0, 1], [1, 2], [2, 2], [2, 1]])
NUMBERS = st.integers(-9, 9)


def test_a_hole_counts_in_length_and_against_area() -> None:
    found = shapes_of([[[SQUARE, HOLE]]], (0.5, 2.0))
    assert found.lengths[0].tolist() == [20]
    assert found.lengths[1].tolist() == [2 * (4 * 2 + 4 * 0.5) + 2 * (0.5 + 2)]
    assert found.solidity.tolist() == [15 / 16]


def test_without_a_pixel_size_there_are_no_micrometers() -> None:
    assert np.isnan(shapes_of([[[SQUARE]]], None).lengths[1]).all()


def test_the_area_of_a_ring_is_signed() -> None:
    assert (ring_area(SQUARE), ring_area(HOLE)) == (16, -1)
    assert ring_area(SQUARE + 1e7) == 16


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=30))
def test_the_hull_is_that_of_shapely(points) -> None:
    expected = shapely.MultiPoint(points).convex_hull
    if expected.geom_type != "Polygon":
        return
    hull = convex_hull(points)
    assert ring_area(np.array(hull, float)) == pytest.approx(expected.area)
    assert len(hull) == len(expected.exterior.coords) - 1
