"""Rows that were decoded for one window are there for the next."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cellunet.io import tiff_pixels as row_window
from cellunet.io.tiff_pixels import RowWindow, kept_bytes

PLANES = np.arange(3 * 90 * 7, dtype=np.uint16).reshape(3, 90, 7)


def window(seen: list[tuple[int, int, int]]) -> RowWindow:
    def load(plane: int, y0: int, y1: int) -> np.ndarray:
        seen.append((plane, y0, y1))
        return PLANES[plane, y0:y1]

    return RowWindow((90, 7), PLANES.dtype, load)


@settings(max_examples=60)
@given(
    kept=st.integers(1, 40),
    reads=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 89), st.integers(1, 90)), max_size=8
    ),
)
def test_any_order_of_reads_gives_the_pixels(kept, reads):
    before = row_window.KEPT_ROWS, row_window.STEP_ROWS
    row_window.KEPT_ROWS, row_window.STEP_ROWS = kept, 11
    try:
        rows = window([])
        for plane, y0, height in reads:
            y1 = min(y0 + height, 90)
            part = rows.read(plane, (y0, y1), (2, 5))
            np.testing.assert_array_equal(part, PLANES[plane, y0:y1, 2:5])
    finally:
        row_window.KEPT_ROWS, row_window.STEP_ROWS = before


def test_rows_of_overlapping_windows_are_decoded_once(monkeypatch):
    monkeypatch.setattr(row_window, "KEPT_ROWS", 30)
    seen: list[tuple[int, int, int]] = []
    rows = window(seen)
    for y0 in (0, 20, 40, 60):
        for x0 in (0, 3):
            rows.read(0, (y0, y0 + 30), (x0, x0 + 4))
    assert seen == [(0, 0, 30), (0, 30, 50), (0, 50, 70), (0, 70, 90)]


def test_a_gap_is_not_decoded():
    seen: list[tuple[int, int, int]] = []
    rows = window(seen)
    rows.read(0, (0, 4), (0, 7))
    rows.read(0, (80, 85), (0, 7))
    assert seen == [(0, 0, 4), (0, 80, 85)]


def test_what_is_kept_is_said_in_bytes():
    # 1,024 rows, or all there are.
    assert kept_bytes((8320, 11136), np.dtype(np.uint16)) == 1024 * 11136 * 2
    assert kept_bytes((1, 10**7), np.dtype(np.uint8)) == 10**7


def test_channels_are_kept_side_by_side(monkeypatch):
    monkeypatch.setattr(row_window, "KEPT_ROWS", 30)
    seen = []

    def load(plane: int, y0: int, y1: int) -> np.ndarray:
        seen.append((plane, y0, y1))
        return PLANES[plane : plane + 2, y0:y1]

    rows = RowWindow((90, 7), PLANES.dtype, load, 2)
    for y0 in (0, 20, 60):
        part = rows.read(1, (y0, y0 + 30), (2, 5))
        np.testing.assert_array_equal(part, PLANES[1:, y0 : y0 + 30, 2:5])
    assert seen == [(1, 0, 30), (1, 30, 50), (1, 60, 90)]
