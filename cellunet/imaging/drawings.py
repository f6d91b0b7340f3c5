"""Shapes that people draw, and how they become labels.

Readers of ROI sets, GeoJSON, COCO and labelme turn what they find into `Drawing`, and
`paint` puts all drawings of one image together by one rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from cellunet.errors import AnnotationError
from cellunet.imaging.annotation_types import Annotation
from cellunet.imaging.rasterize import Filled, fill_window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.imaging.rasterize import Ring

Role = Literal["object", "ignore", "region"]
MAX_NAMED = 3
# QuPath writes "Ignore*" and "Region*"; Fiji numbers names that come twice, "ignore-1".
_SPECIAL = re.compile(r"(ignore|region)\*?([-_. ]?\d+)?", re.IGNORECASE)


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
    """The ellipse in an upright box; coordinates as in `cellunet.imaging.rasterize`."""

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


@dataclass(frozen=True)
class Drawing:
    """One thing that was drawn.

    Parameters
    ----------
    name
        By which a person finds it again.
    figure
        What it encloses.
    role
        ``object``; ``ignore``, a part of the image that says nothing; ``region``, a
        part that is annotated, where only parts are.
    """

    name: str
    figure: Figure
    role: Role = "object"


def role_of(class_name: object) -> Role:
    """Return what a class, label or ROI name makes of a drawing.

    ``ignore`` and ``region``, whatever the case, also with a star or a number behind.

    Examples
    --------
    >>> [role_of(name) for name in ("Ignore*", "region-2", "ignored", None)]
    ['ignore', 'region', 'object', 'object']
    """
    if not isinstance(class_name, str):
        return "object"
    found = _SPECIAL.fullmatch(class_name.strip())
    if found is None:
        return "object"
    return "ignore" if found[1].lower() == "ignore" else "region"


def paint(
    drawings: Sequence[Drawing], shape: tuple[int, int], path: Path, kind: str
) -> Annotation:
    """Put drawings together to labels, numbered from 1 in their order.

    A pixel that several objects claim goes to the smallest of them (then to the one
    drawn first): so no object disappears under a larger one, and the result does not
    depend on an order that programs change when they save.

    Parameters
    ----------
    drawings
        Objects, ignored parts and annotated regions.
    shape
        Rows and columns of the image.
    path, kind
        Where they come from and how they were drawn.

    Raises
    ------
    AnnotationError
        If half of the objects or more lie outside the image, a figure cannot be
        filled, or nothing at all is annotated.
    """
    canvas = _Canvas(shape, path, len(drawings))
    for drawing in drawings:
        canvas.add(drawing)
    return canvas.annotation(kind)


class _Canvas:
    """Labels in the making."""

    def __init__(self, shape: tuple[int, int], path: Path, count: int) -> None:
        self.shape, self.path = shape, path
        self.labels = np.zeros(shape, np.int32)
        self.areas = np.zeros(count + 1, np.int64)
        self.twice = np.zeros(shape, np.bool_)
        self.parts: dict[str, npt.NDArray[np.bool_]] = {}
        self.objects = 0
        self.outside: list[str] = []
        self.crossing: list[str] = []

    def add(self, drawing: Drawing) -> None:
        """Draw one more."""
        try:
            window, inside, crosses, outside = drawing.figure.fill(self.shape)
        except AnnotationError as error:
            raise AnnotationError(
                f"{self.path}: {drawing.name}: {error.message}", hint=error.hint
            ) from error
        if crosses:
            self.crossing.append(drawing.name)
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
        if self.outside and 2 * len(self.outside) >= self.objects:
            raise AnnotationError(
                f"{self.path}: {len(self.outside)} of {self.objects} objects lie "
                f"outside the image of {self.shape[1]} x {self.shape[0]} px (width x "
                f"height): {some(self.outside)}.",
                hint="Were they drawn on another image, or saved at another scale?",
            )
        seen = np.bincount(self.labels.ravel(), minlength=self.objects + 1)[1:]
        return Annotation(
            self.labels,
            kind,
            overlap_px=int(np.count_nonzero(self.twice)),
            hidden=int(np.count_nonzero(seen == 0)) - len(self.outside),
            annotated=self._annotated(),
            outside=len(self.outside),
            notes=tuple(self._notes()),
        )

    def _annotated(self) -> npt.NDArray[np.bool_] | None:
        if not self.parts:
            return None
        everywhere = np.ones(self.shape, np.bool_)
        nowhere = np.zeros(self.shape, np.bool_)
        region = self.parts.get("region", everywhere)
        return region & ~self.parts.get("ignore", nowhere)

    def _notes(self) -> list[str]:
        notes = []
        if self.outside:
            notes.append(
                f"{len(self.outside)} of {self.objects} objects lie outside the image "
                f"and are left out: {some(self.outside)}."
            )
        if self.crossing:
            notes.append(
                f"Outlines that cross themselves ({len(self.crossing)}), filled by the "
                f"even-odd rule: {some(self.crossing)}."
            )
        return notes


def some(names: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    rest = len(names) - MAX_NAMED
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(names[:MAX_NAMED]) + more
