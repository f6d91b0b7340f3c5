"""The contrast of the foreground, and the range that it limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import threshold_otsu

from cellunet.config import NormalizationConfig
from cellunet.errors import ConfigError
from cellunet.imaging.normalize import (
    BINS,
    LogHistogram,
    measure,
    percentile_span,
    rescale_intensity,
)

CONFIG = NormalizationConfig()


def _field(rng, count=40, brightness=(400, 700), background=150, noise=8):
    """Return discs of 24 px on a noisy background, float64."""
    image = rng.normal(background, noise, (400, 400))
    y, x = np.mgrid[:400, :400]
    for place in rng.permutation(100)[:count]:
        row, column = 40 * (place // 10) + 20, 40 * (place % 10) + 20
        disc = (y - row) ** 2 + (x - column) ** 2 < 12**2
        image[disc] += rng.uniform(*brightness)
    return image


def _with_dirt(image, brightness=4095):
    dirty = image.copy()
    dirty[100:120, 200:230] = brightness
    return dirty


def _measured(image, config=CONFIG):
    return measure(lambda: [image], config)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("invert", [False, True])
def test_bright_dirt_does_not_dim_the_nuclei(rng, dtype, invert) -> None:
    image = _field(rng)
    config = CONFIG.replace(invert=invert)
    dim = config.replace(foreground_limit=0.0)
    clean, dirty = (
        (4095 - i if invert else i).astype(dtype) for i in (image, _with_dirt(image))
    )
    found = _measured(clean, config), _measured(dirty, config)
    assert found[1].foreground == pytest.approx(found[0].foreground, rel=0.03)
    nuclei = image > 400
    seen, usual, unlimited = (
        float(np.median(rescale_intensity(i, _measured(i, c), c)[nuclei]))
        for i, c in ((dirty, config), (clean, config), (dirty, dim))
    )
    assert unlimited < 0.2 * usual
    assert 0.5 * usual < seen <= usual


@pytest.mark.parametrize("brightness", [9000, 20000, 65535])
@pytest.mark.parametrize("count", [20, 40])
def test_dirt_may_be_a_hundred_times_brighter(rng, brightness, count) -> None:
    image = _field(rng, count)
    clean, dirty = image.astype(np.uint16), _with_dirt(image, brightness)
    found = _measured(dirty.astype(np.uint16))
    assert found.foreground == pytest.approx(_measured(clean).foreground, rel=0.1)
    assert percentile_span(found, CONFIG) < 2 * 700


def test_a_clean_field_is_scaled_as_without_a_limit(rng) -> None:
    image = _field(rng).astype(np.uint16)
    found = _measured(image)
    assert 400 < found.foreground < 700
    assert percentile_span(found, CONFIG) == found.high - found.low


def test_few_nuclei_that_fill_less_than_noise_does_are_not_clipped(rng) -> None:
    # Otsu's threshold lies within the noise here, which is no foreground.
    for noise in (1.0, 0.4):
        image = _field(rng, 1, brightness=(60, 61), background=2.3, noise=noise)
        found = _measured(np.rint(image.clip(0)).astype(np.uint8))
        # Half of the neighbors of the smoother one are equal.
        assert (found.noise == 0) == (noise == 0.4)
        assert found.foreground == 0.0
        assert percentile_span(found, CONFIG) == found.high - found.low > 50


def test_an_empty_field_is_not_amplified(rng) -> None:
    found = _measured(_field(rng, count=0).astype(np.uint16))
    assert percentile_span(found, CONFIG) == CONFIG.noise_floor * found.noise


def test_a_plane_of_one_value_has_no_foreground() -> None:
    for dtype in (np.uint8, np.float32):
        found = _measured(np.full((9, 9), 7, dtype))
        assert found.foreground == 0.0
        assert percentile_span(found, CONFIG) == 0.0


def test_nobody_pays_who_does_not_ask(rng) -> None:
    image = _field(rng).astype(np.uint16)
    assert _measured(image, CONFIG.replace(foreground_limit=0.0)).foreground is None
    assert _measured(image, CONFIG.replace(kind="standard")).foreground is None


@settings(max_examples=60)
@given(st.lists(st.integers(0, 3000), min_size=2, max_size=400), st.integers(0, 9))
def test_the_threshold_is_that_of_a_well_kept_library(values, seed) -> None:
    image = np.array(values, np.uint16)
    if image.min() == image.max():
        return
    low, high = float(image.min()), float(image.max())
    histogram = LogHistogram(low, high)
    histogram.add(image)
    scaled = np.log1p(50 * (image - low) / (high - low)) / np.log1p(50) * (BINS - 1)
    places = scaled.astype(int)
    counts = np.bincount(places, minlength=BINS)
    threshold = threshold_otsu(hist=(counts, np.arange(BINS)))
    # Several thresholds between the same two values are as good as each other.
    foreground = np.sort(image[places > threshold])
    level = foreground[int(np.ceil(0.9 * len(foreground))) - 1]
    assert histogram.foreground(1.0) * (high - low) == pytest.approx(
        level - low, rel=0.01, abs=0.002 * (high - low)
    )
    # Neither parts nor counts make a difference.
    parts = LogHistogram(low, high)
    for part in np.array_split(np.random.default_rng(seed).permutation(image), 3):
        parts.add(*np.unique(part, return_counts=True))
    assert parts.foreground(1.0) == histogram.foreground(1.0)


@pytest.mark.parametrize("limit", [-1.0, 0.5, float("nan")])
def test_a_limit_below_the_foreground_is_refused(limit) -> None:
    with pytest.raises(ConfigError, match="foreground_limit"):
        NormalizationConfig(foreground_limit=limit)
