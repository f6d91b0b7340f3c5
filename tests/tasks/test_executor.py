"""Executors map functions over items."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from cellunet.tasks.scheduling import SerialExecutor, ThreadExecutor, executor_of

WORKERS = pytest.mark.parametrize("workers", [1, 2, 4])


def threads() -> set[str]:
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if name.startswith("cellunet")}


@WORKERS
def test_results_come_in_the_items_order(workers) -> None:
    executor = executor_of(workers)
    assert list(executor.map(lambda n: n * n, iter([3, 1, 2] * 9))) == [9, 1, 4] * 9
    assert list(executor.map(abs, [])) == []


@WORKERS
def test_an_error_reaches_the_caller_in_its_place(workers) -> None:
    found = executor_of(workers).map(lambda n: 6 // n, [3, 0])
    assert next(found) == 2
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert not threads()


def test_one_worker_is_the_caller_itself() -> None:
    assert isinstance(executor_of(1), SerialExecutor)
    names = list(executor_of(1).map(lambda _: threading.current_thread(), range(3)))
    assert names == [threading.current_thread()] * 3


@pytest.mark.parametrize("workers", [2, 4])
def test_so_many_are_in_work_at_once_and_as_many_wait(workers) -> None:
    meet, begun = threading.Barrier(workers, timeout=10), []

    def items() -> Iterator[int]:
        for n in range(20 * workers):
            begun.append(n)
            yield n

    found = ThreadExecutor(workers).map(lambda n: (meet.wait(), n)[1], items())
    with contextlib.closing(found):
        assert next(found) == 0
        assert len(begun) == 2 * workers
    assert not threads()
