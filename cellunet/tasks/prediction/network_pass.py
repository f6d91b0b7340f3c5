"""A plane through the network: class probabilities block by block, in raster order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cellunet.engine.base import window_of
from cellunet.errors import CheckpointError
from cellunet.imaging.blocks import Block, Plan, Span, network_plan
from cellunet.imaging.normalize import network_input
from cellunet.imaging.resample import axis_weights, resampled, target_length
from cellunet.run.overlap import one_by_one, overlapped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    import numpy.typing as npt

    from cellunet.config import NormalizationConfig, UNetConfig
    from cellunet.engine.base import Engine

    Read = Callable[[int, int, int, int], npt.NDArray[np.float32]]
    Finish = Callable[["Part", npt.NDArray[np.float32]], None]

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818
    """The caller asked to stop; nothing of the plane is left behind."""


def asking(should_stop: Callable[[], bool], items: Iterable[T]) -> Iterator[T]:
    """Yield items as long as nobody asks to stop.

    Raises
    ------
    Stopped
        If somebody does.
    """
    for item in items:
        if should_stop():
            raise Stopped
        yield item


@dataclass(frozen=True, kw_only=True)
class Part:
    """A rectangle of the plane that one block of the network is for.

    Rows y0 <= y < y1 and columns x0 <= x < x1; together the parts cover the plane once.
    """

    y0: int
    y1: int
    x0: int
    x1: int


class NetworkPass:
    """One plane through the network, at the plane's own scale or another.

    At another scale the network sees the resampled plane, and its probabilities are
    resampled to the plane's own pixels.

    Parameters
    ----------
    read
        ``read(y0, y1, x0, x1)`` returns scaled intensities there, CYX float32.
    shape
        Height and width of the plane.
    scale
        Magnification before the network.
    network
        Its shape.
    normalization
        How intensities become its input channels.
    """

    def __init__(
        self,
        read: Read,
        shape: tuple[int, int],
        scale: float,
        network: UNetConfig,
        normalization: NormalizationConfig,
    ) -> None:
        self._normalization = normalization
        self._shape = shape
        if scale == 1.0:
            self._read = read
            self.plan = network_plan(shape, network)
        else:
            height, width = (target_length(n, scale) for n in shape)
            self._read = resampled(read, shape, (height, width))
            # The pixels of the resampled plane that one of the plane reaches to.
            margin = math.ceil(2 * max(scale, 1.0)) + 2
            self.plan = network_plan((height, width), network, margin)

    def run(
        self, engine: Engine, finish: Finish, should_stop: Callable[[], bool]
    ) -> Generator[Part]:
        """Yield each part, in raster order, when `finish` is done with it.

        `finish` takes a part with its probabilities, KYX float32. To be closed.

        The next window is read, and the part before finished, while the network
        computes; `finish` may be called from another thread, never twice at once.

        Raises
        ------
        Stopped
            If `should_stop` came true.
        CheckpointError
            If the network does not compute numbers.
        """
        rows, columns = (
            _edges(spans, length, target)
            for spans, length, target in zip(
                _spans(self.plan), self._shape, self.plan.shape, strict=True
            )
        )

        def part_of(block: Block) -> Part:
            (y0, y1), (x0, x1) = rows[block.row], columns[block.column]
            return Part(y0=y0, y1=y1, x0=x0, x1=x1)

        def read(y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[np.float32]:
            return network_input(self._read(y0, y1, x0, x1), self._normalization)

        def compute(
            block: Block, window: npt.NDArray[np.float32]
        ) -> npt.NDArray[np.float32]:
            if should_stop():
                raise Stopped
            probabilities: npt.NDArray[np.float32] = engine(window)[0]
            _check_numbers(probabilities, part_of(block))
            return probabilities

        def done(block: Block, probabilities: npt.NDArray[np.float32]) -> Part:
            part = part_of(block)
            finish(part, self._own(block, part, probabilities))
            return part

        def prepare(block: Block) -> npt.NDArray[np.float32]:
            return window_of(block, self.plan, read)

        # For a single block threads would have nothing to do beside it.
        run = overlapped if len(self.plan.blocks) > 1 else one_by_one
        yield from run(self.plan.blocks, prepare, compute, done)

    def _own(
        self, block: Block, part: Part, probabilities: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Return the probabilities of a part's own pixels from those of a window."""
        size = self.plan.shape
        if size == self._shape:
            own: npt.NDArray[np.float32] = probabilities[
                :,
                part.y0 - block.y.start : part.y1 - block.y.start,
                part.x0 - block.x.start : part.x1 - block.x.start,
            ]
            return own
        top, bottom, rows = axis_weights(size[0], self._shape[0], part.y0, part.y1)
        left, right, across = axis_weights(size[1], self._shape[1], part.x0, part.x1)
        seen = probabilities[
            :,
            top - block.y.start : bottom - block.y.start,
            left - block.x.start : right - block.x.start,
        ]
        return np.stack([(across @ (rows @ plane).T).T for plane in seen])


def _check_numbers(probabilities: npt.NDArray[np.float32], part: Part) -> None:
    """Refuse NaN, which would be taken for an image without objects.

    A pixel where one class is NaN is NaN in all, by the softmax.
    """
    if np.isnan(probabilities[0]).any():
        raise CheckpointError(
            f"The model does not compute numbers at x {part.x0} to {part.x1 - 1}, y "
            f"{part.y0} to {part.y1 - 1}: its weights are damaged or far too large.",
            hint="Copy the model again, or choose another with --model.",
        )


def _spans(plan: Plan) -> tuple[list[Span], list[Span]]:
    """Return the spans of the plan's rows and of its columns."""
    return (
        [plan.at(row, 0).y for row in range(plan.rows)],
        [plan.at(0, column).x for column in range(plan.columns)],
    )


def _edges(spans: list[Span], length: int, target: int) -> list[tuple[int, int]]:
    """Return which pixels of an axis of `length` each span of `target` is for."""
    inner = [round(span.core_start * length / target) for span in spans[1:]]
    return list(pairwise([0, *inner, length]))
