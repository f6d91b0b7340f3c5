"""Composite and rounded selections of ImageJ become outlines."""

from __future__ import annotations

import numpy as np
import pytest

from cellunet.annotations.imagej import path_rings, rounded_rectangle
from tests.annotations.polygons import fill

SQUARE = [0, 1, 1, 1, 5, 1, 1, 5, 5, 1, 1, 5, 4]
HOLE = [0, 2, 2, 1, 2, 4, 1, 4, 4, 1, 4, 2, 4]


def test_a_path_of_lines_is_its_rings():
    outer, inner = path_rings(np.array(SQUARE + HOLE, np.float32))
    assert outer.tolist() == [[1, 1], [5, 1], [5, 5], [1, 5]]
    assert inner.tolist() == [[2, 2], [2, 4], [4, 4], [4, 2]]
    assert fill([outer, inner], (6, 6)).sum() == 16 - 4


def test_curves_of_a_path_pass_through_their_middle():
    # At t = 1/2 a quadratic one is (a + 2 b + c) / 4, a cubic (a + 3 b + 3 c + d) / 8.
    (quadratic,) = path_rings(np.array([0, 0, 0, 2, 4, 8, 8, 0, 4], float))
    assert [4, 4] in quadratic.tolist()
    assert quadratic[-1].tolist() == [8, 0]
    (cubic,) = path_rings(np.array([0, 0, 0, 3, 0, 8, 8, 8, 8, 0, 4], float))
    assert [4, 6] in cubic.tolist()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ([0, 1], "cut off"),
        ([1, 2, 3], "cut off"),
        ([0, 1, 1, 7, 3, 3], "unknown command 7"),
        ([0, 1, 1, np.nan], "unknown command nan"),
        ([4], "cut off"),
    ],
)
def test_a_damaged_path_is_refused(path, message):
    with pytest.raises(ValueError, match=message):
        path_rings(np.array(path, float))


def test_corners_are_rounded_by_half_the_arc():
    sharp = fill([rounded_rectangle(0, 0, 20, 10, 0)], (10, 20))
    assert sharp.all()
    # A rectangle whose arcs fill it is an ellipse; here a circle of radius 5.
    circle = fill([rounded_rectangle(0, 0, 10, 10, 10)], (10, 10))
    y, x = np.mgrid[:10, :10] + 0.5
    assert np.array_equal(circle, (y - 5) ** 2 + (x - 5) ** 2 < 25)
    assert rounded_rectangle(0, 0, 10, 10, 99).min() >= -1e-9
