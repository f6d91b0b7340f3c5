"""What people draw, decoded to instance labels.

One row of `ANNOTATIONS` per way of drawing: its name is what ``--kind`` takes. With
``auto`` the way is decided from what a file holds, by the rule of
`cellunet.imaging.annotation_decoders.recognise`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cellunet.errors import AnnotationError
from cellunet.imaging.annotation_decoders import DECODERS, foreground, recognise
from cellunet.imaging.annotation_pixels import read_pixels
from cellunet.imaging.layouts import image_files
from cellunet.registry import choose

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt


@dataclass(frozen=True)
class Annotation:
    """One decoded annotation.

    Parameters
    ----------
    labels
        YX, int32: 0 background, each object its own positive id.
    kind
        The row of `ANNOTATIONS` that decoded it.
    overlap_px
        Pixels that more than one object claimed (per-object folders only).
    hidden
        Objects left without a pixel: empty files, and copies of another object
        (per-object folders only).
    """

    labels: npt.NDArray[np.int32]
    kind: str
    overlap_px: int = 0
    hidden: int = 0


class Reader(Protocol):
    """Decode the annotation at a path; raises AnnotationError."""

    def __call__(self, path: Path, /) -> Annotation:
        """Return the labels and how they were found."""


def read_labels(path: Path, *, kind: str = "auto") -> npt.NDArray[np.int32]:
    """Return the instance labels of one annotation: `read_annotation`, labels only."""
    return read_annotation(path, kind=kind).labels


def read_annotation(path: Path, *, kind: str = "auto") -> Annotation:
    """Decode one annotation to instance labels.

    Parameters
    ----------
    path
        A TIFF or PNG file, or a folder with one image per object.
    kind
        A name in `ANNOTATIONS`. ``auto`` takes a folder as ``objects`` and decides
        for a file from its pixels.

    Raises
    ------
    ConfigError
        If `kind` is unknown.
    AnnotationError
        If the file cannot be read, or cannot be labels: floating point, negative ids
        or ids past int32, several planes, an intensity image.
    """
    return choose(ANNOTATIONS, kind, "kind of annotation")(path)


def read_object_folder(folder: Path) -> Annotation:
    """Put a folder of one image per object together (DSB2018 as published).

    Object ids follow the sorted file names from 1; in each file everything but 0 is
    the object, in however many pieces. Pixels claimed by several objects go to the
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
        if shape is None:
            shape = inside.shape
        if inside.shape != shape:
            raise AnnotationError(
                f"{path} has shape {inside.shape}, {files[0].name} beside it {shape}.",
                hint="All objects of one image are drawn on its full frame.",
            )
        objects.append(np.flatnonzero(inside))
    return shape or (0, 0), objects


def _read_auto(path: Path) -> Annotation:
    if path.is_dir():
        return read_object_folder(path)
    pixels = read_pixels(path)
    kind = recognise(pixels)
    return Annotation(DECODERS[kind](pixels, path), kind)


def _read_as(kind: str) -> Reader:
    def read(path: Path) -> Annotation:
        return Annotation(DECODERS[kind](read_pixels(path), path), kind)

    return read


ANNOTATIONS: dict[str, Reader] = {
    "auto": _read_auto,
    **{kind: _read_as(kind) for kind in DECODERS},
    "objects": read_object_folder,
}
