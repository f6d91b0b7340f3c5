"""Work in a thread beside the window, with progress and a way to stop."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from qtpy.QtCore import QObject, Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")


class Job(QObject):  # type: ignore[misc]
    """One piece of work in a thread; what it says is heard in the window's thread.

    Parameters
    ----------
    work
        Takes the job, asks `stopping` often, and returns the result.
    on_told
        Hears what is being done, how much of it is done, and how much there is, 0
        where that is not known.
    on_done
        Hears the result.
    on_failed
        Hears the exception.
    """

    _happened = Signal(object)

    def __init__(
        self,
        work: Callable[[Job], Any],
        on_told: Callable[[str, int, int], None],
        on_done: Callable[[Any], None],
        on_failed: Callable[[Exception], None],
    ) -> None:
        super().__init__()
        self._work = work
        self._on_told, self._on_done, self._on_failed = on_told, on_done, on_failed
        self._stop, self._abandoned = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="cellunet")
        # From another thread this waits for the window's thread to call it.
        self._happened.connect(self._hear)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the work to stop soon."""
        self._stop.set()

    def abandon(self) -> None:
        """Ask it to stop, and hear no more of it: the window is gone."""
        self._abandoned = True
        self.stop()

    def stopping(self) -> bool:
        """Return whether it was asked to."""
        return self._stop.is_set()

    def running(self) -> bool:
        """Return whether the thread is still at work."""
        return self._thread.is_alive()

    def tell(self, what: str, done: int = 0, total: int = 0) -> None:
        """Say how far the work is."""
        self._send(lambda: self._on_told(what, done, total))

    def track(
        self, items: Iterable[T], label: str, total: int | None = None
    ) -> Iterator[T]:
        """Yield items and say how far it is, as `cellunet.progress.Track`."""
        for number, item in enumerate(items):
            self.tell(label, number, total or 0)
            yield item

    def _run(self) -> None:
        try:
            result = self._work(self)
        except Exception as error:  # noqa: BLE001 - shown in the window
            failure = error
            self._send(lambda: self._on_failed(failure))
        else:
            self._send(lambda: self._on_done(result))

    def _send(self, call: Callable[[], None]) -> None:
        # At the end of the program Qt's half of this object may be gone already.
        with contextlib.suppress(RuntimeError):
            self._happened.emit(call)

    def _hear(self, call: Callable[[], None]) -> None:
        if not self._abandoned:
            call()


class JobSlot:
    """The one job of a window, and whether the window is still there."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.closed = False

    def close(self) -> None:
        """Stop the job, because the window is gone."""
        self.closed = True
        if self.job is not None:
            self.job.abandon()
