"""Fill polygons in a whole image, as the tests of several formats expect them."""

from __future__ import annotations

import numpy as np

from cellunet.annotations.shapes import fill_window


def fill(rings, shape):
    """Return which pixels of an image lie inside of a polygon, YX."""
    image = np.zeros(shape, bool)
    filled = fill_window(rings, shape)
    image[filled.window] = filled.inside
    return image
