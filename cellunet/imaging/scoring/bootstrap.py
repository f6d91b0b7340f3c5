"""Percentile bootstrap intervals over images (Efron and Tibshirani 1993, chapter 13).

They say what another draw of images of this kind would give, not what another
training run would.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from cellunet.config import BootstrapConfig

    Floats = npt.NDArray[np.float64]

_BLOCK = 1 << 22
"""Weights drawn at a time: 32 MB, whatever the number of images."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value over the images at hand and its interval."""

    value: float
    """The value."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""

    def to_dict(self) -> dict[str, float]:
        """Return the fields as plain values."""
        return dataclasses.asdict(self)


def estimate_ratios(
    numerators: Floats, denominators: Floats, config: BootstrapConfig
) -> list[Estimate | None]:
    """Estimate ratios of sums over images; means are those over a column of ones.

    Parameters
    ----------
    numerators, denominators
        float64 of shape (images, values); images in the same order, 1 or more. All
        values share the draws, so that intervals belong together.
    config
        Draws, confidence and seed.

    Returns
    -------
    list of Estimate or None
        One for each value; None where the denominators sum to 0. Draws whose
        denominator is 0 are left out of that value's interval.
    """
    values = _ratio(numerators.sum(axis=0), denominators.sum(axis=0))
    generator = np.random.default_rng(config.seed)
    count = len(numerators)
    step = max(1, _BLOCK // count)
    drawn = []
    for start in range(0, config.resamples, step):
        size = min(step, config.resamples - start)
        weights = generator.multinomial(count, np.full(count, 1 / count), size=size)
        weights = weights.astype(np.float64)
        drawn.append(_ratio(weights @ numerators, weights @ denominators))
    tail = 50 * (1 - config.confidence)
    return [
        _estimate(float(value), column, tail)
        for value, column in zip(values, np.concatenate(drawn).T, strict=True)
    ]


def estimate_means(columns: Floats, config: BootstrapConfig) -> list[Estimate]:
    """Estimate the mean of each column of `columns`, shape (images, values)."""
    found = estimate_ratios(columns, np.ones_like(columns), config)
    return [estimate for estimate in found if estimate is not None]


def _ratio(numerators: Floats, denominators: Floats) -> Floats:
    undefined = np.full_like(numerators, np.nan)
    return np.divide(numerators, denominators, out=undefined, where=denominators != 0)


def _estimate(value: float, drawn: Floats, tail: float) -> Estimate | None:
    if np.isnan(value):
        return None
    defined = drawn[~np.isnan(drawn)]
    if not defined.size:
        return Estimate(value=value, low=value, high=value)
    low, high = np.percentile(defined, [tail, 100 - tail])
    return Estimate(value=value, low=float(low), high=float(high))
