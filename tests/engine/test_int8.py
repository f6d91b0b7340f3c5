"""Ranges of features, measured on images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellunet.engine.int8 import Rounding, best_rounding, measure_ranges
from cellunet.errors import ConfigError

ENDS = st.floats(-1e3, 1e3, width=32)


@given(ends=st.tuples(ENDS, ENDS))
def test_rounding_keeps_zero_and_is_off_by_half_a_step_within_its_ends(ends):
    low, high = sorted(ends)
    rounding = Rounding.of(low, high)
    values = np.linspace(min(low, 0), max(high, 0), 101, dtype=np.float32)
    found = rounding(values)
    assert rounding(np.zeros(1, np.float32))[0] == 0
    # A whole step at the ends, because the zero point is a whole number too.
    assert np.abs(found - values).max() <= rounding.scale * 1.001
    assert len(np.unique(found)) <= 256


def test_rounding_by_hand():
    rounding = Rounding.of(-1.0, 1.55)
    assert (float(rounding.scale), rounding.zero) == (pytest.approx(0.01), 100)
    values = np.array([-9, -0.004, 0.016, 1.0, 9], np.float32)
    np.testing.assert_allclose(rounding(values), [-1, 0, 0.02, 1, 1.55], atol=1e-6)


def test_features_that_are_all_zero_have_a_rounding():
    assert Rounding.of(0.0, 0.0) == (1.0, 0)


def test_features_are_measured_where_they_are(small_weights, small_config, rng):
    image = rng.uniform(-1, 4.1, (2, 64, 64)).astype(np.float32)
    found = measure_ranges(small_weights, small_config, [image])
    # The image's own range, of -1 to 4.1 in 255 steps.
    assert found["image"][0] == pytest.approx(0.02, rel=0.03)
    assert found["image"][1] == pytest.approx(50, abs=2)
    # What follows a ReLU has no negative values, unless it is joined with what has.
    assert found["stem.2"][1] == found["merge.0.5"][1] == 0
    assert found["stem.5"][1] > 0


def test_the_same_network_and_images_give_the_same_ranges(
    small_weights, small_config, rng
):
    window = rng.standard_normal((2, 16, 24), np.float32)
    one, again, other = (
        measure_ranges(small_weights, small_config, [image], threads)
        for image, threads in ((window, 1), (window, 2), (2 * window, 1))
    )
    assert one == again != other


def test_no_image_is_an_error(small_weights, small_config):
    with pytest.raises(ConfigError, match="no image to calibrate on"):
        measure_ranges(small_weights, small_config, [])


@given(seed=st.integers(0, 99), outlier=st.floats(0, 1e4))
def test_no_tried_rounding_is_better_than_the_chosen_one(seed, outlier):
    values = np.random.default_rng(seed).normal(0, 1, 500).astype(np.float32)
    values[0] = outlier
    chosen = best_rounding(values)

    def error(rounding):
        return np.square(rounding(values) - values).mean()

    whole = Rounding.of(float(values.min()), float(values.max()))
    assert error(chosen) <= error(whole) * 1.001


def test_rare_large_values_are_cut_off_by_hand():
    # Of 10,000 values of up to 1 one is 2: steps half as wide are worth more.
    values = np.linspace(0, 1, 10_000, dtype=np.float32)
    values[0] = 1.02
    assert best_rounding(values).scale * 255 == pytest.approx(1.02, rel=0.05)
    spread = np.tile(values, 200)
    spread[0] = 2.0
    assert best_rounding(spread).scale * 255 < 1.5
