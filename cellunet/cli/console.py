"""Text for people: lines, tables, progress, on standard error or standard output.

On a terminal rich draws it, imported when something is drawn; elsewhere everything is a
plain line. Nothing here reads markup: a path with brackets prints as it is.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, TextIO, TypeVar

from cellunet.errors import printable

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress, TaskID

T = TypeVar("T")

Row = tuple[str, ...]

PLAIN_SECONDS = 10.0
"""Plain progress is told at most this often in seconds."""

PLAIN_SHARE = 0.1
"""Plain progress is told when this share of the whole has passed since."""

PLAIN_LONGEST = 60.0
"""Plain progress is told after this many seconds even if little has passed."""

REFRESHES_PER_SECOND = 5
"""Often enough to look alive, seldom enough to cost the training nothing."""

BAR_CELLS = 24


def duration(seconds: float) -> str:
    """Return a time span in words, in the unit that a person would use.

    Examples
    --------
    >>> [duration(s) for s in (0.84, 42, 754, 5400)]
    ['0.8 s', '42 s', '12 min 34 s', '1 h 30 min']
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def disk_size(count: int) -> str:
    """Return a number of bytes in the unit that a person would use.

    Examples
    --------
    >>> disk_size(950), disk_size(25_600), disk_size(1_240_000_000)
    ('950 B', '26 kB', '1.2 GB')
    """
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(max(len(str(count)) - 1, 0) // 3, len(units) - 1)
    shown = count / 1000**power
    digits = 1 if power > 0 and shown < 10 else 0
    return f"{shown:.{digits}f} {units[power]}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> counted(1, "image"), counted(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def time_left(done: float, total: float, seconds: float) -> str:
    """Return the time left in words, or nothing while it cannot be told."""
    if done <= 0 or seconds <= 0 or total < done:
        return ""
    return f"{duration(seconds * (total - done) / done)} left"


class Bar:
    """How far a loop is: a bar on a terminal, elsewhere a line now and then.

    What is done within seconds has no line.

    Parameters
    ----------
    console
        Where it is shown.
    label
        What is being done.
    total
        Number of items, if known.
    clock
        Seconds; for tests.
    """

    def __init__(
        self,
        console: Console,
        label: str,
        total: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._label, self._total = console, label, total
        self._clock = clock
        self._start = self._told = clock()
        self._told_done = 0.0
        self._task: TaskID | None = None
        if console.live:
            self._task = console.foot().add_task(label, total=total, note="")

    def update(
        self, done: float, total: float | None = None, note: str = "", label: str = ""
    ) -> None:
        """Tell how many items are done, of how many, and something beside.

        Without a note the time left is told; an empty `label` leaves the one that
        there is.
        """
        self._label = label or self._label
        total = self._total if total is None else total
        if total and not note:
            note = time_left(done, total, self._clock() - self._start)
        if self._task is None:
            self._plain(done, total, note)
        else:
            self._console.foot().update(
                self._task,
                completed=done,
                total=total,
                note=note,
                description=self._label,
            )

    def _plain(self, done: float, total: float | None, note: str) -> None:
        """Print a line if it is time for one."""
        now = self._clock()
        since = now - self._told
        step = PLAIN_SHARE * total if total else 0
        far = done - self._told_done >= step or since >= PLAIN_LONGEST
        if since < PLAIN_SECONDS or not far or done == total:
            return
        self._told, self._told_done = now, done
        count = f"{done:,.0f} of {total:,.0f}" if total else f"{done:,.0f}"
        self._console.line(f"{self._label}: {count}{', ' if note else ''}{note}")

    def close(self) -> None:
        """End; nothing of a bar stays on the screen, lines do."""
        if self._task is not None:
            self._console.remove(self._task)
            self._task = None


class Console:
    """A stream that people read; standard error as it is when this is built.

    Parameters
    ----------
    stream
        Where to write; None: standard error.
    live
        Whether rich draws; None: if `stream` is a terminal that can move its cursor.
    """

    def __init__(self, stream: TextIO | None = None, live: bool | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        able = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.live = able if live is None else live
        encoding = getattr(self.stream, "encoding", None) or ""
        self.unicode = encoding.lower().startswith("utf")
        """Whether block characters can be drawn."""
        self.stopping: Callable[[], bool] = lambda: False
        """Asked by live progress, which then tells that it will stop."""
        self.quiet = False
        """Whether only `alert` and `error` print."""
        self.lost: OSError | None = None
        """Why nothing can be written any more, if so."""
        self._is_read = True
        self._rich: RichConsole | None = None
        self._progress: Progress | None = None

    @property
    def terminal(self) -> RichConsole:
        """What draws on a terminal."""
        if self._rich is None:
            from rich.console import Console as RichConsole

            self._rich = RichConsole(
                file=self.stream, markup=False, highlight=False, emoji=False
            )
        return self._rich

    def silence(self) -> None:
        """Print no progress any more and no line but those of `alert` and `error`."""
        self.quiet, self.live = True, False

    def line(self, text: str = "", style: str = "") -> None:
        """Print text as it is, never broken; `style`, rich's, shows on terminals."""
        if not self.quiet:
            self.alert(text, style)

    def alert(self, text: str, style: str = "") -> None:
        """Print what must be seen, even by those who asked for quiet."""
        text = printable(text)
        if self.live:
            self.terminal.print(text, style=style, soft_wrap=True)
        elif self._is_read:
            try:
                self.stream.write(f"{text}\n")
                self.stream.flush()
            except OSError as error:
                # Hours of work must not end because nobody listens any more, or the
                # disk is full; of standard output `main` says so in the end.
                self._is_read, self.lost = False, error

    def error(self, text: str) -> None:
        """Print the one message of a command that could not do its work."""
        self.alert(f"cellunet: error: {text}", "red")

    def files(self, written: Mapping[str, object]) -> None:
        """Print where files are, by what they hold; None: there is none."""
        for what, path in written.items():
            if path:
                self.line(f"{what}: {path}")

    def table(self, rows: list[Row], *, left: tuple[int, ...] = (0,)) -> None:
        """Print a table.

        Parameters
        ----------
        rows
            The header, left away if it is empty, then the body; all of one length.
        left
            Columns that are set flush left; the others, numbers, flush right.
        """
        rows = [tuple(map(printable, row)) for row in rows]
        if self.live:
            self._live_table(rows, left)
            return
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows if any(rows[0]) else rows[1:]:
            cells = (
                cell.ljust(width) if i in left else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            self.line("  ".join(cells).rstrip())
        self.line()

    def _live_table(self, rows: list[Row], left: tuple[int, ...]) -> None:
        from rich import box
        from rich.table import Table

        header, *body = rows
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=any(header))
        for i, title in enumerate(header):
            table.add_column(
                title, justify="left" if i in left else "right", overflow="fold"
            )
        for row in body:
            table.add_row(*row)
        self.terminal.print(table)

    def bar(self, label: str, total: float | None = None) -> Bar:
        """Return a new progress bar; close it."""
        return Bar(self, label, total)

    def foot(self) -> Progress:
        """Return the bars at the foot of the terminal."""
        if self._progress is None:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                RenderableColumn,
                TextColumn,
            )

            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(BAR_CELLS),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", style="dim", markup=False),
                RenderableColumn(_Stopping(self)),
                console=self.terminal,
                transient=True,
                refresh_per_second=REFRESHES_PER_SECOND,
                redirect_stdout=False,
            )
            self._progress.start()
        return self._progress

    def remove(self, task: TaskID) -> None:
        """Remove a bar, and the foot of the terminal with the last one."""
        self.foot().remove_task(task)
        if not self.foot().task_ids:
            self.foot().stop()
            self._progress = None

    def track(
        self, items: Iterable[T], label: str, total: int | None = None
    ) -> Iterator[T]:
        """Yield `items` and show how far the loop is: `cellunet.progress.Track`."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        bar = self.bar(label, total)
        try:
            for done, item in enumerate(items, 1):
                yield item
                bar.update(done)
        finally:
            bar.close()


class _Stopping:
    """What a bar says once a stop was asked for, asked at each refresh."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __rich__(self) -> str:
        return "stopping (again: at once)" if self._console.stopping() else ""
