"""What a model's training images look like to it, for the warnings of `predict`."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cellunet.imaging.appearance import Appearance, summarize
from cellunet.progress import silent_track
from cellunet.tasks.observe import Observer
from cellunet.tasks.segment import segment_plane

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt

    from cellunet.core.dataset import Sample
    from cellunet.imaging.files import Region
    from cellunet.progress import Track
    from cellunet.tasks.segment import Recipe

MOST_IMAGES = 400
"""Of more images as many are taken, evenly spread: their percentiles are as good."""


def training_statistics(
    samples: Sequence[Sample], recipe: Recipe, track: Track = silent_track
) -> dict[str, list[float]]:
    """Return percentiles of what the training images look like.

    Parameters
    ----------
    samples
        Images; of several channels the first is taken. Annotations are not needed.
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
    step = math.ceil(len(samples) / MOST_IMAGES)
    chosen = samples[::step]
    with tempfile.TemporaryDirectory() as folder:
        return summarize(
            [
                appearance_of(sample.image[:1], recipe, Path(folder))
                for sample in track(chosen, "Describing training images", len(chosen))
            ]
        )


def appearance_of(pixels: npt.NDArray[Any], recipe: Recipe, folder: Path) -> Appearance:
    """Return what one image looks like.

    Parameters
    ----------
    pixels
        CYX, one channel, any real dtype.
    recipe
        How the model is applied.
    folder
        An existing folder for what does not fit into memory.
    """
    source = _Held(pixels)
    observer = Observer(source, recipe, folder)
    try:
        plane = segment_plane(source, 0, recipe, observer.on_band)
        observer.segmented([plane])
        y0 = 0
        for rows in plane.bands():
            observer.on_labels(0, y0, rows)
            y0 += len(rows)
        return observer.finish().appearance
    finally:
        observer.close()


@dataclass(frozen=True)
class _Held:
    """An image in memory, CYX, as a `cellunet.imaging.source.Source`."""

    pixels: npt.NDArray[Any]
    path: Path = Path()
    plane_axes: str = ""
    plane_shape: tuple[int, ...] = ()
    channels: int = 1
    channel_names: tuple[str, ...] = ("0",)
    pixel_size_um: tuple[float, float] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.pixels.shape[1:]
        return height, width

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.pixels.dtype

    def read(self, region: Region) -> npt.NDArray[Any]:
        return self.pixels[:, region.y0 : region.y1, region.x0 : region.x1]

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass
