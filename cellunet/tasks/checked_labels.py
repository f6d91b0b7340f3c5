"""What `cellunet.tasks.check_labels.check_labels` returns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from cellunet.config import CheckConfig

HINTS = ("several", "empty", "overlap", "hidden", "note")
"""Kinds of findings that alone need nobody: real data are full of them."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something odd about one annotation."""

    kind: str
    """``bug``, ``unreadable``, ``fragments``, ``pieces``, ``holes``, ``outside``,
    ``shifted``, ``misfit``, ``other-image``, ``duplicate``, or one of `HINTS`."""
    message: str
    """A sentence for people."""
    ids: tuple[int, ...] = ()
    """Objects concerned."""

    @property
    def needs_person(self) -> bool:
        """Whether a person should look before training."""
        return self.kind not in HINTS


@dataclass(frozen=True, kw_only=True)
class CheckedImage:
    """One annotation and what is odd about it."""

    name: str
    """Name of the image; ``val/NAME`` for one of the validation folder."""
    objects: int = 0
    """Objects that have a pixel."""
    areas_px: tuple[float, ...] = ()
    """Area of the objects: smallest, 5th, 50th and 95th percentile, largest."""
    annotated_share: float = 1.0
    """Share of the image's pixels that is annotated."""
    scribbled_px: tuple[int, int] = (0, 0)
    """Pixels that are annotated by scribbles: background, and inside an object."""
    correlation: float | None = None
    """Of brightness and labels in place; None if it cannot be told."""
    findings: tuple[Finding, ...] = ()
    """In the order of the checks."""

    @property
    def needs_person(self) -> bool:
        """Whether a person should look before training."""
        return any(f.needs_person for f in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        values = dataclasses.asdict(self) | {"needs_person": self.needs_person}
        values["areas_px"] = list(self.areas_px)
        values["scribbled_px"] = list(self.scribbled_px)
        values["findings"] = [
            dataclasses.asdict(f) | {"ids": list(f.ids), "needs_person": f.needs_person}
            for f in self.findings
        ]
        return values


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found in all annotations."""

    out: Path
    """The output folder."""
    layout: str
    """How the annotations were arranged."""
    config: CheckConfig
    """From when on something was odd."""
    images: tuple[CheckedImage, ...]
    """Sorted by name."""
    report: Path
    """The JSON file that holds all this."""
    sheets: tuple[Path, ...] = ()
    """Contact sheets, what needs a person first."""
    shown: tuple[str, ...] = ()
    """Names of the images on the sheets, in their order."""
    notes: tuple[str, ...] = ()
    """What was found and left out, in sentences."""
    areas_px: dict[str, float] = field(default_factory=dict)
    """Percentiles of the area of all objects, by their number."""

    @property
    def needs_person(self) -> bool:
        """Whether a person should look before training."""
        return any(image.needs_person for image in self.images)

    @property
    def counts(self) -> dict[str, int]:
        """Images by kind of finding, most frequent first."""
        kinds = [f.kind for image in self.images for f in image.findings]
        return {k: kinds.count(k) for k in sorted(set(kinds), key=kinds.count)[::-1]}

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "out": str(self.out),
            "layout": self.layout,
            "needs_person": self.needs_person,
            "config": self.config.to_dict(),
            "counts": self.counts,
            "objects": sum(image.objects for image in self.images),
            "areas_px": self.areas_px,
            "report": str(self.report),
            "sheets": [str(path) for path in self.sheets],
            "shown": list(self.shown),
            "images": [image.to_dict() for image in self.images],
            "notes": list(self.notes),
        }
