"""Magnifying and reducing planes, whole and in parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellunet.imaging.sizes import axis_weights, resampled, target_length


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
    whole[:, first:last] = matrix.toarray()
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
    np.testing.assert_array_equal(part.toarray(), whole[start:stop, first:last])
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
