"""What is checked in a TIFF before memory is taken for what it claims."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from cellunet.errors import ImageReadError
from cellunet.imaging.damage import KEEP_GOING
from cellunet.imaging.reading import check_claim, check_piece

if TYPE_CHECKING:
    from pathlib import Path

    from cellunet.imaging.tiff.segments import SeriesReader

BEST_RATIO = {1: 1, 5: 2600, 8: 1040, 32946: 1040, 32773: 64}
"""Most decoded bytes that an encoded byte can stand for, by TIFF compression: none;
LZW (a 12-bit code for at most 3,839 bytes: TIFF 6.0, section 13); deflate (1032: zlib's
technical notes); PackBits (128 bytes from 2)."""
FEWEST = 100
"""Where pixels are absent, in a sparse or cut file, one in so many must be there."""
LEAST_BYTES = 2**30
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
    *,
    keep_going: bool = False,
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
    keep_going
        Let pass that the file ends before its pixels do.

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
    if planes * reader.plane_bytes > LEAST_BYTES:
        check_claim(path, planes * reader.plane_bytes, size, ratio * FEWEST)
    start = series.dataoffset
    if start is not None:
        if not keep_going:
            held = max(size - start, 0)
            check_claim(path, planes * reader.plane_bytes, held, 1, KEEP_GOING)
        return
    if planes != len(series) * grid.planes:
        raise ImageReadError(
            f"{path} holds {len(series) * grid.planes} planes, but its metadata claims "
            f"{planes}; it is truncated, or was cropped by another program.",
            hint="Export it again.",
        )
    if not reader.by_rows:
        check_piece(path, reader.piece_bytes)
    for number in range(len(series)):
        _check_page(path, reader, number, (size, ratio), keep_going)


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
