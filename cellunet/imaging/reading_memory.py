"""What reading an image takes in memory, said before it is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellunet.errors import ImageReadError
from cellunet.imaging.native.codecs import codec_of
from cellunet.imaging.native.isolated import PART_BYTES, isolated_bytes
from cellunet.imaging.tiff.decoders import CHUNK_BYTES, MOST_BYTES, STANDARD
from cellunet.imaging.tiff.piece_decoder import TOGETHER_BYTES
from cellunet.imaging.tiff.raw_pixels import LONG_ROW_BYTES
from cellunet.imaging.tiff.row_window import STEP_ROWS, kept_bytes
from cellunet.imaging.tiff.segments import CACHE_BYTES, MOST_STREAMS, ROWS_CACHE_BYTES
from cellunet.imaging.tiff.strips import MARK_BYTES, MOST_MARKS

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from cellunet.imaging.axes import Layout
    from cellunet.imaging.tiff.segments import SeriesReader

NOTED_BYTES = 256 * 2**20
"""From so much memory on, a file is worth a word."""
_MIB = 2**20


def memory_note(
    path: Path, reader: SeriesReader, layout: Layout, dtype: np.dtype[Any]
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


def shares_rows(reader: SeriesReader, layout: Layout) -> bool:
    """Say whether windows side by side need the same strips, which are not all kept.

    A single piece that is decoded whole is kept as it is.
    """
    decoded = reader.grid.full_width and reader.raw_offset(0) is None
    stored = len(layout.stored(0)) * len({skip for skip, _ in layout.parts})
    return decoded and (reader.by_rows or reader.grid.count > 1 or stored > 1)


def held_bytes(
    reader: SeriesReader, layout: Layout, dtype: np.dtype[Any], rows: int
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
