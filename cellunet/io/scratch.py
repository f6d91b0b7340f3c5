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

import contextlib
import logging
import math
import os
import shutil
import tempfile
import threading
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import imagecodecs
import numpy as np

from cellunet.errors import OutputError
from cellunet.io.files import close_unwanted, partial_path, writing
from cellunet.io.source import Closing

if TYPE_CHECKING:
    from collections.abc import Sequence

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


@dataclass(frozen=True)
class _InFile:
    """An array in a file of its own."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


Kept: TypeAlias = "npt.NDArray[Any] | _OnDisk | _InFile"
"""What stands for an array that was put aside."""


class ArrayStore(Protocol):
    """Where arrays of a plane wait: a `Scratch`, or one that several machines share."""

    def keep(self, array: npt.NDArray[Any], name: str) -> Kept:
        """Put an array aside under a name that no other has."""
        ...

    def fetch(self, kept: Kept) -> npt.NDArray[Any]:
        """Return an array that was put aside; it is not to be changed."""
        ...

    def forget(self, kept: Kept) -> None:
        """Give back the memory of an array."""
        ...


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

    def keep(self, array: npt.NDArray[Any], name: str = "") -> Kept:
        """Put an array aside; `array` must not change afterwards, `name` is not needed.

        Raises
        ------
        OutputError
            If there is no room on the disk.
        """
        del name
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
        if isinstance(kept, _InFile):
            raise TypeError(f"{kept} lies in another scratch")
        with self._lock, writing(*self._writes):
            if self._file is None:
                raise ValueError("the scratch was closed")
            self._file.seek(kept.offset)
            packed = self._file.read(kept.length)
        return _unpacked(packed, kept)

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


def _unpacked(packed: bytes, kept: _OnDisk | _InFile) -> npt.NDArray[Any]:
    size = math.prod(kept.shape) * kept.dtype.itemsize
    flat = np.frombuffer(imagecodecs.zstd_decode(packed, out=size), kept.dtype)
    return flat.reshape(kept.shape)


@dataclass(frozen=True)
class SharedScratch:
    """Room in a folder that several machines see: an array is a file of its own.

    A file appears when it is complete, so that one that is there is done, whoever
    wrote it. The folder is made and removed by whoever has it made.
    """

    folder: Path

    def keep(self, array: npt.NDArray[Any], name: str) -> Kept:
        """Put an array aside; see `ArrayStore`.

        Raises
        ------
        OutputError
            If there is no room on the disk, or the folder is not there.
        """
        if not self.folder.is_dir():
            raise OutputError(
                f"There is no folder {self.folder} here.",
                hint="All workers must see the folder of the results by the same path; "
                f"{SETTING} names another folder for what is on its way.",
            )
        path = self.folder / name
        with writing(path, SETTING):
            # Not flushed to the disk, which takes as long as a block: a file that a
            # loss of power leaves empty is no file.
            temporary = partial_path(path)
            temporary.write_bytes(imagecodecs.zstd_encode(array.tobytes(), LEVEL))
            temporary.replace(path)
        return _InFile(name, array.shape, array.dtype)

    def find(
        self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike
    ) -> Kept | None:
        """Return an array that was put aside before, None if there is none."""
        with contextlib.suppress(FileNotFoundError):
            if (self.folder / name).stat().st_size:
                return _InFile(name, shape, np.dtype(dtype))
        return None

    def fetch(self, kept: Kept) -> npt.NDArray[Any]:
        """Return an array that was put aside; see `ArrayStore`.

        Raises
        ------
        OutputError
            If it is not there, or damaged.
        """
        if isinstance(kept, np.ndarray):
            return kept
        if isinstance(kept, _OnDisk):
            raise TypeError(f"{kept} lies in another scratch")
        path = self.folder / kept.name
        try:
            return _unpacked(path.read_bytes(), kept)
        except OSError as error:
            raise OutputError(
                f"{path} cannot be read ({error.strerror}).",
                hint="All workers must see this folder by the same path, and nobody "
                "may remove it meanwhile. The same command continues.",
            ) from error
        except imagecodecs.ZstdError as error:
            raise OutputError(
                f"{path} is damaged.",
                hint="Remove it: the same command computes it again.",
            ) from error

    def forget(self, kept: Kept) -> None:
        """Do nothing: files stay until the folder goes, for who has to begin again."""


@dataclass(frozen=True)
class KeptTile:
    """An array that was put aside, and where it lies in the plane."""

    y0: int
    x0: int
    kept: Kept

    @property
    def ends(self) -> tuple[int, int]:
        """The row below it, and the column to the right."""
        height, width = self.kept.shape
        return self.y0 + height, self.x0 + width


def assembled(
    rectangles: Sequence[KeptTile],
    y0: int,
    y1: int,
    x0: int,
    x1: int,
    *,
    room: ArrayStore,
) -> npt.NDArray[Any]:
    """Return rows y0 <= y < y1, columns x0 <= x < x1; it is not to be changed.

    Parameters
    ----------
    rectangles
        That cover it, from `PlaneStore.within`.
    y0, y1, x0, x1
        Which pixels.
    room
        Where the rectangles were put aside.
    """
    out: npt.NDArray[Any] | None = None
    for part in rectangles:
        array = room.fetch(part.kept)
        if (part.y0, part.x0, *part.ends) == (y0, x0, y1, x1):
            return array
        if out is None:
            out = np.empty((y1 - y0, x1 - x0), array.dtype)
        top, bottom = max(part.y0, y0), min(part.ends[0], y1)
        left, right = max(part.x0, x0), min(part.ends[1], x1)
        out[top - y0 : bottom - y0, left - x0 : right - x0] = array[
            top - part.y0 : bottom - part.y0, left - part.x0 : right - part.x0
        ]
    if out is None:
        raise ValueError(f"nothing was put at {(y0, y1, x0, x1)}")
    return out


class PlaneStore:
    """Rectangles that together cover a plane, row of rectangles by row.

    Those of a row are of one height. What was put in can be read at once, by other
    threads too.

    Parameters
    ----------
    room
        Where they are put aside.
    """

    def __init__(self, room: ArrayStore) -> None:
        self._room = room
        self._rows: list[list[KeptTile]] = []

    def put(self, y0: int, x0: int, array: npt.NDArray[Any]) -> None:
        """Put a rectangle aside, YX, in raster order of their first pixels.

        Raises
        ------
        OutputError
            If there is no room on the disk.
        """
        self.add(y0, x0, self._room.keep(array, ""))

    def add(self, y0: int, x0: int, kept: Kept) -> None:
        """Take a rectangle that was put aside; in the same order."""
        rectangle = KeptTile(y0, x0, kept)
        if self._rows and self._rows[-1][0].y0 == y0:
            self._rows[-1].append(rectangle)
        else:
            self._rows.append([rectangle])

    def holds(self, y1: int, x1: int) -> bool:
        """Return whether all was put that lies above row y1 and left of column x1."""
        rows = self._rows
        place = bisect_left([row[0].y0 for row in rows], y1) - 1
        if place < 0 or rows[place][0].ends[0] < y1:
            return False
        return rows[place][-1].ends[1] >= x1 or place + 1 < len(rows)

    def within(self, y0: int, y1: int, x0: int, x1: int) -> list[KeptTile]:
        """Return the rectangles that hold rows y0 <= y < y1, columns x0 <= x < x1."""
        return [
            rectangle
            for row in _within(self._rows, [r[0].y0 for r in self._rows], y0, y1)
            for rectangle in _within(row, [r.x0 for r in row], x0, x1)
        ]

    def read(self, y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[Any]:
        """Return rows y0 <= y < y1, columns x0 <= x < x1; it is not to be changed."""
        found = self.within(y0, y1, x0, x1)
        return assembled(found, y0, y1, x0, x1, room=self._room)

    def forget(self) -> None:
        """Give back the memory of everything; nothing can be read any more."""
        for row in self._rows:
            for rectangle in row:
                self._room.forget(rectangle.kept)
        self._rows = []


T = TypeVar("T")


def _within(items: list[T], starts: list[int], first: int, stop: int) -> list[T]:
    """Return those of neighboring intervals that hold some of first <= i < stop."""
    return items[max(bisect_right(starts, first) - 1, 0) : bisect_left(starts, stop)]
