"""The network in eight bits: its rounding, its graph, its place among the checks."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from cellunet.config import UNetConfig
from cellunet.engine.base import layers
from cellunet.engine.int8 import calibrated
from cellunet.engine.onnx import (
    Rounding,
    build,
    check_belongs,
    places,
    rounded_weights,
    shared,
)
from cellunet.engine.onnx_files import FLOAT, INT8, check_model, open_onnx
from cellunet.engine.runtimes import open_session
from cellunet.errors import CheckpointError

ENDS = st.floats(-1e3, 1e3, width=32)


@pytest.fixture
def opened(small_weights, small_config):
    return open_onnx(build(small_weights, small_config))


@pytest.fixture
def window(rng, small_config):
    return rng.standard_normal((small_config.in_channels, 16, 24), np.float32)


@pytest.fixture
def content(opened, window):
    return calibrated(opened, [window], 1)


@pytest.fixture
def model(content):
    return onnx.load_from_string(content)


def refusal(model):
    content = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(CheckpointError) as caught:
        check_model(content, INT8)
    return caught.value.message


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


def test_the_file_is_valid_onnx_of_the_stated_version(model):
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
def test_twins_of_all_shapes_pass_and_tell_their_shape(config, make_network, rng):
    network = make_network(config, 1)
    weights = {k: v.numpy() for k, v in network.state_dict().items()}
    opened = open_onnx(build(weights, config))
    shape = (config.in_channels, 4 * config.stride_px, 4 * config.stride_px)
    window = rng.standard_normal(shape, np.float32)
    content = calibrated(opened, [window], 1)
    assert check_model(content, INT8).config == config
    with pytest.raises(CheckpointError):
        check_model(content, FLOAT)
    assert len(content) < len(opened.content)


def test_every_convolution_reads_rounded_features_and_rounded_weights(model, opened):
    made_by = {output: node for node in model.graph.node for output in node.output}
    convolutions = [n for n in model.graph.node if n.op_type.startswith("Conv")]
    assert len(convolutions) == len(layers(opened.config))
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


def test_another_runtime_stays_near_the_float32_model(opened, content, window):
    image = {"image": window[np.newaxis]}
    (found,), (expected,) = (
        open_session(one, 1).run(None, image) for one in (content, opened.content)
    )
    assert 0 < np.abs(found - expected).mean() < 0.02


def test_the_same_model_and_images_give_the_same_bytes(opened, content, window):
    assert calibrated(opened, [window], 2) == content
    assert calibrated(opened, [window, window], 1) != content


def test_a_twin_belongs_to_its_model_and_says_so(opened, content, model):
    import hashlib

    checked = check_model(content, INT8)
    digest = hashlib.sha256(opened.content).hexdigest()
    check_belongs(checked.metadata, checked.graph, digest)
    assert checked.metadata["images"] == "1"
    with pytest.raises(CheckpointError, match="other weights"):
        check_belongs(checked.metadata, checked.graph, "0" * 64)
    scale = next(t for t in model.graph.initializer if t.name == "image.scale")
    scale.raw_data = np.float32(7).tobytes()
    changed = check_model(model.SerializeToString(), INT8)
    with pytest.raises(CheckpointError, match="not what was written"):
        check_belongs(changed.metadata, changed.graph, digest)


def external(model):
    tensor = model.graph.initializer[0]
    tensor.external_data.add(key="location", value="../../etc/passwd")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")


def custom(model):
    model.graph.node[0].domain = "evil.ops"


def foreign(model):
    model.graph.node[0].op_type = "QLinearConv"


def other_axis(model):
    axes = next(t for t in model.graph.initializer if t.name == "axes")
    axes.raw_data = np.int64(7).tobytes()


def wider(model):
    tensor = next(t for t in model.graph.initializer if t.name == "image.zero")
    tensor.data_type, tensor.raw_data = TensorProto.INT64, bytes(8)


def strange(model):
    model.graph.initializer[0].data_type = TensorProto.STRING


def rewired(model):
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    node.input[1] = "stem.2.scale"


def other_opset(model):
    model.opset_import.append(helper.make_opsetid("evil.ops", 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (external, "tensor has field 13"),
        (custom, "'evil.ops'"),
        (foreign, "'QLinearConv'"),
        (other_axis, "'axes' is not [1]"),
        (wider, "'image.zero' is int64 of shape (); uint8 of shape () is expected"),
        (strange, "of a type that is not cellunet's"),
        (rewired, "not connected as cellunet does it"),
        (other_opset, "not connected as cellunet does it"),
    ],
)
def test_a_twin_that_differs_in_anything_is_refused(model, change, words):
    change(model)
    assert words in refusal(model)


def test_a_tensor_of_no_bytes_and_endless_sides_is_refused(model):
    tensor = model.graph.initializer[0]
    tensor.dims[:], tensor.raw_data = [0, 2**62, 2**62], b""
    assert "cannot be of" in refusal(model)
