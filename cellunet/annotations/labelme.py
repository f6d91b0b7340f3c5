"""Read the JSON of labelme, one file per image.

labelme draws on the image with its upper left corner at (0, 0), so that a pixel covers
0 to 1; a rectangle is two opposite corners (all four where it may be turned, and as
X-AnyLabeling writes it), a circle its center and a point on it
(``labelme/shape.py``). Its own conversion to masks also takes every pixel that an
outline touches; here, as everywhere, a pixel belongs to the object that holds its
center. A mask is a PNG in the JSON, whose first and last pixel its two points are.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.annotations.json_files import ring, rows, shown, table, whole
from cellunet.annotations.pixels import decode_bitmap
from cellunet.annotations.shapes import (
    Bitmap,
    DrawnShape,
    FillableGroup,
    Oval,
    Polygons,
    Strokes,
    role_of,
    stroke_role,
)
from cellunet.errors import AnnotationError

if TYPE_CHECKING:
    from cellunet.annotations.shapes import Fillable, Role

NOTHING = Polygons(())

CORNERS = 4
"""Of a rectangle that is given by all of them."""


Shape = Callable[[object, str], "Fillable"]
"""From the points of a shape to a figure; the text is for messages."""


def _polygon(points: object, what: str) -> Polygons:
    return Polygons(((ring(points, what),),))


def _rectangle(points: object, what: str) -> Polygons:
    if len(rows(points, what)) == CORNERS:
        return _polygon(points, what)
    if (corners := _two(points, what)) is None:
        return NOTHING
    (x0, y0), (x1, y1) = corners
    return Polygons(((np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]),),))


def _circle(points: object, what: str) -> Fillable:
    if (given := _two(points, what)) is None:
        return NOTHING
    (x, y), (px, py) = given
    radius = math.hypot(px - x, py - y)
    return Oval(x - radius, y - radius, x + radius, y + radius)


def _two(points: object, what: str) -> Any:  # noqa: ANN401
    """Return two points; None if they are one, which encloses nothing."""
    found = ring(points, what)
    if len(found) > 2:
        raise AnnotationError(f"{what} has {len(found)} points; 2 are expected.")
    return found.tolist() if len(np.unique(found, axis=0)) == 2 else None


def _mask(shape: dict[str, Any], what: str) -> Fillable:
    x, y = ring(shape.get("points"), what, least=1)[0]
    try:
        content = base64.b64decode(shape.get("mask") or "", validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise AnnotationError(f"The mask of {what} is no text of base64.") from error
    return Bitmap(int(x), int(y), decode_bitmap(content, f"The mask of {what}"))


def _line(points: object, what: str) -> Strokes:
    return Strokes((ring(points, what, least=1),))


def _clicks(points: object, what: str) -> Strokes:
    found = ring(points, what, least=1)
    return Strokes(tuple(np.split(found, len(found))))


SHAPES: dict[str, Shape] = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "circle": _circle,
    "oriented_rectangle": _polygon,
    "rotation": _polygon,
}

STROKES: dict[str, Shape] = {
    "point": _clicks,
    "points": _clicks,
    "line": _line,
    "linestrip": _line,
}
"""Shapes that can be scribbles."""

AREAS = (*SHAPES, "mask")


def labelme_size(document: object) -> tuple[int, int] | None:
    """Return rows and columns of the image, or None if they are missing."""
    found = table(document, "The document")
    height, width = found.get("imageHeight"), found.get("imageWidth")
    if height is None or width is None:
        return None
    return whole(height, "imageHeight"), whole(width, "imageWidth")


def labelme_drawings(document: object) -> list[DrawnShape]:
    """Return the shapes of a document, in their order.

    Shapes of one label and group number are one object, as labelme means them.
    Shapes labeled ``ignore`` and ``region`` say what does not count; points and lines
    labeled ``interior`` or ``background`` are scribbles.

    Raises
    ------
    AnnotationError
        If a shape is not what it says to be.
    """
    shapes = rows(table(document, "The document").get("shapes"), "shapes")
    groups: dict[tuple[object, ...], list[Fillable]] = {}
    names: dict[tuple[object, ...], tuple[str, Role]] = {}
    for position, one in enumerate(shapes, 1):
        shape = table(one, f"Shape {position}")
        label = shape.get("label")
        name = f"{label if isinstance(label, str) else shown(label)} (shape {position})"
        kind = shape.get("shape_type") or "polygon"
        is_stroke = isinstance(kind, str) and kind in STROKES
        role = stroke_role(label) if is_stroke else role_of(label)
        if not (is_stroke or kind in AREAS) or role is None:
            # It encloses nothing: a line, a point, a text.
            left_out = f"{name}: {shown(kind)}"
            names["alone", position] = left_out, "object"
            groups["alone", position] = [NOTHING]
            continue
        group = None if is_stroke else shape.get("group_id")
        key = ("alone", position) if group is None else (str(label), str(group))
        names.setdefault(key, (name, role))
        figure = (
            _mask(shape, name)
            if kind == "mask"
            else (SHAPES | STROKES)[kind](shape.get("points"), name)
        )
        groups.setdefault(key, []).append(figure)
    return [
        DrawnShape(names[key][0], _together(figures), names[key][1])
        for key, figures in groups.items()
    ]


def _together(figures: list[Fillable]) -> Fillable:
    if all(isinstance(f, Polygons) for f in figures):
        return Polygons(tuple(p for f in figures for p in f.polygons))  # type: ignore[attr-defined]
    return figures[0] if len(figures) == 1 else FillableGroup(tuple(figures))
