"""A plane's marks to labels, tile by tile, while the network still makes marks.

A tile is begun as soon as the marks of it and of its halo are there, in a thread beside
the network if the recipe's executor has some. The merges take tiles in raster order,
so nothing depends on which was ready first.
"""

from __future__ import annotations

from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from cellunet.imaging.blocks import Area
from cellunet.imaging.decode.decoding import ObjectMerger, finalize_block, grow_block
from cellunet.imaging.decode.seeds import (
    SeedMerger,
    as_one,
    halo_px,
    seed_block,
    waits_for_all,
)
from cellunet.tasks.prediction.network_pass import asking

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    import numpy.typing as npt

    from cellunet.imaging.blocks import Place
    from cellunet.imaging.decode.decoding import Grown, Numbers
    from cellunet.imaging.decode.seeds import Seeds
    from cellunet.imaging.scratch import Kept, PlaneStore, Scratch
    from cellunet.tasks.prediction.segment import Recipe


class DecodePass:
    """The decoding of one plane.

    Parameters
    ----------
    marks
        Where marks (`cellunet.imaging.decode.seeds.mark`) come in.
    shape
        Height and width of the plane.
    recipe
        Settings, and what executes.
    scratch
        Room for provisional labels.
    rows
        Full-width rows of labels to hold at once.
    """

    def __init__(
        self,
        marks: PlaneStore,
        shape: tuple[int, int],
        recipe: Recipe,
        scratch: Scratch,
        rows: int,
    ) -> None:
        self._marks, self._shape, self._recipe = marks, shape, recipe
        self._scratch, self._rows = scratch, rows
        self._encoding, self._decode = recipe.config.encoding, recipe.decode
        halo = halo_px(self._encoding, self._decode)
        self._grid = list(tiles(shape, recipe.memory.tile_px, halo))
        self._seeds = SeedMerger(self._encoding, self._decode)
        self._objects = ObjectMerger(self._decode, exclude_border=recipe.exclude_border)
        self._strips: dict[Place, list[Kept]] = {}

    def run(self, parts: Iterable[object]) -> None:
        """Decode all tiles but for their final numbers.

        Parameters
        ----------
        parts
            Yields something whenever more marks may be there, and ends when all are.

        Raises
        ------
        Stopped
            If the recipe's `should_stop` came true.
        """
        areas = _ready([area for row in self._grid for area in row], parts, self._marks)
        way = self._after_all if waits_for_all(self._encoding) else self._at_once
        with closing(way(areas)) as found:
            for grown, offset in asking(self._recipe.should_stop, found):
                self._objects.add(grown, offset)
                self._strips[grown.place] = self._put_aside(grown.pixels)
        self._marks.forget()

    def numbers(self) -> Numbers:
        """Return the final numbers of what `run` found."""
        return self._objects.numbers(self._seeds.numbers())

    def bands(self, numbers: Numbers) -> Iterator[npt.NDArray[np.uint32]]:
        """Yield full-width rows of labels, top to bottom, YX."""

        def final(item: tuple[Area, Kept]) -> npt.NDArray[np.uint32]:
            area, strip = item
            return finalize_block(self._scratch.fetch(strip), area.place, numbers)

        with closing(self._recipe.executor.map(final, self._in_bands())) as strips:
            for row in self._grid:
                for strip in self._strips[row[0].place]:
                    band = np.empty((strip.shape[0], self._shape[1]), np.uint32)
                    for area in row:
                        x0, width = area.x0 + area.core[1].start, _core_width(area)
                        band[:, x0 : x0 + width] = next(strips)
                    yield band

    def _in_bands(self) -> Iterator[tuple[Area, Kept]]:
        """Yield the strips of the tiles, those of a band of rows left to right."""
        for row in self._grid:
            for strips in zip(*(self._strips[area.place] for area in row), strict=True):
                yield from zip(row, strips, strict=True)

    def _put_aside(self, pixels: npt.NDArray[np.int32]) -> list[Kept]:
        rows = range(0, len(pixels), self._rows)
        return [self._scratch.keep(pixels[y : y + self._rows]) for y in rows]

    def _seeded(self, area: Area) -> Seeds:
        end = area.y0 + area.height, area.x0 + area.width
        marks = self._marks.read(area.y0, end[0], area.x0, end[1])
        return seed_block(marks, area)

    def _at_once(self, areas: Iterable[Area]) -> Generator[tuple[Grown, int]]:
        """Yield what has grown in each tile, and what its numbers begin after."""

        def whole(area: Area) -> tuple[Seeds, Grown]:
            seeds = self._seeded(area)
            return seeds, grow_block(seeds.parts, area, self._encoding, self._decode)

        with closing(self._recipe.executor.map(whole, areas)) as found:
            for seeds, grown in found:
                yield grown, self._seeds.add(seeds)

    def _after_all(self, areas: Iterable[Area]) -> Generator[tuple[Grown, int]]:
        """Yield the same where growth has to wait for the seeds of the whole plane."""
        scratch, executor = self._scratch, self._recipe.executor
        left: deque[tuple[Area, Kept, int, int]] = deque()
        with closing(executor.map(self._seeded, areas)) as found:
            for seeds in asking(self._recipe.should_stop, found):
                offset, count = self._seeds.add(seeds), len(seeds.pixels) - 1
                left.append((seeds.area, scratch.keep(seeds.parts), offset, count))
        self._marks.forget()
        numbers = self._seeds.numbers()

        def grow(item: tuple[Area, Kept, int, int]) -> tuple[Grown, int]:
            area, kept, offset, count = item
            same = as_one(numbers[offset + 1 : offset + 1 + count])
            parts = scratch.fetch(kept)
            grown = grow_block(parts, area, self._encoding, self._decode, same)
            scratch.forget(kept)
            return grown, offset

        # What has been grown is forgotten: the list would hold its memory.
        items = (left.popleft() for _ in range(len(left)))
        yield from executor.map(grow, items)


def _core_width(area: Area) -> int:
    width: int = area.core[1].stop - area.core[1].start
    return width


def _ready(
    areas: Iterable[Area], parts: Iterable[object], marks: PlaneStore
) -> Iterator[Area]:
    """Yield areas, in their order, each as soon as all marks of it are there."""
    left = deque(areas)
    for _ in parts:
        while left and marks.holds(
            left[0].y0 + left[0].height, left[0].x0 + left[0].width
        ):
            yield left.popleft()
    # None, unless the parts do not cover the plane; then reading says so.
    yield from left


def tiles(shape: tuple[int, int], tile_px: int, halo: int) -> Iterator[list[Area]]:
    """Yield the decoding tiles of a plane, a list per row of tiles."""
    height, width = shape
    for i, y0 in enumerate(range(0, height, tile_px)):
        row = []
        for j, x0 in enumerate(range(0, width, tile_px)):
            top, left = max(y0 - halo, 0), max(x0 - halo, 0)
            y1, x1 = min(y0 + tile_px, height), min(x0 + tile_px, width)
            row.append(
                Area(
                    place=(i, j),
                    y0=top,
                    x0=left,
                    height=min(y1 + halo, height) - top,
                    width=min(x1 + halo, width) - left,
                    core=(slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)),
                    plane=shape,
                )
            )
        yield row
