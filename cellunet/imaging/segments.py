"""Regions of the stored planes of a TIFF: only the strips and tiles that are needed.

Uncompressed contiguous pixels are read straight from the file, just the rows asked
for. Anything else is decoded strip by strip or tile by tile, and the last ones are
kept: a page that is one single compressed strip is decoded whole, once, however many
regions are read from it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cellunet.errors import ImageReadError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import tifffile

CACHE_BYTES = 64 * 2**20
"""Decoded strips and tiles are kept up to this size; the latest one always is."""
LONG_ROW_BYTES = 64 * 2**10
"""From rows of this length on, only the asked part of a row is read."""
JPEG_COMPRESSIONS = (6, 7, 33007, 34892)


@dataclass(frozen=True)
class Grid:
    """How one page is cut into strips or tiles; all lengths in pixels."""

    separate: int
    """Samples that are stored one after the other."""
    depth: int
    """Planes of a page with the ImageDepth tag, else 1."""
    length: int
    """Rows."""
    width: int
    """Columns."""
    samples: int
    """Interleaved samples."""
    piece: tuple[int, int, int]
    """Depth, rows and columns of a strip or tile."""
    tiled: bool
    """Tiles, of which a sparse file may leave out empty ones; else strips."""

    @classmethod
    def of(cls, page: tifffile.TiffPage) -> Grid:
        """Read the grid from a page's tags."""
        separate, depth, length, width, samples = page.shaped
        if page.is_tiled:
            piece = (page.tiledepth, page.tilelength, page.tilewidth)
        else:
            piece = (1, page.rowsperstrip, width)
        return cls(separate, depth, length, width, samples, piece, page.is_tiled)

    @property
    def planes(self) -> int:
        """Stored planes in a page."""
        return self.separate * self.depth

    @property
    def pieces(self) -> tuple[int, int, int]:
        """Strips or tiles of one sample along depth, rows and columns."""
        d, y, x = self.piece
        return (
            math.ceil(self.depth / d),
            math.ceil(self.length / y),
            math.ceil(self.width / x),
        )

    @property
    def count(self) -> int:
        """Strips or tiles in a page."""
        return self.separate * math.prod(self.pieces)

    @property
    def piece_values(self) -> int:
        """Values in one strip or tile."""
        return math.prod(self.piece) * self.samples

    def cover(
        self, plane: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> Iterator[tuple[int, int, int, int]]:
        """Yield (number, first row, first column, depth inside) of the pieces."""
        sample, z = divmod(plane, self.depth)
        deep, high, wide = self.pieces
        d, y, x = self.piece
        for row in range(rows[0] // y, (rows[1] - 1) // y + 1):
            for column in range(columns[0] // x, (columns[1] - 1) // x + 1):
                number = ((sample * deep + z // d) * high + row) * wide + column
                yield number, row * y, column * x, z % d


class SeriesReader:
    """Reads rectangles of the stored planes of one series of a TIFF file."""

    def __init__(self, path: Path, series: tifffile.TiffPageSeries) -> None:
        self._path = path
        self._series = series
        self._page0 = series.keyframe
        self._file = self._page0.parent.filehandle
        self.grid = Grid.of(self._page0)
        self.dtype: np.dtype[Any] = np.dtype(self._page0.dtype)
        order = self._page0.parent.byteorder
        self._stored_dtype = self.dtype.newbyteorder(order)
        self._offset: int | None = series.dataoffset
        self._page_offset: tuple[int, int | None] = (-1, None)
        self._cache: OrderedDict[tuple[int, int], npt.NDArray[Any]] = OrderedDict()
        self._cached_bytes = 0

    def read(
        self, plane: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> npt.NDArray[Any]:
        """Return the rectangle of a stored plane, shape (height, width, samples).

        Raises
        ------
        ImageReadError
            If the file ends too early; tifffile's and the codecs' own errors pass.
        """
        offset = self._plane_offset(plane)
        if offset is not None:
            return self._read_raw(offset, rows, columns)
        return self._read_pieces(plane, rows, columns)

    def clear(self) -> None:
        """Forget all decoded strips and tiles."""
        self._cache.clear()
        self._cached_bytes = 0

    @property
    def plane_bytes(self) -> int:
        """Bytes of a decoded stored plane."""
        grid = self.grid
        return grid.length * grid.width * grid.samples * self.dtype.itemsize

    def _plane_offset(self, plane: int) -> int | None:
        """Return where the raw pixels of a stored plane start, if they lie in a row."""
        if self._offset is not None:
            return self._offset + plane * self.plane_bytes
        if not self._page0.is_final:
            return None
        number, inside = divmod(plane, self.grid.planes)
        if self._page_offset[0] != number:
            self._page_offset = (number, _contiguous(self.page(number)))
        offset = self._page_offset[1]
        return None if offset is None else offset + inside * self.plane_bytes

    def page(self, number: int) -> tifffile.TiffPage | tifffile.TiffFrame:
        """Return a page of the series.

        Raises
        ------
        ImageReadError
            If the metadata names a page that the file does not hold.
        """
        page = self._series[number]
        if page is None:
            raise ImageReadError(
                f"{self._path} lacks page {number} of the {len(self._series)} that its "
                "metadata names; the acquisition may have been interrupted.",
                hint="Export the complete part again.",
            )
        return page

    def _read_raw(
        self, offset: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> npt.NDArray[Any]:
        row_values = self.grid.width * self.grid.samples
        row_bytes = row_values * self.dtype.itemsize
        first, last = (c * self.grid.samples for c in columns)
        height = rows[1] - rows[0]
        start = offset + rows[0] * row_bytes
        if row_bytes < LONG_ROW_BYTES or 2 * (last - first) > row_values:
            values = np.empty((height, row_values), self._stored_dtype)
            self._fill(values, start)
            values = values[:, first:last]
        else:
            values = np.empty((height, last - first), self._stored_dtype)
            for k, row in enumerate(values):
                self._fill(row, start + k * row_bytes + first * self.dtype.itemsize)
        native = np.ascontiguousarray(values, self.dtype)
        return native.reshape(height, -1, self.grid.samples)

    def _fill(self, values: npt.NDArray[Any], offset: int) -> None:
        self._file.seek(offset)
        # As bytes, because not every element type can be handed over as a buffer.
        got = self._file.readinto(values.reshape(-1).view(np.uint8))
        if got != values.nbytes:
            raise self._cut_short(offset + values.nbytes)

    def _cut_short(self, end: int) -> ImageReadError:
        return ImageReadError(
            f"{self._path} is truncated: its pixels go on to byte {end:,}, the file "
            f"ends at {self._file.size:,}.",
            hint="Copy or export it again.",
        )

    def _read_pieces(
        self, plane: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> npt.NDArray[Any]:
        number, inside = divmod(plane, self.grid.planes)
        (y0, y1), (x0, x1) = rows, columns
        region = np.empty((y1 - y0, x1 - x0, self.grid.samples), self.dtype)
        _, high, wide = self.grid.piece
        for index, top, left, z in self.grid.cover(inside, rows, columns):
            ya, yb = max(y0, top), min(y1, top + high)
            xa, xb = max(x0, left), min(x1, left + wide)
            piece = self._piece(number, index)[z]
            region[ya - y0 : yb - y0, xa - x0 : xb - x0] = piece[
                ya - top : yb - top, xa - left : xb - left
            ]
        return region

    def _piece(self, number: int, index: int) -> npt.NDArray[Any]:
        """Return one decoded strip or tile: (depth, rows, columns, samples)."""
        key = (number, index)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        piece = self._decode(number, index)
        self._cache[key] = piece
        self._cached_bytes += piece.nbytes
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return piece

    def _decode(self, number: int, index: int) -> npt.NDArray[Any]:
        page = self.page(number)
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if self.grid.tiled and not count:
            shape = (*self.grid.piece, self.grid.samples)
            return np.full(shape, self._page0.nodata, self.dtype)
        self._file.seek(offset)
        encoded = self._file.read(count)
        if len(encoded) != count or not count:
            raise self._cut_short(offset + max(count, 1))
        tables = {}
        if self._page0.compression in JPEG_COMPRESSIONS:
            tables = {
                "jpegtables": page.jpegtables,
                "jpegheader": self._page0.jpegheader,
            }
        decoded: npt.NDArray[Any] = self._page0.decode(encoded, index, **tables)[0]
        return decoded


def _contiguous(page: tifffile.TiffPage | tifffile.TiffFrame) -> int | None:
    """Return where a page's pixels start if its strips follow each other, else None."""
    offsets, counts = page.dataoffsets, page.databytecounts
    ends = [o + c for o, c in zip(offsets, counts, strict=True)]
    if list(offsets[1:]) != ends[:-1] or 0 in counts:
        return None
    return int(offsets[0])
