"""A training as a person watches it."""

import dataclasses
import io
import math
from pathlib import Path

import pytest

from cellunet.cli.console import Console
from cellunet.cli.train import TrainingView, header_lines, row_line, sparkline
from cellunet.tasks.train.request import RunInfo

INFO = RunInfo(
    training_images=100,
    validation_images=50,
    device="cpu",
    threads=2,
    epochs=3,
    steps_per_epoch=4,
    parameters=468_963,
    folder=Path("runs") / "[x] ä",
    start="nuclei",
    folds=1,
)


def _row(epoch: int, loss: float) -> dict[str, float]:
    row = {"epoch": float(epoch), "learning_rate": 1e-3, "train_loss": 0.5}
    row["validation_loss"] = loss
    for name in ("background", "interior", "boundary"):
        row[f"train_precision_{name}"] = row[f"train_recall_{name}"] = 0.1
        row[f"validation_precision_{name}"] = 0.9876
        row[f"validation_recall_{name}"] = math.nan
    return row


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _watch(stream: io.StringIO, seconds_each: float = 1.0) -> str:
    clock = Clock()
    console = Console(stream)
    view = TrainingView(console, clock)
    view.start(INFO)
    for step in range(1, 9):
        clock.now += seconds_each
        view.step(step, 12, 2.0)
        if console.live:
            console.foot().refresh()
        if step % 4 == 0:
            view.epoch(_row(step // 4, 0.75 if step == 4 else 0.8))
    assert list(view.track([1, 2], "Choosing constants")) == [1, 2]
    view.close()
    return stream.getvalue()


def test_without_a_terminal_an_epoch_is_one_line() -> None:
    first, folder, *epochs = _watch(io.StringIO()).splitlines()
    assert first == (
        "Training on 100 images, 50 for validation, from model nuclei; 3 epochs of 4 "
        "steps; 468,963 weights; cpu, 2 threads."
    )
    assert folder == f"Run folder: {INFO.folder}"
    assert epochs == [
        f"epoch {n}/3: loss 0.5000, validation {loss}; precision/recall background "
        f".988/-, interior .988/-, boundary .988/-; {left} left"
        for n, loss, left in ((1, "0.7500", "8.0 s"), (2, "0.8000", "4.0 s"))
    ]


def test_without_a_terminal_a_long_epoch_tells_where_it_is() -> None:
    lines = _watch(io.StringIO(), seconds_each=50).splitlines()
    assert lines[2] == "epoch 1/3, step 3/4, loss 2.0000, 7 min 30 s left"
    assert len(lines) == 2 + 2 + 2


def test_on_a_terminal_epochs_make_a_table_and_the_best_are_marked(
    terminal: io.StringIO,
) -> None:
    shown = _watch(terminal)
    header, names = header_lines(_row(1, 0.75))
    assert header in shown
    assert names in shown
    assert row_line(_row(1, 0.75)) + "  best" in shown
    assert row_line(_row(2, 0.8)) + "  best" not in shown
    assert row_line(_row(2, 0.8)) in shown
    assert shown.count(header) == 1
    assert "epoch 2" in shown
    assert "loss 2.0000" in shown


def test_headers_stand_above_their_columns() -> None:
    first, second = header_lines(_row(1, 0.75))
    row = row_line(_row(1, 0.75))
    assert len(second) == len(row) <= 79
    assert second.index("valid.") + 6 == row.index("0.7500") + 6
    end = first.index("background") + len("background")
    assert row.index(".988") < end < row.index(".988") + 14


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([], ""),
        ([1.0], ""),
        ([1.0, math.nan], ""),
        ([1.0, 2.0], "▁█"),
        ([2.0, 2.0, math.inf], "▁▁"),
    ],
)
def test_sparklines(values: list[float], drawn: str) -> None:
    assert sparkline(values) == drawn


def test_no_block_characters_where_the_terminal_cannot_show_them(
    terminal: io.StringIO,
) -> None:
    terminal.encoding = "cp1252"  # type: ignore[misc]
    assert "█" not in _watch(terminal)


def test_a_device_that_is_not_a_cpu_has_no_threads() -> None:
    stream = io.StringIO()
    import dataclasses

    TrainingView(Console(stream)).start(dataclasses.replace(INFO, device="cuda:1"))
    assert "weights; cuda:1." in stream.getvalue()


def test_every_fold_begins_with_its_first_epoch() -> None:
    stream, clock = io.StringIO(), Clock()
    view = TrainingView(Console(stream), clock)
    view.start(dataclasses.replace(INFO, folds=2))
    clock.now = 1000.0
    # The first step of the second fold: 3 epochs of 4 steps are done.
    view.step(13, 24, 0.5)
    view.close()
    assert "in 2 folds, from model nuclei" in stream.getvalue()
    assert "epoch 1/3, step 1/4" in stream.getvalue()
