"""Rows that were decoded for one window are there for the next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellunet.io.stacks import RowWindow

PLANES = np.arange(3 * 2 * 90 * 7, dtype=np.uint16).reshape(3, 2, 90, 7)
"""Three planes of two channels."""


def window(seen: list[tuple[int, int, int]], step: int, **options) -> RowWindow:
    def load(plane: int, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        assert options or columns == (0, 7)
        seen.append((plane, *rows))
        return PLANES[plane, :, slice(*rows), slice(*columns)]

    return RowWindow((90, 7), step, load, **options)


@settings(max_examples=60)
@given(
    step=st.integers(1, 100),
    options=st.fixed_dictionaries(
        {}, optional={"wide": st.integers(1, 9), "most": st.integers(1, 4)}
    ),
    reads=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 89), st.integers(1, 90)), max_size=8
    ),
)
def test_any_order_of_reads_gives_the_pixels(step, options, reads):
    rows = window([], step, **options)
    for plane, y0, height in reads:
        y1 = min(y0 + height, 90)
        part = rows.read(plane, (y0, y1), (2, 5))
        np.testing.assert_array_equal(part, PLANES[plane, :, y0:y1, 2:5])


@pytest.mark.parametrize("step", [10, 15])
def test_rows_of_overlapping_windows_are_decoded_once(step):
    seen: list[tuple[int, int, int]] = []
    rows = window(seen, step)
    for y0 in (0, 20, 40, 60):
        for x0 in (0, 3):
            rows.read(0, (y0, y0 + 30), (x0, x0 + 4))
    assert seen == [(0, y0, y0 + step) for y0 in range(0, 90, step)]


def test_a_gap_is_not_decoded():
    seen: list[tuple[int, int, int]] = []
    rows = window(seen, 20)
    rows.read(0, (0, 4), (0, 7))
    rows.read(0, (80, 85), (0, 7))
    assert seen == [(0, 0, 20), (0, 80, 90)]


def test_no_more_rows_are_kept_than_the_tallest_window_needs():
    rows = window([], 10)
    for y0 in range(0, 90, 15):
        rows.read(1, (y0, y0 + 15), (0, 7))
    assert rows._room.shape == (3, 2, 10, 7)


def test_rows_from_top_to_bottom_need_one_step_at_a_time():
    seen: list[tuple[int, int, int]] = []
    rows = window(seen, 10, wide=4, most=1)
    for y0 in range(0, 90, 15):
        part = rows.read(2, (y0, y0 + 15), (0, 7))
        np.testing.assert_array_equal(part, PLANES[2, :, y0 : y0 + 15])
    assert seen == [(2, y0, y0 + 10) for y0 in range(0, 90, 10) for _ in (0, 4)]
    assert rows._room.shape == (1, 2, 10, 7)
