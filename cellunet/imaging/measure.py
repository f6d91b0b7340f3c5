"""What is measured of every object: the one definition of a table's columns.

Lengths count in pixels and, where the size of a pixel is known, in micrometres too;
coordinates are those of outlines: the pixel in row 0 and column 0 covers (0, 0) to
(1, 1). How they are computed is in `cellunet.imaging.objects.sums`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

Table = dict[str, "npt.NDArray[Any]"]
"""Name of a column to its values, one an object."""


@dataclass(frozen=True)
class Column:
    """One thing that is measured of an object."""

    name: str
    meaning: str
    power: int = 0
    """1 for a length and 2 for an area, which have one column in pixels and one in
    micrometres; 0 for what has no unit."""


COLUMNS = (
    Column("area", "pixels of the object", 2),
    Column("x", "centre of mass, from the left edge of the image", 1),
    Column("y", "centre of mass, from the upper edge of the image", 1),
    Column("left", "left edge of the bounding box", 1),
    Column("top", "upper edge of the bounding box", 1),
    Column("right", "right edge of the bounding box", 1),
    Column("bottom", "lower edge of the bounding box", 1),
    Column("major_axis", "longer axis of the ellipse with its second moments", 1),
    Column("minor_axis", "shorter axis of that ellipse", 1),
    Column("perimeter", "length of its smooth outline, holes included", 1),
    Column("eccentricity", "of that ellipse: 0 for a circle, near 1 for a line"),
    Column("solidity", "area in its outline over area in the outline's convex hull"),
    Column("touches_border", "1 if it touches the edge of the image, else 0"),
)
"""Measured of the shape; `column_names` has all names in order."""
INTENSITIES = (
    Column("intensity_mean", "mean of the image's values inside"),
    Column("intensity_min", "least value inside"),
    Column("intensity_max", "greatest value inside"),
    Column("intensity_sum", "sum of the values inside"),
)
"""Measured in each channel of the image; with several, ``_NAME`` is appended."""
CONFIDENCE = Column(
    "confidence", "mean over its pixels of the probability of the likeliest class"
)
WHOLE = ("area_px", "left_px", "top_px", "right_px", "bottom_px", "touches_border")
"""Columns of whole numbers; all others are float64."""
UNITS = {0: ("",), 1: ("_px", "_um"), 2: ("_px", "_um2")}
"""Power to what is appended for pixels and for micrometres."""
EVIDENCE_TOP = 255
"""Value of the evidence (`cellunet.imaging.objects.evidence`) that means certainty."""


def column_names(channels: Sequence[str] = ("",)) -> list[str]:
    """Return the names of all columns of a table, in order, ids and places aside.

    Parameters
    ----------
    channels
        Names of the image's channels. One channel needs no name; names that occur
        twice are told apart by their number.

    Examples
    --------
    >>> column_names(["DAPI", "GFP"])[-5:]  # doctest: +NORMALIZE_WHITESPACE
    ['intensity_mean_GFP', 'intensity_min_GFP', 'intensity_max_GFP',
     'intensity_sum_GFP', 'confidence']
    """
    names = [c.name + UNITS[c.power][0] for c in COLUMNS if c.power]
    names += [c.name + UNITS[c.power][1] for c in COLUMNS if c.power]
    names += [c.name for c in COLUMNS if not c.power]
    for suffix in channel_suffixes(channels):
        names += [c.name + suffix for c in INTENSITIES]
    return [*names, CONFIDENCE.name]


def channel_suffixes(channels: Sequence[str]) -> list[str]:
    """Return what is appended to the names of intensities, for each channel."""
    if len(channels) == 1:
        return [""]
    twice = {name for name in channels if list(channels).count(name) > 1}
    return [f"_{n}_{k}" if n in twice else f"_{n}" for k, n in enumerate(channels)]
