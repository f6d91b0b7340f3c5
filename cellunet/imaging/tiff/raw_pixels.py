"""Uncompressed pixels that lie in a row in a file: just the rows asked for are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.errors import ImageReadError
from cellunet.imaging.damage import KEEP_GOING, Damage

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import tifffile

    from cellunet.imaging.damage import DamageLog
    from cellunet.imaging.tiff.grid import Grid

LONG_ROW_BYTES = 16 * 2**10
"""From rows of this length on, only the asked part of a row is read."""


class RawPixels:
    """Reads rectangles of raw planes by plain reads.

    Parameters
    ----------
    path, file
        The file.
    grid
        Shape of its planes.
    dtype
        Type of the stored values, byte order included.
    log
        Told of rows that the file does not hold.
    """

    def __init__(
        self,
        path: Path,
        file: tifffile.FileHandle,
        grid: Grid,
        dtype: np.dtype[Any],
        log: DamageLog,
    ) -> None:
        self._path, self._file, self._grid = path, file, grid
        self._dtype, self._log = dtype, log

    def read(
        self, plane: int, offset: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> npt.NDArray[Any]:
        """Return a rectangle of a stored plane whose pixels start at `offset`.

        Returns
        -------
        ndarray
            Shape (height, width, samples), in native byte order.
        """
        row_values = self._grid.row_values
        row_bytes = row_values * self._dtype.itemsize
        first, last = (c * self._grid.samples for c in columns)
        height = rows[1] - rows[0]
        # Rows that the file does not hold complete stay 0, the same in every region.
        held = max(0, self._file.size - offset) // row_bytes
        if held < rows[1]:
            self._cut_short(plane, held, offset)
        present = max(0, min(rows[1], held) - rows[0])
        start = offset + rows[0] * row_bytes
        if row_bytes < LONG_ROW_BYTES or 2 * (last - first) > row_values:
            values = np.zeros((height, row_values), self._dtype)
            self._fill(plane, offset, values[:present], start)
            values = values[:, first:last]
        else:
            values = np.zeros((height, last - first), self._dtype)
            for k, row in enumerate(values[:present]):
                place = start + k * row_bytes + first * self._dtype.itemsize
                self._fill(plane, offset, row, place)
        native = np.ascontiguousarray(values, self._dtype.newbyteorder("="))
        return native.reshape(height, -1, self._grid.samples)

    def _fill(
        self, plane: int, offset: int, values: npt.NDArray[Any], place: int
    ) -> None:
        self._file.seek(place)
        # As bytes, because not every element type can be handed over as a buffer.
        got = self._file.readinto(values.reshape(-1).view(np.uint8))
        if got != values.nbytes:
            values[...] = 0
            row_bytes = self._grid.row_values * self._dtype.itemsize
            self._cut_short(plane, (place + got - offset) // row_bytes, offset)

    def _cut_short(self, plane: int, row: int, offset: int) -> None:
        """Note that the file ends before a row of raw pixels."""
        grid = self._grid
        end = offset + grid.length * grid.row_values * self._dtype.itemsize
        if not self._log.keep_going:
            raise ImageReadError(
                f"{self._path} is truncated: its pixels go on to byte {end:,}, the "
                f"file ends at {self._file.size:,}; row {min(row, grid.length):,} of "
                f"{grid.length:,} is the first that is missing.",
                hint=KEEP_GOING,
            )
        row = min(row, grid.length - 1)
        reason = f"the file ends at byte {self._file.size:,}"
        self._log.note(Damage(plane, row, grid.length, 0, grid.width, "rows", reason))
