"""What is seen of an image while its labels pass by, and how it is unlike others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cellunet.imaging import quality
from cellunet.imaging.measure import Confidences
from cellunet.outputs.pictures import Thumbnail

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cellunet.io.source import Source
    from cellunet.store import ModelCard
    from cellunet.tasks.predict.plane import Segmented
    from cellunet.tasks.predict.settings import InferenceSettings


@dataclass(frozen=True, kw_only=True)
class ImageQuality:
    """An image after prediction."""

    appearance: quality.Appearance
    areas: npt.NDArray[np.int64]
    """Pixels of the objects of all planes."""
    confidences: npt.NDArray[np.float64]
    """Of the same objects."""
    thumbnail: bytes = b""
    """A picture as WebP, if one was wanted."""
    thumbnail_size: tuple[int, int] = (0, 0)
    plane: int = 0
    """Which plane it shows."""
    skipped: float = 0.0
    """Share of the pixels in which nothing can be, in four digits."""


class Band(NamedTuple):
    """Full-width rows of a plane on their way into files."""

    plane: int
    y0: int
    image: npt.NDArray[Any]
    """Intensities of its first channel."""
    labels: npt.NDArray[np.uint32]


class QualityRecorder:
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
        self,
        source: Source,
        recipe: InferenceSettings,
        *,
        picture: bool = False,
    ) -> None:
        self._source, self._recipe, self._picture = source, recipe, picture
        self._planes: Sequence[Segmented] = ()
        self._thumbnail: Thumbnail | None = None
        self._shown = 0

    def segmented(self, planes: Sequence[Segmented]) -> None:
        """Take note that all planes are segmented and their labels follow."""
        self._planes = planes
        self._shown = max(range(len(planes)), key=lambda i: planes[i].count)
        if self._picture:
            self._thumbnail = Thumbnail(
                self._source.shape,
                planes[self._shown].statistics,
                self._recipe.config.normalization,
            )
        self._confidences = [
            Confidences(plane.areas) if plane.known is None else None
            for plane in planes
        ]
        self._sharpness = [
            quality.Sharpness(plane.statistics, self._recipe.scale) for plane in planes
        ]

    def on_rows(self, band: Band) -> None:
        """Take rows of intensities and labels, every plane top to bottom."""
        labels, confidences = band.labels, self._confidences[band.plane]
        if confidences is not None:
            evidence = self._planes[band.plane].evidence
            confidences.add(labels, evidence(band.y0, band.y0 + len(labels)))
        self._sharpness[band.plane].add(band.image)
        if self._thumbnail and band.plane == self._shown:
            self._thumbnail.add(band.image, labels)

    def finish(self) -> ImageQuality:
        """Return what was seen."""
        planes = [
            plane if sums is None else replace(plane, known=sums.means())
            for plane, sums in zip(self._planes, self._confidences, strict=True)
        ]
        looks = [self._plane(*numbered) for numbered in enumerate(planes)]
        picture, size = self._thumbnail.encode() if self._thumbnail else (b"", (0, 0))
        return ImageQuality(
            appearance=quality.together(looks),
            areas=np.concatenate([plane.areas for plane in planes]),
            confidences=np.concatenate([plane.confidences for plane in planes]),
            thumbnail=picture,
            thumbnail_size=size,
            plane=self._shown,
            skipped=round(float(np.mean([p.skipped for p in planes])), 4),
        )

    def _plane(self, number: int, plane: Segmented) -> quality.Appearance:
        whole = self._source.dtype.kind in "iub"
        contrast, level = quality.intensity(plane.statistics, whole_numbers=whole)
        return replace(
            quality.objects(
                np.concatenate([plane.areas, plane.unsure[0]]),
                np.concatenate([plane.confidences, plane.unsure[1]]),
            ),
            contrast=contrast,
            level=level,
            sharpness=self._sharpness[number].value(),
        )


def quality_warnings(
    image: quality.Appearance, card: ModelCard, scale: float
) -> tuple[str, ...]:
    """Return in which ways an image is unlike those that a model was trained on."""
    low, _, high = card.diameter_px
    return quality.out_of_distribution_warnings(
        image,
        card.training_statistics,
        # In the pixels of the training images, as the statistics are.
        learned_px=(low / card.config.scale, high / card.config.scale),
        magnification=scale / card.config.scale,
    )
