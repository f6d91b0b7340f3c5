"""Connected components of a mask or of equal values, from their runs.

A run is a stretch of equal pixels in one row. A mask of objects has a few thousand runs
where it has a million pixels, so numpy joins them about as fast as compiled code visits
the pixels, and prediction starts without scipy, whose import takes as long as the
network needs for a field.
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
    """Connected components, numbered from 1 by first pixel.

    Runs are in raster order; run i holds the pixels ``starts[i]`` to ``ends[i] - 1`` of
    the flat image, and lies in component ``numbers[i]``.
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


def components(
    values: npt.NDArray[np.generic], *, across_corners: bool = False
) -> Components:
    """Return the connected components of equal values, 0 left out.

    Parameters
    ----------
    values
        YX: a mask, labels or any other whole numbers.
    across_corners
        Whether pixels that touch by a corner are connected, too.

    Examples
    --------
    >>> mask = np.array([[1, 0, 1], [1, 1, 0], [0, 0, 1]], bool)
    >>> components(mask).labels().tolist()
    [[1, 0, 2], [1, 1, 0], [0, 0, 3]]
    >>> components(mask, across_corners=True).count
    1
    >>> components(np.array([[7, 7, 2], [0, 2, 2]])).labels().tolist()
    [[1, 1, 2], [0, 2, 2]]
    """
    height, width = values.shape
    starts, ends = _runs(values)
    upper, lower = _contacts(starts, ends, width, int(across_corners))
    if values.dtype != bool:
        equal = values.take(starts[upper]) == values.take(starts[lower])
        upper, lower = upper[equal], lower[equal]
    first = least_members(len(starts), upper, lower)
    numbers = np.cumsum(first == np.arange(len(starts)), dtype=np.int32).take(first)
    return Components((height, width), starts, ends, numbers)


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
    values: npt.NDArray[np.generic],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return where runs start, and the pixel after each, in the flat image."""
    begins = values != 0
    last = begins.copy()
    changes = values[:, 1:] != values[:, :-1]
    begins[:, 1:] &= changes
    last[:, :-1] &= changes
    return np.flatnonzero(begins), np.flatnonzero(last) + 1


def _contacts(
    starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp], width: int, corner: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the pairs of runs that touch, one in a row, the other in the next."""
    # Corners do not reach around the end of a row.
    columns = starts % width if width else starts
    left = np.minimum(columns, corner)
    right = np.minimum(width - columns - (ends - starts), corner)
    low = np.searchsorted(ends, starts + width - left, side="right")
    high = np.searchsorted(starts, ends + width + right, side="left")
    touched = np.maximum(high - low, 0)
    return np.repeat(np.arange(len(starts)), touched), ranges(low, touched)


def least_members(
    count: int,
    first: npt.NDArray[np.integer],
    second: npt.NDArray[np.integer],
) -> npt.NDArray[np.int64]:
    """Return the least number of the set that each number lies in (union-find).

    All sets are joined at once to a set of a lower number that they touch, and all
    paths shortened, until no pair lies in two sets.

    Parameters
    ----------
    count
        Numbers: 0 to `count` - 1.
    first, second
        Pairs that lie in one set.

    Examples
    --------
    >>> least_members(5, np.array([4, 4]), np.array([2, 3])).tolist()
    [0, 1, 2, 2, 2]
    """
    parent = np.arange(count, dtype=np.int64)
    upper, lower = np.minimum(first, second), np.maximum(first, second)
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
