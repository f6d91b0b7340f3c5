"""How certain the network is of each object.

The confidence of an object is the mean, over its pixels, of the probability that the
pixel is not background.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

MEMORY_BYTES = 32 * 2**20
"""Compressed rows beyond this wait on the disk."""
LEVELS = 255
"""Steps that a probability is kept in: an error of 0.002 at the most."""
DEFLATE_LEVEL = 1


class Foreground:
    """One minus the probability of background, kept small until labels are known.

    Planes are added one after the other and asked for in the same order.

    Parameters
    ----------
    folder
        Where an image that is too large for memory waits; an existing folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - `close` closes
            MEMORY_BYTES, dir=str(folder), prefix=".", suffix=".partial"
        )
        self._bands: list[tuple[int, tuple[int, ...]]] = []
        self._next = 0
        self._left: npt.NDArray[np.uint8] = np.empty((0, 0), np.uint8)

    def add(self, y0: int, probabilities: npt.NDArray[np.float32]) -> None:
        """Take the next full-width rows of class probabilities, KYX, background first.

        `y0` is not needed: rows come in order.
        """
        del y0
        levels = np.clip(1 - probabilities[0], 0, 1) * LEVELS + 0.5
        rows = levels.astype(np.uint8)
        packed = imagecodecs.deflate_encode(rows.tobytes(), DEFLATE_LEVEL)
        self._file.write(packed)
        self._bands.append((len(packed), rows.shape))

    def rows(self, count: int) -> npt.NDArray[np.uint8]:
        """Return the next `count` rows, in steps of 1 / `LEVELS`."""
        if not self._next:
            self._file.seek(0)
        while len(self._left) < count:
            length, shape = self._bands[self._next]
            self._next += 1
            data = imagecodecs.deflate_decode(self._file.read(length))
            more = np.frombuffer(data, np.uint8).reshape(shape)
            self._left = np.concatenate([self._left, more]) if len(self._left) else more
        taken, self._left = self._left[:count], self._left[count:]
        return taken

    def close(self) -> None:
        """Give the memory back."""
        self._file.close()


class Confidences:
    """Adds up the confidence of one plane's objects, band by band.

    Parameters
    ----------
    areas
        Pixels of objects 1, 2, ...
    """

    def __init__(self, areas: npt.NDArray[np.integer]) -> None:
        self._sums = np.zeros(len(areas) + 1)
        self._areas = areas

    def add(self, labels: npt.NDArray[Any], foreground: npt.NDArray[np.uint8]) -> None:
        """Take rows of labels, and of `Foreground.rows`, YX both."""
        self._sums += np.bincount(
            labels.ravel(), foreground.ravel(), minlength=len(self._sums)
        )

    def means(self) -> npt.NDArray[np.float64]:
        """Return the confidence of objects 1, 2, ..., from 0 to 1."""
        means: npt.NDArray[np.float64] = self._sums[1:] / self._areas / LEVELS
        return means
