"""Grow seeds into foreground, in steps that every cut of the plane sees alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

FOUR = ((-1, 0), (0, -1), (0, 1), (1, 0))
EIGHT = (*FOUR, (-1, -1), (-1, 1), (1, -1), (1, 1))


def grow(
    labels: npt.NDArray[np.int32], allowed: npt.NDArray[np.bool_], steps: int
) -> npt.NDArray[np.int32]:
    """Grow labels into allowed pixels, level by level.

    In each level every pixel gained in the level before gives its label to its free
    neighbours: 4 in odd levels, 8 in even ones, which makes an octagon. Where two
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
    """Return the seed pixels that have a free 4-neighbour, in raster order."""
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
