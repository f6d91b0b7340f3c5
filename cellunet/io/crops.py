"""What a crop remembers of the image that it was cut from.

Intensities are scaled by percentiles of the whole image, which a crop does not hold: a
crop with two dim nuclei would be shown to the network much brighter than prediction
shows them in their field. So a crop that cellunet cuts carries the field's statistics
in its TIFF description, and whoever reads the file scales it by them. A crop that
another program saved again has lost the record, and is an image of its own.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import tifffile

from cellunet.errors import ConfigError, ImageReadError
from cellunet.io.files import write_atomically
from cellunet.io.label_tiff import MICROMETERS_PER_CM, SOFTWARE
from cellunet.io.source import Statistics

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from cellunet.config import NormalizationConfig

KEY = "cellunet_crop"

_BEGINS = f'{{"{KEY}":'


@dataclass(frozen=True, kw_only=True)
class CropChannel:
    """What a further channel of the field looked like, as in `CropMetadata`."""

    channel: str
    statistics: Statistics
    negative: Statistics


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
    channel: str
    """Name of the channel; of several, the first."""
    percentiles: tuple[float, float]
    """What `low` and `high` of the statistics are, in percent."""
    statistics: Statistics
    """Of the whole plane."""
    negative: Statistics
    """The same, with the percentiles counted from the brightest pixel down: for models
    of dark objects on a bright background."""
    further: tuple[CropChannel, ...] = ()
    """Further channels that the crop holds, each as a page of its own."""

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of all channels of the crop."""
        return (self.channel, *(one.channel for one in self.further))

    def only(self, names: tuple[str, ...]) -> CropMetadata:
        """Return the record of some of several channels, in the order of `names`."""
        if not self.further:
            return self
        named = {one.channel: one for one in self._each()}
        first, *others = (named[name] for name in names)
        return replace(self, **vars(first), further=tuple(others))

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
            one.negative if config.invert else one.statistics for one in self._each()
        )
        if config.needs_foreground and any(one.foreground is None for one in found):
            raise ConfigError(
                f"A crop of {self.image} was cut by an earlier version, which did not "
                "measure the foreground of its image; the model scales by it.",
                hint="Cut the crops again with this model: cellunet suggest.",
            )
        return found

    def _each(self) -> tuple[CropChannel, ...]:
        first = CropChannel(
            channel=self.channel, statistics=self.statistics, negative=self.negative
        )
        return (first, *self.further)

    def to_text(self) -> str:
        """Return the record as the description of a TIFF, in ASCII."""
        values = asdict(self)
        if not self.further:
            del values["further"]
        return json.dumps({KEY: values}, allow_nan=False)

    @classmethod
    def from_text(cls, text: str, path: Path) -> Self | None:
        """Return the record in a description; None if it is none of ours.

        Raises
        ------
        ImageReadError
            If it is ours and was damaged.
        """
        if not text.startswith(_BEGINS):
            return None
        try:
            return cls._of(json.loads(text)[KEY])
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
            channel=str(values["channel"]),
            percentiles=(low, high),
            statistics=_statistics(values["statistics"]),
            negative=_statistics(values["negative"]),
            further=tuple(
                CropChannel(
                    channel=str(one["channel"]),
                    statistics=_statistics(one["statistics"]),
                    negative=_statistics(one["negative"]),
                )
                for one in values.get("further", ())
            ),
        )


def _statistics(values: dict[str, Any]) -> Statistics:
    numbers = {k: float(v) for k, v in values.items() if v is not None}
    count = int(numbers.pop("count"))
    if not all(map(math.isfinite, numbers.values())):
        raise ValueError("not finite")
    return Statistics(**numbers, count=count)


def write_crop(
    path: Path,
    pixels: npt.NDArray[np.generic],
    cut: CropMetadata,
    pixel_size_um: tuple[float, float] | None,
) -> None:
    """Write a crop as TIFF in its own type, with its record; a page a channel.

    Parameters
    ----------
    path
        Where; the file appears complete or not at all.
    pixels
        YX, or CYX of several channels, any real type.
    cut
        Where it comes from.
    pixel_size_um
        Height and width of a pixel, if known.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    options: dict[str, Any] = {}
    if pixel_size_um is not None:
        y, x = (MICROMETERS_PER_CM / size for size in pixel_size_um)
        options = {"resolution": (x, y), "resolutionunit": "CENTIMETER"}
    with write_atomically(path) as temporary:
        tifffile.imwrite(
            temporary,
            pixels,
            photometric="minisblack",
            compression="zlib",
            description=cut.to_text(),
            metadata=None,
            software=SOFTWARE,
            **options,
        )
