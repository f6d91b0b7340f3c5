"""Define the request and result of a training; choose its preset, without torch."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cellunet import store
from cellunet.annotations.pairs import find_pairs, listed
from cellunet.command_config import (
    DEVICE,
    FOLDS,
    MODEL,
    SCRATCH,
    THREADS,
    AnnotationConfig,
    SplitConfig,
)
from cellunet.config import FEW_IMAGES, TARGET, TrainConfig
from cellunet.errors import ConfigError
from cellunet.presets import PRESETS, configure, for_target
from cellunet.progress import silent_track

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from cellunet.config import DecodeConfig, Target
    from cellunet.io.source import Pages
    from cellunet.metrics.fit import ExpectedScores
    from cellunet.progress import Track


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
    pages: Pages | None = None
    """What pages are that have no name; None: time points."""
    annotations: AnnotationConfig = field(default_factory=AnnotationConfig)
    """How annotations are read."""

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
    processes: int = 1
    """How many share every step."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Callbacks of a training; silent by default. Each process calls its own."""

    on_note: Callable[[str], None] = lambda note: None
    on_start: Callable[[RunInfo], None] = lambda info: None
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None
    on_epoch: Callable[[Mapping[str, float]], None] = lambda summary: None
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
    expected: ExpectedScores | None = None
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
        plain["expected"] = asdict(self.expected) if self.expected else None
        plain["notes"] = list(self.notes)
        return plain


@dataclass(frozen=True, kw_only=True)
class PresetChoice:
    """What to train with where nothing else is asked for."""

    preset: str
    folds: int
    """0 where some images are kept out for validation."""
    target: Target
    """What the network learns."""


def began_with(name: str) -> PresetChoice:
    """Return what suits a training that is to be resumed: the preset it began with.

    Parameters
    ----------
    name
        Of the model; without a saved state the default preset, for whoever refuses to
        resume it.

    Raises
    ------
    CheckpointError
        If the state cannot be read.
    """
    state = store.model_folder(name) / store.STATE_FILE
    if not state.is_file():
        return PresetChoice(preset=TrainConfig.preset, folds=0, target=TARGET)
    config = store.read_metadata(state).get("config")
    preset, encoding = (
        config.get(name) if isinstance(config, dict) else None
        for name in ("preset", "encoding")
    )
    # Values out of range are refused when the whole state is read.
    boundary = isinstance(encoding, dict) and encoding.get("target") == "boundary"
    return PresetChoice(
        preset=preset if preset in PRESETS else TrainConfig.preset,
        folds=0,
        target="boundary" if boundary else TARGET,
    )


def choose_preset(
    folders: Sequence[Path],
    validation: Path | None = None,
    *,
    given: Mapping[str, Any] | None = None,
    start: str | None = None,
    keep_out: bool = False,
    planes: str | None = None,
) -> PresetChoice:
    """Return the preset, the folds and the target for annotated folders.

    Up to `cellunet.config.FEW_IMAGES` images that start from a model take the preset
    ``few``; if none of them is set aside for validation they are cross-validated.

    Parameters
    ----------
    folders
        Annotated folders.
    validation
        A folder of validation images.
    given
        Settings that were given, as `configure` takes them. A target, network or
        normalization that the model that ships does not have starts from ``scratch``,
        for which there is no preset for few images.
    start
        What training is to start from, if that was given; its target is learned if
        none is among `given`.
    keep_out
        Whether a share of the images is to be kept out for validation.
    planes
        Planes of stacks, as `find_pairs` takes them.

    Raises
    ------
    InputError
        If a folder holds no pairs, or partners are missing.
    """
    target = TARGET
    if start not in (None, SCRATCH):
        target = store.find_model(str(start)).card.config.encoding.target
    asked = configure(given or {}, target=target)
    begins_with, target = pretrained_name(start, asked), asked.encoding.target
    found = [find_pairs(folder, planes) for folder in folders]
    count = sum(len(listed(pairs)) for pairs in found)
    if begins_with == SCRATCH or count > FEW_IMAGES:
        return PresetChoice(preset=TrainConfig.preset, folds=0, target=target)
    kept_out = validation or keep_out or any(p.validation is not None for p in found)
    # A single image is cut in two.
    folds = 0 if kept_out else min(FOLDS, max(count, 2))
    return PresetChoice(preset="few", folds=folds, target=target)


def pretrained_name(wanted: str | None, config: TrainConfig) -> str:
    """Return what training starts from: what is wanted, else the model that ships.

    A preset or target that the model that ships does not have starts from scratch,
    unless another model is named.
    """
    if wanted is not None:
        return wanted
    theirs = store.find_model(MODEL).card.config
    fits = config.encoding.target == theirs.encoding.target and _takes_network(config)
    return MODEL if fits else SCRATCH


def _takes_network(config: TrainConfig) -> bool:
    """Return whether network and normalization were left open."""
    usual = for_target(TrainConfig(), config.encoding.target)
    return (config.network, config.normalization) == (
        usual.network,
        usual.normalization,
    )
