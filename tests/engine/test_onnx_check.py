from __future__ import annotations

import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from cellunet.config import UNetConfig
from cellunet.engine import onnx as onnx_nodes
from cellunet.engine.base import layers
from cellunet.engine.onnx import build, chunk, integer, text
from cellunet.engine.onnx_files import OPERATORS, check_model
from cellunet.errors import CheckpointError


@pytest.fixture
def content(small_weights, small_config):
    return build(small_weights, small_config, {"key": "value"})


@pytest.fixture
def model(content):
    return onnx.load_from_string(content)


def refusal(model):
    content = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(CheckpointError) as caught:
        check_model(content)
    return caught.value.message


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(),
        UNetConfig(channels=(3, 5), stem_stride=1, in_channels=1, classes=2),
        UNetConfig(channels=(4, 6, 8, 10, 12), stem_stride=2, classes=4),
    ],
)
def test_what_cellunet_writes_passes_and_tells_its_shape(config):
    weights = {
        name: np.ones(shape, np.float32)
        for layer in layers(config).values()
        for name, shape in layer.shapes.items()
    }
    assert check_model(build(weights, config)).config == config


def test_it_passes_after_another_program_stored_it_anew(model, small_config):
    model.producer_name, model.producer_version = "another", "2"
    model.metadata_props.add(key="note", value="kept")
    assert check_model(model.SerializeToString()).config == small_config


def test_the_allowed_operators_are_those_of_a_network(model):
    assert {node.op_type for node in model.graph.node} == OPERATORS


@pytest.mark.parametrize("operator", ["If", "Loop", "Scan", "Softmax", "MatMul"])
def test_a_foreign_operator_is_named(model, operator):
    model.graph.node[3].op_type = operator
    assert repr(operator) in refusal(model)


def test_an_operator_of_another_domain_is_named(model):
    model.graph.node[0].domain = "com.microsoft"
    assert "'com.microsoft'" in refusal(model)


def set_opset(model):
    model.opset_import[0].version = 11


def add_opset(model):
    model.opset_import.append(helper.make_opsetid("evil.ops", 1))


def drop_node(model):
    del model.graph.node[1]


def repeat_node(model):
    model.graph.node.append(model.graph.node[-1])


def rewire(model):
    model.graph.node[5].input[0] = "stem.0"


def pad_much(model):
    pads = next(a for a in model.graph.node[0].attribute if a.name == "pads")
    pads.ints[0] = 10**9


def add_branch(model):
    inner = helper.make_graph([], "inner", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("body", inner))


def add_input(model):
    model.graph.input.append(model.graph.input[0])


def change_output(model):
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7


@pytest.mark.parametrize(
    "change",
    [
        set_opset,
        add_opset,
        drop_node,
        repeat_node,
        rewire,
        pad_much,
        add_branch,
        add_input,
        change_output,
    ],
)
def test_a_graph_that_differs_in_anything_is_refused(model, change):
    change(model)
    assert "not connected as cellunet does it" in refusal(model)


def test_a_tensor_outside_the_file_is_refused(model):
    tensor = model.graph.initializer[0]
    tensor.external_data.add(key="location", value="../../etc/passwd")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    assert "tensor has field 13" in refusal(model)


def test_a_tensor_without_its_bytes_is_named_with_its_shape(model):
    model.graph.initializer[0].raw_data = b""
    assert "'stem.0.weight' of shape (4, 2, 6, 6)" in refusal(model)


def test_a_tensor_that_claims_to_be_huge_is_refused(model):
    model.graph.initializer[0].dims[0] = 2**40
    assert "float32 within the file" in refusal(model)


@pytest.mark.parametrize("value", [b"\0\0\xc0\x7f", b"\0\0\x80\xff"])
def test_a_weight_that_is_no_finite_number_is_refused_by_name(model, value):
    weight = model.graph.initializer[0]
    weight.raw_data = weight.raw_data[:-4] + value
    assert refusal(model) == (
        "Tensor 'stem.0.weight' holds values that are not finite."
    )


def test_a_tensor_of_another_type_is_refused(model):
    model.graph.initializer[0].data_type = TensorProto.INT32
    assert "of a type that is not cellunet's" in refusal(model)
    model.graph.initializer[0].data_type = TensorProto.INT8
    assert "of int8 within the file" in refusal(model)


def test_a_bias_shorter_than_its_layer_is_refused(model):
    bias = next(t for t in model.graph.initializer if t.name == "merge.0.3.bias")
    bias.dims[:], bias.raw_data = [1], bias.raw_data[:4]
    words = "'merge.0.3.bias' is float32 of shape (1,); float32 of shape (4,)"
    assert words in refusal(model)


def test_a_tensor_too_many_or_twice_is_refused(model):
    extra = model.graph.initializer.add()
    extra.CopyFrom(model.graph.initializer[3])
    assert "twice" in refusal(model)
    extra.name = "spare"
    assert "'spare'" in refusal(model)


@pytest.mark.parametrize("name", ["stem.0.weight", "head.bias", "down.0.3.bias"])
def test_a_missing_tensor_is_refused(model, name):
    kept = [t for t in model.graph.initializer if t.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    assert name in refusal(model) or "not those of a U-Net" in refusal(model)


def test_functions_are_refused(model):
    node = helper.make_node("Relu", ["x"], ["y"])
    opset = [helper.make_opsetid("", 12)]
    model.functions.append(
        helper.make_function("mine", "Conv", ["x"], ["y"], [node], opset)
    )
    assert "model has field 25" in refusal(model)


def test_a_second_graph_appended_to_the_file_is_refused(content):
    # Readers of protobuf join two messages in one field.
    node = chunk(1, text(2, "y") + text(4, "Loop"))
    assert "2 networks" in refusal(content + chunk(7, node))


def test_a_second_name_of_an_operator_is_checked_too(content):
    # Readers of protobuf take the last.
    node = chunk(1, text(4, "Loop") + text(4, "Relu"))
    assert "'Loop'" in refusal(chunk(7, node))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello, I am no model", "model has field 13"),
        (b"\x89PNG\r\n\x1a\n", "known"),
        (integer(1, 7), "0 networks"),
        (integer(7, 7), "graph is a number"),
        (chunk(7, integer(1, 7)), "node is a number"),
        (chunk(7, b""), "not those of a U-Net"),
    ],
)
def test_what_is_no_model_is_refused(content, words):
    assert words in refusal(content)


def test_a_file_past_the_size_limit_is_refused(content, monkeypatch):
    monkeypatch.setattr(onnx_nodes, "MAX_BYTES", 100)
    assert "ONNX allows 100" in refusal(content)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_cut_file_is_refused_wherever_it_is_cut(content, data):
    # All but the metadata at the end, without which it is whole.
    whole = content.rindex(chunk(14, text(1, "key") + text(2, "value")))
    check_model(content[:whole])
    refusal(content[: data.draw(st.integers(0, whole - 1))])


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_file_is_refused_or_of_the_same_shape(content, small_config, data):
    place = data.draw(st.integers(0, len(content) - 1))
    byte = bytes([data.draw(st.integers(0, 255))])
    with contextlib.suppress(CheckpointError):
        changed = content[:place] + byte + content[place + 1 :]
        assert check_model(changed).config == small_config
