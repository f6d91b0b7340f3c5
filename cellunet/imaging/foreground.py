"""How bright the objects of a plane are, whatever bright dirt lies beside them.

The high percentile of a plane is the brightness of its brightest 0.2 %. A crystal or a
fibre of that size takes it for itself, and all nuclei are then shown to the network far
dimmer than it knows them. On a logarithmic scale such dirt is not far from nuclei, but
nuclei are far from the background: there Otsu's threshold finds the foreground, of
which dirt is a small part. Dirt that is so bright that the threshold finds nothing else
is left out, and what lies below it looked at anew.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

LOG_GAIN = 50.0
"""Gain of the logarithmic scale: log(1 + 50 x) / log(51) lifts a nucleus of 2 % of the
range to 18 %, so that dim nuclei beside bright ones stay visible."""
BINS = 4096
"""Of that scale: 0.1 % of a value at its upper end."""
BRIGHT = 0.9
"""Share of the foreground's pixels that are no brighter than the level returned: high,
so that dim nuclei beside bright ones do not lower it; not so high that dirt sets it."""


DIRT = 0.01
"""Share of the pixels that dirt may cover: as much as two nuclei 48 px wide in a field
of 520 x 696."""
FAR = 10.0
"""Dirt is so many times brighter than the nuclei at least; else it is nuclei too."""


class LogHistogram:
    """Counts of a plane's values between two of them, on a logarithmic scale.

    Parameters
    ----------
    zero, one
        The ends; `one` is below `zero` where objects are dark. What lies beyond counts
        as the nearer end.
    """

    def __init__(self, zero: float, one: float) -> None:
        self._zero, self._span = zero, one - zero
        self._counts = np.zeros(BINS, np.int64)

    def add(
        self,
        values: npt.NDArray[np.generic],
        counts: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Take finite values of any shape, each once or as often as `counts` says."""
        share = (values.astype(np.float64) - self._zero) / self._span
        np.clip(share, 0.0, 1.0, out=share)
        scaled = np.log1p(LOG_GAIN * share) * ((BINS - 1) / math.log1p(LOG_GAIN))
        places = scaled.astype(np.int32).ravel()
        if counts is None:
            self._counts += np.bincount(places, minlength=BINS)
        else:
            np.add.at(self._counts, places, counts)

    def foreground(self, least: float) -> float:
        """Return the level below which 90 % of the foreground's pixels lie, 0 to 1.

        The foreground is what lies above Otsu's threshold of the logarithmic values
        (N. Otsu, IEEE Trans. Syst. Man Cybern. 9, 62-66, 1979). Where that is next to
        nothing, and what lies below it has a foreground far dimmer, that one is it.

        Parameters
        ----------
        least
            Level from which on something stands out from the noise.

        Returns
        -------
        float
            0 if all values lie in one bin.
        """
        level, first = self._above_threshold(BINS)
        total = int(self._counts.sum())
        while 0 < int(self._counts[first:].sum()) < DIRT * total:
            dimmer, below = self._above_threshold(first)
            if dimmer < least or dimmer > level / FAR:
                break
            level, first = dimmer, below
        return level

    def _above_threshold(self, stop: int) -> tuple[float, int]:
        """Return the level of the foreground of the bins below `stop`, and its first.

        The scale is logarithmic anew up to the brightest of these bins.
        """
        counts, places = self._counts[:stop], np.arange(stop)
        if stop < BINS:
            places = np.log1p(LOG_GAIN * _level(places) / _level(stop - 1))
        below, weighted = np.cumsum(counts), np.cumsum(counts * places)
        above = below[-1] - below
        two = np.flatnonzero((below > 0) & (above > 0))
        if not len(two):
            return 0.0, stop
        total = weighted[-1]
        below, weighted, above = below[two], weighted[two], above[two]
        apart = weighted / below - (total - weighted) / above
        # In floats: counts of large planes would overflow as a product.
        between = below.astype(np.float64) * above * apart**2
        first = int(two[np.argmax(between)]) + 1
        up_to = np.cumsum(counts[first:])
        place = first + int(np.searchsorted(up_to, BRIGHT * up_to[-1]))
        return min(float(_level(place)), 1.0), first


def _level(place: npt.NDArray[np.integer] | int) -> npt.NDArray[np.float64]:
    """Return the level, 0 to 1, in the middle of a bin."""
    scaled = (np.asarray(place) + 0.5) / (BINS - 1) * math.log1p(LOG_GAIN)
    level: npt.NDArray[np.float64] = np.expm1(scaled) / LOG_GAIN
    return level
