"""Where block functions run. An executor maps functions and knows no command.

Serial is the only one so far; processes, part i of n and clusters fit behind the same
call, since a block function depends on its arguments alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Apply a function to items, results in the items' order."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield ``function(item)`` for each item."""
        ...


class SerialExecutor:
    """Here and now, one after the other."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield ``function(item)`` for each item."""
        return map(function, items)
