"""The session of one command line call: JSON output, signals, console.

A task that can stop at a good place is told by a flag that it asks for: training saves
within a step, prediction ends after the image at hand. A second signal, or the first
one where nobody asks, ends the command at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cellunet import __version__
from cellunet.bugs import REPORT
from cellunet.cli.console import Console
from cellunet.errors import CellunetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SCHEMA = "cellunet/1"

INPUTS_FAILED, BUG = 3, 70
"""Exit codes: some inputs failed; cellunet or a library is at fault."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a command did not do all it was asked for."""

    type: str
    """Name of the error class, or ``UsageError``, ``InputsFailed``,
    ``InputsDamaged``, ``Stopped``, ``Bug``."""
    message: str
    """What is wrong and where."""
    hint: str = ""
    """What to do next."""

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    @classmethod
    def of_inputs(cls, message: str, hint: str, bugs: int) -> Failure:
        """Return the failure of a batch, `bugs` of whose inputs were not at fault."""
        if bugs:
            return cls(type="Bug", message=message, hint=REPORT)
        return cls(type="InputsFailed", message=message, hint=hint)

    @classmethod
    def of_damaged(cls, count: str, first: str) -> Failure:
        """Return the failure of a batch in which some are damaged, `count` in words."""
        return cls(
            type="InputsDamaged",
            message=f"{count} damaged, with zeros in place of what is lost; the first: "
            f"{first}.",
            hint="The warnings say where. Copy or export these again.",
        )

    @classmethod
    def of(cls, error: CellunetError) -> Failure:
        """Return the failure that an error tells of."""
        return cls(type=type(error).__name__, message=error.message, hint=error.hint)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command ended with."""

    code: int = 0
    """Exit code."""
    result: dict[str, Any] | None = None
    """What the command found or made, documented per command."""
    failure: Failure | None = None
    """Why `code` is not 0."""

    @classmethod
    def of_batch(cls, result: dict[str, Any], failure: Failure | None) -> Outcome:
        """Return what a batch ended with, whose failure is `Failure.of_inputs`."""
        code = 0 if failure is None else INPUTS_FAILED
        if failure is not None and failure.type == "Bug":
            code = BUG
        return cls(code=code, result=result, failure=failure)


def document(command: str | None, outcome: Outcome) -> str:
    """Return the document as text: ASCII, so that any stream can carry it.

    Parameters
    ----------
    command
        Subcommand, with its own subcommand if it has one: ``"models show"``; None if
        none was recognized.
    outcome
        What the command ended with.
    """
    values = {
        "schema": SCHEMA,
        "cellunet": __version__,
        "command": command,
        "ok": outcome.code == 0,
        "exit_code": outcome.code,
        "error": dataclasses.asdict(outcome.failure) if outcome.failure else None,
        "result": outcome.result,
    }
    return json.dumps(plain(values), indent=2, allow_nan=False)


def plain(value: Any) -> Any:  # noqa: ANN401
    """Return `value` in terms of JSON; what is not finite becomes None.

    Dictionaries, lists, tuples, paths, text, numbers of Python and of numpy (by their
    ``item`` method) are understood.

    Raises
    ------
    TypeError
        For anything else.

    Examples
    --------
    >>> plain({"loss": float("nan"), "size": (1, 2)})
    {'loss': None, 'size': [1, 2]}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return plain(value.item())
    raise TypeError(f"{type(value).__name__} has no form in JSON.")


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Let nobody look for garbage inside, nor at what was made there later.

    Imports make many objects and leave none; Python's looks at all of them would take a
    twentieth of a short call. `main` undoes it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


M_ARENA_MAX = -8
"""Of ``malloc.h`` of the GNU C library: how many heaps there may be."""


def share_heap() -> None:
    """Let all threads take memory from one heap, as far as the C library is asked.

    By default it gives each thread one of its own, and what a thread gave back waits
    there for that thread: 84 of 550 MB of a large field.
    """
    if sys.platform == "linux":
        # Others than the GNU C library have no such function.
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


NAMES = ("SIGINT", "SIGTERM", "SIGBREAK")
"""Signals that stop a command, where the system has them (SIGBREAK: Windows)."""

STDERR = 2


class StoppedNow(BaseException):
    """Ends a command at once; not an Exception, so that nothing takes it for an error.

    Raised by the handler wherever the main thread is, like KeyboardInterrupt.
    """


@dataclass
class StopRequest:
    """Whether somebody asked the command to stop; call it to know."""

    graceful: bool = False
    """Whether the task asks for the flag, so that the first signal can be a wish."""
    announce: bool = True
    """Whether the first signal is acknowledged by a line on standard error."""
    silent: bool = False
    """Whether another process does that."""
    advice: str = ""
    """What to tell about results so far when the command ends at once."""
    received: int | None = None
    """The last signal."""

    def __call__(self) -> bool:
        """Return whether a signal came."""
        return self.received is not None

    @property
    def code(self) -> int:
        """Exit code by the shells' convention: 143 after SIGTERM, else 130."""
        return 143 if self.received == signal.SIGTERM else 130

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal; the handler.

        Raises
        ------
        StoppedNow
            At the second signal, or at the first if the task does not ask.
        """
        del frame
        again = self.received is not None
        self.received = number
        if again or not self.graceful:
            # A third signal finds the system's own handlers, and so always ends us.
            _restore_defaults()
            _release_decoders()
            raise StoppedNow
        if self.announce and not self.silent:
            _say(
                "cellunet: stopping at the next good place; once more stops at once.\n"
            )


@contextlib.contextmanager
def listening() -> Iterator[StopRequest]:
    """Handle the signals inside; yields the flag.

    Signals that the caller ignores (``nohup``, background jobs) stay ignored. Outside
    the main thread, where Python permits no handlers, nothing is handled.
    """
    stop = StopRequest()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in _numbers():
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, stop.handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _numbers() -> list[signal.Signals]:
    return [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


def _restore_defaults() -> None:
    for number in _numbers():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _release_decoders() -> None:
    """Let no thread wait for a decoder that may hang."""
    # Looked up, because commands that read no image do not load what reads them.
    isolation = sys.modules.get("cellunet.io.decoding")
    if isolation is not None:
        isolation.SHARED.kill()


def _say(text: str) -> None:
    # Not through sys.stderr: the signal may have come in the midst of a write to it,
    # and its buffer refuses to be entered twice.
    with contextlib.suppress(OSError):
        os.write(STDERR, text.encode())


@dataclass(frozen=True, kw_only=True)
class Session:
    """One call of the command line; `of` finds it in a command."""

    argv: tuple[str, ...]
    """The words after ``cellunet``."""
    console: Console
    """Where progress, warnings and errors go: standard error."""
    report: Console
    """Where results go: standard output, or standard error beside ``--json``."""
    stop: StopRequest
    """Whether to stop."""

    @classmethod
    def of(cls, ctx: typer.Context) -> Session:
        """Return the session that `ctx` belongs to."""
        session: Session = ctx.find_object(cls) or cls(
            argv=(), console=Console(), report=Console(sys.stdout), stop=StopRequest()
        )
        return session

    def note(self, text: str) -> None:
        """Print beside the results what to know of them, unless quiet is asked for."""
        if not self.console.quiet:
            self.report.line(text)

    def can_stop(self, advice: str) -> StopRequest:
        """Make the first signal a wish; `advice` is told if the second one comes."""
        self.stop.graceful = True
        self.stop.announce = not self.console.live
        self.stop.advice = advice
        return self.stop

    def command(self, *, without: tuple[str, ...] = (), add: str = "") -> str:
        """Return the call as a line to type, some words left out and one added."""
        words = [word for word in self.argv if word not in without]
        if add and add not in words:
            # Words after "--" are not options.
            words.insert(words.index("--") if "--" in words else len(words), add)
        return shell_line(["cellunet", *words])


def shell_line(words: list[str]) -> str:
    """Return words as a line that the system's shell splits the same way."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def stopped(session: Session, message: str, hint: str, **result: object) -> Outcome:
    """Return the outcome of a command that stopped where it could, and say so."""
    session.console.alert(f"cellunet: stopped. {message}")
    # On a line of its own, to be copied.
    session.console.alert(hint)
    failure = Failure(type="Stopped", message=message, hint=hint)
    return Outcome(code=session.stop.code, result=dict(result), failure=failure)
