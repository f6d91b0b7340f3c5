"""What a model's training images look like to it, for the warnings of `predict`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

from cellunet.imaging.appearance import Appearance, summarize
from cellunet.imaging.array_source import array_source
from cellunet.imaging.scratch import Scratch
from cellunet.progress import silent_track
from cellunet.tasks.prediction.observe import Observer
from cellunet.tasks.prediction.segment import segment_plane

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cellunet.core.dataset import Sample
    from cellunet.imaging.intensities import Statistics
    from cellunet.progress import Track
    from cellunet.tasks.prediction.segment import Recipe

MOST_IMAGES = 400
"""Of more images as many are taken, evenly spread: their percentiles are as good."""


def training_statistics(
    samples: Sequence[Sample], recipe: Recipe, track: Track = silent_track
) -> dict[str, list[float]]:
    """Return percentiles of what the training images look like.

    Parameters
    ----------
    samples
        Images; of several channels the first is described. Annotations are not needed.
    recipe
        How the trained model is applied.
    track
        Progress over images.

    Returns
    -------
    dict
        Name of a number of `Appearance` to its
        `cellunet.imaging.appearance.PERCENTILES`.
    """
    chosen = evenly(samples, MOST_IMAGES)
    return summarize(
        [
            appearance_of(
                sample.image,
                recipe,
                sample.statistics_for(recipe.config.normalization),
            )
            for sample in track(chosen, "Describing training images", len(chosen))
        ]
    )


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many items, evenly spread.

    Examples
    --------
    >>> evenly(range(70), 32)[:3]
    [0, 3, 6]
    """
    return list(items[:: math.ceil(len(items) / most) or 1])


def appearance_of(
    pixels: npt.NDArray[Any],
    recipe: Recipe,
    statistics: Sequence[Statistics] | None = None,
) -> Appearance:
    """Return what one image looks like.

    Parameters
    ----------
    pixels
        CYX, the channels that the model looks at, any real dtype.
    recipe
        How the model is applied.
    statistics
        What intensities are scaled by, for each channel; None: the image's own.
    """
    source = array_source(pixels)
    observer = Observer(source, recipe)
    with Scratch() as scratch:
        plane = segment_plane(source, 0, recipe, scratch, statistics=statistics)
        observer.segmented([plane])
        y0 = 0
        for rows in plane.bands():
            observer.on_labels(0, y0, rows)
            y0 += len(rows)
        return observer.finish().appearance
