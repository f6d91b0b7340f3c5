"""Which windows to annotate next: those that stand for most of what is in doubt.

Two windows i and j are alike by s(i, j) = exp(-d(i, j)^2 / (2 `ALIKE`^2)), where d is
the root mean square difference of their looks, each number in units of its standard
deviation over all windows. What has been annotated, A, covers a window i to the extent
c(i) = max over j in A of s(i, j). The window that comes next is the k that adds most to
the doubt that is covered,

    gain(k) = sum over i of a(i) * doubt(i) * max(s(i, k) - c(i), 0),

and joins A. a(i) is the area that the window stands for, so that an image counts by its
size, however many windows overlap in it. So a window is chosen if many others in doubt
are like it and none that is annotated is: doubt that many share counts for more than
one blurred or dirty corner, however unsure the model is of that. This is the greedy
choice for the facility location function weighted by doubt, which is monotone and
submodular, so that the sum that greedy choice covers is at least 1 - 1/e of the
greatest possible, limits per image and overlaps aside (Nemhauser, Wolsey and
Fisher, Mathematical Programming 14, 265-294, 1978). Facility location for choosing what
to label: Wei, Iyer and Bilmes, ICML 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

ALIKE = 0.5
"""Root mean square difference of looks, in standard deviations, at which likeness has
fallen to exp(-1/2)."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """N windows to choose from."""

    doubts: npt.NDArray[np.float64]
    """Doubt of each, at least 0, times the area that it stands for; (N,)."""
    looks: npt.NDArray[np.float64]
    """Look of each; (N, L)."""
    images: npt.NDArray[np.int64]
    """Number of the image that each lies in, from 0; (N,)."""
    corners: npt.NDArray[np.int64]
    """First row and column of each in its image; (N, 2)."""
    side: int
    """Of a window in pixels: two of one image that overlap are not both chosen."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One window that was chosen."""

    index: int
    """Which."""
    novelty: float
    """One minus its likeness to the most similar window that is annotated or was
    chosen before: 0 for its twin, 1 for nothing like it."""
    share: float
    """Share of all doubt that it covers and nothing did before."""


def choose(pool: Pool, known: npt.NDArray[np.float64], count: int) -> list[Choice]:
    """Return windows to annotate, in the order of their worth.

    No image gives more windows than its share of `count`, unless the others have none
    left; windows without doubt are not chosen.

    Parameters
    ----------
    pool
        What there is to choose from.
    known
        Looks of what is annotated, (M, L); M may be 0.
    count
        How many to choose; fewer come back if there are no more.
    """
    alike, covered = _likeness(pool.looks, known)
    total = float(pool.doubts.sum())
    free = pool.doubts > 0
    taken = np.zeros(int(pool.images.max(initial=-1)) + 1, np.int64)
    most = -(-count // max(len(np.unique(pool.images[free])), 1))
    chosen: list[Choice] = []
    while len(chosen) < count and free.any():
        open_ = free & (taken[pool.images] < most)
        if not open_.any():
            most += 1
            continue
        gains = pool.doubts @ np.maximum(alike - covered[:, np.newaxis], 0.0)
        # Rounded, so that the last bits of a sum do not decide between equals.
        best = int(np.argmax(np.where(open_, np.round(gains, 9), -1.0)))
        chosen.append(
            Choice(
                index=best,
                novelty=1.0 - float(covered[best]),
                share=float(gains[best]) / total,
            )
        )
        covered = np.maximum(covered, alike[:, best])
        taken[pool.images[best]] += 1
        free &= ~_overlapping(pool, best)
    return chosen


def _overlapping(pool: Pool, index: int) -> npt.NDArray[np.bool_]:
    """Return which windows share pixels with one, itself among them."""
    apart = np.abs(pool.corners - pool.corners[index])
    shared: npt.NDArray[np.bool_] = (pool.images == pool.images[index]) & (
        apart < pool.side
    ).all(axis=1)
    return shared


def _likeness(
    looks: npt.NDArray[np.float64], known: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the likeness of all windows to each other, and to what is known most."""
    spread = np.concatenate([looks, known]).std(axis=0)
    # A number that is the same everywhere tells nothing apart.
    units = np.where(spread > 0, spread, 1.0)
    ours, theirs = looks / units, known / units
    to_known = _similar(ours, theirs)
    return _similar(ours, ours), to_known.max(axis=1, initial=0.0)


def _similar(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    squares = np.zeros((len(a), len(b)))
    for x, y in zip(a.T, b.T, strict=True):
        squares += (x[:, np.newaxis] - y) ** 2
    result: npt.NDArray[np.float64] = np.exp(
        -squares / max(a.shape[1], 1) / (2 * ALIKE**2)
    )
    return result
