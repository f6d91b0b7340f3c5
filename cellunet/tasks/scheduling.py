"""Run work ahead, side by side and overlapped, with results in order.

Serial or in threads; processes and clusters fit behind the same call, since a block
function depends on its arguments alone.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future

T = TypeVar("T")

R = TypeVar("R")


def in_order(
    function: Callable[[T], R], items: Iterable[T], workers: int, *, waiting: int = 0
) -> Generator[R]:
    """Yield ``function(item)`` of each item, in the items' order.

    Parameters
    ----------
    function
        Called in a thread of its own for each item; what it raises is raised here, when
        it is the item's turn, and ends the work: items not yet begun are left out.
    items
        What to work on; read no further ahead than there are workers and room to wait.
    workers
        Items in work at once.
    waiting
        As many more may wait to be worked on, or for their turn to be handed on.
    """
    begun: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(workers, "cellunet-ahead")
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) >= workers + waiting:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class ConcurrencyGate:
    """Lets several small things through at once, or one large one.

    Parameters
    ----------
    width
        Small things at once.
    """

    def __init__(self, width: int) -> None:
        self._width = self._free = width
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def passing(self, *, large: bool) -> Iterator[None]:
        """Wait until there is room, and take it for the time inside."""
        taken = self._width if large else 1
        with self._changed:
            self._changed.wait_for(lambda: self._free >= taken)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()


class Executor(Protocol):
    """Apply a function to items, results in the items' order."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Generator[R]:
        """Yield ``function(item)`` for each item; closed, it begins no further one."""
        ...


class SerialExecutor:
    """Here and now, one after the other."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Generator[R]:
        """Yield ``function(item)`` for each item."""
        yield from map(function, items)


class ThreadExecutor:
    """In threads of its own, while the caller makes the next items.

    Parameters
    ----------
    workers
        Items in work at once. As many more may wait for their turn, so that neither
        the caller nor the threads wait for each other all the time.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Generator[R]:
        """Yield ``function(item)`` for each item."""
        return in_order(function, items, self._workers, waiting=self._workers)


def executor_of(workers: int) -> Executor:
    """Return what has so many items in work at once."""
    return ThreadExecutor(workers) if workers > 1 else SerialExecutor()


def in_turn(executor: Executor) -> Executor:
    """Return what works on one item at a time, beside the caller if `executor` does."""
    return executor if isinstance(executor, SerialExecutor) else ThreadExecutor(1)


A = TypeVar("A")

B = TypeVar("B")

C = TypeVar("C")


def overlapped(
    items: Iterable[T],
    prepare: Callable[[T], A],
    compute: Callable[[T, A], B],
    finish: Callable[[T, B], C],
    executor: Executor,
) -> Generator[C]:
    """Yield ``finish(item, compute(item, prepare(item)))`` of each item, in order.

    `compute` runs here, `prepare` and `finish` each by an executor: with
    ``ThreadExecutor(1)`` one item is computed while the next is prepared and the one
    before is finished. At most one item waits between two stages, and no stage is
    entered by two items at once. What any of them raises is raised here.

    Parameters
    ----------
    items
        What to work on.
    prepare, compute, finish
        The stages. `prepare` must not depend on what `finish` does.
    executor
        What prepares, and what finishes.
    """
    with contextlib.closing(
        executor.map(lambda item: (item, prepare(item)), items)
    ) as ready:
        done = ((item, compute(item, prepared)) for item, prepared in ready)
        yield from executor.map(lambda pair: finish(*pair), done)
