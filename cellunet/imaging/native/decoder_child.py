"""The process that decodes, as seen by the one that started it."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from cellunet.imaging.native.decoder_errors import NoDecoderError
from cellunet.imaging.native.messages import Head, Part, receive, send

if TYPE_CHECKING:
    from collections.abc import Sequence

START_S = 120.0
"""Most seconds until the process is ready."""
WATCH_S = 0.5
"""Seconds between two looks at the time."""
PIPE_BYTES = 2**20
"""What a pipe holds where that can be chosen: fewer changes between processes."""
MODULE = "cellunet.imaging.native.decoder_process"
"""What the process runs."""
_START = (
    "import sys; sys.path[:] = sys.argv[2:]; from importlib import import_module; "
    "import_module(sys.argv[1]).main()"
)
"""Not ``-m``, which would look for modules in the current folder first."""


@dataclass
class DecoderChild:
    """A process that decodes, and who watches over its time."""

    process: subprocess.Popen[bytes]
    late: bool = False
    """Whether it was killed because it did not answer in time."""
    _due: float = math.inf
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.process.poll() is not None

    def ask(
        self, head: Head, parts: Sequence[Part], most_bytes: int, seconds: float
    ) -> tuple[Head, list[bytearray]]:
        """Send a message and return the answer; see `messages.receive`."""
        self._due = time.monotonic() + seconds
        try:
            send(cast("Any", self.process.stdin), head, parts)
            return receive(cast("Any", self.process.stdout), most_bytes)
        finally:
            self._due = math.inf

    def greet(self) -> None:
        """Wait until it is ready."""
        self._due = time.monotonic() + START_S
        try:
            receive(cast("Any", self.process.stdout), 0)
        finally:
            self._due = math.inf

    def end(self, *, kill: bool = False) -> int:
        """End the process and return its exit code."""
        self._ended.set()
        if kill:
            self.process.kill()
        # To close its standard input is to end it.
        for stream in (self.process.stdin, self.process.stdout):
            # What is buffered for a process that is gone cannot be written.
            with contextlib.suppress(OSError):
                cast("IO[bytes]", stream).close()
        return self.process.wait()

    def watch(self) -> None:
        """Kill the process when it does not answer in time; runs in a thread."""
        while not self._ended.wait(WATCH_S):
            if time.monotonic() > self._due:
                self.late = True
                self.process.kill()
                return


def start() -> DecoderChild:
    """Start a process; it is ready after `DecoderChild.greet`.

    Raises
    ------
    NoDecoderError
        If the system refuses.
    """
    paths = [str(Path(folder).absolute()) for folder in sys.path if folder]
    # One thread each: what else libraries reserve counts against the bound on memory.
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NO_WINDOW
    else:
        # Apart from the terminal's signals, which are for cellunet to decide on.
        options["process_group"] = 0
    try:
        if getattr(sys, "frozen", False):
            raise OSError(f"{sys.executable} is no Python")
        process = subprocess.Popen(
            [sys.executable or "", "-P", "-c", _START, MODULE, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **single},
            **options,
        )
    except (OSError, ValueError) as error:
        raise NoDecoderError(
            f"the process that decodes images cannot be started ({error})"
        ) from error
    for stream in (process.stdin, process.stdout):
        _widen(cast("IO[bytes]", stream))
    child = DecoderChild(process)
    threading.Thread(target=child.watch, name="decoder", daemon=True).start()
    return child


def _widen(pipe: IO[bytes]) -> None:
    """Let a pipe hold more, where the system can and permits it."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def ending(code: int) -> str:
    """Return how a process ended, by its exit code.

    Examples
    --------
    >>> ending(1), ending(-9)
    ('exit code 1', 'killed, perhaps for want of memory')
    """
    if code == -9:
        return "killed, perhaps for want of memory"
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"
    # Windows' codes of crashes are known by their hexadecimal form.
    return f"exit code {code:#x}" if code > 255 else f"exit code {code}"
