"""Prepare the next item and finish the last one while the present one is computed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
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
        ahead: list[tuple[T, Future[A]]] = []
        last: Future[C] | None = None
        for item in items:
            ahead.append((item, before.submit(prepare, item)))
            if len(ahead) < 2:
                continue
            present, prepared = ahead.pop(0)
            result = compute(present, prepared.result())
            if last is not None:
                yield last.result()
            last = after.submit(finish, present, result)
        for present, prepared in ahead:
            result = compute(present, prepared.result())
            if last is not None:
                yield last.result()
            last = after.submit(finish, present, result)
        if last is not None:
            yield last.result()


def one_by_one(
    items: Iterable[T],
    prepare: Callable[[T], A],
    compute: Callable[[T, A], B],
    finish: Callable[[T, B], C],
) -> Generator[C]:
    """Yield what `overlapped` yields, without threads."""
    for item in items:
        yield finish(item, compute(item, prepare(item)))
