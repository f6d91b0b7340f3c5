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
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cellunet.imaging import decode
from cellunet.imaging.blocks import BlockArea
from cellunet.imaging.growth import ContrastSums, OutlineReach, moved, smoothed
from cellunet.imaging.measure import Confidences
from cellunet.imaging.normalize import measure_channels, rescale_channels
from cellunet.io.scratch import PlaneStore, SharedScratch
from cellunet.io.source import Region
from cellunet.tasks.predict.blocks import (
    Backend,
    DecodeStep,
    SeededTile,
    SharedNetworkStep,
    Tile,
    network_step,
)
from cellunet.tasks.predict.settings import at_scale
from cellunet.tasks.scheduling import SerialExecutor, ThreadExecutor, overlapped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, NormalizationConfig
    from cellunet.imaging.blocks import GridIndex
    from cellunet.imaging.empty import Rectangle
    from cellunet.io.scratch import Kept, Scratch
    from cellunet.io.source import Source, Statistics
    from cellunet.tasks.predict.blocks import (
        GrownTile,
        NetworkBlock,
        NetworkResult,
        NetworkStep,
        WindowValues,
    )
    from cellunet.tasks.predict.settings import InferenceSettings, Memory
    from cellunet.tasks.scheduling import Executor

    OnBand = Callable[[int, npt.NDArray[np.float32]], None]
    """Receives rows of corrected probabilities, KYX, from ``y0`` on, top to bottom."""

    Rows = tuple[int, npt.NDArray[np.int32], slice]

T = TypeVar("T")


class PredictionStopped(Exception):  # noqa: N818
    """The caller asked to stop; nothing of the plane is left behind."""


def asking(should_stop: Callable[[], bool], items: Iterable[T]) -> Iterator[T]:
    """Yield items as long as nobody asks to stop.

    Raises
    ------
    PredictionStopped
        If somebody does.
    """
    for item in items:
        if should_stop():
            raise PredictionStopped
        yield item


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
    step
        What is done to a tile.
    executor
        What does it; None: that of the recipe.
    """

    def __init__(
        self,
        marks: PlaneStore,
        shape: tuple[int, int],
        recipe: InferenceSettings,
        step: DecodeStep,
        executor: Executor | None = None,
    ) -> None:
        self._marks, self._shape, self._recipe = marks, shape, recipe
        self._step, self._executor = step, executor or recipe.executor
        encoding, constants = step.encoding, step.decode
        halo = decode.halo_px(encoding, constants)
        self._grid = list(tiles(shape, recipe.memory.tile_px, halo))
        self._seeds = decode.SeedMerger(encoding, constants)
        self._objects = decode.ObjectMerger(constants)
        self._strips: dict[GridIndex, list[Kept]] = {}

    def run(self, parts: Iterable[object]) -> None:
        """Decode all tiles but for their final numbers.

        Parameters
        ----------
        parts
            Yields something whenever more marks may be there, and ends when all are.

        Raises
        ------
        PredictionStopped
            If the recipe's `should_stop` came true.
        """
        areas = _ready([area for row in self._grid for area in row], parts, self._marks)
        waits = decode.waits_for_all(self._step.encoding)
        way = self._after_all if waits else self._at_once
        with closing(way(map(self._tile, areas))) as found:
            for (grown, strips), offset in asking(self._recipe.should_stop, found):
                self._objects.add(grown, offset)
                self._strips[grown.place] = strips
        self._marks.forget()

    def numbers(self) -> decode.FinalNumbers:
        """Return the final numbers of what `run` found."""
        return self._objects.numbers(self._seeds.numbers())

    def bands(self, numbers: decode.FinalNumbers) -> Iterator[npt.NDArray[np.uint32]]:
        """Yield full-width rows of labels, top to bottom, YX."""

        def final(item: tuple[BlockArea, Kept]) -> npt.NDArray[np.uint32]:
            area, strip = item
            pixels = self._step.room.fetch(strip)
            return decode.finalize_block(pixels, area.place, numbers)

        with closing(self._recipe.executor.map(final, self._in_bands())) as strips:
            for row in self._grid:
                for strip in self._strips[row[0].place]:
                    band = np.empty((strip.shape[0], self._shape[1]), np.uint32)
                    for area in row:
                        core, pixels = area.core[1], next(strips)
                        band[:, area.x0 + core.start : area.x0 + core.stop] = pixels
                    yield band

    def _in_bands(self) -> Iterator[tuple[BlockArea, Kept]]:
        """Yield the strips of the tiles, those of a band of rows left to right."""
        for row in self._grid:
            for strips in zip(*(self._strips[area.place] for area in row), strict=True):
                yield from zip(row, strips, strict=True)

    def _tile(self, area: BlockArea) -> Tile:
        y1, x1 = area.y0 + area.height, area.x0 + area.width
        return Tile(area, self._marks.within(area.y0, y1, area.x0, x1))

    def _at_once(self, tiles: Iterable[Tile]) -> Generator[tuple[GrownTile, int]]:
        """Yield what has grown in each tile, and what its numbers begin after."""
        with closing(self._executor.map(self._step.whole, tiles)) as found:
            for seeds, grown in found:
                yield grown, self._seeds.add(seeds)

    def _after_all(self, tiles: Iterable[Tile]) -> Generator[tuple[GrownTile, int]]:
        """Yield the same where growth has to wait for the seeds of the whole plane."""
        left: deque[tuple[BlockArea, Kept, int, int]] = deque()
        with closing(self._executor.map(self._step.seed, tiles)) as found:
            for seeds, kept in asking(self._recipe.should_stop, found):
                offset, count = self._seeds.add(seeds), len(seeds.pixels) - 1
                left.append((seeds.area, kept, offset, count))
        self._marks.forget()
        numbers = self._seeds.numbers()

        def seeded() -> Iterator[SeededTile]:
            # What has been grown is forgotten: the list would hold its memory.
            while left:
                area, kept, offset, count = left.popleft()
                same = decode.as_one(numbers[offset + 1 : offset + 1 + count])
                yield SeededTile(area, kept, offset, same)

        yield from self._executor.map(self._step.grow, seeded())


def _ready(
    areas: Iterable[BlockArea], parts: Iterable[object], marks: PlaneStore
) -> Iterator[BlockArea]:
    """Yield areas, in their order, each as soon as all marks of it are there."""
    left = deque(areas)
    for _ in parts:
        while left and marks.holds(
            left[0].y0 + left[0].height, left[0].x0 + left[0].width
        ):
            yield left.popleft()
    # None, unless the parts do not cover the plane; then reading says so.
    yield from left


def tiles(shape: tuple[int, int], tile_px: int, halo: int) -> Iterator[list[BlockArea]]:
    """Yield the decoding tiles of a plane, a list per row of tiles."""
    height, width = shape
    for i, y0 in enumerate(range(0, height, tile_px)):
        row = []
        for j, x0 in enumerate(range(0, width, tile_px)):
            top, left = max(y0 - halo, 0), max(x0 - halo, 0)
            y1, x1 = min(y0 + tile_px, height), min(x0 + tile_px, width)
            row.append(
                BlockArea(
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
    known: npt.NDArray[np.float64] | None = None
    """Its `confidences`, if they were added up already."""

    @cached_property
    def confidences(self) -> npt.NDArray[np.float64]:
        """Confidence of each object, in the order of their labels."""
        if self.known is not None:
            return self.known
        found, y0 = Confidences(self.areas), 0
        for rows in self.bands():
            found.add(rows, self.evidence(y0, y0 + len(rows)))
            y0 += len(rows)
        return found.means()


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
    PredictionStopped
        If ``recipe.should_stop()`` came true.
    """
    rows = band_rows(source.shape[1], recipe.memory)
    if statistics is None:
        statistics = statistics_for(source, plane, recipe)
    backend = recipe.elsewhere or Backend(
        recipe.engine, source, scratch, recipe.executor
    )
    network = network_step(plane, recipe, backend, statistics, maps=on_band is not None)
    seen = _SeenPlane(source.shape, network, on_band)
    step = DecodeStep(
        encoding=recipe.config.encoding,
        decode=_before_edge(recipe),
        room=backend.room,
        rows=rows,
        key=f"{network.key}-{recipe.memory.tile_px}",
    )
    decoding = DecodePass(seen.marks, source.shape, recipe, step, backend.executor)

    def told(parts: Iterable[Rectangle]) -> Iterator[Rectangle]:
        for part in parts:
            if part.x1 == source.shape[1]:
                recipe.on_rows(part.y1 - part.y0)
            yield part

    blocks = network.blocks(recipe.within)
    with closing(seen.parts(blocks, backend.executor, recipe.should_stop)) as parts:
        decoding.run(told(parts))
    numbers = decoding.numbers()
    return Segmented(
        count=numbers.count,
        areas=numbers.areas,
        statistics=statistics[0],
        bands=lambda: asking(recipe.should_stop, decoding.bands(numbers)),
        evidence=lambda y0, y1: seen.sure.read(y0, y1, 0, source.shape[1]),
        skipped=seen.skipped,
    )


def _before_edge(recipe: InferenceSettings) -> DecodeConfig:
    """Return the constants by which a plane is decoded before outlines are moved.

    An area asked for is that of the final outline: what is smaller may grow yet.
    """
    if recipe.min_area_px is None or not recipe.decode.edge:
        return recipe.decode
    trained = at_scale(recipe.config.decode, recipe.scale).min_area_px
    least = min(recipe.min_area_px, trained)
    return recipe.decode.replace(min_area_px=least)


def statistics_for(
    source: Source, plane: int, recipe: InferenceSettings
) -> tuple[Statistics, ...]:
    """Return statistics of the channels that a recipe's model looks at."""
    return plane_statistics(
        source,
        plane,
        band_rows(source.shape[1], recipe.memory),
        recipe.config.normalization,
        recipe.should_stop,
        recipe.config.image_channels,
    )


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
    PredictionStopped
        If `should_stop` came true.
    """
    if source.cut_from is not None:
        return source.cut_from.by_channel(config)[:channels]

    def bands() -> Iterator[npt.NDArray[np.generic]]:
        # The next band is read while one is measured.
        read = ThreadExecutor(1) if source.shape[0] > rows else SerialExecutor()
        with closing(read.map(source.read, _regions(source, plane, rows))) as found:
            for band in asking(should_stop, found):
                yield band[:channels]

    return measure_channels(bands, config)


class _SeenPlane:
    """What the network makes of a plane, part by part.

    Parameters
    ----------
    shape
        Height and width of the plane.
    step
        What is done to a block.
    on_band
        Takes the probabilities of each row of blocks, if anybody wants them.
    """

    def __init__(
        self, shape: tuple[int, int], step: NetworkStep, on_band: OnBand | None
    ) -> None:
        self._width, self._step, self._on_band = shape[1], step, on_band
        self.marks, self.sure = PlaneStore(step.room), PlaneStore(step.room)
        self._band = np.empty((0, 0, 0), np.float32)
        self._asked_px = self._seen_px = 0

    @property
    def skipped(self) -> float:
        """Share that the network did not see, of all that was asked for."""
        return 1.0 - self._seen_px / self._asked_px if self._asked_px else 0.0

    def parts(
        self,
        blocks: Iterable[NetworkBlock],
        executor: Executor,
        should_stop: Callable[[], bool],
    ) -> Generator[Rectangle]:
        """Yield each part, in raster order, when all of it is there. To be closed.

        Here the next window is read, and the part before finished, while the network
        computes; elsewhere each block is a task by itself.

        Raises
        ------
        PredictionStopped
            If `should_stop` came true.
        CheckpointError
            If the network does not compute numbers.
        """
        step = self._step
        if isinstance(step.room, SharedScratch):
            shared = SharedNetworkStep(step=step, room=step.room)
            with closing(executor.map(shared, blocks)) as found:
                yield from map(self._take, found)
            return

        def finish(item: NetworkBlock, views: Sequence[WindowValues]) -> Rectangle:
            return self._take(step.finish(item, views))

        # For a single block threads would have nothing to do beside it.
        beside = ThreadExecutor(1) if len(step.plan.blocks) > 1 else SerialExecutor()
        asked = asking(should_stop, blocks)
        yield from overlapped(asked, step.prepare, step.compute, finish, beside)

    def _take(self, seen: NetworkResult) -> Rectangle:
        part = seen.part
        self._asked_px += seen.asked_px
        self._seen_px += seen.seen_px
        self.marks.add(part.y0, part.x0, seen.marks)
        self.sure.add(part.y0, part.x0, seen.sure)
        if self._on_band is not None:
            probabilities = self._step.room.fetch(seen.probabilities)
            if part.x0 == 0:
                shape = *probabilities.shape[:2], self._width
                self._band = np.empty(shape, np.float32)
            self._band[:, :, part.x0 : part.x1] = probabilities
            if part.x1 == self._width:
                self._on_band(part.y0, self._band)
        return part


def band_rows(width: int, memory: Memory) -> int:
    """Return how many full-width rows to hold at once."""
    return min(max(memory.band_pixels // width, LEAST_ROWS), BAND_ROWS)


def channel_bands(
    source: Source, plane: int, rows: int
) -> Iterator[npt.NDArray[np.generic]]:
    """Yield the pixels of a plane in bands of so many full-width rows, CYX."""
    yield from map(source.read, _regions(source, plane, rows))


def _regions(source: Source, plane: int, rows: int) -> Iterator[Region]:
    """Yield the bands of a plane, of so many full-width rows."""
    height, width = source.shape
    for y0 in range(0, height, rows):
        yield Region(plane, y0, min(y0 + rows, height), 0, width)


def as_labels(bands: Iterable[npt.NDArray[np.uint32]]) -> npt.NDArray[np.uint32]:
    """Return the whole plane of bands."""
    return np.concatenate(list(bands))


def with_edge(  # noqa: PLR0913
    found: Segmented,
    source: Source,
    plane: int,
    recipe: InferenceSettings,
    statistics: Sequence[Statistics],
    scratch: Scratch,
    own: slice = slice(None),
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
    own
        The objects whose outlines are moved, by their order; others stay as they are.
    """
    fraction = recipe.decode.edge
    if not fraction or not found.count:
        return found
    reach = OutlineReach.at(recipe.scale)
    height, width = source.shape

    def soft(y0: int, rows: int) -> npt.NDArray[np.int64]:
        pixels = source.read(Region(plane, y0, y0 + rows, 0, width))[:1]
        # Half way is half way whatever the network sees.
        norm = recipe.config.normalization.replace(curve="linear")
        return smoothed(rescale_channels(pixels, statistics[:1], norm)[0], reach)

    def blocks() -> Iterator[Rows]:
        return with_halo(found.bands(), height, reach.halo_px)

    levels = ContrastSums(found.count)
    for top, labels, core in blocks():
        levels.add(labels, soft(top, len(labels)), (core, slice(None)), reach)
    thresholds = np.full(found.count + 1, np.nan)
    thresholds[1:][own] = levels.thresholds(fraction)[1:][own]
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
    are unwanted are dropped.
    """
    if statistics is None:
        statistics = statistics_for(source, plane, recipe)
    found = _seen(source, plane, recipe, scratch, on_band, statistics)
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


def at_border(found: Segmented) -> npt.NDArray[np.bool_]:
    """Return which objects touch the frame of the plane."""
    touching = np.zeros(found.count + 1, np.bool_)
    top: npt.NDArray[np.uint32] | None = None
    for rows in found.bands():
        top = rows[0] if top is None else top
        touching[rows[:, [0, -1]]] = True
    touching[top], touching[rows[-1]] = True, True
    return touching[1:]


def without_unwanted(found: Segmented, recipe: InferenceSettings) -> Segmented:
    """Return a plane without objects that the recipe leaves out.

    Borders, areas and confidences are those that tables tell, of the final labels, so
    that no tile changes what is dropped.
    """
    kept, unsure, too_large = np.ones(found.count, np.bool_), NOTHING, 0
    if recipe.exclude_border:
        kept &= ~at_border(found)
    if recipe.min_area_px is not None:
        kept &= found.areas >= recipe.min_area_px
    if recipe.max_area_px is not None:
        large = kept & (found.areas > recipe.max_area_px)
        kept, too_large = kept & ~large, int(large.sum())
    if recipe.decode.min_confidence > 0:
        means = found.confidences
        found = replace(found, known=means)
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
        known=None if found.known is None else found.known[kept],
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
        return with_edge(first, source, plane, recipe, statistics, scratch)
    further = replace(
        recipe, scale=recipe.added.scale, decode=recipe.added.decode, added=None
    )
    second = segment_plane(source, plane, further, scratch, statistics=statistics)
    large = first.areas > math.pi / 4 * recipe.added.large_px**2
    found, count = _Both(first, second, large).segmented(scratch)
    # How far an outline moves follows from the magnification that drew it.
    looks = (recipe, slice(count)), (further, slice(count, None))
    for look, own in looks:
        found = with_edge(found, source, plane, look, statistics, scratch, own)
    return found


@dataclass(frozen=True)
class _Both:
    """Two ways in which one plane was seen."""

    first: Segmented
    second: Segmented
    large: npt.NDArray[np.bool_]
    """Which objects of the first are larger than any that the second is for."""

    def segmented(self, scratch: Scratch) -> tuple[Segmented, int]:
        """Return the large objects of the first, and others from where they are best.

        Those of the second that touch none of the large ones; and of the first what
        is small and touches none of these. Also returns how many, ahead of the others,
        are of the first.
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
            added = (numbers[0][ours] == 0) & (numbers[1][theirs] > 0)
            looks = (look.evidence(y0, y1) for look in (self.second, self.first))
            sure.put(y0, 0, np.where(added, *looks))
        areas = np.concatenate((self.first.areas[first], self.second.areas[second]))

        def bands() -> Iterator[npt.NDArray[np.uint32]]:
            for _, ours, theirs in self._bands():
                # No pixel has two numbers: what overlaps was left out.
                yield numbers[0][ours] + numbers[1][theirs]

        found = replace(
            self.first,
            skipped=(self.first.skipped + self.second.skipped) / 2,
            count=len(areas),
            areas=areas,
            bands=bands,
            evidence=lambda y0, y1: sure.read(y0, y1, 0, width),
        )
        return found, int(first.sum())

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
