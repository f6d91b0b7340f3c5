"""The choice among windows, on pools small enough to work out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cellunet.tasks.suggest.choose import ALIKE, CandidateWindows, choose

NOTHING = np.empty((0, 1))


def pool(looks, doubts=None, images=None, corners=None, side=10) -> CandidateWindows:
    count = len(looks)
    return CandidateWindows(
        doubts=np.array(doubts or [1.0] * count),
        looks=np.array(looks, float).reshape(count, -1),
        images=np.array(images if images is not None else range(count)),
        corners=np.array(corners or [(0, 0)] * count),
        side=side,
    )


def chosen(pool_: CandidateWindows, count: int, known=NOTHING) -> list[int]:
    return [c.index for c in choose(pool_, known, count)]


def test_likeness_gains_and_shares_are_those_of_the_formula() -> None:
    # Two windows, one unit apart: the standard deviation is 0.5, so d = 2.
    likeness = math.exp(-4 / (2 * ALIKE**2))
    first, second = choose(pool([0.0, 1.0], doubts=[1.0, 3.0]), NOTHING, 2)
    assert first.index == 1
    assert first.novelty == 1
    assert first.share == pytest.approx((3 + likeness) / 4)
    assert second.index == 0
    assert second.novelty == pytest.approx(1 - likeness)
    assert second.share == pytest.approx((1 - likeness) / 4)


def test_doubt_that_many_share_counts_for_more_than_the_greatest_doubt() -> None:
    # Four alike with a doubt of .3 each, and one oddity with a doubt of .9.
    assert chosen(pool([0, 0, 0, 0, 50], doubts=[0.3] * 4 + [0.9]), 1) == [0]


def test_each_kind_comes_once_before_any_comes_twice() -> None:
    looks = [0.0, 0.1, 0.2, 50.0, 50.1, 100.0]
    kinds = {round(looks[i] / 50) for i in chosen(pool(looks), 3)}
    assert kinds == {0, 1, 2}


def test_what_is_annotated_is_not_chosen_again() -> None:
    looks, doubts = [0.0, 50.0], [5.0, 1.0]
    assert chosen(pool(looks, doubts), 1) == [0]
    assert chosen(pool(looks, doubts), 1, known=np.array([[0.0]])) == [1]


def test_no_image_gives_more_than_its_share_while_others_have_some() -> None:
    corners = [(0, 0), (0, 20), (0, 40), (0, 0)]
    images = [0, 0, 0, 1]
    doubts = [9.0, 9.0, 9.0, 0.1]
    found = chosen(pool([0.0, 50, 100, 0], doubts, images, corners), 2)
    assert {images[i] for i in found} == {0, 1}
    everything = chosen(pool([0.0, 50, 100, 0], doubts, images, corners), 4)
    assert sorted(everything) == [0, 1, 2, 3]


def test_windows_of_an_image_that_overlap_are_not_both_chosen() -> None:
    corners = [(0, 0), (0, 9), (0, 10), (9, 9)]
    found = chosen(pool([0.0, 1, 2, 3], [9.0, 1, 1, 1], [0] * 4, corners), 4)
    assert found == [0, 2]


def test_windows_without_doubt_are_left_out() -> None:
    assert chosen(pool([0.0, 1.0, 2.0], doubts=[0.0, 1.0, 0.0]), 3) == [1]


def test_a_number_that_never_varies_changes_nothing() -> None:
    looks = np.array([[0.0, 7.0], [1.0, 7.0], [5.0, 7.0]])
    found = choose(pool(looks), np.empty((0, 2)), 3)
    assert sorted(c.index for c in found) == [0, 1, 2]
    assert all(math.isfinite(c.novelty) for c in found)


def test_among_equals_the_first_is_chosen() -> None:
    assert chosen(pool([3.0, 3.0, 3.0]), 3) == [0, 1, 2]
