"""Arrays of a plane that wait on disk or in memory, and the room for them.

What a field leaves behind on its way (marks, evidence, provisional labels) may be
larger than memory. It is kept as it is up to a limit, and beyond it compressed in one
temporary file, which has no name and vanishes with the process, however that ends. It
lies in the folder of the result, or in one of the user's choice.

A band is a few full-width rows; of an image that is one row of ten million pixels it is
the image. What is computed of each pixel takes many times the band itself, so it is
computed piece by piece.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import tempfile
import threading
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, TypeVar

import imagecodecs
import numpy as np

from cellunet.errors import OutputError
from cellunet.io.files import close_unwanted, writing
from cellunet.io.source import Closing

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

logger = logging.getLogger(__name__)

RAW_BYTES_PER_PIXEL = 10
"""What is put aside of each pixel of a plane: marks, evidence, seeds, labels."""

SCRATCH_BYTES_PER_PIXEL = 0.4
"""Of the temporary file; fields of crowded nuclei took 0.33."""

LABEL_BYTES_PER_PIXEL = 0.1
"""Of labels, which lie there twice before they are complete; such fields took 0.05."""

SETTING = "scratch in --config"
"""By which a user chooses the folder."""

PREFIX = ".cellunet"
"""Begins the name of the temporary file, for as long as it has one."""


def check_folder(folder: Path) -> None:
    """Refuse a folder for temporary files that is none, or permits no writing.

    Raises
    ------
    OutputError
        If it cannot be used.
    """
    if not folder.is_dir():
        raise OutputError(
            f"There is no folder {folder} for temporary files.",
            hint=f"Make it, or choose another one with {SETTING}.",
        )
    with writing(folder / PREFIX, SETTING), temporary(folder):
        pass


def check_room(
    output: Path, pixels: int, memory_bytes: int, folder: Path | None = None
) -> None:
    """Tell how much room on the disk an image will take, and refuse if there is none.

    Parameters
    ----------
    output
        The result; its folder exists.
    pixels
        Of all planes.
    memory_bytes, folder
        As of `Scratch`.

    Raises
    ------
    OutputError
        If it does not fit.
    """
    if pixels * RAW_BYTES_PER_PIXEL <= memory_bytes:
        return
    wanted = {output.parent: LABEL_BYTES_PER_PIXEL}
    with writing(output):
        there = folder or output.parent
        if os.path.samestat(there.stat(), output.parent.stat()):
            there = output.parent
        same = there.stat().st_dev == output.parent.stat().st_dev
    if same:
        # Of one disk, and told of one folder: what is taken of it altogether.
        wanted = {there: LABEL_BYTES_PER_PIXEL + SCRATCH_BYTES_PER_PIXEL}
    else:
        wanted[there] = SCRATCH_BYTES_PER_PIXEL
    for place, of_pixel in wanted.items():
        option = "--out" if place == output.parent else SETTING
        _check_disk(output, place, round(pixels * of_pixel / 1e6), option)


def _check_disk(output: Path, place: Path, needed: int, option: str) -> None:
    """Tell that a result takes so many megabytes of a disk, and refuse if it cannot."""
    with writing(output, option):
        free = round(shutil.disk_usage(place).free / 1e6)
    logger.info(
        "%s: about %d MB of %s (%d MB free) are taken until it is finished.",
        output,
        needed,
        place,
        free,
    )
    if needed > free:
        choice = "--out" if option == "--out" else f"{SETTING} or --out"
        raise OutputError(
            f"{output} cannot be written: it takes about {needed:,} MB in "
            f"{place} until it is finished, and {free:,} MB are free there.",
            hint=f"Free space on that disk, or choose another folder with {choice}.",
        )


def temporary(folder: Path) -> IO[bytes]:
    """Return a new file without a name, which vanishes when it is closed."""
    return tempfile.TemporaryFile(dir=folder, prefix=PREFIX, suffix=".partial")


MEMORY_BYTES = 24 * 2**20
"""Arrays beyond this wait on the disk, not in memory."""

LEVEL = 1
"""Of Zstandard: what is put aside is mostly long runs of one value."""


@dataclass(frozen=True)
class _OnDisk:
    """Where an array lies in the file."""

    offset: int
    length: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


Kept: TypeAlias = "npt.NDArray[Any] | _OnDisk"
"""What stands for an array that was put aside."""


class Scratch(Closing):
    """Room for what does not fit into memory. Safe for use by several threads.

    Parameters
    ----------
    output
        The result that it is for: the temporary file lies in its folder, which exists.
        By default it lies in the system's folder for temporary files.
    memory_bytes
        Arrays are kept as they are up to this many bytes.
    folder
        Where the temporary file lies instead.
    """

    def __init__(
        self,
        output: Path | None = None,
        memory_bytes: int = MEMORY_BYTES,
        folder: Path | None = None,
    ) -> None:
        self._output, self._folder = output, folder
        self._room = memory_bytes
        self._file: IO[bytes] | None = None
        self._lock = threading.Lock()
        self.disk_bytes = 0
        """Bytes on the disk."""

    @property
    def _writes(self) -> tuple[Path, str]:
        """What the temporary file lies beside, and the option by which that is chosen.

        Asked for once there is something to write: where all fits into memory, the
        system need have no folder for temporary files.
        """
        if self._folder is not None:
            return self._folder / PREFIX, SETTING
        return self._output or Path(tempfile.gettempdir(), "cellunet"), "--out"

    def store(self) -> PlaneStore:
        """Return a new, empty store for one kind of arrays of one plane."""
        return PlaneStore(self)

    def keep(self, array: npt.NDArray[Any]) -> Kept:
        """Put an array aside; `array` must not change afterwards.

        Raises
        ------
        OutputError
            If there is no room on the disk.
        """
        with self._lock:
            if array.nbytes <= self._room:
                self._room -= array.nbytes
                return array
        packed = imagecodecs.zstd_encode(array.tobytes(), LEVEL)
        with self._lock, writing(*self._writes):
            if self._file is None:
                self._file = temporary(self._writes[0].parent)
            self._file.seek(self.disk_bytes)
            self._file.write(packed)
            kept = _OnDisk(self.disk_bytes, len(packed), array.shape, array.dtype)
            self.disk_bytes += len(packed)
            return kept

    def fetch(self, kept: Kept) -> npt.NDArray[Any]:
        """Return an array that was put aside; it is not to be changed."""
        if isinstance(kept, np.ndarray):
            return kept
        with self._lock, writing(*self._writes):
            if self._file is None:
                raise ValueError("the scratch was closed")
            self._file.seek(kept.offset)
            packed = self._file.read(kept.length)
        size = math.prod(kept.shape) * kept.dtype.itemsize
        flat = np.frombuffer(imagecodecs.zstd_decode(packed, out=size), kept.dtype)
        return flat.reshape(kept.shape)

    def forget(self, kept: Kept) -> None:
        """Give back the memory of an array; what is on the disk stays until the end."""
        if isinstance(kept, np.ndarray):
            with self._lock:
                self._room += kept.nbytes

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            if self._file is not None:
                close_unwanted(self._file)
                self._file = None


@dataclass(frozen=True)
class _Rectangle:
    """An array and where it lies in the plane."""

    x0: int
    width: int
    kept: Kept


@dataclass(frozen=True)
class _Row:
    """Rectangles side by side, of one height."""

    y0: int
    height: int
    rectangles: list[_Rectangle]


class PlaneStore:
    """Rectangles that together cover a plane, row of rectangles by row.

    Made by `Scratch.store`. What was put in can be read at once, by other threads too.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._rows: list[_Row] = []

    def put(self, y0: int, x0: int, array: npt.NDArray[Any]) -> None:
        """Put a rectangle aside, YX, in raster order of their first pixels.

        Raises
        ------
        OutputError
            If there is no room on the disk.
        """
        if not self._rows or self._rows[-1].y0 != y0:
            self._rows.append(_Row(y0, array.shape[0], []))
        kept = self._scratch.keep(array)
        self._rows[-1].rectangles.append(_Rectangle(x0, array.shape[1], kept))

    def holds(self, y1: int, x1: int) -> bool:
        """Return whether all was put that lies above row y1 and left of column x1."""
        rows = self._rows
        place = bisect_left([r.y0 for r in rows], y1) - 1
        if place < 0 or rows[place].y0 + rows[place].height < y1:
            return False
        last = rows[place].rectangles[-1:]
        done = bool(last) and last[0].x0 + last[0].width >= x1
        return done or place + 1 < len(rows)

    def read(self, y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[Any]:
        """Return rows y0 <= y < y1, columns x0 <= x < x1; it is not to be changed."""
        out: npt.NDArray[Any] | None = None
        for row in _within(self._rows, [r.y0 for r in self._rows], y0, y1):
            rectangles = row.rectangles
            for part in _within(rectangles, [r.x0 for r in rectangles], x0, x1):
                array = self._scratch.fetch(part.kept)
                if (row.y0, part.x0, *array.shape) == (y0, x0, y1 - y0, x1 - x0):
                    return array
                if out is None:
                    out = np.empty((y1 - y0, x1 - x0), array.dtype)
                top, bottom = max(row.y0, y0), min(row.y0 + row.height, y1)
                left, right = max(part.x0, x0), min(part.x0 + part.width, x1)
                out[top - y0 : bottom - y0, left - x0 : right - x0] = array[
                    top - row.y0 : bottom - row.y0, left - part.x0 : right - part.x0
                ]
        if out is None:
            raise ValueError(f"nothing was put at {(y0, y1, x0, x1)}")
        return out

    def forget(self) -> None:
        """Give back the memory of everything; nothing can be read any more."""
        for row in self._rows:
            for part in row.rectangles:
                self._scratch.forget(part.kept)
        self._rows = []


T = TypeVar("T")


def _within(items: list[T], starts: list[int], first: int, stop: int) -> list[T]:
    """Return those of neighboring intervals that hold some of first <= i < stop."""
    return items[max(bisect_right(starts, first) - 1, 0) : bisect_left(starts, stop)]


PIECE_PX = 2**18
"""Pixels of a piece, at most."""


CACHED_PX = 2**15
"""Pixels of a piece that is gone through several times: what a processor's cache holds
of a few numbers each."""


def pieces(
    shape: tuple[int, ...], most: int = PIECE_PX
) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of each piece of a band, in raster order.

    A piece is some whole rows, or a part of one row, so that going through the pieces
    and through the rows of each meets every pixel in raster order.

    Parameters
    ----------
    shape
        Height and width of the band.
    most
        Pixels of a piece.

    Examples
    --------
    >>> list(pieces((3, 5), 10))
    [(slice(0, 2, None), slice(0, 5, None)), (slice(2, 3, None), slice(0, 5, None))]
    >>> list(pieces((1, 5), 3))
    [(slice(0, 1, None), slice(0, 3, None)), (slice(0, 1, None), slice(3, 5, None))]
    """
    height, width = shape
    rows, columns = max(most // max(width, 1), 1), max(min(width, most), 1)
    for y in range(0, height, rows):
        for x in range(0, width, columns):
            yield (
                slice(y, min(y + rows, height)),
                slice(x, min(x + columns, width)),
            )
