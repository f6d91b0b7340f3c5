"""The latest rows of a plane that is decoded from top to bottom.

Windows side by side need the same full-width strips, and rows of windows overlap. What
was decoded for one is kept for the next: as many rows as the tallest window, as pixels
of the channels that are read, whatever else the strips hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

KEPT_ROWS = 1024
"""Rows that are kept at least, if the plane has as many: those of the network's
windows (`cellunet.imaging.blocks.LARGEST_PX`)."""
STEP_ROWS = 256
"""Rows that are decoded at once."""

Load = Callable[[int, int, int], npt.NDArray[Any]]
"""``load(plane, y0, y1)``: full-width rows, YX, or CYX of several channels."""


class RowWindow:
    """Reads rectangles of planes through the latest full-width rows.

    Parameters
    ----------
    shape
        Height and width of a plane.
    dtype
        Type of its pixels.
    load
        Decodes rows.
    channels
        How many of them `load` returns.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        load: Load,
        channels: int = 1,
    ) -> None:
        self._shape, self._dtype, self._load = shape, dtype, load
        self._lead = () if channels == 1 else (channels,)
        self._plane, self._first, self._last = -1, 0, 0
        # Row y lies at y modulo the number of rows.
        self._kept = self._room(0)

    def read(
        self, plane: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> npt.NDArray[Any]:
        """Return a rectangle of a plane as a new array, of the axes of `load`."""
        y0, y1 = rows
        if y1 - y0 > self._held:
            self._grow(y1 - y0)
        if plane != self._plane or not self._first <= y0 <= self._last:
            self._plane, self._first, self._last = plane, y0, y0
        while self._last < y1:
            self._step(min(self._last + STEP_ROWS, y1))
        places = np.arange(y0, y1) % self._held
        return self._kept[..., places, columns[0] : columns[1]]

    @property
    def _held(self) -> int:
        """How many rows can be kept."""
        return int(self._kept.shape[-2])

    def _grow(self, rows: int) -> None:
        height = self._shape[0]
        self.clear()
        self._kept = self._room(min(max(rows, KEPT_ROWS), height))

    def _step(self, last: int) -> None:
        new = self._load(self._plane, self._last, last)
        # Rows that are overwritten are gone even if something fails later on.
        self._first = max(self._first, last - self._held)
        self._kept[..., np.arange(self._last, last) % self._held, :] = new
        self._last = last

    def clear(self) -> None:
        """Forget all rows."""
        self._plane, self._first, self._last = -1, 0, 0
        self._kept = self._room(0)

    def _room(self, rows: int) -> npt.NDArray[Any]:
        return np.empty((*self._lead, rows, self._shape[1]), self._dtype)


def kept_bytes(
    shape: tuple[int, int], dtype: np.dtype[Any], rows: int = KEPT_ROWS
) -> int:
    """Return the bytes that are kept of a channel for windows of so many rows."""
    return min(max(rows, KEPT_ROWS), shape[0]) * shape[1] * dtype.itemsize
