"""Labels to outlines: closed rings around every object, holes included, band by band.

Coordinates are (x, y) in pixels and the pixel in row 0 and column 0 covers the square
from (0, 0) to (1, 1), so that its centre is (0.5, 0.5): as Fiji and QuPath count.

An outline follows the *edges* of pixels that part an object from anything else, each
walked with the object on its right as the picture is seen (y grows downwards). The
rings are closed around 4-connected pieces: pixels that touch at a corner alone are
parted there. Three forms are made of the same walk (`FORMS`):

- ``pixels``: along the edges themselves.
- ``midpoints``: from the middle of each edge to the middle of the next, which cuts the
  corners.
- ``smooth``: through the middles of those segments, cut once more.

In every form the rings are simple, those of one object do not cross, and the pixels
whose centre lies inside (even-odd rule) are exactly the object's. A corner of the walk
moves by at most a quarter of a pixel along each axis when it is cut once and once more
(each vertex of ``smooth`` is the mean, weighted 1, 2, 1, of three neighbouring
corners), while the nearest centre is half a pixel away from any edge.

Only edges are kept of what has been seen, and of an object that is complete nothing: a
plane of any size needs one row of labels and the edges of the objects that are still
open.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellunet.imaging.objects.rings import assemble, walk
from cellunet.imaging.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from cellunet.imaging.objects.rings import Outline

Form = Literal["pixels", "midpoints", "smooth"]
FORMS: dict[Form, int] = {"pixels": 0, "midpoints": 1, "smooth": 2}
"""Form to how often the corners are cut."""
FORM: Form = "smooth"
"""Of discs and ellipses of 3 to 30 pixels radius it has by far the truest length:
``python benchmarks/outline_forms.py``, table in ``docs/outputs.md``."""
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
    form
        A name in `FORMS`.
    """

    def __init__(self, width: int, form: Form = FORM) -> None:
        self._width = width
        self._cuts = FORMS[form]
        self._above: npt.NDArray[Any] = np.zeros(width, np.uint8)
        self._y0 = 0
        self._open = Edges(np.zeros(0, np.int64), np.zeros(0, np.int64))

    def add(self, rows: npt.NDArray[Any]) -> None:
        """Take the next rows of labels, YX, any integer type."""
        found = [self._open]
        for y, x in pieces(rows.shape):
            above = rows[y.start - 1] if y.start else self._above
            # The piece, the row above it and the columns beside it, 0 off the plane.
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
            found |= assemble(ring, self._cuts)
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


def outlines(labels: npt.NDArray[Any], form: Form = FORM) -> dict[int, Outline]:
    """Return the outline of every object of a whole plane.

    Parameters
    ----------
    labels
        YX, integer, 0 background; an object may be in several pieces.
    form
        A name in `FORMS`.

    Returns
    -------
    dict
        Label to its outline, ascending: a list of polygons, one per 4-connected piece.
        A polygon is a list of rings, its outer one first, then its holes. A ring is an
        array of (x, y), float64, of shape (n, 2), its first point not repeated; outer
        rings have a positive area by the shoelace formula, holes a negative one.

    Examples
    --------
    >>> ((ring,),) = outlines(np.array([[7]]), "pixels")[7]
    >>> ring.tolist()
    [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
    """
    tracer = Tracer(labels.shape[1], form)
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
    beside = seen[1:] if last else seen[1:, :-1]
    before, after = beside[:, :-1], beside[:, 1:]
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
