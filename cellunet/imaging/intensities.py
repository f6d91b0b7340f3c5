"""Intensities of a whole plane: percentiles, mean, spread and noise.

One streaming pass over full-width bands of rows (three for types that are wider than 16
bits), never over tiles, so that no tile can tell where it lies. They are exact order
statistics, so that the bands' heights do not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellunet.errors import ImageReadError
from cellunet.imaging.foreground import LogHistogram
from cellunet.imaging.order_statistics import (
    Moments,
    Selector,
    mean_and_std,
    value_parts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from cellunet.config import NormalizationConfig

    Bands = Callable[[], Iterable[npt.NDArray[np.generic]]]

ROUNDING = 1 / math.sqrt(12)
"""Standard deviation of rounding to whole numbers."""
MEDIAN_ABS_DIFFERENCE = 0.6744897501960817 * math.sqrt(2)
"""Median of the absolute difference of two normal values of unit variance."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What is known of the intensities of one whole plane.

    All values are in the image's own units; `count` is the number of finite pixels.
    `foreground` is the contrast to `low` (inverted: to `high`) below which 90 % of the
    foreground's pixels lie (`cellunet.imaging.foreground`): 0 if nothing stands out
    from the noise, None if nobody asked.
    """

    low: float
    high: float
    mean: float
    std: float
    noise: float
    count: int
    foreground: float | None = None


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
    """One channel of a plane while its bands pass by, up to three times."""

    def __init__(self, config: NormalizationConfig) -> None:
        self._config = config
        self._values, self._steps = Selector(), Selector()
        self._largest, self._rounding = 0.0, 0.0
        self._moments: Moments | None = None
        self._histogram: LogHistogram | None = None

    @property
    def wide(self) -> bool:
        """Whether its bands have to pass by once more."""
        return self._values.wide

    def add(self, band: npt.NDArray[np.generic]) -> None:
        """Take a band, YX, the first time."""
        finite = _finite(band)
        self._rounding = 0.0 if band.dtype.kind == "f" else ROUNDING
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

    def _ends(self) -> tuple[float, float]:
        """Return the low and the high percentile."""
        low, high, _ = self.ranks()
        return self._values.value(low), self._values.value(high)

    def find_foreground(self) -> bool:
        """Prepare for the foreground; return whether the bands have to pass by again.

        What was counted value by value is looked at here. After the passes before.
        """
        low, high = self._ends()
        if not self._config.needs_foreground or high <= low:
            return False
        zero, one = (high, low) if self._config.invert else (low, high)
        self._histogram = LogHistogram(zero, one)
        if not self.wide:
            values = np.flatnonzero(self._values.counts)
            self._histogram.add(values, self._values.counts[values])
        return self.wide

    def add_foreground(self, band: npt.NDArray[np.generic]) -> None:
        """Take a band for the foreground, if `find_foreground` said so."""
        if self._histogram is not None and self.wide:
            for part in value_parts(_finite(band)):
                self._histogram.add(part.astype(np.float32))

    def _foreground(self, noise: float) -> float | None:
        """Return its contrast, if it is more than what the noise may amount to.

        Flat parts of 8-bit images have no noise that could be measured.
        """
        if not self._config.needs_foreground:
            return None
        if self._histogram is None:
            return 0.0
        low, high = self._ends()
        span = high - low
        least = self._config.noise_floor * max(noise, self._rounding)
        contrast = self._histogram.foreground(least / span) * span
        return contrast if contrast >= least else 0.0

    def statistics(self) -> Statistics:
        """Return what was measured."""
        low, high = self._ends()
        middle = self.ranks()[2]
        count = int(self._values.counts.sum())
        if self._moments is not None:
            mean, std = self._moments.mean_and_std(count)
        else:
            mean, std = mean_and_std(*self._values.sums(), count)
        steps = self._steps.value(middle) if self._pairs() else 0.0
        noise = steps / MEDIAN_ABS_DIFFERENCE
        return Statistics(
            low=low,
            high=high,
            mean=mean,
            std=std,
            noise=noise,
            count=count,
            foreground=self._foreground(noise),
        )


def measure(bands: Bands, config: NormalizationConfig) -> Statistics:
    """Measure the intensities of one plane of one channel.

    Parameters
    ----------
    bands
        Called up to three times; each call returns the plane's full-width bands of
        rows, top to bottom, YX, any real dtype.
    config
        Says which percentiles are wanted, and whether the foreground is.

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
        Says which percentiles are wanted, and whether the foreground is.

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
        _pass_by(bands, [channel.add_fine for channel in channels])
    again = [channel.find_foreground() for channel in channels]
    if any(again):
        _pass_by(bands, [channel.add_foreground for channel in channels])
    return tuple(channel.statistics() for channel in channels)


def _pass_by(
    bands: Bands, takers: Sequence[Callable[[npt.NDArray[np.generic]], None]]
) -> None:
    """Show every band, CYX, once more, to each taker its channel."""
    for band in bands():
        for take, rows in zip(takers, band, strict=True):
            take(rows)


def _percentiles(config: NormalizationConfig) -> tuple[float, float]:
    """Return the percentiles of the image itself, be it positive or negative."""
    if config.invert:
        return 100 - config.high_percentile, 100 - config.low_percentile
    return config.low_percentile, config.high_percentile
