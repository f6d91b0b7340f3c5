"""Prepare the next item and finish the last one while the present one is computed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


def overlapped(
    items: Iterable[T],
    prepare: Callable[[T], A],
    compute: Callable[[T, A], B],
    finish: Callable[[T, B], C],
) -> Generator[C]:
    """Yield ``finish(item, compute(item, prepare(item)))`` of each item, in order.

    `compute` runs here, `prepare` and `finish` each in a thread of its own: while one
    item is computed, the next is prepared and the one before is finished. At most one
    item waits between two stages, and no stage is entered by two items at once. What
    any of them raises is raised here.

    Parameters
    ----------
    items
        What to work on.
    prepare, compute, finish
        The stages. `prepare` must not depend on what `finish` does.
    """
    with (
        ThreadPoolExecutor(1, "cellunet-prepare") as before,
        ThreadPoolExecutor(1, "cellunet-finish") as after,
    ):
        last: Future[C] | None = None
        for item, prepared in _one_ahead(items, prepare, before):
            result = compute(item, prepared.result())
            if last is not None:
                yield last.result()
            last = after.submit(finish, item, result)
        if last is not None:
            yield last.result()


def _one_ahead(
    items: Iterable[T], prepare: Callable[[T], A], pool: ThreadPoolExecutor
) -> Iterator[tuple[T, Future[A]]]:
    """Yield each item when the preparation of the next one is under way."""
    present: tuple[T, Future[A]] | None = None
    for item in items:
        following = item, pool.submit(prepare, item)
        if present is not None:
            yield present
        present = following
    if present is not None:
        yield present


def one_by_one(
    items: Iterable[T],
    prepare: Callable[[T], A],
    compute: Callable[[T, A], B],
    finish: Callable[[T, B], C],
) -> Generator[C]:
    """Yield what `overlapped` yields, without threads."""
    for item in items:
        yield finish(item, compute(item, prepare(item)))
