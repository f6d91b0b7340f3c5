"""Train a model on annotated folders, or go on with a training that was stopped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cellunet import __version__, store
from cellunet.core.checkpoint import export_weights, save_state
from cellunet.core.dataset import network_input, prepare
from cellunet.core.device import choose_device, torch_version, use_threads
from cellunet.core.torch_engine import TorchEngine
from cellunet.core.trainer import Trainer
from cellunet.engine.base import plane_probabilities
from cellunet.errors import CellunetError
from cellunet.imaging.atomic import writing
from cellunet.imaging.blocks import network_plan
from cellunet.imaging.fitting import Truth, fit
from cellunet.tasks.calibrate import calibrate_on_samples
from cellunet.tasks.run_files import write_history, write_pictures
from cellunet.tasks.segment import Recipe
from cellunet.tasks.train_data import ChannelChoice, load, object_diameters_px
from cellunet.tasks.train_request import Hooks, RunInfo, Trained, TrainRequest
from cellunet.tasks.train_start import (
    about,
    claim,
    first_state,
    fitted_to,
    in_home,
    refuse_other_images,
    saved_run,
    within,
)
from cellunet.tasks.training_statistics import training_statistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from cellunet.config import TrainConfig
    from cellunet.core.dataset import Prepared, Sample
    from cellunet.core.trainer import TrainState
    from cellunet.core.unet import UNet
    from cellunet.engine.base import Engine
    from cellunet.imaging.fitting import Fit
    from cellunet.progress import Track
    from cellunet.tasks.train_data import TrainingData

__all__ = ["Hooks", "RunInfo", "TrainRequest", "Trained", "train"]

T = TypeVar("T")
SCORES = {"f1_50": 10, "f1_70": 14, "f1_90": 18}
"""F1 at these IoU thresholds, in twentieths."""
NOT_LOST = (
    "Free space, or change permissions there; what was saved stays, and --resume goes "
    "on from it."
)


class _Stopped(Exception):  # noqa: N818
    """The caller asked to stop after the last epoch, whose state is saved."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Everything of one training."""

    name: str
    folder: Path
    threads: int
    config: TrainConfig
    data: TrainingData
    about: dict[str, Any]
    validation: list[Prepared]
    trainer: Trainer
    state: TrainState
    hooks: Hooks


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
    run = _prepared(request, hooks or Hooks())
    run.hooks.on_start(_info(run))
    with in_home(NOT_LOST):
        finished = _steps(run)
        report = Trained(
            name=run.name,
            folder=run.folder,
            finished=finished,
            epoch=run.state.epoch,
            epochs=run.config.epochs,
            history=tuple(run.state.history),
            notes=run.data.notes,
        )
        if not finished:
            return report
        try:
            card = _finish(run)
        except _Stopped:
            return replace(report, finished=False)
    return replace(report, scores=card.scores, decode=card.config.decode)


def _prepared(request: TrainRequest, hooks: Hooks) -> _Run:
    """Check and read everything that the first step needs."""
    folder = claim(request)
    device = choose_device(request.device)
    threads = use_threads(request.threads)
    saved = saved_run(request, folder)
    config = saved.config if saved else request.config
    data = load(
        request.data,
        request.validation,
        request.split,
        seed=config.seed,
        channel=ChannelChoice(
            channel=request.channel,
            gray=request.gray,
            ignore_value=request.ignore_value,
        ),
        track=hooks.track,
    )
    for note in data.notes:
        hooks.on_note(note)
    if saved is not None:
        refuse_other_images(saved, data, request.name)
    config = fitted_to(config, data)
    training, validation = (
        [prepare(s, config) for s in hooks.track(side, "Encoding images", len(side))]
        for side in (data.training, data.validation)
    )
    if saved is None and request.minutes is not None:
        config = within(request.minutes, config, training, validation, device)
        hooks.on_note(
            f"A budget of {request.minutes:g} min makes {config.epochs} epochs of "
            f"{config.steps_per_epoch} steps at the speed measured here."
        )
    return _Run(
        name=request.name,
        folder=folder,
        threads=threads,
        config=config,
        data=data,
        about=saved.about if saved else about(request, data),
        validation=validation,
        trainer=Trainer(training, validation, config, device),
        state=first_state(request, config, device, folder),
        hooks=hooks,
    )


def _info(run: _Run) -> RunInfo:
    return RunInfo(
        training_images=len(run.data.training),
        validation_images=len(run.data.validation),
        device=str(run.trainer.device),
        threads=run.threads,
        epochs=run.config.epochs,
        steps_per_epoch=run.trainer.steps_per_epoch,
        parameters=sum(p.numel() for p in run.state.network.parameters()),
        folder=run.folder,
    )


def _steps(run: _Run) -> bool:
    """Take the steps and save after every epoch; return whether all are taken."""
    trainer, hooks = run.trainer, run.hooks

    def save() -> None:
        save_state(run.folder / store.STATE_FILE, run.state, run.config, run.about)

    def on_epoch(summary: Mapping[str, float]) -> None:
        save()
        write_history(run.folder, run.state.history, run.config.encoding.classes)
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
        run.state, should_stop=hooks.should_stop, on_step=on_step, on_epoch=on_epoch
    )
    if not finished:
        save()
    return finished


def _finish(run: _Run) -> store.ModelCard:
    """Choose the decode constants and write the model and its pictures."""
    network = run.trainer.result(run.state)
    track = _stoppable(run.hooks)
    truths = _predicted(network, run, track)
    chosen = fit(truths, run.config.encoding, run.config.decode, track)
    config = run.config.replace(decode=chosen.decode)
    statistics = training_statistics(
        run.data.training, _recipe(network, run, config), track
    )
    card = export_weights(
        run.folder / store.WEIGHTS_FILE,
        run.folder / store.ONNX_FILE,
        network,
        _card(run, config, mean_scores(chosen), statistics),
    )
    calibrate_on_samples(
        store.find_model(str(run.folder / store.WEIGHTS_FILE)),
        run.data.training,
        run.threads,
        run.hooks.track,
    )
    write_pictures(run.folder, truths, run.data.validation, config)
    state = run.folder / store.STATE_FILE
    with writing(state):
        state.unlink(missing_ok=True)
    return card


def _predicted(network: UNet, run: _Run, track: Track) -> list[Truth]:
    """Return the validation images with their probabilities."""
    config = run.config
    engine = TorchEngine(network, run.trainer.device)
    pairs = list(zip(run.validation, run.data.validation, strict=True))
    return [
        truth_of(engine, sample, prepared, config)
        for prepared, sample in track(pairs, "Predicting validation images", len(pairs))
    ]


def truth_of(
    engine: Engine, sample: Sample, prepared: Prepared, config: TrainConfig
) -> Truth:
    """Return a validation image with its probabilities."""
    probabilities = plane_probabilities(
        engine,
        network_input(prepared.crop.image, config),
        network_plan(sample.labels.shape, config.network),
        config.network.classes,
    )
    return Truth(
        name=sample.name,
        # Half precision holds what a threshold needs, in half the memory.
        probabilities=probabilities.astype(np.float16),
        labels=sample.labels,
        annotated=sample.annotated,
    )


def _stoppable(hooks: Hooks) -> Track:
    def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        for item in hooks.track(items, label, total):
            if hooks.should_stop():
                raise _Stopped
            yield item

    return track


def mean_scores(chosen: Fit) -> dict[str, float]:
    """Return the cross-fitted scores that a model's card quotes."""
    scores = {"mean_ap": float(np.mean([s.mean_ap for s in chosen.scores]))}
    for name, t20 in SCORES.items():
        scores[name] = float(np.mean([s.f1_at(t20) for s in chosen.scores]))
    return scores


def _recipe(network: UNet, run: _Run, config: TrainConfig) -> Recipe:
    engine = TorchEngine(network, run.trainer.device)
    return Recipe(engine=engine, config=config, decode=config.decode)


def _card(
    run: _Run,
    config: TrainConfig,
    scores: dict[str, float],
    statistics: dict[str, list[float]],
) -> store.ModelCard:
    return store.ModelCard(
        name=run.name,
        config=config,
        epochs=run.state.epoch,
        training=run.data.training_prints,
        validation=run.data.validation_prints,
        scores=scores,
        diameter_px=object_diameters_px(run.data.training),
        training_statistics=statistics,
        versions={
            "cellunet": __version__,
            "torch": torch_version(),
            "numpy": np.__version__,
        },
    )
