"""Polygons to pixels.

Coordinates are (x, y) in pixels, counted from the image's upper left corner: the pixel
of row 0, column 0 covers the square [0, 1] x [0, 1] and its centre is (0.5, 0.5). So
count ImageJ and Fiji, QuPath, COCO and labelme. A pixel belongs to a polygon if its
centre lies inside by the even-odd rule over all rings, so that a ring within a ring is
a hole whichever way round it was drawn. A centre exactly on an edge is inside on the
left and upper side of the polygon and outside on the right and lower one: polygons that
share an edge share no pixel and leave none out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cellunet.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Ring = npt.NDArray[np.floating[Any]]
    Window = tuple[slice, slice]

CHUNK = 1 << 20
"""Crossings of edges and rows that are held at once."""
MAX_COORDINATE = 1e300
"""Differences and products by a few of such numbers are still finite."""
MAX_CROSSINGS = 1 << 26
"""A drawing of more, 67 million, is no outline; it would take minutes."""


class Filled(NamedTuple):
    """Pixels of one polygon within its bounding box."""

    window: Window
    """Rows and columns of the box, within the image; empty if it lies outside."""
    inside: npt.NDArray[np.bool_]
    """YX, of the shape of the window."""
    crosses: bool = False
    """Whether a ring crosses itself so that it shows in the pixels."""
    outside: bool = False
    """Whether it lies outside the image altogether."""


def fill(rings: Sequence[Ring], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return which pixels of an image lie inside a polygon.

    Parameters
    ----------
    rings
        Outlines and holes, each of shape (N, 2), x and y in pixels; the last point is
        joined to the first.
    shape
        Rows and columns of the image.

    Returns
    -------
    ndarray
        YX, bool.

    Raises
    ------
    AnnotationError
        If a coordinate is not finite, or the rings have too many crossings.

    Examples
    --------
    >>> fill([np.array([(1, 0), (3, 0), (3, 2), (1, 2)])], (2, 4)).astype(int)
    array([[0, 1, 1, 0],
           [0, 1, 1, 0]])
    """
    image = np.zeros(shape, np.bool_)
    filled = fill_window(rings, shape)
    image[filled.window] = filled.inside
    return image


def fill_window(rings: Sequence[Ring], shape: tuple[int, int]) -> Filled:
    """Return the same as `fill` within the polygon's bounding box alone.

    Each ring is scanned row by row: an edge that crosses a row of pixel centres
    toggles all pixels to the right of it, so that a running sum along the row says how
    often the ring winds around each centre. Odd is inside.
    """
    rings = [np.asarray(ring, np.float64) for ring in rings if len(ring)]
    window, outside = _box(rings, shape)
    size = (window[0].stop - window[0].start, window[1].stop - window[1].start)
    inside = np.zeros(size, np.bool_)
    crosses = False
    if inside.size:
        for ring in rings:
            turns = _winding(ring, window)
            inside ^= (turns & 1).astype(np.bool_)
            # A simple ring winds once around what it encloses, all of it one way.
            crosses |= int(turns.max(initial=0)) - int(turns.min(initial=0)) > 1
    return Filled(window, inside, crosses, outside)


def _box(rings: Sequence[Ring], shape: tuple[int, int]) -> tuple[Window, bool]:
    """Return the pixels whose centres the rings' box holds, and if it is outside."""
    if not rings:
        return (slice(0, 0), slice(0, 0)), False
    points = np.concatenate(rings)
    # False for what is not a number, too.
    if not (np.abs(points) <= MAX_COORDINATE).all():
        raise AnnotationError(
            f"A coordinate is not a finite number up to {MAX_COORDINATE:g}.",
            hint="Draw the object again.",
        )
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    rows = _centres(y0, y1, shape[0])
    columns = _centres(x0, x1, shape[1])
    outside = x1 <= 0 or y1 <= 0 or x0 >= shape[1] or y0 >= shape[0]
    return (rows, columns), bool(outside)


def _centres(low: float, high: float, length: int) -> slice:
    """Return the pixels 0..length - 1 with low <= centre < high."""
    start, stop = np.clip(np.ceil((low - 0.5, high - 0.5)), 0, length).astype(int)
    return slice(int(start), max(int(stop), int(start)))


def _winding(ring: Ring, window: Window) -> npt.NDArray[np.int64]:
    """Return how often a ring winds around each pixel centre of a window, YX."""
    rows, columns = window
    height, width = rows.stop - rows.start, columns.stop - columns.start
    toggles = np.zeros(height * (width + 1), np.int64)
    for row, x, sign in _crossings(ring, rows):
        column = np.clip(np.ceil(x - 0.5) - columns.start, 0, width).astype(np.int64)
        place = (row - rows.start) * (width + 1) + column
        toggles += np.bincount(place, sign, minlength=toggles.size).astype(np.int64)
    turns: npt.NDArray[np.int64] = toggles.reshape(height, width + 1)[:, :-1]
    return turns.cumsum(axis=1)


def _crossings(
    ring: Ring, rows: slice
) -> Iterator[tuple[npt.NDArray[np.int64], Ring, npt.NDArray[np.int64]]]:
    """Yield row, x and direction (1 or -1) where edges cross rows of pixel centres."""
    start, end = ring, np.roll(ring, -1, axis=0)
    sign = np.where(end[:, 1] > start[:, 1], 1, -1)
    upper = np.where((sign > 0)[:, None], start, end)
    lower = np.where((sign > 0)[:, None], end, start)
    bounds = np.ceil(np.stack((upper[:, 1], lower[:, 1])) - 0.5)
    first, stop = np.clip(bounds, rows.start, rows.stop).astype(np.int64)
    count = stop - first
    total = count.cumsum()
    if total.size and total[-1] > MAX_CROSSINGS:
        raise AnnotationError(
            f"An outline of {len(ring):,} points goes up and down {total[-1]:,} rows; "
            f"up to {MAX_CROSSINGS:,} are possible.",
            hint="Draw the object again with fewer points.",
        )
    crossing = np.flatnonzero(count)
    # An edge crosses at most the window's rows, so a chunk is never much larger.
    pieces = np.unique(total[crossing] // CHUNK, return_index=True)[1][1:]
    for edges in np.split(crossing, pieces):
        n = count[edges]
        edge = np.repeat(edges, n)
        step = np.arange(n.sum()) - np.repeat(n.cumsum() - n, n)
        row = first[edge] + step
        (xa, ya), (xb, yb) = upper[edge].T, lower[edge].T
        x = xa + (row + 0.5 - ya) * ((xb - xa) / (yb - ya))
        yield row, x, sign[edge]
