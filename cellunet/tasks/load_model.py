"""A model for arrays: an image in, labels and a table out, no file in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cellunet import store
from cellunet.config import DEVICE, ENGINE, MODEL, THREADS, PredictConfig
from cellunet.errors import ConfigError, ImageReadError
from cellunet.imaging.array_source import ArraySource
from cellunet.imaging.objects.stream import measure_labels
from cellunet.imaging.scratch import Scratch
from cellunet.tasks.prediction.segment import as_labels, segment_plane
from cellunet.tasks.recipe import recipe_for, recipe_for_image

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import numpy.typing as npt

    from cellunet.imaging.measure import Table
    from cellunet.store import ModelCard
    from cellunet.tasks.prediction.segment import Recipe

FOR_FILES = (
    "channel",
    "gray",
    "z",
    "level",
    "keep_going",
    "save",
    "table_format",
    "overwrite",
)
"""Settings that concern files, and mean nothing for arrays."""


class Segmentation(NamedTuple):
    """What was found in one image."""

    labels: npt.NDArray[np.uint32]
    """YX: 0 background, objects from 1 without gaps."""
    table: Table
    """Name of a column to its values, one an object: ``id``, then the columns of
    `cellunet.imaging.measure`."""


class LoadedModel:
    """A model that is ready for arrays; made by `load_model`."""

    def __init__(
        self, name: str, card: ModelCard, recipe: Recipe, config: PredictConfig
    ) -> None:
        self.name = name
        self.card = card
        self._recipe = recipe
        self._config = config

    def __repr__(self) -> str:
        return f"<model {self.name}, {self._recipe.engine.name}>"

    def segment(
        self,
        image: npt.NDArray[Any],
        *,
        pixel_size_um: float | tuple[float, float] | None = None,
        others: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> Segmentation:
        """Segment one plane.

        Parameters
        ----------
        image
            YX, any real type: the channel that shows the objects. For a model that
            looks at several channels CYX: these, in the order of its training.
        pixel_size_um
            Side of a pixel in micrometres, or its height and width; then the table has
            micrometres too. Needed if the configuration says at which pixel size the
            model is to see images.
        others
            Further channels of the same shape, by name. Their intensities are
            measured beside those of `image`, whose columns end in ``_0`` then, or in
            the number of its channel.

        Returns
        -------
        Segmentation
            Labels and table, the same as ``cellunet predict`` writes.

        Raises
        ------
        ImageReadError
            If an array is no such plane.
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
        recipe = recipe_for_image(self._recipe, self._config, source)
        with Scratch() as scratch:
            found = segment_plane(source, 0, recipe, scratch)
            labels = as_labels(found.bands())
            evidence = found.evidence(0, labels.shape[0])
        table = measure_labels(
            labels,
            list(channels.values()),
            channels=list(channels),
            pixel_size_um=size,
            evidence=evidence,
        )
        return Segmentation(labels, table)


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

        from cellunet import load_model
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
    opened = store.find_model(name)
    recipe = recipe_for(opened, config, engine, device, threads)
    return LoadedModel(opened.name, opened.card, recipe, config)
