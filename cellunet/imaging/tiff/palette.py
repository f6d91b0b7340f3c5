"""Tell a palette that only displays intensities from one that makes colors.

A palette (TIFF 6.0, section 5) turns stored values into red, green and blue. Programs
of microscopes store a channel's display color so: a ramp from black to one hue, linear
in the value. There the value is the intensity; anywhere else it is a mere number of a
color.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

TOLERANCE = 0.02
"""Share of the full range by which entries may lie off a line: 8-bit steps, rounded."""


def is_ramp(colormap: npt.NDArray[Any]) -> bool:
    """Return whether a palette is a ramp of one hue, rising or falling.

    Parameters
    ----------
    colormap
        Red, green and blue of each value, shape (3, values).

    Examples
    --------
    >>> blue = np.zeros((3, 256))
    >>> blue[2] = np.arange(256) * 257
    >>> is_ramp(blue), is_ramp(blue[:, ::-1]), is_ramp(np.sqrt(blue))
    (True, True, False)
    """
    table = np.asarray(colormap, np.float64)
    if table[:, 0].sum() > table[:, -1].sum():
        table = table[:, ::-1]
    hue = table[:, -1]
    if table.shape[1] < 2 or not hue.any():
        return False
    line = hue[:, np.newaxis] * np.linspace(0.0, 1.0, table.shape[1])
    return bool(np.abs(table - line).max() <= TOLERANCE * hue.max())
