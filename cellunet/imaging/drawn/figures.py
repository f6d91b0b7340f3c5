"""Figures that people draw, and the pixels of an image that they hold.

Coordinates are those of `cellunet.imaging.drawn.rasterize`: x and y in pixels, the
first pixel covering 0 to 1.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cellunet.errors import AnnotationError
from cellunet.imaging.drawn.rasterize import Filled, fill_window

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from cellunet.imaging.drawn.rasterize import Ring, Window

LINE_PX = 3.0
"""Width of a drawn line. One pixel to either side of where it was drawn is about how
steady a hand is; narrower, a line at a slant is not one piece."""
CLICK_PX = 2.0
"""Radius of a click: 13 pixels, which with a boundary of 2 px around them fit into a
nucleus of 9 px across."""
PIECE_PX = 32.0
"""Longest piece of a line that is drawn at once, so that its window is small."""


class Figure(Protocol):
    """Anything that encloses pixels."""

    def fill(self, shape: tuple[int, int]) -> Filled:
        """Return the pixels of an image of `shape` that it encloses."""


@dataclass(frozen=True, eq=False)
class Polygons:
    """One or more polygons, each of an outline and holes; together one figure."""

    polygons: tuple[tuple[Ring, ...], ...]

    def fill(self, shape: tuple[int, int]) -> Filled:
        """Return the pixels that lie in any of the polygons."""
        if len(self.polygons) == 1:
            return fill_window(self.polygons[0], shape)
        parts = [fill_window(rings, shape) for rings in self.polygons]
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
        return Filled((rows, columns), inside, crosses, outside)


@dataclass(frozen=True)
class Oval:
    """The ellipse in an upright box."""

    x0: float
    y0: float
    x1: float
    y1: float

    def fill(self, shape: tuple[int, int]) -> Filled:
        """Return the pixels whose centres lie in the ellipse."""
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

    def fill(self, shape: tuple[int, int]) -> Filled:
        """Return the pixels whose centres the pen covers, on its rim included."""
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
        return Filled(window, inside, outside=not inside.size)


def _reach(line: Ring) -> float:
    return CLICK_PX if len(line) == 1 else LINE_PX / 2


def _covered(low: Ring, high: Ring, within: Window) -> Window:
    """Return the pixels with low <= centre <= high, of x and y, of a window."""
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
