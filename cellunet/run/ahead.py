"""Work on several items at once, and hand their results on in order."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

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


class Gate:
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
