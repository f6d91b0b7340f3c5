"""Text for people: lines, tables, progress, on standard error or standard output.

On a terminal rich draws it (`cellunet.cli.live`, imported when something is drawn);
elsewhere everything is a plain line. Nothing here reads markup: a path with brackets
prints as it is.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Protocol, TextIO, TypeVar

if TYPE_CHECKING:
    from cellunet.cli.live import Screen

T = TypeVar("T")

Row = tuple[str, ...]

PLAIN_SECONDS = 10.0
"""Plain progress is told at most this often in seconds."""

PLAIN_SHARE = 0.1
"""Plain progress is told when this share of the whole has passed since."""

PLAIN_LONGEST = 60.0
"""Plain progress is told after this many seconds even if little has passed."""

_CONTROL = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160))}


def printable(text: str) -> str:
    r"""Return `text` with control characters spelled out, line ends too.

    Names of files may hold them, and a terminal would obey.

    Examples
    --------
    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return text.translate(_CONTROL)


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


class Bar(Protocol):
    """How far a loop is."""

    def update(
        self, done: float, total: float | None = None, note: str = "", label: str = ""
    ) -> None:
        """Tell how many items are done, of how many, and something beside.

        An empty `label` leaves the one that there is.
        """

    def close(self) -> None:
        """End; nothing of the bar stays on the screen."""


class PlainBar:
    """Progress as a line now and then; none for what is done within seconds.

    Parameters
    ----------
    say
        Prints a line.
    label
        What is being done.
    total
        Number of items, if known.
    clock
        Seconds; for tests.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        label: str,
        total: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._label, self._total, self._clock = say, label, total, clock
        self._start = self._told = clock()
        self._told_done = 0.0

    def update(
        self, done: float, total: float | None = None, note: str = "", label: str = ""
    ) -> None:
        """Print a line if it is time for one."""
        self._label = label or self._label
        total = self._total if total is None else total
        now = self._clock()
        since = now - self._told
        step = PLAIN_SHARE * total if total else 0
        far = done - self._told_done >= step or since >= PLAIN_LONGEST
        if since < PLAIN_SECONDS or not far or done == total:
            return
        self._told, self._told_done = now, done
        note = note or (time_left(done, total, now - self._start) if total else "")
        count = f"{done:,.0f} of {total:,.0f}" if total else f"{done:,.0f}"
        self._say(f"{self._label}: {count}{', ' if note else ''}{note}")

    def close(self) -> None:
        """Do nothing: lines stay."""


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
        self._screen: Screen | None = None

    @property
    def screen(self) -> Screen:
        """What draws on a terminal."""
        if self._screen is None:
            from cellunet.cli.live import Screen

            self._screen = Screen(self.stream, lambda: self.stopping())
        return self._screen

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
            self.screen.line(text, style)
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
            self.screen.table(rows, left)
            return
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows if any(rows[0]) else rows[1:]:
            cells = (
                cell.ljust(width) if i in left else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            self.line("  ".join(cells).rstrip())
        self.line()

    def bar(self, label: str, total: float | None = None) -> Bar:
        """Return a new progress bar; close it."""
        if self.live:
            return self.screen.bar(label, total)
        return PlainBar(self.line, label, total)

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
