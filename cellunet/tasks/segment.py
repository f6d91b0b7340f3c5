"""One plane through the whole of prediction: statistics, network, decoding.

The network runs on one grid (`blocks.plan`), decoding on tiles of any size. What is in
between (marks, evidence, provisional labels) passes through a `Scratch`, so that no
array is as large as the plane.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from cellunet.imaging.blocks import Area
from cellunet.imaging.decoding import ObjectMerger, finalize_block, grow_block
from cellunet.imaging.encoding import correct
from cellunet.imaging.evidence import evidence
from cellunet.imaging.files import Region
from cellunet.imaging.normalize import measure, scale
from cellunet.imaging.seeds import SeedMerger, halo_px, mark, seed_block
from cellunet.run.executor import SerialExecutor
from cellunet.run.memory import Memory
from cellunet.tasks.network_pass import NetworkPass, Part, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, NormalizationConfig, TrainConfig
    from cellunet.engine.base import Engine
    from cellunet.imaging.blocks import Place
    from cellunet.imaging.decoding import Grown, Numbers
    from cellunet.imaging.files import Source
    from cellunet.imaging.normalize import Statistics
    from cellunet.imaging.scratch import Kept, PlaneStore, Scratch
    from cellunet.imaging.seeds import Seeds
    from cellunet.run.executor import Executor

__all__ = ["OnBand", "Recipe", "Segmented", "Stopped", "as_labels", "segment_plane"]

T = TypeVar("T")
BAND_ROWS = 1024
"""Rows of a band of full-width rows that is read or handed on at once, at most."""
LEAST_ROWS = 16
"""And at least."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a plane's labels depend on, the pixels aside."""

    engine: Engine
    config: TrainConfig
    decode: DecodeConfig
    scale: float = 1.0
    exclude_border: bool = False
    memory: Memory = Memory()  # noqa: RUF009
    executor: Executor = SerialExecutor()  # noqa: RUF009
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, kw_only=True)
class Segmented:
    """Labels of a plane as bands of rows, and what was seen on the way."""

    count: int
    areas: npt.NDArray[np.int64]
    """Pixels of each object, in the order of their labels."""
    statistics: Statistics
    """Of the plane's intensities."""
    bands: Callable[[], Iterator[npt.NDArray[np.uint32]]]
    """Full-width rows of labels, top to bottom; as long as the scratch is open."""
    evidence: Callable[[int, int], npt.NDArray[np.uint8]]
    """``evidence(y0, y1)``: of full-width rows (`cellunet.imaging.evidence`)."""


class OnBand(Protocol):
    """Receive rows of corrected probabilities, KYX, from `y0` on, top to bottom."""

    def __call__(self, y0: int, probabilities: npt.NDArray[np.float32]) -> None:
        """Take the rows."""


def segment_plane(
    source: Source,
    plane: int,
    recipe: Recipe,
    scratch: Scratch,
    on_band: OnBand | None = None,
    *,
    statistics: Statistics | None = None,
) -> Segmented:
    """Segment one plane of an image.

    Parameters
    ----------
    source
        The image.
    plane
        Number of the plane.
    recipe
        Engine and settings.
    scratch
        Room for what is needed again later; the result lives as long as it is open.
    on_band
        Called with the class probabilities if they are wanted.
    statistics
        What intensities are scaled by; None: `plane_statistics`.

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
    if statistics is None:
        statistics = plane_statistics(source, plane, rows, config.normalization, stop)

    def read(y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[np.float32]:
        pixels = source.read(Region(plane, y0, y1, x0, x1))[0]
        return scale(pixels, statistics, config.normalization)[np.newaxis]

    network = NetworkPass(
        read, source.shape, recipe.scale, config.network, config.normalization
    )
    marks, sure = scratch.store(), scratch.store()
    bands = _Bands(source.shape[1], config.network.classes, on_band)

    def finish(part: Part, probabilities: npt.NDArray[np.float32]) -> None:
        corrected = correct(probabilities, recipe.decode.class_odds)
        marks.put(part.y0, part.x0, mark(corrected, config.encoding, recipe.decode))
        sure.put(part.y0, part.x0, evidence(corrected))
        bands.put(part, corrected)

    network.run(recipe.engine, finish, stop)
    numbers, labels = _decode(marks, source.shape, recipe, scratch)
    width = source.shape[1]
    return Segmented(
        count=numbers.count,
        areas=numbers.areas,
        statistics=statistics,
        bands=lambda: asking(stop, labels()),
        evidence=lambda y0, y1: sure.read(y0, y1, 0, width),
    )


def plane_statistics(
    source: Source,
    plane: int,
    rows: int,
    config: NormalizationConfig,
    should_stop: Callable[[], bool] = lambda: False,
) -> Statistics:
    """Return a plane's statistics: those of its field, if it is a crop of one.

    Raises
    ------
    Stopped
        If `should_stop` came true.
    """
    if source.cut_from is not None:
        return source.cut_from.statistics_for(config)
    return measure(
        lambda: asking(should_stop, pixel_bands(source, plane, rows)), config
    )


class _Bands:
    """Joins the parts of each row of the network's blocks, if anybody wants them."""

    def __init__(self, width: int, classes: int, on_band: OnBand | None) -> None:
        self._width, self._classes, self._on_band = width, classes, on_band
        self._band = np.empty((classes, 0, width), np.float32)

    def put(self, part: Part, probabilities: npt.NDArray[np.float32]) -> None:
        if self._on_band is None:
            return
        if part.x0 == 0:
            shape = (self._classes, part.y1 - part.y0, self._width)
            self._band = np.empty(shape, np.float32)
        self._band[:, :, part.x0 : part.x1] = probabilities
        if part.x1 == self._width:
            self._on_band(part.y0, self._band)


def _decode(
    marks: PlaneStore, shape: tuple[int, int], recipe: Recipe, scratch: Scratch
) -> tuple[Numbers, Callable[[], Iterator[npt.NDArray[np.uint32]]]]:
    """Return the numbers of a plane's objects, and its labels in bands."""
    encoding, decode = recipe.config.encoding, recipe.decode
    grid = list(tiles(shape, recipe.memory.tile_px, halo_px(encoding, decode)))
    areas = [area for row in grid for area in row]
    parts, tables = _seeds(marks, areas, recipe, scratch)
    marks.forget()
    objects = ObjectMerger(decode, exclude_border=recipe.exclude_border)
    strips: dict[Place, list[Kept]] = {}
    rows = band_rows(shape[1], recipe.memory)

    def grow(item: tuple[Area, Kept]) -> Grown:
        area, kept = item
        table = tables[area.place]
        grown = grow_block(scratch.fetch(kept), area, table, encoding, decode)
        scratch.forget(kept)
        return grown

    # What has been grown is forgotten: the list would hold its memory.
    left = ((area, parts.popleft()) for area in areas)
    for grown in asking(recipe.should_stop, recipe.executor.map(grow, left)):
        objects.add(grown)
        strips[grown.place] = [
            scratch.keep(grown.pixels[top : top + rows])
            for top in range(0, len(grown.pixels), rows)
        ]
    numbers = objects.numbers()

    def labels() -> Iterator[npt.NDArray[np.uint32]]:
        for row in grid:
            for kept in zip(*(strips[area.place] for area in row), strict=True):
                band = np.empty((kept[0].shape[0], shape[1]), np.uint32)
                for area, part in zip(row, kept, strict=True):
                    x0 = area.x0 + area.core[1].start
                    final = finalize_block(scratch.fetch(part), area.place, numbers)
                    band[:, x0 : x0 + final.shape[1]] = final
                yield band

    return numbers, labels


def _seeds(
    marks: PlaneStore, areas: list[Area], recipe: Recipe, scratch: Scratch
) -> tuple[deque[Kept], dict[Place, npt.NDArray[np.int64]]]:
    """Return the components of each area, put aside, and their global numbers."""
    merger = SeedMerger(recipe.config.encoding, recipe.decode)
    parts: deque[Kept] = deque()
    found = recipe.executor.map(lambda area: _seeded(marks, area), areas)
    for seeded in asking(recipe.should_stop, found):
        merger.add(seeded)
        parts.append(scratch.keep(seeded.parts))
    return parts, merger.tables()


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


def _seeded(marks: PlaneStore, area: Area) -> Seeds:
    end = area.y0 + area.height, area.x0 + area.width
    return seed_block(marks.read(area.y0, end[0], area.x0, end[1]), area)


def band_rows(width: int, memory: Memory) -> int:
    """Return how many full-width rows to hold at once."""
    return min(max(memory.band_pixels // width, LEAST_ROWS), BAND_ROWS)


def pixel_bands(
    source: Source, plane: int, rows: int
) -> Iterator[npt.NDArray[np.generic]]:
    """Yield the pixels of a plane in bands of so many full-width rows, YX."""
    height, width = source.shape
    for y0 in range(0, height, rows):
        yield source.read(Region(plane, y0, min(y0 + rows, height), 0, width))[0]


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


def as_labels(bands: Iterable[npt.NDArray[np.uint32]]) -> npt.NDArray[np.uint32]:
    """Return the whole plane of bands."""
    return np.concatenate(list(bands))
