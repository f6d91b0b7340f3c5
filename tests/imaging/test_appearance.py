"""Numbers of an image that say of what kind it is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cellunet.config import NormalizationConfig
from cellunet.imaging import quality
from cellunet.imaging.normalize import measure
from cellunet.imaging.quality import (
    FEATURES,
    MAX_CONTRAST,
    PERCENTILES,
    Appearance,
    intensity,
    objects,
    sharpness,
    summarize,
    together,
)
from cellunet.io.source import Statistics
from cellunet.store import STATISTICS


def known(image) -> Statistics:
    return measure(lambda: [image], NormalizationConfig())


def sharp(image, magnification: float = 1.0, cuts=()) -> float | None:
    bands = np.split(image, cuts)
    return sharpness(lambda: bands, known(image), magnification)


def bars(width: int, soft: float) -> np.ndarray:
    """Vertical bars of 0 and 1000, `width` px wide, edges blurred."""
    row = np.repeat(np.arange(40) % 2 * 1000.0, width)
    return np.tile(ndimage.gaussian_filter1d(row, soft) if soft else row, (60, 1))


def test_contrast_is_the_range_over_the_noise_and_level_where_the_mean_is() -> None:
    statistics = Statistics(low=100, high=500, mean=200, std=9, noise=4, count=99)
    assert intensity(statistics, whole_numbers=True) == (100.0, 0.25)


def test_an_inverted_image_has_the_opposite_level(nuclei_image) -> None:
    image = nuclei_image()[0].astype(np.float32)
    low, high = (intensity(known(i), whole_numbers=False) for i in (image, -image))
    assert low[1] < 0.4 < high[1]
    assert low[1] + high[1] == pytest.approx(1, abs=0.05)


def test_whole_numbers_are_never_without_noise() -> None:
    statistics = Statistics(low=0, high=2, mean=0, std=1, noise=0, count=99)
    assert intensity(statistics, whole_numbers=True)[0] == pytest.approx(2 * 12**0.5)
    assert intensity(statistics, whole_numbers=False)[0] == MAX_CONTRAST


def test_a_constant_image_has_no_contrast_and_no_level() -> None:
    flat = np.full((8, 8), 7, np.uint16)
    assert intensity(known(flat), whole_numbers=True) == (0.0, None)
    assert sharp(flat) is None


def test_a_step_is_sharp_and_a_ramp_is_not() -> None:
    assert sharp(bars(20, 0)) == pytest.approx(1, abs=0.01)
    soft = [sharp(bars(40, s)) for s in (1, 2, 4)]
    assert soft == sorted(soft, reverse=True)
    assert soft[-1] == pytest.approx(0.5, abs=0.05)
    assert sharp(bars(40, 12)) < 0.4


def test_noise_does_not_make_a_soft_image_sharp(rng) -> None:
    clean = bars(40, 4)
    noisy = clean + rng.normal(0, 20, clean.shape)
    assert sharp(noisy) == pytest.approx(sharp(clean), abs=0.05)


def test_sharpness_is_that_which_the_model_sees() -> None:
    fine, coarse = bars(20, 1.5), bars(40, 3)
    assert sharp(coarse, magnification=0.5) == pytest.approx(sharp(fine), abs=0.03)


@pytest.mark.parametrize("enough", [2**16, 1000])
def test_bands_change_no_sharpness(enough, rng, monkeypatch) -> None:
    monkeypatch.setattr(quality, "ENOUGH_PIXELS", enough)
    image = rng.normal(0, 1, (50, 70)).cumsum(axis=1).astype(np.float32)
    image[3, 3] = np.nan
    assert sharp(image, cuts=(1, 9, 30)) == sharp(image)


@pytest.mark.parametrize("shape", [(9, 1), (9, 3)])
def test_a_plane_too_narrow_has_no_sharpness(shape) -> None:
    assert sharp(np.arange(shape[0] * shape[1]).reshape(shape)) is None


def test_objects_tell_their_size_and_how_many_are_uncertain() -> None:
    found = objects(np.array([10, 100, 1000]), np.array([0.5, 0.9, 0.64]))
    assert found.diameter_px == pytest.approx(2 * (100 / np.pi) ** 0.5)
    assert (found.objects, found.uncertain_objects) == (3, 2)
    assert found.uncertain == pytest.approx(2 / 3)
    assert objects(np.array([10]), None).uncertain is None
    assert objects(np.array([], int), np.array([])) == Appearance()


def test_planes_together_are_their_median() -> None:
    planes = [
        Appearance(contrast=c, diameter_px=d, objects=2)
        for c, d in ((1.0, None), (5.0, 9.0), (6.0, 11.0))
    ]
    found = together(planes)
    assert (found.contrast, found.diameter_px, found.objects) == (5.0, 10.0, 6)
    assert found.level is None


def test_a_summary_holds_percentiles_of_what_is_known() -> None:
    images = [Appearance(contrast=float(c)) for c in range(101)]
    assert summarize(images) == {"contrast": [float(p) for p in PERCENTILES]}
    assert len(PERCENTILES) == STATISTICS
    assert all(hasattr(images[0], name) for name in FEATURES)
