"""Measure the intensities of a plane, and scale the network's input by them.

Statistics are exact order statistics of one pass over full-width bands of rows (three
for types that are wider than 16 bits), never over tiles, so that the height of the
bands does not matter and no tile depends on where it lies.

The high percentile of a plane is the brightness of its brightest 0.2 %. A crystal or a
fiber of that size sets it, and all nuclei are then shown to the network far dimmer than
in training. On a logarithmic scale such dirt is not far from nuclei, but nuclei are far
from the background: there Otsu's threshold finds the foreground, of which dirt is a
small part. Dirt that is so bright that the threshold finds nothing else is left out,
and the threshold computed again below it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cellunet.errors import ImageReadError
from cellunet.imaging.pieces import pieces
from cellunet.io.source import Statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from cellunet.config import NormalizationConfig

    Bands = Callable[[], Iterable[npt.NDArray[np.generic]]]

LOG_GAIN = 50.0
"""Gain of the logarithmic scale: log(1 + 50 x) / log(51) lifts a nucleus of 2 % of the
range to 18 %, so that dim nuclei next to bright ones stay visible."""

BINS = 4096
"""Of that scale: 0.1 % of a value at its upper end."""

BRIGHT = 0.9
"""Share of the foreground's pixels that are no brighter than the level returned: high,
so that dim nuclei near bright ones do not lower it; not so high that dirt sets it."""

DIRT = 0.01
"""Share of the pixels that dirt may cover: as much as two nuclei 48 px wide in a field
of 520 x 696."""

FAR = 10.0
"""Dirt is so many times brighter than the nuclei at least; else it is nuclei too."""

SPECKS = 6.0
"""Where a background was cut off at 0, 90 % of what is left of its noise lie below 2.5
to 2.9 standard deviations of its steps (Gaussian, cut within 3 of its mean), nuclei
further."""

FEW_STEPS = 0.02
"""Up to so large a share of steps that are not 0 may be outlines of flat objects."""


class LogHistogram:
    """Counts of a plane's values between two of them, on a logarithmic scale.

    Parameters
    ----------
    zero, one
        The ends; `one` is below `zero` where objects are dark. What lies beyond counts
        as the nearer end.
    """

    def __init__(self, zero: float, one: float) -> None:
        self._zero, self._span = zero, one - zero
        self._counts = np.zeros(BINS, np.int64)

    def add(
        self,
        values: npt.NDArray[np.generic],
        counts: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Take finite values of any shape, each once or `counts` times."""
        share = (values.astype(np.float64) - self._zero) / self._span
        np.clip(share, 0.0, 1.0, out=share)
        scaled = np.log1p(LOG_GAIN * share) * ((BINS - 1) / math.log1p(LOG_GAIN))
        places = scaled.astype(np.int32).ravel()
        if counts is None:
            self._counts += np.bincount(places, minlength=BINS)
        else:
            np.add.at(self._counts, places, counts)

    def foreground(self, least: float) -> float:
        """Return the level below which 90 % of the foreground's pixels lie, 0 to 1.

        The foreground is what lies above Otsu's threshold of the logarithmic values
        (N. Otsu, IEEE Trans. Syst. Man Cybern. 9, 62-66, 1979). Where that is next to
        nothing, and what lies below it has a foreground far dimmer, that one is it.

        Parameters
        ----------
        least
            Level from which on something stands out from the noise.

        Returns
        -------
        float
            0 if all values lie in one bin.
        """
        level, first = self._above_threshold(BINS)
        total = int(self._counts.sum())
        while 0 < int(self._counts[first:].sum()) < DIRT * total:
            dimmer, below = self._above_threshold(first)
            # One bin alone has nothing above a threshold, however low `least` is.
            if below >= first or dimmer < least or dimmer > level / FAR:
                break
            level, first = dimmer, below
        return level

    def _above_threshold(self, stop: int) -> tuple[float, int]:
        """Return the level of the foreground of the bins below `stop`, and its first.

        The scale is logarithmic anew up to the brightest of these bins.
        """
        counts, places = self._counts[:stop], np.arange(stop)
        if stop < BINS:
            places = np.log1p(LOG_GAIN * _level(places) / _level(stop - 1))
        below, weighted = np.cumsum(counts), np.cumsum(counts * places)
        above = below[-1] - below
        two = np.flatnonzero((below > 0) & (above > 0))
        if not len(two):
            return 0.0, stop
        total = weighted[-1]
        below, weighted, above = below[two], weighted[two], above[two]
        apart = weighted / below - (total - weighted) / above
        # In floats: counts of large planes would overflow as a product.
        between = below.astype(np.float64) * above * apart**2
        first = int(two[np.argmax(between)]) + 1
        up_to = np.cumsum(counts[first:])
        place = first + int(np.searchsorted(up_to, BRIGHT * up_to[-1]))
        return min(float(_level(place)), 1.0), first


def _level(place: npt.NDArray[np.integer] | int) -> npt.NDArray[np.float64]:
    """Return the level, 0 to 1, in the middle of a bin."""
    scaled = (np.asarray(place) + 0.5) / (BINS - 1) * math.log1p(LOG_GAIN)
    level: npt.NDArray[np.float64] = np.expm1(scaled) / LOG_GAIN
    return level


class OrderStatistics:
    """Exact order statistics of values seen in bands.

    Unsigned 8 and 16-bit values are counted directly. Anything else is cast to
    float32 and selected by radix: the first pass counts the upper 16 bits of an
    order-preserving integer key, the second the lower 16 bits of the buckets in
    which the ranks asked for lie.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(65536, np.int64)
        self.fine: dict[int, npt.NDArray[np.int64]] = {}
        self.wide = False
        self._up_to: npt.NDArray[np.int64] | None = None

    def add(self, values: npt.NDArray[np.generic]) -> None:
        """Take values in the first pass."""
        whole = values.dtype in (np.uint8, np.uint16)
        self.wide = self.wide or not whole
        for part in value_parts(values):
            keys = part if whole else _sortable(part) >> np.uint32(16)
            counts = np.bincount(keys, minlength=1)
            self.counts[: len(counts)] += counts
        self._up_to = None

    def bucket(self, rank: int) -> int:
        """Return the bucket of the first pass that holds a rank."""
        if self._up_to is None:
            self._up_to = np.cumsum(self.counts)
        return int(np.searchsorted(self._up_to, rank, side="right"))

    def sums(self) -> tuple[float, float]:
        """Return the sum of all values, and that of their squares; not if `wide`."""
        value = np.flatnonzero(self.counts)
        counts, square = self.counts[value], value * value
        # In two halves, so that no plane is too large for 64 bits.
        upper, lower = (int(counts @ half) for half in (square >> 16, square & 0xFFFF))
        return float(int(counts @ value)), float((upper << 16) + lower)

    def refine(self, ranks: Iterable[int]) -> None:
        """Say which ranks are wanted, before the second pass."""
        self.fine = {self.bucket(r): np.zeros(65536, np.int64) for r in ranks}

    def add_fine(self, values: npt.NDArray[np.generic]) -> None:
        """Take the same values in the second pass."""
        for part in value_parts(values):
            keys = _sortable(part)
            upper = keys >> np.uint32(16)
            for bucket, counts in self.fine.items():
                lower = keys[upper == bucket] & np.uint32(0xFFFF)
                counts += np.bincount(lower, minlength=65536)

    def value(self, rank: int) -> float:
        """Return the value at a rank, which was given to `refine` if `wide`."""
        bucket = self.bucket(rank)
        if not self.wide:
            return float(bucket)
        rank -= int(self.counts[:bucket].sum())
        lower = int(np.searchsorted(np.cumsum(self.fine[bucket]), rank, side="right"))
        return _from_sortable((bucket << 16) | lower)


def value_parts(values: npt.NDArray[np.generic]) -> Iterator[npt.NDArray[np.generic]]:
    """Yield values a few at a time: keys and counts take many times their memory."""
    flat = values.ravel()
    for _, columns in pieces((1, len(flat))):
        yield flat[columns]


def _sortable(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint32]:
    """Return keys that order like the float32 values (sign bit folded)."""
    bits = values.astype(np.float32).view(np.int32)
    # All bits of negative values are turned, of others the sign alone.
    turned = (bits >> 31).view(np.uint32)
    turned |= np.uint32(0x80000000)
    turned ^= bits.view(np.uint32)
    return turned


_ZERO = 0x8000
"""Bucket of 0.0, and of positive values too small to be told from it."""


def _from_sortable(key: int) -> float:
    bits = key & 0x7FFFFFFF if key & 0x80000000 else ~key & 0xFFFFFFFF
    return float(np.array(bits, np.uint32).view(np.float32))


def mean_and_std(total: float, squares: float, count: int) -> tuple[float, float]:
    """Return mean and standard deviation from the sums of values and of squares."""
    mean = total / count
    return mean, math.sqrt(max(squares / count - mean * mean, 0.0))


ROUNDING = 1 / math.sqrt(12)
"""Standard deviation of rounding to whole numbers."""

MEDIAN_ABS_DIFFERENCE = 0.6744897501960817 * math.sqrt(2)
"""Median of the absolute difference of two normal values of unit variance."""


def _differences(band: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return absolute differences of horizontal neighbors, finite ones only."""
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
        self._values, self._steps = OrderStatistics(), OrderStatistics()
        self._rounding = 0.0
        # A sum a row. No square of what float32 holds is beyond float64.
        self._sums: list[float] = []
        self._squares: list[float] = []
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

    def _middle_step(self) -> int | None:
        """Return at which rank the median of the steps that are not 0 lies.

        None where they are few.
        """
        flat, pairs = int(self._steps.counts[_ZERO if self.wide else 0]), self._pairs()
        others = pairs - flat
        return flat + others // 2 if others > FEW_STEPS * pairs else None

    def refine(self) -> None:
        """Prepare for the second time."""
        low, high, middle = self.ranks()
        self._values.refine((low, high))
        steps = [middle] if self._pairs() else []
        if (other := self._middle_step()) is not None:
            steps.append(other)
        self._steps.refine(steps)

    def add_fine(self, band: npt.NDArray[np.generic]) -> None:
        """Take a band the second time."""
        finite = _finite(band)
        self._values.add_fine(finite)
        if self._pairs():
            self._steps.add_fine(_differences(band))
        for kept in _rows(band, all_finite=finite.size == band.size):
            self._sums += kept.sum(axis=1).tolist()
            # Not by `dot`, whose last bits depend on the threads of BLAS.
            kept *= kept
            self._squares += kept.sum(axis=1).tolist()

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
        """Take a band for the foreground, if `find_foreground` asked for it."""
        if self._histogram is not None and self.wide:
            for part in value_parts(_finite(band)):
                self._histogram.add(part.astype(np.float32))

    def _foreground(self, noise: float) -> float | None:
        """Return its contrast, if it is more than what the noise may amount to.

        Flat parts of 8-bit images have no noise that could be measured, and those of
        a background that was subtracted and cut off at 0 show part of it.
        """
        if not self._config.needs_foreground:
            return None
        if self._histogram is None:
            return 0.0
        low, high = self._ends()
        span = high - low
        least = self._config.noise_floor * max(noise, self._rounding)
        if (middle := self._middle_step()) is not None:
            # More than that where about half of the background was cut off.
            specks = self._steps.value(middle) / MEDIAN_ABS_DIFFERENCE
            least = max(least, SPECKS * specks)
        contrast = self._histogram.foreground(least / span) * span
        return contrast if contrast >= least else 0.0

    def statistics(self) -> Statistics:
        """Return what was measured."""
        low, high = self._ends()
        middle = self.ranks()[2]
        count = int(self._values.counts.sum())
        if self.wide:
            sums = math.fsum(self._sums), math.fsum(self._squares)
        else:
            sums = self._values.sums()
        mean, std = mean_and_std(*sums, count)
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


def measure_channels(
    bands: Bands, config: NormalizationConfig
) -> tuple[Statistics, ...]:
    """Measure the intensities of one plane, each channel by itself, side by side.

    Parameters
    ----------
    bands
        Called up to three times; each call returns the plane's full-width bands of
        rows, top to bottom, CYX, any real dtype.
    config
        Says which percentiles are wanted, and whether the foreground is.

    Returns
    -------
    tuple of Statistics
        The percentiles are order statistics: the value at rank
        floor(percentile / 100 * (count - 1)). `noise` is the standard deviation of
        the pixel noise, estimated as the median absolute difference of horizontal
        neighbors divided by 0.954. Pixels that are not finite count nowhere.

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
    # Errors are raised before anything is read once more.
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


CLIP = (-0.5, 3.0)
"""Range of the linear channel. Hot pixels lie far beyond the high percentile."""


def rescale_intensity(
    image: npt.NDArray[np.generic], statistics: Statistics, config: NormalizationConfig
) -> npt.NDArray[np.float32]:
    """Return intensities in the model's units.

    ``percentile``: 0 at the low percentile, 1 above it by `percentile_span`; of that
    the square root, if the curve is one.
    ``standard``: (image - mean) / standard deviation. With ``invert`` the same of the
    negative image. Pixels that are not finite become 0, and so does a constant image.

    Parameters
    ----------
    image
        YX, any real dtype.
    statistics
        Of the whole plane that `image` is a part of.
    config
        As the model was trained.

    Returns
    -------
    ndarray
        YX float32.
    """
    if config.kind == "standard":
        zero, span = statistics.mean, statistics.std
    else:
        zero = statistics.high if config.invert else statistics.low
        span = percentile_span(statistics, config)
    sign = -1.0 if config.invert else 1.0
    # Only values near the ends of float32 overflow here; they become 0 just below.
    with np.errstate(invalid="ignore", over="ignore"):
        values = image.astype(np.float32)
        values -= np.float32(zero)
        values *= np.float32(sign / (span or 1.0))
    if image.dtype.kind == "f":
        np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    if config.curve == "square-root":
        np.sqrt(np.maximum(values, 0.0, out=values), out=values)
    return values


def percentile_span(statistics: Statistics, config: NormalizationConfig) -> float:
    """Return the range of intensities that becomes 0 to 1, in the image's units.

    From the low to the high percentile, but at most `foreground_limit` times the
    contrast of the foreground, if there is one, and at least `noise_floor` standard
    deviations of the noise.
    """
    span = statistics.high - statistics.low
    if statistics.foreground and config.needs_foreground:
        span = min(span, config.foreground_limit * statistics.foreground)
    return max(span, config.noise_floor * statistics.noise)


def rescale_channels(
    image: npt.NDArray[np.generic],
    statistics: Sequence[Statistics],
    config: NormalizationConfig,
) -> npt.NDArray[np.float32]:
    """Return each channel rescaled by its own statistics, CYX float32 of CYX."""
    first, *others = (
        rescale_intensity(channel, of_channel, config)
        for channel, of_channel in zip(image, statistics, strict=True)
    )
    return np.stack((first, *others)) if others else first[np.newaxis]


def channels(
    scaled: npt.NDArray[np.float32], config: NormalizationConfig
) -> npt.NDArray[np.float32]:
    """Return the network's input channels of scaled intensities.

    Parameters
    ----------
    scaled
        YX float32, from `rescale_intensity`.
    config
        ``percentile``: the linear channel, clipped to -0.5 and 3, and the logarithmic
        one, log(1 + 50 x) / log(51) of x above 0. ``standard``: as it is.

    Returns
    -------
    ndarray
        CYX float32.
    """
    if config.kind == "standard":
        return scaled[np.newaxis]
    out = np.empty((2, *scaled.shape), np.float32)
    np.clip(scaled, *CLIP, out=out[0])
    np.clip(out[0], 0.0, None, out=out[1])
    out[1] *= np.float32(LOG_GAIN)
    np.log1p(out[1], out=out[1])
    out[1] *= np.float32(1.0 / math.log1p(LOG_GAIN))
    return out


def network_input(
    scaled: npt.NDArray[np.float32], config: NormalizationConfig
) -> npt.NDArray[np.float32]:
    """Return the network's input channels of several channels, CYX, one by one.

    Those of the first channel come first, so that a network that looks at more of
    them finds what it knows in the same place (`cellunet.core.unet.widened`).
    """
    first, *others = (channels(plane, config) for plane in scaled)
    return np.concatenate((first, *others)) if others else first
