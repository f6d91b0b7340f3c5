"""Whether labels lie on what is seen in their image.

Objects of fluorescence images are brighter than what is around them (or, in other
images, darker), so brightness and labels correlate, and best where the labels belong.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import fft

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from cellunet.config import CheckConfig

    Floats = npt.NDArray[np.float64]

LONGEST_PX = 1024
"""Larger images are thinned to this side before they are compared."""
LEAST_ALIKE = 3
"""Images that have to agree on a shift to speak of an offset of all of them."""
SMALL_PX = 64
"""Side of the pictures by which labels are compared with other images."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How labels fit their image."""

    here: float
    """Correlation of brightness and labels in place, -1 to 1."""
    best: float
    """Of the shift with the largest correlation, of the sign of `here`."""
    shift_px: tuple[int, int]
    """By how many pixels down and to the right that is."""

    def is_shifted(self, config: CheckConfig) -> bool:
        """Return whether the labels belong somewhere else."""
        far = np.hypot(*self.shift_px) >= config.shift_px
        gain = abs(self.best) - abs(self.here)
        return bool(far and gain > config.shift_gain and not self.is_other(config))

    def is_other(self, config: CheckConfig) -> bool:
        """Return whether the labels fit nowhere."""
        return abs(self.best) < config.least_correlation


def brightness(image: npt.NDArray[Any]) -> Floats:
    """Return an image, YX, between its 1st and 99.8th percentile, as 0 to 1.

    The square root lifts what is dim; a constant image is 0.
    """
    values = np.nan_to_num(image.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = np.percentile(values, (1, 99.8))
    if high <= low:
        low, high = values.min(), values.max()
    scaled: Floats = np.sqrt(np.clip((values - low) / max(high - low, 1e-12), 0, 1))
    return scaled


def fit_of(
    image: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    annotated: npt.NDArray[np.bool_] | None,
    config: CheckConfig,
) -> Fit | None:
    """Compare labels with their image in place and shifted.

    Parameters
    ----------
    image
        YX, any real type.
    labels
        YX, 0 background.
    annotated
        YX, what counts; None: everything.
    config
        How far labels are shifted.

    Returns
    -------
    Fit or None
        None if there is nothing to compare: no object, or nothing else, away from the
        frame, or a constant image.

    Notes
    -----
    Pearson's correlation over the annotated pixels away from the frame, for all shifts
    at once by the convolution theorem.
    """
    step = -(-max(image.shape) // LONGEST_PX)
    inside = np.ones(labels.shape, bool) if annotated is None else annotated
    values = _thinned(brightness(image), step)
    objects = (labels[::step, ::step] > 0)[: values.shape[0], : values.shape[1]]
    counted = inside[::step, ::step][: values.shape[0], : values.shape[1]].copy()
    reach = max(min(config.reach_px // step, min(values.shape) // 4), 0)
    counted[:reach] = counted[:, :reach] = False
    counted[values.shape[0] - reach :] = counted[:, values.shape[1] - reach :] = False
    if not counted.any() or np.unique(objects[counted]).size < 2:
        return None
    found = _correlations(values, objects, counted, reach)
    here = float(found[reach, reach])
    if not np.isfinite(here):
        return None
    place = np.unravel_index(np.nanargmax(found * np.sign(here or 1)), found.shape)
    dy, dx = (int(p - reach) * step for p in place)
    return Fit(here=here, best=float(found[place]), shift_px=(dy, dx))


def common_shift(fits: Sequence[Fit]) -> tuple[int, int]:
    """Return the shift that half of the images or more, and three, fit best with.

    The best shift of a single image is often a pixel away by chance or by the habit of
    who drew it, which tells nothing; the same one in most images is an offset, however
    small. (0, 0) if there is none.

    Parameters
    ----------
    fits
        Of several images.
    """
    counts = Counter(fit.shift_px for fit in fits)
    shift, count = counts.most_common(1)[0] if counts else ((0, 0), 0)
    return shift if count >= max(LEAST_ALIKE, len(fits) / 2) else (0, 0)


def _correlations(
    values: Floats,
    objects: npt.NDArray[np.bool_],
    counted: npt.NDArray[np.bool_],
    reach: int,
) -> Floats:
    """Return the correlation at every shift of up to `reach`; nan where undefined."""
    mask = counted.astype(np.float64)
    centred = np.where(counted, objects - objects[counted].mean(), 0.0)
    count = mask.sum()
    size = [fft.next_fast_len(n + reach) for n in values.shape]

    def slide(moved: Floats, over: Floats) -> Floats:
        """Return the sum of products for every shift of `moved`."""
        spectrum = fft.rfft2(over, size) * np.conj(fft.rfft2(moved, size))
        whole: Floats = fft.irfft2(spectrum, size)
        return np.roll(whole, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]

    products = slide(centred, values)
    sums, squares = slide(mask, values), slide(mask, values**2)
    spread = np.maximum(squares - sums**2 / count, 0.0)
    scale = np.sqrt(spread * (centred**2).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        # Below this a constant image leaves rounding errors alone.
        found: Floats = np.where(spread > 1e-6 * count, products / scale, np.nan)
    return found


def _thinned(values: Floats, step: int) -> Floats:
    """Return the means of blocks of `step` x `step` pixels."""
    height, width = (n // step for n in values.shape)
    blocks = values[: height * step, : width * step]
    means: Floats = blocks.reshape(height, step, width, step).mean(axis=(1, 3))
    return means


def small_picture(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return means of blocks, at most about 64 a side, of mean 0 and length 1."""
    step = max(-(-max(values.shape) // SMALL_PX), 1)
    step = min(step, *values.shape)
    small = _thinned(values.astype(np.float64), step).ravel()
    small -= small.mean()
    length = float(np.sqrt((small**2).sum()))
    picture: npt.NDArray[np.float32] = (small / (length or 1.0)).astype(np.float32)
    return picture


def better_partners(
    images: Mapping[str, npt.NDArray[np.float32]],
    labels: Mapping[str, npt.NDArray[np.float32]],
    config: CheckConfig,
) -> dict[str, str]:
    """Return the labels that fit another image better, and that image.

    Parameters
    ----------
    images, labels
        `small_picture` of the brightness and of the objects, by name, for images of
        one size.
    config
        How much better.
    """
    names = list(images)
    table = np.abs(
        np.stack([labels[n] for n in names]) @ np.stack([images[n] for n in names]).T
    )
    own = table.diagonal()
    best = table.argmax(axis=1)
    return {
        names[i]: names[j]
        for i, j in enumerate(best)
        if j != i and table[i, j] > own[i] + config.other_gain
    }
