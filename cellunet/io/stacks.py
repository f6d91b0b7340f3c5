"""Put planes together from those that a file stores, whatever its format.

A file's stored planes lie along its leading axes, each of one channel or with samples
interleaved; `cellunet.io.axes` says which of them make up a plane that is read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.errors import ImageReadError
from cellunet.io.axes import combine, lay_out
from cellunet.io.source import Closing, DamageLog, PlaneChoice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.io.axes import Stack
    from cellunet.io.crops import CropMetadata
    from cellunet.io.source import Damage

Span = tuple[int, int]
"""First row or column, and the one after the last."""

LOOK_PX = 512
"""Part of a color image that is looked at to see whether it is really gray."""


class StackSource(Closing, ABC):
    """What the `cellunet.io.source.Source` of any file of stored planes has in common.

    Parameters
    ----------
    path
        The file.
    choice
        What the user wants of it.
    """

    cut_from: CropMetadata | None = None

    def __init__(self, path: Path, choice: PlaneChoice) -> None:
        self.path, self._choice = path, choice
        self._log = DamageLog(path, keep_going=choice.keep_going)

    @abstractmethod
    def _stored(self, plane: int, rows: Span, columns: Span) -> npt.NDArray[Any]:
        """Return a rectangle of a stored plane: YX, or with samples behind."""

    def _take(self, stack: Stack, dtype: np.dtype[Any]) -> None:
        """Work out what is read of a stack of values of a type."""
        layout = lay_out(stack, self._choice, lambda: self._colors(stack))
        self._stack, self._stored_dtype, self._layout = stack, dtype, layout
        self.shape, self.channels = layout.shape, layout.channels
        self.dtype = np.dtype(np.float32) if layout.gray else dtype
        self.plane_axes, self.plane_shape = layout.plane_axes, layout.plane_shape
        self.channel_names = layout.channel_names
        self.file_channels = layout.file_channels

    @property
    def damaged(self) -> tuple[Damage, ...]:
        """What could not be read so far; zeros stand there."""
        return self._log.noted

    def _has_changed(self) -> ImageReadError:
        return ImageReadError(
            f"{self.path} has changed since it was opened.", hint="Run again."
        )

    def _pixels(self, plane: int, rows: Span, columns: Span) -> npt.NDArray[Any]:
        """Return a rectangle of a plane, CYX.

        A maximum is that of the values that are finite, and NaN where none is.
        """
        first, *others = self._layout.stored(plane)
        result = self._channels(first, rows, columns)
        if others:
            _forget_infinite(result)
        for stored in others:
            part = self._channels(stored, rows, columns)
            _forget_infinite(part)
            np.fmax(result, part, out=result)
        return result

    def _channels(self, stored: int, rows: Span, columns: Span) -> npt.NDArray[Any]:
        """Return the channels of a rectangle of one stored plane, CYX."""
        layout, shape = self._layout, (rows[1] - rows[0], columns[1] - columns[0])
        parts = np.empty((len(layout.parts), *shape), self._stored_dtype)
        # Of those that are stored apart one is held beside the result.
        for skip in dict.fromkeys(skip for skip, _ in layout.parts):
            pixels = self._stored(stored + skip, rows, columns)
            for number, (where, sample) in enumerate(layout.parts):
                if where == skip:
                    parts[number] = pixels if pixels.ndim == 2 else pixels[..., sample]
        return combine(list(parts), gray=True)[np.newaxis] if layout.gray else parts

    def _colors(self, stack: Stack) -> list[npt.NDArray[Any]]:
        """Return red, green and blue around the first plane's center."""
        layout = lay_out(stack, PlaneChoice(gray=True))
        spans = []
        for length in layout.shape:
            first = max(0, length - LOOK_PX) // 2
            spans.append((first, min(length, first + LOOK_PX)))
        rows, columns = spans
        plane = layout.stored(0)[0]
        skips = dict.fromkeys(skip for skip, _ in layout.parts)
        looked = {skip: self._stored(plane + skip, rows, columns) for skip in skips}
        return [looked[skip][..., sample] for skip, sample in layout.parts]


def _forget_infinite(pixels: npt.NDArray[Any]) -> None:
    if pixels.dtype.kind == "f":
        pixels[np.isinf(pixels)] = np.nan


class RowWindow:
    """Keeps the latest full-width rows of a plane.

    Windows side by side need the same full-width strips, and rows of windows overlap.
    What was decoded for one is kept for the next, as pixels of the channels that are
    read, whatever else the strips hold.

    Parameters
    ----------
    shape
        Height and width of a plane.
    step
        Rows to load at once.
    load
        ``load(plane, rows, columns)`` returns a rectangle, CYX.
    wide
        Columns to load at once; all where it is not given.
    most
        Steps to keep; as many as what is read touches where it is not given.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        step: int,
        load: Callable[[int, Span, Span], npt.NDArray[Any]],
        *,
        wide: int | None = None,
        most: int | None = None,
    ) -> None:
        self._shape, self._step, self._load = shape, step, load
        self._wide, self._most = wide or shape[1], most
        # One room is used again and again: what is freed in between stays in memory.
        self._room: npt.NDArray[Any] = np.empty((0, 0, 0, 0))
        self._held: list[tuple[int, int] | None] = []

    def read(self, plane: int, rows: Span, columns: Span) -> npt.NDArray[Any]:
        """Return a rectangle of a plane as a new array, CYX."""
        first, last = rows[0] // self._step, -(-rows[1] // self._step)
        most = (rows[1] - rows[0] + self._step - 2) // self._step + 1
        most = min(most, self._most or most)
        if most > len(self._held):
            self._held = [None] * most
            self._room = np.empty((0, 0, 0, 0))
        found: npt.NDArray[Any] = np.empty((0, 0, 0))
        for k in range(first, last):
            top = k * self._step
            # Copied at once, because the next step may take its place.
            band = self._band(plane, k)
            if k == first:
                size = len(band), rows[1] - rows[0], columns[1] - columns[0]
                found = np.empty(size, band.dtype)
            y0, y1 = max(rows[0], top), min(rows[1], top + self._step)
            part = band[:, y0 - top : y1 - top, slice(*columns)]
            found[:, y0 - rows[0] : y1 - rows[0]] = part
        return found

    def _band(self, plane: int, k: int) -> npt.NDArray[Any]:
        """Return the rows of one step."""
        slot, (height, width) = k % len(self._held), self._shape
        if self._held[slot] != (plane, k):
            self._held[slot] = None
            top = k * self._step
            rows = top, min(top + self._step, height)
            for x0 in range(0, width, self._wide):
                columns = x0, min(x0 + self._wide, width)
                new = self._load(plane, rows, columns)
                if not self._room.size:
                    size = len(self._held), len(new), min(self._step, height), width
                    self._room = np.empty(size, new.dtype)
                self._room[slot, :, : new.shape[1], slice(*columns)] = new
            self._held[slot] = plane, k
        band: npt.NDArray[Any] = self._room[slot]
        return band
