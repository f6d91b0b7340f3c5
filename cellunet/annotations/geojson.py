"""Read GeoJSON as QuPath exports it.

Coordinates count pixels of the full-resolution image from its upper left corner
(QuPath's documentation, "Exporting annotations", Units and origin), so that the first
pixel covers 0 to 1. QuPath writes a feature collection, a list of features or a single
one; the class stands in ``properties.classification.name``. Geometry by RFC 7946.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellunet.annotations.shapes import (
    Drawing,
    Polygons,
    Strokes,
    ring,
    role_of,
    rows,
    shown,
    stroke_role,
    table,
)
from cellunet.errors import AnnotationError, some

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellunet.annotations.shapes import Figure, Ring

MOST_NESTED = 8
"""Depth of geometry collections within each other."""

Polygon = tuple["Ring", ...]

STROKES = {"Point": 2, "MultiPoint": 0, "LineString": 1, "MultiLineString": 0}
"""Geometries that can be scribbles, and how many lists make lines of points of their
coordinates."""


def geojson_drawings(document: object) -> list[Drawing]:
    """Return what a GeoJSON document holds, in its order.

    Every feature is one object, in however many pieces; without features every
    geometry is one. Features of class (or, without a class, name) ``ignore`` and
    ``region`` say what does not count. Points and lines of class ``interior`` or
    ``background`` are scribbles.

    Raises
    ------
    AnnotationError
        If there are points or lines of other classes among them, which enclose
        nothing, if features lie on several planes, or the document is no GeoJSON.
    """
    found, others, planes = [], [], set()
    for position, feature in enumerate(_features(document), 1):
        properties = feature.get("properties") or {}
        class_name = _class(table(properties, f"properties of feature {position}"))
        name = str(properties.get("name") or class_name or f"feature {position}")
        geometry = table(feature.get("geometry"), f"The geometry of {name}")
        kind, named = _not_an_area(geometry), class_name or properties.get("name")
        role = role_of(named) if kind is None else stroke_role(named)
        if role is None or kind not in (None, *STROKES):
            others.append(f"{name} ({kind})")
            continue
        plane = geometry.get("plane")
        planes.add((plane.get("z"), plane.get("t")) if isinstance(plane, dict) else ())
        found.append(Drawing(name, _figure(geometry, name), role))
    if others:
        raise AnnotationError(
            f"What encloses nothing cannot be an object: {some(others)}.",
            hint="Delete these, draw areas in their place, or make scribbles of points "
            "and lines by the class 'interior' or 'background'.",
        )
    if len(planes - {()}) > 1:
        raise AnnotationError(
            f"The features lie on {len(planes - {()})} planes of a stack.",
            hint="Export the features of each plane to a file of its own.",
        )
    return found


def _features(document: object) -> Iterator[dict[str, Any]]:
    """Yield features; a bare geometry is one."""
    if isinstance(document, list):
        listed = document
    else:
        whole = table(document, "The document")
        kind = whole.get("type")
        key = {"FeatureCollection": "features", "GeometryCollection": "geometries"}
        name = key.get(kind) if isinstance(kind, str) else None
        listed = [whole] if name is None else rows(whole.get(name), name)
    for position, one in enumerate(listed, 1):
        feature = table(one, f"Feature {position}")
        yield feature if feature.get("type") == "Feature" else {"geometry": feature}


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


def _figure(geometry: dict[str, Any], name: str) -> Figure:
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
        yield tuple(ring(r, f"A ring of {name}") for r in polygon)
