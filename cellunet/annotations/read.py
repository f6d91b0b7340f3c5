"""Read an annotation of any format as instance labels.

`ANNOTATIONS` has one row per way of drawing; its name is what ``--kind`` takes. With
``auto`` the way is found from the content of the file, by the rule of
`cellunet.annotations.pixels.recognize`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.annotations.coco import coco_drawings, crowds, read_coco
from cellunet.annotations.foreign import refuse_foreign_file
from cellunet.annotations.geojson import geojson_drawings
from cellunet.annotations.imagej import overlay, roi_drawings
from cellunet.annotations.json_files import kind_of, read_json
from cellunet.annotations.labelme import labelme_drawings, labelme_size
from cellunet.annotations.napari import napari_drawings
from cellunet.annotations.pixels import (
    DECODERS,
    MAX_PIXELS,
    as_ids,
    foreground,
    looks_like_outlines,
    read_pixels,
    read_scribbles,
    recognize,
    refuse_white_background,
    scribbled,
    void_value,
    with_scribbles,
    within,
)
from cellunet.annotations.shapes import paint
from cellunet.annotations.types import Annotation
from cellunet.errors import AnnotationError, ConfigError, choose, some
from cellunet.io.paths import (
    NAPARI_SUFFIX,
    image_files,
    is_drawn_file,
    is_folder,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.annotations.shapes import DrawnShape

    Shape = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ReadRequest:
    """What is known of an annotation before it is read."""

    shape: tuple[int, int] | None = None
    """Rows and columns of its image, where shapes do not tell; None: unknown."""
    channels: int = 1
    """Channels of its image."""
    plane: int | None = None
    """Which plane of a stack of labels; None: there is one."""
    member: str = ""
    """What its image is called in a file of several."""
    ignore_value: int | None = None
    """Value of pixels that are not annotated, in label images."""
    through_centers: bool = False
    """Take outlines for those through the centers of the outermost pixels."""
    cells: bool = False
    """Take the outer outlines of QuPath's cells, not their nuclei."""


VOID_NOTE = (
    "The value 255 has the color of Pascal VOC's void: such pixels do not count, as "
    "with --ignore-value 255."
)
"""Note on label images."""


Reader = Callable[["Path", ReadRequest], Annotation]
"""Decodes the annotation at a path; raises AnnotationError."""


def read_drawn(path: Path, asked: ReadRequest, kind: str) -> Annotation:
    """Return the labels of the shapes in a file.

    Parameters
    ----------
    path
        A file of any format in `DRAWN`.
    asked
        What is known of it.
    kind
        A name in `DRAWN`.

    Raises
    ------
    ConfigError
        If a package is missing that reads the format.
    AnnotationError
        If the file is damaged, holds what encloses nothing, or the size of its image
        is unknown.
    """
    with naming(path):
        return DRAWN[kind](path, asked)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have errors say in which file they are."""
    try:
        yield
    except AnnotationError as error:
        if str(path) in error.message:
            raise
        raise AnnotationError(f"{path}: {error.message}", hint=error.hint) from error


def drawn_kind(path: Path) -> str:
    """Return the name in `DRAWN` that a file's name or content indicates.

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
    if name.endswith(NAPARI_SUFFIX):
        return "napari"
    return json_kind(path, read_json(path))


def json_kind(path: Path, document: object) -> str:
    """Return the name in `DRAWN` of what a JSON document is.

    Raises
    ------
    AnnotationError
        If it is of another kind, or none.
    """
    kind = kind_of(document)
    if kind is None:
        refuse_foreign_file(path)
        raise AnnotationError(
            f"{path} is JSON, but neither GeoJSON nor of COCO, labelme or VGG Image "
            "Annotator.",
            hint="Export it again in one of these formats.",
        )
    return kind


def _rois(path: Path, asked: ReadRequest) -> Annotation:
    drawings = roi_drawings(path, channels=asked.channels)
    return _painted(drawings, asked.shape, path, "rois", asked)


def _geojson(path: Path, asked: ReadRequest) -> Annotation:
    drawings, notes = geojson_drawings(read_json(path), cells=asked.cells)
    return _painted(drawings, asked.shape, path, "geojson", asked, notes)


def _labelme(path: Path, asked: ReadRequest) -> Annotation:
    document = read_json(path)
    drawings = labelme_drawings(document)
    size = labelme_size(document) or asked.shape
    return _painted(drawings, size, path, "labelme", asked)


def _napari(path: Path, asked: ReadRequest) -> Annotation:
    return _painted(napari_drawings(path), asked.shape, path, "napari", asked)


def _coco(path: Path, asked: ReadRequest) -> Annotation:
    # Whether a size that the file tells is the image's is for the caller.
    file, member = read_coco(path), asked.member
    if not member and len(file.images) == 1:
        member = next(iter(file.images))
    if member not in file.images:
        raise AnnotationError(
            f"{path} annotates {len(file.images)} images ({some(list(file.images))}), "
            f"but not {member or 'one'}.",
            hint="Name the folder that holds the file and its images.",
        )
    size = file.images[member].size or asked.shape
    drawings = coco_drawings(file, member)
    found = _painted(drawings, size, path, file.kind, asked)
    if not (count := crowds(file, member)):
        return found
    note = (
        f"Annotations marked as crowds (iscrowd): {count}. They count as objects like "
        "the others; give a crowd the category 'ignore' to leave it out."
    )
    return replace(found, notes=(*found.notes, note))


def _painted(
    drawings: list[DrawnShape],
    shape: Shape | None,
    path: Path,
    kind: str,
    asked: ReadRequest,
    notes: Sequence[str] = (),
) -> Annotation:
    return paint(
        drawings,
        _known(shape, path),
        path,
        kind,
        notes=notes,
        through_centers=asked.through_centers,
    )


def _known(shape: Shape | None, path: Path) -> Shape:
    if shape is None:
        raise AnnotationError(
            f"{path} does not hold the size of its image, and there is no image.",
            hint="Put the image next to it under the same name.",
        )
    # Before memory is taken: a file can claim any size.
    if math.prod(shape) > MAX_PIXELS or 0 in shape:
        raise AnnotationError(
            f"{path} says that its image has {shape[0]:,} x {shape[1]:,} pixels; up to "
            f"{MAX_PIXELS:,} are possible.",
            hint="Export it again, or cut the image into smaller fields.",
        )
    return shape


DRAWN: dict[str, Reader] = {
    "rois": _rois,
    "geojson": _geojson,
    "coco": _coco,
    "labelme": _labelme,
    "via": _coco,
    "napari": _napari,
}


def read_annotation(  # noqa: PLR0913
    path: Path,
    *,
    kind: str = "auto",
    shape: tuple[int, int] | None = None,
    channels: int = 1,
    plane: int | None = None,
    member: str = "",
    ignore_value: int | None = None,
    annotated: Path | None = None,
    scribbles: Path | None = None,
    through_centers: bool = False,
    cells: bool = False,
) -> Annotation:
    """Decode one annotation to instance labels.

    Parameters
    ----------
    path
        A TIFF or PNG file, a file of shapes, or a folder with one image per object.
    kind
        A name in `ANNOTATIONS`. ``auto`` takes a folder as ``objects`` and decides
        for a file from its name and content.
    shape
        Rows and columns of the image, for files of shapes that do not hold them.
    channels
        Channels of the image, over which ImageJ counts the positions of ROIs.
    plane
        Number of the plane of a stack of labels; None: there is one plane.
    member
        What the image is called in a COCO file.
    ignore_value
        Value of the pixels of a label image that are not annotated.
    annotated
        An image of the same shape that is 0 where nothing is annotated.
    scribbles
        An image of the same shape: `cellunet.annotations.pixels.read_scribbles`. It
        may be `path` itself, which then holds nothing else.
    through_centers
        Take outlines that go from pixel to pixel for those through the centers of the
        outermost pixels.
    cells
        Take the outer outlines of QuPath's cells, not their nuclei.

    Raises
    ------
    ConfigError
        If `kind` is unknown, or `ignore_value` is background.
    AnnotationError
        If the file cannot be read, or cannot be labels: floating point, negative ids
        or ids past int32, several planes, an intensity image, shapes that enclose
        nothing; or if no pixel is annotated.
    """
    if ignore_value == 0:
        raise ConfigError(
            "The value that is ignored cannot be 0, which is background.",
            hint="Mark what is annotated by shapes of the class 'region', or by an "
            "image in a folder 'annotated'.",
        )
    asked = ReadRequest(
        shape=shape,
        channels=channels,
        plane=plane,
        member=member,
        ignore_value=ignore_value,
        through_centers=through_centers,
        cells=cells,
    )
    decode = choose(ANNOTATIONS, kind, "kind of annotation")
    # Their values mean the same whatever other annotations are.
    alone = scribbles == path
    found = (read_only_scribbles if alone else decode)(path, asked)
    if annotated is not None:
        found = within(found, annotated, path, plane)
    if scribbles is not None and not alone:
        found = scribbled(found, scribbles, path, plane)
    if (
        found.annotated is not None
        and found.scribbles is None
        and not found.annotated.any()
    ):
        raise AnnotationError(
            f"{path} marks no pixel of its image as annotated.",
            hint="Leave the image out, or remove the mark that ignores it.",
        )
    if found.annotated is not None and found.annotated.all():
        return replace(found, annotated=None)
    return found


def read_object_folder(folder: Path, asked: ReadRequest | None = None) -> Annotation:
    """Put a folder of one image per object together (DSB2018 as published).

    Object ids follow the sorted file names from 1; in each file everything but 0 is
    the object, in however many pieces. Pixels of several objects go to the
    smallest of them (then to the first file), so that no object disappears under a
    larger one.

    Parameters
    ----------
    folder
        A folder of PNG or TIFF files, or the folder above it if that is ``masks``.

    Raises
    ------
    AnnotationError
        If there are no files, or if they differ in shape.
    """
    del asked  # The files hold everything.
    inner = folder / "masks"
    where = inner if inner.is_dir() else folder
    files = image_files(where)
    if not files:
        raise AnnotationError(
            f"{where} holds no PNG or TIFF file, one of each object being expected.",
            hint="An image without objects: add one file that is 0 everywhere.",
        )
    shape, objects = _object_pixels(files)
    labels = np.zeros(shape, np.int32)
    claims = np.zeros(shape, np.int32)
    largest_first = sorted(
        range(len(objects)), key=lambda i: (objects[i].size, i), reverse=True
    )
    for i in largest_first:
        labels.flat[objects[i]] = i + 1
        claims.flat[objects[i]] += 1
    seen = np.bincount(labels.ravel(), minlength=len(files) + 1)[1:]
    return Annotation(
        labels, "objects", int((claims > 1).sum()), int((seen == 0).sum())
    )


def _object_pixels(
    files: Sequence[Path],
) -> tuple[tuple[int, ...], list[npt.NDArray[np.int64]]]:
    """Return the common shape and each file's object as flat pixel indices."""
    shape: tuple[int, ...] | None = None
    objects = []
    for path in files:
        inside = foreground(read_pixels(path), path)
        refuse_white_background(inside, path)
        if shape is None:
            shape = inside.shape
        if inside.shape != shape:
            raise AnnotationError(
                f"{path} has shape {inside.shape}, {files[0].name} next to it {shape}.",
                hint="All objects of one image are drawn on its full frame.",
            )
        objects.append(np.flatnonzero(inside))
    return shape or (0, 0), objects


def _read_auto(path: Path, asked: ReadRequest) -> Annotation:
    if is_folder(path):
        files = image_files(path / "masks") or image_files(path)
        if len(files) != 1:
            return read_object_folder(path)
        # From outside, a label image a sample looks like an image of one object.
        return _read_auto(files[0], asked)
    if is_drawn_file(path):
        # A file of many images is not parsed again to know what it is.
        kind = read_coco(path).kind if asked.member else drawn_kind(path)
        return read_drawn(path, asked, kind)
    try:
        return _decoded(path, asked, "auto")
    except AnnotationError:
        # An image that is no label image, with what was drawn on it inside.
        if asked.plane is not None or not overlay(path):
            raise
        return read_drawn(path, asked, "rois")


def predicted_kind(path: Path, planes: Iterable[int | None]) -> str:
    """Return how predicted labels were drawn, of all these planes alike.

    Of a stack of labels, a plane may hold a single object, which looks like a mask.
    """
    void = void_value(path)
    pixels = (_without_value(read_pixels(path, k), path, void)[0] for k in planes)
    kinds = (recognize(one) for one in pixels if one.any())
    return next((kind for kind in kinds if kind != "binary"), "binary")


def read_predicted(path: Path, kind: str, plane: int | None = None) -> Annotation:
    """Decode labels that a program made, however poor they are.

    Parameters
    ----------
    path
        A TIFF, PNG or NumPy file.
    kind
        From `predicted_kind`.
    plane
        Number of the plane of a stack; None: there is one.

    Raises
    ------
    AnnotationError
        If the file cannot be read, or holds no whole numbers of 0 and above.
    """
    pixels, _ = _without_value(read_pixels(path, plane), path, void_value(path))
    decode = as_ids if kind == "labels" else DECODERS[kind]
    return Annotation(decode(pixels, path), kind)


def read_only_scribbles(path: Path, asked: ReadRequest | None = None) -> Annotation:
    """Read an image of scribbles that is all there is; there is no object in it."""
    scribbles = read_scribbles(path, asked.plane if asked else None)
    labels = np.zeros(scribbles.shape, np.int32)
    return with_scribbles(Annotation(labels, "scribbles"), scribbles)


def _decoded(path: Path, asked: ReadRequest, kind: str) -> Annotation:
    """Read an image; `kind` may be ``auto``."""
    value = void_value(path) if asked.ignore_value is None else asked.ignore_value
    pixels, annotated = _without_value(read_pixels(path, asked.plane), path, value)
    is_void = annotated is not None and asked.ignore_value is None
    if kind == "auto":
        kind = recognize(pixels)
        if kind == "binary":
            drawn = foreground(pixels, path)
            _refuse_outlines(drawn, path)
            refuse_white_background(drawn, path)
    labels = DECODERS[kind](pixels, path)
    return Annotation(labels, kind, annotated=annotated, notes=(VOID_NOTE,) * is_void)


def _without_value(
    pixels: npt.NDArray[Any], path: Path, value: int | None
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Return the pixels with a value made background, and where it was not."""
    if value is None:
        return pixels, None
    if pixels.ndim != 2:
        raise AnnotationError(
            f"{path} is colored; a value to ignore needs an image of one channel."
        )
    ignored: npt.NDArray[np.bool_] = pixels == value
    if not ignored.any():
        return pixels, None
    return np.where(ignored, pixels.dtype.type(0), pixels), ~ignored


def _refuse_outlines(drawn: npt.NDArray[np.bool_], path: Path) -> None:
    if looks_like_outlines(drawn):
        raise AnnotationError(
            f"{path} holds thin lines around empty areas: it can be the outlines of "
            "objects, or ring-shaped objects.",
            hint="Say which: --kind outlines fills closed lines, --kind binary takes "
            "the lines themselves.",
        )


ANNOTATIONS: dict[str, Reader] = {
    "auto": _read_auto,
    **{kind: partial(_decoded, kind=kind) for kind in DECODERS},
    "objects": read_object_folder,
    "scribbles": read_only_scribbles,
    **{kind: partial(read_drawn, kind=kind) for kind in DRAWN},
}
