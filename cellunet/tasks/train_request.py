"""What a training is asked for, whom it tells, and what it returns; without torch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cellunet.config import DEVICE, SCRATCH, THREADS, SplitConfig, TrainConfig
from cellunet.errors import ConfigError
from cellunet.progress import silent_epoch, silent_track

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cellunet.config import DecodeConfig
    from cellunet.imaging.scoring.expected import Expected
    from cellunet.progress import OnEpoch, Track


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What to train on, under which name, and how."""

    data: tuple[Path, ...]
    """Annotated folders; at least one."""
    name: str
    """Name of the model."""
    config: TrainConfig = field(default_factory=TrainConfig)
    """Everything that decides the weights."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """Which images are kept out, where `data` has no lists."""
    given: frozenset[str] = frozenset()
    """Settings of `config` and `split` that were asked for even where they equal the
    defaults: ``weights.border_weight``, ``crop_px``, ``folds``. Of the others, what is
    as in `TrainConfig` was left open: it is taken from the model to start from, or
    from the run to resume."""
    start: str | None = None
    """``scratch``, or the model whose weights to start from; None: the model that
    ships, or ``scratch`` for a target or preset that it does not have."""
    validation: Path | None = None
    """A folder of validation images; None: some of `data`."""
    device: str = DEVICE
    """Where to compute."""
    threads: int = THREADS
    """CPU threads; 0: as many as this process may use cores."""
    resume: bool = False
    """Go on with the training of that name that was stopped."""
    overwrite: bool = False
    """Replace the model or the unfinished training of that name."""
    minutes: float | None = None
    """Time budget, turned into a number of steps before the first one."""
    channel: str | None = None
    """Number or name of the image channel, needed if there are several; more than one
    with commas between."""
    gray: bool = False
    """Use the luminance of RGB images."""
    ignore_value: int | None = None
    """Value of the pixels of label images that are not annotated."""

    def __post_init__(self) -> None:
        if not self.data:
            raise ConfigError("No annotated folder was named to train on.")
        if self.threads < 0:
            raise ConfigError(f"threads is {self.threads}, below 0.")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ConfigError(f"minutes is {self.minutes}; it must be above 0.")


def default_name(folder: Path) -> str:
    """Return the name of a model that is trained on `folder` and given no other.

    The folder's own name, with a hyphen for what cannot be in a model's.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name)
    return name.strip("._-")[:64] or "model"


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What is known before the first step."""

    training_images: int
    validation_images: int
    device: str
    threads: int
    epochs: int
    steps_per_epoch: int
    parameters: int
    folder: Path
    start: str
    """The model that it started from, or ``scratch``."""
    folds: int
    """Networks trained one after the other; 1 where some images are kept out."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Whom to tell what; silent by default."""

    on_note: Callable[[str], None] = lambda note: None
    on_start: Callable[[RunInfo], None] = lambda info: None
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None
    on_epoch: OnEpoch = silent_epoch
    track: Track = silent_track
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of it; `finished` is False if it was stopped and can be resumed."""

    name: str
    folder: Path
    finished: bool
    epoch: int
    epochs: int
    history: tuple[Mapping[str, float], ...]
    fold: int = 1
    """The network that was trained last, from 1; `epoch` is of it."""
    folds: int = 1
    """Networks trained one after the other; 1 where some images are kept out."""
    scores: dict[str, float] | None = None
    decode: DecodeConfig | None = None
    start: str = SCRATCH
    expected: Expected | None = None
    """Scores on images that were not trained on, and the gain over `start`."""
    kept_start: bool = False
    """Whether the weights are those of `start`, because training gained nothing."""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        plain = dict(vars(self))
        plain["folder"] = str(self.folder)
        plain["history"] = [dict(row) for row in self.history]
        plain["decode"] = self.decode.to_dict() if self.decode else None
        plain["expected"] = self.expected.to_dict() if self.expected else None
        plain["notes"] = list(self.notes)
        return plain
