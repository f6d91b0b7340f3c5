"""Three stages at once, each item through all of them in order."""

from __future__ import annotations

import threading

import pytest

from cellunet.tasks.scheduling import one_by_one, overlapped

BOTH = pytest.mark.parametrize("run", [overlapped, one_by_one])


@BOTH
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_each_item_passes_all_stages_in_order(run, count) -> None:
    found = run(
        range(count), lambda n: n + 1, lambda n, a: (n, 2 * a), lambda n, b: (n, *b)
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
    )
    assert len(list(found)) == 3


@BOTH
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_what_a_stage_raises_is_raised(run, stage) -> None:
    def fail(number: int, n: int) -> int:
        if number == stage and n == 3:
            raise OSError("stage")
        return n

    with pytest.raises(OSError, match="stage"):
        list(
            run(
                range(9),
                lambda n: fail(0, n),
                lambda n, _: fail(1, n),
                lambda n, _: fail(2, n),
            )
        )
