"""How sure the network was of an object: one number from its class probabilities.

The confidence of an object is the mean, over its pixels, of the probability of the
likeliest class there. Inside a clear nucleus that is near 1, at its rim lower; a dim
object, one that the network half sees, or two that it cannot part have many pixels of
which it is not sure. It works alike for every target. Among simple definitions it told
right from wrong objects best (``python benchmarks/confidence.py``, figures in
``docs/outputs.md``). It ranks objects; it is not calibrated to be a probability.

Per pixel one byte is kept until the labels are known (`Evidence`).
"""

from __future__ import annotations

import tempfile
import zlib
from typing import TYPE_CHECKING, Self

import numpy as np

from cellunet.imaging.atomic import writing
from cellunet.imaging.measure import EVIDENCE_TOP

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

MEMORY_BYTES = 64 * 2**20
"""Compressed evidence beyond this waits on the disk, not in memory."""
LEVEL = 1
"""Of deflate: most pixels are background that the network is sure of."""


def evidence(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return the probability of the likeliest class of each pixel in 255ths.

    Parameters
    ----------
    probabilities
        KYX float32, corrected for the odds of a weighted loss.

    Returns
    -------
    ndarray
        YX uint8.
    """
    top = probabilities.max(axis=0)
    kept: npt.NDArray[np.uint8] = np.rint(top * EVIDENCE_TOP).astype(np.uint8)
    return kept


class Evidence:
    """Evidence of one image, put in and taken out band by band in the same order.

    One byte a pixel, deflated; from `MEMORY_BYTES` on in a temporary file without a
    name, of at most the image's pixels in bytes.

    Parameters
    ----------
    path
        The result that it is for: the temporary file lies in its folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bands: list[tuple[int, tuple[int, int]]] = []
        self._taken = 0
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - `close` closes
                MEMORY_BYTES, dir=str(path.parent), prefix=".", suffix=".partial"
            )

    def put(self, probabilities: npt.NDArray[np.float32]) -> None:
        """Keep the evidence of a band of corrected probabilities, KYX.

        Raises
        ------
        OutputError
            If there is no room.
        """
        band = evidence(probabilities)
        packed = zlib.compress(band.tobytes(), LEVEL)
        self._bands.append((len(packed), (band.shape[0], band.shape[1])))
        with writing(self._path):
            self._file.write(packed)

    def take(self) -> npt.NDArray[np.uint8]:
        """Return the next band, YX; the first one after all were put in."""
        if not self._taken:
            self._file.seek(0)
        length, shape = self._bands[self._taken]
        self._taken += 1
        with writing(self._path):
            packed = self._file.read(length)
        return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape)

    def close(self) -> None:
        """Forget everything."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
