"""Read the JSON of VGG Image Annotator (2.0 and before) as a COCO document.

A project keeps under ``_via_img_metadata`` what "Export Annotations (as json)" writes
alone: by name and size of each file its regions, each with the attributes of its shape
(``name``, ``all_points_x``, ``cx``, ...) and those that people gave it. Its canvas
counts from the upper left corner of the image.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.annotations.json_files import VIA_METADATA, number, rows, table
from cellunet.annotations.shapes import ellipse, role_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellunet.annotations.shapes import Ring


def as_coco(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document as COCO's; points and lines enclose nothing there.

    Raises
    ------
    AnnotationError
        If something is not what it should be.
    """
    listed = table(document.get(VIA_METADATA, document), "The list of images")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names: set[str] = set()
    for image_id, one in enumerate(listed.values(), 1):
        image = table(one, f"Image {image_id}")
        images.append({"id": image_id, "file_name": image.get("filename")})
        for region in _regions(image.get("regions")):
            kind, outline = _outline(table(region.get("shape_attributes"), "A shape"))
            name = _class(region.get("region_attributes"))
            names.add(name)
            annotations.append(
                {
                    "id": f"{len(annotations) + 1} ({kind})",
                    "image_id": image_id,
                    "category_id": name,
                    "segmentation": [outline.ravel().tolist()] if len(outline) else [],
                }
            )
    categories = [{"id": name, "name": name} for name in sorted(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _regions(given: object) -> list[dict[str, Any]]:
    """Return the regions of an image; version 1 numbers them."""
    listed = list(given.values()) if isinstance(given, dict) else given
    return [table(one, "A region") for one in rows(listed or [], "The regions")]


def _class(attributes: object) -> str:
    """Return the attribute that says what a region is, or the first; '' without."""
    values = attributes.values() if isinstance(attributes, dict) else ()
    names = [name for value in values for name in _names(value)]
    return next((n for n in names if role_of(n) != "object"), "".join(names[:1]))


def _names(value: object) -> Iterator[str]:
    """Yield what was typed or chosen, or the boxes that were ticked."""
    if isinstance(value, dict):
        yield from (str(name) for name, ticked in value.items() if ticked)
    elif isinstance(value, str):
        yield value


def _outline(shape: dict[str, Any]) -> tuple[str, Ring]:
    """Return the kind of a shape and its outline, (N, 2); empty without an area."""
    kind = str(shape.get("name"))

    def value(key: str, usual: float | None = None) -> float:
        return number(shape.get(key, usual), f"{key} of a {kind}")

    if kind == "polygon":
        given = [
            [number(v, f"{key} of a {kind}") for v in rows(shape.get(key), key)]
            for key in ("all_points_x", "all_points_y")
        ]
        return kind, np.array(list(zip(*given, strict=False)), float).reshape(-1, 2)
    if kind == "rect":
        x, y, width, height = map(value, ("x", "y", "width", "height"))
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        return kind, np.array(corners)
    if kind in ("circle", "ellipse"):
        rx = value("r" if kind == "circle" else "rx")
        ry = rx if kind == "circle" else value("ry")
        turn = value("theta", 0)
        across = rx * np.array([math.cos(turn), math.sin(turn)])
        down = ry * np.array([-math.sin(turn), math.cos(turn)])
        return kind, ellipse(np.array([value("cx"), value("cy")]), across, down)
    return kind, np.empty((0, 2))
