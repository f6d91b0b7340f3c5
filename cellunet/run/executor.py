"""Where block functions run. An executor maps functions and knows no command.

Serial or in threads; processes and clusters fit behind the same call, since a block
function depends on its arguments alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from cellunet.run.ahead import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

T = TypeVar("T")
R = TypeVar("R")


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
