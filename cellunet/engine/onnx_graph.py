"""The network as an ONNX model: the twin that runs without torch.

The form was chosen by measurement: ONNX Runtime, default network, 1024 x 1024, one
thread. The softmax is written out, since its own operator moves the class axis back
and forth: 6 instead of 40 of about 300 ms. The other forms are the plain ones: pixel
groups unfolded before a 3 x 3 stem took as long, and 1 x 1 convolutions with
DepthToSpace in place of the transposed ones 1 to 15 % longer.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from cellunet.engine.cost import Layer, layers
from cellunet.engine.onnx_nodes import Kind, graph, model, node, opset, value
from cellunet.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from cellunet.config import UNetConfig

INPUT, OUTPUT = "image", "probabilities"
OPSET = opset(12)
"""Operator set 12, the last where ReduceSum takes its axes as an attribute like
ReduceMax, so that all tensors are float32. ONNX Runtime 1.3 (2020) reads it."""
BATCH_NORM_EPSILON = 1e-5
"""``eps`` of ``torch.nn.BatchNorm2d``."""
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
    tensors: dict[str, npt.NDArray[np.generic]] = {}
    for layer in layers(config).values():
        weight, bias = fold(layer, weights)
        tensors |= {f"{layer.name}.weight": weight, f"{layer.name}.bias": bias}
    image, probabilities = ends(config)
    whole = graph(nodes(config), tensors, [image], [probabilities])
    return model(whole, OPSET, metadata)


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
    return Network(config).write()


def kinds(config: UNetConfig) -> dict[str, Kind]:
    """Return what kind of tensor each of the model's is, by name."""
    found = {}
    for name, layer in layers(config).items():
        found[f"{name}.weight"] = Kind("float32", layer.shapes[f"{name}.weight"])
        found[f"{name}.bias"] = Kind("float32", (layer.outputs,))
    return found


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
        features, skips = self._double("stem", self.activation(INPUT)), []
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
