"""The network as an ONNX model: the twin that runs without torch.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx, ONNX 1.7). The form
was chosen by measurement: ONNX Runtime, default network, 1024 x 1024, one thread. The
softmax is written out, since its own operator moves the class axis back and forth: 6
instead of 40 of about 300 ms. The other forms are the plain ones: pixel groups unfolded
before a 3 x 3 stem took as long, and 1 x 1 convolutions with DepthToSpace in place of
the transposed ones 1 to 15 % longer.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from cellunet.engine.cost import Layer, layers
from cellunet.engine.protobuf import chunk, integer, integers, text
from cellunet.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from cellunet.config import UNetConfig

INPUT, OUTPUT = "image", "probabilities"
# OperatorSetIdProto: 1 domain, 2 version.
OPSET = text(1, "") + integer(2, 12)
"""Operator set 12, the last where ReduceSum takes its axes as an attribute like
ReduceMax, so that all tensors are float32. ONNX Runtime 1.3 (2020) reads it."""
IR_VERSION = 7
FLOAT = 1
"""TensorProto.FLOAT."""
MAX_BYTES = 2**31 - 1
"""Protobuf's limit for one message."""
BATCH_NORM_EPSILON = 1e-5
"""``eps`` of ``torch.nn.BatchNorm2d``."""
_INT, _INTS = 2, 7
"""AttributeProto.INT and .INTS."""
_NO_METADATA: Mapping[str, str] = MappingProxyType({})


def build(
    weights: Mapping[str, npt.NDArray[np.float32]],
    config: UNetConfig,
    metadata: Mapping[str, str] = _NO_METADATA,
) -> bytes:
    """Return the U-Net of `cellunet.core.unet` as an ONNX model.

    Input ``image``, float32 (n, in_channels, h, w), n, h, w free, h and w multiples of
    ``config.stride_px``; output ``probabilities``, float32 (n, classes, h, w), which
    sum to 1 over the classes. The same arguments give the same bytes.

    Parameters
    ----------
    weights
        The state dict by torch's names; ``num_batches_tracked`` may be there and is
        not used.
    config
        Shape of the network.
    metadata
        Text stored in the model, by key.

    Raises
    ------
    CheckpointError
        If a weight is missing, left over, of another shape or not finite, or the model
        would be larger than ONNX allows.
    """
    check_weights(weights, config)
    # GraphProto: 1 node, 2 name, 5 initializer, 11 input, 12 output.
    graph = [chunk(1, node) for node in nodes(config)]
    graph.append(text(2, "unet"))
    for layer in layers(config).values():
        weight, bias = fold(layer, weights)
        graph.append(chunk(5, _tensor(f"{layer.name}.weight", weight)))
        graph.append(chunk(5, _tensor(f"{layer.name}.bias", bias)))
    graph += (chunk(n, v) for n, v in zip((11, 12), ends(config), strict=True))
    # ModelProto: 1 ir_version, 2 producer_name, 7 graph, 8 opset_import, 14 metadata.
    model = integer(1, IR_VERSION) + text(2, "cellunet") + chunk(7, b"".join(graph))
    model += chunk(8, OPSET)
    for key in sorted(metadata):
        model += chunk(14, text(1, key) + text(2, metadata[key]))
    if len(model) > MAX_BYTES:
        raise CheckpointError(
            f"The network takes {len(model)} bytes; ONNX allows {MAX_BYTES}.",
            hint="Use fewer channels, or the torch engine: --engine torch.",
        )
    return model


def check_weights(
    weights: Mapping[str, npt.NDArray[np.float32]], config: UNetConfig
) -> None:
    """Refuse weights that are not those of a network of this shape.

    Raises
    ------
    CheckpointError
        Naming what is missing, left over, of another shape, not finite or negative.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers(config).values():
        shapes |= layer.shapes
    given = {n for n in weights if not n.endswith(".num_batches_tracked")}
    for what, names in (
        ("miss", sorted(shapes.keys() - given)),
        ("have, but the network does not,", sorted(given - shapes.keys())),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CheckpointError(
                f"The weights {what} {', '.join(names[:3])}{more}.",
                hint=f"The network has channels {config.channels} and stem stride "
                f"{config.stem_stride}.",
            )
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise CheckpointError(
                f"Weight {name} has shape {weights[name].shape}; {shape} is expected."
            )
        if not np.isfinite(weights[name]).all():
            raise CheckpointError(f"Weight {name} holds values that are not finite.")
        if name.endswith("running_var") and (weights[name] < 0).any():
            raise CheckpointError(f"Weight {name} holds negative variances.")


def fold(
    layer: Layer, weights: Mapping[str, npt.NDArray[np.float32]]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return weight and bias of a convolution with its normalisation folded in.

    Batch normalisation of a convolution is itself a convolution with bias::

        g (W * x - m) / s + b  =  (g / s) W * x  +  (b - g m / s),   s = sqrt(v + eps)

    with W, g, b the trained weights, m and v the running mean and variance per output
    channel (Ioffe and Szegedy 2015, algorithm 2). Computed in float64.

    Parameters
    ----------
    layer
        The convolution.
    weights
        The state dict.
    """
    weight = weights[f"{layer.name}.weight"]
    if layer.norm is None:
        return weight, weights[f"{layer.name}.bias"]
    gain, shift, mean, variance = (
        weights[f"{layer.norm}.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / np.sqrt(variance + BATCH_NORM_EPSILON)
    folded = weight.astype(np.float64) * scale[:, np.newaxis, np.newaxis, np.newaxis]
    return folded.astype(np.float32), (shift - mean * scale).astype(np.float32)


def nodes(config: UNetConfig) -> list[bytes]:
    """Return all nodes, in the order of ``UNet.forward``, as NodeProto.

    Weight and bias of a layer are tensors ``LAYER.weight`` and ``LAYER.bias``.
    """
    by_name = layers(config)
    levels = len(config.channels) - 1
    found = _double(by_name, "stem", INPUT)
    features, skips = "stem.5", []
    for i in range(levels):
        skips.append(features)
        pooled = f"pool.{i}"
        found.append(
            _node("MaxPool", [features], pooled, kernel_shape=[2, 2], strides=[2, 2])
        )
        found += _double(by_name, f"down.{i}", pooled)
        features = f"down.{i}.5"
    for i in range(levels):
        found.append(_convolution(by_name[f"up.{i}"], features))
        found.append(_node("Concat", [skips.pop(), f"up.{i}"], f"concat.{i}", axis=1))
        found += _double(by_name, f"merge.{i}", f"concat.{i}")
        features = f"merge.{i}.5"
    # The largest logit is taken off so that no exponential overflows.
    return [
        *found,
        _convolution(by_name["head"], features),
        _node("ReduceMax", ["head"], "largest", axes=[1], keepdims=1),
        _node("Sub", ["head", "largest"], "below"),
        _node("Exp", ["below"], "odds"),
        _node("ReduceSum", ["odds"], "total", axes=[1], keepdims=1),
        _node("Div", ["odds", "total"], OUTPUT),
    ]


def ends(config: UNetConfig) -> tuple[bytes, bytes]:
    """Return input and output as ValueInfoProto."""
    return _value(INPUT, config.in_channels), _value(OUTPUT, config.classes)


def _double(by_name: Mapping[str, Layer], name: str, source: str) -> list[bytes]:
    """Return a ``DoubleConv``; its last output is called ``NAME.5``."""
    return [
        _convolution(by_name[f"{name}.0"], source),
        _node("Relu", [f"{name}.0"], f"{name}.2"),
        _convolution(by_name[f"{name}.3"], f"{name}.2"),
        _node("Relu", [f"{name}.3"], f"{name}.5"),
    ]


def _convolution(layer: Layer, source: str) -> bytes:
    return _node(
        "ConvTranspose" if layer.transposed else "Conv",
        [source, f"{layer.name}.weight", f"{layer.name}.bias"],
        layer.name,
        kernel_shape=[layer.kernel] * 2,
        pads=[layer.padding] * 4,
        strides=[layer.stride] * 2,
    )


def _node(
    operator: str, inputs: Sequence[str], output: str, **attributes: int | list[int]
) -> bytes:
    """Return a node, named like its output."""
    # NodeProto: 1 input, 2 output, 3 name, 4 op_type, 5 attribute.
    node = b"".join(text(1, name) for name in inputs)
    node += text(2, output) + text(3, output) + text(4, operator)
    for name, value in sorted(attributes.items()):
        # AttributeProto: 1 name, 3 i, 8 ints, 20 type.
        if isinstance(value, int):
            attribute = integer(3, value) + integer(20, _INT)
        else:
            attribute = integers(8, value) + integer(20, _INTS)
        node += chunk(5, text(1, name) + attribute)
    return node


def _tensor(name: str, array: npt.NDArray[np.float32]) -> bytes:
    # TensorProto: 1 dims, 2 data_type, 8 name, 9 raw_data (little-endian).
    head = integers(1, array.shape) + integer(2, FLOAT) + text(8, name)
    return head + chunk(9, array.astype("<f4").tobytes())


def _value(name: str, channels: int) -> bytes:
    """Return a float32 value of shape (n, `channels`, h, w)."""
    # ValueInfoProto: 1 name, 2 type; TypeProto: 1 tensor_type; Tensor: 1 elem_type,
    # 2 shape; TensorShapeProto: 1 dim; Dimension: 1 dim_value, 2 dim_param.
    sides = (text(2, "n"), integer(1, channels), text(2, "h"), text(2, "w"))
    shape = b"".join(chunk(1, side) for side in sides)
    return text(1, name) + chunk(2, chunk(1, integer(1, FLOAT) + chunk(2, shape)))
