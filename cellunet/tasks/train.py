"""Train a model on annotated folders, or go on with a training that was stopped."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cellunet import __version__, store
from cellunet.config import PRESETS, DecodeConfig, SplitConfig, TrainConfig
from cellunet.core.checkpoint import (
    export_weights,
    load_network,
    load_state,
    read_state,
    save_state,
)
from cellunet.core.dataset import network_input, prepare
from cellunet.core.device import choose_device
from cellunet.core.torch_engine import TorchEngine
from cellunet.core.trainer import Trainer, new_state, state_from
from cellunet.engine.base import plane_probabilities
from cellunet.errors import CellunetError, ConfigError
from cellunet.imaging.atomic import writing
from cellunet.imaging.blocks import network_plan
from cellunet.imaging.fitting import Truth, fit
from cellunet.progress import silent_epoch, silent_track
from cellunet.tasks.run_files import write_history, write_pictures
from cellunet.tasks.train_data import ChannelChoice, load, object_diameters_px

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cellunet.core.dataset import Prepared
    from cellunet.core.trainer import TrainState
    from cellunet.core.unet import UNet
    from cellunet.imaging.fitting import Fit
    from cellunet.progress import OnEpoch, Track
    from cellunet.tasks.train_data import TrainingData

STATE_FILE = "state.safetensors"
SCORES = {"f1_50": 10, "f1_70": 14, "f1_90": 18}
"""F1 at these IoU thresholds, in twentieths."""
MARGIN = 0.93
"""Share of a time budget that is planned for steps and validations; the rest is for
reading, decode constants and pictures."""


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What to train on, under which name, and how."""

    data: tuple[Path, ...]
    name: str
    config: TrainConfig = field(default_factory=TrainConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    start: str = "scratch"
    """``scratch``, or the model whose weights to start from."""
    validation: Path | None = None
    device: str = "auto"
    threads: int = 0
    """CPU threads; 0: all cores."""
    resume: bool = False
    overwrite: bool = False
    minutes: float | None = None
    """Time budget, turned into a number of steps before the first one."""
    channel: str | None = None
    gray: bool = False


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
    scores: dict[str, float] | None = None
    decode: DecodeConfig | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        plain = dict(vars(self))
        plain["folder"] = str(self.folder)
        plain["history"] = [dict(row) for row in self.history]
        plain["decode"] = self.decode.to_dict() if self.decode else None
        plain["notes"] = list(self.notes)
        return plain


def train(request: TrainRequest, hooks: Hooks | None = None) -> Trained:
    """Train a model.

    Parameters
    ----------
    request
        What to train on and how.
    hooks
        Whom to tell.

    Raises
    ------
    CellunetError
        If the data, the settings, the name or the device cannot be used; before any
        step is taken. OutputError if the run's folder cannot be written.
    """
    hooks = hooks or Hooks()
    folder = _claim(request)
    device = choose_device(request.device)
    threads = _use_threads(request.threads)
    started = _started(request, folder)
    config = started or request.config
    data = load(
        request.data,
        request.validation,
        request.split,
        seed=config.seed,
        channel=ChannelChoice(channel=request.channel, gray=request.gray),
        track=hooks.track,
    )
    for note in data.notes:
        hooks.on_note(note)
    config = _fitted_to(config, data)
    training, validation = (
        [prepare(s, config) for s in hooks.track(side, "Encoding images", len(side))]
        for side in (data.training, data.validation)
    )
    if started is None and request.minutes is not None:
        config = _within(request.minutes, config, training, validation, device)
        hooks.on_note(
            f"{request.minutes:g} minutes are {config.epochs} epochs of "
            f"{config.steps_per_epoch} steps at the speed measured here."
        )
    trainer = Trainer(training, validation, config, device)
    state = _state(request, config, device, folder, data, resumed=started is not None)
    hooks.on_start(
        RunInfo(
            training_images=len(training),
            validation_images=len(validation),
            device=str(device),
            threads=threads,
            epochs=config.epochs,
            steps_per_epoch=trainer.steps_per_epoch,
            parameters=sum(p.numel() for p in state.network.parameters()),
            folder=folder,
        )
    )
    finished = _run(trainer, state, config, data, folder, hooks)
    report = Trained(
        name=request.name,
        folder=folder,
        finished=finished,
        epoch=state.epoch,
        epochs=config.epochs,
        history=tuple(state.history),
        notes=data.notes,
    )
    if not finished:
        return report
    network = trainer.result(state)
    chosen = _choose_constants(network, validation, data, config, device, hooks.track)
    config = config.replace(decode=chosen.decode)
    scores = _mean_scores(chosen)
    card = _card(request.name, config, data, state, scores)
    export_weights(folder / store.WEIGHTS_FILE, folder / store.ONNX_FILE, network, card)
    write_pictures(folder, network, validation, data.validation, config)
    (folder / STATE_FILE).unlink(missing_ok=True)
    return replace(report, scores=scores, decode=chosen.decode)


def _claim(request: TrainRequest) -> Path:
    """Return the run's folder, made if need be; refuse what is taken."""
    folder = store.model_folder(request.name)
    if (store.SHIPPED / request.name / store.WEIGHTS_FILE).is_file():
        raise ConfigError(
            f"{request.name!r} is the name of a model that ships with cellunet.",
            hint="Choose another: --name MY-CELLS.",
        )
    state, weights = folder / STATE_FILE, folder / store.WEIGHTS_FILE
    if request.resume and not state.is_file():
        why = "is finished" if weights.is_file() else "has not begun"
        raise ConfigError(
            f"There is nothing to resume: training {request.name!r} {why}.",
            hint="Leave out --resume, or see: cellunet models.",
        )
    if not request.resume and not request.overwrite:
        for taken, hint in (
            (state, "Go on with --resume, start anew with --overwrite, or --name."),
            (weights, "Choose another --name, or replace it with --overwrite."),
        ):
            if taken.is_file():
                raise ConfigError(f"{folder} exists already.", hint=hint)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    return folder


def _use_threads(threads: int) -> int:
    cores = (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )
    torch.set_num_threads(threads or cores)
    return torch.get_num_threads()


def _started(request: TrainRequest, folder: Path) -> TrainConfig | None:
    """Return the settings of the run to resume, or None for a new one."""
    if not request.resume:
        return None
    started = TrainConfig.from_dict(read_state(folder / STATE_FILE)["config"])
    asked = request.config
    if asked in (started, *(make() for make in PRESETS.values())):
        return started
    ours, theirs = started.to_dict(), asked.to_dict()
    differ = [key for key in ours if ours[key] != theirs[key]]
    raise ConfigError(
        f"Training {request.name!r} began with other settings ({', '.join(differ)}).",
        hint="Leave the options out to resume, or start anew with --overwrite.",
    )


def _fitted_to(config: TrainConfig, data: TrainingData) -> TrainConfig:
    """Return the settings with what follows from the data: channels, object size."""
    counts = {s.image.shape[0] for s in (*data.training, *data.validation)}
    if len(counts) != 1:
        raise ConfigError(f"The images have different numbers of channels: {counts}.")
    in_channels = counts.pop() * config.normalization.channels
    largest = max(
        int(np.bincount(s.labels.ravel())[1:].max(initial=1)) for s in data.training
    )
    return config.replace(
        network=config.network.replace(in_channels=in_channels),
        # Half as large again as any object seen.
        decode=config.decode.replace(max_core_px=max(largest * 3 // 2, 1)),
    )


def _within(
    minutes: float,
    config: TrainConfig,
    training: list[Prepared],
    validation: list[Prepared],
    device: torch.device,
) -> TrainConfig:
    """Return the settings with as many steps as fit a time budget, as measured."""
    if minutes <= 0:
        raise ConfigError(f"minutes is {minutes}; it must be above 0.")
    trainer = Trainer(training, validation, config, device)
    state = new_state(config, device)
    warm, timed = 3, 12
    seconds = 0.0
    for index, batch in enumerate(trainer.sampler.batches(0, 0)):
        begin = time.perf_counter()
        trainer.step(state, batch)
        seconds += time.perf_counter() - begin if index >= warm else 0.0
        if index + 1 >= warm + timed:
            break
    per_step = seconds / timed
    begin = time.perf_counter()
    trainer.validate(state.average)
    per_epoch = time.perf_counter() - begin
    budget = minutes * 60 * MARGIN - per_epoch * config.epochs
    steps = int(max(budget, 0.0) / per_step / config.epochs)
    return config.replace(steps_per_epoch=max(steps, 1))


def _state(
    request: TrainRequest,
    config: TrainConfig,
    device: torch.device,
    folder: Path,
    data: TrainingData,
    *,
    resumed: bool,
) -> TrainState:
    if resumed:
        about = read_state(folder / STATE_FILE)["about"]
        if about != _about(data):
            raise ConfigError(
                f"The images are not those that training {request.name!r} began with.",
                hint="Give the same folders and split, or start anew: --overwrite.",
            )
        return load_state(folder / STATE_FILE, config, device)
    (folder / STATE_FILE).unlink(missing_ok=True)
    if request.start == "scratch":
        return new_state(config, device)
    model = store.find_model(request.start)
    theirs = model.card.config
    for what, ours, other in (
        ("network", config.network, theirs.network),
        ("target", config.encoding.target, theirs.encoding.target),
        ("normalization", config.normalization, theirs.normalization),
    ):
        if ours != other:
            raise ConfigError(
                f"Model {request.start!r} has another {what} ({other}) than asked "
                f"for ({ours}).",
                hint="Choose matching settings, or --from scratch.",
            )
    return state_from(load_network(model.weights), config, device)


def _about(data: TrainingData) -> dict[str, Any]:
    return {"training": data.training_prints, "validation": data.validation_prints}


def _run(
    trainer: Trainer,
    state: TrainState,
    config: TrainConfig,
    data: TrainingData,
    folder: Path,
    hooks: Hooks,
) -> bool:
    def save() -> None:
        save_state(folder / STATE_FILE, state, config, _about(data))

    def on_epoch(summary: Mapping[str, float]) -> None:
        save()
        write_history(folder, state.history, config.encoding.classes)
        hooks.on_epoch(summary)

    def on_step(state: TrainState, loss: float) -> None:
        done = state.epoch * trainer.steps_per_epoch + state.step
        hooks.on_step(done, trainer.total_steps, loss)
        if not np.isfinite(loss):
            raise CellunetError(
                f"The loss became {loss} in step {done}.",
                hint="Try a smaller --learning-rate.",
            )

    finished = trainer.run(
        state, should_stop=hooks.should_stop, on_step=on_step, on_epoch=on_epoch
    )
    if not finished:
        save()
    return finished


def _choose_constants(
    network: UNet,
    validation: list[Prepared],
    data: TrainingData,
    config: TrainConfig,
    device: torch.device,
    track: Track,
) -> Fit:
    engine = TorchEngine(network, device)
    truths = []
    pairs = list(zip(validation, data.validation, strict=True))
    for prepared, sample in track(pairs, "Predicting validation images", len(pairs)):
        blocks = network_plan(sample.labels.shape, config.network)
        probabilities = plane_probabilities(
            engine,
            network_input(prepared.crop.image, config),
            blocks,
            config.network.classes,
        )
        truths.append(
            Truth(
                name=sample.name,
                # Half precision holds what a threshold needs, in half the memory.
                probabilities=probabilities.astype(np.float16),
                labels=sample.labels,
                annotated=sample.annotated,
            )
        )
    return fit(truths, config.encoding, config.decode, track)


def _mean_scores(chosen: Fit) -> dict[str, float]:
    scores = {"mean_ap": float(np.mean([s.mean_ap for s in chosen.scores]))}
    for name, t20 in SCORES.items():
        scores[name] = float(np.mean([s.f1_at(t20) for s in chosen.scores]))
    return scores


def _card(
    name: str,
    config: TrainConfig,
    data: TrainingData,
    state: TrainState,
    scores: dict[str, float],
) -> store.ModelCard:
    return store.ModelCard(
        name=name,
        config=config,
        epochs=state.epoch,
        training=data.training_prints,
        validation=data.validation_prints,
        scores=scores,
        diameter_px=object_diameters_px(data.training),
        versions={
            "cellunet": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    )
