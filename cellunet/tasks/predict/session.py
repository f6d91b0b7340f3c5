"""A model for arrays: a plane in, labels and a table out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from cellunet.config import DEVICE, ENGINE, MODEL, THREADS, PredictConfig
from cellunet.errors import ConfigError, ImageReadError, optional
from cellunet.imaging.measure import measure_labels
from cellunet.io.scratch import Scratch
from cellunet.io.source import ArraySource
from cellunet.store import find_model
from cellunet.tasks.predict.plane import as_labels, segment
from cellunet.tasks.predict.settings import (
    rescaled,
    settings_for,
    settings_for_image,
)
from cellunet.tasks.predict.sizes import way_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import pandas as pd

    from cellunet.store import Model, ModelCard
    from cellunet.tasks.predict.settings import InferenceSettings
    from cellunet.tasks.predict.sizes import Size

FOR_FILES = (
    "channel",
    "gray",
    "z",
    "level",
    "keep_going",
    "save",
    "table_format",
    "measure",
    "segment_channel",
    "link_planes",
    "overwrite",
)
"""Settings that concern files, and mean nothing for arrays."""


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
        self.name = model.name
        self.card = model.card
        self._model = model
        self._recipe = recipe
        self._config = config

    def __repr__(self) -> str:
        return f"<model {self.name}, {self._recipe.engine.name}>"

    def segment(
        self,
        image: npt.NDArray[Any],
        *,
        diameter: Literal["auto", "model"] | float | None = None,
        pixel_size_um: float | tuple[float, float] | None = None,
        others: Mapping[str, npt.NDArray[Any]] | None = None,
        measure: Literal["basic", "all"] = "basic",
    ) -> Segmentation:
        """Segment one plane.

        Parameters
        ----------
        image
            YX, any real type: the channel that shows the objects. For a model that
            looks at several channels CYX: these, in the order of its training.
        diameter
            Median diameter of the objects in pixels; ``auto`` finds it, ``model``
            shows the image as it is. None: as `load_model` was told. The model is
            not loaded again.
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
        recipe, config = self._seen_at(diameter)
        recipe = settings_for_image(recipe, config, source)
        with Scratch() as scratch:
            way = way_for(source, recipe, config, self.card)
            found = segment(
                source, 0, way.recipe, scratch, statistics=way.statistics.get(0)
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

    def _seen_at(
        self, diameter: Literal["auto", "model"] | float | None
    ) -> tuple[InferenceSettings, PredictConfig]:
        if diameter is None:
            return self._recipe, self._config
        if isinstance(diameter, str) and diameter not in ("auto", "model"):
            raise ConfigError(
                f"The diameter is {diameter!r}; a number of pixels, 'auto' or 'model' "
                "is expected.",
                hint="For images of one kind find it with size_of() of some.",
            )
        # A diameter takes the place of every other way to tell the magnification.
        config = self._config.replace(
            diameter_px=diameter, scale=None, pixel_size_um=None
        )
        return rescaled(self._recipe, config, self._model), config

    def size_of(
        self,
        image: npt.NDArray[Any],
        *,
        pixel_size_um: float | tuple[float, float] | None = None,
    ) -> Size | None:
        """Return how large the objects of a plane are and how `segment` sees it.

        None if `load_model` was told: by a scale, a diameter or a pixel size, or
        to show images as they are.
        """
        count = self.card.config.image_channels
        source = ArraySource(np.asarray(image), _size(pixel_size_um), channels=count)
        recipe = settings_for_image(self._recipe, self._config, source)
        return way_for(source, recipe, self._config, self.card).size


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
    """
    config = config or PredictConfig()
    wrong = [n for n in FOR_FILES if getattr(config, n) != getattr(PredictConfig, n)]
    if wrong:
        raise ConfigError(
            f"{', '.join(wrong)} of the configuration concern files, not arrays.",
            hint="Leave them out, and give one plane of the channels that the model "
            "looks at.",
        )
    if config.diameter_px == "batch":
        raise ConfigError(
            "The diameter of a batch concerns files, not arrays.",
            hint="Find it with size_of() of some, and give diameter_px.",
        )
    opened = find_model(name)
    recipe = settings_for(opened, config, engine, device, threads)
    return LoadedModel(opened, recipe, config)
