"""Executors map functions over items."""

from __future__ import annotations

import pytest

from cellunet.run.executor import Executor, SerialExecutor


def test_results_come_in_the_items_order() -> None:
    executor: Executor = SerialExecutor()
    assert list(executor.map(lambda n: n * n, iter([3, 1, 2]))) == [9, 1, 4]
    assert list(executor.map(abs, [])) == []


def test_an_error_reaches_the_caller_in_its_place() -> None:
    found = SerialExecutor().map(lambda n: 6 // n, [3, 0])
    assert next(found) == 2
    with pytest.raises(ZeroDivisionError):
        next(found)
