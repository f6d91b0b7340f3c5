"""The network in eight bits: its weights and its graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellunet.config import UNetConfig
from cellunet.engine.int8 import measure_ranges
from cellunet.engine.onnx import (
    build,
    build_int8,
    layers,
    places,
    rounded_weights,
    shared,
)
from cellunet.engine.runtimes import open_session
from tests.networks import random_network, state


def int8_graph(weights, config, window):
    ranges = measure_ranges(weights, config, [window], 1)
    return build_int8(weights, config, ranges)


@pytest.fixture
def window(rng, small_config):
    return rng.standard_normal((small_config.in_channels, 16, 24), np.float32)


@pytest.fixture
def content(small_weights, small_config, window):
    return int8_graph(small_weights, small_config, window)


@pytest.fixture
def model(content):
    return onnx.load_from_string(content)


@given(seed=st.integers(0, 99), axis=st.integers(0, 1), gain=st.floats(1e-30, 1e30))
def test_weights_are_off_by_half_a_step_of_their_own_channel(seed, axis, gain):
    weights = np.random.default_rng(seed).normal(0, gain, (3, 4, 2, 2))
    weights = weights.astype(np.float32)
    weights[(slice(None),) * axis + (0,)] = 0
    stored, scales = rounded_weights(weights, axis)
    assert stored.dtype == np.int8
    assert scales.shape == (weights.shape[axis],)
    assert stored.min() >= -127
    steps = np.expand_dims(
        scales.astype(np.float64), [i for i in range(4) if i != axis]
    )
    assert (np.abs(stored * steps - weights) <= 0.5001 * steps).all()
    # No channel wastes its steps.
    assert np.abs(stored).max() == 127


def test_the_graph_is_valid_onnx_of_the_stated_version(model):
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 13)]


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(channels=(8, 12), stem_stride=1, in_channels=1, classes=2),
        UNetConfig(channels=(16, 16, 32), stem_stride=2),
        UNetConfig(channels=(5, 7, 9, 11), stem_stride=1, in_channels=3, classes=5),
    ],
    ids=str,
)
def test_networks_of_all_shapes_are_run_and_smaller_in_eight_bits(config, rng):
    weights = state(random_network(config, 1))
    shape = (config.in_channels, 4 * config.stride_px, 4 * config.stride_px)
    window = rng.standard_normal(shape, np.float32)
    content = int8_graph(weights, config, window)
    (found,) = open_session(content, 1).run(None, {"image": window[np.newaxis]})
    assert found.shape == (1, config.classes, *shape[1:])
    assert len(content) < len(build(weights, config))


def test_every_convolution_reads_rounded_features_and_rounded_weights(
    model, small_config
):
    made_by = {output: node for node in model.graph.node for output in node.output}
    convolutions = [n for n in model.graph.node if n.op_type.startswith("Conv")]
    assert len(convolutions) == len(layers(small_config))
    for node in convolutions:
        weight = made_by[node.input[1]]
        assert weight.op_type == "DequantizeLinear"
        (axis,) = [a.i for a in weight.attribute]
        assert axis == (node.op_type == "ConvTranspose")
        source = made_by[node.input[0]]
        if source.op_type in ("Concat", "MaxPool"):
            feeds = [made_by[name] for name in source.input]
        else:
            feeds = [source]
        assert {feed.op_type for feed in feeds} == {"DequantizeLinear"}
        # One scale for all that is joined.
        assert len({feed.input[1] for feed in feeds}) == 1


def test_what_is_joined_shares_its_rounding_by_hand():
    config = UNetConfig(channels=(4, 6, 8))
    assert shared(config) == {"up.0": "down.0.5", "up.1": "stem.5"}
    assert places(UNetConfig(channels=(4, 6))) == (
        *("image", "stem.2", "stem.5", "down.0.2", "down.0.5"),
        *("merge.0.2", "merge.0.5"),
    )


def test_another_runtime_stays_near_float32(
    small_weights, small_config, content, window
):
    image = {"image": window[np.newaxis]}
    (found,), (expected,) = (
        open_session(one, 1).run(None, image)
        for one in (content, build(small_weights, small_config))
    )
    assert 0 < np.abs(found - expected).mean() < 0.02
