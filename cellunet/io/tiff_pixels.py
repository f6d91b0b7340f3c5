"""Check and read the pages of a TIFF, region by region: the strips and tiles needed.

All by plain reads, for pages of a memory map count as memory once they are touched.
Uncompressed contiguous pixels are read straight from the file, just the rows asked
for. Anything else is decoded strip by strip or tile by tile, each of them whole, and
the last ones are kept.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import tifffile

from cellunet.bugs import is_bug
from cellunet.errors import CellunetError, ImageReadError
from cellunet.io.decoding import SHARED, codec_of, file_state, isolated_bytes
from cellunet.io.source import (
    KEEP_GOING,
    READ_FAILURES,
    Damage,
    DecoderLostError,
    brief,
    check_claim,
    check_piece,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.io.axes import PlaneLayout
    from cellunet.io.source import DamageLog, PlaneChoice
    from cellunet.io.stacks import Span

    Page: TypeAlias = tifffile.TiffPage | tifffile.TiffFrame


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
        piece = (1, page.rowsperstrip, page.shaped[3])
        if page.is_tiled:
            piece = (page.tiledepth, page.tilelength, page.tilewidth)
        separate, depth, length, width, samples = page.shaped
        return cls(separate, depth, length, width, samples, piece, page.is_tiled)

    @property
    def planes(self) -> int:
        """Stored planes in a page."""
        return self.separate * self.depth

    @property
    def pieces(self) -> tuple[int, int, int]:
        """Strips or tiles of one sample along depth, rows and columns."""
        d, y, x = self.piece
        return -(-self.depth // d), -(-self.length // y), -(-self.width // x)

    @property
    def pieces_called(self) -> str:
        """What messages call several of them."""
        return "tiles" if self.tiled else "strips"

    @property
    def count(self) -> int:
        """Strips or tiles in a page."""
        return self.separate * math.prod(self.pieces)

    @property
    def row_values(self) -> int:
        """Values in one row of a stored plane."""
        return self.width * self.samples

    @property
    def full_width(self) -> bool:
        """Whether every strip or tile is as wide as the image."""
        return self.piece[2] >= self.width

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
        bottom, right = min((row + 1) * y, self.length), min(column * x + x, self.width)
        return sample * self.depth + layer * d, row * y, bottom, column * x, right

    def cover(self, plane: int, rows: Span, columns: Span) -> list[int]:
        """Return the numbers of the strips or tiles that hold a rectangle."""
        sample, z = divmod(plane, self.depth)
        deep, high, wide = self.pieces
        d, y, x = self.piece
        first = (sample * deep + z // d) * high
        return [
            (first + row) * wide + column
            for row in range(rows[0] // y, -(-rows[1] // y))
            for column in range(columns[0] // x, -(-columns[1] // x))
        ]


LONG_ROW_BYTES = 16 * 2**10
"""From rows of this length on, only the asked part of an uncompressed row is read."""

CACHE_BYTES = 64 * 2**20
"""Decoded tiles are kept up to this size; the latest ones always are."""

WINDOW_PX = 1024
"""Less is kept where that holds the tiles of a window of this size, since the next one
takes some of them, and a row of tiles and a quarter, for rows of full width. Tiles that
rows of windows share are decoded again."""

ROWS_CACHE_BYTES = 4 * 2**20
"""The same for strips as wide as the image, whose rows a `RowWindow` keeps."""

TOGETHER_BYTES = 2**20
"""Decoded bytes of small pieces that are decoded together: a question to the process
that decodes takes longer than a small strip does."""

TOGETHER_MOST = 1024
"""Most pieces of one question."""

JPEG_COMPRESSIONS = (6, 7, 33007, 34892)


BEST_RATIO = {1: 1, 5: 2600, 8: 1040, 32946: 1040, 32773: 64}
"""Most decoded bytes that an encoded byte can stand for, by TIFF compression: none;
LZW (a 12-bit code for at most 3,839 bytes: TIFF 6.0, section 13); deflate (1032: zlib's
technical notes); PackBits (128 bytes from 2)."""

FEWEST = 100
"""Where pixels are absent, in a sparse or cut file, one in so many must be there."""

LEAST_SPARSE_BYTES = 2**30
"""Decoded pixels that may all be absent."""

OLD_JPEG = 6
"""The compression whose strips may share bytes (TIFF 6.0, section 22)."""

OTHER_RATIO = 100_000
"""The same for every other compression; Zstandard and LZMA repeat runs cheaply."""


def axes_and_shape(series: tifffile.TiffPageSeries) -> tuple[str, tuple[int, ...]]:
    """Return the axes of a series and their lengths, those of length 1 included."""
    if hasattr(series, "get_axes"):  # tifffile before 2026.5.2
        return series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    return series.axes, series.shape


def _check_pixels(path: Path, keyframe: tifffile.TiffPage) -> None:
    """Refuse a page without pixels, or with values of an unknown type.

    Raises
    ------
    ImageReadError
        If a length is 0, or no dtype fits the bits and the sample format.
    """
    # tifffile reports a length of 0 as a type of None or as an odd shape.
    if keyframe.is_tiled:
        piece = min(keyframe.tilelength, keyframe.tilewidth, keyframe.tiledepth)
    else:
        piece = keyframe.rowsperstrip
    if keyframe.dtype is None or 0 in keyframe.shaped or piece < 1:
        raise ImageReadError(
            f"{path} has no pixels of a type that cellunet knows: "
            f"{_lengths(keyframe.shaped[1:])} of {keyframe.bitspersample} bits, sample "
            f"format {int(keyframe.sampleformat)}.",
            hint="Export it as 8, 16 or 32-bit TIFF.",
        )


def _check_codec(path: Path, keyframe: tifffile.TiffPage) -> None:
    """Refuse a compression that no installed codec undoes.

    Raises
    ------
    ImageReadError
        If there is none: then no part of the image could be read.
    """
    compression = int(keyframe.compression)
    try:
        known = compression == 1 or tifffile.TIFF.DECOMPRESSORS[compression]
    except KeyError:
        known = False
    if not known:
        name = getattr(keyframe.compression, "name", compression)
        raise ImageReadError(
            f"{path} is compressed in a way that cellunet cannot undo ({name}, "
            f"{compression}).",
            hint="Export it again as deflated or uncompressed TIFF.",
        )


def _lengths(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)


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

    Raises
    ------
    ImageReadError
        If it has no pixels, values of an unknown type, or a compression that no codec
        undoes.
    """

    def __init__(
        self, path: Path, series: tifffile.TiffPageSeries, log: DamageLog
    ) -> None:
        self._path, self._series, self._log = path, series, log
        self._page0 = series.keyframe
        _check_pixels(path, self._page0)
        _check_codec(path, self._page0)
        self._file = self._page0.parent.filehandle
        self._state = file_state(path)
        self.grid = Grid.of(self._page0)
        self.dtype: np.dtype[Any] = np.dtype(self._page0.dtype)
        self._starts: dict[int, int | None] = {}
        self.planes_read = 1
        """Stored planes that are read for one of the image."""
        self._cache: OrderedDict[tuple[int, int], npt.NDArray[Any]] = OrderedDict()

    @property
    def compression(self) -> int:
        """The TIFF tag of that name."""
        return int(self._page0.compression)

    @property
    def row_bytes(self) -> int:
        """Bytes of a decoded row of a stored plane."""
        return self.grid.row_values * self.dtype.itemsize

    @property
    def plane_bytes(self) -> int:
        """Bytes of a decoded stored plane."""
        return self.grid.length * self.row_bytes

    @property
    def piece_bytes(self) -> int:
        """Bytes of a decoded strip or tile."""
        return math.prod(self.grid.piece) * self.grid.samples * self.dtype.itemsize

    @property
    def cache_bytes(self) -> int:
        """Most bytes of decoded strips or tiles that are kept."""
        if self.grid.full_width:
            return max(ROWS_CACHE_BYTES, self.piece_bytes)
        _, high, wide = self.grid.piece
        window = (WINDOW_PX // high + 2) * (WINDOW_PX // wide + 2)
        pieces = max(window, self.grid.pieces[2] * 5 // 4) * self.planes_read
        return max(min(CACHE_BYTES, pieces * self.piece_bytes), self.piece_bytes)

    @property
    def encoded_bytes(self) -> int:
        """Bytes of the largest strip or tile of the first page, as it is stored."""
        return int(max(self._page0.databytecounts, default=0))

    def clear(self) -> None:
        """Forget all decoded strips and tiles."""
        self._cache.clear()

    def page(self, number: int) -> Page:
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

    def raw_offset(self, plane: int) -> int | None:
        """Return where the raw pixels of a stored plane start, if they lie in a row."""
        if self._series.dataoffset is not None:
            return int(self._series.dataoffset) + plane * self.plane_bytes
        if not self._page0.is_final:
            return None
        number, inside = divmod(plane, self.grid.planes)
        if number not in self._starts:
            self._starts[number] = _contiguous(self.page(number))
        start = self._starts[number]
        return None if start is None else start + inside * self.plane_bytes

    def check(self, size: int, choice: PlaneChoice) -> None:
        """Compare what the series claims with what the file holds.

        Parameters
        ----------
        size
            Bytes of the file.
        choice
            Whether to let pass that the file ends before its pixels do, and how many
            bytes may be decoded at once.

        Raises
        ------
        ImageReadError
            If pages are missing, the file ends too early, or the claim cannot be true.
        """
        path, grid, series = self._path, self.grid, self._series
        axes, shape = axes_and_shape(series)
        lengths = dict(zip(axes, shape, strict=True))
        samples = math.prod(shape[axes.find("X") + 1 :])
        claimed = lengths.get("Y"), lengths.get("X"), samples
        if claimed != (grid.length, grid.width, grid.samples):
            raise ImageReadError(
                f"{path} has axes {axes} of {_lengths(shape)}, but its pages are "
                f"stored as {_lengths(self._page0.shape)} ({self._page0.axes}).",
                hint="Save it with Y and X as the last two axes.",
            )
        itemsize = self.dtype.itemsize
        planes = math.prod(shape[: axes.find("Y")])
        ratio = BEST_RATIO.get(self.compression, OTHER_RATIO)
        if self._page0.bitspersample != itemsize * 8:
            # Pixels of 1 to 7 or 9 to 15 bits are unpacked to whole bytes.
            ratio *= 8
        if planes * self.plane_bytes > LEAST_SPARSE_BYTES:
            check_claim(path, planes * self.plane_bytes, size, ratio * FEWEST)
        start = series.dataoffset
        if start is not None:
            if not choice.keep_going:
                held = max(size - start, 0)
                check_claim(path, planes * self.plane_bytes, held, 1, KEEP_GOING)
            return
        if planes != len(series) * grid.planes:
            raise ImageReadError(
                f"{path} holds {len(series) * grid.planes} planes, but its metadata "
                f"claims {planes}; it is truncated, or was cropped by another program.",
                hint="Export it again.",
            )
        if self.raw_offset(0) is None:
            check_piece(path, self.piece_bytes, choice.limit_bytes)
        for number in range(len(series)):
            self._check_page(number, size, ratio, keep_going=choice.keep_going)

    def _check_page(
        self, number: int, size: int, ratio: int, *, keep_going: bool
    ) -> None:
        path, page, grid = self._path, self.page(number), self.grid
        if min(len(page.dataoffsets), len(page.databytecounts)) != grid.count or len(
            page.dataoffsets
        ) != len(page.databytecounts):
            found = min(len(page.dataoffsets), len(page.databytecounts))
            raise ImageReadError(
                f"{path} has {found} strips or tiles in page {number}, but its size of "
                f"{_lengths(page.shape)} needs {grid.count}.",
                hint="It is damaged; export it again.",
            )
        # Of Python's integers, because a damaged tag can exceed any type of numpy's.
        offsets, counts = page.dataoffsets, page.databytecounts
        ends = [o + c for o, c in zip(offsets, counts, strict=True)]
        lost = [k for k, end in enumerate(ends) if end > size]
        if lost and not keep_going:
            plane, y0, y1, x0, x1 = grid.place(lost[0])
            raise ImageReadError(
                f"{path} is truncated: page {number} goes on to byte {max(ends):,}, "
                f"the file ends at {size:,}; {len(lost):,} of its {grid.count:,} "
                f"{grid.pieces_called} are not complete, the first at x {x0} to "
                f"{x1 - 1}, y {y0} to {y1 - 1} of plane "
                f"{number * grid.planes + plane}.",
                hint=KEEP_GOING,
            )
        self._check_apart(number)
        claimed, held = grid.planes * self.plane_bytes, min(sum(counts), size)
        if lost or (grid.tiled and 0 in counts):
            there = [c for c, e in zip(counts, ends, strict=True) if c and e <= size]
            claimed, held = len(there) * self.piece_bytes, sum(there)
            if not grid.tiled:
                claimed = min(claimed, grid.planes * self.plane_bytes)
        check_claim(path, claimed, held, ratio)

    def _check_apart(self, number: int) -> None:
        """Refuse strips or tiles of which one begins within another.

        The very same bytes for several tiles are no damage: writers that keep equal
        tiles once do so.
        """
        page, grid = self.page(number), self.grid
        if grid.count == 1 or self.compression == OLD_JPEG:
            return
        starts = np.array(page.dataoffsets, np.float64)
        counts = np.array(page.databytecounts, np.float64)
        order = np.lexsort((counts, starts))
        order = order[counts[order] > 0]
        starts, ends = starts[order], starts[order] + counts[order]
        same = (np.diff(starts) == 0) & (np.diff(ends) == 0)
        wrong = np.flatnonzero((starts[1:] < ends[:-1]) & ~same)
        if len(wrong):
            first, second = (int(order[wrong[0] + k]) for k in (0, 1))
            places = []
            for index in (first, second):
                _, y0, y1, x0, x1 = grid.place(index)
                places.append(f"x {x0} to {x1 - 1}, y {y0} to {y1 - 1}")
            raise ImageReadError(
                f"{self._path} is damaged: two {grid.pieces_called} of page {number} "
                f"share bytes from {int(starts[wrong[0] + 1]):,} on, those at "
                f"{' and '.join(places)}.",
                hint="Export it again.",
            )

    def read(self, plane: int, rows: Span, columns: Span) -> npt.NDArray[Any]:
        """Return the rectangle of a stored plane, shape (height, width, samples).

        Raises
        ------
        ImageReadError
            If a part cannot be read, unless the log keeps going: then it is 0.
        """
        offset = self.raw_offset(plane)
        if offset is not None:
            return self._read_raw(plane, offset, rows, columns)
        (y0, y1), (x0, x1) = rows, columns
        grid = self.grid
        region = np.empty((y1 - y0, x1 - x0, grid.samples), self.dtype)
        number, inside = divmod(plane, grid.planes)
        for index, piece in self._pieces(number, grid.cover(inside, rows, columns)):
            first, top, bottom, left, right = grid.place(index)
            ya, yb, xa, xb = (
                max(y0, top),
                min(y1, bottom),
                max(x0, left),
                min(x1, right),
            )
            part = piece[inside - first, ya - top : yb - top, xa - left : xb - left]
            region[ya - y0 : yb - y0, xa - x0 : xb - x0] = part
        return region

    def _read_raw(
        self, plane: int, offset: int, rows: Span, columns: Span
    ) -> npt.NDArray[Any]:
        """Return a rectangle of a stored plane whose raw pixels start at `offset`."""
        grid, (y0, y1) = self.grid, rows
        first, last = (column * grid.samples for column in columns)
        part = (
            self.row_bytes >= LONG_ROW_BYTES and 2 * (last - first) <= grid.row_values
        )
        begin, end = (first, last) if part else (0, grid.row_values)
        stored = self.dtype.newbyteorder(self._page0.parent.byteorder)
        values = np.zeros((y1 - y0, end - begin), stored)
        # Rows that the file does not hold complete stay 0, the same in every region.
        held = max(0, self._file.size - offset) // self.row_bytes
        if held < y1:
            self._cut_short(plane, held, offset)
        present = values[: max(0, min(y1, held) - y0)]
        for k, run in enumerate(present if part else [present]):
            place = offset + (y0 + k) * self.row_bytes + begin * self.dtype.itemsize
            self._file.seek(place)
            # As bytes: not every element type can be handed over as a buffer.
            got = self._file.readinto(run.reshape(-1).view(np.uint8))
            if got != run.nbytes:
                run[...] = 0
                self._cut_short(plane, (place + got - offset) // self.row_bytes, offset)
        wanted = values if part else values[:, first:last]
        native = np.ascontiguousarray(wanted, self.dtype)
        return native.reshape(y1 - y0, -1, grid.samples)

    def _cut_short(self, plane: int, row: int, offset: int) -> None:
        """Note that the file ends before a row of raw pixels."""
        length, row = self.grid.length, min(row, self.grid.length - 1)
        if not self._log.keep_going:
            raise ImageReadError(
                f"{self._path} is truncated: its pixels go on to byte "
                f"{offset + self.plane_bytes:,}, the file ends at "
                f"{self._file.size:,}; row {row:,} of {length:,} is the first that is "
                "missing.",
                hint=KEEP_GOING,
            )
        reason = f"the file ends at byte {self._file.size:,}"
        self._log.note(Damage(plane, row, length, 0, self.grid.width, "rows", reason))

    def _pieces(
        self, number: int, indices: list[int]
    ) -> Iterable[tuple[int, npt.NDArray[Any]]]:
        """Yield strips or tiles of a page: (depth, rows, columns, samples)."""
        together = min(max(TOGETHER_BYTES // self.piece_bytes, 1), TOGETHER_MOST)
        ahead: dict[int, npt.NDArray[Any]] = {}
        for k, index in enumerate(indices):
            key = (number, index)
            if key not in self._cache:
                if index not in ahead:
                    following = indices[k : k + together]
                    missing = [i for i in following if (number, i) not in self._cache]
                    self._make_room(len(missing))
                    ahead = self._decode(number, missing)
                self._cache[key] = ahead.pop(index)
            self._cache.move_to_end(key)
            yield index, self._cache[key]

    def _make_room(self, count: int) -> None:
        """Forget the oldest pieces, so that with so many more not too many are kept."""
        most = max(self.cache_bytes // self.piece_bytes - count, 0)
        while len(self._cache) > most:
            self._cache.popitem(last=False)

    def _decode(self, number: int, indices: list[int]) -> dict[int, npt.NDArray[Any]]:
        """Return strips or tiles; zeros for what is lost, if the log keeps going."""
        page, found, encoded = self.page(number), {}, {}
        for index in indices:
            try:
                if self.grid.tiled and not page.databytecounts[index]:
                    shape = (*self.grid.piece, self.grid.samples)
                    found[index] = np.full(shape, self._page0.nodata, self.dtype)
                else:
                    encoded[index] = self._encoded(page, index)
            except EOFError as error:
                found[index] = self._lost(number, index, error)
        decode = self._apart if codec_of(self.compression).isolated else self._here
        for index, result in decode(page, encoded):
            if isinstance(result, Exception):
                found[index] = self._lost(number, index, result)
            else:
                found[index] = result
        return found

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

    def _here(self, page: Page, encoded: dict[int, bytes]) -> Iterable[tuple[int, Any]]:
        """Yield strips or tiles that are decoded in this process, or their errors."""
        del page
        for index, data in encoded.items():
            try:
                yield index, self._page0.decode(data, index)[0]
            except (CellunetError, MemoryError):
                raise
            except READ_FAILURES as error:
                if is_bug(error):
                    raise
                yield index, error

    def _apart(
        self, page: Page, encoded: dict[int, bytes]
    ) -> Iterable[tuple[int, npt.NDArray[Any] | Exception]]:
        """Yield strips or tiles that another process decodes, or their errors."""
        if not encoded:
            return
        tables = {}
        if self.compression in JPEG_COMPRESSIONS:
            given = {
                "jpegtables": page.jpegtables,
                "jpegheader": self._page0.jpegheader,
            }
            tables = {name: table and table.hex() for name, table in given.items()}
        directory = str(self._path.absolute()), self._state, int(self._page0.offset)
        calls = [(data, k, *directory, tables) for k, data in encoded.items()]
        codec, size = codec_of(self.compression), self.piece_bytes * len(encoded)
        try:
            yield from zip(
                encoded, SHARED.decode(codec.name, "tiff", calls, size), strict=True
            )
        except DecoderLostError as error:
            if len(encoded) == 1:
                yield next(iter(encoded)), error
                return
            # Which of them it was is found by asking for each alone.
            for index, data in encoded.items():
                yield from self._apart(page, {index: data})

    def _lost(self, number: int, index: int, error: Exception) -> npt.NDArray[Any]:
        """Note that a strip or tile is lost; return what stands there."""
        plane, y0, y1, x0, x1 = self.grid.place(index)
        what = self.grid.pieces_called.removesuffix("s")
        plane += number * self.grid.planes
        self._log.note(Damage(plane, y0, y1, x0, x1, what, brief(error)), error)
        return np.zeros((*self.grid.piece, self.grid.samples), self.dtype)


def _contiguous(page: Page) -> int | None:
    """Return where a page's pixels start if its strips follow each other, else None."""
    offsets, counts = page.dataoffsets, page.databytecounts
    ends = [o + c for o, c in zip(offsets, counts, strict=True)]
    if list(offsets[1:]) != ends[:-1] or 0 in counts:
        return None
    return int(offsets[0])


STEP_ROWS = 256
"""Rows that are decoded at once: so many, in whole strips, or one strip."""


def shares_rows(reader: SeriesReader, layout: PlaneLayout) -> bool:
    """Say whether windows side by side need the same strips, which are not all kept.

    A single piece is kept as it is.
    """
    decoded = reader.grid.full_width and reader.raw_offset(0) is None
    return decoded and (reader.grid.count > 1 or stored_planes(layout) > 1)


def stored_planes(layout: PlaneLayout) -> int:
    """Return how many stored planes are read for one plane."""
    return len(layout.stored(0)) * len({skip for skip, _ in layout.parts})


def step_rows(reader: SeriesReader) -> int:
    """Return how many rows of strips are decoded at once, so that none is twice."""
    return reader.grid.piece[1] * max(STEP_ROWS // reader.grid.piece[1], 1)


def held_bytes(
    reader: SeriesReader, layout: PlaneLayout, dtype: np.dtype[Any], rows: int
) -> int:
    """Return what reading a TIFF holds at once, besides what it returns.

    Parameters
    ----------
    reader
        Reads it.
    layout
        How a plane is put together.
    dtype
        Type of what is read.
    rows
        Rows of the tallest region that is read.
    """
    height, width = layout.shape
    if reader.raw_offset(0) is not None:
        return min(rows, height) * min(reader.row_bytes, LONG_ROW_BYTES)
    planes = len({skip for skip, _ in layout.parts})
    stored = stored_planes(layout) * reader.plane_bytes
    held = reader.encoded_bytes
    held += max(reader.piece_bytes, min(reader.cache_bytes, stored))
    codec = codec_of(reader.compression)
    if codec.isolated:
        # Small pieces are decoded together.
        sizes = (reader.encoded_bytes, reader.piece_bytes)
        held += isolated_bytes(codec, *(max(n, TOGETHER_BYTES) for n in sizes))
    if not shares_rows(reader, layout):
        return held
    # Of each projected plane the stored samples, and the maximum so far.
    step = step_rows(reader)
    kept = min((-(-rows // step) + 1) * step, height)
    row = layout.channels * width * dtype.itemsize
    return held + kept * row + min(step, height) * (planes * reader.row_bytes + 2 * row)
