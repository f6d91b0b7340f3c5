"""What is done to one block of a plane: by the network, and by the decoder.

A step is called with a block and depends on nothing but its own fields, so that it runs
here, in threads, or on another machine that it was sent to, with the same result.
"""

from __future__ import annotations

import hashlib
import math
import threading
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cellunet.engine.runtimes import window_of
from cellunet.errors import CheckpointError
from cellunet.imaging.blocks import Block, Plan, Span, network_plan
from cellunet.imaging.decode import (
    correct,
    grow_block,
    halo_px,
    seed_and_foreground_mask,
    seed_block,
    seed_border,
)
from cellunet.imaging.empty import CELL_PX, Rectangle, WindowSelection, can_be_told
from cellunet.imaging.measure import EVIDENCE_TOP, pixel_confidence
from cellunet.imaging.normalize import (
    ROUNDING,
    network_input,
    percentile_span,
    rescale_channels,
)
from cellunet.imaging.sizes import axis_weights, resampled, target_length
from cellunet.io.scratch import SharedScratch, assembled
from cellunet.io.source import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from cellunet.annotations.regions import RegionMask
    from cellunet.config import DecodeConfig, EncodingConfig, TrainConfig
    from cellunet.engine.runtimes import Engine
    from cellunet.imaging.blocks import BlockArea
    from cellunet.imaging.decode import GrownBlock, SeedBorder, Seeds
    from cellunet.imaging.empty import Cells
    from cellunet.io.scratch import ArrayStore, Kept, KeptTile
    from cellunet.io.source import Source, Statistics
    from cellunet.tasks.predict.settings import InferenceSettings
    from cellunet.tasks.scheduling import Executor

    Read = Callable[[int, int, int, int], npt.NDArray[np.float32]]


class Backend(NamedTuple):
    """Where the blocks of a plane are worked on: here, or on workers of a cluster."""

    engine: Engine
    source: Source
    room: ArrayStore
    executor: Executor


class NetworkBlock(NamedTuple):
    """A block of the network, and the part of the plane that it is for.

    Together the parts cover the plane once.
    """

    block: Block
    part: Rectangle
    asked: Cells | None = None
    """Cells of its window (`cellunet.imaging.empty`) that the network may be asked of;
    None: it is to see all of it."""


class WindowValues(NamedTuple):
    """A window for some pixels of a block, both from the block's first pixel on."""

    wanted: Rectangle
    window: Rectangle
    values: npt.NDArray[np.float32]
    """Of the window: the network's input, CYX, then what it says, KYX."""


@dataclass(frozen=True, kw_only=True)
class NetworkResult:
    """What the network made of a part."""

    part: Rectangle
    marks: Kept
    """Of `cellunet.imaging.decode.seed_and_foreground_mask`."""
    sure: Kept
    """Of `cellunet.imaging.measure.pixel_confidence`."""
    probabilities: Kept
    """Corrected for the odds of a weighted loss, KYX float32; nothing if not wanted."""
    asked_px: int
    """Pixels that the network might have been asked of, where some are left out."""
    seen_px: int
    """Those that it was asked of."""


_reading = threading.Lock()
"""A source is read by one thread at a time, also where several blocks are in work."""


@dataclass(frozen=True, kw_only=True)
class NetworkStep:
    """One plane through the network, at the plane's own scale or another.

    At another scale the network sees the resampled plane, and its probabilities are
    resampled to the plane's own pixels. What it need not see is background.
    """

    engine: Engine
    source: Source
    plane: int
    """Its number."""
    statistics: tuple[Statistics, ...]
    """Of each channel of the plane that the network sees."""
    config: TrainConfig
    decode: DecodeConfig
    scale: float
    """Magnification before the network."""
    min_foreground: float
    room: ArrayStore
    """Where marks and confidences are put aside."""
    maps: bool
    """Whether probabilities are wanted too."""
    selection: WindowSelection | None = None
    """Says what to leave out; None: nothing."""

    @property
    def plan(self) -> Plan:
        """Its blocks, in pixels that the network sees."""
        return network_plan(self._seen_shape, self.config.network, self.margin_px)

    @property
    def margin_px(self) -> int:
        """Pixels of the resampled plane that one of the plane reaches to."""
        return 0 if self.scale == 1.0 else math.ceil(2 * max(self.scale, 1.0)) + 2

    def blocks(self, within: RegionMask | None = None) -> Iterator[NetworkBlock]:
        """Yield all blocks in raster order.

        Parameters
        ----------
        within
            Regions of the plane that are asked for, where there is a selection.
        """
        plan = self.plan
        rows, columns = (
            _edges(spans, length, target)
            for spans, length, target in zip(
                _spans(plan), self.source.shape, plan.shape, strict=True
            )
        )
        for block in plan.blocks:
            asked = None
            if self.selection is not None:
                asked = self.selection.cells(block)
                if within is not None:
                    asked &= _cells_near(within, self._seen_shape, block, asked.shape)
            part = Rectangle(*rows[block.row], *columns[block.column])
            yield NetworkBlock(block, part, asked)

    @cached_property
    def _seen_shape(self) -> tuple[int, int]:
        """Height and width of what the network sees of the plane."""
        if self.scale == 1.0:
            return self.source.shape
        height, width = (target_length(n, self.scale) for n in self.source.shape)
        return height, width

    def _read(self, y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[np.float32]:
        """Return rescaled intensities of the plane, CYX float32."""
        with _reading:
            pixels = self.source.read(Region(self.plane, y0, y1, x0, x1))
        return rescale_channels(
            pixels[: len(self.statistics)], self.statistics, self.config.normalization
        )

    def _scaled(self, y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[np.float32]:
        if self.scale == 1.0:
            read: Read = self._read
        else:
            read = resampled(self._read, self.source.shape, self._seen_shape)
        return read(y0, y1, x0, x1)

    def prepare(self, item: NetworkBlock) -> list[WindowValues]:
        """Return the network's input for what it is asked of a block."""
        block, asked, chosen = item.block, item.asked, self.selection
        if asked is not None and not asked.any():
            return []
        scaled = window_of(block, self._seen_shape, self._scaled)[0]
        whole = Rectangle(0, scaled.shape[1], 0, scaled.shape[2])
        pairs: Iterable[tuple[Rectangle, Rectangle]] = [(whole, whole)]
        if chosen is not None and asked is not None:
            pairs = chosen.seen(block, asked, scaled)
        norm = self.config.normalization
        return [
            WindowValues(wanted, window, network_input(scaled[:, *window.slices], norm))
            for wanted, window in pairs
        ]

    def compute(
        self, item: NetworkBlock, views: Sequence[WindowValues]
    ) -> list[WindowValues]:
        """Return the class probabilities of windows.

        Raises
        ------
        CheckpointError
            If the network does not compute numbers.
        """
        found = []
        for view in views:
            probabilities = self.engine(view.values[np.newaxis])[0]
            _check_numbers(probabilities, item.part)
            found.append(view._replace(values=probabilities))
        return found

    def finish(
        self, item: NetworkBlock, views: Sequence[WindowValues]
    ) -> NetworkResult:
        """Return what is needed of the probabilities of a block's own part."""
        part = item.part
        shape = part.y1 - part.y0, part.x1 - part.x0
        marks, sure = np.full(shape, self._empty), np.full(shape, EVIDENCE_TOP, "u1")
        maps = background((self._classes, *shape) if self.maps else (1, 0, 0))
        for area, probabilities in self._pieces(item, views):
            corrected = correct(probabilities, self.decode.class_odds)
            place = area.seen_from(part)
            marks[place] = self._marks(corrected)
            sure[place] = pixel_confidence(corrected)
            if self.maps:
                maps[:, *place] = corrected
        asked_px = seen_px = 0
        if self.selection is not None and item.asked is not None:
            asked_px = self.selection.pixels(item.block, item.asked)
            seen = [view.wanted for view in views]
            seen_px = self.selection.pixels(item.block, item.asked, seen)
        return NetworkResult(
            part=part,
            marks=self.room.keep(marks, self.name(item, "marks")),
            sure=self.room.keep(sure, self.name(item, "sure")),
            probabilities=maps,
            asked_px=asked_px,
            seen_px=seen_px,
        )

    @property
    def _classes(self) -> int:
        return self.config.network.classes

    @cached_property
    def _empty(self) -> np.uint8:
        """The mark of what is certainly no object."""
        mark: np.uint8 = self._marks(background((self._classes, 1, 1)))[0, 0]
        return mark

    def _marks(self, corrected: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        return seed_and_foreground_mask(
            corrected, self.config.encoding, self.decode, self.min_foreground
        )

    def name(self, item: NetworkBlock, what: str) -> str:
        """Return the name of what is put aside of a block."""
        return f"{self.key}-{what}-{item.block.row}-{item.block.column}"

    @cached_property
    def key(self) -> str:
        """What tells this plane, seen this way, from others of the same image."""
        known = self.plane, self.statistics, self.scale, self.decode, self.selection
        words = repr((*known, self.min_foreground, self._seen_shape))
        return hashlib.sha256(words.encode()).hexdigest()[:12]

    def _pieces(
        self, item: NetworkBlock, views: Sequence[WindowValues]
    ) -> Iterator[tuple[Rectangle, npt.NDArray[np.float32]]]:
        """Yield rectangles of the plane that the network has seen of a part."""
        block, part = item.block, item.part
        if self._seen_shape != self.source.shape:
            if views:
                yield part, self._resampled(block, part, views)
            return
        top, left = block.y.start, block.x.start
        for wanted, window, probabilities in views:
            area = wanted.moved(top, left).cut(part)
            yield area, probabilities[:, *area.seen_from(window.moved(top, left))]

    def _resampled(
        self, block: Block, part: Rectangle, views: Sequence[WindowValues]
    ) -> npt.NDArray[np.float32]:
        """Return the probabilities of a part's own pixels from those at another scale.

        KYX.
        """
        y, x = block.y, block.x
        whole = background((self._classes, y.stop - y.start, x.stop - x.start))
        for wanted, window, probabilities in views:
            whole[:, *wanted.slices] = probabilities[:, *wanted.seen_from(window)]
        size, shape = self._seen_shape, self.source.shape
        top, bottom, rows = axis_weights(size[0], shape[0], part.y0, part.y1)
        left, right, across = axis_weights(size[1], shape[1], part.x0, part.x1)
        seen = whole[
            :, top - y.start : bottom - y.start, left - x.start : right - x.start
        ]
        return np.stack([(across @ (rows @ plane).T).T for plane in seen])


def network_step(
    plane: int,
    recipe: InferenceSettings,
    backend: Backend,
    statistics: Sequence[Statistics],
    *,
    maps: bool,
) -> NetworkStep:
    """Return what is done to each block of a plane.

    Parameters
    ----------
    plane
        Its number.
    recipe
        Engine and settings.
    backend
        Where the blocks are worked on.
    statistics
        Of each channel that the network sees.
    maps
        Whether probabilities are wanted too; then no pixel is left out as empty.
    """
    step = NetworkStep(
        engine=backend.engine,
        source=backend.source,
        plane=plane,
        statistics=tuple(statistics),
        config=recipe.config,
        decode=recipe.decode,
        scale=recipe.scale,
        min_foreground=recipe.min_foreground,
        room=backend.room,
        maps=maps,
    )
    norm, noise = recipe.config.normalization, None
    # A small plane is seen at once: there is little to gain.
    skip = recipe.skip and not maps and len(step.plan.blocks) > 1
    if skip and can_be_told(norm):
        least = 0.0 if backend.source.dtype.kind == "f" else ROUNDING
        noise = tuple(
            # Pixels that the network sees are means over some of the plane's.
            max(of.noise, least) / (percentile_span(of, norm) or 1.0) * recipe.scale
            for of in statistics
        )
    if noise is None and recipe.within is None:
        return step
    selection = WindowSelection(
        network=recipe.config.network,
        margin_px=step.margin_px,
        noise=noise,
        any_window=recipe.engine.any_window,
    )
    return replace(step, selection=selection)


def background(shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Return the probabilities, KYX, of what is certainly no object."""
    probabilities = np.zeros(shape, np.float32)
    probabilities[0] = 1.0
    return probabilities


WITHIN_PX = 128
"""So far beyond a region objects are whole, in pixels that the network sees."""

_REACH = np.array([-WITHIN_PX, CELL_PX + WITHIN_PX])
"""From the first pixel of a cell, what may be the center of what lies in it."""


def _cells_near(
    regions: RegionMask,
    seen_shape: tuple[int, int],
    block: Block,
    cells: tuple[int, ...],
) -> Cells:
    """Return which cells of a block hold objects whose center may lie in a region.

    Parameters
    ----------
    regions
        In pixels of the plane.
    seen_shape
        Height and width of the plane as the network sees it.
    block
        The block.
    cells
        How many cells its window has, down and across.
    """
    of = [own / seen for own, seen in zip(regions.shape, seen_shape, strict=True)]
    starts = block.y.start, block.x.start
    rows, columns = (
        (start + CELL_PX * np.arange(count)[:, None] + _REACH) * factor
        for start, count, factor in zip(starts, cells, of, strict=True)
    )
    return regions.near(rows, columns)


@dataclass(frozen=True, kw_only=True)
class SharedNetworkStep:
    """All of a `NetworkStep` in one call, for a worker of a cluster.

    What an earlier call put aside, of this run or of one that was stopped, is not
    computed again.
    """

    step: NetworkStep
    room: SharedScratch

    def __call__(self, item: NetworkBlock) -> NetworkResult:
        """Return what the network makes of a block."""
        return self._found(item) or self._seen(item)

    def __del__(self) -> None:
        # A worker keeps it as long as there are blocks, and then tells nobody.
        self.step.source.close()

    def _seen(self, item: NetworkBlock) -> NetworkResult:
        step = self.step
        found = step.finish(item, step.compute(item, step.prepare(item)))
        counts = np.array([found.asked_px, found.seen_px])
        self.room.keep(counts, step.name(item, "counts"))
        if not step.maps:
            return found
        maps = step.room.fetch(found.probabilities)
        kept = self.room.keep(maps, step.name(item, "probabilities"))
        return replace(found, probabilities=kept)

    def _found(self, item: NetworkBlock) -> NetworkResult | None:
        part, step = item.part, self.step
        shape = part.y1 - part.y0, part.x1 - part.x0

        def find(
            what: str, shape: tuple[int, ...], dtype: npt.DTypeLike
        ) -> Kept | None:
            return self.room.find(step.name(item, what), shape, dtype)

        marks, sure = (find(what, shape, np.uint8) for what in ("marks", "sure"))
        counts = find("counts", (2,), np.int64)
        maps: Kept | None = np.zeros(0, np.float32)
        if step.maps:
            classes = step.config.network.classes
            maps = find("probabilities", (classes, *shape), np.float32)
        if marks is None or sure is None or counts is None or maps is None:
            return None
        asked_px, seen_px = map(int, self.room.fetch(counts))
        return NetworkResult(
            part=part,
            marks=marks,
            sure=sure,
            probabilities=maps,
            asked_px=asked_px,
            seen_px=seen_px,
        )


def _check_numbers(probabilities: npt.NDArray[np.float32], part: Rectangle) -> None:
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


class Tile(NamedTuple):
    """A tile to decode, and the marks that it needs."""

    area: BlockArea
    marks: Sequence[KeptTile]


class SeededTile(NamedTuple):
    """A tile whose seeds were put aside, to be grown once those of all are merged."""

    area: BlockArea
    seeds: Kept
    offset: int
    """What the numbers of its seeds begin after."""
    same: npt.NDArray[np.int32]
    """Of `cellunet.imaging.decode.as_one`."""


class GrownTile(NamedTuple):
    """What has grown in a tile, its pixels put aside in strips of rows."""

    grown: GrownBlock
    strips: list[Kept]


@dataclass(frozen=True, kw_only=True)
class DecodeStep:
    """The decoding of the tiles of one plane."""

    encoding: EncodingConfig
    decode: DecodeConfig
    room: ArrayStore
    """Where marks are, and seeds and provisional labels are put aside."""
    rows: int
    """Of a strip of labels, at most."""
    key: str = ""
    """Begins the names of what is put aside."""

    def seed(self, tile: Tile) -> tuple[SeedBorder, Kept]:
        """Find the seeds of a tile and put them aside."""
        seeds = self._seeds(tile)
        return self._border(seeds), self._keep(seeds.parts, "seeds", tile.area)

    def grow(self, tile: SeededTile) -> tuple[GrownTile, int]:
        """Grow seeds that were put aside; also returns the offset of the tile."""
        parts = self.room.fetch(tile.seeds)
        grown = self._grown(parts, tile.area, tile.same)
        self.room.forget(tile.seeds)
        return grown, tile.offset

    def whole(self, tile: Tile) -> tuple[SeedBorder, GrownTile]:
        """Find the seeds of a tile and grow them."""
        seeds = self._seeds(tile)
        return self._border(seeds), self._grown(seeds.parts, tile.area)

    def _seeds(self, tile: Tile) -> Seeds:
        area = tile.area
        y1, x1 = area.y0 + area.height, area.x0 + area.width
        marks = assembled(tile.marks, area.y0, y1, area.x0, x1, room=self.room)
        return seed_block(marks, area)

    def _border(self, seeds: Seeds) -> SeedBorder:
        halo = halo_px(self.encoding, self.decode)
        return seed_border(seeds, halo)

    def _grown(
        self,
        parts: npt.NDArray[np.int32],
        area: BlockArea,
        same: npt.NDArray[np.int32] | None = None,
    ) -> GrownTile:
        pixels, grown = grow_block(parts, area, self.encoding, self.decode, same)
        strips = [
            self._keep(pixels[y : y + self.rows], f"labels-{y}", area)
            for y in range(0, len(pixels), self.rows)
        ]
        return GrownTile(grown, strips)

    def _keep(self, array: npt.NDArray[np.int32], what: str, area: BlockArea) -> Kept:
        row, column = area.place
        return self.room.keep(array, f"{self.key}-{what}-{row}-{column}")
