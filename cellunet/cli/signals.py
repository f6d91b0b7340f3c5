"""Ctrl-C and SIGTERM: first a wish to stop, then an order.

A task that can stop at a good place is told by a flag that it asks for: training saves
within a step, prediction ends after the image at hand. A second signal, or the first
one where nobody asks, ends the command at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGBREAK")
"""Signals that stop a command, where the system has them (SIGBREAK: Windows)."""
STDERR = 2


class StoppedNow(BaseException):
    """Ends a command at once; not an Exception, so that nothing takes it for an error.

    Raised by the handler wherever the main thread is, like KeyboardInterrupt.
    """


@dataclass
class Stop:
    """Whether somebody asked the command to stop; call it to know."""

    graceful: bool = False
    """Whether the task asks for the flag, so that the first signal can be a wish."""
    announce: bool = True
    """Whether the first signal is acknowledged by a line on standard error."""
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
        if self.announce:
            _say(
                "cellunet: stopping at the next good place; once more stops at once.\n"
            )


@contextlib.contextmanager
def listening() -> Iterator[Stop]:
    """Handle the signals inside; yields the flag.

    Signals that the caller ignores (``nohup``, background jobs) stay ignored. Outside
    the main thread, where Python permits no handlers, nothing is handled.
    """
    stop = Stop()
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
    isolation = sys.modules.get("cellunet.imaging.native.isolation")
    if isolation is not None:
        isolation.SHARED.kill()


def _say(text: str) -> None:
    # Not through sys.stderr: the signal may have come in the midst of a write to it,
    # and its buffer refuses to be entered twice.
    with contextlib.suppress(OSError):
        os.write(STDERR, text.encode())
