"""Find the parts of a plane in which no object can be.

A block of the network (`cellunet.imaging.blocks`) is looked at in cells. A cell may
hold an object if in it, or in a cell beside it, the mean over some square differs from
the mean of its wider surroundings by more than the noise explains, and by more than a
trace of the range that the network sees; or if it is bright altogether, as the inside
of a giant is. What is left is background, and the network need not see it.

The network then computes rectangles of a block's window, each with all the pixels
around it that the result depends on. Cells lie on the grid of the window, and the
windows follow from the plane's shape and the network alone: what is skipped never
depends on tiles, threads or memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellunet.imaging.normalize import CLIP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from cellunet.config import NormalizationConfig, UNetConfig
    from cellunet.imaging.blocks import Block

    Cells = npt.NDArray[np.bool_]


CELL_PX = 16
"""Side of a cell, in pixels that the network sees."""

SMALL_PX = 4
"""Side of the squares whose means are looked at; the larger ones are made of these."""

SQUARES = ((2, 0.01), (4, 0.008), (8, 0.005))
"""Sides of the squares that may stand out, in `SMALL_PX`: small, median and large
objects. And by how much of the range of intensities that becomes 0 to 1; less of the
large ones, which are nearly their surroundings."""

LEVEL_SIDE = 4
"""Side of those whose brightness itself is looked at."""

SURROUNDINGS = 17
"""Side of the square that they stand out from: even slopes do not stand out."""

SIGMAS = 5.0
"""By so many standard deviations of its mean a square stands out from the noise."""

LEVEL = 0.15
"""Of the range; what is brighter may be the inside of an object."""


def can_be_told(config: NormalizationConfig) -> bool:
    """Return whether the background is dark to the network: only then it is known."""
    return config.kind == "percentile" and config.curve == "linear"


def occupied(
    scaled: npt.NDArray[np.float32], noise: Sequence[float]
) -> npt.NDArray[np.bool_]:
    """Return which cells of a window may hold an object.

    Parameters
    ----------
    scaled
        CYX float32 from `cellunet.imaging.normalize.rescale_channels`.
    noise
        Standard deviation of the noise of a pixel in each channel, in the same unit.

    Returns
    -------
    ndarray
        YX bool by cells of `CELL_PX`; the last ones may reach beyond the window.
    """
    # What is not a number is not known to be empty.
    found: npt.NDArray[np.bool_] = ~(strength(scaled, noise) <= 1.0)
    return found


def strength(
    scaled: npt.NDArray[np.float32], noise: Sequence[float]
) -> npt.NDArray[np.float32]:
    """Return by which factor what stands out in each cell exceeds the least.

    Parameters and shape are as of `occupied`. What stands out in a cell counts in the
    eight around it, too.
    """
    # Imported here, because small images need no scipy, which loads slowly.
    from scipy import ndimage

    own = [_strength(plane, of) for plane, of in zip(scaled, noise, strict=True)]
    around: npt.NDArray[np.float32] = ndimage.maximum_filter(np.max(own, 0), 3)
    return around


def _strength(plane: npt.NDArray[np.float32], noise: float) -> npt.NDArray[np.float32]:
    from scipy import ndimage

    # As the network sees it: beyond that, sums of huge values would hide the others.
    means = _small_means(np.clip(plane, *CLIP))
    surroundings = ndimage.uniform_filter(means, SURROUNDINGS)
    most = np.zeros_like(means)
    for side, contrast in SQUARES:
        square = ndimage.uniform_filter(means, side)
        if side == LEVEL_SIDE:
            np.maximum(most, square / np.float32(LEVEL), out=most)
        square -= surroundings
        np.abs(square, out=square)
        square /= np.float32(max(SIGMAS * noise / (side * SMALL_PX), contrast))
        np.maximum(most, square, out=most)
    of = CELL_PX // SMALL_PX
    height, width = most.shape
    cells: npt.NDArray[np.float32] = most.reshape(
        height // of, of, width // of, of
    ).max((1, 3))
    return cells


def _small_means(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return means over squares of `SMALL_PX`, those of whole cells."""
    short = [-length % CELL_PX for length in plane.shape]
    if any(short):
        plane = np.pad(plane, ((0, short[0]), (0, short[1])), "symmetric")
    rows = plane[::SMALL_PX].copy()
    for row in range(1, SMALL_PX):
        rows += plane[row::SMALL_PX]
    means = rows[:, ::SMALL_PX].copy()
    for column in range(1, SMALL_PX):
        means += rows[:, column::SMALL_PX]
    means /= np.float32(SMALL_PX**2)
    return means


@dataclass(frozen=True)
class Rectangle:
    """Rows y0 <= y < y1 and columns x0 <= x < x1 of a grid of cells, or of pixels."""

    y0: int
    y1: int
    x0: int
    x1: int

    def within(self, stride: int, halo: int, shape: tuple[int, int]) -> Rectangle:
        """Return it with a halo, from one multiple of a stride to another.

        It ends where an array of `shape` does.
        """
        return Rectangle(
            max(self.y0 // stride * stride - halo, 0),
            min(-(-self.y1 // stride) * stride + halo, shape[0]),
            max(self.x0 // stride * stride - halo, 0),
            min(-(-self.x1 // stride) * stride + halo, shape[1]),
        )

    def seen_from(self, other: Rectangle) -> tuple[slice, slice]:
        """Return its rows and columns in an array of another one."""
        return (
            slice(self.y0 - other.y0, self.y1 - other.y0),
            slice(self.x0 - other.x0, self.x1 - other.x0),
        )

    def moved(self, y: int, x: int) -> Rectangle:
        """Return it so far further down and to the right."""
        return Rectangle(self.y0 + y, self.y1 + y, self.x0 + x, self.x1 + x)

    def cut(self, other: Rectangle) -> Rectangle:
        """Return what lies in another one too."""
        return Rectangle(
            max(self.y0, other.y0),
            min(self.y1, other.y1),
            max(self.x0, other.x0),
            min(self.x1, other.x1),
        )

    @property
    def pixels(self) -> int:
        """How many it holds."""
        return (self.y1 - self.y0) * (self.x1 - self.x0)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and its columns."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def cells(self) -> tuple[slice, slice]:
        """Rows and columns of the cells that hold some of its pixels."""
        return (
            slice(self.y0 // CELL_PX, -(-self.y1 // CELL_PX)),
            slice(self.x0 // CELL_PX, -(-self.x1 // CELL_PX)),
        )

    def cost(self, halo: float) -> float:
        """Return what it and a halo cover."""
        return (self.y1 - self.y0 + 2 * halo) * (self.x1 - self.x0 + 2 * halo)


def rectangles(cells: Cells, halo: float) -> Iterator[Rectangle]:
    """Yield rectangles of cells, apart, that together hold all that are set.

    Each is cut in two as long as the two cover less, their halos counted.

    Parameters
    ----------
    cells
        YX bool.
    halo
        What each rectangle takes on each side besides, in cells.

    Examples
    --------
    >>> cells = np.zeros((20, 20), bool)
    >>> cells[0, 0] = cells[1, 2] = cells[18, 19] = True
    >>> [(r.y0, r.y1, r.x0, r.x1) for r in rectangles(cells, 2)]
    [(0, 2, 0, 3), (18, 19, 19, 20)]
    """
    rows, columns = (np.flatnonzero(cells.any(axis)) for axis in (1, 0))
    if not len(rows):
        return
    y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    whole = Rectangle(*map(int, (y0, y1, x0, x1)))
    own = cells[y0:y1, x0:x1]
    cut = _best_cut(own, halo)
    if cut is None:
        yield whole
        return
    axis, place = cut
    for part, start in zip(np.split(own, [place], axis), (0, place), strict=True):
        dy, dx = (start, 0) if axis == 0 else (0, start)
        for found in rectangles(part, halo):
            yield found.moved(whole.y0 + dy, whole.x0 + dx)


def _best_cut(cells: Cells, halo: float) -> tuple[int, int] | None:
    """Return along which axis and where to cut; None: nowhere.

    `cells` has a cell that is set at each of its edges.
    """
    best, least = None, Rectangle(0, len(cells), 0, cells.shape[1]).cost(halo)
    for axis in (0, 1):
        turned = cells if axis == 0 else cells.T
        before = _costs(turned, halo)
        after = _costs(turned[::-1], halo)[::-1]
        for place in range(1, len(turned)):
            cost = before[place - 1] + after[place]
            if cost < least:
                best, least = (axis, place), cost
    return best


def _costs(cells: Cells, halo: float) -> list[float]:
    """Return what the rectangle around all rows up to each costs."""
    width = cells.shape[1]
    seen = np.logical_or.accumulate(cells, 0)
    first = seen.argmax(1)
    last = width - seen[:, ::-1].argmax(1)
    heights = np.maximum.accumulate(
        np.where(cells.any(1), np.arange(1, len(cells) + 1), 0)
    )
    found: list[float] = ((heights + 2 * halo) * (last - first + 2 * halo)).tolist()
    return found


@dataclass(frozen=True, kw_only=True)
class WindowSelection:
    """Chooses what of each block of a plane the network is to see."""

    network: UNetConfig
    """How far it sees, and where its windows may begin."""
    margin_px: int
    """Pixels beyond a block's core that are wanted besides."""
    noise: tuple[float, ...] | None
    """Of each channel, as for `occupied`; None: all may hold an object."""
    any_window: bool
    """Whether the network says the same, to the last bit, in a window of another size;
    otherwise blocks are seen whole."""

    def cells(self, block: Block) -> Cells:
        """Return which cells of a block's window it is for; no pixel is looked at."""
        shape = [-(-(s.stop - s.start) // CELL_PX) for s in (block.y, block.x)]
        cells: Cells = np.zeros(shape, np.bool_)
        cells[self._own(block).cells] = True
        return cells

    def seen(
        self, block: Block, asked: Cells, scaled: npt.NDArray[np.float32]
    ) -> Iterator[tuple[Rectangle, Rectangle]]:
        """Yield what of a block may hold objects, and what the network has to see.

        Pairs of rectangles: pixels of which the network is asked, and the window for
        them, both from the first pixel of the block's own window on.

        Parameters
        ----------
        block
            The block.
        asked
            Those of its `cells` that are asked for.
        scaled
            The pixels of its window, as for `occupied`.
        """
        cells = asked
        if self.noise is not None:
            cells = asked & occupied(scaled, self.noise)
        shape = scaled.shape[1], scaled.shape[2]
        own = self._own(block)
        if not self.any_window:
            if cells.any():
                yield own, Rectangle(0, shape[0], 0, shape[1])
            return
        halo = self.network.halo_px
        for found in rectangles(cells, halo / CELL_PX):
            ends = (CELL_PX * n for n in (found.y0, found.y1, found.x0, found.x1))
            wanted = Rectangle(*ends).cut(own)
            yield wanted, wanted.within(self.network.stride_px, halo, shape)

    def pixels(
        self, block: Block, asked: Cells, among: Iterable[Rectangle] | None = None
    ) -> int:
        """Return how many pixels lie in cells that are asked for.

        Only those `among` the pixels that `seen` says are wanted, if they are given.
        """
        cells = asked
        if among is not None:
            cells = np.zeros_like(asked)
            for wanted in among:
                cells[wanted.cells] = asked[wanted.cells]
        heights, widths = (
            np.diff(np.clip(np.arange(count + 1) * CELL_PX, own.start, own.stop))
            for count, own in zip(cells.shape, self._own(block).slices, strict=True)
        )
        return int(heights @ cells @ widths)

    def _own(self, block: Block) -> Rectangle:
        """Return what a block's window is for."""
        (top, bottom), (left, right) = (
            (
                max(s.core_start - self.margin_px - s.start, 0),
                min(s.core_stop + self.margin_px, s.stop) - s.start,
            )
            for s in (block.y, block.x)
        )
        return Rectangle(top, bottom, left, right)
