"""One plane through prediction: statistics, network, decoding.

A tile is begun as soon as the marks of it and of its halo are there, in a thread beside
the network if the recipe's executor has some. The merges take tiles in raster order,
so nothing depends on which was ready first.

The network runs on one grid (`blocks.plan`), decoding on tiles of any size. What is in
between (marks, evidence, provisional labels) passes through a `Scratch`, so that no
array is as large as the plane. `segment` adds what refines labels: outlines moved to an
edge, two sizes in one plane.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from cellunet.engine.runtimes import window_of
from cellunet.errors import CheckpointError
from cellunet.imaging import decode
from cellunet.imaging.blocks import Area, Block, Plan, Span, network_plan
from cellunet.imaging.empty import CELL_PX, Rectangle, Selection, can_be_told
from cellunet.imaging.growth import Levels, Reach, moved, smoothed
from cellunet.imaging.measure import EVIDENCE_TOP, Confidences, pixel_confidence
from cellunet.imaging.normalize import (
    ROUNDING,
    measure_channels,
    network_input,
    percentile_span,
    rescale_channels,
)
from cellunet.imaging.sizes import axis_weights, resampled, target_length
from cellunet.io.source import Region
from cellunet.tasks.scheduling import one_by_one, overlapped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from cellunet.annotations.regions import RegionMask
    from cellunet.config import NormalizationConfig, UNetConfig
    from cellunet.engine.runtimes import Engine
    from cellunet.imaging.blocks import Place
    from cellunet.imaging.empty import Within
    from cellunet.io.scratch import Kept, PlaneStore, Scratch
    from cellunet.io.source import Source, Statistics
    from cellunet.tasks.predict.settings import InferenceSettings, Memory

    Read = Callable[[int, int, int, int], npt.NDArray[np.float32]]
    Finish = Callable[["Part", Sequence["Piece"]], None]
    Choose = Callable[[Plan, int], Selection | None]
    Rows = tuple[int, npt.NDArray[np.int32], slice]
    _View = tuple[Rectangle, Rectangle, npt.NDArray[np.float32]]

T = TypeVar("T")


class PredictionStopped(Exception):  # noqa: N818
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
            raise PredictionStopped
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

    def within(self, other: Part) -> tuple[slice, slice]:
        """Return where it lies in an array of another one."""
        return (
            slice(self.y0 - other.y0, self.y1 - other.y0),
            slice(self.x0 - other.x0, self.x1 - other.x0),
        )


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What the network says of a rectangle of the plane."""

    area: Part
    probabilities: npt.NDArray[np.float32]
    """KYX."""


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
    choose
        Takes the plan of the blocks, and how many pixels beyond a block's core are
        wanted; returns what says which of them the network is to see, None: all.
    """

    def __init__(
        self,
        read: Read,
        shape: tuple[int, int],
        scale: float,
        network: UNetConfig,
        normalization: NormalizationConfig,
        *,
        choose: Choose = lambda _plan, _margin: None,
    ) -> None:
        self._normalization, self._classes = normalization, network.classes
        self._shape, margin = shape, 0
        if scale == 1.0:
            self._read = read
            self.plan = network_plan(shape, network)
        else:
            height, width = (target_length(n, scale) for n in shape)
            self._read = resampled(read, shape, (height, width))
            # The pixels of the resampled plane that one of the plane reaches to.
            margin = math.ceil(2 * max(scale, 1.0)) + 2
            self.plan = network_plan((height, width), network, margin)
        self._selection = choose(self.plan, margin)

    def run(
        self, engine: Engine, finish: Finish, should_stop: Callable[[], bool]
    ) -> Generator[Part]:
        """Yield each part, in raster order, when `finish` is done with it.

        `finish` takes a part with the pieces of it that the network has seen. What it
        has not seen is background. To be closed.

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

        def compute(block: Block, views: Sequence[_View]) -> list[_View]:
            found = []
            for wanted, window, image in views:
                if should_stop():
                    raise PredictionStopped
                probabilities: npt.NDArray[np.float32] = engine(image[np.newaxis])[0]
                _check_numbers(probabilities, part_of(block))
                found.append((wanted, window, probabilities))
            return found

        def done(block: Block, found: Sequence[_View]) -> Part:
            part = part_of(block)
            finish(part, self._pieces(block, part, found))
            return part

        # For a single block threads would have nothing to do beside it.
        run = overlapped if len(self.plan.blocks) > 1 else one_by_one
        yield from run(self.plan.blocks, self._views, compute, done)

    def _views(self, block: Block) -> list[_View]:
        """Return the network's input for what it is asked of a block."""
        chosen = self._selection
        asked = None if chosen is None else chosen.asked(block)
        if asked is not None and not asked.any():
            return []
        scaled = window_of(block, self.plan, self._read)[0]
        whole = Rectangle(0, scaled.shape[1], 0, scaled.shape[2])
        pairs: Iterable[tuple[Rectangle, Rectangle]] = [(whole, whole)]
        if chosen is not None and asked is not None:
            pairs = chosen.seen(block, asked, scaled)
        return [
            (
                wanted,
                window,
                network_input(scaled[:, *window.slices], self._normalization),
            )
            for wanted, window in pairs
        ]

    def _pieces(self, block: Block, part: Part, found: Sequence[_View]) -> list[Piece]:
        """Return the pieces of a part that the network has seen."""
        if self.plan.shape != self._shape and found:
            whole = background((self._classes, *self.plan.block_shape))
            for wanted, window, probabilities in found:
                whole[:, *wanted.slices] = probabilities[:, *wanted.seen_from(window)]
            return [Piece(area=part, probabilities=self._own(block, part, whole))]
        pieces = []
        for wanted, window, probabilities in found:
            area = Part(
                y0=max(block.y.start + wanted.y0, part.y0),
                y1=min(block.y.start + wanted.y1, part.y1),
                x0=max(block.x.start + wanted.x0, part.x0),
                x1=min(block.x.start + wanted.x1, part.x1),
            )
            y0, x0 = block.y.start + window.y0, block.x.start + window.x0
            own = np.s_[:, area.y0 - y0 : area.y1 - y0, area.x0 - x0 : area.x1 - x0]
            pieces.append(Piece(area=area, probabilities=probabilities[own]))
        return pieces

    @property
    def skipped(self) -> float:
        """Share of the plane that the network was not asked of, after a run."""
        return 0.0 if self._selection is None else self._selection.skipped

    def _own(
        self, block: Block, part: Part, probabilities: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Return the probabilities of a part's own pixels from those of a window.

        Of a plane that the network sees at another scale.
        """
        size = self.plan.shape
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


class DecodePass:
    """The decoding of one plane.

    Parameters
    ----------
    marks
        Where marks (`cellunet.imaging.decode.seed_and_foreground_mask`) come in.
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
        recipe: InferenceSettings,
        scratch: Scratch,
        rows: int,
    ) -> None:
        self._marks, self._shape, self._recipe = marks, shape, recipe
        self._scratch, self._rows = scratch, rows
        self._encoding, self._decode = recipe.config.encoding, recipe.decode
        halo = decode.halo_px(self._encoding, self._decode)
        self._grid = list(tiles(shape, recipe.memory.tile_px, halo))
        self._seeds = decode.SeedMerger(self._encoding, self._decode)
        self._objects = decode.ObjectMerger(
            self._decode, exclude_border=recipe.exclude_border
        )
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
        way = self._after_all if decode.waits_for_all(self._encoding) else self._at_once
        with closing(way(areas)) as found:
            for grown, offset in asking(self._recipe.should_stop, found):
                self._objects.add(grown, offset)
                self._strips[grown.place] = self._put_aside(grown.pixels)
        self._marks.forget()

    def numbers(self) -> decode.Numbers:
        """Return the final numbers of what `run` found."""
        return self._objects.numbers(self._seeds.numbers())

    def bands(self, numbers: decode.Numbers) -> Iterator[npt.NDArray[np.uint32]]:
        """Yield full-width rows of labels, top to bottom, YX."""

        def final(item: tuple[Area, Kept]) -> npt.NDArray[np.uint32]:
            area, strip = item
            return decode.finalize_block(
                self._scratch.fetch(strip), area.place, numbers
            )

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

    def _seeded(self, area: Area) -> decode.Seeds:
        end = area.y0 + area.height, area.x0 + area.width
        marks = self._marks.read(area.y0, end[0], area.x0, end[1])
        return decode.seed_block(marks, area)

    def _at_once(self, areas: Iterable[Area]) -> Generator[tuple[decode.Grown, int]]:
        """Yield what has grown in each tile, and what its numbers begin after."""

        def whole(area: Area) -> tuple[decode.Seeds, decode.Grown]:
            seeds = self._seeded(area)
            return seeds, decode.grow_block(
                seeds.parts, area, self._encoding, self._decode
            )

        with closing(self._recipe.executor.map(whole, areas)) as found:
            for seeds, grown in found:
                yield grown, self._seeds.add(seeds)

    def _after_all(self, areas: Iterable[Area]) -> Generator[tuple[decode.Grown, int]]:
        """Yield the same where growth has to wait for the seeds of the whole plane."""
        scratch, executor = self._scratch, self._recipe.executor
        left: deque[tuple[Area, Kept, int, int]] = deque()
        with closing(executor.map(self._seeded, areas)) as found:
            for seeds in asking(self._recipe.should_stop, found):
                offset, count = self._seeds.add(seeds), len(seeds.pixels) - 1
                left.append((seeds.area, scratch.keep(seeds.parts), offset, count))
        self._marks.forget()
        numbers = self._seeds.numbers()

        def grow(item: tuple[Area, Kept, int, int]) -> tuple[decode.Grown, int]:
            area, kept, offset, count = item
            same = decode.as_one(numbers[offset + 1 : offset + 1 + count])
            parts = scratch.fetch(kept)
            grown = decode.grow_block(parts, area, self._encoding, self._decode, same)
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


BAND_ROWS = 1024
"""Rows of a band of full-width rows that is read or handed on at once, at most."""

LEAST_ROWS = 16
"""And at least."""


NOTHING = np.zeros(0, np.int64), np.zeros(0)


@dataclass(frozen=True, kw_only=True)
class Segmented:
    """Labels of a plane as bands of rows, and what was seen on the way."""

    count: int
    areas: npt.NDArray[np.int64]
    """Pixels of each object, in the order of their labels."""
    statistics: Statistics
    """Of the plane's intensities in its first channel."""
    bands: Callable[[], Iterator[npt.NDArray[np.uint32]]]
    """Full-width rows of labels, top to bottom; as long as the scratch is open."""
    evidence: Callable[[int, int], npt.NDArray[np.uint8]]
    """``evidence(y0, y1)``: of full-width rows."""
    too_large: int = 0
    """Objects left out because of their area."""
    unsure: tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]] = NOTHING
    """Areas and confidences of others left out as too unsure: what a model is not sure
    of tells how well it knows an image."""
    skipped: float = 0.0
    """Share of the plane that the network did not see, where nothing can be."""


class OnBand(Protocol):
    """Receive rows of corrected probabilities, KYX, from `y0` on, top to bottom."""

    def __call__(self, y0: int, probabilities: npt.NDArray[np.float32]) -> None:
        """Take the rows."""


def segment_plane(
    source: Source,
    plane: int,
    recipe: InferenceSettings,
    scratch: Scratch,
    on_band: OnBand | None = None,
    *,
    statistics: Sequence[Statistics] | None = None,
) -> Segmented:
    """Segment one plane of an image.

    Parameters
    ----------
    source
        The image; of its channels the network sees the first, as many as it looks at.
    plane
        Number of the plane.
    recipe
        Engine and settings.
    scratch
        Room for what is needed again later; the result lives as long as it is open.
    on_band
        Called with the class probabilities if they are wanted.
    statistics
        What the intensities of each channel are scaled by; None: `plane_statistics`.

    Raises
    ------
    ImageReadError
        If the plane cannot be read.
    OutputError
        If there is no room in the scratch.
    Stopped
        If ``recipe.should_stop()`` came true.
    """
    config = recipe.config
    rows, stop = band_rows(source.shape[1], recipe.memory), recipe.should_stop
    seen = config.image_channels
    if statistics is None:
        statistics = plane_statistics(
            source, plane, rows, config.normalization, stop, seen
        )

    def read(y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[np.float32]:
        pixels = source.read(Region(plane, y0, y1, x0, x1))
        return rescale_channels(pixels[:seen], statistics, config.normalization)

    network = NetworkPass(
        read,
        source.shape,
        recipe.scale,
        config.network,
        config.normalization,
        choose=_chooser(source, recipe, statistics, skip=on_band is None),
    )
    marks, sure = scratch.store(), scratch.store()
    bands = _Bands(source.shape[1], config.network.classes, on_band)

    def marked(corrected: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        return decode.seed_and_foreground_mask(
            corrected, config.encoding, recipe.decode, recipe.min_foreground
        )

    empty = marked(background((config.network.classes, 1, 1)))[0, 0]

    def finish(part: Part, pieces: Sequence[Piece]) -> None:
        shape = part.y1 - part.y0, part.x1 - part.x0
        own, certain = np.full(shape, empty), np.full(shape, EVIDENCE_TOP, np.uint8)
        bands.begin(part)
        for piece in pieces:
            corrected = decode.correct(piece.probabilities, recipe.decode.class_odds)
            place = piece.area.within(part)
            own[place], certain[place] = marked(corrected), pixel_confidence(corrected)
            bands.add(piece.area, corrected)
        marks.put(part.y0, part.x0, own)
        sure.put(part.y0, part.x0, certain)
        bands.end(part)

    decoding = DecodePass(marks, source.shape, recipe, scratch, rows)
    width = source.shape[1]

    def told(parts: Iterable[Part]) -> Iterator[Part]:
        for part in parts:
            if part.x1 == width:
                recipe.on_rows(part.y1 - part.y0)
            yield part

    with closing(network.run(recipe.engine, finish, stop)) as parts:
        decoding.run(told(parts))
    numbers = decoding.numbers()
    return Segmented(
        count=numbers.count,
        areas=numbers.areas,
        statistics=statistics[0],
        bands=lambda: asking(stop, decoding.bands(numbers)),
        evidence=lambda y0, y1: sure.read(y0, y1, 0, width),
        skipped=network.skipped,
    )


def background(shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Return the probabilities, KYX, of what is certainly no object."""
    probabilities = np.zeros(shape, np.float32)
    probabilities[0] = 1.0
    return probabilities


def _chooser(
    source: Source,
    recipe: InferenceSettings,
    statistics: Sequence[Statistics],
    *,
    skip: bool,
) -> Choose:
    """Return what says how to choose what the network sees of a plane."""
    norm = recipe.config.normalization

    def choose(plan: Plan, margin_px: int) -> Selection | None:
        noise = None
        # A small plane is seen at once: there is little to gain.
        if skip and recipe.skip and can_be_told(norm) and len(plan.blocks) > 1:
            least = 0.0 if source.dtype.kind == "f" else ROUNDING
            noise = [
                # Pixels that the network sees are means over some of the plane's.
                max(of.noise, least) / (percentile_span(of, norm) or 1.0) * recipe.scale
                for of in statistics
            ]
        if noise is None and recipe.within is None:
            return None
        return Selection(
            recipe.config.network,
            margin_px,
            noise,
            _cells_near(recipe.within, plan.shape) if recipe.within else None,
            any_window=recipe.engine.any_window,
        )

    return choose


WITHIN_PX = 128
"""So far beyond a region objects are whole, in pixels that the network sees."""


def _cells_near(regions: RegionMask, shape: tuple[int, int]) -> Within:
    """Return what says which cells hold objects whose center may lie in a region.

    Parameters
    ----------
    regions
        In pixels of the plane.
    shape
        Height and width of the plane as the network sees it.
    """
    of = [own / seen for own, seen in zip(regions.shape, shape, strict=True)]

    def cells(y0: int, x0: int, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        rows, columns = (
            (start + CELL_PX * np.arange(count)[:, None] + _REACH) * factor
            for start, count, factor in zip((y0, x0), shape, of, strict=True)
        )
        return regions.near(rows, columns)

    return cells


_REACH = np.array([-WITHIN_PX, CELL_PX + WITHIN_PX])
"""From the first pixel of a cell, what may be the center of what lies in it."""


def plane_statistics(
    source: Source,
    plane: int,
    rows: int,
    config: NormalizationConfig,
    should_stop: Callable[[], bool] = lambda: False,
    channels: int | None = None,
) -> tuple[Statistics, ...]:
    """Return statistics of each channel: those of the field, if this is a crop of one.

    Of the first `channels`; None: of all.

    Raises
    ------
    Stopped
        If `should_stop` came true.
    """
    if source.cut_from is not None:
        return source.cut_from.by_channel(config)[:channels]

    def bands() -> Iterator[npt.NDArray[np.generic]]:
        for band in asking(should_stop, channel_bands(source, plane, rows)):
            yield band[:channels]

    return measure_channels(bands, config)


class _Bands:
    """Joins the parts of each row of the network's blocks, if anybody wants them."""

    def __init__(self, width: int, classes: int, on_band: OnBand | None) -> None:
        self._width, self._classes, self._on_band = width, classes, on_band
        self._band, self._top = np.empty((classes, 0, width), np.float32), 0

    def begin(self, part: Part) -> None:
        """Take what is not added for background."""
        if self._on_band is not None and part.x0 == 0:
            self._top = part.y0
            shape = (self._classes, part.y1 - part.y0, self._width)
            self._band = background(shape)

    def add(self, area: Part, probabilities: npt.NDArray[np.float32]) -> None:
        if self._on_band is not None:
            rows = slice(area.y0 - self._top, area.y1 - self._top)
            self._band[:, rows, area.x0 : area.x1] = probabilities

    def end(self, part: Part) -> None:
        if self._on_band is not None and part.x1 == self._width:
            self._on_band(part.y0, self._band)


def band_rows(width: int, memory: Memory) -> int:
    """Return how many full-width rows to hold at once."""
    return min(max(memory.band_pixels // width, LEAST_ROWS), BAND_ROWS)


def pixel_bands(
    source: Source, plane: int, rows: int
) -> Iterator[npt.NDArray[np.generic]]:
    """Yield a plane's first channel in bands of so many full-width rows, YX."""
    for band in channel_bands(source, plane, rows):
        yield band[0]


def channel_bands(
    source: Source, plane: int, rows: int
) -> Iterator[npt.NDArray[np.generic]]:
    """Yield the pixels of a plane in bands of so many full-width rows, CYX."""
    height, width = source.shape
    for y0 in range(0, height, rows):
        yield source.read(Region(plane, y0, min(y0 + rows, height), 0, width))


def as_labels(bands: Iterable[npt.NDArray[np.uint32]]) -> npt.NDArray[np.uint32]:
    """Return the whole plane of bands."""
    return np.concatenate(list(bands))


def with_edge(
    found: Segmented,
    source: Source,
    plane: int,
    recipe: InferenceSettings,
    statistics: Sequence[Statistics],
    scratch: Scratch,
) -> Segmented:
    """Return a plane whose outlines lie at the recipe's fraction of the way inside.

    Parameters
    ----------
    found
        The plane as the model draws it.
    source, plane
        Where its intensities are; those of the first channel count.
    recipe
        Says the fraction, in its decode constants, and the magnification.
    statistics
        Of the plane's channels.
    scratch
        Room for the labels, as long as the result is used.
    """
    fraction = recipe.decode.edge
    if not fraction or not found.count:
        return found
    reach = Reach.at(recipe.scale)
    height, width = source.shape

    def soft(y0: int, rows: int) -> npt.NDArray[np.int64]:
        pixels = source.read(Region(plane, y0, y0 + rows, 0, width))[:1]
        # Half way is half way whatever the network sees.
        norm = recipe.config.normalization.replace(curve="linear")
        return smoothed(rescale_channels(pixels, statistics[:1], norm)[0], reach)

    def blocks() -> Iterator[Rows]:
        return with_halo(found.bands(), height, reach.halo_px)

    levels = Levels(found.count)
    for top, labels, core in blocks():
        levels.add(labels, soft(top, len(labels)), (core, slice(None)), reach)
    thresholds = levels.thresholds(fraction)
    kept, areas, ends = scratch.store(), np.zeros(found.count + 1, np.int64), [0]
    for top, labels, core in blocks():
        rows = moved(labels, soft(top, len(labels)), thresholds, reach)[core]
        areas += np.bincount(rows.ravel(), minlength=len(areas))
        kept.put(ends[-1], 0, rows.astype(np.uint32))
        ends.append(ends[-1] + len(rows))

    def bands() -> Iterator[npt.NDArray[np.uint32]]:
        for y0, y1 in pairwise(ends):
            yield kept.read(y0, y1, 0, width)

    return replace(found, areas=areas[1:], bands=bands)


def with_halo(
    bands: Iterable[npt.NDArray[np.uint32]], height: int, halo: int
) -> Iterator[Rows]:
    """Yield bands of rows with their neighbors: first row, labels, and what is new.

    Examples
    --------
    >>> bands = [np.full((2, 1), number, np.uint32) for number in (1, 2, 3)]
    >>> [(y, rows.ravel().tolist(), core) for y, rows, core in with_halo(bands, 6, 1)]
    ... # doctest: +NORMALIZE_WHITESPACE
    [(0, [1, 1, 2], slice(0, 2, None)),
     (1, [1, 2, 2, 3], slice(1, 3, None)),
     (3, [2, 3, 3], slice(1, 3, None))]
    """
    waiting: list[tuple[int, int]] = []
    held = np.zeros((0, 0), np.int32)
    top = stop = 0
    for band in bands:
        rows = band.astype(np.int32)
        held = np.concatenate((held, rows)) if len(held) else rows
        waiting.append((stop, stop + len(rows)))
        stop += len(rows)
        while waiting and (stop >= waiting[0][1] + halo or stop == height):
            y0, y1 = waiting.pop(0)
            first, last = max(y0 - halo, 0), min(y1 + halo, height)
            core = slice(y0 - first, y1 - first)
            yield first, held[first - top : last - top], core
            # Rows above the next band's halo are done with.
            done = max(y1 - halo, 0) - top
            held, top = (held[done:], top + done) if done > 0 else (held, top)


def segment(
    source: Source,
    plane: int,
    recipe: InferenceSettings,
    scratch: Scratch,
    on_band: OnBand | None = None,
    *,
    statistics: Sequence[Statistics] | None = None,
) -> Segmented:
    """Segment one plane, as `segment_plane` does, at one magnification or two.

    Where the recipe names a further one, large objects are taken from the first and
    others from the further one. Probabilities are those of the first.
    Then outlines are put where the recipe's `DecodeConfig.edge` says, and objects that
    are too large or too unsure are dropped.
    """
    if statistics is None:
        rows, seen = band_rows(source.shape[1], recipe.memory), recipe.config
        statistics = plane_statistics(
            source,
            plane,
            rows,
            seen.normalization,
            recipe.should_stop,
            seen.image_channels,
        )
    found = _seen(source, plane, recipe, scratch, on_band, statistics)
    found = with_edge(found, source, plane, recipe, statistics, scratch)
    if recipe.within is not None:
        found = _kept(found, recipe.within.holds(*centers(found)))
    return without_unwanted(found, recipe)


def centers(
    found: Segmented,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the row and the column of the center of mass of each object."""
    sums, top = np.zeros((2, found.count + 1)), 0
    for rows in found.bands():
        y, x = np.nonzero(rows)
        labels = rows[y, x]
        for own, place in zip(sums, (y + top, x), strict=True):
            # Whole numbers below 2^53: exact in any order.
            own += np.bincount(labels, place, len(own))
        top += len(rows)
    y, x = sums[:, 1:] / np.maximum(found.areas, 1)
    return y, x


def without_unwanted(found: Segmented, recipe: InferenceSettings) -> Segmented:
    """Return a plane without objects that are too large or too unsure for the recipe.

    Areas and confidences are those that tables tell, of the final labels, so that no
    tile changes what is dropped.
    """
    kept, unsure = np.ones(found.count, np.bool_), NOTHING
    if recipe.max_area_px is not None:
        kept = found.areas <= recipe.max_area_px
    too_large = found.count - int(kept.sum())
    if recipe.decode.min_confidence > 0:
        confidences, y0 = Confidences(found.areas), 0
        for rows in found.bands():
            confidences.add(rows, found.evidence(y0, y0 + len(rows)))
            y0 += len(rows)
        means = confidences.means()
        low = kept & (means < recipe.decode.min_confidence)
        kept, unsure = kept & ~low, (found.areas[low], means[low])
    return replace(_kept(found, kept), too_large=too_large, unsure=unsure)


def _kept(found: Segmented, kept: npt.NDArray[np.bool_]) -> Segmented:
    """Return a plane with those of its objects alone that are to be kept."""
    if kept.all():
        return found
    numbers = decode.new_numbers(kept)
    return replace(
        found,
        count=int(kept.sum()),
        areas=found.areas[kept],
        bands=lambda: (numbers[rows] for rows in found.bands()),
    )


def _seen(
    source: Source,
    plane: int,
    recipe: InferenceSettings,
    scratch: Scratch,
    on_band: OnBand | None,
    statistics: Sequence[Statistics],
) -> Segmented:
    first = segment_plane(
        source, plane, recipe, scratch, on_band, statistics=statistics
    )
    if recipe.added is None:
        return first
    further = replace(
        recipe, scale=recipe.added.scale, decode=recipe.added.decode, added=None
    )
    second = segment_plane(source, plane, further, scratch, statistics=statistics)
    large = first.areas > math.pi / 4 * recipe.added.large_px**2
    return _Both(first, second, large).segmented(scratch)


@dataclass(frozen=True)
class _Both:
    """Two ways in which one plane was seen."""

    first: Segmented
    second: Segmented
    large: npt.NDArray[np.bool_]
    """Which objects of the first are larger than any that the second is for."""

    def segmented(self, scratch: Scratch) -> Segmented:
        """Return the large objects of the first, and others from where they are best.

        Those of the second that touch none of the large ones; and of the first what
        is small and touches none of these.
        """
        second = self._apart(self.second, self.first, self.large)
        small = self._apart(self.first, self.second, second)
        first = self.large | small
        numbers = (
            decode.new_numbers(first),
            decode.new_numbers(second, int(first.sum())),
        )
        sure = scratch.store()
        for y0, ours, theirs in self._bands():
            y1, width = y0 + len(ours), ours.shape[1]
            evidence = self.first.evidence(y0, y1)
            added = (numbers[0][ours] == 0) & (numbers[1][theirs] > 0)
            evidence[added] = self.second.evidence(y0, y1)[added]
            sure.put(y0, 0, evidence)
        areas = np.concatenate((self.first.areas[first], self.second.areas[second]))

        def bands() -> Iterator[npt.NDArray[np.uint32]]:
            for _, ours, theirs in self._bands():
                # No pixel has two numbers: what overlaps was left out.
                yield numbers[0][ours] + numbers[1][theirs]

        return replace(
            self.first,
            skipped=(self.first.skipped + self.second.skipped) / 2,
            count=len(areas),
            areas=areas,
            bands=bands,
            evidence=lambda y0, y1: sure.read(y0, y1, 0, width),
        )

    def _apart(
        self, of: Segmented, others: Segmented, kept: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Return which objects share no pixel with the others that are kept."""
        shared = np.zeros(of.count + 1, np.int64)
        there = np.concatenate(([False], kept))
        for ours, theirs in zip(of.bands(), others.bands(), strict=True):
            shared += np.bincount(ours[there[theirs]], minlength=len(shared))
        apart: npt.NDArray[np.bool_] = shared[1:] == 0
        return apart

    def _bands(
        self,
    ) -> Iterator[tuple[int, npt.NDArray[np.uint32], npt.NDArray[np.uint32]]]:
        """Yield rows of both, from row y0 on; both are cut alike."""
        y0 = 0
        for first, second in zip(self.first.bands(), self.second.bands(), strict=True):
            yield y0, first, second
            y0 += len(first)
