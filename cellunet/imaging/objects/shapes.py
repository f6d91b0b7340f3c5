"""What follows from outlines: length, and how much of the convex hull they fill."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cellunet.imaging.objects.rings import Outline, Ring

    Point = tuple[float, float]


@dataclass(frozen=True)
class Shapes:
    """Of several objects, float64, one value an object."""

    lengths: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    """Lengths of all rings of their outlines in pixels and in micrometres, which are
    NaN where the pixel size is not known."""
    solidity: npt.NDArray[np.float64]
    """Area inside the outline over the area of its convex hull."""


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
    sizes = ((1.0, 1.0), pixel_size_um or (math.nan, math.nan))
    lengths = np.zeros((2, len(found)))
    solidity = np.zeros(len(found))
    for place, outline in enumerate(found):
        steps = [_steps(ring) for polygon in outline for ring in polygon]
        for unit, (py, px) in enumerate(sizes):
            lengths[unit, place] = sum(
                float(np.hypot(s[:, 0] * px, s[:, 1] * py).sum()) for s in steps
            )
        area = sum(ring_area(ring) for polygon in outline for ring in polygon)
        outer = [point for polygon in outline for point in _convex(polygon[0])]
        solidity[place] = area / ring_area(np.array(convex_hull(outer)))
    return Shapes((lengths[0], lengths[1]), solidity)


def _steps(ring: Ring) -> npt.NDArray[np.float64]:
    steps = np.empty_like(ring)
    steps[:-1] = ring[1:] - ring[:-1]
    steps[-1] = ring[0] - ring[-1]
    return steps


def _convex(ring: Ring) -> list[list[float]]:
    """Return the corners at which an outer ring turns outwards, as its hull's do."""
    goes = _steps(ring)
    came = np.concatenate((goes[-1:], goes[:-1]))
    turns = came[:, 0] * goes[:, 1] - came[:, 1] * goes[:, 0]
    corners: list[list[float]] = ring[turns > 0].tolist()
    return corners


def ring_area(ring: Ring) -> float:
    """Return the signed area of a ring by the shoelace formula: holes are negative."""
    x, y = (ring - ring[0]).T
    return float(x[:-1] @ y[1:] - y[:-1] @ x[1:]) / 2


def convex_hull(points: Sequence[Sequence[float]]) -> list[Point]:
    """Return the corners of the convex hull, in the order of outer rings.

    The monotone chain of Andrew, Information Processing Letters 9 (1979) 216-219.

    Examples
    --------
    >>> convex_hull([(0, 0), (1, 1), (2, 0), (2, 2), (0, 2)])
    [(0, 0), (2, 0), (2, 2), (0, 2)]
    """
    ordered = sorted({(x, y) for x, y in points})
    return [*_half_hull(ordered), *_half_hull(ordered[::-1])]


def _half_hull(ordered: Sequence[Point]) -> list[Point]:
    """Return one half of the hull, its last corner left out."""
    half: list[Point] = []
    for x, y in ordered:
        while len(half) >= 2:
            (ax, ay), (bx, by) = half[-2], half[-1]
            if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                break
            half.pop()
        half.append((x, y))
    return half[:-1]
