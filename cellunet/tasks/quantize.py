"""Calibrate a model for eight bits on images like those that it is for."""

from __future__ import annotations

import contextlib
import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet import store
from cellunet.command_config import THREADS
from cellunet.engine.int8 import measure_ranges
from cellunet.engine.onnx import read_weights
from cellunet.errors import CellunetError, ConfigError, OutputError
from cellunet.imaging.blocks import LARGEST_PX
from cellunet.imaging.normalize import network_input, rescale_channels
from cellunet.imaging.sizes import resampled, target_length
from cellunet.io.files import writing
from cellunet.io.images import open_image
from cellunet.io.paths import find_inputs
from cellunet.io.source import Region, array_source
from cellunet.progress import silent_track
from cellunet.tasks.predict.inputs import evenly, few_images, refuse_misfit
from cellunet.tasks.predict.plane import band_rows, plane_statistics
from cellunet.tasks.predict.settings import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.config import TrainConfig
    from cellunet.core.dataset import Sample
    from cellunet.io.source import Pages, Source, Statistics
    from cellunet.progress import Track

MOST_IMAGES = 32
"""Of more images as many are taken, evenly spread."""


@dataclass(frozen=True, kw_only=True)
class CalibratedModel:
    """What was made."""

    model: str
    """Name of the model."""
    path: Path
    """Its weights file, which holds the ranges."""
    images: int
    """How many images it was calibrated on."""
    skipped: tuple[str, ...]
    """Why others could not be used."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return dict(vars(self)) | {
            "path": str(self.path),
            "skipped": list(self.skipped),
        }


def calibrate(  # noqa: PLR0913
    model: str,
    inputs: Sequence[str],
    *,
    channel: str | None = None,
    gray: bool = False,
    pages: Pages | None = None,
    threads: int = THREADS,
    overwrite: bool = False,
    track: Track = silent_track,
) -> CalibratedModel:
    """Measure the ranges of a model's features, for ``--engine openvino-int8``.

    They are written into the header of its weights file; `Model.sha256` stays.

    Parameters
    ----------
    model
        Name or path of the model.
    inputs
        Images like those that it will be applied to: files, folders or patterns. No
        annotations are needed. Of stacks the plane in the middle is taken.
    channel, gray, pages
        Which channels the model looks at, and what pages are that have no name, as for
        prediction.
    threads
        CPU threads; 0 for as many as this process may use cores.
    overwrite
        Whether to replace ranges that are there.
    track
        Progress over images.

    Raises
    ------
    CellunetError
        If there is no such model, it ships with cellunet, it is calibrated, no image
        can be used, or its file cannot be written.
    """
    opened = store.find_model(model)
    if opened.weights.resolve().is_relative_to(store.SHIPPED.resolve()):
        folder = shlex.quote(str(opened.weights.parent))
        raise ConfigError(
            f"Model {opened.name!r} ships with cellunet and stays as it is.",
            hint="Calibrate a copy of your own: "
            f"cellunet models add {folder} --name MY-CELLS",
        )
    if opened.card.int8_ranges and not overwrite:
        raise OutputError(
            f"Model {opened.name!r} is calibrated for eight bits already.",
            hint="Calibrate it anew with --overwrite.",
        )
    found = find_inputs(inputs)
    files = few_images(found, MOST_IMAGES)
    skipped = [why for _, why in found.missing]
    used = []

    def windows() -> Iterator[npt.NDArray[np.float32]]:
        for path in track(files, "Calibrating", len(files)):
            try:
                with open_image(
                    path,
                    channel=channel,
                    gray=gray,
                    known=opened.card.channels,
                    pages=pages,
                ) as source:
                    refuse_misfit(source, opened.name, opened.card, channel)
                    middle = math.prod(source.plane_shape) // 2
                    window = network_window(source, middle, opened.card.config)
            except CellunetError as error:
                skipped.append(str(error))
            else:
                used.append(path)
                yield window

    try:
        _write_ranges(opened, windows(), threads)
    except ConfigError as error:
        raise ConfigError(error.message, hint=" ".join(skipped[:1])) from error
    return CalibratedModel(
        model=opened.name,
        path=opened.weights,
        images=len(used),
        skipped=tuple(skipped),
    )


def _write_ranges(
    model: store.Model, windows: Iterable[npt.NDArray[np.float32]], threads: int
) -> None:
    """Measure ranges and put them on the card of a weights file."""
    network = model.card.config.network
    weights = read_weights(model.weights, network)
    metadata = store.read_metadata(model.weights)
    metadata["int8_ranges"] = measure_ranges(weights, network, windows, threads)
    folder = model.weights.parent
    mine = folder.resolve().parent == (store.home() / "models").resolve()
    named = mine and store.can_name(folder.name)
    alone = store.training(folder.name) if named else contextlib.nullcontext()
    with writing(model.weights), alone:
        # A training may have ended meanwhile: its weights stay.
        model.check_unchanged()
        store.write(model.weights, weights, metadata)


def ranges_on_samples(
    weights: Mapping[str, npt.NDArray[np.float32]],
    config: TrainConfig,
    samples: Sequence[Sample],
    threads: int = THREADS,
    track: Track = silent_track,
) -> dict[str, list[float]]:
    """Return the ranges of a network's features in its training images.

    Parameters
    ----------
    weights
        Of the network.
    config
        Settings of its training.
    samples
        Images of the channels that the model looks at.
    threads
        CPU threads; 0 for as many as this process may use cores.
    track
        Progress over images.
    """
    chosen = evenly(samples, MOST_IMAGES)
    windows = (
        network_window(
            array_source(sample.image),
            0,
            config,
            sample.statistics_for(config.normalization),
        )
        for sample in track(chosen, "Calibrating", len(chosen))
    )
    return measure_ranges(weights, config.network, windows, threads)


def network_window(
    source: Source,
    plane: int,
    config: TrainConfig,
    statistics: Sequence[Statistics] | None = None,
) -> npt.NDArray[np.float32]:
    """Return the network's input for the middle of a plane, CYX float32.

    It is magnified by ``config.scale``, as in training and prediction. Its sides are
    those of the network's windows at most, and multiples of its stride, to which a
    smaller plane is mirrored. Each channel is scaled by its `statistics`; None: by
    those of the whole plane.
    """
    if statistics is None:
        rows = band_rows(source.shape[1], Memory())
        statistics = plane_statistics(source, plane, rows, config.normalization)

    def scaled(y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[np.float32]:
        pixels = source.read(Region(plane, y0, y1, x0, x1))
        return rescale_channels(pixels, statistics, config.normalization)

    seen = source.shape
    read: Callable[[int, int, int, int], npt.NDArray[np.float32]] = scaled
    if config.scale != 1.0:
        height, width = (target_length(n, config.scale) for n in source.shape)
        seen = height, width
        read = resampled(scaled, source.shape, seen)
    stride = config.network.stride_px
    largest = LARGEST_PX // stride * stride
    (y0, y1), (x0, x1) = (
        (max(side - largest, 0) // 2, max(side - largest, 0) // 2 + min(side, largest))
        for side in seen
    )
    image = network_input(read(y0, y1, x0, x1), config.normalization)
    short = [(0, -side % stride) for side in image.shape[1:]]
    return np.pad(image, ((0, 0), *short), "symmetric")
