"""``cellunet train``: options to a configuration, one call, one summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cellunet.cli import options as o
from cellunet.cli import training_options as t
from cellunet.cli.console import counted
from cellunet.cli.jsonout import Outcome
from cellunet.cli.score_report import interval
from cellunet.cli.session import Session, stopped
from cellunet.cli.suggesting import Annotations, Crops, Suggest, check_train
from cellunet.cli.suggesting import suggest as suggest_crops
from cellunet.cli.watching import TrainingView
from cellunet.config import (
    DEVICE,
    FOLDS,
    PRESETS,
    THREADS,
    SplitConfig,
    Target,
    TrainConfig,
    for_target,
)
from cellunet.registry import choose

if TYPE_CHECKING:
    from pathlib import Path

    from cellunet.cli.console import Console
    from cellunet.imaging.scoring.expected import Expected
    from cellunet.tasks.train_request import RunInfo, Trained, TrainRequest

HARDLY_ANY = 0.2
"""Below this F1 at an IoU of .50 the annotations are doubted rather than the model."""


def train(
    ctx: typer.Context,
    data: t.Data = None,
    name: t.Name = None,
    preset: t.Preset = None,
    start: t.Start = None,
    val: t.Validation = None,
    val_fraction: t.ValidationFraction = None,
    folds: t.Folds = None,
    channel: o.Channel = None,
    gray: o.Gray = False,
    ignore_value: o.IgnoreValue = None,
    target: t.TargetOption = None,
    boundary_px: t.BoundaryPx = None,
    boundary_side: t.BoundarySide = None,
    class_weights: t.ClassWeights = None,
    border_weight: t.BorderWeight = None,
    border_sigma: t.BorderSigma = None,
    minutes: t.Minutes = None,
    epochs: t.Epochs = None,
    steps_per_epoch: t.StepsPerEpoch = None,
    batch: t.Batch = None,
    crop: t.Crop = None,
    learning_rate: t.LearningRate = None,
    seed: t.Seed = None,
    precision: t.Precision = None,
    suggest: Suggest = None,
    crops: Crops = None,
    annotations: Annotations = None,
    device: o.Device = DEVICE,
    threads: o.Threads = THREADS,
    learning_curve: t.LearningCurve = False,
    out: t.Out = None,
    resume: t.Resume = False,
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
    log_level: o.LogLevel = None,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> Outcome:
    """Train a U-Net on annotated images.

    Finds image and annotation pairs, trains from the model that ships, chooses the
    constants of decoding on images that were not trained on, says what score to
    expect, and keeps the model under its name. Ctrl-C saves within a step; the same
    command with --resume goes on. With --suggest, crops to annotate next are written
    instead.
    """
    if suggest:
        return suggest_crops(ctx)
    folders = check_train(ctx, data)
    refuse_folds(folds, val, val_fraction)
    # Without torch, so that what is odd is refused at once, not seconds later.
    from cellunet.tasks.train_request import TrainRequest, default_name
    from cellunet.tasks.training.suited import began_with, suited

    name = name or default_name(folders[0])
    suits = (
        began_with(name)
        if resume
        else suited(
            folders,
            val,
            start=start,
            target=target,
            keep_out=val_fraction is not None,
        )
    )
    top = o.given(
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        batch=batch,
        crop_px=crop,
        learning_rate=learning_rate,
        precision=precision,
        seed=seed,
    )
    encoding = o.given(boundary_px=boundary_px, boundary_side=boundary_side)
    weights = t.weight_changes(class_weights, border_weight, border_sigma)
    config = configure(
        # A curve is of many short trainings, however many images there are.
        preset or ("few" if learning_curve else suits.preset),
        target or suits.target,
        top=top,
        encoding=encoding,
        weights=weights,
    )
    usual = FOLDS if learning_curve else suits.folds
    split = SplitConfig(folds=usual if folds is None else folds)
    if val_fraction is not None:
        split = split.replace(validation_fraction=val_fraction)
    others = o.given(preset=preset, folds=folds, validation_fraction=val_fraction)
    request = TrainRequest(
        data=tuple(folders),
        given=names_of({**top, **others}, o.given(target=target) | encoding, weights),
        name=name,
        config=config,
        split=split,
        start=start,
        validation=val,
        device=device,
        threads=threads,
        resume=resume,
        overwrite=overwrite,
        minutes=minutes,
        channel=channel,
        gray=gray,
        ignore_value=ignore_value,
    )
    if learning_curve:
        from cellunet.cli.learning import run_learning_curve

        return run_learning_curve(Session.of(ctx), request, out)
    return _run(Session.of(ctx), request)


def names_of(
    top: dict[str, object], encoding: dict[str, object], weights: dict[str, object]
) -> frozenset[str]:
    """Return the names of settings as `TrainRequest.given` has them."""
    names = {*top, *(f"encoding.{name}" for name in encoding)}
    names |= {f"weights.{name}" for name in weights}
    if "class_weights" in weights:
        # The decoder's correction starts at what the loss was weighted with.
        names.add("decode.class_odds")
    return frozenset(names)


def refuse_folds(
    folds: int | None, val: Path | None, val_fraction: float | None
) -> None:
    """Refuse folds, which keep no image out, where images are to be kept out.

    Raises
    ------
    typer.BadParameter
        If so.
    """
    other = "--val" if val is not None else "--val-fraction"
    if folds and (val is not None or val_fraction is not None):
        raise typer.BadParameter(
            f"--folds keeps no image out and does not go with {other}; leave out one "
            "of them."
        )


def _run(session: Session, request: TrainRequest) -> Outcome:
    from cellunet.tasks.train import Hooks
    from cellunet.tasks.train import train as run

    again = session.command(without=("--overwrite",), add="--resume")
    view = TrainingView(session.console)

    def start(info: RunInfo) -> None:
        # Only from now on: as long as images are read nothing would be lost, and
        # reading them may take long.
        session.can_stop(f"If it has been saved, go on with: {again}")
        view.start(info)

    hooks = Hooks(
        on_note=session.console.line,
        on_start=start,
        on_step=view.step,
        on_epoch=view.epoch,
        track=view.track,
        should_stop=session.stop,
    )
    try:
        trained = run(request, hooks)
    finally:
        view.close()
    if not trained.finished:
        several = trained.folds > 1
        fold = f"In fold {trained.fold} of {trained.folds}, " if several else ""
        return stopped(
            session,
            f"{fold}{trained.epoch:,} of {trained.epochs:,} epochs are done; every "
            f"step is saved in {trained.folder}.",
            f"Go on with: {again}",
            **trained.to_dict(),
        )
    summarize(session.report, trained)
    return Outcome(result=trained.to_dict())


def configure(
    preset: str,
    target: Target,
    *,
    top: dict[str, object],
    encoding: dict[str, object],
    weights: dict[str, object],
) -> TrainConfig:
    """Return a preset's configuration with the given settings changed.

    Parameters
    ----------
    preset
        A name in `cellunet.config.PRESETS`.
    target
        What the network learns.
    top, encoding, weights
        Changes of the configuration itself and of two of its groups.

    Raises
    ------
    ConfigError
        If the preset is unknown or settings contradict each other.
    """
    config = for_target(choose(PRESETS, preset, "preset")(), target)
    changed = config.weights.replace(**weights)
    return config.replace(
        encoding=config.encoding.replace(**encoding),
        weights=changed,
        # The decoder's correction starts at what the loss was weighted with.
        decode=config.decode.replace(class_odds=changed.class_weights),
        **top,
    )


def summarize(console: Console, trained: Trained) -> None:
    """Tell what was trained, how good it is, and what to do with it."""
    if trained.expected:
        for sentence in what_to_expect(trained.expected, trained):
            console.line(sentence)
    console.line(
        f"Model {trained.name} is ready after {counted(trained.epoch, 'epoch')}: "
        f"{trained.folder}",
        "bold",
    )
    console.line(f"Use it: cellunet predict IMAGES --out DIR --model {trained.name}")


def what_to_expect(expected: Expected, trained: Trained) -> list[str]:
    """Return in sentences what score to expect, and what training gained."""
    what = "quarters of the images" if expected.quarters else "images"
    where, but = "on such images", ""
    if expected.quarters:
        but = " Other images may differ more than these tell."
    if expected.of_one_image:
        what, where = "parts of the image", "elsewhere in this image"
        but = " Other images may score far lower; a second one would tell."
    said = [
        f"Expected {where}: mean AP {interval(expected.mean_ap)}, F1 at IoU .50 "
        f"{interval(expected.f1_50)}, at .90 {interval(expected.f1_90)}.",
        f"(Of {expected.pieces} {what} that were not trained on; in brackets 95% "
        f"intervals.{but})",
    ]
    if expected.f1_50.value < HARDLY_ANY:
        said.append(
            "Hardly any of the annotated objects are found: do the annotations belong "
            "to these images, pixel by pixel? See: cellunet make-labels DATA --check "
            "--out DIR."
        )
    if expected.gain is not None:
        gain = f"{expected.gain.value:+.3f} [{expected.gain.low:+.3f}, "
        gain += f"{expected.gain.high:+.3f}]"
        said.append(
            f"Training gained no mean AP over {trained.start} ({gain}), so its weights "
            "are kept as they are."
            if trained.kept_start
            else f"Gain in mean AP over {trained.start}: {gain}."
        )
    return said
