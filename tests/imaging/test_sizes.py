"""The size of objects, which of two looks shows more, and planes resampled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellunet.imaging.sizes import (
    ObjectSizes,
    apart,
    axis_weights,
    best_scale,
    better,
    look_of,
    resampled,
    target_length,
    tells_size,
    together,
    too_large,
    too_small,
)

LEARNED = 7.0, 25.0, 40.0


def look(*diameters, confidence=0.9, fill=1.0, pixels=10_000.0) -> ObjectSizes:
    sizes = np.array(diameters, float)
    return ObjectSizes(
        diameters=sizes,
        confidences=np.full(len(sizes), confidence),
        fills=np.full(len(sizes), fill),
        pixels=pixels,
    )


def disc(labels, y, x, radius, number) -> None:
    yy, xx = np.ogrid[: labels.shape[0], : labels.shape[1]]
    labels[(yy - y) ** 2 + (xx - x) ** 2 < radius**2] = number


def test_objects_are_measured_in_pixels() -> None:
    labels = np.zeros((60, 90), np.uint32)
    disc(labels, 30, 25, 20, 1)
    labels[10:20, 60:80] = 2
    evidence = np.full(labels.shape, 204, np.uint8)
    found = look_of(labels, evidence)
    assert found.diameters[0] == pytest.approx(40, rel=0.01)
    assert found.diameters[1] == pytest.approx(2 * np.sqrt(200 / np.pi))
    assert found.confidences == pytest.approx([0.8, 0.8])
    # A disc fills the ellipse of its moments, a rectangle 3 / pi of it.
    assert found.fills[0] == pytest.approx(1, abs=0.01)
    assert found.fills[1] == pytest.approx(3 / np.pi, abs=0.001)
    assert found.pixels == 60 * 90


def test_two_touching_discs_are_less_compact_than_one() -> None:
    labels = np.zeros((60, 120), np.uint32)
    disc(labels, 30, 30, 20, 1)
    disc(labels, 30, 70, 20, 1)
    found = look_of(labels, np.full(labels.shape, 255, np.uint8))
    # Of two discs side by side: 2 pi r^2 over 4 pi sqrt(1.25 x 0.25) r^2.
    assert found.fill == pytest.approx(2 / (4 * np.sqrt(1.25 * 0.25)), abs=0.01)


def test_nothing_is_an_empty_look() -> None:
    found = look_of(np.zeros((9, 9), np.uint32), np.zeros((9, 9), np.uint8))
    assert len(found) == 0
    assert (found.confidence, found.quality) == (0.0, 0.0)
    assert not tells_size(found)
    assert not too_large(found, LEARNED, 1.0)
    assert not too_small(found, LEARNED, 1.0)


def test_the_diameter_is_that_of_what_covers_most() -> None:
    # Forty specks cover less than two nuclei.
    assert look(*[4] * 40, 50, 60, 90).diameter == 90
    assert together([look(10, 10), look(10), look(12)]).diameter == 10


def test_objects_are_too_large_or_small_for_what_a_model_learned() -> None:
    assert not too_large(look(55, 55, 55), LEARNED, 1.0)
    assert too_large(look(65, 65, 65), LEARNED, 1.0)
    # It sees them reduced by half as it is.
    assert not too_large(look(65, 65, 65), LEARNED, 0.5)
    assert best_scale(look(96, 96), LEARNED, 1.0) == 0.42
    assert too_small(look(8, 8), LEARNED, 1.0)
    assert not too_small(look(8, 8), LEARNED, 2.0)
    assert not too_small(look(8, 8, confidence=0.5), LEARNED, 1.0)
    # Nuclei of 10 px only where the model is sure of them.
    assert too_small(look(10, 10), LEARNED, 1.0)
    assert not too_small(look(10, 10, confidence=0.7), LEARNED, 1.0)
    assert best_scale(look(10, 10), LEARNED, 1.0) == 2.5
    assert best_scale(look(5, 5), LEARNED, 1.0) == 3.0


def test_two_or_bent_objects_tell_no_size() -> None:
    assert tells_size(look(90, 90, 90))
    assert not tells_size(look(90, 90))
    assert not tells_size(look(90, 90, 90, fill=0.8))


def test_a_reduced_look_need_not_be_quite_as_good_a_magnified_one_must() -> None:
    usual = look(30, 30, 30, confidence=0.80)
    nearly = look(30, 30, 30, confidence=0.78)
    assert better(nearly, usual, magnified=False)
    assert not better(nearly, usual, magnified=True)
    assert better(usual, nearly, magnified=True)
    assert not better(look(30, confidence=0.8), usual, magnified=False)


def test_clear_objects_beside_large_ones_are_counted() -> None:
    labels = np.zeros((60, 60), np.uint32)
    disc(labels, 15, 15, 8, 1)
    disc(labels, 45, 15, 8, 2)
    disc(labels, 15, 45, 8, 3)
    labels[40:42, 40:42] = 4
    large = np.zeros(labels.shape, bool)
    large[10:20, 48:] = True
    evidence = np.full(labels.shape, 230, np.uint8)
    evidence[labels == 2] = 128
    found = look_of(labels, evidence)
    # The first alone: of the second it is not sure, the third lies in a large one, the
    # fourth is a speck.
    assert apart(found, labels, large, 55.0) == 1
    # Nor do those that are too large themselves.
    assert apart(found, labels, large, 12.0) == 0


@pytest.mark.parametrize(
    ("length", "scale", "expected"),
    [(100, 0.5, 50), (5, 2.0, 10), (1, 0.05, 1), (3, 1, 3)],
)
def test_lengths_scale_and_stay_above_zero(length, scale, expected) -> None:
    assert target_length(length, scale) == expected


def weights_of(length: int, target: int) -> np.ndarray:
    """The whole matrix, target x source."""
    whole = np.zeros((target, length), np.float32)
    first, last, matrix = axis_weights(length, target, 0, target)
    whole[:, first:last] = matrix @ np.eye(last - first, dtype=np.float32)
    return whole


def test_doubling_interpolates_between_centers() -> None:
    # Target centers lie at -.25, .25, .75 and 1.25 source pixels.
    np.testing.assert_allclose(
        weights_of(2, 4), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    )


def test_halving_weighs_by_a_triangle_two_target_pixels_wide() -> None:
    # The center of target pixel 1 lies at 2.5; source pixels at 1 to 4 are .5 and 1.5
    # away, of a reach of 2: weights .25, .75, .75, .25, of which the sum is made 1.
    np.testing.assert_allclose(weights_of(6, 3)[1] * 8, [0, 1, 3, 3, 1, 0])


def test_the_same_length_is_the_same_pixels() -> None:
    np.testing.assert_array_equal(weights_of(5, 5), np.eye(5))


@given(
    length=st.integers(1, 40),
    target=st.integers(1, 40),
    data=st.data(),
)
@settings(max_examples=60)
def test_any_part_is_the_part_of_the_whole(length, target, data) -> None:
    start = data.draw(st.integers(0, target - 1))
    stop = data.draw(st.integers(start + 1, target))
    first, last, part = axis_weights(length, target, start, stop)
    assert 0 <= first < last <= length
    whole = weights_of(length, target)
    np.testing.assert_array_equal(
        part @ np.eye(last - first, dtype=np.float32), whole[start:stop, first:last]
    )
    np.testing.assert_allclose(whole.sum(axis=1), 1, rtol=1e-6)
    assert (whole >= 0).all()


@pytest.mark.parametrize("target", [(34, 26), (8, 60), (1, 1), (17, 13)])
def test_a_plane_read_in_parts_is_the_plane(target, rng) -> None:
    plane = rng.random((2, 17, 13)).astype(np.float32)
    read = resampled(lambda a, b, c, d: plane[:, a:b, c:d], (17, 13), target)
    whole = read(0, target[0], 0, target[1])
    assert whole.shape == (2, *target)
    assert whole.dtype == np.float32
    for y in range(0, target[0], 5):
        for x in range(0, target[1], 7):
            y1, x1 = min(y + 5, target[0]), min(x + 7, target[1])
            np.testing.assert_array_equal(read(y, y1, x, x1), whole[:, y:y1, x:x1])
    # A constant stays, and nothing leaves the range of the plane.
    assert whole.min() >= plane.min() - 1e-6
    assert whole.max() <= plane.max() + 1e-6
    if target == plane.shape[1:]:
        np.testing.assert_array_equal(whole, plane)


def test_no_pixel_is_skipped_when_reducing() -> None:
    plane = np.zeros((1, 1, 90), np.float32)
    for place in range(90):
        plane[:] = 0
        plane[0, 0, place] = 1
        read = resampled(lambda a, b, c, d: plane[:, a:b, c:d], (1, 90), (1, 9))
        assert read(0, 1, 0, 9).sum() > 0.05
