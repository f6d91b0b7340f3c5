"""Small regions of background inside objects, found block by block and merged.

A hole is filled if it is no larger than a limit, does not touch the frame of the plane,
and has a single object around it, whichever blocks its pixels lie in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from cellunet.imaging.unionfind import UnionFind

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cellunet.imaging.blocks import Area, Place

Part = tuple["npt.NDArray[np.int32]", "Holes"]
"""The objects and the holes of one block's core."""
Side = tuple["npt.NDArray[np.int32]", "npt.NDArray[np.int32]"]
"""Objects and regions along one side of a face."""


@dataclass(frozen=True, kw_only=True)
class Holes:
    """Regions of background in one core that may be holes, or parts of one.

    `regions` numbers them from 1, YX; `areas` are their pixels, in order; `open` those
    at the frame; `neighbours` has rows (region, object beside it).
    """

    place: Place
    regions: npt.NDArray[np.int32]
    areas: npt.NDArray[np.int64]
    open: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.int64]


def find_holes(objects: npt.NDArray[np.int32], area: Area, largest_px: int) -> Holes:
    """Find the regions of background of at most `largest_px` pixels in a core.

    Parameters
    ----------
    objects
        Numbers of the objects in the core, YX, 0 background.
    area
        Where the core lies.
    largest_px
        Largest hole.
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
    return Holes(
        place=area.place,
        regions=regions,
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
    pairs = []
    for offset, exists in (
        (width, y < height - 1),
        (-width, y > 0),
        (1, x < width - 1),
        (-1, x > 0),
    ):
        beside = objects.take(pixels[exists] + offset)
        pairs.append(np.stack((regions[exists], beside), 1)[beside > 0])
    return np.unique(np.concatenate(pairs), axis=0).astype(np.int64)


def _touching(
    first: npt.NDArray[np.int32], second: npt.NDArray[np.int32]
) -> npt.NDArray[np.int64]:
    """Return rows (number in first, number in second) where both are above 0."""
    both = (first > 0) & (second > 0)
    return np.stack((first[both], second[both]), 1).astype(np.int64)


def hole_owners(
    parts: Sequence[Part], largest_px: int
) -> dict[Place, npt.NDArray[np.int64]]:
    """Return for each block the object that each region belongs to, 0 for none.

    Parameters
    ----------
    parts
        Objects and holes of all cores of a plane.
    largest_px
        Largest hole.

    Returns
    -------
    dict
        Place of a block to a table by region number, its entry 0 being 0.
    """
    offsets, total = {}, 1
    for _, holes in parts:
        offsets[holes.place] = total - 1
        total += len(holes.areas)
    union = UnionFind(total)
    neighbours: list[npt.NDArray[np.int64]] = [np.zeros((0, 2), np.int64)]
    opened: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for _, holes in parts:
        neighbours.append(holes.neighbours + np.array([offsets[holes.place], 0]))
        opened.append(holes.open + offsets[holes.place])
    for face, other, shift, other_shift in _faces(parts, offsets):
        for a, b in _touching(face[1], other[1]):
            union.join(int(a) + shift, int(b) + other_shift)
        for one, two, by in ((face, other, shift), (other, face, other_shift)):
            neighbours.append(_touching(one[1], two[0]) + np.array([by, 0]))
            # Background that is no region is too large to be a hole.
            outside = (one[1] > 0) & (two[1] == 0) & (two[0] == 0)
            opened.append(one[1][outside].astype(np.int64) + by)
    roots = union.roots()
    area = np.zeros(total, np.int64)
    np.add.at(area, roots[1:], np.concatenate([h.areas for _, h in parts]))
    owner = _single(roots, np.concatenate(neighbours))
    owner[area > largest_px] = 0
    owner[roots[np.concatenate(opened)]] = 0
    return {
        holes.place: np.concatenate(
            ([0], owner[roots[start + 1 : start + 1 + len(holes.areas)]])
        )
        for _, holes in parts
        for start in (offsets[holes.place],)
    }


def _single(
    roots: npt.NDArray[np.int64], neighbours: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return for each root the one object beside its regions, 0 if there are more."""
    low = np.full(len(roots), np.iinfo(np.int64).max)
    high = np.zeros(len(roots), np.int64)
    np.minimum.at(low, roots[neighbours[:, 0]], neighbours[:, 1])
    np.maximum.at(high, roots[neighbours[:, 0]], neighbours[:, 1])
    return np.where(low == high, high, 0)


def _faces(
    parts: Sequence[Part], offsets: dict[Place, int]
) -> list[tuple[Side, Side, int, int]]:
    """Return both sides of every face between two cores, and their offsets."""
    by_place = {holes.place: (objects, holes) for objects, holes in parts}
    found = []
    for (row, column), (objects, holes) in by_place.items():
        for place, mine, theirs in (
            ((row, column + 1), np.s_[:, -1], np.s_[:, 0]),
            ((row + 1, column), np.s_[-1, :], np.s_[0, :]),
        ):
            if place in by_place:
                other_objects, other = by_place[place]
                found.append(
                    (
                        (objects[mine], holes.regions[mine]),
                        (other_objects[theirs], other.regions[theirs]),
                        offsets[row, column],
                        offsets[place],
                    )
                )
    return found
