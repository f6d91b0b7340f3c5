"""Outlines as GeoJSON, which QuPath opens as detections with their measurements.

A FeatureCollection with one Feature an object. Its geometry is a Polygon, or a
MultiPolygon if it is in several pieces, in pixels from the upper left corner of the
image; outer rings run counterclockwise by the formula of RFC 7946 (y taken as up) and
the first point is repeated. QuPath's own members are ``plane`` in the geometry (``c``
-1: every channel; ``z`` and ``t`` from 0), and ``objectType``, ``name`` and
``measurements`` (name to number, as it writes them since version 0.4) in the
properties. What is not known is left out. All text is ASCII, everything else escaped.
"""

from __future__ import annotations

import json
import math
import uuid
from typing import TYPE_CHECKING, Any

from cellunet.imaging.atomic import PendingFile, close_unwanted, writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cellunet.imaging.objects.rings import Outline, Polygon
    from cellunet.imaging.objects.stream import Batch

NAMESPACE = uuid.UUID("7d1f0c0e-5a0c-4a0e-9a53-1f5f7c1d9b52")
"""Of the names from which ids follow: drawn at random once."""
CLASS = {"name": "nucleus", "color": [230, 159, 0]}
"""The class of detections in QuPath, and its colour, that of outlines elsewhere."""


class GeoJson:
    """A GeoJSON file being written.

    Parameters
    ----------
    path
        Where it is to appear.
    image
        Path of the image below the common folder; ids follow from it, the plane and
        the object's number, so that the same objects have the same ids.
    """

    def __init__(self, path: Path, image: str) -> None:
        self._image = image
        self._pending = PendingFile(path)
        self._between = "\n"
        with writing(path):
            self._file = self._pending.temporary.open("w", encoding="ascii")
            self._file.write('{"type":"FeatureCollection","features":[')

    def add(self, place: dict[str, int], batch: Batch) -> None:
        """Append the objects of a batch; `place` has ``t`` and ``z`` if there are."""
        with writing(self._pending.path):
            for feature in features(self._image, place, batch):
                # NaN is no JSON; `features` leaves it out, and this makes sure.
                text = json.dumps(feature, separators=(",", ":"), allow_nan=False)
                self._file.write(self._between + text)
                self._between = ",\n"

    def commit(self) -> None:
        """Make the complete file appear."""
        with writing(self._pending.path):
            self._file.write("\n]}\n")
            self._file.close()
        self._pending.commit()

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        close_unwanted(self._file)
        self._pending.abort()


def features(
    image: str, place: dict[str, int], batch: Batch
) -> Iterator[dict[str, Any]]:
    """Yield each object of a batch as a Feature.

    Parameters
    ----------
    image
        Path of the image below the common folder.
    place
        Numbers of the plane along ``t`` and ``z``, if there are.
    batch
        The objects.
    """
    plane = {"c": -1, "z": place.get("z", 0), "t": place.get("t", 0)}
    names = list(batch.table)
    rows = zip(*(column.tolist() for column in batch.table.values()), strict=True)
    where = json.dumps([image, plane["t"], plane["z"]])
    for number, outline, row in zip(
        batch.ids.tolist(), batch.outlines, rows, strict=True
    ):
        known = zip(names, map(_rounded, row), strict=True)
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(NAMESPACE, f"{where} {number}")),
            "geometry": {**geometry(outline), "plane": plane},
            "properties": {
                "objectType": "detection",
                "name": str(number),
                "classification": CLASS,
                "measurements": {k: v for k, v in known if v is not None},
            },
        }


def geometry(outline: Outline) -> dict[str, Any]:
    """Return an outline as a GeoJSON geometry."""
    pieces = [_closed(polygon) for polygon in outline]
    if len(pieces) == 1:
        return {"type": "Polygon", "coordinates": pieces[0]}
    return {"type": "MultiPolygon", "coordinates": pieces}


def _closed(polygon: Polygon) -> list[list[list[float]]]:
    rings = [ring.tolist() for ring in polygon]
    return [[*map(_short, ring), _short(ring[0])] for ring in rings]


def _short(point: list[float]) -> list[float]:
    """Return a point with whole numbers as such: 12 in place of 12.0."""
    return [int(v) if v.is_integer() else v for v in point]


def _rounded(value: float) -> float | None:
    """Return nine significant digits as in CSV tables, None for what is not known."""
    if isinstance(value, int) or not math.isfinite(value):
        return value if isinstance(value, int) else None
    return int(value) if value.is_integer() else float(f"{value:.9g}")
