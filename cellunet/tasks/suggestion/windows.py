"""The windows of an image as a model sees them, while its labels pass by in bands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellunet.imaging.files import Region
from cellunet.imaging.normalize import scale
from cellunet.imaging.windows import Seen, see, starts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from cellunet.imaging.files import Source
    from cellunet.tasks.prediction.segment import Recipe, Segmented


@dataclass(frozen=True, kw_only=True)
class Window:
    """A square of a plane."""

    y: int
    """First row."""
    x: int
    """First column."""
    seen: Seen
    """What the model makes of it."""
    labels: npt.NDArray[np.uint32]
    """Its part of the plane's labels, YX."""


def windows(
    source: Source, plane: int, segmented: Segmented, recipe: Recipe, side: int
) -> Iterator[Window]:
    """Yield the windows of a segmented plane in raster order.

    No more rows are held than a window has, and a band.

    Parameters
    ----------
    source
        The image, no smaller than a window.
    plane
        Number of the plane.
    segmented
        What the model found in it; its scratch is open.
    recipe
        How it was found.
    side
        Of a window, in pixels.
    """
    height, width = source.shape
    tops = starts(height, side)
    for y, labels in zip(tops, _rows(segmented.bands(), tops, side), strict=True):
        pixels = source.read(Region(plane, y, y + side, 0, width))[0]
        scaled = scale(pixels, segmented.statistics, recipe.config.normalization)
        evidence = segmented.evidence(y, y + side)
        for x in starts(width, side):
            view = np.s_[:, x : x + side]
            seen = see(scaled[view], labels[view], evidence[view])
            yield Window(y=y, x=x, seen=seen, labels=labels[view].copy())


def _rows(
    bands: Iterable[npt.NDArray[np.uint32]], tops: list[int], side: int
) -> Iterator[npt.NDArray[np.uint32]]:
    """Yield the `side` rows from each of `tops` on, which rise, of bands of rows."""
    first, have = 0, np.empty((0, 0), np.uint32)
    passing = iter(bands)
    for top in tops:
        have = have[top - first :]
        first = top
        while len(have) < side:
            band = next(passing)
            have = np.concatenate([have, band]) if len(have) else band
        yield have[:side]
