"""What `cellunet.tasks.make_labels.make_labels` returns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class MadeImage:
    """What one annotation came out as."""

    name: str
    """Name of its files below the output folder, without suffix."""
    kind: str
    """How it was drawn: a name in `cellunet.imaging.annotations.ANNOTATIONS`."""
    height_px: int
    """Rows."""
    width_px: int
    """Columns."""
    objects: int
    """Objects that have a pixel."""
    median_area_px: float | None
    """Median of their areas; None without objects."""
    overlap_px: int
    """Pixels that several objects claimed; the smallest object got them."""
    hidden: int
    """Objects without a pixel of their own, which were left out."""
    outside: int = 0
    """Objects outside the image, which were left out."""
    annotated_share: float = 1.0
    """Share of the image's pixels that is annotated, scribbles aside."""
    scribbled_px: tuple[int, int] = (0, 0)
    """Pixels that are known by scribbles alone: background, and inside an object."""
    notes: tuple[str, ...] = ()
    """What to know about the drawing, in sentences."""


@dataclass(frozen=True, kw_only=True)
class MadeLabels:
    """What `make_labels` wrote, and what it could not."""

    out: Path
    """The output folder."""
    layout: str
    """How the annotations were arranged."""
    images: tuple[MadeImage, ...]
    """One for each annotation that was decoded."""
    failures: tuple[tuple[str, str], ...]
    """Name and message of each annotation that was not."""
    notes: tuple[str, ...]
    """What was found and left out, in sentences."""
    bugs: int = 0
    """How many of the failures are faults of cellunet's or of a library."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain dictionaries, lists, text and numbers."""
        return {
            "out": str(self.out),
            "layout": self.layout,
            "images": [
                dataclasses.asdict(image)
                | {
                    "notes": list(image.notes),
                    "scribbled_px": list(image.scribbled_px),
                }
                for image in self.images
            ],
            "failures": [{"name": n, "message": m} for n, m in self.failures],
            "bugs": self.bugs,
            "notes": list(self.notes),
            "objects": sum(image.objects for image in self.images),
        }
