"""Define the result of reading an annotation, whatever it was drawn with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Annotation:
    """One decoded annotation.

    Parameters
    ----------
    labels
        YX, int32: 0 background, each object its own positive id.
    kind
        The row of `cellunet.annotations.read.ANNOTATIONS` that decoded it.
    overlap_px
        Pixels of more than one object; they went to the smallest.
    hidden
        Objects left without a pixel: empty, smaller than a pixel, or a copy of
        another object.
    annotated
        YX, bool, False where nothing is known about the image; None: all of it is
        annotated.
    outside
        Objects that lie outside the image and were left out.
    notes
        What to know about the drawing, in sentences.
    scribbles
        YX, uint8, of `cellunet.annotations.pixels`: what else is known of pixels
        that are not annotated; None: nothing.
    """

    labels: npt.NDArray[np.int32]
    kind: str
    overlap_px: int = 0
    hidden: int = 0
    annotated: npt.NDArray[np.bool_] | None = None
    outside: int = 0
    notes: tuple[str, ...] = ()
    scribbles: npt.NDArray[np.uint8] | None = None
