"""What a round pen covers, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cellunet.annotations.shapes import Strokes
from cellunet.errors import AnnotationError


def drawn(lines, shape):
    image = np.zeros(shape, int)
    found = Strokes(tuple(np.array(line, float) for line in lines)).fill(shape)
    image[found.window] = found.inside
    return image, found


def test_a_click_is_a_disc_of_thirteen_pixels():
    image, _ = drawn([[(3.5, 2.5)]], (6, 7))
    assert image.tolist() == [
        [0, 0, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 0, 1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]


def test_a_line_is_three_pixels_wide_with_round_ends():
    image, _ = drawn([[(2.5, 2.5), (5.5, 2.5)]], (5, 9))
    # The corners of the ends are sqrt(2) from the end: within 1.5.
    assert image.tolist() == [
        [0] * 9,
        [0, 1, 1, 1, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 1, 1, 1, 0, 0],
        [0] * 9,
    ]


def test_a_slanted_line_is_one_piece_however_long(rng):
    from scipy import ndimage

    image, _ = drawn([[(1, 3), (290, 150.3), (8, 199)]], (200, 300))
    assert ndimage.label(image)[1] == 1
    # Width times length, and the ends.
    length = np.hypot(289, 147.3) + np.hypot(282, 48.7)
    assert image.sum() == pytest.approx(3 * length, rel=0.02)


def test_clicks_and_lines_are_drawn_together_and_cut_by_the_frame():
    image, found = drawn([[(0, 0)], [(9.5, 9.5), (30, 9.5)]], (10, 12))
    assert image[:2, :2].sum() == 3
    assert image[9, 8:].tolist() == [1, 1, 1, 1]
    assert image.sum() == 3 + 2 * 4
    assert not found.outside


def test_what_lies_beyond_the_frame_says_so():
    assert drawn([[(50, 3)]], (10, 12))[1].outside
    assert drawn([[(-20, -3), (-9, 5)]], (10, 12))[1].outside


def test_a_coordinate_that_is_no_number_is_refused():
    with pytest.raises(AnnotationError, match="not a finite number"):
        drawn([[(np.nan, 3)]], (10, 12))
