"""Regions of the stored planes of a TIFF: only the strips and tiles that are needed.

All by plain reads, for pages of a memory map count as memory once they are touched.
Uncompressed contiguous pixels are read straight from the file, just the rows asked
for. Anything else is decoded strip by strip or tile by tile, and the last ones are
kept. A strip of more than `STREAM_BYTES` is decoded row by row where its compression
allows (`cellunet.imaging.tiff.decoders`), else whole.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cellunet.bugs import is_bug
from cellunet.errors import CellunetError, ImageReadError
from cellunet.imaging.damage import Damage, brief
from cellunet.imaging.native.decoder_errors import NoDecoderError
from cellunet.imaging.reading import READ_FAILURES
from cellunet.imaging.tiff.decoders import DECODERS
from cellunet.imaging.tiff.grid import Grid
from cellunet.imaging.tiff.piece_decoder import PieceDecoder
from cellunet.imaging.tiff.raw_pixels import RawPixels
from cellunet.imaging.tiff.strips import LostRowsError, RowForm, StripRows, streams

if TYPE_CHECKING:
    from pathlib import Path

    import tifffile

    from cellunet.imaging.damage import DamageLog

CACHE_BYTES = 64 * 2**20
"""Decoded strips and tiles are kept up to this size; the latest one always is."""
ROWS_CACHE_BYTES = 16 * 2**20
"""The same for strips as wide as the image, whose rows `RowWindow` keeps."""
STREAM_BYTES = 16 * 2**20
"""Strips of more decoded bytes are not decoded whole if there is another way."""
MOST_STREAMS = 256
"""Strips that are being decoded by rows at the same time."""


class SeriesReader:
    """Reads rectangles of the stored planes of one series of a TIFF file.

    Parameters
    ----------
    path
        The file.
    series
        Its pages.
    log
        Told of what cannot be read.
    """

    def __init__(
        self, path: Path, series: tifffile.TiffPageSeries, log: DamageLog
    ) -> None:
        self._path, self._log = path, log
        self._series = series
        self._page0 = series.keyframe
        self._file = self._page0.parent.filehandle
        self.grid = Grid.of(self._page0)
        self.dtype: np.dtype[Any] = np.dtype(self._page0.dtype)
        order = self._page0.parent.byteorder
        self._stored_dtype = self.dtype.newbyteorder(order)
        self._raw = RawPixels(path, self._file, self.grid, self._stored_dtype, log)
        self._offset: int | None = series.dataoffset
        self._page_offset: tuple[int, int | None] = (-1, None)
        self._cache: OrderedDict[tuple[int, int], npt.NDArray[Any]] = OrderedDict()
        self._cached_bytes = 0
        self._pieces = PieceDecoder(self._page0, self.page, self.grid)
        self._strips: OrderedDict[tuple[int, int], StripRows] = OrderedDict()
        self.by_rows = self._is_by_rows()

    def _is_by_rows(self) -> bool:
        """Whether strips are decoded row by row."""
        if self.piece_bytes <= STREAM_BYTES or self._page0.is_tiled:
            return False
        self._file.seek(self._page0.dataoffsets[0])
        return streams(self._page0, self._file.read(2))

    def read(
        self, plane: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> npt.NDArray[Any]:
        """Return the rectangle of a stored plane, shape (height, width, samples).

        Raises
        ------
        ImageReadError
            If a part cannot be read, unless the log keeps going: then it is 0.
        """
        offset = self.raw_offset(plane)
        if offset is not None:
            return self._raw.read(plane, offset, rows, columns)
        return self._read_pieces(plane, rows, columns)

    @property
    def compression(self) -> int:
        """The TIFF tag of that name."""
        return int(self._page0.compression)

    def clear(self) -> None:
        """Forget all decoded strips and tiles."""
        self._cache.clear()
        self._pieces.clear()
        self._strips.clear()
        self._cached_bytes = 0

    @property
    def plane_bytes(self) -> int:
        """Bytes of a decoded stored plane."""
        grid = self.grid
        return grid.length * grid.row_values * self.dtype.itemsize

    @property
    def piece_bytes(self) -> int:
        """Bytes of a decoded strip or tile."""
        return self.grid.piece_values * self.dtype.itemsize

    @property
    def encoded_bytes(self) -> int:
        """Bytes of the largest strip or tile of the first page, as it is stored."""
        return int(max(self._page0.databytecounts, default=0))

    def raw_offset(self, plane: int) -> int | None:
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

    def _read_pieces(
        self, plane: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> npt.NDArray[Any]:
        number, inside = divmod(plane, self.grid.planes)
        (y0, y1), (x0, x1) = rows, columns
        region = np.empty((y1 - y0, x1 - x0, self.grid.samples), self.dtype)
        _, high, wide = self.grid.piece
        cover = list(self.grid.cover(inside, rows, columns))
        if not self.by_rows:
            missing = (k for k, *_ in cover if (number, k) not in self._cache)
            self._pieces.expect(number, missing)
        for index, top, left, z in cover:
            ya, yb = max(y0, top), min(y1, top + high)
            xa, xb = max(x0, left), min(x1, left + wide)
            if self.by_rows:
                part = self._strip_rows(number, index, (ya - top, yb - top))
            else:
                part = self._piece(number, index)[z, ya - top : yb - top]
            region[ya - y0 : yb - y0, xa - x0 : xb - x0] = part[
                :, xa - left : xb - left
            ]
        return region

    def _piece(self, number: int, index: int) -> npt.NDArray[Any]:
        """Return one decoded strip or tile: (depth, rows, columns, samples)."""
        key = (number, index)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        try:
            piece = self._pieces.decode(number, index)
        except (CellunetError, MemoryError, NoDecoderError):
            raise
        except READ_FAILURES as error:
            if is_bug(error):
                raise
            self._note(number, index, error)
            piece = np.zeros((*self.grid.piece, self.grid.samples), self.dtype)
        self._cache[key] = piece
        self._cached_bytes += piece.nbytes
        most = ROWS_CACHE_BYTES if self.grid.full_width else CACHE_BYTES
        while self._cached_bytes > most and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return piece

    def _note(
        self, number: int, index: int, error: BaseException, row: int = 0
    ) -> None:
        """Note that a strip or tile is lost, from a row of it on."""
        plane, y0, y1, x0, x1 = self.grid.place(index)
        what = "tile" if self.grid.tiled else "strip"
        plane += number * self.grid.planes
        damage = Damage(plane, y0 + row, y1, x0, x1, what, brief(error))
        self._log.note(damage, error)

    def _strip_rows(
        self, number: int, index: int, rows: tuple[int, int]
    ) -> npt.NDArray[Any]:
        """Return rows of one strip: (rows, width, samples)."""
        first, last = rows
        grid, strip = self.grid, self._strip(number, index)
        out = np.zeros((last - first, grid.width, grid.samples), self.dtype)
        _, y0, y1, _, _ = grid.place(index)
        try:
            strip.read(out, first)
            if last == y1 - y0:
                strip.check_end()
        except LostRowsError as lost:
            self._note(number, index, lost.cause, lost.row)
        return out

    def _strip(self, number: int, index: int) -> StripRows:
        key = (number, index)
        if key not in self._strips:
            page, file = self.page(number), self._file
            offset, count = page.dataoffsets[index], page.databytecounts[index]

            def read(start: int, wanted: int) -> bytes:
                file.seek(offset + start)
                data: bytes = file.read(max(0, min(wanted, count - start)))
                return data

            form = RowForm(
                self.grid.width,
                self.grid.samples,
                self._stored_dtype,
                int(self._page0.predictor),
            )
            _, y0, y1, _, _ = self.grid.place(index)
            decoder = DECODERS[self.compression]
            self._strips[key] = StripRows(decoder, read, y1 - y0, form)
            while len(self._strips) > MOST_STREAMS:
                self._strips.popitem(last=False)
        self._strips.move_to_end(key)
        return self._strips[key]


def _contiguous(page: tifffile.TiffPage | tifffile.TiffFrame) -> int | None:
    """Return where a page's pixels start if its strips follow each other, else None."""
    offsets, counts = page.dataoffsets, page.databytecounts
    ends = [o + c for o, c in zip(offsets, counts, strict=True)]
    if list(offsets[1:]) != ends[:-1] or 0 in counts:
        return None
    return int(offsets[0])
