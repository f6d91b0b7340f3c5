"""Read GeoJSON as QuPath exports it.

Coordinates count pixels of the full-resolution image from its upper left corner
(QuPath's documentation, "Exporting annotations", Units and origin), so that the first
pixel covers 0 to 1. QuPath writes a feature collection, a list of features or a single
one; the class stands in ``properties.classification.name``, the kind of object in
``objectType``. Geometry by RFC 7946.

QuPath exports what was drawn together with what was found in it. A cell has two
outlines, its own and that of its nucleus. An annotation or a core of a tissue
microarray around other objects shows where they were looked for: it is a region.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.annotations.json_files import ring, rows, shown, table
from cellunet.annotations.shapes import (
    DrawnShape,
    Polygons,
    Strokes,
    role_of,
    stroke_role,
)
from cellunet.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from cellunet.annotations.shapes import Fillable, Ring

MOST_NESTED = 8
"""Depth of geometry collections, and of objects, within each other."""

MOST_WITHIN = 2
"""Annotations in an annotation that can be an object all the same: nuclei in a cell."""

CELLS = (
    "QuPath's cells are read by their nuclei; cellunet make-labels --cells takes their "
    "outer outlines."
)

OUTLINES = "QuPath's cells are read by their outer outlines."

REGIONS = (
    "QuPath's annotations and cores around other objects are regions: what lies "
    "outside them does not count."
)

OUTER = "QuPath's annotations and cores around such regions are left out."

TILES = "QuPath's tiles are left out: they outline no object."

Polygon = tuple["Ring", ...]

STROKES = {"Point": 2, "MultiPoint": 0, "LineString": 1, "MultiLineString": 0}
"""Geometries that can be scribbles, and how many lists make lines of points of their
coordinates."""

_OLDER = {
    "PathAnnotationObject": "annotation",
    "PathDetectionObject": "detection",
    "PathCellObject": "cell",
    "PathTileObject": "tile",
    "TMACoreObject": "tmaCore",
    "PathRootObject": "root",
}
"""Ids that QuPath once wrote, and the object types of today."""


@dataclass(frozen=True, eq=False)
class _Feature:
    """A feature of the document."""

    drawing: DrawnShape
    kind: str | None
    """QuPath's type of object; None: not of QuPath."""
    parent: int | None
    """Place of the feature that it is listed in."""
    missing: bool = False
    """Whether it is a core of which nothing is left."""


def geojson_drawings(
    document: object, *, cells: bool = False
) -> tuple[list[DrawnShape], list[str]]:
    """Return what a GeoJSON document holds, in its order, and notes on it.

    Every feature is one object, in however many pieces; without features every
    geometry is one. Features of class (or, without a class, name) ``ignore`` and
    ``region`` say what does not count. Points and lines of class ``interior`` or
    ``background`` are scribbles.

    Parameters
    ----------
    document
        What was read of the file.
    cells
        Whether QuPath's cells are read by their outer outlines, not by their nuclei.

    Raises
    ------
    AnnotationError
        If features lie on several planes, or the document is no GeoJSON.
    """
    features = list(_features(document))
    nuclei = not cells and any(f.get("nucleusGeometry") for f, _ in features)
    items = [
        _item(feature, number, parent, nuclei=nuclei)
        for number, (feature, parent) in enumerate(features, 1)
    ]
    planes = {item.drawing.plane for item in items} - {()}
    if len(planes) > 1:
        raise AnnotationError(
            f"The features lie on {len(planes)} planes of a stack.",
            hint="Export the features of each plane to a file of its own.",
        )
    drawings, notes = _with_roles(items)
    if any(item.kind == "cell" for item in items):
        notes = [CELLS if nuclei else OUTLINES, *notes]
    return drawings, notes


def _features(document: object) -> Iterator[tuple[dict[str, Any], int | None]]:
    """Yield features, and the place of the one that lists them; a geometry is one."""
    if isinstance(document, list):
        listed = document
    else:
        whole = table(document, "The document")
        kind = whole.get("type")
        key = {"FeatureCollection": "features", "GeometryCollection": "geometries"}
        name = key.get(kind) if isinstance(kind, str) else None
        listed = [whole] if name is None else rows(whole.get(name), name)
    waiting: list[tuple[Any, int | None, int]] = [
        (one, None, 0) for one in listed[::-1]
    ]
    position = 0
    while waiting:
        one, parent, depth = waiting.pop()
        feature = table(one, f"Feature {position + 1}")
        if depth > MOST_NESTED:
            raise AnnotationError(f"Feature {position + 1} is nested too deeply.")
        if feature.get("type") != "Feature":
            feature = {"geometry": feature}
        yield feature, parent
        for holder in (feature, feature.get("properties")):
            inner = holder.get("childObjects") if isinstance(holder, dict) else None
            children = rows(inner, "childObjects") if inner is not None else []
            waiting += [(child, position, depth + 1) for child in children[::-1]]
        position += 1


def _item(
    feature: dict[str, Any], number: int, parent: int | None, *, nuclei: bool
) -> _Feature:
    """Return a feature; what is neither area nor scribble encloses nothing."""
    properties = table(feature.get("properties") or {}, f"Properties of {number}")
    class_name = _class(properties)
    name = str(properties.get("name") or class_name or f"feature {number}")
    kind = _object_type(feature, properties)
    what = "nucleusGeometry" if nuclei and kind == "cell" else "geometry"
    given = feature.get(what)
    if given is None:
        drawing = DrawnShape(f"{name} (feature {number} has no {what})", Polygons(()))
        return _Feature(drawing, kind, parent)
    geometry = table(given, f"The geometry of {name}")
    shape, named = _not_an_area(geometry), class_name or properties.get("name")
    role = role_of(named) if shape is None else stroke_role(named)
    if role is None or shape not in (None, *STROKES):
        return _Feature(DrawnShape(f"{name} ({shape})", Polygons(())), kind, parent)
    at = geometry.get("plane")
    plane = (at.get("z"), at.get("t")) if isinstance(at, dict) else ()
    missing = True in (properties.get("isMissing"), feature.get("isMissing"))
    figure = _figure(geometry, name)
    return _Feature(DrawnShape(name, figure, role, plane), kind, parent, missing)


def _object_type(feature: dict[str, Any], properties: dict[str, Any]) -> str | None:
    for given in (properties.get("objectType"), properties.get("object_type")):
        if isinstance(given, str):
            return "tmaCore" if given == "tma_core" else given
    given = feature.get("id")
    return _OLDER.get(given) if isinstance(given, str) else None


def _with_roles(items: Sequence[_Feature]) -> tuple[list[DrawnShape], list[str]]:
    """Return the drawings with the role that follows from what lies in them.

    A parent is a region if it holds objects that were detected or are listed in it, or
    more annotations than a cell has nuclei. One around a region is left out: where
    was looked, the inner one says.
    """
    parents = _parents(items)
    depth = [0] * len(items)
    for i, parent in enumerate(parents):
        while parent is not None:
            depth[i], parent = depth[i] + 1, parents[parent]
    within: dict[int, Counter[str]] = defaultdict(Counter)
    fates = [""] * len(items)
    for i in sorted(range(len(items)), key=lambda i: -depth[i]):
        fates[i], parent = _fate(items[i], within[i]), parents[i]
        if parent is None:
            continue
        drawn = items[i].kind == "annotation" and items[i].parent is None
        inner = "annotation" if fates[i] == "object" and drawn else fates[i]
        within[parent]["region" if inner == "outer" else inner] += 1
    notes = {"parent": REGIONS, "outer": OUTER, "tile": TILES}
    drawings = []
    for item, fate in zip(items, fates, strict=True):
        if fate not in ("outer", "tile"):
            role: Any = "region" if fate == "parent" else fate
            drawings.append(replace(item.drawing, role=role))
    return drawings, [note for fate, note in notes.items() if fate in fates]


def _fate(item: _Feature, within: Counter[str]) -> str:
    """Return a role, ``parent``, ``outer`` or ``tile``; `within` is of its children."""
    role = item.drawing.role
    if item.kind in ("tile", "root"):
        return "tile"
    if item.kind not in ("annotation", "tmaCore") or role != "object":
        return role
    if item.missing:
        return "ignore"
    if within["object"] or within["annotation"] > MOST_WITHIN:
        return "parent"
    if within["parent"] or within["region"]:
        return "outer"
    return "parent" if item.kind == "tmaCore" else "object"


def _parents(items: Sequence[_Feature]) -> list[int | None]:
    """Return the place of what each feature lies in: as listed, or the smallest around.

    Of features of QuPath that are not listed in another one, by their middle.
    """
    parents = [item.parent for item in items]
    places, figures = [], []
    for i, item in enumerate(items):
        figure = item.drawing.figure
        known = item.kind in ("annotation", "detection", "cell", "tmaCore")
        if not known or item.parent is not None or not isinstance(figure, Polygons):
            continue
        if figure.encloses:
            places.append(i)
            figures.append(figure.polygons)
    holders = [
        k
        for k, place in enumerate(places)
        if items[place].kind in ("annotation", "tmaCore")
        and items[place].drawing.role in ("object", "region")
    ]
    if not holders:
        return parents
    areas = np.array([sum(map(_area, polygons)) for polygons in figures])
    middles = np.array([polygons[0][0].mean(axis=0) for polygons in figures])
    by_x = np.argsort(middles[:, 0], kind="stable")
    xs = middles[by_x, 0]
    # From large to small, so that the smallest around a feature remains.
    for k in sorted(holders, key=lambda k: -areas[k]):
        outlines = [polygon[0] for polygon in figures[k]]
        low = np.min([o.min(axis=0) for o in outlines], axis=0)
        high = np.max([o.max(axis=0) for o in outlines], axis=0)
        near = by_x[slice(*np.searchsorted(xs, (low[0], high[0])))]
        near = near[(areas[near] < areas[k]) & (middles[near, 1] >= low[1])]
        for j in near[middles[near, 1] <= high[1]]:
            if _holds(figures[k], middles[j]):
                parents[places[j]] = places[k]
    return parents


def _area(polygon: Polygon) -> float:
    """Return the area of an outline, holes included."""
    x, y = np.vstack((polygon[0], polygon[0][:1])).T
    return float(abs(x[1:] @ y[:-1] - y[1:] @ x[:-1]) / 2)


def _holds(polygons: tuple[Polygon, ...], point: npt.NDArray[np.floating[Any]]) -> bool:
    """Return whether a point lies in polygons, by the even-odd rule over all rings."""
    odd = False
    for start in itertools.chain(*polygons):
        end = np.roll(start, -1, axis=0)
        crosses = (start[:, 1] > point[1]) != (end[:, 1] > point[1])
        (xa, ya), (xb, yb) = start[crosses].T, end[crosses].T
        x = xa + (point[1] - ya) * (xb - xa) / (yb - ya)
        odd ^= bool(np.count_nonzero(x > point[0]) % 2)
    return odd


def _class(properties: dict[str, Any]) -> str | None:
    """Return the name of the class; QuPath 0.5 and later may list its parts."""
    given = properties.get("classification")
    if isinstance(given, dict):
        names = given.get("names")
        given = given.get("name") or (
            ": ".join(map(str, names)) if isinstance(names, list) else None
        )
    return given if isinstance(given, str) else None


def _not_an_area(geometry: dict[str, Any]) -> str | None:
    """Return the type of a geometry that encloses nothing; None if it is an area."""
    kind = geometry.get("type")
    if kind in ("Polygon", "MultiPolygon", "GeometryCollection"):
        return None
    return kind if isinstance(kind, str) else shown(kind)


def _figure(geometry: dict[str, Any], name: str) -> Fillable:
    if (kind := _not_an_area(geometry)) is None:
        return Polygons(tuple(_polygons(geometry, name, 0)))
    what = f"The coordinates of {name}"
    given = geometry.get("coordinates")
    for _ in range(STROKES[kind]):
        given = [given]
    if kind == "MultiPoint":
        given = [[point] for point in rows(given, what)]
    lines = tuple(ring(line, what, least=1) for line in rows(given, what))
    if not lines:
        raise AnnotationError(f"{name} is a {kind} without a point.")
    return Strokes(lines)


def _polygons(geometry: dict[str, Any], name: str, depth: int) -> Iterator[Polygon]:
    if (kind := _not_an_area(geometry)) is not None:
        raise AnnotationError(
            f"{name} holds a {kind}, which encloses nothing.",
            hint="Delete it, or draw an area in its place.",
        )
    if depth > MOST_NESTED:
        raise AnnotationError(f"{name} is a collection nested too deeply.")
    if geometry["type"] == "GeometryCollection":
        for part in rows(geometry.get("geometries"), f"The geometries of {name}"):
            yield from _polygons(table(part, f"A part of {name}"), name, depth + 1)
        return
    coordinates = rows(geometry.get("coordinates"), f"The coordinates of {name}")
    for rings in coordinates if geometry["type"] == "MultiPolygon" else [coordinates]:
        polygon = rows(rings, f"A polygon of {name}")
        found = tuple(ring(r, f"A ring of {name}") for r in polygon)
        if found and len(found[0]):
            yield found
