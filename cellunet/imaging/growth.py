"""Grow seeds into the foreground, and put outlines where the image says they lie.

Where a nucleus ends is a convention. An outline at a fraction f lies where the lightly
smoothed image has come f of the way from the background around the object to its
inside. Every pixel of the result depends on what lies within `OutlineReach.halo_px` of
it and on the sums of its object alone, so any way to cut the plane gives the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Labels = npt.NDArray[np.int32]
    Smooth = npt.NDArray[np.int64]

FOUR = ((-1, 0), (0, -1), (0, 1), (1, 0))

EIGHT = (*FOUR, (-1, -1), (-1, 1), (1, -1), (1, 1))


def grow(
    labels: npt.NDArray[np.int32], allowed: npt.NDArray[np.bool_], steps: int
) -> npt.NDArray[np.int32]:
    """Grow labels into allowed pixels, level by level.

    In each level every pixel gained in the level before gives its label to its free
    neighbors: 4 in odd levels, 8 in even ones, which makes an octagon. Where two
    labels arrive in the same level, the one that came from above wins, then from the
    left, the right, below and the diagonals in raster order; never by number.

    Parameters
    ----------
    labels
        YX int32, seeds, 0 elsewhere.
    allowed
        YX bool, pixels that may be gained.
    steps
        Number of levels.

    Returns
    -------
    ndarray
        YX int32.
    """
    height, width = labels.shape
    # A frame of closed pixels spares every test for the edge of the array.
    grown = np.zeros((height + 2, width + 2), np.int32)
    grown[1:-1, 1:-1] = labels
    free = np.zeros(grown.shape, bool)
    np.logical_and(allowed, labels == 0, out=free[1:-1, 1:-1])
    row = width + 2
    flat, open_ = grown.reshape(-1), free.reshape(-1)
    front = _front(flat, open_, row)
    for level in range(steps):
        gained = []
        for dy, dx in FOUR if level % 2 == 0 else EIGHT:
            # "Came from above" means that the pixel gained lies below its source.
            offset = -dy * row - dx
            target = front + offset
            # `take` reads in half the time of an index.
            target = target[open_.take(target)]
            flat[target] = flat.take(target - offset)
            open_[target] = False
            gained.append(target)
        front = np.concatenate(gained)
        if not len(front):
            break
    return grown[1:-1, 1:-1]


def _front(
    flat: npt.NDArray[np.int32], open_: npt.NDArray[np.bool_], row: int
) -> npt.NDArray[np.intp]:
    """Return the seed pixels that have a free 4-neighbor, in raster order."""
    near = np.zeros(len(flat), bool)
    # The frame holds no seeds.
    inner, last = near[row:-row], len(flat) - row
    for offset in (-row, -1, 1, row):
        inner |= open_[row + offset : last + offset]
    near &= flat > 0
    return np.flatnonzero(near)


def keep_contact(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Grow labels by the one pixel on each side of a contact between two of them.

    For an outer boundary: objects end where their interior does, except where two
    touch, since there the pixels on both sides are boundary.

    Parameters
    ----------
    labels
        YX int32, interiors.

    Returns
    -------
    ndarray
        YX int32.
    """
    grown = grow(labels, np.ones(labels.shape, bool), 1)
    new = (grown > 0) & (labels == 0)
    contact = np.zeros(labels.shape, bool)
    for here, there in (
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        meet = new[here] & new[there] & (grown[here] != grown[there])
        contact[here] |= meet
        contact[there] |= meet
    return np.where(new & ~contact, 0, grown)


SIGMA_PX = 0.7
"""Of the smoothing, in pixels as the model sees them."""

REACH_PX = 3.0
"""By how much an outline moves at most, in the same pixels."""

RING_PX = 3.0
"""Width of the ring beyond that reach in which the background is measured."""

MOST_STEPS = 24
"""Bound on both for images that are seen much reduced."""

TRUNCATE = 4.0

STEPS_PER_UNIT = 4096
"""Intensities are counted in whole numbers, whose sums do not depend on the order."""


@dataclass(frozen=True)
class OutlineReach:
    """How far outlines move, in the image's own pixels."""

    sigma: float
    steps: int
    ring: int

    @classmethod
    def at(cls, scale: float) -> OutlineReach:
        """Return it for images that the model sees magnified by `scale`."""
        steps = min(max(math.ceil(REACH_PX / scale), 1), MOST_STEPS)
        ring = min(max(math.ceil(RING_PX / scale), 1), MOST_STEPS)
        return cls(min(SIGMA_PX / scale, MOST_STEPS / TRUNCATE), steps, ring)

    @property
    def halo_px(self) -> int:
        """How far a pixel of the result looks."""
        return self.steps + self.ring + math.ceil(TRUNCATE * self.sigma) + 2


class ContrastSums:
    """What lies inside the objects of a plane and around them, added up block by block.

    Parameters
    ----------
    count
        Objects: labels are 1 to `count`.
    """

    def __init__(self, count: int) -> None:
        self._sums = np.zeros((3, 2, count + 1))

    def add(
        self,
        labels: Labels,
        smooth: Smooth,
        core: tuple[slice, slice],
        reach: OutlineReach,
    ) -> None:
        """Take a block: what it holds in its core counts.

        Parameters
        ----------
        labels
            YX int32, with as much around the core as `OutlineReach.halo_px` says.
        smooth
            From `smoothed`.
        core
            The part of the block that no other block holds.
        reach
            How far outlines move.
        """
        around = grow(labels, labels == 0, reach.steps + reach.ring)
        near = grow(labels, labels == 0, reach.steps)
        zones = (_inside(labels), labels, np.where(near > 0, 0, around))
        for sums, zone in zip(self._sums, zones, strict=True):
            ids, values = zone[core].ravel(), smooth[core].ravel()
            size = sums.shape[1]
            sums[0] += np.bincount(ids, minlength=size)
            sums[1] += np.bincount(ids, values, minlength=size)

    def thresholds(self, fraction: float) -> npt.NDArray[np.float64]:
        """Return the intensity at which the outline of each object lies.

        NaN where there is nothing around an object to compare it with, or where that
        is no darker; its outline stays.
        """
        counts = np.maximum(self._sums[:, 0], 1)
        inner, whole, ring = self._sums[:, 1] / counts
        inside = np.where(self._sums[0, 0] > 0, inner, whole)
        known = (self._sums[2, 0] > 0) & (inside > ring)
        return np.where(known, ring + fraction * (inside - ring), np.nan)


def smoothed(scaled: npt.NDArray[np.float32], reach: OutlineReach) -> Smooth:
    """Return a block of scaled intensities, YX, lightly smoothed, in whole numbers."""
    from scipy import ndimage

    soft = ndimage.gaussian_filter(
        scaled.astype(np.float64), reach.sigma, mode="nearest", truncate=TRUNCATE
    )
    counted: Smooth = np.rint(soft * STEPS_PER_UNIT).astype(np.int64)
    return counted


def moved(
    labels: Labels,
    smooth: Smooth,
    thresholds: npt.NDArray[np.float64],
    reach: OutlineReach,
) -> Labels:
    """Return a block of labels with their outlines at the thresholds.

    Objects grow into background and shrink from it, one step after the other. Where
    two touch, the border between them stays.

    Parameters
    ----------
    labels, smooth
        As for `ContrastSums.add`; right but for the halo.
    thresholds
        From `ContrastSums.thresholds`.
    reach
        How far outlines move.
    """
    limits = thresholds.copy()
    limits[0] = np.nan
    result = labels
    for _ in range(reach.steps):
        wider = grow(result, result == 0, 1)
        # NaN compares as false: what has no threshold gains and loses nothing.
        gained = (wider > 0) & (result == 0) & (smooth >= limits[wider])
        lost = _beside_nothing(result) & (smooth < limits[result]) & (labels > 0)
        result = np.where(gained, wider, np.where(lost, 0, result)).astype(np.int32)
    return result


def place_outlines(
    labels: Labels, scaled: npt.NDArray[np.float32], fraction: float
) -> Labels:
    """Return the labels of a whole plane with outlines at a fraction of the way inside.

    Parameters
    ----------
    labels
        YX int32, at the magnification at which the network sees the plane.
    scaled
        YX, scaled intensities.
    fraction
        As of `cellunet.config.DecodeConfig.edge`.
    """
    reach = OutlineReach.at(1.0)
    soft, levels = smoothed(scaled, reach), ContrastSums(int(labels.max(initial=0)))
    levels.add(labels, soft, np.s_[:, :], reach)
    return moved(labels, soft, levels.thresholds(fraction), reach)


def _inside(labels: Labels) -> Labels:
    """Return the labels of pixels whose four neighbors are of the same object."""
    same = np.logical_and.reduce([labels == one for one in _four(labels)])
    return np.where(same, labels, 0)


def _beside_nothing(labels: Labels) -> npt.NDArray[np.bool_]:
    """Return which pixels of objects have background beside them."""
    beside: npt.NDArray[np.bool_] = np.logical_or.reduce(
        [n == 0 for n in _four(labels)]
    )
    return beside & (labels > 0)


def _four(labels: Labels) -> tuple[Labels, Labels, Labels, Labels]:
    """Return the neighbors of each pixel; beyond the edge it is its own."""
    frame = np.pad(labels, 1, mode="edge")
    return frame[:-2, 1:-1], frame[2:, 1:-1], frame[1:-1, :-2], frame[1:-1, 2:]
