"""How an image file is opened, and what is said and kept of that.

Its level, its scale, its damage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellunet.imaging.damage import Damage
from cellunet.imaging.files import open_image
from cellunet.run.memory import MEGABYTE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cellunet.config import PredictConfig
    from cellunet.imaging.files import Source

MOST_NAMED = 3
"""Lost parts that a warning names; the JSON document and the provenance name all."""


def open_as(
    path: Path,
    config: PredictConfig,
    channel: str | None = None,
    known: tuple[str, ...] = (),
    image: str | None = None,
) -> Source:
    """Open an image as a configuration says, or another channel of it.

    Where no channel is asked for, those of the names `known` are opened, if there are.
    `image` is the one to open of a file of several, the largest by default.
    """
    limit = config.max_memory_mb
    return open_image(
        path,
        channel=config.channel if channel is None else channel,
        gray=config.gray,
        z=config.z,
        level=config.level,
        keep_going=config.keep_going,
        limit_bytes=None if limit is None else limit * MEGABYTE,
        known=known,
        image=image,
    )


def file_settings(config: PredictConfig) -> dict[str, Any]:
    """Return the settings of how files are read, those of their default left out.

    So results from before these settings existed are still recognised as finished.
    """
    settings: dict[str, Any] = {}
    if config.pixel_size_um is not None:
        # Each image has a scale of its own, which is in its provenance.
        settings |= {"pixel_size_um": config.pixel_size_um, "scale": None}
    if config.level:
        settings["level"] = config.level
    if config.keep_going:
        settings["keep_going"] = True
    return settings


def record(damaged: Sequence[Damage]) -> dict[str, Any]:
    """Return what the provenance of a result says of parts that were lost."""
    return {"damaged": [vars(d) for d in damaged]} if damaged else {}


def recorded(provenance: Mapping[str, Any] | None) -> tuple[Damage, ...]:
    """Return the lost parts that a provenance names."""
    return tuple(Damage(**d) for d in (provenance or {}).get("damaged", ()))


def without_damage(provenance: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what was asked for, without what was lost on the way."""
    return {k: v for k, v in (provenance or {}).items() if k != "damaged"}


def damage_warnings(damaged: Sequence[Damage]) -> tuple[str, ...]:
    """Return what to say of lost parts: nothing, or one warning."""
    if not damaged:
        return ()
    named = "; ".join(f"{d.place} ({d.reason})" for d in damaged[:MOST_NAMED])
    rest = len(damaged) - MOST_NAMED
    more = f"; and {rest:,} more" if rest > 0 else ""
    parts = "1 part" if len(damaged) == 1 else f"{len(damaged):,} parts"
    return (
        f"{parts} of the image could not be read, and zeros were taken there: "
        f"{named}{more}. Do not trust labels there; copy or export it again.",
    )


def file_warnings(source: Source, damaged: Sequence[Damage]) -> tuple[str, ...]:
    """Return what to say of how an image was read."""
    note = (source.memory_note,) if source.memory_note else ()
    return (*note, *damage_warnings(damaged))
