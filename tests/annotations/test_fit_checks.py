"""Labels that do not lie on their image are found, others are not."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from cellunet.annotations.check import (
    ROWS,
    better_partners,
    brightness,
    fit_of,
    small_picture,
)
from cellunet.command_config import CheckConfig

CONFIG = CheckConfig()


def moved(labels, dy, dx):
    """Labels moved down and to the right, over a field with an empty margin."""
    return np.roll(labels, (dy, dx), (0, 1))


@pytest.fixture
def field(nuclei_image):
    image, labels = nuclei_image((160, 200), 24, 8)
    return image, labels


def test_labels_in_their_place_fit(field):
    fit = fit_of(*field, None, CONFIG)
    assert fit.here > 0.8
    assert fit.shift_px == (0, 0)
    assert not fit.is_shifted(CONFIG)
    assert not fit.is_other(CONFIG)


@pytest.mark.parametrize("shift", [(3, 0), (0, -5), (-7, 6), (12, 12)])
def test_a_shift_is_found_and_measured(field, shift):
    image, labels = field
    fit = fit_of(image, moved(labels, *shift), None, CONFIG)
    assert fit.is_shifted(CONFIG)
    # To move them back.
    assert fit.shift_px == (-shift[0], -shift[1])


@pytest.mark.parametrize(("side", "told"), [(64, False), (128, True)])
def test_of_a_single_small_image_no_shift_is_told(side, told, nuclei_image):
    image, labels = nuclei_image((side, side), 8, 7)
    fit = fit_of(image, moved(labels, 4, 0), None, CONFIG)
    assert fit.shift_px == (-4, 0)
    assert fit.is_shifted(CONFIG) == told


def test_a_single_pixel_is_no_shift(field):
    image, labels = field
    assert not fit_of(image, moved(labels, 1, 0), None, CONFIG).is_shifted(CONFIG)


def test_dark_objects_fit_as_well_as_bright_ones(field):
    image, labels = field
    fit = fit_of(4000 - image.astype(float), labels, None, CONFIG)
    assert fit.here < -0.5
    assert not fit.is_shifted(CONFIG)
    assert not fit.is_other(CONFIG)


def test_labels_of_another_image_fit_nowhere(field, nuclei_image):
    other = nuclei_image((160, 200), 24, 99)[1]
    assert fit_of(field[0], other, None, CONFIG).is_other(CONFIG)


def test_what_is_not_annotated_does_not_count(field):
    image, labels = field
    annotated = np.zeros(labels.shape, bool)
    annotated[:, :100] = True
    # Nothing was drawn on the right, though there are nuclei.
    half = np.where(annotated, labels, 0)
    fit = fit_of(image, half, annotated, CONFIG)
    assert fit.here > 0.8
    assert fit.here > fit_of(image, half, None, CONFIG).here + 0.1
    fit = fit_of(image, moved(half, 0, -6), annotated, CONFIG)
    assert fit.shift_px == (0, 6)


def test_the_correlation_is_pearsons_at_every_shift(field):
    image, labels = field
    config = CheckConfig(reach_px=4)
    fit = fit_of(image, moved(labels, 3, -2), None, config)
    values = brightness(image)
    objects = moved(labels, 3, -2)[4:-4, 4:-4] > 0
    here = np.corrcoef(values[4:-4, 4:-4].ravel(), objects.ravel())[0, 1]
    best = np.corrcoef(values[1:-7, 6:-2].ravel(), objects.ravel())[0, 1]
    assert fit.here == pytest.approx(here, abs=1e-9)
    assert (fit.best, fit.shift_px) == (pytest.approx(best, abs=1e-9), (-3, 2))


def test_where_there_is_nothing_to_compare_nothing_is_said(field):
    image, labels = field
    assert fit_of(image, np.zeros_like(labels), None, CONFIG) is None
    assert fit_of(image, np.ones_like(labels), None, CONFIG) is None
    assert fit_of(np.full_like(image, 7), labels, None, CONFIG) is None
    assert fit_of(np.full((1, 1), 7), np.ones((1, 1), int), None, CONFIG) is None
    nothing = np.zeros(labels.shape, bool)
    assert fit_of(image, labels, nothing, CONFIG) is None


def test_large_images_are_thinned_and_shifts_told_in_their_pixels(field, monkeypatch):
    monkeypatch.setattr("cellunet.annotations.check.LONGEST_PX", 100)
    image, labels = field
    fit = fit_of(image, moved(labels, 8, -4), None, CONFIG)
    assert fit.shift_px == (-8, 4)


def test_values_that_are_not_finite_are_dark():
    image = np.array([[np.nan, np.inf], [1.0, 5.0]])
    assert np.isfinite(brightness(image)).all()
    assert not brightness(np.zeros((2, 2))).any()


def test_labels_that_were_swapped_are_told_with_their_partners(nuclei_image):
    pairs = {str(seed): nuclei_image((120, 150), 16, seed) for seed in range(5)}
    images = {n: small_picture(brightness(image)) for n, (image, _) in pairs.items()}
    labels = {n: small_picture(drawn > 0) for n, (_, drawn) in pairs.items()}
    assert better_partners(images, labels, CONFIG) == {}
    labels["1"], labels["3"] = labels["3"], labels["1"]
    assert better_partners(images, labels, CONFIG) == {"1": "3", "3": "1"}


def pictures(count, side=16):
    rng = np.random.default_rng(1)
    return {str(n): small_picture(rng.random((side, side))) for n in range(count)}


def test_swapped_labels_are_found_in_any_block_of_rows():
    images = pictures(2 * ROWS + 5)
    labels = dict(images)
    swapped = {"0": str(ROWS), str(ROWS + 1): str(2 * ROWS + 4)}
    for one, other in swapped.items():
        labels[one], labels[other] = images[other], images[one]
    expected = swapped | {other: one for one, other in swapped.items()}
    assert better_partners(images, labels, CONFIG) == expected


def test_comparing_needs_no_memory_by_the_square_of_the_images():
    images = pictures(16 * ROWS, side=2)
    tracemalloc.start()
    better_partners(images, images, CONFIG)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # All at once: 4 bytes for each pair of images.
    assert peak < len(images) ** 2
