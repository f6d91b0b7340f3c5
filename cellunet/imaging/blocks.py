"""Cut a plane into blocks: pure arithmetic, one axis at a time.

The network sees windows of one shape. Every pixel is taken from exactly one window's
core, and each window reaches at least `halo` pixels beyond its core or ends at the
edge of the (padded) image, where a pass over the whole image ends too. So the blocks
compute what one plain pass computes, whatever the grouping.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cellunet.config import UNetConfig

GridIndex = tuple[int, int]
"""Row and column of a block in its grid."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """One block on one axis: the window read and the core kept, in pixels."""

    start: int
    stop: int
    core_start: int
    core_stop: int


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of a plane.

    `row` and `column` are its place in the grid; `y` and `x` its spans. Windows may
    reach beyond the image on the lower and right side, by less than the stride; cores
    never do.
    """

    row: int
    column: int
    y: Span
    x: Span

    @property
    def window(self) -> tuple[slice, slice]:
        """Return where its window lies in the plane."""
        return slice(self.y.start, self.y.stop), slice(self.x.start, self.x.stop)

    @property
    def core(self) -> tuple[slice, slice]:
        """Return where its core lies in the plane."""
        y, x = self.y, self.x
        return slice(y.core_start, y.core_stop), slice(x.core_start, x.core_stop)

    @property
    def own(self) -> tuple[slice, slice]:
        """Return where its core lies in its window."""
        y, x = (
            slice(core.start - span.start, core.stop - span.start)
            for core, span in zip(self.core, (self.y, self.x), strict=True)
        )
        return y, x


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All blocks of a plane in raster order, and the shape that they share."""

    shape: tuple[int, int]
    block_shape: tuple[int, int]
    rows: int
    columns: int
    blocks: tuple[Block, ...]

    def at(self, row: int, column: int) -> Block:
        """Return the block at a place of the grid."""
        return self.blocks[row * self.columns + column]


@dataclass(frozen=True, kw_only=True)
class BlockArea:
    """Where a block's arrays lie: the core that it owns and the area it looks at.

    The area exceeds the core by `halo_px` on each side, or ends at the plane's edge.
    `y0`, `x0` is the area's first pixel in the plane, `height` and `width` its size;
    `core` cuts the core out of arrays of the area; `plane` is the plane's shape.
    """

    place: GridIndex
    y0: int
    x0: int
    height: int
    width: int
    core: tuple[slice, slice]
    plane: tuple[int, int]

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> BlockArea:
        """Return the area of a plane that is one block."""
        height, width = shape
        return cls(
            place=(0, 0),
            y0=0,
            x0=0,
            height=height,
            width=width,
            core=(slice(0, height), slice(0, width)),
            plane=shape,
        )

    def frame(
        self, core: npt.NDArray[np.int32]
    ) -> list[tuple[int, npt.NDArray[np.int32]]]:
        """Return the edges of the core's array that lie on the frame of the plane.

        Each with its side: 1 top, 2 bottom, 4 left, 8 right.
        """
        y0, x0 = self.y0 + self.core[0].start, self.x0 + self.core[1].start
        y1, x1 = y0 + core.shape[0], x0 + core.shape[1]
        edges = (
            (1, core[0], y0 == 0),
            (2, core[-1], y1 == self.plane[0]),
            (4, core[:, 0], x0 == 0),
            (8, core[:, -1], x1 == self.plane[1]),
        )
        return [(side, edge) for side, edge, on_frame in edges if on_frame]


def plan(
    shape: tuple[int, int], *, stride_px: int, halo_px: int, largest_px: int
) -> Plan:
    """Return the blocks of a plane.

    Parameters
    ----------
    shape
        Height and width of the plane.
    stride_px
        The network's stride; windows start at its multiples and have such sides.
    halo_px
        Radius of the network's receptive field, at least.
    largest_px
        Longest side of a window, with room for a stride between two halos.
    """
    rows, height = _spans(shape[0], stride_px, halo_px, largest_px)
    columns, width = _spans(shape[1], stride_px, halo_px, largest_px)
    blocks = tuple(
        Block(row=i, column=j, y=y, x=x)
        for i, y in enumerate(rows)
        for j, x in enumerate(columns)
    )
    return Plan(
        shape=shape,
        block_shape=(height, width),
        rows=len(rows),
        columns=len(columns),
        blocks=blocks,
    )


LARGEST_PX = 1024
"""Longest side of the network's windows; results depend on it in the last bits."""


def network_plan(
    shape: tuple[int, ...], network: UNetConfig, margin_px: int = 0
) -> Plan:
    """Return the blocks in which a network sees a plane of `shape` (YX).

    Windows hold right values up to `margin_px` pixels beyond their cores, for those who
    need the neighbors of a core's pixels.
    """
    height, width = shape
    halo = network.halo_px + margin_px
    return plan(
        (height, width),
        stride_px=network.stride_px,
        halo_px=halo,
        # Deep networks see far: a window is at least twice its two halos.
        largest_px=max(LARGEST_PX, 4 * _up(halo, network.stride_px)),
    )


def _spans(length: int, stride: int, halo: int, largest: int) -> tuple[list[Span], int]:
    """Return the spans of one axis and the length of their windows.

    Examples
    --------
    >>> spans, window = _spans(100, stride=8, halo=8, largest=64)
    >>> window, [(s.start, s.core_start, s.core_stop) for s in spans]
    (64, [(0, 0, 52), (40, 52, 100)])
    """
    padded = _up(length, stride)
    if padded <= largest:
        return [Span(start=0, stop=padded, core_start=0, core_stop=length)], padded
    halo = _up(halo, stride)
    largest = largest // stride * stride
    room = largest - 2 * halo
    count = -(-(padded - 2 * halo) // room)
    step = _up(-(-(padded - 2 * halo) // count), stride)
    window = step + 2 * halo
    starts = [min(i * step, padded - window) for i in range(count)]
    # Neighbors meet in the middle of what both of their windows cover.
    meets = [(a + window + b) // 2 for a, b in pairwise(starts)]
    edges = [0, *meets, length]
    return [
        Span(start=s, stop=s + window, core_start=a, core_stop=b)
        for s, a, b in zip(starts, edges, edges[1:], strict=False)
    ], window


def _up(length: int, step: int) -> int:
    return -(-length // step) * step
