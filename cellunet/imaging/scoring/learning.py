"""Scores against the number of annotated images: a curve, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.config import BootstrapConfig
from cellunet.imaging.scoring.bootstrap import Estimate, estimate_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellunet.imaging.scoring.bootstrap import Floats

ENOUGH_POINTS = 3
"""Numbers of images from which a law can be drawn; two lie on any."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training on so many images, scored on images that it has not seen."""

    images: int
    objects: int
    """Annotated objects in them."""
    loss: float
    """On the images that it is scored on."""
    mean_ap: Sequence[float]
    """Of each image or quarter of an image, in an order that trials of other numbers
    of images share."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """All trials of one number of images."""

    images: int
    objects: float
    """Mean over the trials."""
    loss: float
    """Mean over the trials."""
    mean_ap: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return dict(vars(self)) | {"mean_ap": self.mean_ap.to_dict()}


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What more images would give, if errors go on to fall as they do."""

    more: int
    """How many more."""
    gain: Estimate
    """In mean AP."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"more": self.more, "gain": self.gain.to_dict()}


def points_of(trials: Sequence[Trial]) -> list[Point]:
    """Return one point for each number of images, fewest first."""
    points = []
    for images in sorted({trial.images for trial in trials}):
        same = [trial for trial in trials if trial.images == images]
        (mean_ap,) = estimate_means(_pieces(same)[:, None], BootstrapConfig())
        points.append(
            Point(
                images=images,
                objects=float(np.mean([trial.objects for trial in same])),
                loss=float(np.mean([trial.loss for trial in same])),
                mean_ap=mean_ap,
            )
        )
    return points


def outlook(trials: Sequence[Trial], more: int) -> Outlook | None:
    """Return what `more` images beyond the largest number tried would give.

    The error, 1 - mean AP, is taken to fall as a power of the number of images n,
    E(n) = a n^-b (Hestness et al. 2017, "Deep learning scaling is predictable,
    empirically"), through all numbers of 1 and above, by least squares of logarithms.
    The interval is of a bootstrap over the images that were scored.

    Returns
    -------
    Outlook or None
        None with fewer than `ENOUGH_POINTS` numbers of images.
    """
    counts = sorted({trial.images for trial in trials if trial.images})
    if len(counts) < ENOUGH_POINTS:
        return None
    pieces = [_pieces([trial for trial in trials if trial.images == n]) for n in counts]
    config = BootstrapConfig()
    rng = np.random.default_rng(config.seed)
    least = min(len(column) for column in pieces)
    drawn = []
    for _ in range(config.resamples):
        chosen = rng.integers(least, size=least)
        errors = np.array([1 - float(column[chosen].mean()) for column in pieces])
        drawn.append(_gain(counts, errors, more))
    tail = 50 * (1 - config.confidence)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    value = _gain(counts, np.array([1 - column.mean() for column in pieces]), more)
    return Outlook(
        more=more, gain=Estimate(value=value, low=float(low), high=float(high))
    )


def _pieces(trials: Sequence[Trial]) -> Floats:
    """Return the scores of all trials, one after the other."""
    return np.array([score for trial in trials for score in trial.mean_ap], float)


def _gain(counts: Sequence[int], errors: Floats, more: int) -> float:
    sizes = np.log(np.array(counts, float))
    slope, level = np.polyfit(sizes, np.log(np.maximum(errors, 1e-6)), 1)
    largest = counts[-1]
    now, then = (np.exp(level + slope * np.log(n)) for n in (largest, largest + more))
    return float(now - then)


def sizes_up_to(most: int) -> list[int]:
    """Return numbers of images to try: 0, 1, 2, 5, 10, 20, 50 ... and all.

    Examples
    --------
    >>> sizes_up_to(14)
    [0, 1, 2, 5, 10, 14]
    """
    steps = [d * 10**e for e in range(7) for d in (1, 2, 5)]
    return [0, *(n for n in steps if n < most), most]
