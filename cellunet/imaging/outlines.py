"""Trace the outlines of labels, and measure them: perimeter, solidity, Feret diameters.

An outline is the closed rings around an object, those around its holes included.

Coordinates are (x, y) in pixels and the pixel in row 0 and column 0 covers the square
from (0, 0) to (1, 1), so that its center is (0.5, 0.5): as Fiji and QuPath count.

An outline follows the *edges* of pixels between an object and anything else, each
walked with the object on its right as the picture is seen (y grows downwards). The
rings are closed around 4-connected pieces: pixels that touch at a corner alone are
separate there. Corners are cut twice: from the middle of each edge to the middle of the
next, then through the middles of those segments. The length of discs and ellipses then
comes out 2 to 3 % too long; along the edges of pixels it is 27 % (`docs/outputs.md`).

The rings are simple, those of one object do not cross, and the pixels whose center lies
inside (even-odd rule) are exactly the object's: each vertex is the mean, weighted 1, 2,
1, of three neighboring corners, so that a corner moves by at most a quarter of a pixel
along each axis, while the nearest center is half a pixel away from any edge.

Only the edges of objects that are still open are kept: a plane of any size needs one
row of labels and these edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.imaging.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    Ring = npt.NDArray[np.float64]
    """Points (x, y), shape (n, 2), the first not repeated."""
    Polygon = list[Ring]
    """An outer ring, then its holes."""
    Outline = list[Polygon]
    """The pieces of one object."""
    Floats = npt.NDArray[np.float64]
    Whole = npt.NDArray[np.int64]

STEP_X = np.array([1, 0, -1, 0])
STEP_Y = np.array([0, 1, 0, -1])
"""East, south, west, north."""


@dataclass(frozen=True)
class RingEdges:
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
) -> RingEdges:
    """Put the edges of complete objects into the order of rings.

    At each corner the walk turns right if it can, which keeps to its own pixel; else
    it goes straight on; else it turns left.

    Parameters
    ----------
    keys, owners
        As in `Edges`, in any order.
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
    return RingEdges(
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


def assemble(edges: RingEdges) -> dict[int, Outline]:
    """Return the outline of each object from the walk around all of its rings."""
    ends = np.append(edges.starts[1:], len(edges.x))
    before = np.arange(-1, len(edges.x) - 1)
    before[edges.starts] = ends - 1
    step = np.stack((STEP_X[edges.direction], STEP_Y[edges.direction]), 1)
    points = np.stack((edges.x, edges.y), 1) + step / 2
    points = (points + points[before]) / 2
    area = ring_areas(points, edges.starts)
    bent = _turns(_steps(points, edges.starts), edges.starts) != 0
    # The center of a pixel on the right of each ring's first edge: inside of the piece.
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


def _polygons(rings: list[tuple[float, Ring, npt.NDArray[np.float64]]]) -> Outline:
    """Sort the rings of one object into pieces: (signed area, ring, point inside)."""
    outer = [r for r in rings if r[0] > 0]
    polygons: Outline = [[ring] for _, ring, _ in outer]
    if len(outer) == len(rings):
        return polygons
    low = np.array([ring.min(axis=0) for _, ring, _ in outer])
    high = np.array([ring.max(axis=0) for _, ring, _ in outer])
    for area, ring, inside in rings:
        if area > 0:
            continue
        around = [0]
        if len(outer) > 1:
            # Of thousands of pieces few are near enough to be looked at point by point.
            near = ((low < inside) & (inside < high)).all(axis=1)
            around = np.flatnonzero(near).tolist()
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


EDGES_AT_ONCE = 2**18
"""Edges that are walked at once, if they are not those of a single object."""

EAST, SOUTH, WEST, NORTH = range(4)
"""Directions of edges: above, right of, below and left of their pixel."""


@dataclass(frozen=True)
class Edges:
    """Edges of pixels, all arrays int64 of one length."""

    keys: npt.NDArray[np.int64]
    """``4 * (y * (width + 1) + x) + direction`` of the corner that an edge starts at:
    unique, because each directed edge has a single pixel on its right."""
    owners: npt.NDArray[np.int64]
    """Labels of those pixels."""

    def where(self, chosen: npt.NDArray[np.bool_]) -> Edges:
        """Return some of them."""
        return Edges(self.keys[chosen], self.owners[chosen])

    @staticmethod
    def joined(parts: list[Edges]) -> Edges:
        """Return all of several."""
        return Edges(
            np.concatenate([p.keys for p in parts]),
            np.concatenate([p.owners for p in parts]),
        )


class Tracer:
    """Collects the edges of a plane, rows from top to bottom, and closes rings.

    Parameters
    ----------
    width
        Columns of the plane.
    on_walk
        Called with the pixel edges of complete objects.
    """

    def __init__(
        self, width: int, on_walk: Callable[[RingEdges], None] | None = None
    ) -> None:
        self._width, self._on_walk = width, on_walk
        self._above: npt.NDArray[Any] = np.zeros(width, np.uint8)
        self._y0 = 0
        self._open = Edges(np.zeros(0, np.int64), np.zeros(0, np.int64))

    def add(self, rows: npt.NDArray[Any]) -> None:
        """Take the next rows of labels, YX, any integer type."""
        found = [self._open]
        for y, x in pieces(rows.shape):
            above = rows[y.start - 1] if y.start else self._above
            # The piece, the row above it and the columns next to it, 0 off the plane.
            seen = np.zeros((y.stop - y.start + 1, x.stop - x.start + 2), np.int64)
            left, right = max(x.start - 1, 0), min(x.stop + 1, self._width)
            inside = slice(left - x.start + 1, right - x.start + 1)
            seen[0, inside] = above[left:right]
            seen[1:, inside] = rows[y, left:right]
            corner = self._y0 + y.start, x.start
            found.append(_edges(seen, corner, self._width))
        self._open = Edges.joined(found)
        self._y0 += len(rows)
        self._above = rows[-1].copy()

    def end(self) -> None:
        """Take note that the plane ends below the last rows."""
        self.add(np.zeros((1, self._width), np.uint8))

    def take(self, complete: npt.NDArray[np.bool_]) -> dict[int, Outline]:
        """Return, and forget, the outlines of objects that no later row touches.

        Parameters
        ----------
        complete
            By label, True for those to take; an object with a pixel in the last row so
            far is not among them.

        Returns
        -------
        dict
            Label to outline, ascending.
        """
        ready = complete[self._open.owners]
        edges = self._open.where(ready)
        self._open = self._open.where(~ready)
        found: dict[int, Outline] = {}
        for some in _groups(edges):
            ring = walk(some.keys, some.owners, self._width + 1)
            if self._on_walk is not None:
                self._on_walk(ring)
            found |= assemble(ring)
        return found


def _groups(edges: Edges) -> Iterator[Edges]:
    """Yield the edges of some objects at a time, by ascending label.

    A walk takes many times the memory of its edges, and an image that is a single row
    has all of its objects complete at once.
    """
    count = len(edges.keys)
    if count <= EDGES_AT_ONCE:
        if count:
            yield edges
        return
    order = np.argsort(edges.owners, kind="stable")
    owners = edges.owners[order]
    cuts = np.searchsorted(owners, owners[::EDGES_AT_ONCE])
    for a, b in pairwise([*np.unique(cuts).tolist(), count]):
        yield Edges(edges.keys[order[a:b]], owners[a:b])


def outlines(labels: npt.NDArray[Any]) -> dict[int, Outline]:
    """Return the outline of every object of a whole plane.

    Parameters
    ----------
    labels
        YX, integer, 0 background; an object may be in several pieces.

    Returns
    -------
    dict
        Label to its outline, ascending: a list of polygons, one per 4-connected piece.
        A polygon is a list of rings, its outer one first, then its holes. A ring is an
        array of (x, y), float64, of shape (n, 2), its first point not repeated; outer
        rings have a positive area by the shoelace formula, holes a negative one.

    Examples
    --------
    >>> ((ring,),) = outlines(np.array([[7]]))[7]
    >>> ring.tolist()
    [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]
    """
    tracer = Tracer(labels.shape[1])
    tracer.add(labels)
    tracer.end()
    return tracer.take(np.ones(int(labels.max(initial=0)) + 1, np.bool_))


def _edges(seen: npt.NDArray[np.int64], corner: tuple[int, int], width: int) -> Edges:
    """Return the edges above the pixels of a piece of rows, and left of them.

    At the right end of the plane those on the right too. Those below the last row
    belong to the next call.

    Parameters
    ----------
    seen
        Labels of the piece, with a row above it and a column on each side.
    corner
        Row and column of its first pixel.
    width
        Columns of the plane.
    """
    upper, rows = seen[:-1, 1:-1], seen[1:, 1:-1]
    last = corner[1] + rows.shape[1] == width
    padded = seen[1:] if last else seen[1:, :-1]
    before, after = padded[:, :-1], padded[:, 1:]
    # (where pixels differ, the label on the right of the walk, direction, and the
    # start of the edge relative to the place in the array, x then y)
    kinds = (
        (upper != rows, rows, EAST, 0),
        (upper != rows, upper, WEST, 1),
        (before != after, before, SOUTH, 0),
        (before != after, after, NORTH, 1),
    )
    keys, owners = [], []
    for differs, owner, direction, ahead in kinds:
        y, x = np.nonzero(differs & (owner > 0))
        owners.append(owner[y, x])
        down, right = (0, ahead) if direction in (EAST, WEST) else (ahead, 0)
        start = (y + corner[0] + down).astype(np.int64) * (width + 1)
        keys.append(4 * (start + x + corner[1] + right) + direction)
    return Edges(np.concatenate(keys), np.concatenate(owners))


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
    # Outer rings turn right where their hull does.
    corners = np.repeat(outer, lengths) & (_turns(steps, starts) > 0)
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


def _turns(steps: Floats, starts: Whole) -> Floats:
    """Return how rings turn at each point: 0 straight on, above 0 to the right."""
    came = np.roll(steps, 1, axis=0)
    came[starts] = steps[np.append(starts[1:], len(steps)) - 1]
    turns: Floats = came[:, 0] * steps[:, 1] - came[:, 1] * steps[:, 0]
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


def pixel_corners(edges: RingEdges) -> tuple[Floats, Whole]:
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
