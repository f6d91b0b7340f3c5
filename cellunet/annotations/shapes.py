"""Fill polygons and other shapes that people draw, and paint them as labels.

Coordinates are (x, y) in pixels, counted from the image's upper left corner: the pixel
of row 0, column 0 covers the square [0, 1] x [0, 1] and its center is (0.5, 0.5). So
count most programs; readers of others add half a pixel. A pixel belongs to a polygon if
its center lies inside by the even-odd rule over all rings, so that a ring within a ring
is a hole whichever way round it was drawn. A center exactly on an edge is inside on the
left and upper side of the polygon and outside on the right and lower one, for ImageJ
the other way round: polygons that share an edge share no pixel and leave none out.

The reader of each format turns what it finds into `DrawnShape`, and `paint` puts all
drawings of one image together by one rule. Lines, clicks and brushed
areas that say "inside an object" or "background" are scribbles
(`cellunet.annotations.pixels`).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from cellunet.annotations.pixels import with_scribbles
from cellunet.annotations.types import Annotation
from cellunet.errors import AnnotationError, some
from cellunet.imaging.targets import SCRIBBLED_BACKGROUND, SCRIBBLED_INTERIOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Ring = npt.NDArray[np.floating[Any]]
    Window = tuple[slice, slice]

CHUNK = 1 << 20
"""Crossings of edges and rows in memory at once."""

MAX_COORDINATE = 1e150
"""Products of two such numbers, and sums of these, are still finite."""

MAX_CROSSINGS = 1 << 26
"""A drawing of more, 67 million, is no outline; it would take minutes."""


class FilledPixels(NamedTuple):
    """Pixels of one polygon within its bounding box."""

    window: Window
    """Rows and columns of the box, within the image; empty if it lies outside."""
    inside: npt.NDArray[np.bool_]
    """YX, of the shape of the window."""
    crosses: bool = False
    """Whether a ring crosses itself so that it shows in the pixels."""
    outside: bool = False
    """Whether it lies outside the image altogether."""


FirstCenter = Callable[["Ring"], "Ring"]
"""From coordinates to the first pixel whose center counts as beyond them."""


def _at_or_after(values: Ring) -> Ring:
    found: Ring = np.ceil(values - 0.5)
    return found


def _after(values: Ring) -> Ring:
    found: Ring = np.floor(values + 0.5)
    return found


def fill_window(
    rings: Sequence[Ring], shape: tuple[int, int], *, lower_right: bool = False
) -> FilledPixels:
    """Return which pixels lie inside a polygon, within its bounding box.

    Each ring is scanned row by row: an edge that crosses a row of pixel centers
    toggles all pixels to the right of it, so that a running sum along the row says how
    often the ring winds around each center. Odd is inside.

    Parameters
    ----------
    rings
        Outlines and holes, each of shape (N, 2), x and y in pixels; the last point is
        joined to the first.
    shape
        Rows and columns of the image.
    lower_right
        Whether centers exactly on the right and lower side are inside, and those on the
        left and upper one are not; else it is the other way round.

    Raises
    ------
    AnnotationError
        If a coordinate is not finite, or the rings have too many crossings.

    Examples
    --------
    >>> fill_window([np.array([(1, 0), (3, 0), (3, 2), (1, 2)])], (3, 4)).window
    (slice(0, 2, None), slice(1, 3, None))
    """
    rings = [np.asarray(ring, np.float64) for ring in rings if len(ring)]
    first = _after if lower_right else _at_or_after
    window, outside = _box(rings, shape, first)
    size = (window[0].stop - window[0].start, window[1].stop - window[1].start)
    inside = np.zeros(size, np.bool_)
    crosses = False
    if inside.size:
        for ring in rings:
            turns = _winding(ring, window, first)
            inside ^= (turns & 1).astype(np.bool_)
            # A simple ring winds once around what it encloses, all of it one way.
            crosses |= int(turns.max(initial=0)) - int(turns.min(initial=0)) > 1
    return FilledPixels(window, inside, crosses, outside)


def _box(
    rings: Sequence[Ring], shape: tuple[int, int], first: FirstCenter
) -> tuple[Window, bool]:
    """Return the pixels whose centers the rings' box holds, and if it is outside."""
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
    rows = _centers(first(np.array([y0, y1])), shape[0])
    columns = _centers(first(np.array([x0, x1])), shape[1])
    outside = x1 <= 0 or y1 <= 0 or x0 >= shape[1] or y0 >= shape[0]
    return (rows, columns), bool(outside)


def _centers(bounds: Ring, length: int) -> slice:
    """Return the pixels 0..length - 1 from the first to before the last of two."""
    start, stop = np.clip(bounds, 0, length).astype(int)
    return slice(int(start), max(int(stop), int(start)))


def _winding(ring: Ring, window: Window, first: FirstCenter) -> npt.NDArray[np.int64]:
    """Return how often a ring winds around each pixel center of a window, YX."""
    rows, columns = window
    height, width = rows.stop - rows.start, columns.stop - columns.start
    toggles = np.zeros(height * (width + 1), np.int64)
    for row, x, sign in _crossings(ring, rows, first):
        column = np.clip(first(x) - columns.start, 0, width).astype(np.int64)
        place = (row - rows.start) * (width + 1) + column
        toggles += np.bincount(place, sign, minlength=toggles.size).astype(np.int64)
    turns: npt.NDArray[np.int64] = toggles.reshape(height, width + 1)[:, :-1]
    return turns.cumsum(axis=1)


def _crossings(
    ring: Ring, rows: slice, first_center: FirstCenter
) -> Iterator[tuple[npt.NDArray[np.int64], Ring, npt.NDArray[np.int64]]]:
    """Yield row, x and direction (1 or -1) where edges cross rows of pixel centers."""
    start, end = ring, np.roll(ring, -1, axis=0)
    sign = np.where(end[:, 1] > start[:, 1], 1, -1)
    upper = np.where((sign > 0)[:, None], start, end)
    lower = np.where((sign > 0)[:, None], end, start)
    bounds = first_center(np.stack((upper[:, 1], lower[:, 1])))
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


LINE_PX = 3.0
"""Width of a drawn line. One pixel to either side of where it was drawn is about how
steady a hand is; narrower, a line at a slant is not one piece."""

CLICK_PX = 2.0
"""Radius of a click: 13 pixels, which with a boundary of 2 px around them fit into a
nucleus of 9 px across."""

PIECE_PX = 32.0
"""Longest piece of a line that is drawn at once, so that its window is small."""


class Fillable(Protocol):
    """Anything that encloses pixels."""

    def fill(self, shape: tuple[int, int]) -> FilledPixels:
        """Return the pixels of an image of `shape` that it encloses."""


@dataclass(frozen=True, eq=False)
class Polygons:
    """One or more polygons, each of an outline and holes; together one figure."""

    polygons: tuple[tuple[Ring, ...], ...]
    lower_right: bool = False
    """Whether centers on the lower and right side are inside: see `fill_window`."""

    @property
    def encloses(self) -> bool:
        """Whether any ring has 3 different points or more."""
        return any(map(_encloses, itertools.chain(*self.polygons)))

    def fill(self, shape: tuple[int, int]) -> FilledPixels:
        """Return the pixels that lie in any of the polygons."""
        return _union(
            [
                fill_window(rings, shape, lower_right=self.lower_right)
                for rings in self.polygons
            ]
        )


def _encloses(ring: Ring) -> bool:
    if len(ring) < 3:
        return False
    others = ring[(ring != ring[0]).any(axis=1)]
    return len(others) > 0 and bool((others != others[0]).any())


ELLIPSE_POINTS = 720
"""Of an outline; at a radius of 500 px it lies .005 px within the ellipse."""


def ellipse(center: Ring, across: Ring, down: Ring) -> Ring:
    """Return the outline of an ellipse, (N, 2), of its center and two half axes.

    Examples
    --------
    >>> outline = ellipse(np.array([5, 5]), np.array([3, 0]), np.array([0, 2]))
    >>> fill_window([outline], (10, 10)).inside.sum(axis=1).tolist()
    [4, 6, 6, 4]
    """
    angles = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS, endpoint=False)[:, np.newaxis]
    outline: Ring = center + np.cos(angles) * across + np.sin(angles) * down
    return outline


@dataclass(frozen=True, eq=False)
class FillableGroup:
    """Several figures of different kinds that are one."""

    figures: tuple[Fillable, ...]

    def fill(self, shape: tuple[int, int]) -> FilledPixels:
        """Return the pixels that lie in any of the figures."""
        return _union([figure.fill(shape) for figure in self.figures])


@dataclass(frozen=True, eq=False)
class Bitmap:
    """Pixels, YX, of which the first is in column `x` and row `y`."""

    x: int
    y: int
    pixels: npt.NDArray[np.bool_]

    def fill(self, shape: tuple[int, int]) -> FilledPixels:
        """Return those of the pixels that lie in the image."""
        (height, width), (y, x) = self.pixels.shape, (self.y, self.x)
        rows = slice(min(max(y, 0), shape[0]), max(min(y + height, shape[0]), 0))
        columns = slice(min(max(x, 0), shape[1]), max(min(x + width, shape[1]), 0))
        inside = self.pixels[
            rows.start - y : rows.stop - y, columns.start - x : columns.stop - x
        ]
        return FilledPixels((rows, columns), inside, outside=not inside.size)


def _union(parts: Sequence[FilledPixels]) -> FilledPixels:
    """Return the pixels that are in any of several."""
    if len(parts) == 1:
        return parts[0]
    outside = all(p.outside for p in parts)
    boxes = [p.window for p in parts if p.inside.size]
    rows, columns = (
        slice(min(b[i].start for b in boxes), max(b[i].stop for b in boxes))
        if boxes
        else slice(0, 0)
        for i in (0, 1)
    )
    inside = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
    for (r, c), part, *_ in parts:
        view = np.s_[
            r.start - rows.start : r.stop - rows.start,
            c.start - columns.start : c.stop - columns.start,
        ]
        if part.size:
            inside[view] |= part
    crosses = any(p.crosses for p in parts)
    return FilledPixels((rows, columns), inside, crosses, outside)


@dataclass(frozen=True, eq=False)
class OutermostPixels:
    """The same where outlines run through the centers of the outermost pixels.

    Parameters
    ----------
    polygons
        Rings in steps along rows, columns and diagonals, at pixels' numbers or at
        their centers.
    """

    polygons: Polygons

    def fill(self, shape: tuple[int, int]) -> FilledPixels:
        """Return the pixels that lie on or in any of the polygons."""
        rings = [
            [np.floor(ring) + 0.5 for ring in rings] for rings in self.polygons.polygons
        ]
        inner = Polygons(tuple(map(tuple, rings))).fill(shape)
        places = np.concatenate([_on_ring(r) for part in rings for r in part])
        x, y = places[(places >= 0).all(axis=1) & (places < shape[::-1]).all(axis=1)].T
        both = [inner]
        if len(x):
            window = (slice(y.min(), y.max() + 1), slice(x.min(), x.max() + 1))
            on_ring = np.zeros((np.ptp(y) + 1, np.ptp(x) + 1), np.bool_)
            on_ring[y - y.min(), x - x.min()] = True
            both.append(FilledPixels(window, on_ring))
        found = _union(both)
        if not found.inside.any():
            return found._replace(outside=True)
        return FilledPixels(found.window, found.inside)


def _on_ring(ring: Ring) -> npt.NDArray[np.int64]:
    """Return the pixels on a ring of steps along rows, columns and diagonals."""
    places = np.floor(ring).astype(np.int64)
    steps = np.roll(places, -1, axis=0) - places
    count = np.abs(steps).max(axis=1)
    along = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    found: npt.NDArray[np.int64] = np.repeat(places, count, axis=0) + (
        np.repeat(np.sign(steps), count, axis=0) * along[:, None]
    )
    return found


def runs_through_centers(drawings: Sequence[DrawnShape]) -> bool:
    """Return whether all outlines of objects go from pixel to pixel.

    They do so in steps along rows, columns and diagonals, all between whole numbers or
    all between centers, half of them or more with a diagonal: outlines along the edges
    of pixels have none, those that people draw go in other directions too.

    Parameters
    ----------
    drawings
        Of one image.
    """
    objects = [d.figure for d in drawings if d.role == "object"]
    slanted, fractions = 0, set()
    for figure in objects:
        if not isinstance(figure, Polygons):
            return False
        diagonal = False
        for ring in itertools.chain(*figure.polygons):
            fractions |= set(np.unique(np.asarray(ring) % 1).tolist())
            if len(fractions) > 1 or not fractions <= {0.0, 0.5}:
                return False
            dx, dy = np.abs(np.roll(ring, -1, axis=0) - ring).T
            if not ((dx == 0) | (dy == 0) | (dx == dy)).all():
                return False
            diagonal = diagonal or bool(((dx == dy) & (dx > 0)).any())
        slanted += diagonal
    return slanted > 0 and 2 * slanted >= len(objects)


@dataclass(frozen=True)
class Oval:
    """The ellipse in an upright box."""

    x0: float
    y0: float
    x1: float
    y1: float

    def fill(self, shape: tuple[int, int]) -> FilledPixels:
        """Return the pixels whose centers lie in the ellipse."""
        box = np.array([(self.x0, self.y0), (self.x1, self.y0), (self.x1, self.y1)])
        whole = fill_window([np.vstack((box, [(self.x0, self.y1)]))], shape)
        window, inside, *_ = whole
        y, x = np.ogrid[window]
        cy, cx = (self.y0 + self.y1) / 2, (self.x0 + self.x1) / 2
        ry, rx = abs(self.y1 - self.y0) / 2, abs(self.x1 - self.x0) / 2
        if inside.size:
            inside &= ((y + 0.5 - cy) / ry) ** 2 + ((x + 0.5 - cx) / rx) ** 2 <= 1
        return whole


@dataclass(frozen=True, eq=False)
class Strokes:
    """Lines and clicks of a round pen.

    Parameters
    ----------
    lines
        Each (N, 2), x and y; a single point is a click.
    """

    lines: tuple[Ring, ...]

    def fill(self, shape: tuple[int, int]) -> FilledPixels:
        """Return the pixels whose centers the pen covers, on its rim included."""
        for line in self.lines:
            if not np.isfinite(line).all():
                raise AnnotationError(
                    "A coordinate is not a finite number.", hint="Draw it again."
                )
        low = np.min([line.min(axis=0) - _reach(line) for line in self.lines], axis=0)
        high = np.max([line.max(axis=0) + _reach(line) for line in self.lines], axis=0)
        window = _covered(low, high, (slice(0, shape[0]), slice(0, shape[1])))
        size = (window[0].stop - window[0].start, window[1].stop - window[1].start)
        inside = np.zeros(size, np.bool_)
        for line in self.lines:
            for start, end in _pieces(line):
                _draw(start, end, _reach(line), window, inside)
        return FilledPixels(window, inside, outside=not inside.size)


def _reach(line: Ring) -> float:
    return CLICK_PX if len(line) == 1 else LINE_PX / 2


def _covered(low: Ring, high: Ring, within: Window) -> Window:
    """Return the pixels with low <= center <= high, of x and y, of a window."""
    start = np.ceil(low - 0.5)[::-1]
    stop = np.floor(high - 0.5)[::-1] + 1
    first, last = (
        np.clip(v, [w.start for w in within], [w.stop for w in within]).astype(int)
        for v in (start, stop)
    )
    rows, columns = (
        slice(int(a), max(int(a), int(b))) for a, b in zip(first, last, strict=True)
    )
    return rows, columns


def _pieces(line: Ring) -> Iterator[tuple[Ring, Ring]]:
    """Yield short pieces of a line; of a click the point itself twice."""
    line = np.asarray(line, np.float64)
    if len(line) == 1:
        yield line[0], line[0]
    for start, end in itertools.pairwise(line):
        count = max(math.ceil(math.hypot(*(end - start)) / PIECE_PX), 1)
        points = start + (end - start) * (np.arange(count + 1) / count)[:, None]
        yield from itertools.pairwise(points)


def _draw(
    start: Ring,
    end: Ring,
    reach: float,
    window: Window,
    inside: npt.NDArray[np.bool_],
) -> None:
    """Mark the pixels of `window` within `reach` of a straight piece."""
    low, high = np.minimum(start, end) - reach, np.maximum(start, end) + reach
    rows, columns = _covered(low, high, window)
    y, x = np.ogrid[rows, columns]
    x, y = x + 0.5 - start[0], y + 0.5 - start[1]
    dx, dy = end - start
    along = np.clip((x * dx + y * dy) / ((dx * dx + dy * dy) or 1.0), 0.0, 1.0)
    near = (x - along * dx) ** 2 + (y - along * dy) ** 2 <= reach**2
    inside[
        rows.start - window[0].start : rows.stop - window[0].start,
        columns.start - window[1].start : columns.stop - window[1].start,
    ] |= near


Role = Literal["object", "ignore", "region", "background", "interior"]

THROUGH_CENTERS = (
    "All outlines go from pixel to pixel. If they were traced through the centers of "
    "the outermost pixels (Cellpose's outlines, cv2.findContours), objects lose a row "
    "and a column here; with --through-centers they are read as meant."
)
"""Note on drawings for which `runs_through_centers`."""

BAND_PX = 512
"""Rows that are looked at at once."""

# QuPath writes "Ignore*" and "Region*"; Fiji numbers names that come twice, "ignore-1".
_NUMBERED = r"\*?([-_. ]?\d+)?"

_SPECIAL = re.compile(rf"(ignore|region|background|interior){_NUMBERED}", re.IGNORECASE)

_STROKE = re.compile(
    rf"(background|(interior|object|cell|nucleus)){_NUMBERED}", re.IGNORECASE
)


@dataclass(frozen=True)
class DrawnShape:
    """One thing that was drawn.

    Parameters
    ----------
    name
        By which a person finds it again.
    figure
        What it encloses.
    role
        ``object``; ``ignore``, a part of the image that does not count; ``region``, a
        part that is annotated, where only parts are; ``background`` and ``interior``,
        scribbles.
    plane
        Of a stack, on which it was drawn, as its format tells it; (): on none.
    """

    name: str
    figure: Fillable
    role: Role = "object"
    plane: tuple[Any, ...] = ()


def role_of(class_name: object) -> Role:
    """Return what a class, label or ROI name makes of an area.

    ``ignore``, ``region``, ``background`` and ``interior``, whatever the case, also
    with a star or a number behind.

    Examples
    --------
    >>> [role_of(name) for name in ("Ignore*", "region-2", "ignored", None)]
    ['ignore', 'region', 'object', 'object']
    """
    found = _matched(_SPECIAL, class_name)
    return "object" if found is None else found[1].lower()  # type: ignore[return-value]


def stroke_role(class_name: object) -> Role | None:
    """Return what a class, label or ROI name makes of a line or a click.

    ``nucleus``, ``cell`` and ``object`` mean ``interior`` here: who clicks on a
    nucleus does not show where it ends. None if the name is none of these.

    Examples
    --------
    >>> [stroke_role(name) for name in ("Nucleus", "background-2", "spot")]
    ['interior', 'background', None]
    """
    found = _matched(_STROKE, class_name)
    if found is None:
        return None
    return "interior" if found[2] else "background"


def _matched(pattern: re.Pattern[str], name: object) -> re.Match[str] | None:
    return pattern.fullmatch(name.strip()) if isinstance(name, str) else None


def paint(
    drawings: Sequence[DrawnShape],
    shape: tuple[int, int],
    path: Path,
    kind: str,
    *,
    notes: Sequence[str] = (),
    through_centers: bool = False,
) -> Annotation:
    """Put drawings together to labels, numbered from 1 in their order.

    A pixel that several objects claim goes to the smallest of them (then to the one
    drawn first): so no object disappears under a larger one, and the result does not
    depend on an order that programs change when they save. What encloses nothing is
    left out and named.

    Parameters
    ----------
    drawings
        Objects, ignored parts, annotated regions and scribbles.
    shape
        Rows and columns of the image.
    path, kind
        Where they come from and how they were drawn.
    notes
        What their reader has to say.
    through_centers
        Take outlines for those through the centers of the outermost pixels, where
        `runs_through_centers`; else a note tells.

    Raises
    ------
    AnnotationError
        If half of the objects or of the scribbles lie outside the image, all of them
        enclose nothing, or a figure cannot be filled.
    """
    drawings, empty = _enclosing(drawings, path)
    canvas = _Canvas(shape, path, len(drawings))
    centers = runs_through_centers(drawings)
    for drawing in drawings:
        figure = drawing.figure
        if through_centers and centers and isinstance(figure, Polygons):
            figure = OutermostPixels(figure)
        canvas.add(replace(drawing, figure=figure))
    found = canvas.annotation(kind)
    hint = [THROUGH_CENTERS] if centers and not through_centers else []
    return replace(found, notes=(*found.notes, *notes, *empty, *hint))


def _enclosing(
    drawings: Sequence[DrawnShape], path: Path
) -> tuple[list[DrawnShape], list[str]]:
    """Return the drawings that enclose something, and a note on the others."""
    kept, empty = [], []
    for drawing in drawings:
        figure = drawing.figure
        if isinstance(figure, Polygons) and not figure.encloses:
            empty.append(drawing.name)
        else:
            kept.append(drawing)
    if not empty:
        return kept, []
    if not kept:
        raise AnnotationError(
            f"{path}: no shape encloses an area: {some(empty)}.",
            hint="Export polygons or masks, not boxes or lines alone. Points and lines "
            "named 'interior' or 'background' are scribbles.",
        )
    told = f"{len(empty)} of {len(drawings)} shapes enclose nothing and are left out"
    return kept, [f"{told}: {some(empty)}."]


class _Canvas:
    """Labels in the making."""

    def __init__(self, shape: tuple[int, int], path: Path, count: int) -> None:
        self.shape, self.path = shape, path
        self.labels = np.zeros(shape, np.int32)
        self.areas = np.zeros(count + 1, np.int64)
        self.twice = np.zeros(shape, np.bool_)
        self.parts: dict[str, npt.NDArray[np.bool_]] = {}
        self.objects = self.strokes = 0
        self.outside: list[str] = []
        self.lost: list[str] = []
        self.crossing: list[str] = []

    def add(self, drawing: DrawnShape) -> None:
        """Draw one more."""
        try:
            window, inside, crosses, outside = drawing.figure.fill(self.shape)
        except AnnotationError as error:
            raise AnnotationError(
                f"{self.path}: {drawing.name}: {error.message}", hint=error.hint
            ) from error
        if crosses:
            self.crossing.append(drawing.name)
        if drawing.role in ("background", "interior"):
            self.strokes += 1
            self.lost += [drawing.name] if outside else []
        if drawing.role != "object":
            part = self.parts.setdefault(drawing.role, np.zeros(self.shape, np.bool_))
            part[window] |= inside
            return
        self.objects += 1
        if outside:
            self.outside.append(drawing.name)
            return
        self._claim(window, inside)

    def _claim(
        self, window: tuple[slice, slice], inside: npt.NDArray[np.bool_]
    ) -> None:
        number, area = self.objects, int(np.count_nonzero(inside))
        self.areas[number] = area
        labels = self.labels[window]
        taken = labels > 0
        self.twice[window] |= inside & taken
        labels[inside & (~taken | (self.areas[labels] > area))] = number

    def annotation(self, kind: str) -> Annotation:
        """Return what came of it."""
        self._refuse_elsewhere(self.outside, self.objects, "objects")
        self._refuse_elsewhere(self.lost, self.strokes, "scribbles")
        seen = np.zeros(self.objects + 1, np.bool_)
        for y0 in range(0, self.shape[0], BAND_PX):
            # In bands, since an index is widened to 8 bytes a pixel.
            seen[self.labels[y0 : y0 + BAND_PX]] = True
        found = Annotation(
            self.labels,
            kind,
            overlap_px=int(np.count_nonzero(self.twice)),
            hidden=int(np.count_nonzero(~seen[1:])) - len(self.outside),
            annotated=self._annotated(),
            outside=len(self.outside),
            notes=tuple(self._notes()),
        )
        if not self.strokes:
            return found
        return with_scribbles(found, self._scribbles(), self.parts.get("ignore"))

    def _refuse_elsewhere(self, names: list[str], count: int, what: str) -> None:
        if names and 2 * len(names) >= count:
            raise AnnotationError(
                f"{self.path}: {len(names)} of {count} {what} lie outside the image of "
                f"{self.shape[1]} x {self.shape[0]} px (width x height): "
                f"{some(names)}.",
                hint="Were they drawn on another image, or saved at another scale?",
            )

    def _scribbles(self) -> npt.NDArray[np.uint8]:
        """Return what is scribbled; a pixel scribbled as both does not count."""
        nowhere = np.zeros(self.shape, np.bool_)
        background = self.parts.get("background", nowhere)
        interior = self.parts.get("interior", nowhere)
        scribbles = np.zeros(self.shape, np.uint8)
        scribbles[background & ~interior] = SCRIBBLED_BACKGROUND
        scribbles[interior & ~background] = SCRIBBLED_INTERIOR
        return scribbles

    def _annotated(self) -> npt.NDArray[np.bool_] | None:
        if not self.parts:
            return None
        region, ignored = self.parts.get("region"), self.parts.get("ignore")
        if region is None:
            if self.strokes:
                # Who scribbles does not mean that all else is background.
                return None
            region = np.ones(self.shape, np.bool_)
        return region if ignored is None else region & ~ignored

    def _notes(self) -> list[str]:
        notes = []
        if self.outside:
            notes.append(
                f"{len(self.outside)} of {self.objects} objects lie outside the image "
                f"and are left out: {some(self.outside)}."
            )
        if self.lost:
            notes.append(
                f"{len(self.lost)} of {self.strokes} scribbles lie outside the image "
                f"and are left out: {some(self.lost)}."
            )
        if self.crossing:
            notes.append(
                f"Outlines that cross themselves ({len(self.crossing)}), filled by the "
                f"even-odd rule: {some(self.crossing)}."
            )
        return notes
