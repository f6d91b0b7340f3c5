"""Several at once, results in order."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from cellunet.tasks.scheduling import ConcurrencyGate, in_order


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
