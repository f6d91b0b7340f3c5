"""What every command of one call shares: its words, its console, its stop flag."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass

import typer

from cellunet.cli.console import Console
from cellunet.cli.jsonout import Failure, Outcome
from cellunet.cli.signals import Stop


@dataclass(frozen=True, kw_only=True)
class Session:
    """One call of the command line; `of` finds it in a command."""

    argv: tuple[str, ...]
    """The words after ``cellunet``."""
    console: Console
    """Where progress, warnings and errors go: standard error."""
    report: Console
    """Where results go: standard output, or standard error beside ``--json``."""
    stop: Stop
    """Whether to stop."""

    @classmethod
    def of(cls, ctx: typer.Context) -> Session:
        """Return the session that `ctx` belongs to."""
        session: Session = ctx.find_object(cls) or cls(
            argv=(), console=Console(), report=Console(sys.stdout), stop=Stop()
        )
        return session

    def can_stop(self, advice: str) -> Stop:
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
