"""Images beside an annotation that say more of it: what counts, and scribbles."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cellunet.errors import AnnotationError
from cellunet.imaging.drawn.annotation_decoders import foreground
from cellunet.imaging.drawn.annotation_pixels import read_pixels
from cellunet.imaging.drawn.scribbles import NOTHING, read_scribbles, with_scribbles

if TYPE_CHECKING:
    from pathlib import Path

    from cellunet.imaging.drawn.annotation_types import Annotation


def within(found: Annotation, sidecar: Path, path: Path) -> Annotation:
    """Return an annotation limited to what an image marks by other values than 0.

    Parameters
    ----------
    found, path
        The annotation and where it was read.
    sidecar
        The image.

    Raises
    ------
    AnnotationError
        If the image cannot be read or has another shape.
    """
    inside = foreground(read_pixels(sidecar), sidecar)
    _refuse_other_shape(inside.shape, found, sidecar, path)
    said = found.scribbles
    if said is not None:
        said = np.where(inside, said, np.uint8(NOTHING))
    if found.annotated is not None:
        inside &= found.annotated
    return replace(found, annotated=inside, scribbles=said)


def scribbled(found: Annotation, sidecar: Path, path: Path) -> Annotation:
    """Return an annotation with the scribbles in an image; otherwise as `within`."""
    said = read_scribbles(sidecar)
    _refuse_other_shape(said.shape, found, sidecar, path)
    return with_scribbles(found, said)


def _refuse_other_shape(
    shape: tuple[int, ...], found: Annotation, sidecar: Path, path: Path
) -> None:
    if shape != found.labels.shape:
        raise AnnotationError(
            f"{sidecar} has {shape[0]} x {shape[1]} pixels, {path.name} "
            f"has {found.labels.shape[0]} x {found.labels.shape[1]}.",
            hint="What is annotated is told for every pixel of the image.",
        )
