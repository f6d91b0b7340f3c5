"""Intensities to the network's float32 input, by statistics of the whole image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cellunet.imaging.foreground import LOG_GAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cellunet.config import NormalizationConfig
    from cellunet.imaging.intensities import Statistics

CLIP = (-0.5, 3.0)
"""Range of the linear channel. Hot pixels lie far beyond the high percentile."""


def normalize(
    image: npt.NDArray[np.generic], statistics: Statistics, config: NormalizationConfig
) -> npt.NDArray[np.float32]:
    """Return the network's input for a part of a plane: `scale`, then `channels`.

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
        CYX float32.
    """
    return channels(scale(image, statistics, config), config)


def scale(
    image: npt.NDArray[np.generic], statistics: Statistics, config: NormalizationConfig
) -> npt.NDArray[np.float32]:
    """Return intensities in the model's units.

    ``percentile``: 0 at the low percentile, 1 above it by `percentile_span`.
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


def scale_channels(
    image: npt.NDArray[np.generic],
    statistics: Sequence[Statistics],
    config: NormalizationConfig,
) -> npt.NDArray[np.float32]:
    """Return `scale` of each channel by its own statistics, CYX float32 of CYX."""
    first, *others = (
        scale(channel, of_channel, config)
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
        YX float32, from `scale`.
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
