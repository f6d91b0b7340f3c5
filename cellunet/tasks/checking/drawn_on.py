"""One annotation, read together with the image that it was drawn on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellunet.errors import AnnotationError, ImageReadError
from cellunet.imaging.annotations import read_annotation
from cellunet.imaging.files import Region, open_image

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.imaging.annotation_sources import Drawn
    from cellunet.imaging.annotations import Annotation
    from cellunet.imaging.source import Source


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnOn:
    """An annotation and its image, if there is one."""

    annotation: Annotation
    """What was drawn."""
    image: npt.NDArray[Any] | None = None
    """YX: colours as grey, of several channels the first."""
    pixel_size_um: tuple[float, float] | None = None
    """Of the image, if it tells."""


def read_drawn_on(one: Drawn, *, kind: str, ignore_value: int | None) -> DrawnOn:
    """Read an annotation and its image.

    Parameters
    ----------
    one
        Where they are.
    kind
        How it was drawn: a name in `cellunet.imaging.annotations.ANNOTATIONS`.
    ignore_value
        Value of the pixels of label images that are not annotated.

    Raises
    ------
    CellunetError
        If one of them cannot be read, or they differ in size.
    """
    image, pixel_size_um = _read_image(one.image) if one.image else (None, None)
    annotation = read_annotation(
        one.annotation,
        kind=kind,
        shape=None if image is None else image.shape,
        member=one.member,
        ignore_value=ignore_value,
        annotated=one.annotated,
        scribbles=one.scribbles,
    )
    if image is not None:
        _refuse_other_shape(one, annotation.labels.shape, image.shape)
    return DrawnOn(annotation=annotation, image=image, pixel_size_um=pixel_size_um)


def _read_image(
    path: Path,
) -> tuple[npt.NDArray[Any], tuple[float, float] | None]:
    """Return the image, YX, and its pixel size; refuse more than one plane."""
    with _open(path) as source:
        height, width = source.shape
        planes = math.prod(source.plane_shape)
        if planes != 1:
            raise AnnotationError(
                f"{path} is {_size(source.shape)} px in {planes} planes "
                f"({source.plane_axes}).",
                hint="An annotation is drawn on the full frame of one plane.",
            )
        region = Region(plane=0, y0=0, y1=height, x0=0, x1=width)
        return source.read(region)[0], source.pixel_size_um


def _refuse_other_shape(
    one: Drawn, labels: tuple[int, ...], image: tuple[int, ...]
) -> None:
    if labels != image:
        raise AnnotationError(
            f"{one.annotation} is {_size(labels)} px, its image {one.image} is "
            f"{_size(image)} px.",
            hint="An annotation is drawn on the full frame of one plane.",
        )


def _open(path: Path) -> Source:
    """Open an image to be looked at: colours as grey, else the first channel."""
    try:
        return open_image(path, gray=True)
    except ImageReadError:
        return open_image(path, channel="0")


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
