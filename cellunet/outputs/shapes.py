"""Outlines as GeoJSON for QuPath and as ROI sets for ImageJ.

A FeatureCollection with one Feature an object. Its geometry is a Polygon, or a
MultiPolygon if it is in several pieces, in pixels from the upper left corner of the
image; outer rings run counterclockwise by the formula of RFC 7946 (y taken as up) and
the first point is repeated. QuPath's own members are ``plane`` in the geometry (``c``
-1: every channel; ``z`` and ``t`` from 0), and ``objectType``, ``name`` and
``measurements`` (name to number, as it writes them since version 0.4) in the
properties. What is not known is left out. All text is ASCII, everything else escaped.

One ROI an object in a zip file, named by the object's number in the label image
(``00012``, in a stack ``t000_z003_00012``), so that Fiji lists them in that order. An
object of one piece without a hole is a polygon with sub-pixel coordinates, any other a
composite. Fiji fills a polygon where the center of a pixel lies inside, which gives the
object's very pixels.
"""

from __future__ import annotations

import json
import math
import uuid
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.io.files import PendingFile, close_unwanted, writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.imaging.measure import ObjectBatch
    from cellunet.imaging.outlines import Outline, Polygon

NAMESPACE = uuid.UUID("7d1f0c0e-5a0c-4a0e-9a53-1f5f7c1d9b52")
"""Of the names from which ids follow: drawn at random once."""

CLASS = {"name": "nucleus", "color": [230, 159, 0]}
"""The class of detections in QuPath, and its color, that of outlines elsewhere."""


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
        with self._pending.opening():
            self._file = self._pending.temporary.open("w", encoding="ascii")
            self._file.write('{"type":"FeatureCollection","features":[')

    def add(self, place: dict[str, int], batch: ObjectBatch) -> None:
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
    image: str, place: dict[str, int], batch: ObjectBatch
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


MOVE, LINE, CLOSE = 0.0, 1.0, 4.0
"""Commands of a path, as of java.awt.geom.PathIterator."""

ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The same objects give the same bytes."""

FORMAT_VERSION = 227
"""Of ImageJ's format: from 222 on points may lie between pixels."""


@dataclass(frozen=True)
class Place:
    """The plane of a file that a ROI belongs to: numbers from 0, None without."""

    t: int | None = None
    z: int | None = None
    channels: int = 1
    """Channels of the image file: with several, Fiji shows a hyperstack."""

    @classmethod
    def of(cls, place: dict[str, int], channels: int) -> Place:
        """Return the place of a plane from its numbers along ``t`` and ``z``."""
        return cls(place.get("t"), place.get("z"), channels)

    def name(self, number: int) -> str:
        """Return the name of an object's ROI."""
        axes = (("t", self.t), ("z", self.z))
        front = "".join(f"{a}{n:03d}_" for a, n in axes if n is not None)
        return f"{front}{number:05d}"

    @property
    def fields(self) -> dict[str, int]:
        """Return the position as ImageJ stores it, numbers from 1.

        A stack along one axis is counted through; a hyperstack has a number per axis,
        which takes precedence over the other.
        """
        numbers = [n for n in (self.t, self.z) if n is not None]
        if len(numbers) == 1 and self.channels == 1:
            return {"position": numbers[0] + 1}
        axes = (("t_position", self.t), ("z_position", self.z))
        return {name: n + 1 for name, n in axes if n is not None}


def roi_bytes(outline: Outline, place: Place, number: int) -> bytes:
    """Return one object as the content of a ``.roi`` file.

    Parameters
    ----------
    outline
        Its outline.
    place
        Its plane.
    number
        Its label.
    """
    # Here, because most calls write none.
    import roifile

    points = np.concatenate([ring for polygon in outline for ring in polygon])
    low = np.floor(points.min(axis=0)).astype(int)
    high = np.ceil(points.max(axis=0)).astype(int)
    roi = roifile.ImagejRoi(name=place.name(number), **place.fields)
    roi.version = FORMAT_VERSION
    roi.left, roi.top = map(int, low)
    roi.right, roi.bottom = map(int, high)
    if len(outline) == 1 and len(outline[0]) == 1:
        roi.roitype = roifile.ROI_TYPE.POLYGON
        roi.options = roifile.ROI_OPTIONS.SUB_PIXEL_RESOLUTION
        roi.n_coordinates = len(points)
        roi.subpixel_coordinates = points.astype(np.float32)
        # For readers that know whole pixels only, relative to the upper left corner.
        roi.integer_coordinates = np.rint(points).astype(np.int32) - low
    else:
        roi.roitype = roifile.ROI_TYPE.RECT
        roi.multi_coordinates = _path(outline)
        roi.shape_roi_size = len(roi.multi_coordinates)
    content: bytes = roi.tobytes()
    return content


def _path(outline: Outline) -> npt.NDArray[np.float32]:
    """Return all rings as one path of commands and coordinates."""
    parts: list[float] = []
    for polygon in outline:
        for ring in polygon:
            for k, (x, y) in enumerate(ring.tolist()):
                parts += [LINE if k else MOVE, x, y]
            parts.append(CLOSE)
    return np.array(parts, np.float32)


class RoiSet:
    """A zip file of ROIs being written.

    Parameters
    ----------
    path
        Where it is to appear.
    """

    def __init__(self, path: Path) -> None:
        self._pending = PendingFile(path)
        with self._pending.opening():
            self._zip = zipfile.ZipFile(
                self._pending.temporary, "w", zipfile.ZIP_DEFLATED
            )

    def add(self, place: Place, batch: ObjectBatch) -> None:
        """Append the objects of a batch."""
        objects = zip(batch.ids.tolist(), batch.outlines, strict=True)
        with writing(self._pending.path):
            for number, outline in objects:
                entry = zipfile.ZipInfo(f"{place.name(number)}.roi", ZIP_DATE)
                entry.compress_type = zipfile.ZIP_DEFLATED
                self._zip.writestr(entry, roi_bytes(outline, place, number))

    def commit(self) -> None:
        """Make the complete file appear."""
        with writing(self._pending.path):
            self._zip.close()
        self._pending.commit()

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        _close_quietly(self._zip)
        self._pending.abort()


def _close_quietly(archive: Any) -> None:  # noqa: ANN401
    """Close a zip file that is not wanted any more."""
    if archive.fp is not None:
        # It would write its table of contents, for which there may be no room.
        close_unwanted(archive.fp)
        archive.fp = None
