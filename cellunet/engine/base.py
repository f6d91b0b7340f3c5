"""What an engine is, and one pass of it over a plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from cellunet.imaging.blocks import Block, Plan


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
