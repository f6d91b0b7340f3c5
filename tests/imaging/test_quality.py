"""Numbers that say of what kind an image is; one unlike the training images is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from cellunet.config import NormalizationConfig
from cellunet.imaging import quality
from cellunet.imaging.normalize import measure_channels
from cellunet.imaging.quality import (
    FEATURES,
    MAX_CONTRAST,
    PERCENTILES,
    Appearance,
    Sharpness,
    intensity,
    objects,
    out_of_distribution_warnings,
    summarize,
    together,
)
from cellunet.io.source import Statistics
from cellunet.store import STATISTICS


def known(image) -> Statistics:
    return measure_channels(lambda: [image[np.newaxis]], NormalizationConfig())[0]


def sharp(image, magnification: float = 1.0, cuts=()) -> float | None:
    return sharpness(np.split(image, cuts), known(image), magnification)


def sharpness(bands, statistics: Statistics, magnification: float = 1.0):
    found = Sharpness(statistics, magnification)
    for band in bands:
        found.add(band)
    return found.value()


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


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_whole_numbers_are_as_sharp_as_the_same_in_floats(dtype, rng) -> None:
    noisy = bars(8, 1.0) / 5 + rng.normal(20, 4, (60, 320))
    image = np.clip(noisy, 0, 255).astype(dtype)
    statistics = known(image)
    whole = sharpness([image], statistics)
    assert whole == sharpness([image.astype(np.float32)], statistics)


@pytest.mark.parametrize("span", [1e-40, 1e-3, 1.0])
def test_huge_steps_and_tiny_ranges_are_no_warning(span) -> None:
    image = np.zeros((32, 64), np.float32)
    image[:, 32:] = span
    image[3, 3], image[4, 4] = 3e38, -3e38
    statistics = Statistics(
        low=0.0, high=span, mean=0.0, std=span, noise=0.0, count=image.size
    )
    found = sharpness([image], statistics)
    assert found is None or 0 < found <= 1


@pytest.mark.parametrize("shape", [(9, 1), (9, 3)])
def test_a_plane_too_narrow_has_no_sharpness(shape) -> None:
    assert sharp(np.arange(shape[0] * shape[1]).reshape(shape)) is None


def test_objects_tell_their_size_and_how_many_are_uncertain() -> None:
    found = objects(np.array([10, 100, 1000]), np.array([0.5, 0.9, 0.64]))
    assert found.diameter_px == pytest.approx(2 * (100 / np.pi) ** 0.5)
    assert (found.objects, found.uncertain_objects) == (3, 2)
    assert found.uncertain == pytest.approx(2 / 3)
    assert found.confidence == pytest.approx(0.68)
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


KNOWN = {
    "contrast": [10, 20, 50, 80, 100, 120, 200, 300, 400],
    "level": [0.02, 0.03, 0.05, 0.08, 0.1, 0.13, 0.2, 0.3, 0.4],
    "sharpness": [0.4, 0.5, 0.54, 0.58, 0.6, 0.62, 0.68, 0.7, 1.0],
    "diameter_px": [8, 9, 10, 15, 20, 25, 40, 50, 60],
    "uncertain": [0, 0, 0, 0, 0, 0.05, 0.2, 0.3, 0.5],
}
FINE = Appearance(
    contrast=90.0,
    level=0.1,
    sharpness=0.6,
    diameter_px=20.0,
    uncertain=0.05,
    objects=20,
    uncertain_objects=1,
)


def said(image: Appearance, known=KNOWN, **options) -> tuple[str, ...]:
    return out_of_distribution_warnings(
        image, known, **{"learned_px": (8.0, 30.0), **options}
    )


def test_an_image_like_the_training_images_is_not_remarked_on() -> None:
    assert said(FINE) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contrast": 19.9}, ("noise", "--channel")),
        ({"level": 0.36}, ("bright", "--channel", "invert", "train")),
        ({"sharpness": 0.51}, ("focus", "--diameter")),
        ({"diameter_px": 7.9}, ("8 px wide", "10 to 40", "--diameter")),
        ({"diameter_px": 50.1}, ("50 px wide", "10 to 40", "--diameter")),
        ({"uncertain": 0.36, "uncertain_objects": 7}, ("36%", "cellunet train")),
        ({"objects": 0, "diameter_px": None}, ("Nothing was found", "--channel")),
    ],
)
def test_each_number_beyond_its_margin_has_one_line(changes, words) -> None:
    (line,) = said(replace(FINE, **changes))
    assert all(word.casefold() in line.casefold() for word in words)
    assert "\n" not in line


@pytest.mark.parametrize(
    "changes",
    [
        {"contrast": 20.1},
        {"level": 0.34},
        {"level": 0.0},
        {"sharpness": 0.53},
        {"diameter_px": 8.1},
        {"diameter_px": 49.9},
        {"uncertain": 0.34, "uncertain_objects": 7},
        {"uncertain": 1.0, "uncertain_objects": 2, "objects": 2},
    ],
)
def test_within_the_margin_nothing_is_said(changes) -> None:
    assert said(replace(FINE, **changes)) == ()


def test_of_noise_nothing_else_is_said() -> None:
    noise = replace(FINE, contrast=5.0, level=0.5, sharpness=0.3, objects=0)
    (line,) = said(noise)
    assert "noise" in line


def test_a_card_without_statistics_warns_of_sizes_alone() -> None:
    odd = replace(FINE, contrast=1.0, level=0.9, sharpness=0.1, uncertain=1.0)
    assert said(odd, {}) == ()
    assert said(replace(odd, objects=0, diameter_px=None), {}) == ()
    (line,) = said(replace(odd, diameter_px=31.0), {})
    assert "31 px wide (median); the model learned 8 to 30" in line
    assert said(replace(odd, diameter_px=31.0), {}, learned_px=(0.0, 0.0)) == ()
    assert said(replace(odd, diameter_px=31.0), {}, learned_px=None) == ()


def test_sizes_are_those_that_the_model_sees() -> None:
    large = replace(FINE, diameter_px=100.0)
    assert said(large, magnification=0.2) == ()
    (line,) = said(replace(FINE, diameter_px=20.0), magnification=0.2)
    assert "learned 50 to 200" in line


@pytest.mark.parametrize(("confidence", "warned"), [(0.61, True), (0.63, False)])
def test_many_doubtful_objects_matter_where_the_mean_is_low_too(
    confidence, warned
) -> None:
    doubtful = replace(FINE, uncertain=0.6, uncertain_objects=12, confidence=confidence)
    assert bool(said(doubtful)) is warned


@pytest.mark.parametrize(("confidence", "warned"), [(0.79, True), (0.81, False)])
def test_soft_edges_matter_where_the_model_is_not_sure(confidence, warned) -> None:
    soft = replace(FINE, sharpness=0.45, confidence=confidence)
    assert bool(said(soft)) is warned
