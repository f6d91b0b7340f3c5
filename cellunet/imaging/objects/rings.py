"""Directed pixel edges to rings, and rings to polygons with holes.

The second half of `cellunet.imaging.objects.outlines`, which says what edges are and
what forms there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Ring = npt.NDArray[np.float64]
    """Points (x, y), shape (n, 2), the first not repeated."""
    Polygon = list[Ring]
    """An outer ring, then its holes."""
    Outline = list[Polygon]
    """The pieces of one object."""

STEP_X = np.array([1, 0, -1, 0])
STEP_Y = np.array([0, 1, 0, -1])
"""East, south, west, north."""


@dataclass(frozen=True)
class Walk:
    """Edges in the order of a walk around each ring; arrays of one value an edge."""

    x: npt.NDArray[np.int64]
    """Column of the corner that an edge starts at."""
    y: npt.NDArray[np.int64]
    """Its row."""
    direction: npt.NDArray[np.int64]
    """Number of the direction in which it goes."""
    owner: npt.NDArray[np.int64]
    """Label of the object on its right."""
    starts: npt.NDArray[np.int64]
    """Place of the first edge of each ring."""


def walk(
    keys: npt.NDArray[np.int64], owners: npt.NDArray[np.int64], stride: int
) -> Walk:
    """Put the edges of complete objects into the order of rings.

    At each corner the walk turns right if it can, which keeps to its own pixel; else
    it goes straight on; else it turns left.

    Parameters
    ----------
    keys, owners
        As in `cellunet.imaging.objects.outlines.Edges`, in any order.
    stride
        Corners in a row: columns of the plane and one.
    """
    order = np.argsort(keys)
    keys, owners = keys[order], owners[order]
    corner, direction = np.divmod(keys, 4)
    end = corner + STEP_X[direction] + stride * STEP_Y[direction]
    follower = np.full(len(keys), -1, np.int64)
    for turn in (3, 0, 1):
        wanted = 4 * end + (direction + turn) % 4
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        there = keys[place] == wanted
        # Of two objects that meet in a corner each keeps to its own edges.
        there &= owners[place] == owners
        follower[there] = place[there]
    ordered, starts = _cycles(follower)
    corner = corner[ordered]
    return Walk(
        x=corner % stride,
        y=corner // stride,
        direction=direction[ordered],
        owner=owners[ordered],
        starts=starts,
    )


def _cycles(
    follower: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return all numbers in the order of their cycles, and where each cycle starts."""
    ahead = follower.tolist()
    order: list[int] = []
    starts: list[int] = []
    for first in range(len(ahead)):
        at = first
        if ahead[at] >= 0:
            starts.append(len(order))
        while ahead[at] >= 0:
            order.append(at)
            ahead[at], at = -1, ahead[at]
    return np.array(order, np.int64), np.array(starts, np.int64)


def assemble(edges: Walk, cuts: int) -> dict[int, Outline]:
    """Return the outline of each object.

    Parameters
    ----------
    edges
        The walk around all of their rings.
    cuts
        How often corners are cut, as in `cellunet.imaging.objects.outlines.FORMS`.
    """
    if not cuts:
        edges = _without_touching(edges)
    ends = np.append(edges.starts[1:], len(edges.x))
    before = np.arange(-1, len(edges.x) - 1)
    before[edges.starts] = ends - 1
    points = np.stack((edges.x, edges.y), 1).astype(np.float64)
    step = np.stack((STEP_X[edges.direction], STEP_Y[edges.direction]), 1)
    if cuts >= 1:
        points = points + step / 2
    if cuts >= 2:
        points = (points + points[before]) / 2
    area = _areas(points, before, edges.starts)
    bent = _bent(points, before, edges.starts)
    # The centre of a pixel on the right of each ring's first edge: inside of the piece.
    first = edges.starts
    right = np.stack((-step[first, 1], step[first, 0]), 1)
    middle = np.stack((edges.x[first], edges.y[first]), 1) + step[first] / 2
    inside = middle + right / 2
    found: dict[int, list[tuple[float, Ring, npt.NDArray[np.float64]]]] = {}
    spans = zip(edges.owner[first].tolist(), first.tolist(), ends.tolist(), strict=True)
    for number, (owner, start, end) in enumerate(spans):
        ring = points[start:end][bent[start:end]]
        found.setdefault(owner, []).append((float(area[number]), ring, inside[number]))
    return {owner: _polygons(found[owner]) for owner in sorted(found)}


def _areas(
    points: npt.NDArray[np.float64],
    before: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return the signed area of each ring by the shoelace formula."""
    x, y = points.T
    # Relative to each ring's first point, so that far corners of a plane lose nothing.
    lengths = np.diff(np.append(starts, len(points)))
    x = x - np.repeat(x[starts], lengths)
    y = y - np.repeat(y[starts], lengths)
    twice = np.add.reduceat(x[before] * y - x * y[before], starts)
    areas: npt.NDArray[np.float64] = twice / 2
    return areas


def _bent(
    points: npt.NDArray[np.float64],
    before: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """Return which points are needed: those where a ring changes its direction."""
    came = points - points[before]
    after = np.empty_like(before)
    after[before] = np.arange(len(before))
    goes = came[after]
    cross = came[:, 0] * goes[:, 1] - came[:, 1] * goes[:, 0]
    bent: npt.NDArray[np.bool_] = cross != 0
    return bent


def _polygons(rings: list[tuple[float, Ring, npt.NDArray[np.float64]]]) -> Outline:
    """Sort the rings of one object into pieces: (signed area, ring, point inside)."""
    outer = [r for r in rings if r[0] > 0]
    polygons: Outline = [[ring] for _, ring, _ in outer]
    for area, ring, inside in rings:
        if area > 0:
            continue
        around = list(range(len(outer)))
        if len(outer) > 1:
            around = [k for k in around if _contains(outer[k][1], inside)]
        # Pieces may lie in holes of other pieces: the innermost around it is its own.
        polygons[min(around, key=lambda k: outer[k][0])].append(ring)
    return polygons


def _contains(ring: Ring, point: npt.NDArray[np.float64]) -> bool:
    """Return whether a point, not on the ring, lies inside by the even-odd rule."""
    x, y = point
    ax, ay = ring.T
    bx, by = np.roll(ring, -1, axis=0).T
    crosses = (ay > y) != (by > y)
    at = ax[crosses] + (y - ay[crosses]) * (bx - ax)[crosses] / (by - ay)[crosses]
    return bool(np.count_nonzero(at > x) % 2)


def _without_touching(edges: Walk) -> Walk:
    """Split rings where they pass through a corner twice, so that each is simple."""
    lengths = np.diff(np.append(edges.starts, len(edges.x)))
    ring = np.repeat(np.arange(len(lengths)), lengths)
    width = int(edges.x.max()) + 1
    corners = (ring * (int(edges.y.max()) + 1) + edges.y) * width + edges.x
    ordered = np.sort(corners)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(repeated):
        return edges
    twice = set(ring[np.isin(corners, repeated)].tolist())
    order: list[int] = []
    starts: list[int] = []
    for number, (start, length) in enumerate(zip(edges.starts, lengths, strict=True)):
        places = list(range(int(start), int(start + length)))
        parts = _split(edges, places) if number in twice else [places]
        for part in parts:
            starts.append(len(order))
            order += part
    return Walk(
        x=edges.x[order],
        y=edges.y[order],
        direction=edges.direction[order],
        owner=edges.owner[order],
        starts=np.array(starts, np.int64),
    )


def _split(edges: Walk, places: list[int]) -> list[list[int]]:
    """Return the loops of one ring, each through any corner once."""
    loops: list[list[int]] = []
    path: list[int] = []
    seen: dict[tuple[int, int], int] = {}
    for place in places:
        corner = (int(edges.x[place]), int(edges.y[place]))
        if corner in seen:
            loops.append(path[seen[corner] :])
            del path[seen[corner] :]
            for gone in loops[-1]:
                seen.pop((int(edges.x[gone]), int(edges.y[gone])), None)
        seen[corner] = len(path)
        path.append(place)
    return [*loops, path]
