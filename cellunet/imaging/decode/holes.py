"""Small regions of background inside objects, found block by block and merged.

A hole is filled if it is no larger than a limit, does not touch the frame of the plane,
and has a single object around it, whichever blocks its pixels lie in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from cellunet.imaging.decode.unionfind import UnionFind, distinct_pairs

if TYPE_CHECKING:
    import numpy.typing as npt

    from cellunet.imaging.blocks import Area, Place

Side = tuple["npt.NDArray[np.int32]", "npt.NDArray[np.int32]"]
"""Objects and regions along one side of a face."""
Edge = tuple["npt.NDArray[np.int32]", int, int]
"""The pixels along one side of a core, and what the numbers of its regions and of its
objects begin after."""


@dataclass(frozen=True, kw_only=True)
class Holes:
    """Regions of background in one core that may be holes, or parts of one.

    `areas` are their pixels, in order; `open` those at the frame; `neighbours` has
    rows (region, object beside it).
    """

    areas: npt.NDArray[np.int64]
    open: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.int64]


def find_holes(
    objects: npt.NDArray[np.int32], area: Area, largest_px: int
) -> tuple[npt.NDArray[np.int32], Holes]:
    """Find the regions of background of at most `largest_px` pixels in a core.

    Parameters
    ----------
    objects
        Numbers of the objects in the core, YX, 0 background.
    area
        Where the core lies.
    largest_px
        Largest hole.

    Returns
    -------
    regions
        YX int32, their numbers from 1, 0 elsewhere.
    holes
        What is known of them.
    """
    # As wide as `bincount` and `take` want them, which else convert them themselves.
    labelled = np.empty(objects.shape, np.intp)
    count = ndimage.label(objects == 0, output=labelled)
    areas = np.bincount(labelled.ravel(), minlength=count + 1)
    small = areas <= largest_px
    small[0] = False
    # What is small are a few pixels, and all that is looked at from here on.
    inside = np.flatnonzero(small.take(labelled))
    numbers = np.cumsum(small, dtype=np.int32).take(labelled.take(inside))
    regions = np.zeros(objects.shape, np.int32)
    regions.put(inside, numbers)
    at_frame = [np.zeros(0, np.int32), *(edge for _, edge in area.frame(regions))]
    opened = np.unique(np.concatenate(at_frame)).astype(np.int64)
    return regions, Holes(
        areas=areas[small].astype(np.int64),
        open=opened[opened > 0],
        neighbours=_neighbours(objects, inside, numbers),
    )


def _neighbours(
    objects: npt.NDArray[np.int32],
    pixels: npt.NDArray[np.intp],
    regions: npt.NDArray[np.int32],
) -> npt.NDArray[np.int64]:
    """Return rows (region, object) of regions' pixels that have an object beside."""
    height, width = objects.shape
    y, x = np.divmod(pixels, width)
    found = []
    for offset, exists in (
        (width, y < height - 1),
        (-width, y > 0),
        (1, x < width - 1),
        (-1, x > 0),
    ):
        beside = objects.take(pixels[exists] + offset)
        there = beside > 0
        found.append((regions[exists][there], beside[there]))
    return distinct_pairs(*map(np.concatenate, zip(*found, strict=True)))


def _touching(
    first: npt.NDArray[np.int32], second: npt.NDArray[np.int32]
) -> npt.NDArray[np.int64]:
    """Return rows (number in first, number in second) where both are above 0."""
    both = (first > 0) & (second > 0)
    return distinct_pairs(first[both], second[both])


class HoleMerger:
    """Says which object each region belongs to, whichever blocks it lies in.

    Takes the blocks of a plane in raster order and keeps of them the sides that the
    next ones touch.

    Parameters
    ----------
    largest_px
        Largest hole.
    """

    def __init__(self, largest_px: int) -> None:
        self._largest_px = largest_px
        self._offsets: dict[Place, tuple[int, int]] = {}
        self._total = 1
        self._areas = [np.zeros(1, np.int64)]
        self._open = [np.zeros(0, np.int64)]
        self._neighbours = [np.zeros((0, 2), np.int64)]
        self._joins = [np.zeros((0, 2), np.int64)]
        self._above: dict[int, Edge] = {}
        self._row: dict[int, Edge] = {}
        self._left: Edge | None = None

    def add(
        self, place: Place, pixels: npt.NDArray[np.int32], holes: Holes, seeds: int
    ) -> None:
        """Take the next block.

        Parameters
        ----------
        place
            Where it lies.
        pixels
            YX int32: objects by number, regions by their negative number, else 0.
        holes
            What is known of its regions.
        seeds
            What the numbers of its objects begin after, from `SeedMerger.add`.
        """
        column = place[1]
        if column == 0:
            self._above, self._row, self._left = self._row, {}, None
        offset = self._total - 1
        count = len(holes.areas)
        self._offsets[place] = offset, count
        self._total += count
        self._areas.append(holes.areas)
        self._open.append(holes.open + offset)
        self._neighbours.append(holes.neighbours + np.array([offset, seeds]))
        if column in self._above:
            mine = _side(pixels[0], offset, seeds)
            self._face(_side(*self._above.pop(column)), mine)
        if self._left is not None:
            self._face(_side(*self._left), _side(pixels[:, 0], offset, seeds))
        self._row[column] = pixels[-1].copy(), offset, seeds
        self._left = pixels[:, -1].copy(), offset, seeds

    def _face(self, one: Side, other: Side) -> None:
        self._joins.append(_touching(one[1], other[1]))
        for a, b in ((one, other), (other, one)):
            self._neighbours.append(_touching(a[1], b[0]))
            # Background that is no region is too large to be a hole.
            outside = (a[1] > 0) & (b[1] == 0) & (b[0] == 0)
            self._open.append(np.unique(a[1][outside]).astype(np.int64))

    def owners(
        self, numbers: npt.NDArray[np.int64]
    ) -> dict[Place, npt.NDArray[np.int64]]:
        """Return for each block the seed that each region belongs to, 0 for none.

        A table by region number, its entry 0 being 0.

        Parameters
        ----------
        numbers
            Of the seeds, from `SeedMerger.numbers`.
        """
        union = UnionFind(self._total)
        for a, b in np.concatenate(self._joins):
            union.join(int(a), int(b))
        roots = union.roots()
        area = np.zeros(self._total, np.int64)
        np.add.at(area, roots, np.concatenate(self._areas))
        neighbours = np.concatenate(self._neighbours)
        neighbours[:, 1] = numbers.take(neighbours[:, 1])
        owner = _single(roots, neighbours)
        owner[area > self._largest_px] = 0
        owner[roots[np.concatenate(self._open)]] = 0
        return {
            place: np.concatenate(([0], owner[roots[offset + 1 : offset + 1 + count]]))
            for place, (offset, count) in self._offsets.items()
        }


def _side(edge: npt.NDArray[np.int32], regions: int, seeds: int) -> Side:
    """Return objects and regions along an edge, by their numbers in the plane."""
    return np.where(edge > 0, edge + seeds, 0), np.where(edge < 0, regions - edge, 0)


def _single(
    roots: npt.NDArray[np.int64], neighbours: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return for each root the one object beside its regions, 0 if there are more."""
    low = np.full(len(roots), np.iinfo(np.int64).max)
    high = np.zeros(len(roots), np.int64)
    np.minimum.at(low, roots[neighbours[:, 0]], neighbours[:, 1])
    np.maximum.at(high, roots[neighbours[:, 0]], neighbours[:, 1])
    return np.where(low == high, high, 0)
