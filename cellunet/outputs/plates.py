"""Sums of a batch by well and by what is known of the samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cellunet.io.file_names import WHERE, well_place
from cellunet.io.samples import is_given

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cellunet.outputs.report import ImageSummary

    Well = tuple[int, int]
    """Row and column, from 0."""

LAYOUTS = ((8, 12), (16, 24), (32, 48))
"""Rows and columns of plates of 96, 384 and 1536 wells."""

MOST_GROUPS = 48
"""A column with more different values is no treatment, but a name of each sample."""

UNKNOWN = "not given"


@dataclass
class WellSums:
    """Sums over the images of a well, or of a treatment."""

    images: int = 0
    """Those that did not fail."""
    failed: int = 0
    objects: int = 0
    wells: set[tuple[str, str]] = field(default_factory=set)
    """Plate and name of each."""
    intensities: dict[str, tuple[float, int]] = field(default_factory=dict)
    """By channel the sum over objects of their mean intensity, and their number."""

    def add(self, image: ImageSummary) -> None:
        """Add an image."""
        if image.status == "failed":
            self.failed += 1
            return
        self.images += 1
        self.objects += image.objects
        if image.columns.get("well"):
            self.wells.add((plate_of(image.columns), str(image.columns["well"])))
        for channel, (total, count) in image.intensities.items():
            before = self.intensities.get(channel, (0.0, 0))
            self.intensities[channel] = before[0] + total, before[1] + count

    def intensity(self, channel: str) -> float:
        """Return the mean over objects of their mean intensity; NaN without any."""
        total, count = self.intensities.get(channel, (0.0, 0))
        return total / count if count else math.nan

    @property
    def per_image(self) -> float:
        """Objects per image; NaN without any."""
        return self.objects / self.images if self.images else math.nan


def plate_of(columns: Mapping[str, str | float]) -> str:
    """Return the name of an image's plate; empty if it is not known."""
    return str(columns.get("plate", ""))


class Plates:
    """The sums of each well of each plate, of the images added so far."""

    def __init__(self) -> None:
        self.wells: dict[str, dict[Well, WellSums]] = {}
        """By plate, and by row and column."""
        self.channels: list[str] = []
        """Those whose intensities are known."""

    def add(self, image: ImageSummary) -> None:
        """Add an image, if it is of a well."""
        place = well_place(str(image.columns.get("well", "")))
        if place is None:
            return
        wells = self.wells.setdefault(plate_of(image.columns), {})
        wells.setdefault(place, WellSums()).add(image)
        self.channels += [c for c in image.intensities if c not in self.channels]


def layout_of(wells: Mapping[Well, WellSums]) -> tuple[int, int]:
    """Return rows and columns of the smallest common plate that has these wells.

    Examples
    --------
    >>> layout_of({(0, 0): WellSums(), (7, 12): WellSums()})
    (16, 24)
    """
    rows, columns = (max(one) + 1 for one in zip(*wells, strict=True))
    return next(s for s in LAYOUTS if rows <= s[0] and columns <= s[1])


class Samples:
    """The sums of each value of each column that is known of the samples."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str | float, WellSums]] = {}
        self.channels: list[str] = []
        """Those whose intensities are known."""

    def add(self, image: ImageSummary) -> None:
        """Add an image."""
        for name, value in image.columns.items():
            if name in WHERE:
                continue
            groups = self._groups.setdefault(name, {})
            key = value if is_given(value) else UNKNOWN
            if key in groups or len(groups) <= MOST_GROUPS:
                groups.setdefault(key, WellSums()).add(image)
        self.channels += [c for c in image.intensities if c not in self.channels]

    def tables(self) -> Iterator[tuple[str, list[tuple[str, WellSums]]]]:
        """Yield each column with its values, sorted; none of too many values."""
        for name, groups in self._groups.items():
            if len(groups) <= MOST_GROUPS:
                known = sorted(groups, key=_order)
                yield name, [(value_shown(value), groups[value]) for value in known]

    @property
    def left_out(self) -> list[str]:
        """Columns of too many values."""
        return [n for n, groups in self._groups.items() if len(groups) > MOST_GROUPS]


def _order(value: str | float) -> tuple[bool, bool, float, str]:
    text = isinstance(value, str)
    return value == UNKNOWN, text, 0.0 if text else float(value), str(value)


def value_shown(value: str | float) -> str:
    """Return a value of a sheet as text."""
    return value if isinstance(value, str) else f"{value:.9g}"
