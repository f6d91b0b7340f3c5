"""Read regions of the pages of a TIFF: only the strips and tiles that are needed.

A question to the process that decodes takes longer than a small strip does, so the
pieces that a region needs are asked for together.

Windows side by side need the same full-width strips, and rows of windows overlap. What
was decoded for one is kept for the next: as many rows as the tallest window, as pixels
of the channels that are read, whatever else the strips hold.

All by plain reads, for pages of a memory map count as memory once they are touched.
Uncompressed contiguous pixels are read straight from the file, just the rows asked
for. Anything else is decoded strip by strip or tile by tile, and the last ones are
kept. A strip of more than `STREAM_BYTES` is decoded row by row where its compression
allows (`cellunet.io.tiff_strips`), else whole.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cellunet.bugs import is_bug
from cellunet.errors import CellunetError, ImageReadError
from cellunet.io.decoding import PART_BYTES, codec_of, decode_pieces, isolated_bytes
from cellunet.io.reading import READ_FAILURES
from cellunet.io.source import (
    KEEP_GOING,
    Damage,
    DecoderLostError,
    DecodingError,
    NoDecoderError,
    brief,
)
from cellunet.io.tiff_strips import (
    CHUNK_BYTES,
    DECODERS,
    MARK_BYTES,
    MOST_BYTES,
    MOST_MARKS,
    STANDARD,
    LostRowsError,
    RowForm,
    StripRows,
    streams,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import tifffile

    from cellunet.io.axes import PlaneLayout
    from cellunet.io.source import DamageLog


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

    def place(self, number: int) -> tuple[int, int, int, int, int]:
        """Return where a strip or tile lies: stored plane, rows and columns.

        The rows and columns are those of the image, cut at its edges; a tile of several
        planes is given by its first.
        """
        deep, high, wide = self.pieces
        rest, column = divmod(number, wide)
        rest, row = divmod(rest, high)
        sample, layer = divmod(rest, deep)
        d, y, x = self.piece
        return (
            sample * self.depth + layer * d,
            row * y,
            min((row + 1) * y, self.length),
            column * x,
            min((column + 1) * x, self.width),
        )

    @property
    def row_values(self) -> int:
        """Values in one row of a stored plane."""
        return self.width * self.samples

    @property
    def full_width(self) -> bool:
        """Whether every strip or tile is as wide as the image."""
        return self.piece[2] >= self.width

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


if TYPE_CHECKING:
    from collections.abc import Iterable

    import tifffile

    Page: TypeAlias = tifffile.TiffPage | tifffile.TiffFrame

TOGETHER_BYTES = 2**20
"""Decoded bytes of small pieces that are asked for together."""

TOGETHER_MOST = 1024
"""Most pieces of one question."""

JPEG_COMPRESSIONS = (6, 7, 33007, 34892)


class PieceDecoder:
    """Decodes strips or tiles of the pages of one series.

    Parameters
    ----------
    page
        The first page.
    find
        Returns a page by its number.
    grid
        How they are cut into pieces.
    """

    def __init__(
        self, page: tifffile.TiffPage, find: Callable[[int], Page], grid: Grid
    ) -> None:
        self._page0, self._find, self._grid = page, find, grid
        self._file = page.parent.filehandle
        self._compression = int(page.compression)
        self._bytes: int = grid.piece_values * np.dtype(page.dtype).itemsize
        self._coming: deque[tuple[int, int]] = deque()
        self._ahead: dict[tuple[int, int], npt.NDArray[Any] | DecodingError] = {}

    def clear(self) -> None:
        """Forget what was decoded ahead."""
        self._coming.clear()
        self._ahead.clear()

    def expect(self, number: int, indices: Iterable[int]) -> None:
        """Say which pieces of a page will be asked for next, in this order."""
        self._coming = deque((number, index) for index in indices)

    def decode(self, number: int, index: int) -> npt.NDArray[Any]:
        """Return one strip or tile: (depth, rows, columns, samples).

        Raises
        ------
        EOFError
            If the file ends before its data do.
        DecodingError
            If they are damaged; in this process, tifffile's own errors pass.
        DecoderLostError, NoDecoderError
            As of `cellunet.io.decoding.DecoderProcess.decode`.
        """
        key = (number, index)
        if key not in self._ahead:
            page = self._find(number)
            if self._grid.tiled and not page.databytecounts[index]:
                shape = (*self._grid.piece, self._grid.samples)
                return np.full(shape, self._page0.nodata, self._page0.dtype)
            if not codec_of(self._compression).isolated:
                encoded = self._encoded(page, index)
                here: npt.NDArray[Any] = self._page0.decode(encoded, index)[0]
                return here
            self._fetch(number, page, index)
        result = self._ahead.pop(key)
        if isinstance(result, DecodingError):
            raise result
        return result

    def _fetch(self, number: int, page: Page, index: int) -> None:
        """Decode a piece, and small ones that are expected after it."""
        pieces = {index: self._encoded(page, index)}
        while self._coming and self._coming[0] != (number, index):
            self._coming.popleft()
        for _, other in list(self._coming)[1 : self._most_together]:
            try:
                pieces[other] = self._encoded(page, other)
            except EOFError:
                # Its turn comes.
                break
        try:
            self._ask(number, page, pieces)
        except DecoderLostError:
            if len(pieces) == 1:
                raise
            # Which of them it was is found by asking for each alone.
            self._coming.clear()
            self._ask(number, page, {index: pieces[index]})

    @property
    def _most_together(self) -> int:
        return min(max(TOGETHER_BYTES // max(self._bytes, 1), 1), TOGETHER_MOST)

    def _ask(self, number: int, page: Page, pieces: dict[int, bytes]) -> None:
        tables = {}
        if self._compression in JPEG_COMPRESSIONS:
            tables = {
                "jpegtables": page.jpegtables,
                "jpegheader": self._page0.jpegheader,
            }
        size = self._bytes * len(pieces)
        results = decode_pieces(self._page0, pieces, tables, size)
        keys = ((number, index) for index in pieces)
        self._ahead = dict(zip(keys, results, strict=True))

    def _encoded(self, page: Page, index: int) -> bytes:
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        self._file.seek(offset)
        encoded: bytes = self._file.read(count)
        if len(encoded) != count or not count:
            raise EOFError(
                f"its pixels go on to byte {offset + max(count, 1):,}, the file ends "
                f"at {self._file.size:,}"
            )
        return encoded


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


NOTED_BYTES = 256 * 2**20
"""From so much memory on, a file is worth a word."""

_MIB = 2**20


def memory_note(
    path: Path, reader: SeriesReader, layout: PlaneLayout, dtype: np.dtype[Any]
) -> str:
    """Return what to know of the memory that a TIFF takes, if that is much.

    Parameters
    ----------
    path
        The file.
    reader
        Reads it.
    layout
        How a plane is put together.
    dtype
        Type of what is read.
    """
    if reader.raw_offset(0) is not None:
        return ""
    if not reader.by_rows and reader.piece_bytes >= NOTED_BYTES:
        return _whole(path, reader.piece_bytes)
    kept = kept_bytes(layout.shape, dtype) * layout.channels
    if shares_rows(reader, layout) and kept >= NOTED_BYTES:
        return (
            f"{path.name} is stored in strips as wide as the image; cellunet keeps "
            f"{kept / _MIB:,.0f} MiB of decoded rows while it reads it. As a tiled "
            "TIFF it takes less."
        )
    return ""


def shares_rows(reader: SeriesReader, layout: PlaneLayout) -> bool:
    """Say whether windows side by side need the same strips, which are not all kept.

    A single piece that is decoded whole is kept as it is.
    """
    decoded = reader.grid.full_width and reader.raw_offset(0) is None
    stored = len(layout.stored(0)) * len({skip for skip, _ in layout.parts})
    return decoded and (reader.by_rows or reader.grid.count > 1 or stored > 1)


def held_bytes(
    reader: SeriesReader, layout: PlaneLayout, dtype: np.dtype[Any], rows: int
) -> int:
    """Return what reading a TIFF holds at once, besides what it returns.

    Parameters
    ----------
    reader, layout, dtype
        As for `memory_note`.
    rows
        Rows of the tallest region that is read.
    """
    row = reader.grid.row_values * reader.dtype.itemsize
    if reader.raw_offset(0) is not None:
        return min(rows, layout.shape[0]) * min(row, LONG_ROW_BYTES)
    # The latest piece comes in, encoded and decoded, before older ones go.
    piece = 0 if reader.by_rows else reader.piece_bytes + reader.encoded_bytes
    piece += _isolated_bytes(reader)
    planes = len({skip for skip, _ in layout.parts})
    if not shares_rows(reader, layout):
        stored = len(layout.stored(0)) * planes * reader.plane_bytes
        return min(max(CACHE_BYTES, reader.piece_bytes), stored) + piece
    held = kept_bytes(layout.shape, dtype, rows) * layout.channels
    step = min(STEP_ROWS, layout.shape[0])
    # Of each projected plane the stored samples, and the maximum so far.
    held += step * planes * row
    held += 2 * step * layout.shape[1] * dtype.itemsize * layout.channels
    if reader.by_rows:
        return held + _states_bytes(reader) + piece
    return held + max(ROWS_CACHE_BYTES, reader.piece_bytes) + piece


def _isolated_bytes(reader: SeriesReader) -> int:
    """Return what the process takes that decodes pieces, if there is one."""
    codec = codec_of(reader.compression)
    if reader.by_rows:
        standard = reader.compression in STANDARD
        return 0 if standard else isolated_bytes(codec, 0, PART_BYTES)
    if not codec.isolated:
        return 0
    # Small pieces are decoded together.
    encoded = max(reader.encoded_bytes, TOGETHER_BYTES)
    decoded = max(reader.piece_bytes, TOGETHER_BYTES)
    return isolated_bytes(codec, encoded, decoded)


def _states_bytes(reader: SeriesReader) -> int:
    """Return what the kept states of decoders of rows take (`strips.StripRows`)."""
    count = reader.grid.count
    kept = min(reader.plane_bytes // MARK_BYTES, MOST_MARKS * count)
    row = reader.grid.row_values * reader.dtype.itemsize
    # With each what is not decoded yet, and less than a row of what is.
    return (kept + min(count, MOST_STREAMS)) * (row + MOST_BYTES + 2 * CHUNK_BYTES)


def whole_note(path: Path, values: int, dtype: np.dtype[Any]) -> str:
    """Return what to know of a file that is decoded whole, if it is large."""
    size = values * dtype.itemsize
    return _whole(path, size) if size >= NOTED_BYTES else ""


def _whole(path: Path, size: int) -> str:
    return (
        f"{path.name} can only be decoded in pieces of {size / _MIB:,.0f} MiB, and "
        "takes that much more memory. As a tiled TIFF it takes less."
    )


def check_limit(path: Path, reader: SeriesReader, limit: int | None) -> None:
    """Refuse a TIFF of which more than `limit` bytes are decoded at once."""
    if reader.raw_offset(0) is None and not reader.by_rows:
        check_whole(path, reader.piece_bytes, limit)


def check_whole(path: Path, size: int, limit: int | None) -> None:
    """Refuse to decode more than `limit` bytes at once.

    Raises
    ------
    ImageReadError
        If `size` is more.
    """
    if limit is not None and size > limit:
        raise ImageReadError(
            f"{path} can only be decoded in pieces of {size:,} bytes; the limit is "
            f"{limit:,}.",
            hint="Allow more memory, or export it again as a tiled TIFF.",
        )
