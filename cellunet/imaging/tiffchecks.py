"""What is checked in a TIFF before memory is taken for what it claims."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

from cellunet.errors import ImageReadError
from cellunet.imaging.reading import check_claim, check_piece

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    import tifffile

    from cellunet.imaging.segments import SeriesReader

BEST_RATIO = {1: 1, 5: 2600, 8: 1040, 32946: 1040, 32773: 64}
"""Most decoded bytes that an encoded byte can stand for, by TIFF compression: none;
LZW (a 12-bit code for at most 3,839 bytes: TIFF 6.0, section 13); deflate (1032: zlib's
technical notes); PackBits (128 bytes from 2)."""
OTHER_RATIO = 100_000
"""The same for every other compression; Zstandard and LZMA repeat runs cheaply."""
MAX_TAGS = 4096
"""A directory of more entries than this is damage; tifffile draws the same line."""


def scan_directories(path: Path, size: int) -> None:
    """Walk the chain of image directories once.

    tifffile stops in silence where the chain breaks, and a truncated file would look
    like one with fewer pages.

    Raises
    ------
    ImageReadError
        If a directory lies beyond the end of the file, or the chain runs in a circle.
    """
    with path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack(order + "H", head[2:4])[0] == 43
        kind = order + ("Q" if big else "I")
        place = 8 if big else 4
        offset = struct.unpack_from(kind, head, place)[0]
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise ImageReadError(
                    f"{path} is damaged: its chain of {len(seen)} pages runs in a "
                    "circle.",
                    hint="Export it again.",
                )
            seen.add(offset)
            offset = _next_directory(path, file, offset, (order, kind, size))
    if not seen:
        raise ImageReadError(f"{path} is a TIFF without an image.")


def _next_directory(
    path: Path, file: BinaryIO, offset: int, form: tuple[str, str, int]
) -> int:
    order, kind, size = form
    count_kind, entry = (order + "Q", 20) if kind[1] == "Q" else (order + "H", 12)
    width = struct.calcsize(kind)
    count_width = struct.calcsize(count_kind)
    if offset + count_width <= size:
        file.seek(offset)
        count = struct.unpack(count_kind, file.read(count_width))[0]
        end = offset + count_width + count * entry
        if count <= MAX_TAGS and end + width <= size:
            file.seek(end)
            return int(struct.unpack(kind, file.read(width))[0])
    raise ImageReadError(
        f"{path} is truncated or damaged: a page's directory at byte {offset:,} does "
        f"not fit into its {size:,} bytes.",
        hint="Copy or export it again.",
    )


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


def check_series(
    path: Path, series: tifffile.TiffPageSeries, reader: SeriesReader, size: int
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

    Raises
    ------
    ImageReadError
        If pages are missing, the file ends too early, or the claim cannot be true.
    """
    keyframe, grid = series.keyframe, reader.grid
    axes, shape = series.get_axes(squeeze=False), series.get_shape(squeeze=False)
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
    start = series.dataoffset
    if start is not None:
        check_claim(path, planes * reader.plane_bytes, max(size - start, 0), 1)
        return
    if planes != len(series) * grid.planes:
        raise ImageReadError(
            f"{path} holds {len(series) * grid.planes} planes, but its metadata claims "
            f"{planes}; it is truncated, or was cropped by another program.",
            hint="Export it again.",
        )
    check_piece(path, grid.piece_values * itemsize)
    ratio = BEST_RATIO.get(int(keyframe.compression), OTHER_RATIO)
    if keyframe.bitspersample != itemsize * 8:
        # Pixels of 1 to 7 or 9 to 15 bits are unpacked to whole bytes.
        ratio *= 8
    for number in range(len(series)):
        _check_page(path, reader, number, (size, ratio))


def _check_page(
    path: Path, reader: SeriesReader, number: int, limits: tuple[int, int]
) -> None:
    size, ratio = limits
    page, grid = reader.page(number), reader.grid
    offsets, counts = page.dataoffsets, page.databytecounts
    if len(offsets) != grid.count or len(counts) != grid.count:
        raise ImageReadError(
            f"{path} has {min(len(offsets), len(counts))} strips or tiles in page "
            f"{number}, but its size of {_lengths(page.shape)} needs {grid.count}.",
            hint="It is damaged; export it again.",
        )
    end = max(o + c for o, c in zip(offsets, counts, strict=True))
    if end > size:
        raise ImageReadError(
            f"{path} is truncated: page {number} goes on to byte {end:,}, the file "
            f"ends at {size:,}.",
            hint="Copy or export it again.",
        )
    claimed = grid.planes * reader.plane_bytes
    if grid.tiled and 0 in counts:
        stored = sum(c > 0 for c in counts)
        claimed = stored * grid.piece_values * reader.dtype.itemsize
    check_claim(path, claimed, min(sum(counts), size), ratio)


def _lengths(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
