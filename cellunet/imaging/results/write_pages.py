"""Stacks of pages as TIFF, written band by band: class maps and probabilities.

Several pages grow at once, as the classes of one band of rows do. Rows are cut into
tiles and compressed as they come; compressed tiles wait in memory and from
`MEMORY_BYTES` on in a temporary file in the same folder. Held uncompressed is one row
of tiles of each page that grows.
"""

from __future__ import annotations

import json
import math
import tempfile
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import tifffile

from cellunet.imaging.atomic import PendingFile, close_unwanted, writing
from cellunet.imaging.sink import BIG_BYTES, DEFLATE_LEVEL, MEMORY_BYTES, tile_side

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt


class PageTiff:
    """A TIFF of pages of one shape and type.

    Parameters
    ----------
    path
        Where it is to appear.
    shape
        Lengths of all axes; the last two are rows and columns, and the others number
        the pages in C order.
    axes
        Their letters.
    dtype
        Type of the pixels.

    Raises
    ------
    OutputError
        If the folder cannot be made or written to.
    """

    def __init__(
        self, path: Path, shape: tuple[int, ...], axes: str, dtype: np.dtype[Any]
    ) -> None:
        self._shape, self._axes = shape, axes
        self._dtype = dtype.newbyteorder("<")
        self._tile = tile_side(shape[-2]), tile_side(shape[-1])
        self._waiting: dict[int, list[npt.NDArray[Any]]] = {}
        self._rows: dict[int, int] = {}
        self._places: dict[int, list[tuple[int, int]]] = {}
        self._end = 0
        self._pending = PendingFile(path)
        self._tiles = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - `abort` closes
            MEMORY_BYTES, dir=str(path.parent), prefix=".", suffix=".partial"
        )

    def write(self, page: int, rows: npt.NDArray[Any]) -> None:
        """Append full-width rows to a page, YX.

        Raises
        ------
        OutputError
            If there is no room for the compressed tiles.
        """
        height, side = self._shape[-2], self._tile[0]
        waiting = np.concatenate([*self._waiting.pop(page, []), rows])
        done = self._rows.get(page, 0)
        while len(waiting) >= side or (len(waiting) and done + len(waiting) == height):
            self._compress(page, waiting[:side])
            done += min(side, len(waiting))
            waiting = waiting[side:]
        self._rows[page] = done
        if len(waiting):
            # A copy: the band that it is a part of must not be kept alive.
            self._waiting[page] = [waiting.copy()]

    def _compress(self, page: int, rows: npt.NDArray[Any]) -> None:
        side, step = self._tile
        width = math.ceil(self._shape[-1] / step) * step
        band = np.zeros((side, width), self._dtype)
        band[: len(rows), : rows.shape[1]] = rows
        with writing(self._pending.path):
            for x in range(0, width, step):
                tile = np.ascontiguousarray(band[:, x : x + step])
                encoded = imagecodecs.deflate_encode(tile.tobytes(), DEFLATE_LEVEL)
                self._places.setdefault(page, []).append((self._end, len(encoded)))
                self._tiles.write(encoded)
                self._end += len(encoded)

    def _encoded(self, page: int) -> Iterator[bytes]:
        for start, length in self._places[page]:
            self._tiles.seek(start)
            yield self._tiles.read(length)

    def commit(self) -> None:
        """Write the file and make it appear.

        Raises
        ------
        OutputError
            If there is no room or no permission; then nothing stays behind.
        ValueError
            If rows are missing: a bug.
        """
        try:
            pages, height = math.prod(self._shape[:-2]), self._shape[-2]
            if [self._rows.get(k) for k in range(pages)] != [height] * pages:
                raise ValueError(f"{self._rows} rows, expected {pages} x {height}")
            with writing(self._pending.path):
                self._write_tiff(pages)
            self._pending.commit()
        finally:
            self.abort()

    def _write_tiff(self, pages: int) -> None:
        size = math.prod(self._shape) * self._dtype.itemsize
        # As tifffile describes a stack: read by itself and by whoever knows it.
        described = json.dumps({"shape": self._shape, "axes": self._axes})
        with tifffile.TiffWriter(
            self._pending.temporary, bigtiff=size > BIG_BYTES, byteorder="<"
        ) as tiff:
            # Page by page: some versions take the last axis of a stack for samples if
            # it is of length 1.
            for page in range(pages):
                tiff.write(
                    self._encoded(page),
                    shape=self._shape[-2:],
                    dtype=self._dtype,
                    photometric="minisblack",
                    tile=self._tile,
                    compression="zlib",
                    description=None if page else described,
                    metadata=None,
                )

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        close_unwanted(self._tiles)
        self._pending.abort()
