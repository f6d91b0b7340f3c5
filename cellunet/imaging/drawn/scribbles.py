"""Scribbles: pixels of which a person says no more than inside or outside.

A scribble teaches the class of its own pixels. It is no object, says nothing of the
pixels around it, and takes no part in scores.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from cellunet.errors import AnnotationError
from cellunet.imaging.drawn.annotation_pixels import read_pixels

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.imaging.drawn.annotation_types import Annotation

NOTHING, BACKGROUND, INTERIOR = 0, 1, 2
"""What a pixel of a plane of scribbles says."""
RING_PX = 3
"""Without it outlines become far too wide (`benchmarks/scribbles.py`)."""


def with_scribbles(
    found: Annotation,
    scribbles: npt.NDArray[np.uint8],
    ignored: npt.NDArray[np.bool_] | None = None,
) -> Annotation:
    """Return an annotation with scribbles beside its labels.

    Where neither a region nor anything else says what is annotated, only the objects
    and the scribbles count, and a ring of `RING_PX` around objects as background: it is
    what tells where they end. An object that was outlined says more than a scribble on
    it, and a region more than a scribble of background in it. A pixel inside an
    object that is not outlined is not annotated for the labels, which would call it
    background. So each pixel that counts does so by its label or by a scribble, never
    by both.

    Parameters
    ----------
    found
        Labels, and what of them counts.
    scribbles
        YX, uint8: `NOTHING`, `BACKGROUND` or `INTERIOR`.
    ignored
        YX, what says nothing whatever else does; None: nowhere.
    """
    objects = found.labels > 0
    annotated = objects if found.annotated is None else found.annotated
    said = np.where(objects, np.uint8(NOTHING), scribbles)
    if found.annotated is None:
        around = ndimage.binary_dilation(objects, iterations=RING_PX) & ~objects
        said[around & (said == NOTHING)] = BACKGROUND
    if ignored is not None:
        annotated = annotated & ~ignored
        said[ignored] = NOTHING
    said[(said == BACKGROUND) & annotated] = NOTHING
    return replace(
        found,
        annotated=annotated & (said != INTERIOR),
        scribbles=said if said.any() else None,
    )


def read_scribbles(path: Path) -> npt.NDArray[np.uint8]:
    """Return scribbles painted as an image: 1 is background, 2 inside an object.

    Raises
    ------
    AnnotationError
        If the file cannot be read, or holds other values, or none but 0.
    """
    pixels = read_pixels(path)
    values: list[Any] = np.unique(pixels).tolist()
    if pixels.ndim != 2 or not set(values) <= {NOTHING, BACKGROUND, INTERIOR}:
        shown = ", ".join(map(str, values[:6])) + (", ..." if len(values) > 6 else "")
        raise AnnotationError(
            f"{path} holds the values {shown}; an image of scribbles is one channel of "
            "0 (says nothing), 1 (background) and 2 (inside an object).",
            hint="Paint with these values; objects that are outlined go into labels.",
        )
    if values == [NOTHING]:
        raise AnnotationError(
            f"{path} holds no scribble: it is 0 everywhere.", hint="Leave it out."
        )
    return pixels.astype(np.uint8)


def scribbled_px(scribbles: npt.NDArray[np.uint8] | None) -> tuple[int, int]:
    """Return how many pixels scribbles call background, and how many inside.

    Examples
    --------
    >>> scribbled_px(np.array([[0, 1, 1], [2, 0, 0]], np.uint8))
    (2, 1)
    """
    if scribbles is None:
        return 0, 0
    _, background, interior = np.bincount(scribbles.ravel(), minlength=3)
    return int(background), int(interior)


def shows_beside(
    labels: npt.NDArray[np.integer], annotated: npt.NDArray[np.bool_]
) -> bool:
    """Return whether labels tell what is beside objects, so that they can be scored.

    Where outlined objects count alone, nothing that is found beside them would be an
    error, nor an outline too wide. What is annotated throughout tells by that.

    Parameters
    ----------
    labels
        YX, 0 background.
    annotated
        YX, what of them counts.
    """
    return bool(annotated.all() or (annotated & (labels == 0)).any())


def teaches(
    annotated: npt.NDArray[np.bool_], scribbles: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.bool_]:
    """Return the pixels that count in training: by their label or by a scribble."""
    return annotated if scribbles is None else annotated | (scribbles != NOTHING)
