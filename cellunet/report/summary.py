"""What a report says of a run and of each image: plain values, no pixels but pictures'.

A histogram has fixed steps, so that images add up to a batch without any object being
kept, and a record of an image is small whatever the image holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Status = Literal["done", "skipped", "failed"]
DIAMETER_STEP_PX = 0.5
CONFIDENCE_STEP = 0.02
MAX_BIN = 1_000_000
"""Largest number of a bin; what lies beyond is counted there."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of values in steps of one width.

    Bin i holds i * step <= x < (i + 1) * step.
    """

    step: float
    counts: Mapping[int, int] = field(default_factory=dict)
    """Number of the bin to how many values lie in it; empty bins are left out."""

    @classmethod
    def of(cls, values: Iterable[float], step: float, top: float = 0.0) -> Histogram:
        """Count values, none below 0.

        Parameters
        ----------
        values
            Finite numbers.
        step
            Width of a bin.
        top
            If above 0, a value of `top` or more counts to the last bin below it.

        Examples
        --------
        >>> Histogram.of([0.1, 0.99, 1.0], step=0.5, top=1.0).counts
        {0: 1, 1: 2}
        """
        last = round(top / step) - 1 if top else MAX_BIN
        counts: dict[int, int] = {}
        for value in values:
            place = min(int(value / step), last)
            counts[place] = counts.get(place, 0) + 1
        return cls(step=step, counts=dict(sorted(counts.items())))

    @property
    def total(self) -> int:
        """How many values there are."""
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """Return the value below which `share` of the values lie; None without any.

        Exact to the width of a bin: within a bin values count as evenly spread.

        Examples
        --------
        >>> Histogram(step=1.0, counts={3: 2, 7: 2}).quantile(0.5)
        4.0
        """
        wanted = share * self.total
        seen = 0
        for place, count in sorted(self.counts.items()):
            if seen + count >= wanted:
                return (place + (wanted - seen) / count) * self.step
            seen += count
        return None

    def mean(self) -> float | None:
        """Return the mean, each value in the middle of its bin; None without any."""
        total = self.total
        if not total:
            return None
        return self.step * sum((p + 0.5) * n for p, n in self.counts.items()) / total


class Pool:
    """Histograms of one step added up, in one dictionary."""

    def __init__(self, step: float) -> None:
        self.step = step
        self._counts: dict[int, int] = {}

    def add(self, one: Histogram) -> None:
        """Add the counts of another histogram.

        Raises
        ------
        ValueError
            If its step is another one: a bug.
        """
        if one.step != self.step:
            raise ValueError(f"a step of {one.step} does not add to {self.step}")
        for place, count in one.counts.items():
            self._counts[place] = self._counts.get(place, 0) + count

    def histogram(self) -> Histogram:
        """Return what was added up."""
        return Histogram(step=self.step, counts=dict(sorted(self._counts.items())))


@dataclass(frozen=True, kw_only=True)
class ImageSummary:
    """What the report shows of one image."""

    name: str
    """As people know it; any text at all."""
    status: Status
    """``skipped``: its result was there before this run."""
    thumbnail: bytes = b""
    """A WebP picture with outlines; empty without one."""
    thumbnail_size: tuple[int, int] = (0, 0)
    """Its width and height in pixels."""
    plane: str = ""
    """Which plane of a stack the picture shows, in words."""
    objects: int = 0
    """Objects in all planes."""
    diameters: Histogram = field(
        default_factory=lambda: Histogram(step=DIAMETER_STEP_PX)
    )
    """Equivalent diameters of the objects in pixels, in steps of `DIAMETER_STEP_PX`."""
    confidences: Histogram | None = None
    """Confidences of the objects, in steps of `CONFIDENCE_STEP`; None if the model
    does not tell them."""
    shape: tuple[int, ...] = ()
    """Lengths of T and Z if there are, height and width in pixels."""
    pixel_size_um: tuple[float, float] | None = None
    """Height and width of a pixel."""
    pixel_size_from: str = ""
    """Where that stands in the file, or beside it."""
    notes: tuple[str, ...] = ()
    """What to know of how it was read."""
    seconds: float = 0.0
    """Time that it took."""
    warnings: tuple[str, ...] = ()
    """What to look at, though it did not fail."""
    error: str = ""
    """Why it failed."""
    link: str = ""
    """Path of a larger picture, relative to the report's folder."""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What the report says of the run as a whole; values are shown in this order."""

    created: str
    """When, in words."""
    folder: str
    """What the names of all images begin with, which is not repeated."""
    results: str
    """Where the label images are."""
    seconds: float
    """Time that the run took."""
    stopped: bool = False
    """Whether it was stopped before its end."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How the model was applied."""
    versions: Mapping[str, Any] = field(default_factory=dict)
    """Of cellunet and of what computed."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """What the model says of itself."""
