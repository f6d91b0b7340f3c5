"""Files of shapes to labels: one row of `DRAWN` per format."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from cellunet.errors import AnnotationError
from cellunet.imaging.drawn.annotation_pixels import MAX_PIXELS
from cellunet.imaging.drawn.coco import coco_drawings, crowds, read_coco
from cellunet.imaging.drawn.drawings import paint, some
from cellunet.imaging.drawn.geojson import geojson_drawings
from cellunet.imaging.drawn.json_files import kind_of, read_json
from cellunet.imaging.drawn.labelme import labelme_drawings, labelme_size
from cellunet.imaging.drawn.roi_files import roi_drawings

if TYPE_CHECKING:
    from pathlib import Path

    from cellunet.imaging.drawn.annotation_types import Annotation

    Shape = tuple[int, int]


class DrawnReader(Protocol):
    """Read the shapes that were drawn on one image, and paint them."""

    def __call__(self, path: Path, shape: Shape | None, member: str, /) -> Annotation:
        """Return labels of `shape`, or of the shape that the file tells."""


def read_drawn(
    path: Path, kind: str, shape: Shape | None, member: str = ""
) -> Annotation:
    """Return the labels of the shapes in a file.

    Parameters
    ----------
    path
        A file of any format in `DRAWN`.
    kind
        A name in `DRAWN`.
    shape
        Rows and columns of the image; None: unknown.
    member
        What the image is called in a file of several.

    Raises
    ------
    ConfigError
        If a package is missing that reads the format.
    AnnotationError
        If the file is damaged, holds what encloses nothing, or the size of its image
        is unknown.
    """
    try:
        return DRAWN[kind](path, shape, member)
    except AnnotationError as error:
        if str(path) in error.message:
            raise
        raise AnnotationError(f"{path}: {error.message}", hint=error.hint) from error


def drawn_kind(path: Path) -> str:
    """Return the name in `DRAWN` that a file's name or content says.

    Raises
    ------
    AnnotationError
        If it is JSON of another kind, or none.
    """
    name = path.name.lower()
    if name.endswith((".zip", ".roi")):
        return "rois"
    if name.endswith((".geojson", ".geojson.gz")):
        return "geojson"
    kind = kind_of(read_json(path))
    if kind is None:
        raise AnnotationError(
            f"{path} is JSON, but neither GeoJSON nor of COCO or labelme.",
            hint="Export it again in one of these formats.",
        )
    return kind


def _rois(path: Path, shape: Shape | None, member: str) -> Annotation:
    del member
    return paint(roi_drawings(path), _known(shape, path), path, "rois")


def _geojson(path: Path, shape: Shape | None, member: str) -> Annotation:
    del member
    drawings = geojson_drawings(read_json(path))
    return paint(drawings, _known(shape, path), path, "geojson")


def _labelme(path: Path, shape: Shape | None, member: str) -> Annotation:
    del member
    document = read_json(path)
    drawings = labelme_drawings(document)
    size = labelme_size(document) or shape
    return paint(drawings, _known(size, path), path, "labelme")


def _coco(path: Path, shape: Shape | None, member: str) -> Annotation:
    del shape  # The file tells it; whether it is the image's is for the caller.
    file = read_coco(path)
    if not member and len(file.images) == 1:
        member = next(iter(file.images))
    if member not in file.images:
        raise AnnotationError(
            f"{path} annotates {len(file.images)} images ({some(list(file.images))}), "
            f"but not {member or 'one'}.",
            hint="Name the folder that holds the file and its images.",
        )
    size = _known(file.images[member].size, path)
    found = paint(coco_drawings(file, member), size, path, "coco")
    if not (count := crowds(file, member)):
        return found
    note = (
        f"Annotations marked as crowds (iscrowd): {count}. They count as objects like "
        "the others; give a crowd the category 'ignore' to leave it out."
    )
    return replace(found, notes=(*found.notes, note))


def _known(shape: Shape | None, path: Path) -> Shape:
    if shape is None:
        raise AnnotationError(
            f"{path} does not tell the size of its image, and there is no image.",
            hint="Put the image beside it under the same name.",
        )
    # Before memory is taken: a file can claim any size.
    if math.prod(shape) > MAX_PIXELS or 0 in shape:
        raise AnnotationError(
            f"{path} says that its image has {shape[0]:,} x {shape[1]:,} pixels; up to "
            f"{MAX_PIXELS:,} are possible.",
            hint="Export it again, or cut the image into smaller fields.",
        )
    return shape


DRAWN: dict[str, DrawnReader] = {
    "rois": _rois,
    "geojson": _geojson,
    "coco": _coco,
    "labelme": _labelme,
}
