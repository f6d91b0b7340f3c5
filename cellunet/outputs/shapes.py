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
import struct
import uuid
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.io.files import PendingFile, StreamedText, close_unwanted, writing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.imaging.measure import ObjectBatch, Table
    from cellunet.imaging.outlines import Outline, Ring

NAMESPACE = uuid.UUID("7d1f0c0e-5a0c-4a0e-9a53-1f5f7c1d9b52")
"""Of the names from which ids follow: drawn at random once."""

CLASS = {"name": "nucleus", "color": [230, 159, 0]}
"""The class of detections in QuPath, and its color, that of outlines elsewhere."""


class GeoJson(StreamedText):
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
        self._image, self._between = image, "\n"
        super().__init__(path, '{"type":"FeatureCollection","features":[', "ascii")

    def add(self, place: dict[str, int], batch: ObjectBatch) -> None:
        """Append the objects of a batch; `place` has ``t`` and ``z`` if there are."""
        self.write(self._lines(place, batch))

    def _lines(self, place: dict[str, int], batch: ObjectBatch) -> Iterator[str]:
        for feature in features(self._image, place, batch):
            yield self._between + feature
            self._between = ",\n"

    def commit(self) -> None:
        """Make the complete file appear."""
        self.write(["\n]}\n"])
        super().commit()


def features(image: str, place: dict[str, int], batch: ObjectBatch) -> Iterator[str]:
    """Yield each object of a batch as a Feature, in JSON.

    Put together as text: by way of dictionaries it takes four times as long, for a
    large field as long as the network.

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
    where = json.dumps([image, plane["t"], plane["z"]])
    between = f',"plane":{_json(plane)}}},"properties":{{"objectType":"detection",'
    known = f'"classification":{_json(CLASS)},"measurements":'
    text_of = Coordinates()
    measured = _measurements(batch.table, len(batch.ids))
    for number, outline, values in zip(
        batch.ids.tolist(), batch.outlines, measured, strict=True
    ):
        name = uuid.uuid5(NAMESPACE, f"{where} {number}")
        yield (
            f'{{"type":"Feature","id":"{name}","geometry":{{'
            f'{geometry(outline, text_of)}{between}"name":"{number}",'
            f"{known}{{{values}}}}}}}"
        )


def _json(value: Any) -> str:  # noqa: ANN401
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _measurements(table: Table, count: int) -> list[str]:
    """Return what is known of each object, as the members of a JSON object."""
    columns = []
    for name, values in table.items():
        front = f"{_json(name)}:"
        columns.append([front + t if t else "" for t in numbers(values)])
    if not columns:
        return [""] * count
    return [",".join(filter(None, row)) for row in zip(*columns, strict=True)]


def numbers(values: npt.NDArray[Any]) -> list[str]:
    """Return numbers in JSON with nine significant digits, as in CSV tables.

    Whole ones have no point; what is not known is an empty text.
    """
    if values.dtype == bool:
        return ["true" if value else "false" for value in values.tolist()]
    if np.issubdtype(values.dtype, np.integer):
        return list(map(str, values.tolist()))
    # Adding 0 makes 0 of -0.
    texts = list(map("{:.9g}".format, (values + 0.0).tolist()))
    with np.errstate(invalid="ignore"):
        beside = np.abs(values - np.rint(values))
        nearly_whole = (beside > 0) & (beside <= 1e-8 * np.abs(values))
    for k in np.flatnonzero(nearly_whole | ~(np.abs(values) < 1e9)).tolist():
        texts[k] = _number(float(values[k]))
    return texts


def _number(value: float) -> str:
    if not math.isfinite(value):
        return ""
    return str(int(value) if value.is_integer() else float(f"{value:.9g}"))


class Coordinates(dict[float, str]):
    """Texts of coordinates, each made once; whole numbers have no point."""

    def __missing__(self, value: float) -> str:
        text = self[value] = str(int(value) if value.is_integer() else value)
        return text

    def ring(self, points: Ring) -> str:
        """Return a ring with its first point repeated."""
        texts = map(self.__getitem__, points.ravel().tolist())
        pairs = [f"[{x},{y}]" for x, y in zip(texts, texts, strict=True)]
        return f"[{','.join(pairs)},{pairs[0]}]"


def geometry(outline: Outline, text_of: Coordinates) -> str:
    """Return the members of an outline's GeoJSON geometry."""
    pieces = [f"[{','.join(map(text_of.ring, polygon))}]" for polygon in outline]
    if len(pieces) == 1:
        return f'"type":"Polygon","coordinates":{pieces[0]}'
    return f'"type":"MultiPolygon","coordinates":[{",".join(pieces)}]'


MOVE, LINE, CLOSE = 0.0, 1.0, 4.0
"""Commands of a path, as of java.awt.geom.PathIterator."""

ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The same objects give the same bytes."""

FORMAT_VERSION = 227
"""Of ImageJ's format: from 222 on points may lie between pixels."""


@dataclass(frozen=True)
class StackPosition:
    """The plane of a file that a ROI belongs to: numbers from 0, None without."""

    t: int | None = None
    z: int | None = None
    channels: int = 1
    """Channels of the image file: with several, Fiji shows a hyperstack."""
    projected: int = 1
    """Z planes of the file that were made one: with several, Fiji shows one, too."""

    @classmethod
    def of(
        cls, place: dict[str, int], channels: int, projected: int = 1
    ) -> StackPosition:
        """Return the place of a plane from its numbers along ``t`` and ``z``."""
        return cls(place.get("t"), place.get("z"), channels, projected)

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
        if len(numbers) == 1 and self.channels == self.projected == 1:
            return {"position": numbers[0] + 1}
        axes = (("t_position", self.t), ("z_position", self.z))
        return {name: n + 1 for name, n in axes if n is not None}


def roi_bytes(outline: Outline, place: StackPosition, number: int) -> bytes:
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
    if _is_polygon(outline):
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


def _is_polygon(outline: Outline) -> bool:
    return len(outline) == 1 and len(outline[0]) == 1


HEAD = struct.Struct(">8s 4h H 42s i")
"""The first 64 bytes of a ROI: top, left, bottom, right and the number of points are
its own, and the place of the second header at the end."""

SECOND = struct.Struct(">16s 2i 40s")
"""The second header: the place and the length of the name are the ROI's own."""

MOST_POINTS = 2**16 - 1
"""Points of a ROI that are counted in its usual place."""


class _Rois:
    """The ROIs of one batch: `roi_bytes` of each, polygons all at once.

    `roifile` takes a tenth of a millisecond for a ROI. So it writes one, and what
    differs is put into a copy of that.
    """

    def __init__(self, outlines: Sequence[Outline], place: StackPosition) -> None:
        self._outlines, self._place = outlines, place
        fits = [
            _is_polygon(o) and len(o[0][0]) <= MOST_POINTS and len(o[0][0]) > 0
            for o in outlines
        ]
        rings = [o[0][0] for o, fit in zip(outlines, fits, strict=True) if fit]
        self._of = np.cumsum(fits) - 1
        self._fits = fits
        if not rings:
            return
        counts = np.array([len(ring) for ring in rings])
        ends = np.cumsum(counts)
        starts = ends - counts
        points = np.concatenate(rings)
        low = np.floor(np.minimum.reduceat(points, starts)).astype(np.int64)
        high = np.ceil(np.maximum.reduceat(points, starts)).astype(np.int64)
        # top, left, bottom, right
        boxes = np.concatenate((low[:, ::-1], high[:, ::-1]), 1).astype(np.int16)
        self._heads = [
            (*box, count, start, end)
            for box, count, start, end in zip(
                boxes.tolist(),
                counts.tolist(),
                starts.tolist(),
                ends.tolist(),
                strict=True,
            )
        ]
        whole = np.rint(points).astype(np.int64) - np.repeat(low, counts, axis=0)
        self._whole = [v.astype(">i2").tobytes() for v in whole.T]
        self._exact = [v.astype(">f4").tobytes() for v in points.T]
        square = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)])
        empty = roi_bytes([[square]], place, 0)
        self._head = HEAD.unpack(empty[: HEAD.size])
        second = self._head[-1]
        self._second = SECOND.unpack(empty[second : second + SECOND.size])

    def content(self, index: int, number: int) -> bytes:
        """Return the ROI of one of them; `number` is its label."""
        if not self._fits[index]:
            return roi_bytes(self._outlines[index], self._place, number)
        *box, count, start, end = self._heads[self._of[index]]
        second = HEAD.size + 12 * count
        name = self._place.name(number)
        x, y = (v[2 * start : 2 * end] for v in self._whole)
        exact_x, exact_y = (v[4 * start : 4 * end] for v in self._exact)
        head = HEAD.pack(self._head[0], *box, count, self._head[6], second)
        front, *_, back = self._second
        tail = SECOND.pack(front, second + SECOND.size, len(name), back)
        parts = (head, x, y, exact_x, exact_y, tail, name.encode("utf-16-be"))
        return b"".join(parts)


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

    def add(self, place: StackPosition, batch: ObjectBatch) -> None:
        """Append the objects of a batch."""
        rois = _Rois(batch.outlines, place)
        with writing(self._pending.path):
            for index, number in enumerate(batch.ids.tolist()):
                entry = zipfile.ZipInfo(f"{place.name(number)}.roi", ZIP_DATE)
                entry.compress_type = zipfile.ZIP_DEFLATED
                self._zip.writestr(entry, rois.content(index, number))

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
