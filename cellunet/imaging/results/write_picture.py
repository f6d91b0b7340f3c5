"""Outlines drawn over an image, as PNG, from bands of rows.

A small plane is enlarged and drawn whole (`cellunet.imaging.overlay.draw`); of a large
one, which is drawn at its own size, only one band of rows is held at a time.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.imaging.atomic import PendingFile, close_unwanted, writing
from cellunet.imaging.overlay import (
    LINE_GREY,
    LINES_PX,
    TRUTH,
    draw,
    enlargement,
    grey_between,
    outlines,
)
from cellunet.imaging.png import write_png

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

PNG_LEVEL = 6
"""Of deflate."""


class PngRows:
    """A PNG in 8-bit colour whose rows come from top to bottom.

    Portable Network Graphics (ISO/IEC 15948:2003): chunks IHDR, IDAT and IEND; every
    row without a filter.

    Parameters
    ----------
    path
        Where it is to appear.
    shape
        Height and width in pixels.
    """

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self._height, self._width = shape
        self._done = 0
        self._packer = zlib.compressobj(PNG_LEVEL)
        self._pending = PendingFile(path)
        with writing(path):
            self._file = self._pending.temporary.open("wb")
            self._file.write(b"\x89PNG\r\n\x1a\n")
        header = struct.pack(">IIBBBBB", self._width, self._height, 8, 2, 0, 0, 0)
        self._chunk(b"IHDR", header)

    def _chunk(self, name: bytes, content: bytes) -> None:
        check = zlib.crc32(name + content)
        with writing(self._pending.path):
            self._file.write(struct.pack(">I", len(content)) + name + content)
            self._file.write(struct.pack(">I", check))

    def write(self, rows: npt.NDArray[np.uint8]) -> None:
        """Append rows, YXC of three channels."""
        filtered = np.zeros((len(rows), 1 + 3 * self._width), np.uint8)
        filtered[:, 1:] = rows.reshape(len(rows), -1)
        self._done += len(rows)
        packed = self._packer.compress(filtered.tobytes())
        if packed:
            self._chunk(b"IDAT", packed)

    def commit(self) -> None:
        """Make the complete file appear."""
        if self._done != self._height:
            raise ValueError(f"{self._done} of {self._height} rows were written")
        self._chunk(b"IDAT", self._packer.flush())
        self._chunk(b"IEND", b"")
        with writing(self._pending.path):
            self._file.close()
        self._pending.commit()

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        close_unwanted(self._file)
        self._pending.abort()


class OutlinePicture:
    """One plane in grey with the outlines of its objects, rows from top to bottom.

    Parameters
    ----------
    path
        Where the PNG is to appear.
    shape
        Height and width of the plane.
    limits
        Values that become black and white where the plane is drawn band by band.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int], limits: tuple[float, float]
    ) -> None:
        self._path, self._limits = path, limits
        small = enlargement(shape, LINES_PX) > 1
        self._rows = None if small else PngRows(path, shape)
        self._kept: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
        self._above = 0
        """Rows at the start of what is kept that were drawn already."""

    def write(self, image: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
        """Take the next rows of both, YX."""
        if self._rows is None:
            self._kept.append((image, labels))
            return
        # The last row waits for the one below it, and stays for the one after that.
        if self._kept:
            image, labels = (
                np.concatenate(pair)
                for pair in zip(self._kept[0], (image, labels), strict=True)
            )
        self._draw(image, labels, self._above, len(labels) - 1)
        keep = max(len(labels) - 2, 0)
        self._above = min(len(labels) - 1, 1)
        self._kept = [(image[keep:].copy(), labels[keep:].copy())]

    def _draw(
        self, image: npt.NDArray[Any], labels: npt.NDArray[Any], first: int, end: int
    ) -> None:
        if self._rows is None or end <= first:
            return
        grey = grey_between(image[first:end], *self._limits)
        canvas = np.repeat(np.rint(LINE_GREY * grey).astype(np.uint8)[..., None], 3, 2)
        canvas[outlines(labels)[first:end]] = TRUTH
        self._rows.write(canvas)

    def commit(self) -> None:
        """Make the picture appear."""
        if self._rows is None:
            image, labels = (
                np.concatenate(part) for part in zip(*self._kept, strict=True)
            )
            write_png(self._path, draw(image, labels))
            return
        ((image, labels),) = self._kept
        self._draw(image, labels, self._above, len(labels))
        self._rows.commit()

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        if self._rows is not None:
            self._rows.abort()
