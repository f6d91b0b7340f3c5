"""Intensities of a whole plane: percentiles, mean, spread and noise.

One streaming pass over full-width bands of rows (two for types that are wider than 16
bits), never over tiles, so that no tile can tell where it lies. They are exact order
statistics, so that the bands' heights do not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellunet.errors import ImageReadError
from cellunet.imaging.order_statistics import Moments, Selector, mean_and_std

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    from cellunet.config import NormalizationConfig

    Bands = Callable[[], Iterable[npt.NDArray[np.generic]]]

MEDIAN_ABS_DIFFERENCE = 0.6744897501960817 * math.sqrt(2)
"""Median of the absolute difference of two normal values of unit variance."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What is known of the intensities of one whole plane.

    All values are in the image's own units; `count` is the number of finite pixels.
    """

    low: float
    high: float
    mean: float
    std: float
    noise: float
    count: int


def _differences(band: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return absolute differences of horizontal neighbours, finite ones only."""
    left, right = band[:, :-1], band[:, 1:]
    if band.dtype in (np.uint8, np.uint16):
        larger, smaller = np.maximum(left, right), np.minimum(left, right)
        steps: npt.NDArray[np.generic] = larger - smaller
        return steps
    wide = np.float32 if band.dtype in (np.float16, np.float32) else np.float64
    # Infinite pixels, and steps beyond float32, are left out just below.
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.subtract(right, left, dtype=wide)
        np.abs(difference, out=difference)
        difference = difference.astype(np.float32, copy=False)
    return _where(np.isfinite(difference), difference)


def _where(
    mask: npt.NDArray[np.bool_], values: npt.NDArray[np.generic]
) -> npt.NDArray[np.generic]:
    """Return what `mask` selects; the values as they are where that is all."""
    return values if mask.all() else values[mask]


def _finite(band: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    if band.dtype.kind != "f":
        return band
    with np.errstate(over="ignore"):
        # Beyond float32 a value is no longer finite for the network either.
        return _where(np.isfinite(band.astype(np.float32, copy=False)), band)


def _rows(
    band: npt.NDArray[np.generic], *, all_finite: bool
) -> Iterator[npt.NDArray[np.float64]]:
    """Yield a band's finite values, YX, rows that miss some one at a time.

    Sums are taken row by row, so that they do not depend on the bands' heights.
    """
    if all_finite:
        yield band.astype(np.float64)
    else:
        for row in band:
            yield _finite(row).astype(np.float64)[np.newaxis]


class _Channel:
    """One channel of a plane while its bands pass by, once or twice."""

    def __init__(self, config: NormalizationConfig) -> None:
        self._config = config
        self._values, self._steps = Selector(), Selector()
        self._largest = 0.0
        self._moments: Moments | None = None

    @property
    def wide(self) -> bool:
        """Whether its bands have to pass by once more."""
        return self._values.wide

    def add(self, band: npt.NDArray[np.generic]) -> None:
        """Take a band, YX, the first time."""
        finite = _finite(band)
        self._values.add(finite)
        self._steps.add(_differences(band))
        if self.wide and finite.size:
            low, high = float(finite.min()), float(finite.max())
            self._largest = max(self._largest, high, -low)

    def ranks(self) -> tuple[int, int, int]:
        """Return at which ranks the percentiles and the median step lie.

        Raises
        ------
        ImageReadError
            If no pixel is finite.
        """
        count = int(self._values.counts.sum())
        if count == 0:
            raise ImageReadError(
                "The image has no finite pixel (all are NaN or infinite).",
                hint="Export it again, or leave it out.",
            )
        low, high = (
            math.floor(p / 100 * (count - 1)) for p in _percentiles(self._config)
        )
        return low, high, self._pairs() // 2

    def _pairs(self) -> int:
        return int(self._steps.counts.sum())

    def refine(self) -> None:
        """Prepare for the second time."""
        low, high, middle = self.ranks()
        self._moments = Moments(self._largest)
        self._values.refine((low, high))
        self._steps.refine((middle,) if self._pairs() else ())

    def add_fine(self, band: npt.NDArray[np.generic]) -> None:
        """Take a band the second time."""
        if self._moments is None:
            return
        finite = _finite(band)
        self._values.add_fine(finite)
        if self._pairs():
            self._steps.add_fine(_differences(band))
        for kept in _rows(band, all_finite=finite.size == band.size):
            self._moments.add(kept)

    def statistics(self) -> Statistics:
        """Return what was measured."""
        low, high, middle = self.ranks()
        count = int(self._values.counts.sum())
        if self._moments is not None:
            mean, std = self._moments.mean_and_std(count)
        else:
            mean, std = mean_and_std(*self._values.sums(), count)
        steps = self._steps.value(middle) if self._pairs() else 0.0
        return Statistics(
            low=self._values.value(low),
            high=self._values.value(high),
            mean=mean,
            std=std,
            noise=steps / MEDIAN_ABS_DIFFERENCE,
            count=count,
        )


def measure(bands: Bands, config: NormalizationConfig) -> Statistics:
    """Measure the intensities of one plane of one channel.

    Parameters
    ----------
    bands
        Called once or twice; each call returns the plane's full-width bands of rows,
        top to bottom, YX, any real dtype.
    config
        Says which percentiles are wanted.

    Returns
    -------
    Statistics
        The percentiles are order statistics: the value at rank
        floor(percentile / 100 * (count - 1)). `noise` is the standard deviation of
        the pixel noise, estimated as the median absolute difference of horizontal
        neighbours divided by 0.954. Pixels that are not finite count nowhere.

    Raises
    ------
    ImageReadError
        If no pixel is finite.
    """
    return measure_channels(lambda: (band[np.newaxis] for band in bands()), config)[0]


def measure_channels(
    bands: Bands, config: NormalizationConfig
) -> tuple[Statistics, ...]:
    """Measure the intensities of one plane, each channel by itself, side by side.

    Parameters
    ----------
    bands
        As for `measure`, but CYX.
    config
        Says which percentiles are wanted.

    Raises
    ------
    ImageReadError
        If no pixel of a channel is finite.
    """
    channels: list[_Channel] = []
    for band in bands():
        channels = channels or [_Channel(config) for _ in band]
        for channel, rows in zip(channels, band, strict=True):
            channel.add(rows)
    # What is wrong is said before anything is read once more.
    for channel in channels:
        channel.ranks()
    if any(channel.wide for channel in channels):
        for channel in channels:
            channel.refine()
        for band in bands():
            for channel, rows in zip(channels, band, strict=True):
                channel.add_fine(rows)
    return tuple(channel.statistics() for channel in channels)


def _percentiles(config: NormalizationConfig) -> tuple[float, float]:
    """Return the percentiles of the image itself, be it positive or negative."""
    if config.invert:
        return 100 - config.high_percentile, 100 - config.low_percentile
    return config.low_percentile, config.high_percentile
