"""TIFF, OME-TIFF, ImageJ TIFF and BigTIFF files, read by region.

Values are returned as they are stored. A file marked WhiteIsZero is not inverted,
because ImageJ marks images so that are merely shown with an inverting look-up table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellunet.errors import ImageReadError
from cellunet.imaging.axes import lay_out
from cellunet.imaging.channels import combine
from cellunet.imaging.reading import reading
from cellunet.imaging.reading_memory import (
    check_limit,
    held_bytes,
    memory_note,
    shares_rows,
)
from cellunet.imaging.source import Choice
from cellunet.imaging.tiff.row_window import RowWindow
from cellunet.imaging.tiff.series import OpenTiff, open_series

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

    from cellunet.imaging.axes import Layout
    from cellunet.imaging.damage import Damage
    from cellunet.imaging.source import Region

LOOK_PX = 512
"""Part of a colour image that is looked at to see whether it is really gray."""


class TiffSource:
    """One TIFF file as a `cellunet.imaging.source.Source`.

    Made by `open_tiff`. The file is closed until the first `read`.
    """

    def __init__(self, path: Path, choice: Choice) -> None:
        file = open_series(path, choice)
        try:
            layout = lay_out(file.stack, choice, lambda: _equal_colours(file))
        finally:
            file.close()
        self.path = path
        self.shape = layout.shape
        self.dtype = _result_dtype(file, layout)
        self.plane_axes = layout.plane_axes
        self.plane_shape = layout.plane_shape
        self.channels = layout.channels
        self.channel_names = layout.channel_names
        self.file_channels = layout.file_channels
        self.pixel_size_um = file.pixel_size_um
        self.z_step_um, self.time_step_s = file.steps
        self.origin = file.origin
        cut = file.cut_from
        self.cut_from = None if cut is None else cut.only(layout.channel_names)
        self.memory_note = memory_note(path, file.reader, layout, self.dtype)
        check_limit(path, file.reader, choice.limit_bytes)
        self._choice, self._layout = choice, layout
        self._stack = file.stack
        self._file: OpenTiff | None = file
        self._window: RowWindow | None = None

    @property
    def damaged(self) -> tuple[Damage, ...]:
        """What could not be read so far; zeros stand there."""
        return self._file.log.noted if self._file is not None else ()

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return a region; see `cellunet.imaging.source.Source`."""
        region.check(self.shape, self._layout.planes)
        rows, columns = (region.y0, region.y1), (region.x0, region.x1)
        with reading(self.path):
            file = self._opened()
            if shares_rows(file.reader, self._layout):
                if self._window is None:
                    self._window = RowWindow(
                        self.shape, self.dtype, self._rows, self.channels
                    )
                result = self._window.read(region.plane, rows, columns)
            else:
                result = self._pixels(file, region.plane, rows, columns)
        pixels = np.ascontiguousarray(result, self.dtype)
        return pixels.reshape(self.channels, *region.shape)

    def held_bytes(self, rows: int) -> int:
        """Return what reading holds; see `cellunet.imaging.source.Source`."""
        with reading(self.path):
            reader = self._opened().reader
            return held_bytes(reader, self._layout, self.dtype, rows)

    def _rows(self, plane: int, y0: int, y1: int) -> npt.NDArray[Any]:
        return self._pixels(self._opened(), plane, (y0, y1), (0, self.shape[1]))

    def _pixels(
        self,
        file: OpenTiff,
        plane: int,
        rows: tuple[int, int],
        columns: tuple[int, int],
    ) -> npt.NDArray[Any]:
        """Return a rectangle of a plane, YX, or CYX of several channels."""
        first, *others = self._layout.stored(plane)
        result = _combined(file, self._layout, first, (rows, columns))
        for stored in others:
            part = _combined(file, self._layout, stored, (rows, columns))
            np.maximum(result, part, out=result)
        return result

    def _opened(self) -> OpenTiff:
        """Return the file, after pickling opened anew."""
        if self._file is None:
            file = open_series(self.path, self._choice)
            if (file.stack, _result_dtype(file, self._layout)) != (
                self._stack,
                self.dtype,
            ):
                raise ImageReadError(
                    f"{self.path} has changed since it was opened.", hint="Run again."
                )
            self._file = file
        return self._file

    def close(self) -> None:
        """Close the file and forget what was decoded; `read` opens it again."""
        if self._file is not None:
            self._file.close()
        self._window = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_window": None}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_tiff(path: Path, choice: Choice) -> TiffSource:
    """Read the metadata of a TIFF and check what it claims.

    Raises
    ------
    ImageReadError
        If the file is not a TIFF, is damaged, truncated or of a kind that is not
        known, or if a channel must be chosen.
    """
    with reading(path):
        return TiffSource(path, choice)


def _result_dtype(file: OpenTiff, layout: Layout) -> np.dtype[Any]:
    if layout.gray:
        return np.dtype(np.float32)
    if file.palette is not None or file.reader.dtype == np.bool_:
        return np.dtype(np.uint8)
    return file.reader.dtype


def _combined(
    file: OpenTiff,
    layout: Layout,
    stored: int,
    window: tuple[tuple[int, int], tuple[int, int]],
) -> npt.NDArray[Any]:
    """Return the channels of a rectangle of one stored plane, as `combine` does."""
    if layout.channels > 1:
        return _together(file, layout, stored, window)
    pixels: dict[int, npt.NDArray[Any]] = {}
    for skip, _ in layout.parts:
        if skip not in pixels:
            pixels[skip] = file.pixels(stored + skip, *window)
    parts = [pixels[skip][..., sample] for skip, sample in layout.parts]
    return combine(parts, layout.gray)


def _together(
    file: OpenTiff,
    layout: Layout,
    stored: int,
    window: tuple[tuple[int, int], tuple[int, int]],
) -> npt.NDArray[Any]:
    """Return several channels, CYX; of those read apart one is held beside them."""
    (y0, y1), (x0, x1) = window
    shape = (layout.channels, y1 - y0, x1 - x0)
    result = np.empty(shape, _result_dtype(file, layout))
    for skip in dict.fromkeys(skip for skip, _ in layout.parts):
        pixels = file.pixels(stored + skip, *window)
        for number, (where, sample) in enumerate(layout.parts):
            if where == skip:
                result[number] = pixels[..., sample]
    return result


def _equal_colours(file: OpenTiff) -> bool:
    """Say whether red, green and blue are equal around the first plane's centre."""
    layout = lay_out(file.stack, Choice(gray=True))
    spans = []
    for length in layout.shape:
        first = max(0, length - LOOK_PX) // 2
        spans.append((first, min(length, first + LOOK_PX)))
    first_plane = layout.stored(0)[0]
    red, green, blue = (
        file.pixels(first_plane + skip, *spans)[..., sample]
        for skip, sample in layout.parts
    )
    return bool(np.array_equal(red, green) and np.array_equal(red, blue))
