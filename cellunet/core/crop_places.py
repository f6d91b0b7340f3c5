"""Where crops are taken: anywhere, or where an image is annotated if not all of it is.

For images that are annotated everywhere the numbers drawn are two, one an axis, so
that a partly annotated image changes nothing for the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def crop_corner(
    annotated: npt.NDArray[np.bool_], size: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Return the upper left corner of a crop within an image.

    Parameters
    ----------
    annotated
        YX, what is annotated. Where that is not all, an annotated pixel is drawn, and
        then one of the crops that hold it.
    size
        Side of the crop in pixels.
    rng
        Source of randomness.
    """
    lasts = [max(length - size, 0) for length in annotated.shape]
    if annotated.all():
        y, x = (int(rng.integers(last + 1)) for last in lasts)
        return y, x
    place = _annotated_pixel(annotated, rng)
    y, x = (
        int(rng.integers(max(p - size + 1, 0), min(p, last) + 1))
        if last
        else int(rng.integers(1))
        for p, last in zip(place, lasts, strict=True)
    )
    return y, x


def crop_centre(
    annotated: npt.NDArray[np.bool_], rng: np.random.Generator
) -> tuple[float, float]:
    """Return a point of an image, one that is annotated if not all of it is."""
    if annotated.all():
        y, x = (rng.uniform(0, length - 1) for length in annotated.shape)
        return y, x
    row, column = _annotated_pixel(annotated, rng)
    return float(row), float(column)


def _annotated_pixel(
    annotated: npt.NDArray[np.bool_], rng: np.random.Generator
) -> tuple[int, int]:
    flat = np.flatnonzero(annotated)
    if not flat.size:
        # Nothing there weighs anything, wherever the crop is taken.
        flat = np.arange(annotated.size)
    row, column = divmod(int(flat[rng.integers(flat.size)]), annotated.shape[1])
    return row, column
