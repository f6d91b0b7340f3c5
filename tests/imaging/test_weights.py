"""The weight of each pixel in the loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellunet.config import WeightConfig
from cellunet.errors import ConfigError
from cellunet.imaging.targets import border_map, weight_map


def _brute_force(labels, config):
    """One distance transform of the whole image per object, sorted, in float64."""
    objects = [labels == i for i in np.unique(labels[labels > 0])]
    if len(objects) < 2:
        return np.zeros(labels.shape)
    distances = np.sort([ndimage.distance_transform_edt(~o) for o in objects], axis=0)
    total = distances[0] + distances[1]
    sigma = config.border_sigma_px
    return config.border_weight * np.exp(-(total**2) / (2 * sigma**2))


def test_weights_by_hand() -> None:
    labels = np.array([[1, 1, 0, 0, 0, 4]])
    class_map = np.array([[2, 1, 0, 0, 0, 2]], np.uint8)
    config = WeightConfig(
        class_weights=(1.0, 2.0, 3.0),
        border_weight=10.0,
        border_sigma_px=5.0,
    )
    # d1 + d2: inside an object d1 is 0; between the two, the sum is their gap.
    sums = [5, 4, 4, 4, 4, 4]
    expected = [
        w + 10 * math.exp(-(s**2) / 50)
        for w, s in zip([3, 2, 1, 1, 1, 3], sums, strict=True)
    ]
    weights = weight_map(labels, class_map, config)
    assert weights.dtype == np.float32
    assert weights.tolist() == [pytest.approx(expected)]


def test_either_part_can_be_switched_off() -> None:
    labels = np.array([[1, 0, 2]])
    class_map = np.array([[1, 0, 1]], np.uint8)
    flat = WeightConfig(class_weights=(1.0, 5.0), border_weight=0.0)
    assert weight_map(labels, class_map, flat).tolist() == [[5, 1, 5]]
    even = WeightConfig(class_weights=(1.0, 1.0))
    assert np.array_equal(
        weight_map(labels, class_map, even), 1 + border_map(labels, even)
    )


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 2.3, 5.0, 12.0]),
    st.sampled_from([1.0, 10.0, 250.0]),
)  # fmt: skip
def test_the_border_map_is_that_of_brute_force(seed, sigma, w0) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 70, 2))
    share = rng.choice([0.0005, 0.003, 0.02, 0.2])
    seeds = (rng.random(shape) < share) * rng.integers(1, 12, shape)
    labels = ndimage.grey_dilation(seeds, size=int(rng.integers(1, 6)))
    config = WeightConfig(border_weight=w0, border_sigma_px=sigma)
    error = np.abs(border_map(labels, config) - _brute_force(labels, config))
    assert error.max() <= 1e-6 * w0


def test_the_border_map_of_a_field_of_nuclei_is_that_of_brute_force(nuclei_image):
    _, labels = nuclei_image((200, 230), 40, 6)
    config = WeightConfig()
    found = border_map(labels, config)
    assert np.abs(found - _brute_force(labels, config)).max() <= 1e-6 * 10
    assert found.max() > 9


@pytest.mark.parametrize("labels", [
    np.zeros((9, 7), int), np.ones((9, 7), int), np.pad([[3, 3]], 4), np.zeros((1, 1)),
])  # fmt: skip
def test_fewer_than_two_objects_have_no_border(labels) -> None:
    found = border_map(labels.astype(np.int32), WeightConfig())
    assert found.shape == labels.shape
    assert not found.any()


def test_the_numbering_does_not_matter_and_may_have_gaps(nuclei_image, rng) -> None:
    _, labels = nuclei_image((80, 90), 12, 1)
    other = np.concatenate(([0], rng.permutation(60_000)[: labels.max()] + 1))
    expected = border_map(labels, WeightConfig())
    for dtype in (np.uint16, np.int32, np.int64):
        found = border_map(other[labels].astype(dtype), WeightConfig())
        assert np.array_equal(found, expected)


def test_an_image_without_background_has_borders_too() -> None:
    labels = np.repeat([[7, 7, 9, 9]], 3, axis=0)
    config = WeightConfig(border_weight=1.0, border_sigma_px=1.0)
    # The second nearest object is 2, 1, 1, 2 pixels away.
    expected = [math.exp(-2.0), math.exp(-0.5), math.exp(-0.5), math.exp(-2.0)]
    assert border_map(labels, config)[1].tolist() == pytest.approx(expected)


def test_two_parts_of_one_object_have_no_border_between_them() -> None:
    labels = np.array([[5, 0, 5, 0, 0, 0, 0, 0, 8]])
    found = border_map(labels, WeightConfig(border_weight=1.0, border_sigma_px=2.0))
    # Between the parts, d1 is 1 and d2 the 7 pixels to object 8.
    assert found[0, 1] == pytest.approx(math.exp(-(8**2) / 8))


def test_a_class_without_a_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="class 2, but there are 2"):
        weight_map(
            np.zeros((1, 1), int),
            np.array([[2]], np.uint8),
            WeightConfig(class_weights=(1.0, 1.0)),
        )
