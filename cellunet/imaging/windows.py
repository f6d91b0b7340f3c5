"""Windows of an image that may be annotated next: doubt, and what they look like.

A window is a square of the image. Its *doubt* says how much of what it shows the model
is not sure of; its *look* is a short list of numbers by which windows are compared.
`cellunet.imaging.coverage` chooses among windows by the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellunet.imaging.foreground import LOG_GAIN
from cellunet.imaging.measure import EVIDENCE_TOP
from cellunet.imaging.normalize import CLIP

if TYPE_CHECKING:
    import numpy.typing as npt

DENSITY_PX = 256**2
"""Objects are counted per so many pixels."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Of a window's intensities."""
LAGS_PX = (1, 2, 4, 8)
"""Distances over which intensity steps are measured: noise, edges, sizes."""
LEAST_STEP = 1e-3
"""Steps below this (in units of the logarithmic range) are alike."""
LITTLE = 0.01
"""Share of a window that has to be object, or in doubt, for doubt to count in full: a
single speck in an otherwise empty window is not what a model should learn from."""
FAINT = 0.05
"""Doubt below which a window without objects is empty: in the empty fields of BBBC039
the shipped model has at most .032, in pure noise .038."""
UNSURE = 0.65
"""Objects of less confidence are counted as unsure, as in `cellunet.imaging.appearance`
(`UNCERTAIN`)."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a model makes of one window."""

    doubt: float
    """Expected share of wrong pixels, from 0 (sure of all) to below 1."""
    objects: int
    """Objects that have a pixel in the window."""
    unsure: int
    """How many of them have a confidence below `UNSURE` there."""
    look: tuple[float, ...]
    """Numbers that say what it looks like: quantiles of the intensities and mean steps
    between pixels some distance apart, as the network sees both; the share of object
    pixels, the objects' median diameter and density, in logarithms; the doubt."""

    @property
    def shows_something(self) -> bool:
        """Whether there is anything to correct: an object, or more doubt than none."""
        return self.objects > 0 or self.doubt > FAINT


def starts(length: int, side: int) -> list[int]:
    """Return where windows begin along an axis: evenly, overlapping by half or more.

    Parameters
    ----------
    length
        Of the axis, in pixels, at least `side`.
    side
        Of a window.

    Examples
    --------
    >>> starts(256, 256), starts(360, 256), starts(1024, 256)
    ([0], [0, 104], [0, 128, 256, 384, 512, 640, 768])
    """
    steps = math.ceil(2 * (length - side) / side)
    if not steps:
        return [0]
    return [round(k * (length - side) / steps) for k in range(steps + 1)]


def area_share(shape: tuple[int, int], side: int, count: int) -> float:
    """Return the area that each of `count` windows of a plane stands for, in windows.

    Examples
    --------
    >>> area_share((256, 256), 256, 1), area_share((512, 512), 256, 9)
    (1.0, 0.4444444444444444)
    """
    return shape[0] * shape[1] / side**2 / count


def see(
    scaled: npt.NDArray[np.float32],
    labels: npt.NDArray[np.integer],
    evidence: npt.NDArray[np.uint8],
) -> Seen:
    """Return what a model makes of one window.

    Doubt is D / (F + little). D is the sum, over all pixels, of one minus the
    probability of the likeliest class: the number of pixels that are expected to be
    wrong. F is the number of pixels that belong to an object or, to the extent of
    their doubt, might; `LITTLE` of the window keeps it from 0.

    Parameters
    ----------
    scaled
        YX float32, intensities as `cellunet.imaging.normalize.scale` returns them.
    labels
        YX, 0 background.
    evidence
        YX uint8 of `cellunet.imaging.objects.evidence.evidence`.
    """
    doubts = 1.0 - evidence.astype(np.float32) / EVIDENCE_TOP
    ids, which, areas = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.bincount(which.ravel(), doubts.ravel())
    inside = ids > 0
    total, own = float(doubts.sum()), float(areas[inside].sum())
    beyond = total - float(sums[inside].sum())
    doubt = total / (own + beyond + LITTLE * labels.size)
    means = sums[inside] / areas[inside]
    return Seen(
        doubt=doubt,
        objects=int(inside.sum()),
        unsure=int((1.0 - means < UNSURE).sum()),
        look=(
            *_intensities(scaled),
            math.log(own / labels.size + LITTLE),
            math.log1p(_diameter(areas[inside])),
            math.log1p(float(inside.sum()) / labels.size * DENSITY_PX),
            doubt,
        ),
    )


def _intensities(scaled: npt.NDArray[np.float32]) -> list[float]:
    """Return quantiles, and logarithms of the mean steps over `LAGS_PX`.

    Both of the logarithmic channel that the network sees.
    """
    values = np.log1p(LOG_GAIN * np.clip(scaled, 0.0, CLIP[1])) / math.log1p(LOG_GAIN)
    steps = []
    for lag in LAGS_PX:
        across = np.abs(values[:, lag:] - values[:, :-lag]).mean()
        down = np.abs(values[lag:] - values[:-lag]).mean()
        steps.append(math.log(float(across + down) / 2 + LEAST_STEP))
    return [*np.quantile(values, QUANTILES).tolist(), *steps]


def _diameter(areas: npt.NDArray[np.integer]) -> float:
    """Return the median equivalent diameter in pixels; 0 without objects."""
    return 2 * math.sqrt(float(np.median(areas)) / math.pi) if areas.size else 0.0
