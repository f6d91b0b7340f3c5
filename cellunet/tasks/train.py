"""Train a model on annotated folders, or go on with a training that was stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cellunet import store
from cellunet.core.checkpoint import load_state, save_state
from cellunet.core.device import choose_device, use_threads
from cellunet.core.unet import UNet
from cellunet.errors import CellunetError
from cellunet.imaging.atomic import writing
from cellunet.tasks.train_request import Hooks, RunInfo, Trained, TrainRequest
from cellunet.tasks.training.finish_training import Finished, Stopped, finish
from cellunet.tasks.training.run_files import write_history
from cellunet.tasks.training.start_channels import as_wide
from cellunet.tasks.training.start_model import read_start
from cellunet.tasks.training.suited import start_name
from cellunet.tasks.training.train_run import Run
from cellunet.tasks.training.train_stages import (
    forget_stages,
    load_stage,
    mean_history,
    save_stage,
    stages_of,
)
from cellunet.tasks.training.train_start import (
    about,
    as_it_began,
    claimed,
    first_state,
    in_home,
    read_images,
    refuse_other_images,
    refuse_other_start,
    saved_run,
    settled,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from cellunet.config import TrainConfig
    from cellunet.core.trainer import TrainState
    from cellunet.tasks.training.start_model import Start

__all__ = ["Hooks", "RunInfo", "TrainRequest", "Trained", "train"]

NOT_LOST = (
    "Free space, or change permissions there; what was saved stays, and --resume goes "
    "on from it."
)


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
    with claimed(request) as folder:
        return _train(request, folder, hooks or Hooks())


def _train(request: TrainRequest, folder: Path, hooks: Hooks) -> Trained:
    run = _prepared(request, folder, hooks)
    run.hooks.on_start(_info(run))
    with in_home(NOT_LOST):
        finished = _all_stages(run)
        report = Trained(
            name=run.name,
            folder=run.folder,
            finished=finished,
            epoch=run.state.epoch,
            epochs=run.config.epochs,
            history=tuple(mean_history(_histories(run))),
            fold=run.number + 1,
            folds=len(run.stages),
            notes=run.data.notes,
            start=run.start_name,
        )
        if not finished:
            return report
        # Once more, for a run that was killed between its last state and these.
        rows = mean_history(_histories(run))
        write_history(run.folder, rows, run.config.encoding.classes)
        try:
            made = finish(run)
        except Stopped:
            return replace(report, finished=False)
        _clean(run)
    return _with(report, made)


def _with(report: Trained, made: Finished) -> Trained:
    return replace(
        report,
        scores=made.card.scores,
        decode=made.card.config.decode,
        expected=made.expected,
        kept_start=made.kept_start,
    )


def _prepared(request: TrainRequest, folder: Path, hooks: Hooks) -> Run:
    """Check and read everything that the first step needs."""
    device = choose_device(request.device)
    threads = use_threads(request.threads)
    saved = saved_run(request, folder)
    if saved:
        request = as_it_began(request, saved)
    config = saved.config if saved else request.config
    start = read_start(
        saved.about["start"] if saved else start_name(request.start, config)
    )
    data = read_images(request, config, start, hooks)
    if start is not None:
        start = as_wide(start, data.samples, request.channel)
    if saved is None:
        config, notes = settled(request, data, start)
        for note in notes:
            hooks.on_note(note)
    else:
        refuse_other_images(saved, data, request.name)
        refuse_other_start(saved, start, request.name)
    stages = stages_of(data, request.split, config, hooks.track)
    if saved is None and request.minutes is not None:
        config = within(request.minutes, config, stages, device)
        hooks.on_note(
            f"A budget of {request.minutes:g} min makes {config.epochs} epochs of "
            f"{config.steps_per_epoch} steps at the speed measured here."
        )
    run = Run(
        name=request.name,
        folder=folder,
        device=device,
        threads=threads,
        config=config,
        data=data,
        start=start,
        stages=stages,
        about=saved.about if saved else about(request, data, start),
        state=_state(request, config, start, folder, device),
        networks=[],
        histories=[],
        hooks=hooks,
    )
    for number in range(run.number):
        network = UNet(config.network).to(device)
        network, history = load_stage(folder, number, network)
        run.networks.append(network)
        run.histories.append(history)
    return run


def _state(
    request: TrainRequest,
    config: TrainConfig,
    start: Start | None,
    folder: Path,
    device: torch.device,
) -> TrainState:
    """Return the state to go on from.

    What is left of a run that is to be replaced is removed, now that all is known to
    be well.
    """
    file = folder / store.STATE_FILE
    if request.resume:
        return load_state(file, config, device)
    state = first_state(start, config, device)
    with writing(file):
        file.unlink(missing_ok=True)
    forget_stages(folder)
    return state


def _info(run: Run) -> RunInfo:
    stage = run.stages[0]
    return RunInfo(
        training_images=len(run.data.training),
        validation_images=len(run.data.validation),
        device=str(run.device),
        threads=run.threads,
        epochs=run.config.epochs,
        steps_per_epoch=run.config.steps_per_epoch
        or -(-len(stage.training) // run.config.batch),
        parameters=sum(p.numel() for p in run.state.network.parameters()),
        folder=run.folder,
        start=run.start_name,
        folds=len(run.stages),
    )


def _histories(run: Run) -> list[list[dict[str, float]]]:
    return [*run.histories, run.state.history][: len(run.stages)]


def _all_stages(run: Run) -> bool:
    """Train stage after stage; return whether all are done."""
    while len(run.networks) < len(run.stages):
        if len(run.stages) > 1:
            run.hooks.on_note(f"Fold {run.number + 1} of {len(run.stages)}:")
        if not _steps(run):
            return False
        network = run.trainer().result(run.state)
        run.networks.append(network)
        run.histories.append(run.state.history)
        if len(run.networks) < len(run.stages):
            save_stage(run.folder, run.number, network, run.state.history)
            run.about = run.about | {"stage": run.number + 1}
            run.state = first_state(run.start, run.config, run.device)
            _save(run)
    return True


def _save(run: Run) -> None:
    save_state(run.folder / store.STATE_FILE, run.state, run.config, run.about)


def _steps(run: Run) -> bool:
    """Take the steps of a stage, saving every epoch; return whether all are taken."""
    trainer, hooks = run.trainer(), run.hooks
    before = run.number * trainer.total_steps
    total = len(run.stages) * trainer.total_steps

    def on_epoch(summary: Mapping[str, float]) -> None:
        _save(run)
        rows = mean_history(_histories(run))
        write_history(run.folder, rows, run.config.encoding.classes)
        hooks.on_epoch(summary)

    def on_step(state: TrainState, loss: float) -> None:
        done = before + state.epoch * trainer.steps_per_epoch + state.step
        hooks.on_step(done, total, loss)
        if not np.isfinite(loss):
            raise CellunetError(
                f"The loss became {loss} in step {done}.",
                hint="Try a smaller --learning-rate.",
            )

    finished = trainer.run(
        run.state, should_stop=hooks.should_stop, on_step=on_step, on_epoch=on_epoch
    )
    if not finished:
        _save(run)
    return finished


def _clean(run: Run) -> None:
    """Remove what is needed no more, now that the model is written."""
    state = run.folder / store.STATE_FILE
    with writing(state):
        state.unlink(missing_ok=True)
    forget_stages(run.folder)
