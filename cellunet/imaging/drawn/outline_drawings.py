"""Objects drawn as closed lines, in an image of nothing but lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from cellunet.errors import AnnotationError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

THIN_PX = 3
"""Half the width of a thin line: no pixel of it is further from its edge."""
THICK_PX = 12
"""Half the width from which on nothing is a line."""


def looks_like_outlines(drawn: npt.NDArray[np.bool_]) -> bool:
    """Return whether a binary image may be outlines: thin, and around larger areas.

    Parameters
    ----------
    drawn
        YX, True where something is drawn.
    """
    if not drawn.any():
        return False
    enclosed = ndimage.binary_fill_holes(drawn) & ~drawn
    if np.count_nonzero(enclosed) <= np.count_nonzero(drawn):
        return False
    return float(ndimage.distance_transform_edt(drawn).max()) <= THIN_PX


def fill_outlines(drawn: npt.NDArray[np.bool_], path: Path) -> npt.NDArray[np.int32]:
    """Return an object for every area that lines enclose.

    The background is the largest area that reaches the frame of the image; other areas
    at the frame are objects that the frame cuts. A line belongs to the nearest object
    beside it, so that neighbours share the line between them. What a line does not
    close is background.

    Parameters
    ----------
    drawn
        YX, True on the lines, which are closed where each pixel of a line has another
        one beside it or across a corner.
    path
        For messages.

    Returns
    -------
    ndarray
        YX, int32, numbered in raster order.

    Raises
    ------
    AnnotationError
        If what is drawn is too thick to be a line.
    """
    inward = ndimage.distance_transform_edt(drawn)
    half = float(inward.max(initial=0.0))
    if half > THICK_PX:
        raise AnnotationError(
            f"{path} holds areas {2 * half:.0f} px thick, which are no outlines.",
            hint="Try: cellunet make-labels --kind binary, or --kind labels.",
        )
    # The default structure joins pixels side by side, so nothing leaks at a corner.
    areas, count = ndimage.label(~drawn)
    areas[_background(areas, count)] = 0
    objects = areas > 0
    if not objects.any():
        return np.zeros(drawn.shape, np.int32)
    distance, nearest = ndimage.distance_transform_edt(~objects, return_indices=True)
    grown = np.where(drawn & (distance <= 2 * half), areas[tuple(nearest)], areas)
    ids = np.unique(grown[grown > 0])
    labels: npt.NDArray[np.int32] = np.searchsorted(ids, grown).astype(np.int32) + 1
    return np.where(grown > 0, labels, 0).astype(np.int32)


def _background(areas: npt.NDArray[Any], count: int) -> npt.NDArray[np.bool_]:
    """Return the largest area at the frame, as pixels."""
    frame = np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]])
    sizes = np.bincount(areas.ravel(), minlength=count + 1)
    at_frame = np.unique(frame[frame > 0])
    if not at_frame.size:
        return np.zeros(areas.shape, np.bool_)
    background: npt.NDArray[np.bool_] = areas == at_frame[sizes[at_frame].argmax()]
    return background
