"""Ranges of features, measured on images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellunet.engine.int8 import best_rounding, calibrated
from cellunet.engine.onnx import Rounding, build
from cellunet.engine.onnx_files import INT8, open_onnx
from cellunet.errors import ConfigError


def test_features_are_measured_where_they_are(small_weights, small_config, rng):
    opened = open_onnx(build(small_weights, small_config))
    image = rng.uniform(-1, 4.1, (2, 64, 64)).astype(np.float32)
    twin = open_onnx(calibrated(opened, [image]), INT8)
    # The image's own range, of -1 to 4.1 in 255 steps.
    assert twin.tensors["image.scale"] == pytest.approx(0.02, rel=0.03)
    assert twin.tensors["image.zero"] == pytest.approx(50, abs=2)
    # What follows a ReLU has no negative values, unless it is joined with what has.
    assert twin.tensors["stem.2.zero"] == twin.tensors["merge.0.5.zero"] == 0
    assert twin.tensors["stem.5.zero"] > 0


def test_no_image_is_an_error(small_weights, small_config):
    opened = open_onnx(build(small_weights, small_config))
    with pytest.raises(ConfigError, match="no image to calibrate on"):
        calibrated(opened, [])


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
