"""Histograms add up, and tell quantiles to the width of a bin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellunet.outputs.report import Histogram, Pool

values = st.lists(st.floats(0, 500), min_size=1, max_size=60)


def test_bins_hold_their_lower_edge_and_not_their_upper() -> None:
    assert Histogram.of([0.0, 0.49, 0.5, 1.2], 0.5).counts == {0: 2, 1: 1, 2: 1}


@given(values, st.sampled_from([0.05, 0.5, 0.95]))
def test_a_quantile_is_within_a_bin_of_the_truth(found, share) -> None:
    told = Histogram.of(found, 0.5).quantile(share)
    low = np.percentile(found, 100 * share, method="lower")
    high = np.percentile(found, 100 * share, method="higher")
    assert low - 0.5 <= told <= high + 0.5


@given(values)
def test_the_mean_is_within_half_a_bin_of_the_truth(found) -> None:
    mean = Histogram.of(found, 0.5).mean()
    assert mean == pytest.approx(np.mean(found), abs=0.2501)


@given(values, values)
def test_the_sum_of_two_counts_both(first, second) -> None:
    pool = Pool(0.5)
    for part in (first, second):
        pool.add(Histogram.of(part, 0.5))
    assert pool.histogram() == Histogram.of([*first, *second], 0.5)


def test_without_values_nothing_is_told() -> None:
    empty = Histogram(step=1.0)
    assert (empty.total, empty.quantile(0.5), empty.mean()) == (0, None, None)


def test_histograms_of_other_steps_do_not_add() -> None:
    with pytest.raises(ValueError, match="does not add"):
        Pool(1.0).add(Histogram(step=0.5))
