"""Connected components of a mask, from its runs.

A run is a stretch of pixels in one row. A mask of objects has a few thousand runs where
it has a million pixels, so numpy joins them about as fast as compiled code visits the
pixels, and prediction starts without scipy, whose import takes as long as the network
needs for a field.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Components:
    """The 4-connected components of a mask, numbered from 1 by first pixel.

    Runs are in raster order; run i holds the pixels ``starts[i]`` to ``ends[i] - 1`` of
    the flat mask, and lies in component ``numbers[i]``.
    """

    shape: tuple[int, int]
    starts: npt.NDArray[np.intp]
    ends: npt.NDArray[np.intp]
    numbers: npt.NDArray[np.int32]

    @property
    def count(self) -> int:
        """Return how many components there are."""
        return int(self.numbers.max(initial=0))

    @cached_property
    def areas(self) -> npt.NDArray[np.int64]:
        """Pixels by number; entry 0 is 0."""
        # Weights are sums of whole numbers below 2^53: exact.
        lengths = self.ends - self.starts
        areas = np.bincount(self.numbers, lengths, minlength=self.count + 1)
        return areas.astype(np.int64)

    def labels(self) -> npt.NDArray[np.int32]:
        """Return the number of each pixel, YX int32, 0 outside."""
        # Outside and inside take turns.
        bounds = np.zeros(2 * len(self.starts) + 2, np.intp)
        bounds[1:-1:2], bounds[2:-1:2] = self.starts, self.ends
        bounds[-1] = self.shape[0] * self.shape[1]
        values = np.zeros(2 * len(self.starts) + 1, np.int32)
        values[1::2] = self.numbers
        return np.repeat(values, np.diff(bounds)).reshape(self.shape)

    def pixels(
        self, chosen: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
        """Return the pixels of some components, in raster order, and whose they are.

        Parameters
        ----------
        chosen
            By number.
        """
        runs = np.flatnonzero(chosen.take(self.numbers))
        starts, lengths = self.starts[runs], (self.ends - self.starts)[runs]
        return ranges(starts, lengths), np.repeat(self.numbers[runs], lengths)


def components(mask: npt.NDArray[np.bool_]) -> Components:
    """Return the 4-connected components of a mask, YX.

    Examples
    --------
    >>> mask = np.array([[1, 0, 1], [1, 1, 0], [0, 0, 1]], bool)
    >>> components(mask).labels().tolist()
    [[1, 0, 2], [1, 1, 0], [0, 0, 3]]
    """
    starts, ends = _runs(mask)
    upper, lower = _contacts(starts, ends, mask.shape[1])
    first = _first_of_each(len(starts), upper, lower)
    numbers = np.cumsum(first == np.arange(len(starts)), dtype=np.int32).take(first)
    return Components((mask.shape[0], mask.shape[1]), starts, ends, numbers)


def ranges(
    starts: npt.NDArray[np.intp], lengths: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """Return the numbers of ranges, one range after the other.

    Examples
    --------
    >>> ranges(np.array([5, 2]), np.array([3, 2])).tolist()
    [5, 6, 7, 2, 3]
    """
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def _runs(
    mask: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return where runs start, and the pixel after each, in the flat mask."""
    begins, last = mask.copy(), mask.copy()
    begins[:, 1:] &= ~mask[:, :-1]
    last[:, :-1] &= ~mask[:, 1:]
    return np.flatnonzero(begins), np.flatnonzero(last) + 1


def _contacts(
    starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp], width: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the pairs of runs that touch, one in a row, the other in the next."""
    low = np.searchsorted(ends, starts + width, side="right")
    high = np.searchsorted(starts, ends + width, side="left")
    touched = np.maximum(high - low, 0)
    return np.repeat(np.arange(len(starts)), touched), ranges(low, touched)


def _first_of_each(
    count: int, upper: npt.NDArray[np.intp], lower: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """Return the first run of the component that each run lies in (union-find).

    All sets are joined at once to a set of a lower number that they touch, and all
    paths shortened, until no pair lies in two sets.
    """
    parent = np.arange(count)
    # Backwards, so that the first of several stays.
    parent[lower[::-1]] = upper[::-1]
    while True:
        while not np.array_equal(above := parent.take(parent), parent):
            parent = above
        one, other = parent.take(upper), parent.take(lower)
        apart = np.flatnonzero(one != other)
        if not len(apart):
            return parent
        upper, lower, one, other = (x[apart] for x in (upper, lower, one, other))
        np.minimum.at(parent, np.maximum(one, other), np.minimum(one, other))
