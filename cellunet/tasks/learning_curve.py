"""Measure how a model's score grows with the number of the user's annotated images."""

from __future__ import annotations

import hashlib
import json
import os
import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cellunet.core.dataset import prepare
from cellunet.core.device import TorchEngine, choose_device, use_threads
from cellunet.core.trainer import Trainer
from cellunet.errors import ConfigError, InputError
from cellunet.io.files import at_work, write_atomically
from cellunet.metrics import fit
from cellunet.outputs.charts import learning_chart, svg
from cellunet.ranks import ranks_of
from cellunet.tasks.train.finish import constants, truth_of
from cellunet.tasks.train.folds import Fold, is_scored, make_folds, objects_of
from cellunet.tasks.train.pretrained import read_pretrained, widen_channels
from cellunet.tasks.train.request import pretrained_name
from cellunet.tasks.train.train import first_state, read_images, resolve_config

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from cellunet.config import TrainConfig
    from cellunet.core.dataset import Prepared, Sample
    from cellunet.core.trainer import TrainState
    from cellunet.core.unet import UNet
    from cellunet.tasks.train.data import TrainingData
    from cellunet.tasks.train.pretrained import PretrainedModel
    from cellunet.tasks.train.request import Hooks, TrainRequest

ROUNDS = 3
"""Nested orders of the images; without validation images each keeps a third out."""

MORE_IMAGES = 20
"""The gain of so many more images is estimated."""

TRIALS_FILE, TABLE_FILE, PICTURE_FILE = (
    "trials.jsonl",
    "learning-curve.csv",
    "learning-curve.svg",
)


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """Scores against numbers of annotated images."""

    folder: Path
    start: str
    finished: bool
    points: tuple[fit.LearningCurvePoint, ...]
    outlook: fit.GainForecast | None
    """None with too few points, or if it was stopped."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "folder": str(self.folder),
            "start": self.start,
            "finished": self.finished,
            "points": [asdict(point) for point in self.points],
            "outlook": asdict(self.outlook) if self.outlook else None,
        }


@dataclass(frozen=True, kw_only=True)
class _Curve:
    config: TrainConfig
    start: PretrainedModel | None
    device: torch.device
    hooks: Hooks


def learning_curve(request: TrainRequest, out: Path, hooks: Hooks) -> LearningCurve:
    """Train on nested subsets of annotated images and score each training.

    Every training is written down as it ends: the same call goes on where one was
    stopped.

    Parameters
    ----------
    request
        What to train on and how; its name is not used, and no model is kept.
    out
        Folder of the table, the picture and the trainings so far.
    hooks
        Callbacks for notes, progress and stopping.

    Raises
    ------
    CellunetError
        If the data or the settings cannot be used, or `out` cannot be written, holds
        the curve of other images, annotations or settings, or another process works
        in it.
    """
    if not ranks_of(os.environ).alone:
        raise ConfigError(
            "A learning curve is made in one process.",
            hint="Start it without torchrun.",
        )
    device = choose_device(request.device)
    use_threads(request.threads)
    start = read_pretrained(pretrained_name(request.start, request.config))
    data = read_images(request, request.config, start, hooks)
    if start is not None:
        start = widen_channels(start, data.samples, request.channel)
    config, notes = resolve_config(request, data, start)
    for note in notes:
        hooks.on_note(note)
    study = _Curve(config=config, start=start, device=device, hooks=hooks)
    rounds = _rounds(data, config.seed)
    sizes = fit.sizes_up_to(min(len(fold.training) for fold in rounds))
    if start is None:
        # Random weights have no score worth a point.
        sizes.remove(0)
    name = start.name if start else "scratch"
    with at_work(out):
        known = _Known(out, _about(study, data), overwrite=request.overwrite)
        finished = _run_missing(study, rounds, sizes, known)
        shared = bool(data.validation)
        return _told(known, name, shared=shared, finished=finished)


def _run_missing(
    study: _Curve, rounds: list[Fold], sizes: list[int], known: _Known
) -> bool:
    """Make the trials that are missing; return False if stopped."""
    config, hooks = study.config, study.hooks
    for number, fold in enumerate(rounds):
        missing = [size for size in sizes if (number, size) not in known.trials]
        if not missing:
            continue
        training, validation = (
            [prepare(sample, config) for sample in side]
            for side in (fold.training, fold.validation)
        )
        for size in missing:
            hooks.on_note(
                f"Round {number + 1} of {len(rounds)}: {size} of "
                f"{len(fold.training)} images"
            )
            objects = sum(objects_of(sample) for sample in fold.training[:size])
            trial = _trial(study, training[:size], validation, objects)
            if trial is None:
                return False
            known.add(number, size, trial)
    return True


def _rounds(data: TrainingData, seed: int) -> list[Fold]:
    """Return the orders of training images, with what each is scored on.

    Images of scribbles or single objects alone are trained on, not scored.
    """
    validation = tuple(s for s in data.validation or data.training if is_scored(s))
    if not any(objects_of(sample) for sample in validation):
        raise InputError(
            "No object is outlined, with its background, in the images that a "
            "learning curve is to be scored on.",
            hint="Outline all objects of some images or regions: scribbles and single "
            "objects cannot be scored.",
        )
    if data.validation:
        folds = [
            Fold(training=data.training, validation=validation) for _ in range(ROUNDS)
        ]
    elif len(validation) <= ROUNDS:
        raise InputError(
            f"A learning curve needs more than {ROUNDS} annotated images; there "
            f"{'is' if len(validation) == 1 else 'are'} {len(validation)}"
            f"{_unscored(data, validation)}.",
            hint="Annotate more, or name validation images: --val DIR.",
        )
    else:
        folds = make_folds(data.training, ROUNDS, seed)
    return [
        Fold(
            training=_shuffled(fold.training, seed + number), validation=fold.validation
        )
        for number, fold in enumerate(folds)
    ]


def _unscored(data: TrainingData, validation: Sequence[Sample]) -> str:
    alone = len(data.training) - len(validation)
    return f", besides {alone} that cannot be scored" if alone else ""


def _shuffled(samples: tuple[Sample, ...], seed: int) -> tuple[Sample, ...]:
    """Return samples in an order drawn from `seed`, the first one with an object."""
    order = sorted(samples, key=lambda sample: sample.name)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda sample: objects_of(sample) == 0)
    return tuple(order)


def _trial(
    study: _Curve, training: list[Prepared], validation: list[Prepared], objects: int
) -> fit.Trial | None:
    """Train on some images, or on none, and score; None if stopped."""
    config, hooks = study.config, study.hooks
    state = first_state(study.start, config, study.device)
    trainer = Trainer(training or validation, validation, config, study.device)
    network = state.average
    if study.start and not training:
        # Training does not take over the edge, which the start is used with.
        edge = study.start.card.config.decode.edge
        config = config.replace(decode=config.decode.replace(edge=edge))
    if training:
        trained = _trained(trainer, state, hooks)
        if trained is None:
            return None
        network = trained
    loss = trainer.validate(network, hooks.should_stop)
    if loss is None:
        return None
    return fit.Trial(
        images=len(training),
        objects=objects,
        loss=loss.loss,
        mean_ap=_scores(study, config, network, validation),
    )


def _trained(trainer: Trainer, state: TrainState, hooks: Hooks) -> UNet | None:
    def on_step(state: TrainState, loss: float) -> None:
        done = state.epoch * trainer.steps_per_epoch + state.step
        hooks.on_step(done, trainer.total_steps, loss)

    finished = trainer.run(state, should_stop=hooks.should_stop, on_step=on_step)
    return trainer.result(state) if finished else None


def _scores(
    study: _Curve, config: TrainConfig, network: UNet, validation: list[Prepared]
) -> tuple[float, ...]:
    engine = TorchEngine(network, study.device)
    truths = [truth_of(engine, prepared, config) for prepared in validation]
    chosen = constants(
        config, truths, study.hooks.track, started=study.start is not None
    )
    scores = fit.piece_scores(truths, chosen.crossed, config.encoding)
    return tuple(score.mean_ap for score in scores)


def _about(study: _Curve, data: TrainingData) -> str:
    """Return a digest of all that the trials depend on."""
    parts = {
        "config": study.config.to_dict(),
        "start": study.start.sha256 if study.start else "",
        "training": sorted(data.training_prints.values()),
        "validation": sorted(data.validation_prints.values()),
        "annotations": data.annotations_print(),
        "rounds": ROUNDS,
    }
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class _Known:
    """The trials that are done, on the disk and here."""

    def __init__(self, folder: Path, about: str, *, overwrite: bool) -> None:
        self.folder = folder
        self._about = about
        self.trials: dict[tuple[int, int], fit.Trial] = {}
        file = folder / TRIALS_FILE
        if file.is_file() and not overwrite:
            self._read(file)
        else:
            self._write()

    def _read(self, file: Path) -> None:
        try:
            rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
            same = rows[0]["about"] == self._about
            for row in rows[1:]:
                trial = fit.Trial(
                    **row["trial"] | {"mean_ap": tuple(row["trial"]["mean_ap"])}
                )
                self.trials[row["round"], trial.images] = trial
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"{file} cannot be read ({error}).", hint="Begin anew with --overwrite."
            ) from error
        if not same:
            raise ConfigError(
                f"{self.folder} holds the learning curve of other images, "
                "annotations or settings.",
                hint="Choose another --out, or replace it with --overwrite.",
            )

    def add(self, number: int, size: int, trial: fit.Trial) -> None:
        """Keep a trial."""
        self.trials[number, size] = trial
        self._write()

    def _write(self) -> None:
        lines: list[dict[str, Any]] = [{"about": self._about}]
        lines += [
            {"round": number, "trial": vars(trial)}
            for (number, _), trial in self.trials.items()
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        with write_atomically(self.folder / TRIALS_FILE) as path:
            path.write_text(text, encoding="utf-8")


def _told(known: _Known, start: str, *, shared: bool, finished: bool) -> LearningCurve:
    """Write table and picture of the trials so far, and return them."""
    trials = list(known.trials.values())
    points = fit.points_of(trials, shared=shared)
    if points:
        header = "images,objects,mean_ap,mean_ap_low,mean_ap_high,loss\n"
        rows = "".join(
            f"{p.images},{p.objects:.1f},{p.mean_ap.value:.4f},{p.mean_ap.low:.4f},"
            f"{p.mean_ap.high:.4f},{p.loss:.5f}\n"
            for p in points
        )
        with write_atomically(known.folder / TABLE_FILE) as path:
            path.write_text(header + rows, encoding="utf-8", newline="\n")
        with write_atomically(known.folder / PICTURE_FILE) as path:
            chart = svg(learning_chart(points), "Learning curve")
            path.write_text(chart, encoding="utf-8", newline="\n")
    return LearningCurve(
        folder=known.folder,
        start=start,
        finished=finished,
        points=tuple(points),
        outlook=(fit.outlook(trials, MORE_IMAGES, shared=shared) if finished else None),
    )
