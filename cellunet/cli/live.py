"""Lines, tables and progress bars as rich draws them; imported on a terminal only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Table
from rich.text import Text

from cellunet.cli.console import Row, time_left

REFRESHES_PER_SECOND = 5
"""Often enough to look alive, seldom enough to cost the training nothing."""

BAR_CELLS = 24


class Screen:
    """A terminal: lines scroll by, bars stay at its foot.

    Parameters
    ----------
    stream
        The terminal.
    stopping
        Whether a stop was asked for, which the bars then say.
    """

    def __init__(self, stream: TextIO, stopping: Callable[[], bool]) -> None:
        self._console = Console(
            file=stream, markup=False, highlight=False, emoji=False, soft_wrap=True
        )
        self._stopping = stopping
        self._progress: Progress | None = None

    def line(self, text: str, style: str) -> None:
        """Print a line above the bars."""
        self._console.print(Text(text, style=style), soft_wrap=True)

    def table(self, rows: list[Row], left: tuple[int, ...]) -> None:
        """Print a table: the header, then the body."""
        header, *body = rows
        table = Table(
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            header_style="bold",
            show_header=any(header),
        )
        for i, title in enumerate(header):
            justify = "left" if i in left else "right"
            table.add_column(Text(title), justify=justify, overflow="fold")  # type: ignore[arg-type]
        for row in body:
            table.add_row(*map(Text, row))
        self._console.print(table, soft_wrap=False)

    def bar(self, label: str, total: float | None) -> LiveBar:
        """Return a new bar at the foot of the screen."""
        if self._progress is None:
            self._progress = Progress(
                _Label(),
                BarColumn(BAR_CELLS),
                _Count(),
                _Note(self._stopping),
                console=self._console,
                transient=True,
                refresh_per_second=REFRESHES_PER_SECOND,
                redirect_stdout=False,
            )
            self._progress.start()
        return LiveBar(self, self._progress, label, total)

    def closed(self) -> None:
        """Take the foot of the screen away when its last bar is gone."""
        if self._progress is not None and not self._progress.task_ids:
            self._progress.stop()
            self._progress = None


class LiveBar:
    """One bar of a screen."""

    def __init__(
        self, screen: Screen, progress: Progress, label: str, total: float | None
    ) -> None:
        self._screen, self._progress = screen, progress
        self._task: TaskID | None = progress.add_task(label, total=total, note="")

    def update(
        self, done: float, total: float | None = None, note: str = "", label: str = ""
    ) -> None:
        """Move the bar; an empty `label` leaves the one that it has."""
        if self._task is None:
            return
        self._progress.update(
            self._task,
            completed=done,
            total=total,
            note=note,
            description=label or None,
        )

    def close(self) -> None:
        """Remove the bar."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
            self._screen.closed()


class _Label(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.description)


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = "" if task.total is None else f"/{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}{total}", style="cyan")


class _Note(ProgressColumn):
    """What the loop says of itself, else the time left."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        super().__init__()
        self._stopping = stopping

    def render(self, task: Task) -> Text:
        if self._stopping():
            return Text("stopping (again: at once)", style="yellow", no_wrap=True)
        note = task.fields.get("note", "")
        if not note and task.total is not None:
            note = time_left(task.completed, task.total, task.elapsed or 0.0)
        return Text(note, style="dim", no_wrap=True, overflow="ellipsis")
