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
from cellunet.imaging.measure import pixel_confidence
from cellunet.imaging.normalize import network_input, rescale_channels
from cellunet.imaging.sizes import axis_weights, resampled, target_length
from cellunet.io.scratch import SharedScratch, assembled
from cellunet.io.source import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, EncodingConfig, TrainConfig
    from cellunet.engine.runtimes import Engine
    from cellunet.imaging.blocks import Area
    from cellunet.imaging.decode import Grown, SeedBorder, Seeds
    from cellunet.io.scratch import Kept, Rectangle, Room
    from cellunet.io.source import Source, Statistics
    from cellunet.tasks.scheduling import Executor

    Read = Callable[[int, int, int, int], npt.NDArray[np.float32]]


class Place(NamedTuple):
    """Where the blocks of a plane are worked on: here, or on workers of a cluster."""

    engine: Engine
    source: Source
    room: Room
    executor: Executor


@dataclass(frozen=True, kw_only=True)
class Part:
    """A rectangle of the plane that one block of the network is for.

    Rows y0 <= y < y1 and columns x0 <= x < x1; together the parts cover the plane once.
    """

    y0: int
    y1: int
    x0: int
    x1: int


class NetworkBlock(NamedTuple):
    """A block of the network, and the part that it is for."""

    block: Block
    part: Part


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the network made of a part."""

    part: Part
    marks: Kept
    """Of `cellunet.imaging.decode.seed_and_foreground_mask`."""
    sure: Kept
    """Of `cellunet.imaging.measure.pixel_confidence`."""
    probabilities: Kept
    """Corrected for the odds of a weighted loss, KYX float32."""


_reading = threading.Lock()
"""A source is read by one thread at a time, also where several blocks are in work."""


@dataclass(frozen=True, kw_only=True)
class NetworkStep:
    """One plane through the network, at the plane's own scale or another.

    At another scale the network sees the resampled plane, and its probabilities are
    resampled to the plane's own pixels.
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
    room: Room
    """Where marks and confidences are put aside."""

    @property
    def blocks(self) -> list[NetworkBlock]:
        """All blocks in raster order."""
        margin = 0
        if self.scale != 1.0:
            # The pixels of the resampled plane that one of the plane reaches to.
            margin = math.ceil(2 * max(self.scale, 1.0)) + 2
        plan = network_plan(self._seen_shape, self.config.network, margin)
        rows, columns = (
            _edges(spans, length, target)
            for spans, length, target in zip(
                _spans(plan), self.source.shape, plan.shape, strict=True
            )
        )
        found = []
        for block in plan.blocks:
            (y0, y1), (x0, x1) = rows[block.row], columns[block.column]
            found.append(NetworkBlock(block, Part(y0=y0, y1=y1, x0=x0, x1=x1)))
        return found

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

    def _input(self, y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[np.float32]:
        if self.scale == 1.0:
            read: Read = self._read
        else:
            read = resampled(self._read, self.source.shape, self._seen_shape)
        return network_input(read(y0, y1, x0, x1), self.config.normalization)

    def prepare(self, item: NetworkBlock) -> npt.NDArray[np.float32]:
        """Return the window of a block, 1CYX float32."""
        return window_of(item.block, self._seen_shape, self._input)

    def compute(
        self, item: NetworkBlock, window: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Return the class probabilities of a window, KYX float32.

        Raises
        ------
        CheckpointError
            If the network does not compute numbers.
        """
        probabilities: npt.NDArray[np.float32] = self.engine(window)[0]
        _check_numbers(probabilities, item.part)
        return probabilities

    def finish(
        self, item: NetworkBlock, probabilities: npt.NDArray[np.float32]
    ) -> Seen:
        """Return what is needed of the probabilities of a block's own part."""
        own = self._own(item.block, item.part, probabilities)
        corrected = correct(own, self.decode.class_odds)
        marks = seed_and_foreground_mask(
            corrected, self.config.encoding, self.decode, self.min_foreground
        )
        sure = pixel_confidence(corrected)
        return Seen(
            part=item.part,
            marks=self.room.keep(marks, self.name(item, "marks")),
            sure=self.room.keep(sure, self.name(item, "sure")),
            probabilities=corrected,
        )

    def name(self, item: NetworkBlock, what: str) -> str:
        """Return the name of what is put aside of a block."""
        return f"{self.key}-{what}-{item.block.row}-{item.block.column}"

    @cached_property
    def key(self) -> str:
        """What tells this plane, seen this way, from others of the same image."""
        known = self.plane, self.statistics, self.scale, self.decode
        words = repr((*known, self.min_foreground, self._seen_shape))
        return hashlib.sha256(words.encode()).hexdigest()[:12]

    def _own(
        self, block: Block, part: Part, probabilities: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Return the probabilities of a part's own pixels from those of a window."""
        size, shape = self._seen_shape, self.source.shape
        if size == shape:
            own: npt.NDArray[np.float32] = probabilities[
                :,
                part.y0 - block.y.start : part.y1 - block.y.start,
                part.x0 - block.x.start : part.x1 - block.x.start,
            ]
            return own
        top, bottom, rows = axis_weights(size[0], shape[0], part.y0, part.y1)
        left, right, across = axis_weights(size[1], shape[1], part.x0, part.x1)
        seen = probabilities[
            :,
            top - block.y.start : bottom - block.y.start,
            left - block.x.start : right - block.x.start,
        ]
        return np.stack([(across @ (rows @ plane).T).T for plane in seen])


@dataclass(frozen=True, kw_only=True)
class SharedNetworkStep:
    """All of a `NetworkStep` in one call, for a worker of a cluster.

    What an earlier call put aside, of this run or of one that was stopped, is not
    computed again.
    """

    step: NetworkStep
    room: SharedScratch
    probabilities: bool
    """Whether they are wanted too."""

    def __call__(self, item: NetworkBlock) -> Seen:
        """Return what the network makes of a block."""
        return self._found(item) or self._seen(item)

    def __del__(self) -> None:
        # A worker keeps it as long as there are blocks, and then tells nobody.
        self.step.source.close()

    def _seen(self, item: NetworkBlock) -> Seen:
        step = self.step
        found = step.finish(item, step.compute(item, step.prepare(item)))
        kept: Kept = np.zeros(0, np.float32)
        if self.probabilities:
            name = step.name(item, "probabilities")
            kept = self.room.keep(step.room.fetch(found.probabilities), name)
        return replace(found, probabilities=kept)

    def _found(self, item: NetworkBlock) -> Seen | None:
        part, classes = item.part, self.step.config.network.classes
        shape = part.y1 - part.y0, part.x1 - part.x0

        def find(
            what: str, shape: tuple[int, ...], dtype: npt.DTypeLike
        ) -> Kept | None:
            return self.room.find(self.step.name(item, what), shape, dtype)

        marks, sure = (find(what, shape, np.uint8) for what in ("marks", "sure"))
        kept: Kept | None = np.zeros(0, np.float32)
        if self.probabilities:
            kept = find("probabilities", (classes, *shape), np.float32)
        if marks is None or sure is None or kept is None:
            return None
        return Seen(part=part, marks=marks, sure=sure, probabilities=kept)


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


class Tile(NamedTuple):
    """A tile to decode, and the marks that it needs."""

    area: Area
    marks: Sequence[Rectangle]


class SeededTile(NamedTuple):
    """A tile whose seeds were put aside, to be grown once those of all are merged."""

    area: Area
    seeds: Kept
    offset: int
    """What the numbers of its seeds begin after."""
    same: npt.NDArray[np.int32]
    """Of `cellunet.imaging.decode.as_one`."""


class GrownTile(NamedTuple):
    """What has grown in a tile, its pixels put aside in strips of rows."""

    grown: Grown
    strips: list[Kept]


@dataclass(frozen=True, kw_only=True)
class DecodeStep:
    """The decoding of the tiles of one plane."""

    encoding: EncodingConfig
    decode: DecodeConfig
    room: Room
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
        area: Area,
        same: npt.NDArray[np.int32] | None = None,
    ) -> GrownTile:
        pixels, grown = grow_block(parts, area, self.encoding, self.decode, same)
        strips = [
            self._keep(pixels[y : y + self.rows], f"labels-{y}", area)
            for y in range(0, len(pixels), self.rows)
        ]
        return GrownTile(grown, strips)

    def _keep(self, array: npt.NDArray[np.int32], what: str, area: Area) -> Kept:
        row, column = area.place
        return self.room.keep(array, f"{self.key}-{what}-{row}-{column}")
