"""The confidence of a plane's objects, added up while labels pass by.

For those who need it of every object at once, in the order of their labels; a table of
objects gets it from `cellunet.imaging.measure`. What it is: see
`cellunet.imaging.evidence`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.imaging.measure import EVIDENCE_TOP

if TYPE_CHECKING:
    import numpy.typing as npt


class Confidences:
    """Adds up the confidence of one plane's objects, band by band.

    Parameters
    ----------
    count
        Number of objects.
    """

    def __init__(self, count: int) -> None:
        self._sums = np.zeros(count + 1)
        self._areas = np.zeros(count + 1)

    def add(self, labels: npt.NDArray[Any], evidence: npt.NDArray[np.uint8]) -> None:
        """Take rows of labels, and of `cellunet.imaging.evidence.evidence`, YX both."""
        flat, count = labels.ravel(), len(self._sums)
        self._sums += np.bincount(flat, evidence.ravel(), minlength=count)
        self._areas += np.bincount(flat, minlength=count)

    def means(self) -> npt.NDArray[np.float64]:
        """Return the confidence of objects 1, 2, ..., from 0 to 1."""
        means: npt.NDArray[np.float64] = (
            self._sums[1:] / np.maximum(self._areas[1:], 1) / EVIDENCE_TOP
        )
        return means
