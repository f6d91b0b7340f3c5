"""How sure the network was of an object: one number from its class probabilities.

The confidence of an object is the mean, over its pixels, of the probability of the
likeliest class there. Inside a clear nucleus that is near 1, at its rim lower; a dim
object, one that the network half sees, or two that it cannot part have many pixels of
which it is not sure. It works alike for every target. Among simple definitions it told
right from wrong objects best (``python benchmarks/confidence.py``, figures in
``docs/outputs.md``). It ranks objects; it is not calibrated to be a probability.

Per pixel one byte is kept until the labels are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellunet.imaging.measure import EVIDENCE_TOP

if TYPE_CHECKING:
    import numpy.typing as npt


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
