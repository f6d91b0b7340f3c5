"""What is seen of an image while it passes through prediction, and said of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cellunet.imaging import appearance
from cellunet.imaging.appearance import Appearance, intensity, sharpness, together
from cellunet.imaging.files import Region
from cellunet.imaging.objects.confidence import Confidences
from cellunet.imaging.results.thumbnail import Thumbnail
from cellunet.imaging.unlike import compare
from cellunet.tasks.prediction.segment import band_rows, pixel_bands

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cellunet.imaging.files import Source
    from cellunet.store import ModelCard
    from cellunet.tasks.prediction.segment import Recipe, Segmented


@dataclass(frozen=True, kw_only=True)
class Observed:
    """An image after prediction."""

    appearance: Appearance
    areas: npt.NDArray[np.int64]
    """Pixels of the objects of all planes."""
    confidences: npt.NDArray[np.float64]
    """Of the same objects."""
    thumbnail: bytes = b""
    """A picture as WebP, if one was wanted."""
    thumbnail_size: tuple[int, int] = (0, 0)
    plane: int = 0
    """Which plane it shows."""


class Observer:
    """Looks on while the labels of an image pass by.

    Parameters
    ----------
    source
        The image.
    recipe
        How the model is applied.
    picture
        Whether a thumbnail is wanted.
    """

    def __init__(
        self, source: Source, recipe: Recipe, *, picture: bool = False
    ) -> None:
        self._source, self._recipe, self._picture = source, recipe, picture
        self._planes: Sequence[Segmented] = ()
        self._confidences: list[Confidences] = []
        self._thumbnail: Thumbnail | None = None
        self._shown = 0

    def segmented(self, planes: Sequence[Segmented]) -> None:
        """Take note that all planes are segmented and their labels follow."""
        self._planes = planes
        self._confidences = [Confidences(plane.areas) for plane in planes]
        self._shown = max(range(len(planes)), key=lambda i: planes[i].count)
        if self._picture:
            self._thumbnail = Thumbnail(
                self._source.shape,
                planes[self._shown].statistics,
                self._recipe.config.normalization,
            )

    def on_labels(self, plane: int, y0: int, rows: npt.NDArray[np.uint32]) -> None:
        """Take rows of labels, every plane top to bottom."""
        evidence = self._planes[plane].evidence(y0, y0 + len(rows))
        self._confidences[plane].add(rows, evidence)
        if self._thumbnail and plane == self._shown:
            region = Region(plane, y0, y0 + len(rows), 0, rows.shape[1])
            self._thumbnail.add(self._source.read(region)[0], rows)

    def finish(self) -> Observed:
        """Return what was seen."""
        means = [c.means() for c in self._confidences]
        looks = [
            self._plane(number, plane, mean)
            for number, (plane, mean) in enumerate(
                zip(self._planes, means, strict=True)
            )
        ]
        picture, size = self._thumbnail.encode() if self._thumbnail else (b"", (0, 0))
        return Observed(
            appearance=together(looks),
            areas=np.concatenate([plane.areas for plane in self._planes]),
            confidences=np.concatenate(means),
            thumbnail=picture,
            thumbnail_size=size,
            plane=self._shown,
        )

    def _plane(
        self, number: int, plane: Segmented, means: npt.NDArray[np.float64]
    ) -> Appearance:
        whole = self._source.dtype.kind in "iub"
        rows = band_rows(self._source.shape[1], self._recipe.memory)
        contrast, level = intensity(plane.statistics, whole_numbers=whole)
        return replace(
            appearance.objects(plane.areas, means),
            contrast=contrast,
            level=level,
            sharpness=sharpness(
                lambda: pixel_bands(self._source, number, rows),
                plane.statistics,
                self._recipe.scale,
            ),
        )


def warnings_of(image: Appearance, card: ModelCard, scale: float) -> tuple[str, ...]:
    """Return in which ways an image is unlike those that a model was trained on."""
    low, _, high = card.diameter_px
    return compare(
        image,
        card.training_statistics,
        learned_px=(low, high),
        magnification=scale,
    )
