"""Values of label images that can be no object: a mark that nobody declared."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

LARGE = 10
"""An object of more than this many medians of the others' areas may be none."""
PIECES = 3
"""As may one in this many pieces or more."""
MARKS = (127, 128, 254, 255, 65_534, 65_535)
"""Values at the ends of 8 and 16 bits, which people take for marks."""


def odd_values(labels: Mapping[str, npt.NDArray[Any]]) -> dict[int, list[str]]:
    """Return values that look like a mark, and the images in which they do.

    A value looks like a mark in an image if its pixels are far more than those of the
    other objects, or in several pieces. It is told if it does so in half or more of
    the images that hold it and these are several, or if it lies beyond a gap in the
    numbers or at the end of 8 or 16 bits, as the number of an object rarely does.

    Parameters
    ----------
    labels
        YX, 0 background, by the names of their images.
    """
    held: dict[int, int] = defaultdict(int)
    odd: dict[int, list[str]] = defaultdict(list)
    apart: set[int] = set()
    for name, image in labels.items():
        ids, areas = np.unique(image[image > 0], return_counts=True)
        for value in ids.tolist():
            held[value] += 1
        for value in _unlike_objects(image, ids, areas):
            odd[value].append(name)
            if value in MARKS or value > 2 * len(ids):
                apart.add(value)
    return {
        value: names
        for value, names in sorted(odd.items())
        if value in apart or (len(names) > 1 and 2 * len(names) >= held[value])
    }


def _unlike_objects(
    image: npt.NDArray[Any], ids: npt.NDArray[Any], areas: npt.NDArray[np.int64]
) -> list[int]:
    """Return the values of an image that hold too many pixels, or too many pieces."""
    if len(ids) < 2:
        return []
    numbered = np.where(image > 0, np.searchsorted(ids, image) + 1, 0)
    median = float(np.median(areas))
    found = []
    for index, box in enumerate(ndimage.find_objects(numbered), 1):
        if box is None:
            continue
        large = areas[index - 1] > LARGE * median
        inside = numbered[box] == index
        if large or ndimage.label(inside, np.ones((3, 3)))[1] >= PIECES:
            found.append(int(ids[index - 1]))
    return found
