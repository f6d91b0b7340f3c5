"""A model for arrays: a plane in, labels and a table out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from cellunet.command_config import DEVICE, ENGINE, MODEL, THREADS, PredictConfig
from cellunet.errors import ConfigError, ImageReadError, optional
from cellunet.imaging.measure import measure_labels
from cellunet.io.scratch import Scratch, check_folder
from cellunet.io.source import ArraySource
from cellunet.settings import known_of
from cellunet.store import find_model
from cellunet.tasks.predict.plane import as_labels, segment
from cellunet.tasks.predict.settings import (
    decode_at,
    scale_of,
    settings_for,
    settings_for_image,
)
from cellunet.tasks.predict.sizes import (
    ImageSettings,
    Size,
    settings_by_size,
    with_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt
    import pandas as pd

    from cellunet.store import Model, ModelCard
    from cellunet.tasks.predict.settings import InferenceSettings

    Diameter = float | Literal["auto", "model"]

FOR_FILES = (
    *(
        f.name
        for f in PredictConfig.fields()
        if known_of(f).panel in ("Images", "Results")
    ),
    *("link_planes", "max_memory_mb", "dask"),
)
"""Settings that concern files, and mean nothing for arrays, which are in memory."""


class ObjectTable(dict[str, "npt.NDArray[Any]"]):
    """Name of a column to its values, one per object."""

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame: one row per object, the number of the object as index.

        Raises
        ------
        ConfigError
            If pandas is not installed.
        """
        pandas = optional("pandas", "pandas", "A data frame")
        frame: pd.DataFrame = pandas.DataFrame(dict(self)).set_index("id")
        return frame


class Segmentation(NamedTuple):
    """What was found in one image."""

    labels: npt.NDArray[np.uint32]
    """YX: 0 background, objects from 1 without gaps."""
    table: ObjectTable
    """The column ``id``, then those of ``cellunet predict --save table`` from
    ``area_px`` on."""


class LoadedModel:
    """A model that is ready for arrays; made by `load_model`."""

    name: str
    """Name of the model."""
    card: ModelCard
    """What travels with its weights: settings, training images, scores."""

    def __init__(
        self, model: Model, recipe: InferenceSettings, config: PredictConfig
    ) -> None:
        self.name, self.card = model.name, model.card
        self._model, self._recipe, self._config = model, recipe, config

    def __repr__(self) -> str:
        return f"<model {self.name}, {self._recipe.engine.name}>"

    def segment(  # noqa: PLR0913
        self,
        image: npt.NDArray[Any],
        *,
        diameter: Diameter | Size | None = None,
        pixel_size_um: float | tuple[float, float] | None = None,
        others: Mapping[str, npt.NDArray[Any]] | None = None,
        measure: Literal["basic", "all"] = "basic",
        on_rows: Callable[[int, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Segmentation:
        """Segment one plane.

        Parameters
        ----------
        image
            YX, any real type: the channel that shows the objects. For a model that
            looks at several channels CYX: these, in the order of its training.
        diameter
            Median diameter of the objects in pixels; ``"auto"`` finds it in the image,
            ``"model"`` shows the image as it is; what `size_of` found in another one
            is used as it is. None: as `load_model` was told, ``"auto"`` unless it was
            told otherwise. The model is not loaded again.
        pixel_size_um
            Side of a pixel in micrometers, or its height and width; then the table has
            micrometers too. Needed if the configuration says at which pixel size the
            model is to see images.
        others
            Further channels of the same shape, by name. Their intensities are
            measured beside those of `image`, whose columns end in ``_0`` then, or in
            the number of its channel.
        measure
            Which columns the table has, as for ``--measure``.
        on_rows
            Called as ``on_rows(done, total)`` with the rows of the image that the
            network has seen, and how many it will see.
        should_stop
            Asked now and then, and at least once for each block of the image; true
            stops the work.

        Returns
        -------
        Segmentation
            Labels and table, the same as ``cellunet predict`` writes.

        Raises
        ------
        ImageReadError
            If an array is no such plane.
        ConfigError
            If the diameter or the pixel size is impossible.
        PredictionStopped
            If `should_stop` returned true.

        Examples
        --------
        ::

            labels, table = model.segment(image, diameter=30)
            frame = table.to_pandas()
        """
        size = _size(pixel_size_um)
        count = self.card.config.image_channels
        source = ArraySource(np.asarray(image), size, channels=count)
        planes = source.read_all().reshape(count, *source.shape)
        channels = dict(zip(source.channel_names, planes, strict=True))
        for name, other in (others or {}).items():
            channels[name] = ArraySource(np.asarray(other)).read_all()
            taken = name in source.channel_names
            if channels[name].shape != source.shape or taken:
                own = ", ".join(map(repr, source.channel_names))
                raise ImageReadError(
                    f"Channel {name!r} is of shape {channels[name].shape}; a name "
                    f"other than {own} and the image's shape {source.shape} are "
                    "expected."
                )
        folder = self._config.scratch
        with Scratch(folder=Path(folder) if folder else None) as scratch:
            chosen = self._settings(source, diameter, should_stop)
            recipe = _telling(chosen.recipe, source.shape[0], on_rows)
            found = segment(
                source, 0, recipe, scratch, statistics=chosen.statistics.get(0)
            )
            labels = as_labels(found.bands())
            evidence = found.evidence(0, labels.shape[0])
        table = measure_labels(
            labels,
            list(channels.values()),
            channels=list(channels),
            pixel_size_um=size,
            evidence=evidence,
            detail=measure == "all",
        )
        return Segmentation(labels, ObjectTable(table))

    def size_of(
        self,
        image: npt.NDArray[Any],
        *,
        diameter: Diameter | Size | None = None,
        pixel_size_um: float | tuple[float, float] | None = None,
    ) -> Size | None:
        """Return how large the objects of a plane are and how `segment` sees it.

        None if `load_model` was told: by a scale, a diameter or a pixel size, or
        to show images as they are.
        """
        count = self.card.config.image_channels
        source = ArraySource(np.asarray(image), _size(pixel_size_um), channels=count)
        return self._settings(source, diameter).size

    def _settings(
        self,
        source: ArraySource,
        diameter: Diameter | Size | None,
        should_stop: Callable[[], bool] | None = None,
    ) -> ImageSettings:
        """Return how an image is to be seen."""
        config, recipe = self._config, self._recipe
        if should_stop is not None:
            recipe = replace(recipe, should_stop=should_stop)
        if isinstance(diameter, Size):
            seen = with_size(recipe, config, self.card, diameter)
            return ImageSettings(recipe=seen, size=diameter)
        if diameter is not None:
            config = config.replace(
                diameter_px=diameter, scale=None, pixel_size_um=None
            )
            _refuse_batch(config)
            if isinstance(diameter, str) and diameter not in ("auto", "model"):
                raise ConfigError(
                    f"The diameter is {diameter!r}.",
                    hint="Give a number of pixels, 'auto' or 'model'.",
                )
            scale = scale_of(config, self._model)
            decode = decode_at(self.card.config.decode, config, scale)
            recipe = replace(recipe, scale=scale, decode=decode)
        recipe = settings_for_image(recipe, config, source)
        return settings_by_size(source, recipe, config, self.card)


def _telling(
    recipe: InferenceSettings, height: int, on_rows: Callable[[int, int], None] | None
) -> InferenceSettings:
    """Return the recipe with how far it is, told as rows done and rows in all."""
    if on_rows is None:
        return recipe
    total, done = height * (2 if recipe.added else 1), 0

    def tell(rows: int) -> None:
        nonlocal done
        done += rows
        on_rows(done, total)

    return replace(recipe, on_rows=tell)


def _refuse_batch(config: PredictConfig) -> None:
    if config.diameter_px == "batch":
        raise ConfigError(
            "The diameter of a batch concerns files, not arrays.",
            hint="Find it with size_of() of some, and give diameter_px.",
        )


def _size(given: float | tuple[float, float] | None) -> tuple[float, float] | None:
    if given is None:
        return None
    height, width = given if isinstance(given, tuple) else (given, given)
    if not (0 < height < np.inf and 0 < width < np.inf):
        raise ConfigError(f"pixel_size_um is {given}; it must be above 0.")
    return float(height), float(width)


def load_model(
    name: str = MODEL,
    *,
    engine: str = ENGINE,
    device: str = DEVICE,
    threads: int = THREADS,
    config: PredictConfig | None = None,
) -> LoadedModel:
    """Return a model that segments arrays.

    Parameters
    ----------
    name
        Name or path of the model.
    engine, device, threads
        What computes, as for the command line.
    config
        How the model is applied; what concerns files must be left at its default.

    Raises
    ------
    CellunetError
        If the model or the engine cannot be used.

    Examples
    --------
    ::

        model = load_model()
        labels, table = model.segment(image)
        larger = model.segment(other_image, diameter=60)
    """
    config = config or PredictConfig()
    wrong = [n for n in FOR_FILES if getattr(config, n) != getattr(PredictConfig, n)]
    if wrong:
        raise ConfigError(
            f"{', '.join(wrong)} of the configuration concern files and batches, not "
            "arrays.",
            hint="Leave them out, and give one plane of the channels that the model "
            "looks at. Its size is what bounds memory.",
        )
    _refuse_batch(config)
    if config.scratch is not None:
        check_folder(Path(config.scratch))
    opened = find_model(name)
    recipe = settings_for(opened, config, engine, device, threads)
    return LoadedModel(opened, recipe, config)
