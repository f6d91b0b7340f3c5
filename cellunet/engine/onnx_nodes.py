"""The pieces of an ONNX file: nodes, tensors, values, and the model around them.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx, ONNX 1.8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cellunet.engine.protobuf import chunk, integer, integers, text
from cellunet.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

IR_VERSION = 7
MAX_BYTES = 2**31 - 1
"""Protobuf's limit for one message."""
DATA_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int64": 7}
"""TensorProto.DataType by numpy's name, as far as cellunet writes them."""
_INT, _INTS = 2, 7
"""AttributeProto.INT and .INTS."""


class Kind(NamedTuple):
    """What kind of tensor one is."""

    dtype: str
    """Name in `DATA_TYPES`."""
    shape: tuple[int, ...]
    """Empty for a single number."""


def opset(version: int) -> bytes:
    """Return the operator set of ONNX itself as OperatorSetIdProto."""
    # 1 domain, 2 version.
    return text(1, "") + integer(2, version)


def node(
    operator: str, inputs: Sequence[str], output: str, **attributes: int | list[int]
) -> bytes:
    """Return a NodeProto, named like its output."""
    # NodeProto: 1 input, 2 output, 3 name, 4 op_type, 5 attribute.
    found = b"".join(text(1, name) for name in inputs)
    found += text(2, output) + text(3, output) + text(4, operator)
    for name, value in sorted(attributes.items()):
        # AttributeProto: 1 name, 3 i, 8 ints, 20 type.
        if isinstance(value, int):
            attribute = integer(3, value) + integer(20, _INT)
        else:
            attribute = integers(8, value) + integer(20, _INTS)
        found += chunk(5, text(1, name) + attribute)
    return found


def tensor(name: str, array: npt.NDArray[np.generic]) -> bytes:
    """Return a TensorProto whose values lie within it."""
    # TensorProto: 1 dims, 2 data_type, 8 name, 9 raw_data (little-endian).
    head = integers(1, array.shape) + integer(2, DATA_TYPES[array.dtype.name])
    little = array.astype(array.dtype.newbyteorder("<"))
    return head + text(8, name) + chunk(9, little.tobytes())


def value(name: str, channels: int | None = None) -> bytes:
    """Return a ValueInfoProto: float32 (n, `channels`, h, w), or of any shape."""
    # ValueInfoProto: 1 name, 2 type; TypeProto: 1 tensor_type; Tensor: 1 elem_type,
    # 2 shape; TensorShapeProto: 1 dim; Dimension: 1 dim_value, 2 dim_param.
    kind = integer(1, DATA_TYPES["float32"])
    if channels is not None:
        sides = (text(2, "n"), integer(1, channels), text(2, "h"), text(2, "w"))
        kind += chunk(2, b"".join(chunk(1, side) for side in sides))
    return text(1, name) + chunk(2, chunk(1, kind))


def graph(
    nodes: Iterable[bytes],
    tensors: Mapping[str, npt.NDArray[np.generic]],
    inputs: Iterable[bytes],
    outputs: Iterable[bytes],
) -> bytes:
    """Return a GraphProto."""
    # GraphProto: 1 node, 2 name, 5 initializer, 11 input, 12 output.
    parts = [chunk(1, one) for one in nodes]
    parts.append(text(2, "unet"))
    parts += (chunk(5, tensor(name, array)) for name, array in tensors.items())
    parts += (chunk(11, one) for one in inputs)
    parts += (chunk(12, one) for one in outputs)
    return b"".join(parts)


def model(graph: bytes, opset: bytes, metadata: Mapping[str, str]) -> bytes:
    """Return a ModelProto, the content of a file.

    Raises
    ------
    CheckpointError
        If it is larger than ONNX allows.
    """
    # ModelProto: 1 ir_version, 2 producer_name, 7 graph, 8 opset_import, 14 metadata.
    found = integer(1, IR_VERSION) + text(2, "cellunet") + chunk(7, graph)
    found += chunk(8, opset)
    for key in sorted(metadata):
        found += chunk(14, text(1, key) + text(2, metadata[key]))
    if len(found) > MAX_BYTES:
        raise CheckpointError(
            f"The network takes {len(found)} bytes; ONNX allows {MAX_BYTES}.",
            hint="Use fewer channels, or the torch engine: --engine torch.",
        )
    return found
