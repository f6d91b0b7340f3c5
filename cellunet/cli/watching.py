"""A training as a person watches it: a row an epoch, and what moves in between.

On a terminal the epochs make a growing table and two bars move at its foot; elsewhere
each epoch is one line, and a long epoch says now and then where it is.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from cellunet.cli.console import Bar, Console, counted, time_left
from cellunet.config import SCRATCH

if TYPE_CHECKING:
    from cellunet.tasks.train_request import RunInfo

T = TypeVar("T")
SPARK = "▁▂▃▄▅▆▇█"
SPARK_CELLS = 12
PLAIN_SILENCE_SECONDS = 120.0
"""Without a terminal, the longest time without a line."""
PRECISION, RECALL = "validation_precision_", "validation_recall_"


class TrainingView:
    """Shows a training; its methods are what `cellunet.tasks.train.Hooks` calls.

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
        # Counted from the first step that is told, wherever a resumed run was.
        self._begun = self._begun or (now, step)
        since, first = self._begun
        self._loss = loss if math.isnan(self._loss) else 0.95 * self._loss + 0.05 * loss
        self._left = time_left(step - first, steps - first, now - since)
        if self._console.live:
            self._move_bars(step, steps)
        elif now - self._told >= PLAIN_SILENCE_SECONDS:
            self._told = now
            self._console.line(
                f"{self._where(step)}, loss {self._loss:.4f}, {self._left}"
            )

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
    if info.device != "cpu":
        return info.device
    return f"cpu, {counted(info.threads, 'thread')}"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}".removeprefix("0")


def _number(row: Mapping[str, float], key: str) -> str:
    value = row.get(key, math.nan)
    return "-" if math.isnan(value) else f"{value:.4f}"
