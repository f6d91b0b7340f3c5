"""Ranks and sums of values that come in bands."""

from __future__ import annotations

import numpy as np
import pytest

from cellunet.imaging.normalize import Selector


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_the_value_at_every_rank_is_that_of_sorting(rng, dtype) -> None:
    values = (
        rng.normal(100, 40, 200).clip(0) * (-1 if dtype == np.int32 else 1)
    ).astype(dtype)
    found = Selector()
    for part in (values[:90], values[90:]):
        found.add(part)
    ranks = (0, 77, 199)
    if found.wide:
        found.refine(ranks)
        for part in (values[:50], values[50:]):
            found.add_fine(part)
    assert [found.value(r) for r in ranks] == [float(np.sort(values)[r]) for r in ranks]


def test_values_that_come_after_a_question_count_in_the_next() -> None:
    found = Selector()
    found.add(np.array([9], np.uint8))
    assert found.value(0) == 9
    found.add(np.array([3], np.uint8))
    assert found.value(0) == 3


def test_sums_of_very_large_planes_are_exact() -> None:
    counted = Selector()
    counted.counts[[3, 65535]] = 7, 10**11
    total, squares = counted.sums()
    assert total == float(7 * 3 + 10**11 * 65535)
    assert squares == float(7 * 9 + 10**11 * 65535**2)
