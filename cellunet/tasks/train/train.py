"""Train a model on annotated folders."""

from __future__ import annotations

import contextlib
import copy
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet import store
from cellunet.command_config import SCRATCH, SplitConfig
from cellunet.core import checkpoint
from cellunet.core.dataset import prepare, steps_per_epoch
from cellunet.core.device import choose_device, torch_version, use_threads
from cellunet.core.distributed import connected, gathered, refuse_different, together
from cellunet.core.trainer import Trainer, new_state, state_from
from cellunet.core.unet import UNet
from cellunet.errors import CellunetError, ConfigError
from cellunet.io.files import PendingFile, clear_leftovers, writing
from cellunet.ranks import ALONE, ranks_of
from cellunet.tasks.train import data as images
from cellunet.tasks.train import pretrained
from cellunet.tasks.train.checks import training_notes
from cellunet.tasks.train.finish import (
    PICTURES_FOLDER,
    TrainingStopped,
    draw_curves,
    finish,
    write_history,
)
from cellunet.tasks.train.folds import Fold, is_scored, make_folds, objects_of
from cellunet.tasks.train.request import (
    Hooks,
    RunInfo,
    Trained,
    TrainRequest,
    pretrained_name,
)
from cellunet.tasks.train.resume import (
    SavedRun,
    about,
    as_it_began,
    moved,
    refuse_other,
    saved_run,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import torch

    from cellunet.config import TrainConfig
    from cellunet.core.dataset import Prepared, Sample
    from cellunet.core.trainer import TrainState
    from cellunet.progress import Track
    from cellunet.ranks import Ranks
    from cellunet.tasks.train.data import TrainingData
    from cellunet.tasks.train.pretrained import PretrainedModel


@dataclass(frozen=True, kw_only=True)
class FoldRun:
    """The prepared images of the training of one fold."""

    training: list[Prepared]
    validation: list[Prepared]


@dataclass(kw_only=True)
class Run:
    """What a run is made of, and where it is."""

    name: str
    folder: Path
    device: torch.device
    threads: int
    config: TrainConfig
    data: TrainingData
    start: PretrainedModel | None
    folds: list[FoldRun]
    about: dict[str, Any]
    """What the run is known by when it is resumed; ``fold`` is the one it is in."""
    state: TrainState
    """Of that fold."""
    networks: list[UNet]
    """Of the folds before."""
    histories: list[list[dict[str, float]]]
    """Of the folds before."""
    hooks: Hooks
    ranks: Ranks
    """Which process this is; the first one alone writes."""

    @property
    def fold(self) -> int:
        """Number of the fold that the run is in, from 0."""
        return int(self.about["fold"])

    @property
    def start_name(self) -> str:
        """The model that it began with, or ``scratch``."""
        return self.start.name if self.start else SCRATCH

    def trainer(self) -> Trainer:
        """Return what takes the steps of the fold that the run is in."""
        fold = self.folds[self.fold]
        return Trainer(
            fold.training, fold.validation, self.config, self.device, self.ranks
        )


MARGIN = 0.93
"""Share of a time budget that is planned for steps and validations; the rest is for
reading, decode constants and pictures."""

SMALL_CROP_PX = 256
"""Crops up to this side cost little, however small the images are."""

DRAW_EVERY_S = 30.0
"""Seconds between drawings of the curves: each takes most of one."""

WARM_STEPS, TIMED_STEPS = 3, 12
"""Steps taken, and thrown away, to learn how long one takes."""


@contextlib.contextmanager
def locked_name(request: TrainRequest) -> Iterator[Path]:
    """Have the run's folder to oneself; refuse a taken name, or no place to write.

    Raises
    ------
    ConfigError
        If the name is taken, or there is nothing to resume.
    BusyError
        If another process is training under that name.
    OutputError
        If the folder cannot be made or written to.
    """
    # What is there already is looked at once nobody else can change it.
    folder = store.new_folder(request.name, overwrite=True)
    with contextlib.ExitStack() as stack:
        with store.in_home():
            with writing(folder):
                folder.parent.mkdir(parents=True, exist_ok=True)
                locked = stack.enter_context(store.training(request.name))
            if not (folder / store.STATE_FILE).is_file():
                # Of a run that was killed when it had finished, its state removed.
                remove_fold_runs(folder)
            _refuse_taken(request, folder)
            _refuse_unwritable(folder)
        if locked:
            clear_leftovers([folder, folder / PICTURES_FOLDER])
        yield folder


def _refuse_taken(request: TrainRequest, folder: Path) -> None:
    state, weights = folder / store.STATE_FILE, folder / store.WEIGHTS_FILE
    if request.resume and not state.is_file():
        why = "is finished" if weights.is_file() else "has not begun"
        raise ConfigError(
            f"There is nothing to resume: training {request.name!r} {why}.",
            hint="Leave out --resume, or see: cellunet models.",
        )
    if not request.resume and not request.overwrite:
        for taken, hint in (
            (state, "Go on with --resume, or begin anew: --overwrite, another --name."),
            (weights, "Choose another --name, or replace it with --overwrite."),
        ):
            if taken.is_file():
                raise ConfigError(f"{folder} exists already.", hint=hint)


def _refuse_unwritable(folder: Path) -> None:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    PendingFile(folder / "probe").abort()
    # Data that are refused later leave no empty folder behind.
    with contextlib.suppress(OSError):
        folder.rmdir()


def read_images(
    request: TrainRequest,
    config: TrainConfig,
    start: PretrainedModel | None,
    hooks: Hooks,
) -> TrainingData:
    """Return the images that are asked for, with notes of what is odd about them.

    Raises
    ------
    CellunetError
        If they cannot be used, or hold scribbles alone and nothing to start from.
    """
    data = images.load(
        request.data,
        request.validation,
        request.split,
        seed=config.seed,
        channel=images.ChannelChoice(
            channel=request.channel,
            gray=request.gray,
            pages=request.pages,
            annotations=request.annotations,
            known=start.card.channels if start else (),
        ),
        track=hooks.track,
    )
    known_as = start.name if start else SCRATCH
    odd = training_notes(data, start=known_as, target=config.encoding.target)
    data = replace(data, notes=(*data.notes, *odd))
    for note in data.notes:
        hooks.on_note(note)
    return data


def resolve_config(
    request: TrainRequest, data: TrainingData, start: PretrainedModel | None
) -> tuple[TrainConfig, list[str]]:
    """Return the settings with what follows from the start and from the images.

    Raises
    ------
    ConfigError
        If they do not go together.
    """
    config, samples = request.config, data.samples
    pretrained.refuse_classic(config, samples)
    if start is None:
        return fitted_to(config, data), []
    config, notes = pretrained.adapt_pretrained(
        pretrained.with_pretrained(config, start, request.given), start, samples
    )
    known = pretrained.known_images(
        start, data.training_prints | data.validation_prints
    )
    if known:
        notes.append(
            f"{len(known)} of the {len(samples)} images are among those that "
            f"{start.name} was made from ({', '.join(known[:3])}"
            f"{', ...' if len(known) > 3 else ''}): scores on them say little about "
            "other images."
        )
    edge = start.card.config.decode.edge
    if edge and not config.decode.edge:
        notes.append(
            f"{start.name} puts outlines at an edge of {edge:g}. What is trained "
            "learns those of the annotations instead: its edge is 0."
        )
    return fitted_to(config, data), notes


def _refuse_empty_crops(config: TrainConfig, data: TrainingData) -> None:
    """Refuse crops that are far larger than every image: most of each is padding."""
    side = max(max(s.labels.shape) for s in data.training)
    if config.crop_px > max(SMALL_CROP_PX, 2 * side * config.scale):
        raise ConfigError(
            f"Crops of {config.crop_px} px are far larger than the training images, "
            f"whose longest side is {side} px.",
            hint=f"Leave out crop_px, or try: crop_px = {SMALL_CROP_PX}.",
        )


def fitted_to(config: TrainConfig, data: TrainingData) -> TrainConfig:
    """Return the settings with what follows from the data: channels, object size.

    Raises
    ------
    ConfigError
        If images differ in their number of channels, or crops are far larger than any.
    """
    _refuse_empty_crops(config, data)
    count = pretrained.count_of(data.samples)
    in_channels = count * config.normalization.channels
    largest = 0
    for sample in data.training:
        _, areas = np.unique(sample.labels[sample.labels > 0], return_counts=True)
        largest = max(largest, round(areas.max(initial=0) * config.scale**2))
    config = config.replace(network=config.network.replace(in_channels=in_channels))
    if not largest:
        # Scribbles have no size.
        return config
    # Half as large again as any object seen.
    decode = config.decode.replace(max_core_px=max(largest * 3 // 2, 1))
    return config.replace(decode=decode)


def within(
    minutes: float,
    config: TrainConfig,
    folds: Sequence[FoldRun],
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
    *,
    ranks: Ranks = ALONE,
) -> TrainConfig:
    """Return the settings with as many steps as fit a time budget, as measured here.

    Parameters
    ----------
    minutes
        The budget of all folds, above 0.
    config
        Its epochs stay; at least one step of each remains.
    folds
        Trainings that follow each other.
    device
        Where to compute.
    clock
        Returns seconds.
    ranks
        Which process this is; the first one's clock counts.
    """
    probe = config.replace(steps_per_epoch=WARM_STEPS + TIMED_STEPS)
    trainer = Trainer(folds[0].training, folds[0].validation, probe, device, ranks)
    state = new_state(config, device)
    begin = 0.0
    with contextlib.closing(trainer.sampler.batches(0, 0)) as batches:
        for index, batch in enumerate(batches):
            if index == WARM_STEPS:
                begin = clock()
            trainer.step(state, batch)
    per_step = (clock() - begin) / TIMED_STEPS
    begin = clock()
    trainer.validate(state.average)
    per_epoch = clock() - begin
    budget = minutes * 60 * MARGIN / len(folds) - per_epoch * config.epochs
    steps = int(max(budget, 0.0) / per_step / config.epochs)
    return config.replace(steps_per_epoch=gathered(ranks, max(steps, 1))[0])


def first_state(
    start: PretrainedModel | None, config: TrainConfig, device: torch.device
) -> TrainState:
    """Return the state before the first step: of a model, or drawn from the seed."""
    if start is None:
        return new_state(config, device)
    return state_from(copy.deepcopy(start.network), config, device)


def fold_runs(
    data: TrainingData, split: SplitConfig, config: TrainConfig, track: Track
) -> list[FoldRun]:
    """Return one run, or one for each fold where no validation images are given.

    Raises
    ------
    CellunetError
        If the images cannot be divided into folds.
    """
    if data.validation:
        folds = [Fold(training=data.training, validation=data.validation)]
    elif not any(is_scored(s) and objects_of(s) for s in data.training):
        # Nothing can be scored, so that no image need be kept out for it.
        folds = [Fold(training=data.training, validation=data.training)]
    else:
        folds = make_folds(data.training, split.folds, config.seed)
    ready: dict[int, Prepared] = {}

    def prepared(samples: Sequence[Sample]) -> list[Prepared]:
        for sample in track(samples, "Encoding images", len(samples)):
            # Folds share their images.
            if id(sample) not in ready:
                ready[id(sample)] = prepare(sample, config)
        return [ready[id(sample)] for sample in samples]

    return [
        FoldRun(
            training=prepared(fold.training),
            validation=prepared(fold.validation),
        )
        for fold in folds
    ]


def remove_fold_runs(folder: Path) -> None:
    """Remove the networks of finished folds."""
    for file in folder.glob(store.FOLD_FILE.format("*")):
        with writing(file):
            file.unlink()


def mean_history(
    histories: Sequence[Sequence[Mapping[str, float]]],
) -> list[dict[str, float]]:
    """Return one row an epoch, the mean over the folds that came as far.

    Examples
    --------
    >>> mean_history([[{"epoch": 1.0, "loss": 2.0}], [{"epoch": 1.0, "loss": 4.0}]])
    [{'epoch': 1.0, 'loss': 3.0}]
    """
    longest = max(histories, key=len)
    rows = []
    for epoch, names in enumerate(longest):
        there = [history[epoch] for history in histories if epoch < len(history)]
        rows.append(
            {name: sum(row[name] for row in there) / len(there) for name in names}
        )
    return rows


def _fold_file(folder: Path, number: int) -> Path:
    return folder / store.FOLD_FILE.format(number)


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
        Callbacks for notes, progress and stopping.

    Raises
    ------
    CellunetError
        If the data, the settings, the name or the device cannot be used; before any
        step is taken. OutputError if the run's folder cannot be written.
    """
    ranks = ranks_of(os.environ)
    device = choose_device(request.device, ranks)
    with connected(ranks, device), contextlib.ExitStack() as stack:
        with together(ranks):
            # The first process has the folder to itself, for all of them.
            folder = store.model_folder(request.name)
            if ranks.first:
                folder = stack.enter_context(locked_name(request))
        run = _prepared(request, folder, device, hooks or Hooks(), ranks)
        return _train(run)


def _train(run: Run) -> Trained:
    run.hooks.on_start(_info(run))
    with store.in_home(NOT_LOST):
        finished = _all_folds(run)
        report = Trained(
            name=run.name,
            folder=run.folder,
            finished=finished,
            epoch=run.state.epoch,
            epochs=run.config.epochs,
            history=tuple(mean_history(_histories(run))),
            fold=run.fold + 1,
            folds=len(run.folds),
            notes=run.data.notes,
            start=run.start_name,
        )
        # What follows is the work of one: the others need not wait for it.
        if not finished or not run.ranks.first:
            return report
        # Once more, for a run that was killed between its last state and these.
        rows = mean_history(_histories(run))
        write_history(run.folder, rows)
        draw_curves(run.folder, rows, run.config.encoding.classes)
        try:
            card, verdict = finish(run)
        except TrainingStopped:
            return replace(report, finished=False)
        # Needed no more, now that the model is written.
        with writing(run.folder):
            (run.folder / store.STATE_FILE).unlink(missing_ok=True)
        remove_fold_runs(run.folder)
    return replace(
        report,
        scores=card.scores,
        decode=card.config.decode,
        expected=verdict.expected,
        kept_start=verdict.kept_start,
    )


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What is known before the first step and before any time is measured."""

    request: TrainRequest
    saved: SavedRun | None
    config: TrainConfig
    start: PretrainedModel | None
    data: TrainingData
    folds: list[FoldRun]


def _prepared(
    request: TrainRequest,
    folder: Path,
    device: torch.device,
    hooks: Hooks,
    ranks: Ranks,
) -> Run:
    """Check and read everything that the first step needs."""
    threads = use_threads(request.threads)
    with together(ranks):
        read = _read(request, folder, hooks, ranks)
    config, request = read.config, read.request
    refuse_different(
        ranks,
        {
            "images": (read.data.training_prints, read.data.validation_prints),
            "settings": config.to_dict(),
            "weights to start from": read.start.sha256 if read.start else SCRATCH,
            "versions": torch_version(),
        },
    )
    if read.saved is None and request.minutes is not None:
        config = within(request.minutes, config, read.folds, device, ranks=ranks)
        hooks.on_note(
            f"A budget of {request.minutes:g} min makes {config.epochs} epochs of "
            f"{config.steps_per_epoch} steps at the speed measured here."
        )
    there = {"device": str(device), "threads": threads, "processes": ranks.size}
    began = read.saved.about if read.saved else about(request, read.data, read.start)
    for note in moved(began, there) if read.saved else ():
        hooks.on_note(note)
    with together(ranks):
        run = Run(
            name=request.name,
            folder=folder,
            device=device,
            threads=threads,
            config=config,
            data=read.data,
            start=read.start,
            folds=read.folds,
            about=began | there,
            state=_state(read, config, folder, device, ranks),
            networks=[],
            histories=[],
            hooks=hooks,
            ranks=ranks,
        )
        for number in range(run.fold):
            network = UNet(config.network).to(device)
            history = checkpoint.load_fold(_fold_file(folder, number), network)
            run.histories.append(history)
            run.networks.append(network)
    return run


def _read(request: TrainRequest, folder: Path, hooks: Hooks, ranks: Ranks) -> _Read:
    """Read the run to resume, the model to start from and the images."""
    saved = saved_run(request, folder)
    if saved:
        request = as_it_began(request, saved)
    config = saved.config if saved else request.config
    # Refused before images are read, which may take long.
    ranks.share(config.batch)
    start = pretrained.read_pretrained(
        saved.about["start"] if saved else pretrained_name(request.start, config)
    )
    data = read_images(request, config, start, hooks)
    if start is not None:
        start = pretrained.widen_channels(start, data.samples, request.channel)
    if saved is None:
        config, notes = resolve_config(request, data, start)
        for note in notes:
            hooks.on_note(note)
        data = replace(data, notes=(*data.notes, *notes))
    else:
        refuse_other(saved, data, start, request.name)
    folds = fold_runs(data, request.split, config, hooks.track)
    return _Read(
        request=request,
        saved=saved,
        config=config,
        start=start,
        data=data,
        folds=folds,
    )


def _state(
    read: _Read, config: TrainConfig, folder: Path, device: torch.device, ranks: Ranks
) -> TrainState:
    """Return the state to go on from.

    What is left of a run that is to be replaced is removed, now that all is known to
    be well.
    """
    file = folder / store.STATE_FILE
    if read.saved:
        return checkpoint.load_state(file, config, device)
    state = first_state(read.start, config, device)
    if ranks.first:
        with writing(file):
            file.unlink(missing_ok=True)
        remove_fold_runs(folder)
    return state


def _info(run: Run) -> RunInfo:
    return RunInfo(
        training_images=len(run.data.training),
        validation_images=len(run.data.validation),
        device=str(run.device),
        threads=run.threads,
        epochs=run.config.epochs,
        steps_per_epoch=steps_per_epoch(run.config, len(run.folds[0].training)),
        parameters=sum(p.numel() for p in run.state.network.parameters()),
        folder=run.folder,
        start=run.start_name,
        folds=len(run.folds),
        processes=run.ranks.size,
    )


def _histories(run: Run) -> list[list[dict[str, float]]]:
    return [*run.histories, run.state.history][: len(run.folds)]


def _all_folds(run: Run) -> bool:
    """Train fold after fold; return whether all are done."""
    while len(run.networks) < len(run.folds):
        if len(run.folds) > 1:
            run.hooks.on_note(f"Fold {run.fold + 1} of {len(run.folds)}:")
        if not _steps(run):
            return False
        network = run.trainer().result(run.state)
        run.networks.append(network)
        run.histories.append(run.state.history)
        if len(run.networks) < len(run.folds):
            if run.ranks.first:
                file = _fold_file(run.folder, run.fold)
                checkpoint.save_fold(file, network, run.state.history)
            run.about = run.about | {"fold": run.fold + 1}
            run.state = first_state(run.start, run.config, run.device)
            _save(run)
    return True


def _save(run: Run) -> None:
    if run.ranks.first:
        checkpoint.save_state(
            run.folder / store.STATE_FILE, run.state, run.config, run.about
        )


def _steps(run: Run) -> bool:
    """Take the steps of a fold, saving every epoch; return whether all are taken."""
    trainer, hooks = run.trainer(), run.hooks
    before = run.fold * trainer.total_steps
    total = len(run.folds) * trainer.total_steps

    drawn = time.monotonic()

    def on_epoch(summary: Mapping[str, float]) -> None:
        nonlocal drawn
        if not run.ranks.first:
            return
        _save(run)
        rows = mean_history(_histories(run))
        write_history(run.folder, rows)
        if time.monotonic() - drawn > DRAW_EVERY_S:
            draw_curves(run.folder, rows, run.config.encoding.classes)
            drawn = time.monotonic()
        hooks.on_epoch(summary)

    def on_step(state: TrainState, loss: float) -> None:
        done = before + state.epoch * trainer.steps_per_epoch + state.step
        hooks.on_step(done, total, loss)
        if not np.isfinite(loss):
            raise CellunetError(
                f"The loss became {loss} in step {done}.",
                hint="Try a smaller learning_rate (--config).",
            )

    finished = trainer.run(
        run.state, should_stop=hooks.should_stop, on_step=on_step, on_epoch=on_epoch
    )
    if not finished:
        _save(run)
    return finished
