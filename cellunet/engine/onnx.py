"""The network as an ONNX graph in memory, in float32 and in eight bits.

No ONNX file is read: the graph is written from the weights, for the runtimes. Its
layers are those of `cellunet.core.unet`, by the names that its state dict gives them,
without torch.

A message is a row of fields; a field is a tag (number << 3 | wire type) and a value.
Source: https://protobuf.dev/programming-guides/encoding. Written bytes follow from the
values alone, which protobuf libraries do not promise.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx, ONNX 1.8).

The form was chosen by measurement: ONNX Runtime, default network, 1024 x 1024, one
thread. The softmax is written out, since its own operator moves the class axis back
and forth: 6 instead of 40 of about 300 ms. The other forms are the plain ones: pixel
groups unfolded before a 3 x 3 stem took as long, and 1 x 1 convolutions with
DepthToSpace in place of the transposed ones 1 to 15 % longer.

Every convolution's weights are int8 with a scale per output channel, symmetric; the
features that convolutions read are uint8 with one scale and one zero point each, which
`cellunet.engine.int8` measures. Both stand in the graph as QuantizeLinear and
DequantizeLinear around operators in float32, the form that runtimes turn into integer
arithmetic (Nagel et al. 2021, "A White Paper on Neural Network Quantization",
https://arxiv.org/abs/2106.08295). Biases and the softmax stay in float32.

What is joined shares a scale and a zero point: a convolution in integers wants one of
each for all its inputs. Features that skip levels are rounded once, so also with those
of what they are joined with; rounding them twice took a tenth longer and was no more
accurate. The stem and the head are rounded too: in float32 they cost a twelfth and a
twentieth of the speed for a mean AP within .0003 (``docs/performance.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from cellunet import store
from cellunet.errors import CheckpointError, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.config import UNetConfig


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One convolution, with the batch normalization that follows it, if any.

    A transposed convolution has kernel 2 and stride 2, a plain one keeps the size
    (divided by the stride). Layers with normalization have no bias and end in a ReLU.
    """

    name: str
    norm: str | None
    inputs: int
    outputs: int
    kernel: int
    stride: int
    transposed: bool

    @property
    def padding(self) -> int:
        """Zeros added on each side."""
        return 0 if self.transposed else (self.kernel - self.stride + 1) // 2

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the layer's arrays by their names in the state dict."""
        ends = (self.inputs, self.outputs)
        first, second = ends if self.transposed else ends[::-1]
        shapes: dict[str, tuple[int, ...]] = {
            f"{self.name}.weight": (first, second, self.kernel, self.kernel)
        }
        if self.norm is None:
            return shapes | {f"{self.name}.bias": (self.outputs,)}
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{self.norm}.{part}"] = (self.outputs,)
        return shapes


def layers(config: UNetConfig) -> dict[str, Layer]:
    """Return all layers of a network by name, in the order of their use."""
    widths, stem = config.channels, config.stem_stride
    found = _double("stem", (config.in_channels, widths[0]), stem)
    for i in range(len(widths) - 1):
        found += _double(f"down.{i}", (widths[i], widths[i + 1]))
    # Coarsest first.
    for i, level in enumerate(reversed(range(len(widths) - 1))):
        fine, coarse = widths[level], widths[level + 1]
        found.append(_plain(f"up.{i}", (coarse, fine), 2))
        found += _double(f"merge.{i}", (2 * fine, fine))
    found.append(_plain("head", (widths[0], config.classes), stem))
    return {layer.name: layer for layer in found}


def _double(name: str, ends: tuple[int, int], stride: int = 1) -> list[Layer]:
    """Return the two layers of a ``DoubleConv``."""
    inputs, outputs = ends
    return [
        Layer(
            name=f"{name}.{place}",
            norm=f"{name}.{place + 1}",
            inputs=c_in,
            outputs=outputs,
            kernel=3 * first_stride,
            stride=first_stride,
            transposed=False,
        )
        for place, c_in, first_stride in ((0, inputs, stride), (3, outputs, 1))
    ]


def _plain(name: str, ends: tuple[int, int], stride: int) -> Layer:
    """Return a layer without normalization; it enlarges by `stride` if that is 2."""
    return Layer(
        name=name,
        norm=None,
        inputs=ends[0],
        outputs=ends[1],
        kernel=stride,
        stride=stride,
        transposed=stride == 2,
    )


VARINT, CHUNK = 0, 2
"""Wire types. The others are floating-point numbers and groups, which a model that
cellunet writes has none of: its weights are chunks."""


def varint(value: int) -> bytes:
    """Return an integer of 0 to 2^64 - 1, seven bits a byte, lowest first.

    Examples
    --------
    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def integer(number: int, value: int) -> bytes:
    """Return field `number` holding an integer of at least 0."""
    return varint(number << 3 | VARINT) + varint(value)


def integers(number: int, values: Iterable[int]) -> bytes:
    """Return field `number` once for each of the integers."""
    return b"".join(integer(number, v) for v in values)


def chunk(number: int, value: bytes) -> bytes:
    """Return field `number` holding bytes or an encoded message."""
    return varint(number << 3 | CHUNK) + varint(len(value)) + value


def text(number: int, value: str) -> bytes:
    """Return field `number` holding text."""
    return chunk(number, value.encode())


IR_VERSION = 7

MAX_BYTES = 2**31 - 1
"""Protobuf's limit for one message."""

DATA_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int64": 7}
"""TensorProto.DataType by numpy's name, as far as cellunet writes them."""

_INT, _INTS = 2, 7
"""AttributeProto.INT and .INTS."""


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


def model(graph: bytes, opset: bytes) -> bytes:
    """Return a ModelProto, what runtimes read.

    Parameters
    ----------
    graph
        A GraphProto.
    opset
        The operator set.

    Raises
    ------
    CheckpointError
        If it is larger than ONNX allows.
    """
    # ModelProto: 1 ir_version, 2 producer_name, 7 graph, 8 opset_import.
    found = integer(1, IR_VERSION) + text(2, "cellunet") + chunk(7, graph)
    found += chunk(8, opset)
    if len(found) > MAX_BYTES:
        raise CheckpointError(
            f"The network takes {len(found)} bytes; ONNX allows {MAX_BYTES}.",
            hint="Use fewer channels, or the torch engine: --engine torch.",
        )
    return found


INPUT, OUTPUT = "image", "probabilities"

OPSET = opset(12)
"""Operator set 12, the last where ReduceSum takes its axes as an attribute like
ReduceMax, so that all tensors are float32. ONNX Runtime 1.3 (2020) reads it."""

BATCH_NORM_EPSILON = 1e-5
"""``eps`` of ``torch.nn.BatchNorm2d``."""


def build(weights: Mapping[str, npt.NDArray[np.float32]], config: UNetConfig) -> bytes:
    """Return the U-Net of `cellunet.core.unet` as an ONNX model.

    Input ``image``, float32 (n, in_channels, h, w), n, h, w free, h and w multiples of
    ``config.stride_px``; output ``probabilities``, float32 (n, classes, h, w), which
    sum to 1 over the classes. The same arguments give the same bytes.

    Parameters
    ----------
    weights
        The state dict by torch's names, as `check_weights` lets pass;
        ``num_batches_tracked`` may be there and is not used.
    config
        Shape of the network.

    Raises
    ------
    CheckpointError
        If a number is too large for float32, or the model for ONNX.
    """
    image, probabilities = ends(config)
    tensors = folded(weights, config)
    return model(graph(nodes(config), tensors, [image], [probabilities]), OPSET)


def read_weights(file: Path, config: UNetConfig) -> dict[str, npt.NDArray[np.float32]]:
    """Return the state dict of a weights file, checked.

    Parameters
    ----------
    file
        A safetensors file.
    config
        Shape of the network on its card.

    Raises
    ------
    CheckpointError
        If the file cannot be read or its weights are not those of such a network.
    """
    weights = store.read_tensors(file)
    try:
        check_weights(weights, config)
    except CheckpointError as error:
        raise CheckpointError(
            f"{file} does not fit the network of its card: {error.message}",
            hint=store.AGAIN,
        ) from error
    return cast("dict[str, npt.NDArray[np.float32]]", weights)


def check_weights(
    weights: Mapping[str, npt.NDArray[np.generic]], config: UNetConfig
) -> None:
    """Refuse weights that are not those of a network of this shape.

    Raises
    ------
    CheckpointError
        Naming what is missing, left over, of another type or shape, not finite or
        negative.
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
            raise CheckpointError(
                f"The weights {what} {some(names)}.",
                hint=f"The network has channels {config.channels} and stem stride "
                f"{config.stem_stride}.",
            )
    for name, shape in shapes.items():
        found = weights[name]
        if found.dtype != np.float32 or found.shape != shape:
            raise CheckpointError(
                f"Weight {name} is {found.dtype} of shape {found.shape}; float32 of "
                f"{shape} is expected."
            )
        if not np.isfinite(found).all():
            raise CheckpointError(f"Weight {name} holds values that are not finite.")
        if name.endswith("running_var") and found.min() < 0:
            raise CheckpointError(f"Weight {name} holds negative variances.")


def folded(
    weights: Mapping[str, npt.NDArray[np.float32]], config: UNetConfig
) -> dict[str, npt.NDArray[np.generic]]:
    """Return ``LAYER.weight`` and ``LAYER.bias`` of all layers, by `fold`.

    Raises
    ------
    CheckpointError
        If a number is too large for float32.
    """
    tensors: dict[str, npt.NDArray[np.generic]] = {}
    for layer in layers(config).values():
        with np.errstate(over="ignore"):
            weight, bias = fold(layer, weights)
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise CheckpointError(
                f"Layer {layer.name} multiplies by numbers that are not finite.",
                hint=store.AGAIN,
            )
        tensors |= {f"{layer.name}.weight": weight, f"{layer.name}.bias": bias}
    return tensors


def fold(
    layer: Layer, weights: Mapping[str, npt.NDArray[np.float32]]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return weight and bias of a convolution with its normalization folded in.

    Batch normalization of a convolution is itself a convolution with bias::

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
    return Network(config).write()


def ends(config: UNetConfig) -> tuple[bytes, bytes]:
    """Return input and output as ValueInfoProto."""
    return value(INPUT, config.in_channels), value(OUTPUT, config.classes)


class Network:
    """Writes the nodes of a network in float32; other forms override what differs.

    Parameters
    ----------
    config
        Shape of the network.
    """

    def __init__(self, config: UNetConfig) -> None:
        self._config = config
        self._layers = layers(config)
        self._nodes: list[bytes] = []

    def write(self) -> list[bytes]:
        """Return all nodes as NodeProto."""
        levels = len(self._config.channels) - 1
        features, skips = self._double("stem", self.activation(self.source())), []
        for i in range(levels):
            skips.append(features)
            pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
            pooled = self.add("MaxPool", [features], f"pool.{i}", **pool)
            features = self._double(f"down.{i}", pooled)
        for i in range(levels):
            up = self.activation(self._convolution(f"up.{i}", features))
            joined = self.add("Concat", [skips.pop(), up], f"concat.{i}", axis=1)
            features = self._double(f"merge.{i}", joined)
        head = self._convolution("head", features)
        # The largest logit is taken off so that no exponential overflows.
        largest = self.add("ReduceMax", [head], "largest", axes=[1], keepdims=1)
        odds = self.add("Exp", [self.add("Sub", [head, largest], "below")], "odds")
        self.add("Div", [odds, self.total(odds)], OUTPUT)
        return self._nodes

    def add(
        self, operator: str, inputs: list[str], output: str, **values: int | list[int]
    ) -> str:
        """Write a node; return its output."""
        self._nodes.append(node(operator, inputs, output, **values))
        return output

    def source(self) -> str:
        """Write what makes the network's input channels; return their name."""
        return INPUT

    def activation(self, name: str) -> str:
        """Write what follows on features `name`; return what readers of them read."""
        return name

    def weight(self, layer: Layer) -> str:
        """Write what makes a layer's weights; return their name."""
        return f"{layer.name}.weight"

    def total(self, odds: str) -> str:
        """Write the sum over the classes; return its name."""
        return self.add("ReduceSum", [odds], "total", axes=[1], keepdims=1)

    def _double(self, name: str, source: str) -> str:
        """Write a ``DoubleConv``, whose features are ``NAME.2`` and ``NAME.5``."""
        for place, activation in ((0, 2), (3, 5)):
            convolved = self._convolution(f"{name}.{place}", source)
            self.add("Relu", [convolved], f"{name}.{activation}")
            source = self.activation(f"{name}.{activation}")
        return source

    def _convolution(self, name: str, source: str) -> str:
        layer = self._layers[name]
        return self.add(
            "ConvTranspose" if layer.transposed else "Conv",
            [source, self.weight(layer), f"{name}.bias"],
            name,
            kernel_shape=[layer.kernel] * 2,
            pads=[layer.padding] * 4,
            strides=[layer.stride] * 2,
        )


INT8_OPSET = opset(13)
"""The first operator set where weights may have a scale per channel (ONNX 1.8)."""

MOST = 127
"""Largest weight in int8; -128 is left out, so that signs are alike."""

AXES = np.array([1], np.int64)
"""The axis of classes, a tensor since operator set 13."""


def build_int8(
    weights: Mapping[str, npt.NDArray[np.float32]],
    config: UNetConfig,
    ranges: Mapping[str, Sequence[float]],
) -> bytes:
    """Return the U-Net as an ONNX model in eight bits.

    Parameters
    ----------
    weights, config
        As for `build`.
    ranges
        Scale and zero point of each of `places`.

    Raises
    ------
    CheckpointError
        As `build`.
    """
    tensors = folded(weights, config)
    found: dict[str, npt.NDArray[np.generic]] = {}
    for name, layer in layers(config).items():
        stored, scales = rounded_weights(tensors[f"{name}.weight"], _axis(layer))
        found |= {f"{name}.weight.int8": stored, f"{name}.weight.scale": scales}
        found[f"{name}.bias"] = tensors[f"{name}.bias"]
    for place in places(config):
        scale, zero = ranges[place]
        found[f"{place}.scale"] = np.array(scale, np.float32)
        found[f"{place}.zero"] = np.array(zero, np.uint8)
    found["axes"] = AXES
    image, probabilities = ends(config)
    written = _Int8Network(config).write()
    return model(graph(written, found, [image], [probabilities]), INT8_OPSET)


def rounded_weights(
    weights: npt.NDArray[np.generic], axis: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return weights as int8, and the scale of each output channel.

    Parameters
    ----------
    weights
        Of one convolution.
    axis
        The axis of its output channels.
    """
    others = tuple(i for i in range(weights.ndim) if i != axis)
    values = weights.astype(np.float64)
    scales = (np.abs(values).max(axis=others) / MOST).astype(np.float32)
    scales[scales < np.finfo(np.float32).tiny] = 1.0
    steps = np.rint(values / np.expand_dims(scales.astype(np.float64), others))
    return np.clip(steps, -MOST, MOST).astype(np.int8), scales


def shared(config: UNetConfig) -> dict[str, str]:
    """Return which features are rounded as others are, by name."""
    skips = ["stem.5", *(f"down.{i}.5" for i in range(len(config.channels) - 2))]
    return {f"up.{i}": skip for i, skip in enumerate(reversed(skips))}


def places(config: UNetConfig) -> tuple[str, ...]:
    """Return the names of the features that have a rounding of their own."""
    first = [n for n, layer in layers(config).items() if layer.norm and n[-2:] == ".0"]
    return (INPUT, *(f"{name[:-2]}.{i}" for name in first for i in (2, 5)))


def _axis(layer: Layer) -> int:
    """Return the axis of the output channels of a layer's weights."""
    return 1 if layer.transposed else 0


class _Int8Network(Network):
    """Writes the nodes of a network whose weights and features are rounded."""

    def activation(self, name: str) -> str:
        place = shared(self._config).get(name, name)
        ends = [f"{place}.scale", f"{place}.zero"]
        stored = self.add("QuantizeLinear", [name, *ends], f"{name}.uint8")
        return self.add("DequantizeLinear", [stored, *ends], f"{name}.rounded")

    def weight(self, layer: Layer) -> str:
        name = f"{layer.name}.weight"
        parts = [f"{name}.int8", f"{name}.scale"]
        return self.add("DequantizeLinear", parts, name, axis=_axis(layer))

    def total(self, odds: str) -> str:
        return self.add("ReduceSum", [odds, "axes"], "total", keepdims=1)
