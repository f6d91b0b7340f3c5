"""Read the regions of an image within which objects are looked for.

They are drawn as annotations are: a ROI or a set of them by ImageJ, GeoJSON by QuPath,
in pixels of full resolution. What is named or classed ``ignore`` is cut out of the
others, and where some are ``region`` (annotations that hold detections are, too), the
others are objects and do not count, as where labels are read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.annotations.geojson import geojson_drawings
from cellunet.annotations.imagej import roi_drawings
from cellunet.annotations.json_files import read_bytes, read_json
from cellunet.annotations.read import json_kind, naming
from cellunet.annotations.shapes import (
    MAX_COORDINATE,
    DrawnShape,
    Oval,
    Polygons,
    Strokes,
)
from cellunet.errors import AnnotationError, InputError, some
from cellunet.io.paths import output_stem

if TYPE_CHECKING:
    import numpy.typing as npt

    Area = Polygons | Oval

_ROIS = (".zip", ".roi")

_GEOJSON = (".geojson", ".geojson.gz")

SUFFIXES = (*_GEOJSON, ".json", *_ROIS)
"""Of files that regions are read from."""

SQUARE_PX = 16
"""Side of the squares by which `RegionMask` knows a region."""

BAND_PX = 2**20
"""Pixels of a region that are drawn at once, some 30 bytes each."""


@dataclass(frozen=True)
class Regions:
    """The regions that a file holds."""

    path: Path
    sha256: str
    """Of the file."""
    kept: tuple[tuple[str, Area], ...]
    """By name, what counts."""
    ignored: tuple[tuple[str, Area], ...] = ()
    """What is cut out of it."""
    left_out: tuple[str, ...] = ()
    """Names of what encloses nothing."""
    on_plane: bool = False
    """Whether they were drawn on one plane of a stack."""

    def mask(
        self, shape: tuple[int, int], full_px: tuple[float, float] = (1.0, 1.0)
    ) -> RegionMask:
        """Return which pixels of an image lie in the regions.

        Parameters
        ----------
        shape
            Height and width of the image.
        full_px
            Height and width of its pixels in those of full resolution.

        Raises
        ------
        AnnotationError
            If a coordinate is not finite, or no region holds a pixel of the image.
        """
        kept, ignored = (
            tuple((name, _placed(area, full_px)) for name, area in areas)
            for areas in (self.kept, self.ignored)
        )
        own = replace(self, kept=kept, ignored=ignored)
        found = RegionMask(own, shape)
        if not found.area_px:
            height, width = (round(n * f) for n, f in zip(shape, full_px, strict=True))
            raise AnnotationError(
                f"No region of {self.path} ({some([n for n, _ in self.kept])}) holds a "
                f"pixel of the image, which has {height} x {width}.",
                hint="Regions are in pixels of full resolution, from the upper left; "
                "is the file of another image?",
            )
        return found


def read_regions(path: Path) -> Regions:
    """Return the regions that were drawn in ImageJ or QuPath.

    Raises
    ------
    AnnotationError
        If the file is missing, damaged, of another format, or holds no area.
    """
    drawings, content = _drawings(path)
    encloses = [(d, area) for d in drawings if (area := _area_of(d)) is not None]
    wanted = "region" if any(d.role == "region" for d, _ in encloses) else "object"
    kept = tuple((d.name, area) for d, area in encloses if d.role == wanted)
    names = {id(d) for d, _ in encloses}
    left_out = tuple(d.name for d in drawings if id(d) not in names)
    if not kept:
        what = f": {some(list(left_out))} enclose nothing" if left_out else ""
        raise AnnotationError(
            f"{path} holds no region{what}.",
            hint="Draw the outline of an area around what is to be segmented.",
        )
    return Regions(
        path,
        hashlib.sha256(content).hexdigest(),
        kept,
        tuple((d.name, area) for d, area in encloses if d.role == "ignore"),
        left_out,
        any(d.plane for d, _ in encloses),
    )


def _drawings(path: Path) -> tuple[list[DrawnShape], bytes]:
    """Return what is drawn in a file, and the content of that, read once."""
    name, kind = path.name.lower(), "no"
    if name.endswith(SUFFIXES):
        content = read_bytes(path)
        if name.endswith(_ROIS):
            return roi_drawings(path, packed=content), content
        document = read_json(path, content)
        kind = "geojson" if name.endswith(_GEOJSON) else json_kind(path, document)
        if kind == "geojson":
            with naming(path):
                return geojson_drawings(document)[0], content
    raise AnnotationError(
        f"{path} is no file of regions: it holds {kind} annotations.",
        hint="Regions are ROIs of ImageJ (.roi, .zip) or GeoJSON, as QuPath exports "
        "it.",
    )


def _area_of(drawing: DrawnShape) -> Area | None:
    """Return what a drawing encloses; None if that is nothing."""
    figure = drawing.figure
    if isinstance(figure, Oval):
        return figure
    if isinstance(figure, Polygons) and figure.encloses:
        return figure
    if isinstance(figure, Polygons | Strokes):
        return None
    raise TypeError(f"no region is drawn as {type(figure).__name__}")


def _placed(area: Area, px: tuple[float, float] = (1.0, 1.0), top: int = 0) -> Area:
    """Return an area in pixels of another height and width, from row `top` on."""
    y, x = px
    if isinstance(area, Oval):
        return Oval(area.x0 / x, area.y0 / y - top, area.x1 / x, area.y1 / y - top)
    rings = tuple(
        tuple(np.asarray(ring, np.float64) / (x, y) - (0, top) for ring in polygon)
        for polygon in area.polygons
    )
    return replace(area, polygons=rings)


def _rows_of(area: Area) -> tuple[float, float]:
    """Return where an area begins and ends from top to bottom.

    Anywhere, if a coordinate is beyond all bounds: then drawing it says so.
    """
    if isinstance(area, Oval):
        points = np.array([(area.x0, area.y0), (area.x1, area.y1)])
    else:
        points = np.concatenate([ring for rings in area.polygons for ring in rings])
    if not (np.abs(points) <= MAX_COORDINATE).all():
        return -np.inf, np.inf
    return float(points[:, 1].min()), float(points[:, 1].max())


class RegionMask:
    """Which pixels of an image lie in regions, without an array of the image.

    Parameters
    ----------
    regions
        In pixels of the image.
    shape
        Height and width of the image.

    Raises
    ------
    AnnotationError
        If a coordinate is not finite.
    """

    def __init__(self, regions: Regions, shape: tuple[int, int]) -> None:
        self.regions, self.shape = regions, shape
        self._drawn = [
            (name, area, value, _rows_of(area))
            for areas, value in ((regions.kept, True), (regions.ignored, False))
            for name, area in areas
        ]
        squares = [-(-n // SQUARE_PX) for n in shape]
        self.some = np.zeros(squares, np.bool_)
        """YX, by squares of `SQUARE_PX`: whether any pixel lies in a region."""
        self._all = np.zeros(squares, np.bool_)
        self.area_px = 0
        """Pixels that lie in a region."""
        self.crossing: dict[str, None] = {}
        """Names of regions whose outline crosses itself."""
        rows = max(BAND_PX // shape[1] // SQUARE_PX, 1) * SQUARE_PX
        for y0 in range(0, shape[0], rows):
            self._add(y0, self._rows(y0, min(rows, shape[0] - y0)))

    def to_dict(self) -> dict[str, Any]:
        """Return what results tell of the regions."""
        return {
            "file": str(self.regions.path),
            "regions": len(self.regions.kept),
            "area_px": self.area_px,
        }

    def warnings(self, planes: int) -> tuple[str, ...]:
        """Return what to look at in the drawing, for an image of so many planes."""
        regions, path = self.regions, self.regions.path
        found = []
        if regions.on_plane and planes > 1:
            found.append(
                f"{path}: the regions were drawn on one plane of a stack; they count "
                f"on all {planes:,}."
            )
        if regions.left_out:
            names = ", ".join(regions.left_out)
            found.append(f"{path}: {names} enclose nothing and do not count.")
        if self.crossing:
            names = ", ".join(self.crossing)
            found.append(
                f"{path}: the outlines of {names} cross themselves; what they enclose "
                "twice does not count. Draw them again."
            )
        return tuple(found)

    def _rows(self, y0: int, count: int) -> npt.NDArray[np.bool_]:
        """Return which pixels of some rows lie in a region."""
        band = np.zeros((count, self.shape[1]), np.bool_)
        for name, area, value, (top, bottom) in self._drawn:
            if bottom < y0 or top > y0 + count:
                continue
            try:
                found = _placed(area, top=y0).fill(band.shape)
            except AnnotationError as error:
                raise AnnotationError(
                    f"{self.regions.path}: {name}: {error.message}", hint=error.hint
                ) from error
            if found.crosses:
                self.crossing[name] = None
            band[found.window][found.inside] = value
        return band

    def _add(self, y0: int, band: npt.NDArray[np.bool_]) -> None:
        self.area_px += int(np.count_nonzero(band))
        short = [(0, -n % SQUARE_PX) for n in band.shape]
        # What is beyond the image does not keep a square from being whole.
        for found, held, padding in (
            (self.some, np.any, False),
            (self._all, np.all, True),
        ):
            whole = np.pad(band, short, constant_values=padding)
            # Rows first: whole rows lie together in memory.
            rows = held(whole.reshape(-1, SQUARE_PX, whole.shape[1]), 1)
            squares = held(rows.reshape(len(rows), -1, SQUARE_PX), 2)
            found[y0 // SQUARE_PX :][: len(squares)] = squares

    def holds(
        self, y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Return which points lie in a pixel of a region.

        Pixels lie around whole numbers, 0 in the middle of the first.
        """
        rows, columns = (np.rint(v).astype(np.int64) for v in (y, x))
        place = rows // SQUARE_PX, columns // SQUARE_PX
        inside: npt.NDArray[np.bool_] = self._all[place]
        unsure = np.flatnonzero(self.some[place] & ~inside)
        for square in np.unique(place[0][unsure]):
            y0 = int(square) * SQUARE_PX
            band = self._rows(y0, min(SQUARE_PX, self.shape[0] - y0))
            here = unsure[place[0][unsure] == square]
            inside[here] = band[rows[here] - y0, columns[here]]
        return inside

    @cached_property
    def _sums(self) -> npt.NDArray[np.int64]:
        """Squares that hold some, above and left of each corner."""
        sums = self.some.astype(np.int64).cumsum(0).cumsum(1)
        return np.pad(sums, ((1, 0), (1, 0)))

    def near(
        self, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Return which cells of a grid are at squares that hold a pixel of a region.

        Parameters
        ----------
        rows, columns
            N2, first pixel of each row of cells and the one after the last.

        Returns
        -------
        ndarray
            YX bool. Cells beyond the image are near what is at its edge.
        """
        (y0, y1), (x0, x1) = (
            (
                np.clip(np.floor(ends[:, 0] / SQUARE_PX), 0, n - 1).astype(np.int64),
                np.clip(np.ceil(ends[:, 1] / SQUARE_PX), 1, n).astype(np.int64),
            )
            for ends, n in ((rows, len(self.some)), (columns, self.some.shape[1]))
        )
        sums = self._sums
        held = sums[np.ix_(y1, x1)] - sums[np.ix_(y0, x1)]
        held += sums[np.ix_(y0, x0)] - sums[np.ix_(y1, x0)]
        return held > 0


class RegionFiles:
    """The files of regions of a run: one for all images, or one for each.

    Parameters
    ----------
    named
        A file, or a folder of files that are named like the images.

    Raises
    ------
    InputError
        If it is not there.
    AnnotationError
        If the one file cannot be used.
    """

    def __init__(self, named: str) -> None:
        self._named = Path(named)
        # Each file is read once, although several images are in work side by side.
        self.read = lru_cache(maxsize=128)(read_regions)
        if self._named.is_dir():
            return
        if not self._named.exists():
            raise InputError(
                f"There is no {self._named} with regions to segment within.",
                hint="--within takes a file of ROIs or GeoJSON, or a folder of them.",
            )
        self.read(self._named)

    def of(self, image: Path) -> Regions:
        """Return the regions of an image.

        Raises
        ------
        AnnotationError
            If there are none, or more than one file, or it cannot be used.
        """
        if not self._named.is_dir():
            return self.read(self._named)
        names = dict.fromkeys((image.name, output_stem(image)))
        found = [
            path
            for name in names
            for suffix in SUFFIXES
            if (path := self._named / f"{name}{suffix}").is_file()
        ]
        if not found:
            raise AnnotationError(
                f"{self._named} holds no regions of {image.name}.",
                hint=f"Name them {output_stem(image)}.geojson, .zip or .roi.",
            )
        if len(found) > 1:
            names_found = " and ".join(path.name for path in found)
            raise AnnotationError(
                f"{self._named} holds several files of regions of {image.name}: "
                f"{names_found}.",
                hint="Leave one of them there.",
            )
        return self.read(found[0])
