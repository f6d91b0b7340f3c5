"""Read the shapes that napari saves as CSV, one row a corner.

Coordinates are rows and columns (``axis-0``, ``axis-1``), behind those of planes in a
stack, and count from the center of the first pixel. An ellipse is the four corners of
the box around it, which may be turned.
"""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from cellunet.annotations.foreign import refuse_foreign_file
from cellunet.annotations.json_files import read_bytes, ring, shown
from cellunet.annotations.shapes import DrawnShape, Polygons, ellipse
from cellunet.errors import AnnotationError, some

if TYPE_CHECKING:
    from pathlib import Path

AREAS = ("polygon", "rectangle", "ellipse")

_AGAIN = "In napari, save the layer of shapes again, as CSV."


def napari_drawings(path: Path) -> list[DrawnShape]:
    """Return the shapes of a file, in their order; lines and paths enclose nothing.

    Raises
    ------
    AnnotationError
        If the file cannot be read, a row is none of a shape, the rows of a shape lie
        apart, or shapes lie on several planes.
    """
    (_, head), *rows = _rows(path)
    axes = [place for place, name in enumerate(head) if name.startswith("axis-")]
    if len(axes) < 2 or head[:2] != ["index", "shape-type"]:
        refuse_foreign_file(path)
        raise AnnotationError(f"{path} holds no shapes of napari.", hint=_AGAIN)
    corners = []
    for number, row in rows:
        try:
            corners.append((row[0], row[1], [float(row[place]) for place in axes]))
        except (IndexError, ValueError) as error:
            raise AnnotationError(
                f"{path}: line {number} is {shown(','.join(row))}; index, "
                "shape, number and coordinates of a corner are expected.",
                hint=_AGAIN,
            ) from error
    planes = {tuple(np.rint(point[:-2]).tolist()) for _, _, point in corners}
    if len(planes) > 1:
        raise AnnotationError(
            f"The shapes lie on {len(planes)} planes of a stack.",
            hint="Save the shapes of each plane as a layer of its own, or convert them "
            "to labels.",
        )
    shapes = [
        (index, kind, [point for *_, point in own])
        for (index, kind), own in itertools.groupby(corners, lambda c: c[:2])
    ]
    if apart := [i for i, n in Counter(i for i, *_ in shapes).items() if n > 1]:
        raise AnnotationError(
            f"{path}: the corners of one shape do not follow each other, or are of "
            f"several kinds; shape {some(apart)}.",
            hint=f"Sort the rows by index and vertex-index. {_AGAIN}",
        )
    return [
        _drawing(f"shape {index} ({kind})", kind, points)
        for index, kind, points in shapes
    ]


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the rows that are not blank with their numbers, the head first."""
    lines = csv.reader(read_bytes(path).decode("utf-8", "replace").splitlines())
    rows: list[tuple[int, list[str]]] = []
    try:
        rows.extend((lines.line_num, row) for row in lines if any(row))
    except csv.Error as error:
        read = rows[-1][0] if rows else 0
        raise AnnotationError(
            f"{path} is no CSV after line {read}; a quote may not be closed: {error}.",
            hint=_AGAIN,
        ) from error
    return rows or [(1, [])]


def _drawing(name: str, kind: str, points: list[list[float]]) -> DrawnShape:
    outline = ring([(p[-1] + 0.5, p[-2] + 0.5) for p in points], name)
    if kind not in AREAS:
        return DrawnShape(name, Polygons(()))
    if kind == "ellipse":
        if len(outline) != 4:
            raise AnnotationError(f"{name} has {len(outline)} corners; 4 are expected.")
        across, down = outline[1] - outline[0], outline[3] - outline[0]
        outline = ellipse(outline.mean(axis=0), across / 2, down / 2)
    return DrawnShape(name, Polygons(((outline,),)))
