"""Read the shapes that napari saves as CSV, one row a corner.

Coordinates are rows and columns (``axis-0``, ``axis-1``), behind those of planes in a
stack, and count from the center of the first pixel. An ellipse is the four corners of
the box around it, which may be turned.
"""

from __future__ import annotations

import csv
import itertools
from typing import TYPE_CHECKING

from cellunet.annotations.shapes import (
    Drawing,
    Polygons,
    ellipse,
    read_bytes,
    ring,
    shown,
)
from cellunet.errors import AnnotationError

if TYPE_CHECKING:
    from pathlib import Path

AREAS = ("polygon", "rectangle", "ellipse")


def napari_drawings(path: Path) -> list[Drawing]:
    """Return the shapes of a file, in their order; lines and paths enclose nothing.

    Raises
    ------
    AnnotationError
        If the file cannot be read, a row is none of a shape, or shapes lie on several
        planes.
    """
    lines = csv.reader(read_bytes(path).decode("utf-8-sig", "replace").splitlines())
    head = next(lines, [])
    axes = [place for place, name in enumerate(head) if name.startswith("axis-")]
    if len(axes) < 2 or head[:2] != ["index", "shape-type"]:
        raise AnnotationError(f"{path} holds no shapes of napari.")
    corners = []
    for row in lines:
        try:
            corners.append((row[0], row[1], [float(row[place]) for place in axes]))
        except (IndexError, ValueError) as error:
            raise AnnotationError(
                f"{path}: line {lines.line_num} is {shown(','.join(row))}; index, "
                "shape, number and coordinates of a corner are expected.",
                hint="Save the layer of shapes again.",
            ) from error
    planes = {tuple(map(round, point[:-2])) for _, _, point in corners}
    if len(planes) > 1:
        raise AnnotationError(
            f"The shapes lie on {len(planes)} planes of a stack.",
            hint="Save the shapes of each plane as a layer of its own, or convert them "
            "to labels.",
        )
    return [
        _drawing(f"shape {index} ({kind})", kind, [point for *_, point in rows])
        for (index, kind), rows in itertools.groupby(corners, lambda c: c[:2])
    ]


def _drawing(name: str, kind: str, points: list[list[float]]) -> Drawing:
    outline = ring([(p[-1] + 0.5, p[-2] + 0.5) for p in points], name)
    if kind not in AREAS:
        return Drawing(name, Polygons(()))
    if kind == "ellipse":
        if len(outline) != 4:
            raise AnnotationError(f"{name} has {len(outline)} corners; 4 are expected.")
        across, down = outline[1] - outline[0], outline[3] - outline[0]
        outline = ellipse(outline.mean(axis=0), across / 2, down / 2)
    return Drawing(name, Polygons(((outline,),)))
