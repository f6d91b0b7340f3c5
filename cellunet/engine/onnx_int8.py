"""The network in eight bits: the same layers, rounded, as an ONNX model of its own.

Every convolution's weights are int8 with a scale per output channel, symmetric; the
features that convolutions read are uint8 with one scale and one zero point each, which
`cellunet.engine.calibrate` measures. Both stand in the graph as QuantizeLinear and
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

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cellunet.engine.cost import Layer, layers
from cellunet.engine.onnx_graph import INPUT, Network, ends
from cellunet.engine.onnx_nodes import Kind, graph, model, opset
from cellunet.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from cellunet.config import UNetConfig

OPSET = opset(13)
"""The first operator set where weights may have a scale per channel (ONNX 1.8)."""
LEVELS = 255
"""Steps of uint8."""
MOST = 127
"""Largest weight in int8; -128 is left out, so that signs are alike."""
AXES = np.array([1], np.int64)
"""The axis of classes, a tensor since operator set 13."""
OF, DIGEST, IMAGES = "onnx_sha256", "graph_sha256", "images"
"""Keys of the metadata: SHA-256 of the float32 model that a twin was made from, SHA-256
of its own graph, and how many images it was calibrated on."""


class Rounding(NamedTuple):
    """How features become uint8: value = (stored - zero) * scale."""

    scale: np.float32
    zero: np.uint8

    @classmethod
    def of(cls, low: float, high: float) -> Rounding:
        """Return the rounding whose ends are `low` and `high`, 0 being among its steps.

        Zeros that convolutions pad with are exact therefore.

        Examples
        --------
        >>> rounding = Rounding.of(-1.0, 4.1)
        >>> f"{rounding.scale:.2f}", int(rounding.zero)
        ('0.02', 50)
        """
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32((high - low) / LEVELS)
        if not scale >= np.finfo(np.float32).tiny:
            return cls(np.float32(1.0), np.uint8(0))
        return cls(scale, np.uint8(np.clip(np.rint(-low / scale), 0, LEVELS)))

    def __call__(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return values as they come back from uint8."""
        zero = np.float32(self.zero)
        steps = np.clip(np.rint(values / self.scale) + zero, 0, LEVELS)
        rounded: npt.NDArray[np.float32] = (steps - zero) * self.scale
        return rounded


def build_int8(
    tensors: Mapping[str, npt.NDArray[np.generic]],
    config: UNetConfig,
    roundings: Mapping[str, Rounding],
    metadata: Mapping[str, str],
) -> bytes:
    """Return the int8 twin of a network.

    Parameters
    ----------
    tensors
        ``LAYER.weight`` and ``LAYER.bias`` of the float32 model.
    config
        Shape of the network.
    roundings
        Of each of `places`.
    metadata
        Text stored in the model, by key; the graph's SHA-256 is added.
    """
    found: dict[str, npt.NDArray[np.generic]] = {}
    for name, layer in layers(config).items():
        stored, scales = rounded_weights(tensors[f"{name}.weight"], _axis(layer))
        found |= {f"{name}.weight.int8": stored, f"{name}.weight.scale": scales}
        found[f"{name}.bias"] = tensors[f"{name}.bias"]
    for place in places(config):
        rounding = roundings[place]
        found[f"{place}.scale"] = np.array(rounding.scale, np.float32)
        found[f"{place}.zero"] = np.array(rounding.zero, np.uint8)
    found["axes"] = AXES
    image, probabilities = ends(config)
    whole = graph(nodes(config), found, [image], [probabilities])
    digest = hashlib.sha256(whole).hexdigest()
    return model(whole, OPSET, {**metadata, DIGEST: digest})


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


def check_belongs(
    metadata: Mapping[str, str], graph: memoryview, onnx_sha256: str
) -> None:
    """Refuse a twin that was damaged or was made from another model.

    Parameters
    ----------
    metadata, graph
        Of the twin.
    onnx_sha256
        SHA-256 of the float32 model that it should be of.

    Raises
    ------
    CheckpointError
        Saying which of the two.
    """
    if hashlib.sha256(graph).hexdigest() != metadata.get(DIGEST):
        raise CheckpointError("Its content is not what was written (by its SHA-256).")
    if metadata.get(OF) != onnx_sha256:
        raise CheckpointError("It was made from other weights (by their SHA-256).")


def shared(config: UNetConfig) -> dict[str, str]:
    """Return which features are rounded as others are, by name."""
    skips = ["stem.5", *(f"down.{i}.5" for i in range(len(config.channels) - 2))]
    return {f"up.{i}": skip for i, skip in enumerate(reversed(skips))}


def places(config: UNetConfig) -> tuple[str, ...]:
    """Return the names of the features that have a rounding of their own."""
    first = [n for n, layer in layers(config).items() if layer.norm and n[-2:] == ".0"]
    return (INPUT, *(f"{name[:-2]}.{i}" for name in first for i in (2, 5)))


def nodes(config: UNetConfig) -> list[bytes]:
    """Return all nodes as NodeProto."""
    return _Int8Network(config).write()


def kinds(config: UNetConfig) -> dict[str, Kind]:
    """Return what kind of tensor each of the model's is, by name."""
    found = {"axes": Kind("int64", (1,))}
    for name, layer in layers(config).items():
        shape = layer.shapes[f"{name}.weight"]
        found[f"{name}.weight.int8"] = Kind("int8", shape)
        found[f"{name}.weight.scale"] = Kind("float32", (layer.outputs,))
        found[f"{name}.bias"] = Kind("float32", (layer.outputs,))
    for place in places(config):
        found[f"{place}.scale"] = Kind("float32", ())
        found[f"{place}.zero"] = Kind("uint8", ())
    return found


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
