"""The interface of engines, and what a network costs.

The counterpart of `cellunet.core.unet` without torch: the same layers under the names
that its state dict gives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from cellunet.config import UNetConfig
    from cellunet.imaging.blocks import Block, Plan


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
    output_stride_px: int
    """Distance of neighboring output pixels in pixels of the image."""

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

    @property
    def operations_per_pixel(self) -> float:
        """Multiplications and additions per pixel of the image."""
        taps = self.kernel**2 // (self.stride**2 if self.transposed else 1)
        return 2 * taps * self.inputs * self.outputs / self.output_stride_px**2


def layers(config: UNetConfig) -> dict[str, Layer]:
    """Return all layers of a network by name, in the order of their use."""
    widths, stem = config.channels, config.stem_stride
    strides = [stem * 2**i for i in range(len(widths))]
    found = _double("stem", (config.in_channels, widths[0]), stem, stem)
    for i in range(len(widths) - 1):
        found += _double(f"down.{i}", (widths[i], widths[i + 1]), strides[i + 1])
    # Coarsest first.
    for i, level in enumerate(reversed(range(len(widths) - 1))):
        fine, coarse = widths[level], widths[level + 1]
        found.append(_plain(f"up.{i}", (coarse, fine), 2, strides[level]))
        found += _double(f"merge.{i}", (2 * fine, fine), strides[level])
    found.append(_plain("head", (widths[0], config.classes), stem, 1))
    return {layer.name: layer for layer in found}


def operations_per_pixel(config: UNetConfig) -> float:
    """Return the operations of the convolutions per pixel of the image.

    A multiplication and an addition are two. What normalization, ReLU, pooling and
    softmax take is left out: below 1 %.

    Parameters
    ----------
    config
        Shape of the network.
    """
    return sum(layer.operations_per_pixel for layer in layers(config).values())


def _double(
    name: str, ends: tuple[int, int], output_stride_px: int, stride: int = 1
) -> list[Layer]:
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
            output_stride_px=output_stride_px,
        )
        for place, c_in, first_stride in ((0, inputs, stride), (3, outputs, 1))
    ]


def _plain(
    name: str, ends: tuple[int, int], stride: int, output_stride_px: int
) -> Layer:
    """Return a layer without normalization; it enlarges by `stride` if that is 2."""
    return Layer(
        name=name,
        norm=None,
        inputs=ends[0],
        outputs=ends[1],
        kernel=stride,
        stride=stride,
        transposed=stride == 2,
        output_stride_px=output_stride_px,
    )


class Engine(Protocol):
    """Runs a network: float32 images in, class probabilities out."""

    name: str
    """As it stands in the provenance of results, device and version included."""

    def __call__(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return class probabilities, NKYX float32, of NCYX float32 windows."""


class FlippingEngine:
    """Averages what an engine says of an image and of its three mirror images.

    A window is mirrored as a whole and its sides are multiples of the network's stride,
    so pixels are pooled in the same groups, and blocks compute what one pass over the
    whole image computes.

    Parameters
    ----------
    engine
        Runs the network, four times for each call.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = f"{engine.name}, 4 flips"

    def __call__(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return class probabilities, NKYX float32, of NCYX float32 windows."""
        total = self._engine(image).astype(np.float32)
        for axes in ((2,), (3,), (2, 3)):
            mirrored = np.ascontiguousarray(np.flip(image, axes))
            total += np.flip(self._engine(mirrored), axes)
        total *= np.float32(0.25)
        return total


def window_of(
    block: Block,
    plan: Plan,
    read: Callable[[int, int, int, int], npt.NDArray[np.float32]],
) -> npt.NDArray[np.float32]:
    """Return the network's input for a block, 1CYX float32.

    Parameters
    ----------
    block
        The block to compute.
    plan
        The plan that it belongs to.
    read
        ``read(y0, y1, x0, x1)`` returns the network's input there, CYX float32. It is
        asked for pixels of the plane only; a window that reaches beyond is mirrored.
    """
    y, x = block.y, block.x
    height, width = plan.shape
    window = read(y.start, min(y.stop, height), x.start, min(x.stop, width))
    short = (y.stop - y.start - window.shape[1], x.stop - x.start - window.shape[2])
    if any(short):
        window = np.pad(window, ((0, 0), (0, short[0]), (0, short[1])), "symmetric")
    return np.ascontiguousarray(window[np.newaxis])


def block_probabilities(
    engine: Engine,
    block: Block,
    plan: Plan,
    read: Callable[[int, int, int, int], npt.NDArray[np.float32]],
) -> npt.NDArray[np.float32]:
    """Return the class probabilities of a block's core, KYX float32.

    Parameters
    ----------
    engine
        Runs the network.
    block, plan, read
        As for `window_of`.
    """
    y, x = block.y, block.x
    probabilities = engine(window_of(block, plan, read))[0]
    core: npt.NDArray[np.float32] = probabilities[
        :,
        y.core_start - y.start : y.core_stop - y.start,
        x.core_start - x.start : x.core_stop - x.start,
    ]
    return core


def plane_probabilities(
    engine: Engine, image: npt.NDArray[np.float32], plan: Plan, classes: int
) -> npt.NDArray[np.float32]:
    """Return the class probabilities of a plane held in memory.

    Parameters
    ----------
    engine
        Runs the network.
    image
        The network's input, CYX float32.
    plan
        Blocks of the plane.
    classes
        Number of classes, K.

    Returns
    -------
    ndarray
        KYX float32.
    """
    whole = np.empty((classes, *plan.shape), np.float32)
    for block in plan.blocks:
        core = np.s_[
            :,
            block.y.core_start : block.y.core_stop,
            block.x.core_start : block.x.core_stop,
        ]
        whole[core] = block_probabilities(
            engine, block, plan, lambda y0, y1, x0, x1: image[:, y0:y1, x0:x1]
        )
    return whole
