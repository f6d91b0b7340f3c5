"""Validate the image file directories of a TIFF before they are believed."""

from __future__ import annotations

import math
import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from cellunet.errors import ImageReadError
from cellunet.io.source import KEEP_GOING, check_claim, check_piece

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from cellunet.io.source import Choice
    from cellunet.io.tiff_pixels import SeriesReader

MAX_TAGS = 4096
"""A directory of more entries than this is damage; tifffile draws the same line."""

MAX_DEPTH = 4
"""Directories in directories; pyramids need one level of them."""

LEAST_BYTES = 64
"""A directory of an image takes more bytes: a file that names more smaller versions
than it has such pieces names the same ones again and again."""

_SUB_DIRECTORIES = 330
"""The tag of smaller versions of a page (TIFF Technical Note 1)."""

_SOFTWARE, _ASCII = 305, 2

BIO_FORMATS = b"OME Bio-Formats"
"""How the Software tag of files of Bio-Formats' converter begins."""

_SIZES = {3: 2, 4: 4, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of the types that a count or an offset can have (TIFF 6.0; BigTIFF)."""

_WHOLE = {
    256: "ImageWidth",
    257: "ImageLength",
    258: "BitsPerSample",
    259: "Compression",
    273: "StripOffsets",
    277: "SamplesPerPixel",
    278: "RowsPerStrip",
    279: "StripByteCounts",
    322: "TileWidth",
    323: "TileLength",
    324: "TileOffsets",
    325: "TileByteCounts",
}
"""Tags that say where which pixels lie: whole numbers, whatever else is in them."""

_NOT_WHOLE = {2: "text", 5: "fractions", 10: "fractions", 11: "floats", 12: "floats"}
"""Types of tags that are no whole numbers (TIFF 6.0, section 2)."""


def scan_directories(path: Path, size: int) -> None:
    """Walk the chain of image directories, and the smaller versions below them, once.

    tifffile stops in silence where the chain breaks, and a truncated file would look
    like one with fewer pages.

    Raises
    ------
    ImageReadError
        If a directory lies beyond the end of the file, two overlap, or directories
        run in a circle.
    """
    with path.open("rb") as file:
        walk = _Walk(path, file, size)
        offset = walk.first()
        pages: set[int] = set()
        # Bio-Formats' converter ends a part of a split image with the place where it
        # would have written the next directory.
        while offset and not (pages and offset == size and walk.of_bio_formats):
            if offset in pages:
                raise walk.damaged(f"its chain of {len(pages)} pages runs in a circle")
            pages.add(offset)
            offset = walk.visit(offset, ())
    if not pages:
        raise ImageReadError(f"{path} is a TIFF without an image.")
    walk.check_apart()


class _Walk:
    """Reads directories of one file; knows which bytes they take."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self._path, self._file, self._size = path, file, size
        head = file.read(16)
        self._head = head
        self._order = "<" if head[:2] == b"II" else ">"
        self._big = struct.unpack(self._order + "H", head[2:4])[0] == 43
        self._kind = self._order + ("Q" if self._big else "I")
        self._ends: dict[int, int] = {}
        self._named = 0
        self.of_bio_formats = False
        """Whether Bio-Formats wrote the file, by the Software tag of a page."""

    def first(self) -> int:
        """Return where the first directory lies."""
        return int(struct.unpack_from(self._kind, self._head, 8 if self._big else 4)[0])

    def visit(self, offset: int, above: tuple[int, ...]) -> int:
        """Check a directory and what hangs below it; return where the next one lies."""
        if offset in above or len(above) > MAX_DEPTH:
            raise self.damaged("the smaller versions of a page lead back to it")
        known = offset in self._ends
        if known and above:
            return 0
        entries, following = self._read(offset)
        if not known:
            for entry in entries:
                self._check_whole(entry)
                self.of_bio_formats |= self._text(entry, _SOFTWARE) == BIO_FORMATS
                for below in self._sub_directories(entry):
                    self.visit(below, (*above, offset))
        return following

    def _read(self, offset: int) -> tuple[list[bytes], int]:
        count_kind, entry = (self._order + "Q", 20) if self._big else ("", 12)
        count_kind = count_kind or self._order + "H"
        width, count_width = struct.calcsize(self._kind), struct.calcsize(count_kind)
        if offset + count_width <= self._size:
            self._file.seek(offset)
            count = struct.unpack(count_kind, self._file.read(count_width))[0]
            end = offset + count_width + count * entry
            if count <= MAX_TAGS and end + width <= self._size:
                data = self._file.read(count * entry)
                following = struct.unpack(self._kind, self._file.read(width))[0]
                self._ends[offset] = end + width
                entries = [data[k : k + entry] for k in range(0, len(data), entry)]
                return entries, int(following)
        raise ImageReadError(
            f"{self._path} is truncated or damaged: a page's directory at byte "
            f"{offset:,} does not fit into its {self._size:,} bytes.",
            hint="Copy or export it again.",
        )

    def _check_whole(self, entry: bytes) -> None:
        """Refuse a size, place or count that is no whole number, as .5 pixels."""
        tag, kind = struct.unpack_from(self._order + "HH", entry)
        if tag in _WHOLE and kind in _NOT_WHOLE:
            raise self.damaged(
                f"its {_WHOLE[tag]} is stored as {_NOT_WHOLE[kind]}, not as a whole "
                "number"
            )

    def _text(self, entry: bytes, wanted: int) -> bytes:
        """Return the beginning of the text of a tag, empty if this is another one."""
        tag, kind = struct.unpack_from(self._order + "HH", entry)
        count = struct.unpack_from(self._kind, entry, 4)[0]
        if tag != wanted or kind != _ASCII or count <= struct.calcsize(self._kind):
            return b""
        self._file.seek(struct.unpack_from(self._kind, entry, len(entry) // 2 + 2)[0])
        return self._file.read(len(BIO_FORMATS))

    def _sub_directories(self, entry: bytes) -> list[int]:
        """Return where the directories lie that an entry names."""
        tag, kind = struct.unpack_from(self._order + "HH", entry)
        item = _SIZES.get(kind)
        if tag != _SUB_DIRECTORIES or item is None:
            return []
        count = struct.unpack_from(self._kind, entry, 4)[0]
        room = struct.calcsize(self._kind)
        data = entry[4 + room :]
        if count > MAX_TAGS:
            raise self.damaged(f"a page has {count:,} smaller versions")
        self._named += count
        if self._named * LEAST_BYTES > self._size:
            raise self.damaged(
                f"it names {self._named:,} smaller versions or more, too many for its "
                f"{self._size:,} bytes"
            )
        if count * item > room:
            self._file.seek(struct.unpack(self._kind, data)[0])
            data = self._file.read(count * item)
        letter = {2: "H", 4: "I", 8: "Q"}[item]
        whole = data[: min(count, len(data) // item) * item]
        return [o for (o,) in struct.iter_unpack(self._order + letter, whole) if o]

    def damaged(self, what: str) -> ImageReadError:
        """Return the error of directories that cannot be."""
        return ImageReadError(
            f"{self._path} is damaged: {what}.", hint="Export it again."
        )

    def check_apart(self) -> None:
        """Refuse directories of which one begins within another."""
        for (first, end), (second, _) in pairwise(sorted(self._ends.items())):
            if second < end:
                raise self.damaged(
                    f"the directories at bytes {first:,} and {second:,} overlap"
                )


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


def check_pixels(path: Path, keyframe: tifffile.TiffPage) -> None:
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


def check_codec(path: Path, keyframe: tifffile.TiffPage) -> None:
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


def check_series(
    path: Path,
    series: tifffile.TiffPageSeries,
    reader: SeriesReader,
    size: int,
    choice: Choice,
) -> None:
    """Compare what a series claims with what the file holds.

    Parameters
    ----------
    path
        The file, for messages.
    series
        The series that will be read.
    reader
        Its reader.
    size
        Bytes of the file.
    choice
        Whether to let pass that the file ends before its pixels do, and how many bytes
        may be decoded at once.

    Raises
    ------
    ImageReadError
        If pages are missing, the file ends too early, or the claim cannot be true.
    """
    keyframe, grid = series.keyframe, reader.grid
    axes, shape = axes_and_shape(series)
    lengths = dict(zip(axes, shape, strict=True))
    claimed = lengths.get("Y"), lengths.get("X"), math.prod(shape[axes.find("X") + 1 :])
    if claimed != (grid.length, grid.width, grid.samples):
        raise ImageReadError(
            f"{path} has axes {axes} of {_lengths(shape)}, but its pages are stored as "
            f"{_lengths(keyframe.shape)} ({keyframe.axes}).",
            hint="Save it with Y and X as the last two axes.",
        )
    itemsize = reader.dtype.itemsize
    planes = math.prod(shape[: axes.find("Y")])
    ratio = BEST_RATIO.get(int(keyframe.compression), OTHER_RATIO)
    if keyframe.bitspersample != itemsize * 8:
        # Pixels of 1 to 7 or 9 to 15 bits are unpacked to whole bytes.
        ratio *= 8
    if planes * reader.plane_bytes > LEAST_SPARSE_BYTES:
        check_claim(path, planes * reader.plane_bytes, size, ratio * FEWEST)
    start = series.dataoffset
    if start is not None:
        if not choice.keep_going:
            held = max(size - start, 0)
            check_claim(path, planes * reader.plane_bytes, held, 1, KEEP_GOING)
        return
    if planes != len(series) * grid.planes:
        raise ImageReadError(
            f"{path} holds {len(series) * grid.planes} planes, but its metadata claims "
            f"{planes}; it is truncated, or was cropped by another program.",
            hint="Export it again.",
        )
    if reader.raw_offset(0) is None:
        check_piece(path, reader.piece_bytes, choice.limit_bytes)
    for number in range(len(series)):
        _check_page(path, reader, number, (size, ratio), choice.keep_going)


def _check_page(
    path: Path,
    reader: SeriesReader,
    number: int,
    limits: tuple[int, int],
    keep_going: bool,
) -> None:
    size, ratio = limits
    page, grid = reader.page(number), reader.grid
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
            f"{path} is truncated: page {number} goes on to byte {max(ends):,}, the "
            f"file ends at {size:,}; {len(lost):,} of its {grid.count:,} "
            f"{'tiles' if grid.tiled else 'strips'} are not complete, the first at x "
            f"{x0} to {x1 - 1}, y {y0} to {y1 - 1} of plane "
            f"{number * grid.planes + plane}.",
            hint=KEEP_GOING,
        )
    _check_apart(path, reader, number)
    claimed, held = grid.planes * reader.plane_bytes, min(sum(counts), size)
    if lost or (grid.tiled and 0 in counts):
        there = [c for c, end in zip(counts, ends, strict=True) if c and end <= size]
        claimed, held = len(there) * reader.piece_bytes, sum(there)
        if not grid.tiled:
            claimed = min(claimed, grid.planes * reader.plane_bytes)
    check_claim(path, claimed, held, ratio)


def _check_apart(path: Path, reader: SeriesReader, number: int) -> None:
    """Refuse strips or tiles of which one begins within another.

    The very same bytes for several tiles are no damage: writers that keep equal tiles
    once do so.
    """
    page, grid = reader.page(number), reader.grid
    if grid.count == 1 or int(reader.compression) == OLD_JPEG:
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
            f"{path} is damaged: two {'tiles' if grid.tiled else 'strips'} of page "
            f"{number} share bytes from {int(starts[wrong[0] + 1]):,} on, those at "
            f"{' and '.join(places)}.",
            hint="Export it again.",
        )


def _lengths(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
