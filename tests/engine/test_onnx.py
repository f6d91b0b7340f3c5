"""The network as an ONNX graph, its weights, its layers and what they cost."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.operations import operations_per_pixel
from cellunet import store
from cellunet.config import UNetConfig
from cellunet.core.unet import UNet
from cellunet.engine import onnx as onnx_graph
from cellunet.engine.onnx import (
    BATCH_NORM_EPSILON,
    OPSET,
    build,
    check_weights,
    fold,
    integer,
    layers,
    read_weights,
    text,
    varint,
)
from cellunet.engine.onnx import model as encoded_model
from cellunet.errors import CheckpointError
from cellunet.presets import PRESETS


@pytest.fixture
def model(small_weights, small_config):
    return onnx.load_from_string(build(small_weights, small_config))


def test_the_graph_is_valid_onnx_of_the_stated_version(model):
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 7
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 12)]


def test_input_and_output_have_free_size_and_fixed_channels(model):
    def shape(value):
        return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]

    ends = [*model.graph.input, *model.graph.output]
    assert [v.name for v in ends] == ["image", "probabilities"]
    assert {v.type.tensor_type.elem_type for v in ends} == {onnx.TensorProto.FLOAT}
    assert [shape(v) for v in ends] == [["n", 2, "h", "w"], ["n", 3, "h", "w"]]


def test_tensors_are_named_like_the_layers_that_they_came_from(model, small_config):
    expected = [
        f"{name}.{part}" for name in layers(small_config) for part in ("weight", "bias")
    ]
    assert [t.name for t in model.graph.initializer] == expected


def test_shapes_inferred_by_onnx_are_those_of_the_network(model):
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for dim, side in zip(dims, (1, 2, 24, 16), strict=True):
        dim.dim_value = side
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    shapes = {
        v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
        for v in inferred.graph.value_info
    }
    assert shapes["stem.5"] == (1, 4, 12, 8)
    assert shapes["down.0.5"] == (1, 6, 6, 4)
    assert shapes["concat.0"] == (1, 8, 12, 8)
    assert shapes["head"] == (1, 3, 24, 16)


def test_the_same_weights_give_the_same_bytes(small_weights, small_config):
    turned = dict(reversed(small_weights.items()))
    assert build(turned, small_config) == build(small_weights, small_config)


def test_the_bytes_of_a_network_of_ones_do_not_change(small_config):
    # A change here may change results: compare them before it is taken.
    shapes = shapes_of(small_config).items()
    weights = {name: np.ones(shape, np.float32) for name, shape in shapes}
    digest = hashlib.sha256(build(weights, small_config)).hexdigest()
    assert digest == (
        "d3a5bbb5228113e062bba2982f61e37aaae93a1074c4aa89f9c06d3ab27d8213"
    )


def test_folded_normalization_by_hand():
    # g 2, b 5, mean 3, variance 4: 2 (W x - 3) / 2 + 5 = W x + 2.
    layer = layers(UNetConfig(in_channels=1, channels=(1, 1), stem_stride=1))["stem.0"]
    parts = {"weight": 2, "bias": 5, "running_mean": 3, "running_var": 4}
    weights = {f"stem.1.{k}": np.full(1, v, np.float32) for k, v in parts.items()}
    weights["stem.0.weight"] = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    weight, bias = fold(layer, weights)
    np.testing.assert_allclose(weight, weights["stem.0.weight"], rtol=2e-6)
    np.testing.assert_allclose(bias, [2.0], rtol=1e-5)
    assert weight.dtype == bias.dtype == np.float32


def test_what_normalization_makes_larger_than_float32_is_refused(
    small_weights, small_config
):
    for name in ("stem.0.weight", "stem.1.weight"):
        small_weights[name] = np.full_like(small_weights[name], 1e38)
    check_weights(small_weights, small_config)
    with pytest.raises(CheckpointError, match=r"stem\.0 multiplies"):
        build(small_weights, small_config)


def test_the_added_variance_is_torchs_default():
    assert nn.BatchNorm2d(1).eps == BATCH_NORM_EPSILON


def test_counters_of_batches_are_not_needed(small_weights, small_config):
    assert "stem.1.num_batches_tracked" in small_weights
    without = {k: v for k, v in small_weights.items() if "tracked" not in k}
    assert build(without, small_config) == build(small_weights, small_config)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"up.0.bias": None}, r"miss up\.0\.bias"),
        ({"tail.weight": np.zeros(1, np.float32)}, r"tail\.weight"),
        (
            {"head.weight": np.zeros((4, 3, 1, 1), np.float32)},
            r"head\.weight.*1, 1.*\(4, 3, 2, 2\)",
        ),
        ({"head.bias": np.zeros(3)}, r"head\.bias is float64.*float32"),
        ({"merge.0.4.bias": np.full(4, np.nan, np.float32)}, r"merge\.0\.4.*finite"),
        ({"stem.1.weight": np.full(4, np.inf, np.float32)}, r"stem\.1\.w.*finite"),
        (
            {"down.0.1.running_var": np.full(6, -1, np.float32)},
            r"down\.0\.1\.running_var.*negative",
        ),
    ],
    ids=["missing", "left over", "shape", "type", "NaN", "infinite", "negative"],
)
def test_weights_of_another_network_are_refused_by_name(
    small_weights, small_config, change, match
):
    weights = {k: v for k, v in (small_weights | change).items() if v is not None}
    with pytest.raises(CheckpointError, match=match):
        check_weights(weights, small_config)


def test_many_missing_weights_are_counted(small_config):
    with pytest.raises(CheckpointError, match="and 31 more") as caught:
        check_weights({}, small_config)
    assert "(4, 6)" in caught.value.hint


def test_a_weights_file_is_read_and_named_where_it_does_not_fit(
    small_weights, small_config, tmp_path
):
    weights = {k: v for k, v in small_weights.items() if "tracked" not in k}
    file = tmp_path / "ü 🔬.safetensors"
    store.write(file, weights, {})
    found = read_weights(file, small_config)
    assert build(found, small_config) == build(small_weights, small_config)
    with pytest.raises(CheckpointError, match=r"🔬.*does not fit the network of its"):
        read_weights(file, small_config.replace(channels=(4, 8)))


def test_a_network_too_large_for_the_format_is_refused(monkeypatch):
    monkeypatch.setattr(onnx_graph, "MAX_BYTES", 1000)
    with pytest.raises(CheckpointError, match="ONNX allows 1000") as caught:
        encoded_model(bytes(1000), OPSET)
    assert "--engine torch" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02")],
)
def test_an_integer_is_written_seven_bits_a_byte_lowest_first(value, encoded):
    assert varint(value).hex() == encoded


def test_fields_are_written_as_the_specification_shows():
    # Field 1 = 150 and field 2 = "testing", the examples of the encoding guide.
    assert integer(1, 150).hex() == "089601"
    assert text(2, "testing").hex() == "120774657374696e67"


def test_a_reference_implementation_of_onnx_agrees_with_torch(
    small_weights, small_config, make_network, rng
):
    from onnx.reference import ReferenceEvaluator

    image = rng.standard_normal((1, 2, 8, 12), np.float32)
    evaluator = ReferenceEvaluator(build(small_weights, small_config))
    (found,) = evaluator.run(None, {"image": image})
    with torch.inference_mode():
        logits = make_network(small_config)(torch.from_numpy(image))
        expected = torch.softmax(logits, dim=1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


SHAPES = [
    UNetConfig(),
    UNetConfig(channels=(3, 5), stem_stride=1, in_channels=1, classes=2),
    UNetConfig(channels=(4, 6, 7, 9), stem_stride=2, classes=5),
]


def shapes_of(config):
    return {k: v for one in layers(config).values() for k, v in one.shapes.items()}


def test_the_operations_of_the_smallest_network_are_those_counted_by_hand():
    # Per image pixel, two operations a product. Stem: (9 + 9) at full size; down:
    # (9 + 9) at a quarter; up: 1; merge: 9 * 2 + 9; head: 2 classes.
    config = UNetConfig(in_channels=1, classes=2, channels=(1, 1), stem_stride=1)
    assert operations_per_pixel(config) == 2 * (18 + 18 / 4 + 1 + 27 + 2)


@pytest.mark.parametrize("config", SHAPES)
def test_operations_are_those_that_torch_counts(config):
    side = 2 * config.stride_px
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        UNet(config)(torch.zeros(1, config.in_channels, side, side))
    assert operations_per_pixel(config) == counter.get_total_flops() / side**2


@pytest.mark.parametrize("config", SHAPES)
def test_layers_have_the_names_and_shapes_of_the_state_dict(config):
    state = UNet(config).state_dict()
    expected = {
        k: tuple(v.shape)
        for k, v in state.items()
        if not k.endswith("num_batches_tracked")
    }
    assert shapes_of(config) == expected


def test_the_classic_network_has_the_published_number_of_parameters():
    shapes = shapes_of(PRESETS["classic"].network).items()
    assert (
        sum(
            torch.Size(shape).numel() for name, shape in shapes if "running" not in name
        )
        == 31_036_611
    )
