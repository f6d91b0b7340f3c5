"""Describe an image by five numbers, and warn of those unlike the training images.

Each check compares one number of `Appearance` with the percentiles of the training
images, with a margin beyond the 5th or 95th, because a few odd training images must not
hide what lies beyond the many, and because a model works a little beyond what it was
trained on. How often the checks are right and wrong is counted in ``docs/report.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellunet.imaging.measure import equivalent_diameters
from cellunet.imaging.normalize import ROUNDING
from cellunet.imaging.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from cellunet.io.source import Statistics

MAX_CONTRAST = 1000.0
"""Beyond this nothing changes, and 8-bit images without noise would be infinite."""

STEEP_PERCENTILE = 99.8
"""The steepest 0.2 % of the pixels are the edges of the brightest objects."""

STEEP_NOISE = 3.09 * math.sqrt(2)
"""What noise of unit variance alone makes of that percentile of differences."""

SHORT_PX, LONG_PX = 2, 4
"""Distances, in the model's pixels, over which intensity steps are compared."""

BINS_PER_RANGE = 2000

ENOUGH_PIXELS = 2**16

MOST_SKIPPED = 4
"""Of planes that are so many times larger than that, every fourth row is looked at."""

UNCERTAIN = 0.65
"""Objects of less confidence count as uncertain. Of every fifth training image of the
first shipped model, 95 % had at most 23 % such objects; of the same images inverted,
half had 68 % and more."""

SURE_OF_EDGES = 0.8
"""Mean confidence from which on soft edges are no matter: out of focus by a standard
deviation of 4 px objects have .66 to .83, in images whose own edges are as soft, and
which are segmented well, .82 to .91."""

SURE = 0.62
"""Mean confidence from which on a model is taken to know what it sees, however many of
its objects are uncertain. Of 30 images of other sources that failed (F1 at IoU .50
below .6) 26 have less, of 147 that succeeded (.85 and more) 6."""

PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)
"""What is kept of the training images' values."""


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """One image; None where a number has no meaning for it."""

    contrast: float | None = None
    """Range of intensities (low to high percentile) over the noise."""
    level: float | None = None
    """Where in that range the mean lies: near 0 for bright objects on dark."""
    sharpness: float | None = None
    """Steepest steps over 2 pixels by those over 4: 0.5 for soft edges, 1 for hard."""
    diameter_px: float | None = None
    """Median equivalent diameter of the objects, in the image's own pixels."""
    uncertain: float | None = None
    """Share of objects with a confidence below `UNCERTAIN`."""
    confidence: float | None = None
    """Mean confidence of the objects."""
    objects: int = 0
    """How many were found."""
    uncertain_objects: int = 0
    """How many of them are uncertain."""


FEATURES = ("contrast", "level", "sharpness", "diameter_px", "uncertain")


def intensity(
    statistics: Statistics, *, whole_numbers: bool
) -> tuple[float, float | None]:
    """Return contrast and level of a plane.

    Parameters
    ----------
    statistics
        Of the whole plane.
    whole_numbers
        Whether its pixels are integers, which are never without rounding noise.
    """
    span = statistics.high - statistics.low
    if span <= 0:
        return 0.0, None
    noise = max(statistics.noise, ROUNDING if whole_numbers else 0.0)
    contrast = min(span / max(noise, span / MAX_CONTRAST), MAX_CONTRAST)
    return contrast, (statistics.mean - statistics.low) / span


class Sharpness:
    """How much steeper the edges of a plane are over a short than over a long distance.

    A step that is complete within `SHORT_PX` gives 1; a ramp longer than `LONG_PX`
    gives one half. What noise alone would make is taken off both (in squares); what is
    smooth all over counts as noise itself and gives still less.

    Parameters
    ----------
    statistics
        Of the plane.
    magnification
        By how much the model sees the image enlarged.
    """

    def __init__(self, statistics: Statistics, magnification: float = 1.0) -> None:
        self._span = statistics.high - statistics.low
        self._noise = statistics.noise
        self._lags = [max(1, round(px / magnification)) for px in (SHORT_PX, LONG_PX)]
        rows = statistics.count // ENOUGH_PIXELS
        self._every, self._y = int(np.clip(rows, 1, MOST_SKIPPED)), 0
        self._counts = np.zeros((2, 2 * BINS_PER_RANGE + 1), np.int64)

    def add(self, band: npt.NDArray[np.generic]) -> None:
        """Take the next full-width rows of the plane, YX."""
        if self._span <= 0:
            return
        rows = band[-self._y % self._every :: self._every]
        self._y += len(band)
        for counts, lag in zip(self._counts, self._lags, strict=True):
            counts += _steps(rows, lag, self._span)

    def value(self) -> float | None:
        """Return it; None if the plane is too narrow or no steeper than its noise."""
        if self._span <= 0:
            return None
        noise = STEEP_NOISE * self._noise / self._span
        short, long = (
            math.sqrt(max(_percentile(c) ** 2 - noise**2, 0.0)) for c in self._counts
        )
        return short / long if long > 0 else None


def _steps(
    band: npt.NDArray[np.generic], lag: int, span: float
) -> npt.NDArray[np.int64]:
    """Count intensity steps over `lag` pixels by their size in units of the range."""
    top = 2 * BINS_PER_RANGE
    counts = np.zeros(top + 1, np.int64)
    for rows, columns in pieces(band.shape):
        values = band[rows, columns.start : columns.stop + lag]
        before, after = values[:, :-lag], values[:, lag:]
        if band.dtype in (np.uint8, np.uint16):
            # Of whole numbers there are few steps, so what is scaled is each size.
            sizes = np.maximum(before, after) - np.minimum(before, after)
            times = np.bincount(sizes.ravel())
            steps = np.arange(len(times), dtype=np.float32)
            steps *= np.float32(BINS_PER_RANGE / span)
        else:
            times = None
            with np.errstate(invalid="ignore", over="ignore"):
                # Infinite pixels, and steps that are infinite, left out just below.
                steps = np.abs(after.astype(np.float32) - before.astype(np.float32))
                steps *= np.float32(BINS_PER_RANGE / span)
            steps = steps[np.isfinite(steps)]
        places = np.minimum(steps, top).astype(np.int32)
        counts += np.bincount(places, times, minlength=top + 1).astype(np.int64)
    return counts


def _percentile(counts: npt.NDArray[np.int64]) -> float:
    total = int(counts.sum())
    if not total:
        return 0.0
    rank = STEEP_PERCENTILE / 100 * (total - 1)
    place = int(np.searchsorted(np.cumsum(counts), rank, side="right"))
    return (place + 0.5) / BINS_PER_RANGE if place else 0.0


def objects(
    areas: npt.NDArray[np.integer], confidences: npt.NDArray[np.floating] | None
) -> Appearance:
    """Return the features of a plane that come from its objects alone.

    Parameters
    ----------
    areas
        Pixels of each object.
    confidences
        Of each object, or None if they are not known.
    """
    count = len(areas)
    if not count:
        return Appearance()
    low = 0 if confidences is None else int((confidences < UNCERTAIN).sum())
    return Appearance(
        diameter_px=float(equivalent_diameters(np.median(areas))),
        uncertain=None if confidences is None else low / count,
        confidence=None if confidences is None else float(confidences.mean()),
        objects=count,
        uncertain_objects=low,
    )


def together(planes: Sequence[Appearance]) -> Appearance:
    """Return medians over the planes of an image, and sums of counts."""
    values: dict[str, float | None] = {}
    for name in (*FEATURES, "confidence"):
        known = [v for v in (getattr(p, name) for p in planes) if v is not None]
        values[name] = float(np.median(known)) if known else None
    return Appearance(
        **values,
        objects=sum(p.objects for p in planes),
        uncertain_objects=sum(p.uncertain_objects for p in planes),
    )


def summarize(images: Sequence[Appearance]) -> dict[str, list[float]]:
    """Return `PERCENTILES` of every number over images, for a model's card.

    Numbers that no image has are left out.
    """
    found = {}
    for name in FEATURES:
        known = [v for v in (getattr(i, name) for i in images) if v is not None]
        if known:
            found[name] = [
                round(float(v), 5) for v in np.percentile(known, PERCENTILES)
            ]
    return found


LOW, HIGH = PERCENTILES.index(5), PERCENTILES.index(95)

CONTRAST_FACTOR = 0.4

LEVEL_MARGIN = 0.15

SHARPNESS_MARGIN = 0.02

DIAMETER_FACTOR = 1.25

UNCERTAIN_MARGIN = 0.15

FEWEST_UNCERTAIN = 3
"""One or two uncertain objects in an image of three are no sign of anything."""


def out_of_distribution_warnings(
    image: Appearance,
    known: Mapping[str, Sequence[float]],
    *,
    learned_px: tuple[float, float] | None,
    magnification: float = 1.0,
) -> tuple[str, ...]:
    """Return one line for each way in which an image is unlike the training images.

    Parameters
    ----------
    image
        What it looks like.
    known
        `cellunet.imaging.quality.summarize` of the training images. Where a number
        is missing, as from models that were trained before these were kept, its check
        says nothing.
    learned_px
        Diameters of the small and large training objects in the pixels of their
        images, by which sizes are judged if `known` has no diameters; None if unknown.
    magnification
        By how much the model sees the image enlarged, compared with its training
        images.

    Returns
    -------
    tuple of str
        What is seen, what training images were like, and what to do; intensities
        first. An image of hardly more than noise has no other line, because then no
        other number means anything.
    """
    noise = _contrast(image, known)
    if noise:
        return (noise,)
    found = (
        _level(image, known),
        _sharpness(image, known),
        _diameter(image, known, learned_px, magnification),
        _uncertain(image, known),
        _nothing(image, known),
    )
    return tuple(line for line in found if line)


def _contrast(image: Appearance, known: Mapping[str, Sequence[float]]) -> str:
    values, found = known.get("contrast"), image.contrast
    if values is None or found is None or found >= CONTRAST_FACTOR * values[LOW]:
        return ""
    return (
        f"Hardly more than noise: its brightest parts stand out by "
        f"{image.contrast:.0f} times the noise, those of training images by "
        f"{values[LOW]:.0f} or more. Right if the field is empty; if not, it is the "
        "wrong channel (--channel), underexposed, or an unstained sample."
    )


def _level(image: Appearance, known: Mapping[str, Sequence[float]]) -> str:
    values, found = known.get("level"), image.level
    if values is None or found is None or found <= values[HIGH] + LEVEL_MARGIN:
        return ""
    return (
        f"Bright all over: its mean lies at {image.level:.0%} of its range, that of "
        f"training images at {values[HIGH]:.0%} or less. The model looks for bright "
        "objects on a dark ground. If this is bright field, phase contrast, an "
        "inverted image or another stain: choose the fluorescence channel "
        "(--channel), invert the image, or train on a few of your own."
    )


def _sharpness(image: Appearance, known: Mapping[str, Sequence[float]]) -> str:
    values, found = known.get("sharpness"), image.sharpness
    if values is None or found is None or found >= values[LOW] - SHARPNESS_MARGIN:
        return ""
    if _at_least(image.confidence, SURE_OF_EDGES):
        return ""
    return (
        f"Soft edges ({image.sharpness:.2f}; training images {values[LOW]:.2f} or "
        "more): out of focus, or magnified more than the training images. Look at the "
        "outlines: sizes are uncertain and touching objects may be merged. If it is "
        "in focus, measure a few objects and try: --diameter PIXELS."
    )


def _at_least(value: float | None, least: float) -> bool:
    return value is not None and value >= least


def _diameter(
    image: Appearance,
    known: Mapping[str, Sequence[float]],
    learned_px: tuple[float, float] | None,
    magnification: float,
) -> str:
    if image.diameter_px is None:
        return ""
    values = known.get("diameter_px")
    if values is not None:
        low, high = values[LOW], values[HIGH]
        least, most = low / DIAMETER_FACTOR, high * DIAMETER_FACTOR
    elif learned_px is not None and learned_px[1] > 0:
        low, high = least, most = learned_px
    else:
        return ""
    if least <= image.diameter_px * magnification <= most:
        return ""
    return (
        f"The objects found are {image.diameter_px:.0f} px wide (median); the model "
        f"learned {low / magnification:.0f} to {high / magnification:.0f}. If they "
        "look wrong, measure a few and try: --diameter PIXELS."
    )


def _uncertain(image: Appearance, known: Mapping[str, Sequence[float]]) -> str:
    values = known.get("uncertain")
    if values is None or image.uncertain is None:
        return ""
    few = image.uncertain_objects < FEWEST_UNCERTAIN
    usual = image.uncertain <= values[HIGH] + UNCERTAIN_MARGIN
    if few or usual or _at_least(image.confidence, SURE):
        return ""
    return (
        f"The model is unsure of {image.uncertain:.0%} of the objects (training "
        f"images: {values[HIGH]:.0%} or less). Look at the outlines; if they are "
        "wrong, annotate a few images of this kind and train on them: cellunet train."
    )


def _nothing(image: Appearance, known: Mapping[str, Sequence[float]]) -> str:
    if image.objects or "contrast" not in known:
        return ""
    return (
        "Nothing was found, although the image holds more than noise. If there are "
        "nuclei in it: choose the channel (--channel), or give their size "
        "(--diameter PIXELS)."
    )
