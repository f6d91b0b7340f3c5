"""Is this file a model that cellunet wrote? Asked before anything else reads it.

A weights file comes from other people. ONNX allows more than layers: own operators,
functions, branches, and tensors that are read from any path beside the file. So that
nothing rests on the checks of the runtime, only one thing passes: the graph that
`cellunet.engine.onnx_graph` writes for a network of some shape, node by node, with
float32 tensors of the right shapes inside the file. What varies is the weights, the
metadata and who wrote it.
"""

from __future__ import annotations

from collections import defaultdict
from math import prod

from cellunet.config import UNetConfig
from cellunet.engine import onnx_graph
from cellunet.engine.cost import layers
from cellunet.engine.protobuf import fields, read_integers, read_text
from cellunet.errors import CheckpointError, ConfigError

OPERATORS = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "Relu",
        "MaxPool",
        "Concat",
        "ReduceMax",
        "Sub",
        "Exp",
        "ReduceSum",
        "Div",
    }
)
"""What `cellunet.engine.onnx_graph.build` writes."""

Field = int | memoryview
Shapes = dict[str, tuple[int, ...]]

_ALLOWED: dict[str, dict[int, str]] = {
    "model": {
        1: "ir_version",
        2: "producer_name",
        3: "producer_version",
        7: "graph",
        8: "opset_import",
        14: "metadata_props",
    },
    "graph": {1: "node", 2: "name", 5: "initializer", 11: "input", 12: "output"},
    "tensor": {1: "dims", 2: "data_type", 8: "name", 9: "raw_data"},
}
"""Numbers and names of fields in onnx.proto, those that cellunet writes. A field of a
later ONNX version is refused because it is not here."""
_OP_TYPE, _DOMAIN = 4, 7
"""Fields of a NodeProto."""


def check_model(model: bytes) -> UNetConfig:
    """Return the shape of a model's network, or refuse a model that is not cellunet's.

    Parameters
    ----------
    model
        Bytes of an ONNX file.

    Raises
    ------
    CheckpointError
        Naming what was found: a foreign operator, a tensor that lies outside the file
        or has another shape, bytes that are no ONNX at all.
    """
    if not model:
        raise CheckpointError("The file is empty.")
    if len(model) > onnx_graph.MAX_BYTES:
        raise CheckpointError(
            f"{len(model)} bytes; ONNX allows {onnx_graph.MAX_BYTES}."
        )
    top = _read(memoryview(model), "model")
    if len(top["graph"]) != 1:
        raise CheckpointError(f"It holds {len(top['graph'])} networks, not one.")
    graph = _read(top["graph"][0], "graph")
    for node in graph["node"]:
        _check_operator(node)
    shapes: Shapes = {}
    for tensor in graph["initializer"]:
        name, shape = _tensor(tensor)
        if name in shapes:
            raise CheckpointError(f"Tensor {name!r} is there twice.")
        shapes[name] = shape
    config = _config(shapes)
    _check_shapes(shapes, config)
    as_written = (
        _bytes(top["opset_import"]) == [onnx_graph.OPSET]
        and _bytes(graph["node"]) == onnx_graph.nodes(config)
        and _bytes(graph["input"] + graph["output"]) == [*onnx_graph.ends(config)]
    )
    if not as_written:
        raise CheckpointError("Its operators are not connected as cellunet does it.")
    return config


def _read(message: Field, kind: str) -> defaultdict[str, list[Field]]:
    """Return the values of a message's fields by name, or refuse an unlisted field."""
    found: defaultdict[str, list[Field]] = defaultdict(list)
    for number, value in fields(_message(message, kind)):
        name = _ALLOWED[kind].get(number)
        if name is None:
            raise CheckpointError(f"Its {kind} has field {number}, which is not known.")
        found[name].append(value)
    return found


def _message(value: Field, kind: str) -> memoryview:
    if isinstance(value, int):
        raise CheckpointError(f"Its {kind} is a number.")
    return value


def _bytes(values: list[Field]) -> list[bytes]:
    return [bytes(_message(value, "field")) for value in values]


def _check_operator(node: Field) -> None:
    """Refuse a foreign operator by name, which says more than that nodes differ."""
    for number, value in fields(_message(node, "node")):
        if number == _OP_TYPE and read_text(value) not in OPERATORS:
            raise CheckpointError(
                f"Operator {read_text(value)!r} is not one of cellunet's."
            )
        if number == _DOMAIN:
            raise CheckpointError(
                f"An operator of {read_text(value)!r} is not one of cellunet's."
            )


def _tensor(message: Field) -> tuple[str, tuple[int, ...]]:
    """Return name and shape of a tensor that lies, whole and float32, in the file."""
    tensor = _read(message, "tensor")
    name = "".join(read_text(value) for value in tensor["name"])
    shape = tuple(d for value in tensor["dims"] for d in read_integers(value))
    sizes = [len(_message(raw, "tensor")) for raw in tensor["raw_data"]]
    if tensor["data_type"] != [onnx_graph.FLOAT] or sizes != [4 * prod(shape)]:
        raise CheckpointError(
            f"Tensor {name!r} of shape {shape} is not {4 * prod(shape)} bytes of "
            "float32 within the file."
        )
    return name, shape


def _config(shapes: Shapes) -> UNetConfig:
    """Return the shape of the network that has tensors of these shapes."""
    try:
        width, in_channels, side, _ = shapes["stem.0.weight"]
        widths = [width]
        while down := shapes.get(f"down.{len(widths) - 1}.0.weight"):
            widths.append(down[0])
        (classes,) = shapes["head.bias"]
        return UNetConfig(
            in_channels=in_channels,
            classes=classes,
            channels=tuple(widths),
            stem_stride=2 if side == 6 else 1,
        )
    except (KeyError, ValueError, ConfigError) as error:
        raise CheckpointError("Its tensors are not those of a U-Net.") from error


def _check_shapes(shapes: Shapes, config: UNetConfig) -> None:
    expected: Shapes = {}
    for name, layer in layers(config).items():
        expected[f"{name}.weight"] = layer.shapes[f"{name}.weight"]
        expected[f"{name}.bias"] = (layer.outputs,)
    for name in sorted(expected.keys() | shapes.keys()):
        if shapes.get(name) != expected.get(name):
            raise CheckpointError(
                f"Tensor {name!r} has shape {shapes.get(name)}; "
                f"{expected.get(name)} is expected."
            )
