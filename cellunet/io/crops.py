"""Read and write what a crop remembers of the image that it was cut from.

Intensities are scaled by percentiles
of the whole image, which a crop does not hold: a crop with two dim nuclei would be
shown to the network much brighter than prediction shows them in their field. So it
carries the field's statistics in its TIFF description, and whoever reads the file
scales it by them. A crop that another program saved again has lost the record, and is
an image of its own.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from cellunet.errors import ConfigError, ImageReadError
from cellunet.io.source import Statistics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cellunet.config import NormalizationConfig

CROP_KEY = "cellunet_crop"


@dataclass(frozen=True, kw_only=True)
class CropChannel:
    """What a channel of the field looked like."""

    channel: str
    """Its name."""
    statistics: Statistics
    """Of the whole plane."""
    negative: Statistics
    """The same, with the percentiles counted from the brightest pixel down: for models
    of dark objects on a bright background."""

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """Return what a record holds of a channel."""
        return cls(
            channel=str(values["channel"]),
            statistics=_statistics(values["statistics"]),
            negative=_statistics(values["negative"]),
        )


@dataclass(frozen=True, kw_only=True)
class CropMetadata:
    """Where a crop was cut, and what its field looked like."""

    image: str
    """File name of the field."""
    plane: int
    """Number of its plane."""
    y: int
    """First row of the crop in it."""
    x: int
    """First column."""
    percentiles: tuple[float, float]
    """What `low` and `high` of the statistics are, in percent."""
    channels: tuple[CropChannel, ...]
    """What the crop holds: a channel, or several, each as a page of its own."""
    planes: int = 1
    """How many the field has; crops of earlier versions do not say."""

    @property
    def origin(self) -> str:
        """What crops of one field share: images in several folders may have one name.

        Planes of a stack have intensities of their own, so its name alone tells it.
        """
        if self.planes > 1 or self.plane:
            return self.image
        seen = self.channels[0].statistics
        return f"{self.image} {seen.mean} {seen.std}"

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of all channels of the crop."""
        return tuple(one.channel for one in self.channels)

    def only(self, numbers: Sequence[int]) -> CropMetadata:
        """Return the record of some of several channels, in the order of `numbers`."""
        if len(self.channels) == 1:
            return self
        return replace(self, channels=tuple(self.channels[k] for k in numbers))

    def by_channel(self, config: NormalizationConfig) -> tuple[Statistics, ...]:
        """Return the field's statistics, if they are what a model asks for.

        Raises
        ------
        ConfigError
            If they hold other percentiles, or no foreground where the model asks for
            it.
        """
        asked = (config.low_percentile, config.high_percentile)
        if config.kind == "percentile" and asked != self.percentiles:
            raise ConfigError(
                f"A crop of {self.image} holds percentiles {self.percentiles} of its "
                f"image; the model scales by {asked}.",
                hint="Cut the crops again with this model: cellunet suggest.",
            )
        found = tuple(
            one.negative if config.invert else one.statistics for one in self.channels
        )
        if config.needs_foreground and any(one.foreground is None for one in found):
            raise ConfigError(
                f"A crop of {self.image} was cut by an earlier version, which did not "
                "measure the foreground of its image; the model scales by it.",
                hint="Cut the crops again with this model: cellunet suggest.",
            )
        return found

    def to_text(self) -> str:
        """Return the record as the description of a TIFF, in ASCII.

        The first channel stands in the record itself, as in crops of earlier versions.
        """
        values = asdict(self)
        first, *further = values.pop("channels")
        if self.planes == 1:
            del values["planes"]
        values |= first | ({"further": further} if further else {})
        return json.dumps({CROP_KEY: values}, allow_nan=False)

    @classmethod
    def from_text(cls, text: str, path: Path) -> Self | None:
        """Return the record in a description; None if it is none of ours.

        Raises
        ------
        ImageReadError
            If it is ours and was damaged.
        """
        if not text.startswith(f'{{"{CROP_KEY}":'):
            return None
        try:
            return cls._of(json.loads(text)[CROP_KEY])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ImageReadError(
                f"{path} was cut by cellunet, but its record of where is damaged "
                f"({error}).",
                hint="Cut it again, or save it anew as plain TIFF.",
            ) from error

    @classmethod
    def _of(cls, values: dict[str, Any]) -> Self:
        low, high = (float(v) for v in values["percentiles"])
        return cls(
            image=str(values["image"]),
            plane=int(values["plane"]),
            y=int(values["y"]),
            x=int(values["x"]),
            percentiles=(low, high),
            channels=tuple(map(CropChannel.of, (values, *values.get("further", ())))),
            planes=int(values.get("planes", 1)),
        )


def _statistics(values: dict[str, Any]) -> Statistics:
    numbers = {k: float(v) for k, v in values.items() if v is not None}
    count = int(numbers.pop("count"))
    if not all(map(math.isfinite, numbers.values())):
        raise ValueError("not finite")
    return Statistics(**numbers, count=count)
