"""Count what a network computes for each pixel of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellunet.engine.onnx import layers

if TYPE_CHECKING:
    from cellunet.config import UNetConfig


def operations_per_pixel(config: UNetConfig) -> float:
    """Return the operations of the convolutions per pixel of the image.

    A multiplication and an addition are two. What normalization, ReLU, pooling and
    softmax take is left out: below 1 %.
    """
    # Distance of neighboring pixels of a layer's output, in pixels of the image.
    apart, operations = 1.0, 0.0
    for name, layer in layers(config).items():
        if name.startswith("down") and name.endswith(".0"):
            apart *= 2
        apart *= 1 / layer.stride if layer.transposed else layer.stride
        taps = layer.kernel**2 // (layer.stride**2 if layer.transposed else 1)
        operations += 2 * taps * layer.inputs * layer.outputs / apart**2
    return operations
