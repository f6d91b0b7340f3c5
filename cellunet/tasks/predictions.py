"""What `predict` returns: what became of each image, and with what."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from cellunet.imaging.damage import Damage

Status = Literal["done", "skipped", "failed", "planned"]


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """What became of one input."""

    input: str
    """As it was named or found."""
    output: str | None
    """The label image; None if it failed."""
    status: Status
    """``skipped``: the result was there; ``planned``: it would be made."""
    objects: int | None = None
    """Objects in all planes."""
    seconds: float = 0.0
    """Time that it took."""
    message: str = ""
    """Why it failed."""
    bug: bool = False
    """Whether it failed by a fault of cellunet's or of a library, not of its own."""
    warnings: tuple[str, ...] = ()
    """What to look at, though it did not fail."""
    shape: tuple[int, ...] | None = None
    """Lengths of T and Z if there are, height and width."""
    damaged: tuple[Damage, ...] = ()
    """What could not be read and was taken for zeros."""
    notes: tuple[str, ...] = ()
    """What to know of how it was read; nothing is wrong."""
    pixel_size_um: tuple[float, float] | None = None
    """Height and width of a pixel, if they are known."""
    pixel_size_from: str = ""
    """Where that stands in the file, or beside it."""
    image: str = ""
    """Number of the image in a file of several."""
    channels: tuple[str, ...] = ()
    """Names of the channels that were read."""
    position: str = ""
    """Well, site or field, in the words of the file."""
    acquired: str = ""
    """When it was taken, in the words of the file."""


def or_lost(result: ImageResult) -> ImageResult:
    """Return a result, failed if its label image was removed since it was made."""
    finished = result.status in ("done", "skipped") and result.output is not None
    # Of os.path, because Path.exists may raise where a folder may not be entered.
    if not finished or os.path.exists(str(result.output)):  # noqa: PTH110
        return result
    return replace(
        result,
        output=None,
        status="failed",
        message=f"{result.output} was removed while other images were segmented. "
        "Run the same command again, and leave the folder there.",
    )


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What became of all inputs, and with what."""

    model: dict[str, str]
    """Name of the model and SHA-256 of its weights."""
    engine: str
    """What computed, version and device included."""
    settings: dict[str, Any]
    """How the model was applied, as in the results' provenance."""
    images: tuple[ImageResult, ...]
    """In the order of the inputs; after a stop, those that were reached."""
    seconds: float
    """Time that the call took."""
    stopped: bool = False
    """Whether the caller stopped it."""
    table: str | None = None
    """Table of the objects of all images that are finished, if tables are saved."""
    report: str | None = None
    """The page that shows it all, if one was asked for."""
    notes: tuple[str, ...] = ()
    """What lay among the images and was left out, in sentences."""
    warnings: tuple[str, ...] = ()
    """What to look at that concerns no single image, in sentences."""

    @property
    def done(self) -> tuple[ImageResult, ...]:
        """Inputs segmented in this call."""
        return tuple(i for i in self.images if i.status == "done")

    @property
    def skipped(self) -> tuple[ImageResult, ...]:
        """Inputs whose result was there already."""
        return tuple(i for i in self.images if i.status == "skipped")

    @property
    def failed(self) -> tuple[ImageResult, ...]:
        """Inputs that could not be segmented, each with its message."""
        return tuple(i for i in self.images if i.status == "failed")

    @property
    def bugs(self) -> int:
        """How many failed by a fault that is not theirs."""
        return sum(i.bug for i in self.images)

    @property
    def damaged(self) -> tuple[ImageResult, ...]:
        """Inputs that were segmented with zeros in place of what is lost."""
        return tuple(i for i in self.images if i.damaged)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        plain = dict(vars(self)) | {
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }
        plain["images"] = [
            vars(i)
            | {
                "warnings": list(i.warnings),
                "notes": list(i.notes),
                "channels": list(i.channels),
                "pixel_size_um": i.pixel_size_um and list(i.pixel_size_um),
                "shape": i.shape and list(i.shape),
                "damaged": [vars(d) for d in i.damaged],
            }
            for i in self.images
        ]
        return plain
