"""Check and open ONNX files.

A weights file comes from other people. ONNX allows more than layers: own operators,
functions, branches, and tensors that are read from any path beside the file. So that
nothing rests on the checks of the runtime, only two things pass: the graph that
`cellunet.engine.onnx` writes for a network of some shape, and its int8 twin of
`cellunet.engine.onnx`, node by node, with tensors of the right types and shapes
inside the file. What varies is the weights, the metadata and who wrote it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellunet.config import UNetConfig
from cellunet.engine import onnx as onnx_graph
from cellunet.engine import onnx as onnx_int8
from cellunet.engine import onnx as onnx_nodes
from cellunet.engine.onnx import DATA_TYPES, Kind, fields, read_integers, read_text
from cellunet.errors import CheckpointError, ConfigError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

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
"""What `cellunet.engine.onnx.build` writes."""

Field = int | memoryview

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
    "metadata": {1: "key", 2: "value"},
}
"""Numbers and names of fields in onnx.proto, those that cellunet writes. A field of a
later ONNX version is refused because it is not here."""

_OP_TYPE, _DOMAIN = 4, 7
"""Fields of a NodeProto."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a model has to look like."""

    opset: bytes
    operators: frozenset[str]
    nodes: Callable[[UNetConfig], list[bytes]]
    kinds: Callable[[UNetConfig], dict[str, Kind]]
    weight: str
    """How names of the tensors of weights end."""
    fixed: dict[str, npt.NDArray[np.generic]]
    """Tensors whose values are the same in every model."""


FLOAT = Form(
    opset=onnx_graph.OPSET,
    operators=OPERATORS,
    nodes=onnx_graph.nodes,
    kinds=onnx_graph.kinds,
    weight="weight",
    fixed={},
)

INT8 = Form(
    opset=onnx_int8.INT8_OPSET,
    operators=OPERATORS | {"QuantizeLinear", "DequantizeLinear"},
    nodes=onnx_int8.int8_nodes,
    kinds=onnx_int8.int8_kinds,
    weight="weight.int8",
    fixed={"axes": onnx_int8.AXES},
)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A model that passed."""

    config: UNetConfig
    """Shape of its network."""
    tensors: dict[str, npt.NDArray[np.generic]]
    """By name, read-only."""
    metadata: dict[str, str]
    """What was stored in it, by key."""
    graph: memoryview
    """The encoded graph."""


def check_model(model: bytes, form: Form = FLOAT) -> Checked:
    """Return what a model holds, or refuse a model that is not cellunet's.

    Parameters
    ----------
    model
        Bytes of an ONNX file.
    form
        What it has to look like.

    Raises
    ------
    CheckpointError
        Naming what was found: a foreign operator, a tensor that lies outside the file
        or has another shape, bytes that are no ONNX at all.
    """
    if not model:
        raise CheckpointError("The file is empty.")
    if len(model) > onnx_nodes.MAX_BYTES:
        raise CheckpointError(
            f"{len(model)} bytes; ONNX allows {onnx_nodes.MAX_BYTES}."
        )
    top = _read(memoryview(model), "model")
    if len(top["graph"]) != 1:
        raise CheckpointError(f"It holds {len(top['graph'])} networks, not one.")
    graph = _read(top["graph"][0], "graph")
    for node in graph["node"]:
        _check_operator(node, form)
    tensors: dict[str, npt.NDArray[np.generic]] = {}
    for message in graph["initializer"]:
        name, values = _tensor(message)
        if name in tensors:
            raise CheckpointError(f"Tensor {name!r} is there twice.")
        tensors[name] = values
    config = _config(tensors, form)
    _check_tensors(tensors, config, form)
    as_written = (
        _bytes(top["opset_import"]) == [form.opset]
        and _bytes(graph["node"]) == form.nodes(config)
        and _bytes(graph["input"] + graph["output"]) == [*onnx_graph.ends(config)]
    )
    if not as_written:
        raise CheckpointError("Its operators are not connected as cellunet does it.")
    return Checked(
        config=config,
        tensors=tensors,
        metadata=dict(_metadata(one) for one in top["metadata_props"]),
        graph=_message(top["graph"][0], "graph"),
    )


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


def _metadata(message: Field) -> tuple[str, str]:
    entry = _read(message, "metadata")
    key, value = ("".join(map(read_text, entry[part])) for part in ("key", "value"))
    return key, value


def _check_operator(node: Field, form: Form) -> None:
    """Refuse a foreign operator by name, which says more than that nodes differ."""
    for number, value in fields(_message(node, "node")):
        if number == _OP_TYPE and read_text(value) not in form.operators:
            raise CheckpointError(
                f"Operator {read_text(value)!r} is not one of cellunet's."
            )
        if number == _DOMAIN:
            raise CheckpointError(
                f"An operator of {read_text(value)!r} is not one of cellunet's."
            )


def _tensor(message: Field) -> tuple[str, npt.NDArray[np.generic]]:
    """Return name and values of a tensor that lies, whole, in the file."""
    tensor = _read(message, "tensor")
    name = "".join(read_text(value) for value in tensor["name"])
    shape = tuple(d for value in tensor["dims"] for d in read_integers(value))
    dtype = next((n for n, t in DATA_TYPES.items() if tensor["data_type"] == [t]), None)
    if dtype is None:
        raise CheckpointError(f"Tensor {name!r} is of a type that is not cellunet's.")
    little = np.dtype(dtype).newbyteorder("<")
    size = little.itemsize * prod(shape)
    if [len(_message(raw, "tensor")) for raw in tensor["raw_data"]] != [size]:
        raise CheckpointError(
            f"Tensor {name!r} of shape {shape} is not {size} bytes of {dtype} within "
            "the file."
        )
    raw = _message(tensor["raw_data"][0], "tensor")
    try:
        values = np.frombuffer(raw, little).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise CheckpointError(f"Tensor {name!r} cannot be of {shape}.") from error
    if not np.isfinite(values).all():
        raise CheckpointError(f"Tensor {name!r} holds values that are not finite.")
    return name, values


def _config(tensors: dict[str, npt.NDArray[np.generic]], form: Form) -> UNetConfig:
    """Return the shape of the network that has these tensors."""
    try:
        width, in_channels, side, _ = tensors[f"stem.0.{form.weight}"].shape
        widths = [width]
        while f"down.{len(widths) - 1}.0.{form.weight}" in tensors:
            down = tensors[f"down.{len(widths) - 1}.0.{form.weight}"]
            widths.append(down.shape[0])
        (classes,) = tensors["head.bias"].shape
        return UNetConfig(
            in_channels=in_channels,
            classes=classes,
            channels=tuple(widths),
            stem_stride=2 if side == 6 else 1,
        )
    except (KeyError, IndexError, ValueError, ConfigError) as error:
        raise CheckpointError("Its tensors are not those of a U-Net.") from error


def _check_tensors(
    tensors: dict[str, npt.NDArray[np.generic]], config: UNetConfig, form: Form
) -> None:
    expected = form.kinds(config)
    found = {name: Kind(t.dtype.name, t.shape) for name, t in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            raise CheckpointError(
                f"Tensor {name!r} is {_told(found.get(name))}; "
                f"{_told(expected.get(name))} is expected."
            )
    for name, values in form.fixed.items():
        if not np.array_equal(tensors[name], values):
            raise CheckpointError(f"Tensor {name!r} is not {values.tolist()}.")


def _told(kind: Kind | None) -> str:
    return f"{kind.dtype} of shape {kind.shape}" if kind else "none"


AGAIN = "Train the model again, or: --engine torch."


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """A model that cellunet wrote, read and checked."""

    source: str
    """Its path, or words for it, as the subject of messages."""
    content: bytes
    config: UNetConfig
    """Shape of its network."""
    tensors: dict[str, npt.NDArray[np.generic]]
    """By name, read-only."""
    metadata: dict[str, str]
    """What was stored in it, by key."""
    graph: memoryview
    """The encoded graph."""


def open_onnx(
    model: bytes | Path, form: Form = FLOAT, *, source: str = "", hint: str = AGAIN
) -> OnnxFile:
    """Return a model, after checking that it is one that cellunet writes.

    Parameters
    ----------
    model
        The model, or the file that holds it.
    form
        What it has to look like.
    source
        Where bytes come from, for messages.
    hint
        What to do if it cannot be used.

    Raises
    ------
    CheckpointError
        If the file cannot be read or is not such a model.
    """
    source = str(model) if isinstance(model, Path) else source or "The model"
    try:
        content = model.read_bytes() if isinstance(model, Path) else model
        checked = check_model(content, form)
    except OSError as error:
        raise CheckpointError(
            f"{source} cannot be read: {error.strerror}.", hint=hint
        ) from error
    except CheckpointError as error:
        raise CheckpointError(
            f"{source} is no model that this cellunet writes: {error.message}",
            hint=hint,
        ) from error
    return OnnxFile(
        source=source,
        content=content,
        config=checked.config,
        tensors=checked.tensors,
        metadata=checked.metadata,
        graph=checked.graph,
    )


def check_fits(image: npt.NDArray[np.float32], config: UNetConfig, source: str) -> None:
    """Refuse an image that a network does not take.

    Raises
    ------
    CheckpointError
        Saying what it takes.
    """
    channels, stride = config.in_channels, config.stride_px
    fits = image.ndim == 4 and image.shape[1] == channels
    if not fits or image.shape[2] % stride or image.shape[3] % stride:
        raise CheckpointError(
            f"{source} takes NCYX images of {channels} channels and sides of "
            f"multiples of {stride} px; this one has shape {image.shape}."
        )


def failed(
    image: npt.NDArray[np.float32], source: str, error: Exception
) -> CheckpointError:
    """Return the error of a runtime that could not compute an image."""
    size = " x ".join(map(str, image.shape))
    return CheckpointError(f"{source} failed on an image of {size}: {one_line(error)}")
