"""What can be wrong with the labels of one image, as far as they alone tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from cellunet.config import CheckConfig

LEAST_AREA_PX = 30
"""Objects of fewer pixels have no shape to speak of."""
_ACROSS_CORNERS = np.ones((3, 3), bool)


@dataclass(frozen=True, kw_only=True)
class LabelChecks:
    """Objects of one image, and the ids of those that a person should look at."""

    areas_px: tuple[int, ...]
    """Area of each object, in the order of their ids."""
    fragments: tuple[int, ...] = ()
    """Far smaller than the others, and not cut by the frame."""
    pieces: tuple[int, ...] = ()
    """In two or more pieces that do not touch, not even across a corner."""
    holes: tuple[int, ...] = ()
    """With background or another object inside."""
    several: tuple[int, ...] = ()
    """Large and far from convex: perhaps touching objects under one id."""


def check_labels(
    labels: npt.NDArray[np.integer[Any]], config: CheckConfig
) -> LabelChecks:
    """Look at every object of an image.

    Parameters
    ----------
    labels
        YX, 0 background.
    config
        From when on something is odd.
    """
    objects = list(_objects(labels))
    whole = [area for _, area, cut, _ in objects if not cut]
    areas = [area for _, area, _, _ in objects]
    median = float(np.median(whole or areas)) if areas else 0.0
    found: dict[str, list[int]] = {n: [] for n in ("fragments", "pieces", "holes")}
    several = []
    for number, area, cut, inside in objects:
        if area < config.fragment_share * median and not cut:
            found["fragments"].append(number)
        if ndimage.label(inside, _ACROSS_CORNERS)[1] > 1:
            found["pieces"].append(number)
        if np.count_nonzero(ndimage.binary_fill_holes(inside)) > area:
            found["holes"].append(number)
        large = area > max(config.several_area * median, LEAST_AREA_PX)
        if large and solidity(inside) < config.several_solidity:
            several.append(number)
    return LabelChecks(
        areas_px=tuple(areas),
        several=tuple(several),
        **{name: tuple(ids) for name, ids in found.items()},
    )


def _objects(
    labels: npt.NDArray[Any],
) -> Iterator[tuple[int, int, bool, npt.NDArray[np.bool_]]]:
    """Yield id, area, whether the frame cuts it, and the object within its box."""
    ids = np.unique(labels)
    ids = ids[ids > 0]
    numbered = np.where(labels > 0, np.searchsorted(ids, labels) + 1, 0)
    for index, box in enumerate(ndimage.find_objects(numbered), 1):
        if box is None:
            continue
        inside = numbered[box] == index
        cut = any(
            side.start == 0 or side.stop == length
            for side, length in zip(box, labels.shape, strict=True)
        )
        yield int(ids[index - 1]), int(np.count_nonzero(inside)), cut, inside


def solidity(inside: npt.NDArray[np.bool_]) -> float:
    """Return the area of an object over the area of its convex hull.

    The hull is that of the corners of its pixels, so that a rectangle has 1.

    Examples
    --------
    >>> solidity(np.array([[1, 1], [1, 0]], bool))
    0.8571428571428571
    """
    from scipy.spatial import ConvexHull

    edge = inside & ~ndimage.binary_erosion(inside)
    pixels = np.argwhere(edge)
    corners = np.concatenate([pixels + np.array(c) for c in np.ndindex(2, 2)])
    return float(np.count_nonzero(inside) / ConvexHull(corners).volume)
