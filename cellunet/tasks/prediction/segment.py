"""One plane through the whole of prediction: statistics, network, decoding.

The network runs on one grid (`blocks.plan`), decoding on tiles of any size. What is in
between (marks, evidence, provisional labels) passes through a `Scratch`, so that no
array is as large as the plane.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cellunet.imaging.decode.seeds import mark
from cellunet.imaging.encoding import correct
from cellunet.imaging.files import Region
from cellunet.imaging.intensities import measure_channels
from cellunet.imaging.normalize import scale_channels
from cellunet.imaging.objects.evidence import evidence
from cellunet.run.executor import SerialExecutor
from cellunet.run.memory import Memory
from cellunet.tasks.prediction.decode_pass import DecodePass
from cellunet.tasks.prediction.network_pass import NetworkPass, Part, Stopped, asking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, NormalizationConfig, TrainConfig
    from cellunet.engine.base import Engine
    from cellunet.imaging.files import Source
    from cellunet.imaging.intensities import Statistics
    from cellunet.imaging.scratch import Scratch
    from cellunet.run.executor import Executor

__all__ = ["OnBand", "Recipe", "Segmented", "Stopped", "as_labels", "segment_plane"]

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
    """Of the plane's intensities in its first channel."""
    bands: Callable[[], Iterator[npt.NDArray[np.uint32]]]
    """Full-width rows of labels, top to bottom; as long as the scratch is open."""
    evidence: Callable[[int, int], npt.NDArray[np.uint8]]
    """``evidence(y0, y1)``: of full-width rows."""


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
        return scale_channels(pixels[:seen], statistics, config.normalization)

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

    decoding = DecodePass(marks, source.shape, recipe, scratch, rows)
    with closing(network.run(recipe.engine, finish, stop)) as parts:
        decoding.run(parts)
    width, numbers = source.shape[1], decoding.numbers()
    return Segmented(
        count=numbers.count,
        areas=numbers.areas,
        statistics=statistics[0],
        bands=lambda: asking(stop, decoding.bands(numbers)),
        evidence=lambda y0, y1: sure.read(y0, y1, 0, width),
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
