"""Ranks, mean and deviation of more values than fit into memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cellunet.imaging.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt


class Selector:
    """Exact order statistics of values seen in bands.

    Unsigned 8 and 16-bit values are counted directly. Anything else is cast to
    float32 and selected by radix: the first pass counts the upper 16 bits of an
    order-preserving integer key, the second the lower 16 bits of the buckets in
    which the ranks asked for lie.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(65536, np.int64)
        self.fine: dict[int, npt.NDArray[np.int64]] = {}
        self.wide = False
        self._up_to: npt.NDArray[np.int64] | None = None

    def add(self, values: npt.NDArray[np.generic]) -> None:
        """Take values in the first pass."""
        whole = values.dtype in (np.uint8, np.uint16)
        self.wide = self.wide or not whole
        for part in value_parts(values):
            keys = part if whole else _sortable(part) >> np.uint32(16)
            counts = np.bincount(keys, minlength=1)
            self.counts[: len(counts)] += counts
        self._up_to = None

    def bucket(self, rank: int) -> int:
        """Return the bucket of the first pass that holds a rank."""
        if self._up_to is None:
            self._up_to = np.cumsum(self.counts)
        return int(np.searchsorted(self._up_to, rank, side="right"))

    def sums(self) -> tuple[float, float]:
        """Return the sum of all values, and that of their squares; not if `wide`."""
        value = np.flatnonzero(self.counts)
        counts, square = self.counts[value], value * value
        # In two halves, so that no plane is too large for 64 bits.
        upper, lower = (int(counts @ half) for half in (square >> 16, square & 0xFFFF))
        return float(int(counts @ value)), float((upper << 16) + lower)

    def refine(self, ranks: Iterable[int]) -> None:
        """Say which ranks are wanted, before the second pass."""
        self.fine = {self.bucket(r): np.zeros(65536, np.int64) for r in ranks}

    def add_fine(self, values: npt.NDArray[np.generic]) -> None:
        """Take the same values in the second pass."""
        for part in value_parts(values):
            keys = _sortable(part)
            upper = keys >> np.uint32(16)
            for bucket, counts in self.fine.items():
                lower = keys[upper == bucket] & np.uint32(0xFFFF)
                counts += np.bincount(lower, minlength=65536)

    def value(self, rank: int) -> float:
        """Return the value at a rank, which `refine` was told of if `wide`."""
        bucket = self.bucket(rank)
        if not self.wide:
            return float(bucket)
        rank -= int(self.counts[:bucket].sum())
        lower = int(np.searchsorted(np.cumsum(self.fine[bucket]), rank, side="right"))
        return _from_sortable((bucket << 16) | lower)


def value_parts(values: npt.NDArray[np.generic]) -> Iterator[npt.NDArray[np.generic]]:
    """Yield values a few at a time: keys and counts take many times their memory."""
    flat = values.ravel()
    for _, columns in pieces((1, len(flat))):
        yield flat[columns]


def _sortable(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint32]:
    """Return keys that order like the float32 values (sign bit folded)."""
    bits = values.astype(np.float32).view(np.int32)
    # All bits of negative values are turned, of others the sign alone.
    turned = (bits >> 31).view(np.uint32)
    turned |= np.uint32(0x80000000)
    turned ^= bits.view(np.uint32)
    return turned


def _from_sortable(key: int) -> float:
    bits = key & 0x7FFFFFFF if key & 0x80000000 else ~key & 0xFFFFFFFF
    return float(np.array(bits, np.uint32).view(np.float32))


class Moments:
    """Sums of values, and of their squares, that are seen row by row.

    Values are brought below 1 first, so that no square is beyond float64; that is by a
    power of two, which changes no digit.

    Parameters
    ----------
    largest
        The largest magnitude among them.
    """

    def __init__(self, largest: float) -> None:
        self._exponent = math.frexp(largest)[1]
        self._sums: list[float] = []
        self._squares: list[float] = []

    def add(self, rows: npt.NDArray[np.float64]) -> None:
        """Take rows, YX."""
        small = np.ldexp(rows, -self._exponent)
        self._sums += small.sum(axis=1).tolist()
        # Not by `dot`, whose last bits depend on the threads of BLAS.
        small *= small
        self._squares += small.sum(axis=1).tolist()

    def mean_and_std(self, count: int) -> tuple[float, float]:
        """Return the mean and the standard deviation of `count` values."""
        found = mean_and_std(math.fsum(self._sums), math.fsum(self._squares), count)
        mean, std = (math.ldexp(value, self._exponent) for value in found)
        return mean, std


def mean_and_std(total: float, squares: float, count: int) -> tuple[float, float]:
    """Return mean and standard deviation from the sums of values and of squares."""
    mean = total / count
    return mean, math.sqrt(max(squares / count - mean * mean, 0.0))
