"""One plane through the whole of prediction: statistics, network, decoding.

The network runs on one grid (`blocks.plan`), row of blocks by row of blocks; decoding
runs on tiles of any size. Only the rows of probabilities that a tile still needs are
kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cellunet.engine.base import block_probabilities
from cellunet.imaging.blocks import Area, network_plan
from cellunet.imaging.decoding import finalize_block, grow_block, merge_objects
from cellunet.imaging.encoding import correct
from cellunet.imaging.files import Region
from cellunet.imaging.normalize import channels, measure, scale
from cellunet.imaging.resample import resampled, target_length
from cellunet.imaging.seeds import Seeds, halo_px, merge_seeds, seed_block
from cellunet.run.executor import SerialExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, TrainConfig
    from cellunet.engine.base import Engine
    from cellunet.imaging.files import Source
    from cellunet.imaging.normalize import Statistics
    from cellunet.run.executor import Executor

    Read = Callable[[int, int, int, int], npt.NDArray[np.float32]]

BAND_PX = 512
"""Rows read at once for the statistics."""


class Stopped(Exception):  # noqa: N818
    """The caller asked to stop; nothing of the plane is left behind."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a plane's labels depend on, the pixels aside."""

    engine: Engine
    config: TrainConfig
    decode: DecodeConfig
    scale: float = 1.0
    exclude_border: bool = False
    tile_px: int = 1024
    executor: Executor = SerialExecutor()  # noqa: RUF009
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, kw_only=True)
class Segmented:
    """Labels of a plane as bands of rows, and what was seen on the way."""

    count: int
    bands: Callable[[], Iterator[npt.NDArray[np.uint32]]]
    """As high as those that `OnBand` received."""
    areas: npt.NDArray[np.int64]
    """Pixels of each object, in the order of their labels."""
    statistics: Statistics
    """Of the plane's intensities."""


class OnBand(Protocol):
    """Receive rows of corrected probabilities, KYX, from `y0` on, top to bottom."""

    def __call__(self, y0: int, probabilities: npt.NDArray[np.float32]) -> None:
        """Take the rows."""


def segment_plane(
    source: Source, plane: int, recipe: Recipe, on_band: OnBand | None = None
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
    on_band
        Called with the class probabilities if they are wanted.

    Raises
    ------
    ImageReadError
        If the plane cannot be read.
    Stopped
        If ``recipe.should_stop()`` came true.
    """
    height, width = source.shape
    config = recipe.config

    statistics = measure(lambda: pixel_bands(source, plane), config.normalization)

    def read(y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[np.float32]:
        pixels = source.read(Region(plane, y0, y1, x0, x1))[0]
        return scale(pixels, statistics, config.normalization)[np.newaxis]

    probabilities = _Probabilities(read, (height, width), recipe)
    areas = list(
        tiles((height, width), recipe.tile_px, halo_px(config.encoding, recipe.decode))
    )
    seeds: list[Seeds] = []
    for row in areas:
        y0, y1 = row[0].y0, row[0].y0 + row[0].height
        rows = probabilities.rows(y0, y1)
        if on_band is not None:
            core = row[0].core[0]
            on_band(y0 + core.start, correct(rows[:, core], recipe.decode.class_odds))
        seeds += recipe.executor.map(
            lambda area, rows=rows: seed_block(  # type: ignore[misc]
                rows[:, :, area.x0 : area.x0 + area.width],
                area,
                config.encoding,
                recipe.decode,
            ),
            row,
        )
    tables = merge_seeds(seeds, config.encoding, recipe.decode)
    grown = list(
        recipe.executor.map(
            lambda s: grow_block(
                s, tables[s.area.place], config.encoding, recipe.decode
            ),
            seeds,
        )
    )
    numbers = merge_objects(grown, recipe.decode, exclude_border=recipe.exclude_border)

    def labels() -> Iterator[npt.NDArray[np.uint32]]:
        columns = len(areas[0])
        for start in range(0, len(grown), columns):
            parts = [finalize_block(g, numbers) for g in grown[start : start + columns]]
            yield np.concatenate(parts, axis=1)

    return Segmented(
        count=numbers.count,
        bands=labels,
        areas=numbers.areas,
        statistics=statistics,
    )


def pixel_bands(source: Source, plane: int) -> Iterator[npt.NDArray[np.generic]]:
    """Yield the pixels of a plane in bands of full-width rows, YX."""
    height, width = source.shape
    for y0 in range(0, height, BAND_PX):
        yield source.read(Region(plane, y0, min(y0 + BAND_PX, height), 0, width))[0]


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


class _Probabilities:
    """Class probabilities of a plane, computed from top to bottom as they are needed.

    At another scale the network sees the resampled plane, and its probabilities are
    resampled to the plane's own pixels before they are decoded.
    """

    def __init__(self, read: Read, shape: tuple[int, int], recipe: Recipe) -> None:
        self._recipe = recipe
        self._shape = shape
        self._own_scale = recipe.scale == 1.0
        size = shape
        if not self._own_scale:
            size = tuple(target_length(n, recipe.scale) for n in shape)  # type: ignore[assignment]
            read = resampled(read, shape, size)
        self._read = read
        self._plan = network_plan(size, recipe.config.network)
        self._bands = self._compute()
        self._kept: list[tuple[int, npt.NDArray[np.float32]]] = []

    def rows(self, y0: int, y1: int) -> npt.NDArray[np.float32]:
        """Return KYX rows y0 <= y < y1; later calls ask for no smaller y0."""
        if self._own_scale:
            return self._network_rows(y0, y1)
        target = self._plan.shape

        def read(top: int, bottom: int, x0: int, x1: int) -> npt.NDArray[np.float32]:
            return self._network_rows(top, bottom)[:, :, x0:x1]

        part = resampled(read, target, self._shape)(y0, y1, 0, self._shape[1])
        return np.ascontiguousarray(part)

    def _network_rows(self, y0: int, y1: int) -> npt.NDArray[np.float32]:
        while not self._kept or self._end() < y1:
            self._kept.append(next(self._bands))
        self._kept = [b for b in self._kept if b[0] + b[1].shape[1] > y0]
        first = self._kept[0][0]
        if len(self._kept) == 1:
            return self._kept[0][1][:, y0 - first : y1 - first]
        joined = np.concatenate([band for _, band in self._kept], axis=1)
        return joined[:, y0 - first : y1 - first]

    def _end(self) -> int:
        y0, band = self._kept[-1]
        return y0 + int(band.shape[1])

    def _compute(self) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        blocks, recipe = self._plan, self._recipe
        normalization = recipe.config.normalization

        def read(y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[np.float32]:
            return channels(self._read(y0, y1, x0, x1)[0], normalization)

        for row in range(blocks.rows):
            first = blocks.at(row, 0)
            height = first.y.core_stop - first.y.core_start
            classes = recipe.config.network.classes
            band = np.empty((classes, height, blocks.shape[1]), np.float32)
            for column in range(blocks.columns):
                if recipe.should_stop():
                    raise Stopped
                block = blocks.at(row, column)
                band[:, :, block.x.core_start : block.x.core_stop] = (
                    block_probabilities(recipe.engine, block, blocks, read)
                )
            yield first.y.core_start, band


def as_labels(bands: Iterable[npt.NDArray[np.uint32]]) -> npt.NDArray[np.uint32]:
    """Return the whole plane of bands."""
    return np.concatenate(list(bands))
