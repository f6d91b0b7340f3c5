"""The confidence of a plane's objects, added up while labels pass by.

For those who need it of every object at once, in the order of their labels; a table of
objects gets it from `cellunet.imaging.measure`. What it is: see
`cellunet.imaging.objects.evidence`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.imaging.measure import EVIDENCE_TOP
from cellunet.imaging.pieces import pieces

if TYPE_CHECKING:
    import numpy.typing as npt


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

    def add(self, labels: npt.NDArray[Any], evidence: npt.NDArray[np.uint8]) -> None:
        """Take rows of labels and of evidence, YX both."""
        for piece in pieces(labels.shape):
            # Most pixels are background, which has no confidence.
            there, sure = labels[piece], evidence[piece]
            inside = np.flatnonzero(there)
            self._sums += np.bincount(
                there.take(inside), sure.take(inside), minlength=len(self._sums)
            )

    def means(self) -> npt.NDArray[np.float64]:
        """Return the confidence of objects 1, 2, ..., from 0 to 1."""
        means: npt.NDArray[np.float64] = self._sums[1:] / self._areas / EVIDENCE_TOP
        return means
