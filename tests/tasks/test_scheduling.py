"""Work in order: ahead, side by side, and in overlapping stages."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from cellunet.tasks.scheduling import (
    ConcurrencyGate,
    SerialExecutor,
    ThreadExecutor,
    executor_of,
    in_order,
    overlapped,
)


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_when_small(n: int) -> int:
        time.sleep(0.02 / (1 + n))
        return n * n

    assert list(in_order(slow_when_small, range(10), 3)) == [n * n for n in range(10)]
    assert list(in_order(abs, [], 2)) == []


def test_so_many_are_in_hand_at_once() -> None:
    meet = threading.Barrier(2, timeout=10)
    # Would break the barrier if they came one by one.
    list(in_order(lambda _: meet.wait(), range(4), 2))


def test_no_item_is_read_before_its_turn() -> None:
    seen = []

    def items():
        for n in range(100):
            seen.append(n)
            yield n

    with contextlib.closing(in_order(abs, items(), 2)) as results:
        assert next(results) == 0
    assert len(seen) <= 3


def test_what_is_raised_ends_the_work() -> None:
    begun = []

    def fail_at_two(n: int) -> int:
        begun.append(n)
        if n == 2:
            raise OSError("two")
        return n

    results = in_order(fail_at_two, range(100), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(OSError, match="two"):
        next(results)
    assert max(begun) <= 4


def test_a_large_thing_passes_alone() -> None:
    gate, inside, most = ConcurrencyGate(2), [], []

    def go(large: bool) -> None:
        with gate.passing(large=large):
            inside.append(large)
            most.append(tuple(inside))
            time.sleep(0.01)
            inside.remove(large)

    list(in_order(go, [False, True, False, False, True, False] * 3, 4))
    assert len(most) == 18
    assert all(len(at_once) == 1 for at_once in most if True in at_once)
    assert max(map(len, most)) == 2


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
        # Of the next round some are called off: the others would wait for them.
        meet.abort()
    assert not threads()


BOTH = pytest.mark.parametrize("executor", [SerialExecutor(), ThreadExecutor(1)])


@BOTH
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_each_item_passes_all_stages_in_order(executor, count) -> None:
    found = overlapped(
        range(count),
        lambda n: n + 1,
        lambda n, a: (n, 2 * a),
        lambda n, b: (n, *b),
        executor,
    )
    assert list(found) == [(n, n, 2 * (n + 1)) for n in range(count)]


def test_stages_work_at_the_same_time() -> None:
    meet = threading.Barrier(3, timeout=10)

    def wait(n: int) -> None:
        # Item 2 is prepared, 1 computed and 0 finished at one time.
        meet.wait()

    found = overlapped(
        range(3),
        lambda n: wait(n) if n == 2 else None,
        lambda n, _: wait(n) if n == 1 else None,
        lambda n, _: wait(n) if n == 0 else None,
        ThreadExecutor(1),
    )
    assert len(list(found)) == 3


@BOTH
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_what_a_stage_raises_is_raised(executor, stage) -> None:
    def fail(number: int, n: int) -> int:
        if number == stage and n == 3:
            raise OSError("stage")
        return n

    with pytest.raises(OSError, match="stage"):
        list(
            overlapped(
                range(9),
                lambda n: fail(0, n),
                lambda n, _: fail(1, n),
                lambda n, _: fail(2, n),
                executor,
            )
        )
    assert not threads()


def test_few_items_are_in_hand_between_the_stages() -> None:
    prepared, finished = [], []
    found = overlapped(
        range(50),
        prepared.append,
        # The next one is prepared; the one before may still be being finished.
        lambda n, _: (len(prepared) <= n + 2, len(finished) >= n - 1),
        lambda n, few: (finished.append(n), few)[1],
        ThreadExecutor(1),
    )
    assert set(found) == {(True, True)}
