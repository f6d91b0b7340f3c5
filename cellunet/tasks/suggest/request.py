"""Define the request and result of suggesting crops."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cellunet.command_config import (
    DEVICE,
    MODEL,
    THREADS,
    AnnotationConfig,
    SuggestConfig,
)
from cellunet.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from cellunet.io.source import Pages


TABLE = "suggested.csv"
"""Name of the table of crops in their folder, by which it is known again."""


def temporary_beside(out: Path) -> Path:
    """Return what temporary files lie beside: in the folder of crops if it is there.

    What is above it may be another disk, or not to be written to.
    """
    return out.resolve() / TABLE if out.is_dir() else out.resolve()


@dataclass(frozen=True, kw_only=True)
class SuggestRequest:
    """Which images to choose crops from, and where they go."""

    images: tuple[str, ...]
    """Files, folders and patterns, as `cellunet.io.paths.find_inputs` takes."""
    out: Path
    """Folder of the crops; it appears when all of them are written."""
    data: tuple[Path, ...] = ()
    """Folders of what is annotated already."""
    model: str = MODEL
    """Name or path of the model whose uncertainty counts."""
    config: SuggestConfig = field(default_factory=SuggestConfig)
    """How many crops, of which size."""
    channel: str | None = None
    """Number or name of the image channel, needed if there are several; more than one
    with commas between."""
    gray: bool = False
    """Use the luminance of RGB images."""
    pages: Pages | None = None
    """What pages are that have no name; None: time points."""
    annotations: AnnotationConfig = field(default_factory=AnnotationConfig)
    """How those of `data` are read."""
    device: str = DEVICE
    """Where to compute."""
    threads: int = THREADS
    """CPU threads; 0: as many as this process may use cores."""
    overwrite: bool = False
    """Replace crops that were suggested before."""

    def __post_init__(self) -> None:
        if not self.images:
            raise ConfigError("No image was named to suggest crops of.")
        if self.threads < 0:
            raise ConfigError(f"threads is {self.threads}, below 0.")


@dataclass(frozen=True, kw_only=True)
class SuggestedCrop:
    """One crop that should be annotated."""

    name: str
    """Name of its files, without suffix."""
    image: str
    """Path of the image that it was cut from."""
    plane: int
    """Number of the plane in the image."""
    y: int
    """First row in the plane, in pixels."""
    x: int
    """First column."""
    height: int
    """Rows."""
    width: int
    """Columns."""
    uncertainty: float
    """`cellunet.tasks.suggest.choose.WindowFeatures.uncertainty`."""
    novelty: float
    """`cellunet.tasks.suggest.choose.ChosenWindow.novelty`."""
    share: float
    """`cellunet.tasks.suggest.choose.ChosenWindow.share`."""
    objects: int
    """Objects that the model finds in it."""
    unsure: int
    """Those that it is not sure of."""
    why: str
    """Why it was chosen, in words."""


@dataclass(frozen=True, kw_only=True)
class Suggested:
    """What was written, and what could not be looked at."""

    out: Path
    model: str
    sha256: str
    """Of the model's weights."""
    images: int
    """Images that were looked at."""
    annotations: str
    """Name of the folder of annotations in `out`."""
    crops: tuple[SuggestedCrop, ...]
    """In the order of their worth."""
    channels: tuple[str, ...] = ()
    """Names under which the crops hold several channels; none if they hold one."""
    bugs: int = 0
    """How many of the failures are faults of cellunet's or of a library."""
    failures: tuple[tuple[str, str], ...] = ()
    """Path and message of each image that could not be used."""
    notes: tuple[str, ...] = ()
    """What was found and left out, in sentences."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "out": str(self.out),
            "table": str(self.out / TABLE),
            "model": {"name": self.model, "sha256": self.sha256},
            "images": self.images,
            "annotations": str(self.out / self.annotations),
            "crops": [dataclasses.asdict(crop) for crop in self.crops],
            "bugs": self.bugs,
            "failures": [{"input": n, "message": m} for n, m in self.failures],
            "notes": list(self.notes),
        }
