"""``cellunet train``: options to a configuration, progress, and a summary.

On a terminal the epochs make a growing table and two bars move at its foot; elsewhere
each epoch is one line, and a long epoch says now and then where it is.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cellunet.cli import options
from cellunet.cli.console import Bar, Console, counted, time_left
from cellunet.cli.options import Options, option, refuse_given
from cellunet.cli.session import Outcome, Session, stopped
from cellunet.command_config import FOLDS, MODEL, SCRATCH, AnnotationConfig, SplitConfig
from cellunet.config import TrainConfig
from cellunet.config_file import Settings
from cellunet.presets import configure

if TYPE_CHECKING:
    from cellunet.cli.console import Row
    from cellunet.metrics.fit import ExpectedScores
    from cellunet.tasks.learning_curve import LearningCurve
    from cellunet.tasks.train.request import RunInfo, Trained, TrainRequest

T = TypeVar("T")

SPARK = "▁▂▃▄▅▆▇█"

SPARK_CELLS = 12

PLAIN_SILENCE_SECONDS = 120.0
"""Without a terminal, the longest time without a line."""

PRECISION, RECALL = "validation_precision_", "validation_recall_"


class TrainingView:
    """Shows a training; `cellunet.tasks.train.request.Hooks` calls its methods.

    Parameters
    ----------
    console
        Where to show it.
    clock
        Seconds; for tests.
    """

    def __init__(
        self, console: Console, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._clock = console, clock
        self._info: RunInfo | None = None
        self._bars: tuple[Bar, Bar] | None = None
        self._begun: tuple[float, int] | None = None
        self._step = 0
        self._told = clock()
        self._loss = math.nan
        self._losses: deque[float] = deque(maxlen=SPARK_CELLS)
        self._best = math.inf
        self._has_header = False
        self._left = ""

    def start(self, info: RunInfo) -> None:
        """Tell what is known before the first step."""
        self._info = info
        self._told = self._clock()
        images = counted(info.training_images, "image")
        epochs = counted(info.epochs, "epoch")
        steps = f"{epochs} of {counted(info.steps_per_epoch, 'step')}"
        kept_out = f"{info.validation_images:,} for validation"
        if info.folds > 1:
            kept_out = f"in {info.folds} folds"
        start = "random weights" if info.start == SCRATCH else f"model {info.start}"
        self._console.line(
            f"Training on {images}, {kept_out}, from {start}; "
            f"{steps}; {info.parameters:,} weights; {_device(info)}."
        )
        self._console.line(f"Run folder: {info.folder}")

    def step(self, step: int, steps: int, loss: float) -> None:
        """Take one step's number, the number of all steps, and its loss."""
        now = self._clock()
        # Counted from the first step that is told, wherever a resumed run was; each
        # training of a learning curve begins anew.
        if self._begun is None or step <= self._step:
            self._begun, self._loss = (now, step), math.nan
            self._losses.clear()
        self._step = step
        since, first = self._begun
        self._loss = loss if math.isnan(self._loss) else 0.95 * self._loss + 0.05 * loss
        self._left = time_left(step - first, steps - first, now - since)
        if self._console.live:
            self._move_bars(step, steps)
        elif now - self._told >= PLAIN_SILENCE_SECONDS:
            self._told = now
            left = f", {self._left}" if self._left else ""
            self._console.line(f"{self._where(step)}, loss {self._loss:.4f}{left}")

    def epoch(self, summary: Mapping[str, float]) -> None:
        """Take the numbers of a finished epoch: a row of the history."""
        self._told = self._clock()
        loss = summary.get("validation_loss", math.nan)
        better = loss < self._best
        self._best = min(self._best, loss) if not math.isnan(loss) else self._best
        if self._console.live:
            self._header_once(summary)
            style = "green" if better else ""
            self._console.line(row_line(summary) + ("  best" if better else ""), style)
        else:
            self._console.line(self._plain_line(summary))

    def _header_once(self, row: Mapping[str, float]) -> None:
        if self._has_header:
            return
        self._has_header = True
        self._console.line(
            "Precision and recall are of validation pixels; 'best' marks the lowest "
            "validation loss so far.",
            "dim",
        )
        for line in header_lines(row):
            self._console.line(line, "bold")

    def track(
        self, items: Iterable[T], label: str, total: int | None = None
    ) -> Iterator[T]:
        """Yield `items` and show how far the loop is; no step is under way then."""
        self.close()
        yield from self._console.track(items, label, total)

    def close(self) -> None:
        """Take the bars away."""
        for bar in self._bars or ():
            bar.close()
        self._bars = None

    def _where(self, step: int) -> str:
        if self._info is None:
            return f"step {step:,}"
        epoch, within = divmod(step - 1, self._info.steps_per_epoch)
        return (
            # Every fold begins with its first epoch.
            f"epoch {epoch % self._info.epochs + 1}/{self._info.epochs}, "
            f"step {within + 1}/{self._info.steps_per_epoch}"
        )

    def _move_bars(self, step: int, steps: int) -> None:
        info = self._info
        per_epoch = info.steps_per_epoch if info else steps
        if self._bars is None:
            epoch = self._console.bar("epoch", per_epoch)
            self._bars = (epoch, self._console.bar("all", steps))
        within = (step - 1) % per_epoch + 1
        if within % max(per_epoch // SPARK_CELLS, 1) == 0:
            self._losses.append(self._loss)
        curve = sparkline(list(self._losses)) if self._console.unicode else ""
        note = f"loss {self._loss:.4f} {curve}"
        if within == per_epoch:
            note = f"loss {self._loss:.4f}, validating"
        epochs = info.epochs if info else 1
        label = f"epoch {(step - 1) // per_epoch % epochs + 1}"
        self._bars[0].update(within, per_epoch, note, label)
        self._bars[1].update(step, steps, self._left)

    def _plain_line(self, row: Mapping[str, float]) -> str:
        epochs = f"/{self._info.epochs}" if self._info else ""
        classes = ", ".join(
            f"{name} {_share(row[PRECISION + name])}/{_share(row[RECALL + name])}"
            for name in class_names(row)
        )
        line = (
            f"epoch {row['epoch']:.0f}{epochs}: loss {_number(row, 'train_loss')}, "
            f"validation {_number(row, 'validation_loss')}; "
            f"precision/recall {classes}"
        )
        return f"{line}; {self._left}" if self._left else line


def class_names(row: Mapping[str, float]) -> list[str]:
    """Return the classes that a row of the history tells of."""
    return [k.removeprefix(PRECISION) for k in row if k.startswith(PRECISION)]


def header_lines(row: Mapping[str, float]) -> tuple[str, str]:
    """Return the two header lines above rows like `row`."""
    names = class_names(row)
    first = f"{'':5}  {'loss':^14}" + "".join(f"  {n[:12]:^12}" for n in names)
    second = f"{'epoch':>5}  {'train':>6}  {'valid.':>6}"
    return first.rstrip(), second + "   prec recall" * len(names)


def row_line(row: Mapping[str, float]) -> str:
    """Return one epoch under `header_lines`: losses, precision and recall."""
    cells = "".join(
        f"  {_share(row[PRECISION + n]):>5} {_share(row[RECALL + n]):>6}"
        for n in class_names(row)
    )
    train, valid = (_number(row, k) for k in ("train_loss", "validation_loss"))
    return f"{row['epoch']:5.0f}  {train:>6}  {valid:>6}{cells}"


def sparkline(values: list[float]) -> str:
    """Return values as a line of block characters, lowest to highest.

    Examples
    --------
    >>> sparkline([3.0, 2.0, 1.0])
    '█▅▁'
    """
    finite = [v for v in values if math.isfinite(v)]
    if len(finite) < 2:
        return ""
    low, span = min(finite), max(finite) - min(finite)
    top = len(SPARK) - 1
    return "".join(SPARK[round(top * (v - low) / span) if span else 0] for v in finite)


def _device(info: RunInfo) -> str:
    if info.processes > 1:
        own = counted(info.threads, "thread") if info.device == "cpu" else "one GPU"
        return f"{info.processes} processes, each on {own}"
    if info.device != "cpu":
        return info.device
    return f"cpu, {counted(info.threads, 'thread')}"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}".removeprefix("0")


def _number(row: Mapping[str, float], key: str) -> str:
    value = row.get(key, math.nan)
    return "-" if math.isnan(value) else f"{value:.4f}"


def run_learning_curve(
    session: Session, request: TrainRequest, out: Path | None
) -> Outcome:
    """Train on nested subsets, and tell what came of it.

    Raises
    ------
    typer.BadParameter
        If there is no folder to write to.
    """
    if out is None:
        raise typer.BadParameter(
            "--learning-curve needs a folder for its table and picture.",
            param_hint="--out",
        )
    from cellunet.tasks.learning_curve import learning_curve
    from cellunet.tasks.train.request import Hooks

    again = session.command(without=("--overwrite",))
    view = TrainingView(session.console)
    hooks = Hooks(
        on_note=session.console.line,
        on_step=view.step,
        track=view.track,
        should_stop=session.can_stop(f"Go on with: {again}"),
    )
    try:
        curve = learning_curve(request, out, hooks)
    finally:
        view.close()
    if curve.points:
        session.report.table(rows_of(curve))
    if not curve.finished:
        return stopped(
            session,
            f"Finished trainings are kept in {curve.folder}.",
            f"Go on with: {again}",
            **curve.to_dict(),
        )
    session.report.line(sentence(curve), "bold")
    session.report.line(f"Table and picture: {curve.folder}")
    return Outcome(result=curve.to_dict())


def rows_of(curve: LearningCurve) -> list[Row]:
    """Return the table of a curve."""
    return [
        ("images", "objects", "mean AP", "loss"),
        *(
            (
                f"{p.images:,}" + (f" ({curve.start})" if not p.images else ""),
                f"{p.objects:,.0f}",
                p.mean_ap.text(),
                f"{p.loss:.4f}",
            )
            for p in curve.points
        ),
    ]


def sentence(curve: LearningCurve) -> str:
    """Return what more images would give, in one sentence."""
    if curve.outlook is None:
        return "There are too few numbers of images to tell what more would give."
    gain = curve.outlook.gain.text(signed=True)
    if curve.outlook.gain.low <= 0:
        return (
            f"Whether {curve.outlook.more} more images would help is not sure: "
            f"{gain} mean AP, if errors go on to fall as they do."
        )
    return (
        f"{curve.outlook.more} more images would give about {gain} mean AP, if "
        "errors go on to fall as they do."
    )


HARDLY_ANY = 0.2
"""Below this F1 at an IoU of .50 the annotations are doubted rather than the model."""


def train(
    ctx: typer.Context,
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA",
            help="Annotated folders: images beside labels or masks, pairs by suffix, "
            "BBBC039 or DSB2018 as published.",
        ),
    ],
    name: Annotated[
        str | None,
        option(
            "--name",
            "NAME",
            "Name of the new model, by which every command knows it. "
            "Default: the name of the first DATA folder.",
        ),
    ] = None,
    start: Annotated[
        str | None,
        option(
            "--from",
            "MODEL|scratch",
            "Start from a model's weights, or from random ones. Default: "
            f"{MODEL}, which ships; scratch for another target or network than its.",
        ),
    ] = None,
    *,
    settings: Settings,
    preset: Annotated[dict[str, Any], Options(TrainConfig, "preset")],
    val: Annotated[
        str | None,
        option(
            "--val",
            "DIR|SHARE",
            "Annotated folder of validation images, or the share of DATA's images, 0 "
            "to 1, that is drawn for it by the seed. Default: the lists that come "
            f"with DATA, else --folds or {SplitConfig.validation_fraction}.",
            "Images",
        ),
    ] = None,
    split: Annotated[dict[str, Any], Options(SplitConfig)],
    channel: options.Channel,
    annotations: AnnotationConfig,
    minutes: Annotated[
        float | None,
        option(
            "--minutes",
            "MIN",
            "Time budget in minutes, turned into a fixed number of steps before "
            "the first one. Default: none, the preset's steps.",
            "Schedule",
        ),
    ] = None,
    schedule: Annotated[
        dict[str, Any], Options(TrainConfig, "epochs", "steps_per_epoch")
    ],
    learning_curve: Annotated[
        bool,
        option(
            "--learning-curve",
            "",
            "Keep no model: train on more and more of the images, and tell how "
            "the score grows and what more images would give. Needs --out. "
            "Default: no.",
            "Results",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        options.out("Folder for the results of --learning-curve.", panel="Results"),
    ] = None,
    resume: Annotated[
        bool,
        option(
            "--resume",
            "",
            "Go on with the training of this name that was stopped. Default: no.",
            "Results",
        ),
    ] = False,
    overwrite: options.Overwrite,
    computing: options.Computing,
) -> Outcome:
    """Train a U-Net on annotated images.

    Finds image and annotation pairs, trains from the model that ships, chooses the
    constants of decoding on images that were not trained on, says what score to
    expect, and keeps the model under its name. Ctrl-C saves within a step; the same
    command with --resume goes on.
    """
    if out is not None and not learning_curve:
        raise typer.BadParameter("--out goes with --learning-curve.", ctx=ctx)
    given = {**settings.get(TrainConfig, {}), **preset, **schedule}
    folder, share = parse_validation(val)
    split |= share
    refuse_folds(split, folder)
    if learning_curve:
        refuse_beside_curve(ctx, split)
    # Without torch, so that what is odd is refused at once, not seconds later.
    from cellunet.tasks.train.request import (
        TrainRequest,
        began_with,
        choose_preset,
        default_name,
    )

    name = name or default_name(data[0])
    keep_out = "validation_fraction" in split
    chosen = (
        began_with(name)
        if resume
        else choose_preset(
            data,
            folder,
            given=given,
            start=start,
            keep_out=keep_out,
            planes=annotations.planes,
        )
    )
    usual, folds = chosen.preset, chosen.folds
    if learning_curve:
        # It is of many short trainings, however many images there are.
        usual, folds = "few", 0 if keep_out else FOLDS
    request = TrainRequest(
        data=tuple(data),
        given=asked_names(given) | split.keys(),
        name=name,
        config=configure(given, usual, chosen.target),
        split=SplitConfig(**{"folds": folds, **split}),
        start=start,
        validation=folder,
        resume=resume,
        minutes=minutes,
        annotations=annotations,
        **(channel | overwrite | computing),
    )
    if learning_curve:
        return run_learning_curve(Session.of(ctx), request, out)
    return _run(Session.of(ctx), request)


def parse_validation(text: str | None) -> tuple[Path | None, dict[str, float]]:
    """Return the folder that ``--val`` names, or the share, as `SplitConfig` has it.

    Examples
    --------
    >>> parse_validation("0.2")
    (None, {'validation_fraction': 0.2})
    """
    if text is None:
        return None, {}
    try:
        return None, {"validation_fraction": float(text)}
    except ValueError:
        return Path(text), {}


def asked_names(given: dict[str, Any]) -> frozenset[str]:
    """Return the names of settings as `TrainRequest.given` has them."""
    names = set(given)
    if "weights.class_weights" in names:
        # The decoder's correction starts at what the loss was weighted with.
        names.add("decode.class_odds")
    return frozenset(names)


def refuse_folds(split: dict[str, Any], val: Path | None) -> None:
    """Refuse folds, which keep no image out, where images are to be kept out.

    Raises
    ------
    typer.BadParameter
        If so.
    """
    if split.get("folds") and (val is not None or "validation_fraction" in split):
        raise typer.BadParameter(
            "--folds keeps no image out and does not go with --val; leave out one of "
            "them."
        )


def refuse_beside_curve(ctx: typer.Context, split: dict[str, Any]) -> None:
    """Refuse what means nothing to a learning curve.

    Raises
    ------
    typer.BadParameter
        If it was given.
    """
    beside = "does not go with --learning-curve"
    refuse_given(
        ctx, ("minutes",), f"{beside}; its trainings are as long as --epochs says"
    )
    refuse_given(
        ctx,
        ("resume",),
        f"{beside}; without it the same command goes on where it was stopped",
    )
    if split.get("folds", 0) not in (0, FOLDS):
        raise typer.BadParameter(
            f"--folds {split['folds']} {beside}, which has {FOLDS} rounds; leave it "
            "out.",
            ctx=ctx,
        )


def _run(session: Session, request: TrainRequest) -> Outcome:
    from cellunet.tasks.train.request import Hooks
    from cellunet.tasks.train.train import train as run

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


def what_to_expect(expected: ExpectedScores, trained: Trained) -> list[str]:
    """Return in sentences what score to expect, and what training gained."""
    what = "quarters of the images" if expected.quarters else "images"
    where, but = "on such images", ""
    if expected.quarters:
        but = " Other images may differ more than these tell."
    if expected.of_one_image:
        what, where = "parts of the image", "elsewhere in this image"
        but = " Other images may score far lower; a second one would tell."
    said = [
        f"Expected {where}: mean AP {expected.mean_ap.text()}, F1 at IoU .50 "
        f"{expected.f1_50.text()}, at .90 {expected.f1_90.text()}.",
        f"(Of {expected.pieces} {what} that were not trained on; in brackets 95% "
        f"intervals.{but})",
    ]
    if expected.f1_50.value < HARDLY_ANY:
        said.append(
            "Hardly any of the annotated objects are found: do the annotations belong "
            "to these images, pixel by pixel? See: cellunet check DATA --out DIR."
        )
    if expected.gain is not None:
        gain = expected.gain.text(signed=True)
        if not trained.kept_start:
            said.append(f"Gain in mean AP over {trained.start}: {gain}.")
        elif expected.gain.value > 0:
            # Where most images are empty.
            said.append(
                "What was trained finds no object in any image, so the weights of "
                f"{trained.start} are kept as they are."
            )
        else:
            said.append(
                f"Training gained no mean AP over {trained.start} ({gain}), so its "
                "weights are kept as they are."
            )
    return said
