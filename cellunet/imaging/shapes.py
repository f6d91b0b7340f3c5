"""Perimeter, solidity and Feret diameters from the outlines of objects.

Points are (x, y), in pixels with y downwards, as in `cellunet.imaging.outlines`. All
objects of a batch are computed at once; what is computed of one does not depend on the
others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cellunet.imaging.outlines import Outline, Walk

    Floats = npt.NDArray[np.float64]
    Whole = npt.NDArray[np.int64]

PASSES = 24
"""Of thinning all hulls of a batch at once; dents of nuclei need up to a dozen."""

PAIRS_AT_ONCE = 2**20
"""Pairs of hull corners that are compared at once."""


@dataclass(frozen=True)
class Shapes:
    """Of several objects, float64, one value an object."""

    lengths: tuple[Floats, Floats]
    """Lengths of all rings of their outlines in pixels and in micrometers, which are
    NaN where the pixel size is not known."""
    solidity: Floats
    """Area inside the outline over the area of its convex hull."""


@dataclass(frozen=True)
class Hulls:
    """Convex hulls, one after the other, each in the order of outer rings."""

    points: Floats
    """Corners, shape (n, 2)."""
    starts: Whole
    """Place of the first corner of each hull."""

    @property
    def counts(self) -> Whole:
        """Corners of each hull."""
        return np.diff(np.append(self.starts, len(self.points)))


def shapes_of(
    found: Sequence[Outline], pixel_size_um: tuple[float, float] | None
) -> Shapes:
    """Return what follows from the outlines of objects.

    Parameters
    ----------
    found
        One outline an object.
    pixel_size_um
        Height and width of a pixel.
    """
    if not found:
        nothing = np.zeros(0)
        return Shapes((nothing, nothing), nothing)
    rings = [ring for outline in found for polygon in outline for ring in polygon]
    outer = [n == 0 for outline in found for p in outline for n in range(len(p))]
    counts = [sum(map(len, outline)) for outline in found]
    lengths = np.array([len(ring) for ring in rings])
    owner = np.repeat(np.arange(len(found)), counts)
    points = np.concatenate(rings)
    starts = np.append(0, lengths.cumsum()[:-1])
    steps = _steps(points, starts)
    size = pixel_size_um or (math.nan, math.nan)
    first = np.append(0, np.cumsum(counts)[:-1])
    perimeters = [
        np.add.reduceat(
            np.add.reduceat(np.hypot(steps[:, 0] * px, steps[:, 1] * py), starts), first
        )
        for py, px in ((1.0, 1.0), size)
    ]
    area = np.add.reduceat(ring_areas(points, starts), first)
    corners = np.repeat(outer, lengths) & _turns_right(steps, starts)
    around = hulls(points[corners], np.repeat(owner, lengths)[corners])
    solidity = area / ring_areas(around.points, around.starts)
    return Shapes((perimeters[0], perimeters[1]), solidity)


def _steps(points: Floats, starts: Whole) -> Floats:
    """Return the step from each point of closed rings to the next."""
    steps = np.empty_like(points)
    steps[:-1] = points[1:] - points[:-1]
    last = np.append(starts[1:], len(points)) - 1
    steps[last] = points[starts] - points[last]
    return steps


def _turns_right(steps: Floats, starts: Whole) -> npt.NDArray[np.bool_]:
    """Return at which points outer rings turn outwards, as their hull does."""
    came = np.roll(steps, 1, axis=0)
    came[starts] = steps[np.append(starts[1:], len(steps)) - 1]
    turns: npt.NDArray[np.bool_] = (
        came[:, 0] * steps[:, 1] - came[:, 1] * steps[:, 0] > 0
    )
    return turns


def ring_areas(points: Floats, starts: Whole) -> Floats:
    """Return signed areas of rings by the shoelace formula: holes are negative.

    Relative to the first point of each, so that far corners of a plane lose nothing.
    """
    own = points - np.repeat(
        points[starts], np.diff(np.append(starts, len(points))), axis=0
    )
    steps = _steps(own, starts)
    twice: Floats = np.add.reduceat(
        own[:, 0] * steps[:, 1] - own[:, 1] * steps[:, 0], starts
    )
    return twice / 2


def hulls(points: Floats, owner: npt.NDArray[np.integer[Any]]) -> Hulls:
    """Return the convex hulls of the points of each owner, by ascending owner.

    The half hulls of Andrew, Information Processing Letters 9 (1979) 216-219. A point
    that does not turn outwards between any two others of its half is no corner, so all
    such points may be dropped at once, again and again, until none is left.

    Parameters
    ----------
    points
        Shape (n, 2), those of an owner not all on one line.
    owner
        Number of the object of each point.

    Examples
    --------
    >>> square = np.array([(0, 0), (1, 1), (2, 0), (2, 2), (0, 2)])
    >>> hulls(square, np.zeros(5, int)).points.tolist()
    [[0, 0], [2, 0], [2, 2], [0, 2]]
    """
    order = np.lexsort((points[:, 1], points[:, 0], owner))
    points, owner = points[order], owner[order]
    first = np.ones(len(points), np.bool_)
    first[1:] = (points[1:] != points[:-1]).any(axis=1) | (owner[1:] != owner[:-1])
    points, owner = points[first], owner[first]
    lower, upper = _half(points, owner), _half(points[::-1], owner[::-1])[::-1]
    upper = len(points) - 1 - upper
    # Each half without its last corner, which is the first of the other.
    lower = lower[:-1][owner[lower[:-1]] == owner[lower[1:]]]
    upper = upper[1:][owner[upper[1:]] == owner[upper[:-1]]]
    ring = np.concatenate((lower, upper[::-1]))
    ring = ring[np.argsort(owner[ring], kind="stable")]
    owners = owner[ring]
    starts = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
    return Hulls(points[ring], starts[: len(ring)])


def _half(points: Floats, owner: npt.NDArray[np.integer[Any]]) -> Whole:
    """Return the places of the corners of one half of each hull."""
    places = np.arange(len(points))
    bent = np.zeros(0, np.bool_)
    for _ in range(PASSES):
        own = owner[places]
        steps = np.diff(points[places], axis=0)
        turns = steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]
        bent = (turns <= 0) & (own[:-2] == own[2:])
        if not bent.any():
            return places
        places = np.delete(places, np.flatnonzero(bent) + 1)
    # A few, of many dents within dents: one point after the other.
    left = np.unique(owner[places])
    return np.concatenate([_chain(points, places[owner[places] == n]) for n in left])


def _chain(points: Floats, places: Whole) -> Whole:
    half: list[int] = []
    for place in places.tolist():
        x, y = points[place]
        while len(half) >= 2:
            (ax, ay), (bx, by) = points[half[-2]], points[half[-1]]
            if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                break
            half.pop()
        half.append(place)
    return np.array(half, np.int64)


def pixel_corners(edges: Walk) -> tuple[Floats, Whole]:
    """Return the corners at which objects' pixel edges turn outwards, and whose."""
    before = np.roll(edges.direction, 1)
    before[edges.starts] = edges.direction[
        np.append(edges.starts[1:], len(edges.x)) - 1
    ]
    outwards = (edges.direction - before) % 4 == 1
    points = np.stack((edges.x[outwards], edges.y[outwards]), 1).astype(np.float64)
    return points, edges.owner[outwards]


def feret_diameters(around: Hulls, size: tuple[float, float]) -> tuple[Floats, Floats]:
    """Return the largest and the least distance of parallel lines around each hull.

    Parameters
    ----------
    around
        The hulls.
    size
        Height and width of a pixel.
    """
    far, wide = (np.empty(len(around.starts)) for _ in range(2))
    points = around.points * (size[1], size[0])
    for count in np.unique(around.counts).tolist():
        # Hulls of as many corners together, so many that memory stays bounded.
        alike = np.flatnonzero(around.counts == count)
        most = max(PAIRS_AT_ONCE // count**2, 1)
        for k in range(0, len(alike), most):
            some = alike[k : k + most]
            own = points[around.starts[some, np.newaxis] + np.arange(count)]
            far[some], wide[some] = _diameters(*np.moveaxis(own, -1, 0))
    return far, wide


def _diameters(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the Feret diameters of hulls of as many corners, one a row."""
    dx, dy = (v[:, np.newaxis] - v[:, :, np.newaxis] for v in (x, y))
    far: Floats = np.sqrt((dx * dx + dy * dy).max(axis=(1, 2)))
    along_x, along_y = (np.roll(v, -1, axis=1) - v for v in (x, y))
    across = along_x[:, :, np.newaxis] * dy - along_y[:, :, np.newaxis] * dx
    wide: Floats = (across.max(axis=2) / np.hypot(along_x, along_y)).min(axis=1)
    return far, wide
