"""Windows, and the choice among them, small enough to work out by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellunet.tasks.suggest.choose import (
    ALIKE,
    LITTLE,
    CandidateWindows,
    choose,
    see,
    starts,
)


@given(st.integers(32, 300), st.integers(0, 2000))
def test_windows_cover_an_axis_and_overlap_by_half(side: int, more: int) -> None:
    length = side + more
    found = starts(length, side)
    assert found[0] == 0
    assert found[-1] == length - side
    assert all(0 < b - a <= (side + 1) // 2 for a, b in pairwise(found))


def flat(value: float, side: int = 20) -> np.ndarray:
    return np.full((side, side), value, np.float32)


def test_uncertainty_is_the_expected_share_of_wrong_pixels_of_what_is_there() -> None:
    labels = np.zeros((20, 20), int)
    labels[:5, :10] = 7
    evidence = np.full((20, 20), 255, np.uint8)
    # 50 object pixels with a uncertainty of .2 each, 10 background pixels with .4.
    evidence[:5, :10] = 204
    evidence[19, :10] = 153
    seen = see(flat(0.5), labels, evidence)
    assert seen.uncertainty == pytest.approx(
        (10 + 4) / (50 + 4 + LITTLE * 400), rel=1e-5
    )
    assert (seen.objects, seen.unsure) == (1, 0)


def test_an_object_of_low_confidence_is_counted_as_unsure() -> None:
    labels = np.zeros((20, 20), int)
    labels[:5], labels[10:15] = 3, 9
    evidence = np.full((20, 20), 250, np.uint8)
    evidence[10:15] = 140
    seen = see(flat(0.5), labels, evidence)
    assert (seen.objects, seen.unsure) == (2, 1)


def test_a_window_of_sure_background_shows_nothing() -> None:
    empty = see(flat(0), np.zeros((20, 20), int), np.full((20, 20), 255, np.uint8))
    assert empty.uncertainty == 0
    assert not empty.shows_something
    suspected = np.full((20, 20), 255, np.uint8)
    suspected[:3, :3] = 128
    assert see(flat(0), np.zeros((20, 20), int), suspected).shows_something
    speck = np.zeros((20, 20), int)
    speck[0, 0] = 1
    assert see(flat(0), speck, np.full((20, 20), 255, np.uint8)).shows_something


def test_a_speck_in_an_empty_window_is_less_uncertain_than_a_uncertain_field() -> None:
    evidence = np.full((100, 100), 255, np.uint8)
    evidence[:3, :3] = 100
    speck = np.zeros((100, 100), int)
    speck[:3, :3] = 1
    alone = see(flat(0, 100), speck, evidence)
    field = np.ones((100, 100), int)
    full = see(flat(0, 100), field, np.full((100, 100), 200, np.uint8))
    assert alone.uncertainty < full.uncertainty


def test_looks_tell_sizes_and_brightness_apart_but_not_mirror_images(rng) -> None:
    scaled = rng.random((64, 64)).astype(np.float32)
    labels = np.zeros((64, 64), int)
    labels[:8, :8] = 1
    evidence = np.full((64, 64), 240, np.uint8)
    look = np.array(see(scaled, labels, evidence).look)
    mirrored = see(scaled[::-1, ::-1], labels[::-1, ::-1], evidence).look
    np.testing.assert_allclose(mirrored, look, rtol=1e-5)
    larger = labels.copy()
    larger[:16, :16] = 1
    assert not np.allclose(see(scaled, larger, evidence).look, look)
    assert not np.allclose(see(scaled * 2, labels, evidence).look, look)


def test_looks_are_finite_whatever_the_window_holds() -> None:
    for value in (0.0, -5.0, 100.0):
        for number in (0, 1):
            labels = np.full((16, 16), number)
            seen = see(flat(value, 16), labels, np.zeros((16, 16), np.uint8))
            assert np.isfinite(seen.look).all()
            assert 0 < seen.uncertainty <= 1


NOTHING = np.empty((0, 1))


def pool(
    looks, uncertainties=None, images=None, corners=None, fields=None, beside=None
) -> CandidateWindows:
    count = len(looks)
    images = images if images is not None else range(count)
    return CandidateWindows(
        uncertainties=np.array(uncertainties or [1.0] * count),
        looks=np.array(looks, float).reshape(count, -1),
        images=np.array(images),
        fields=np.array(images if fields is None else fields),
        corners=np.array(corners or [(0, 0)] * count),
        side=10,
        beside=np.array(beside or [False] * count),
    )


def chosen(pool_: CandidateWindows, count: int, known=NOTHING) -> list[int]:
    return [c.index for c in choose(pool_, known, count)]


def test_likeness_gains_and_shares_are_those_of_the_formula() -> None:
    # Two windows, one unit apart: the standard deviation is 0.5, so d = 2.
    likeness = math.exp(-4 / (2 * ALIKE**2))
    first, second = choose(pool([0.0, 1.0], uncertainties=[1.0, 3.0]), NOTHING, 2)
    assert first.index == 1
    assert first.novelty == 1
    assert first.share == pytest.approx((3 + likeness) / 4)
    assert second.index == 0
    assert second.novelty == pytest.approx(1 - likeness)
    assert second.share == pytest.approx((1 - likeness) / 4)


def test_uncertainty_that_many_share_counts_for_more_than_the_greatest_doubt() -> None:
    # Four alike with a uncertainty of .3 each, and one oddity with a uncertainty of .9.
    assert chosen(pool([0, 0, 0, 0, 50], uncertainties=[0.3] * 4 + [0.9]), 1) == [0]


def test_each_kind_comes_once_before_any_comes_twice() -> None:
    looks = [0.0, 0.1, 0.2, 50.0, 50.1, 100.0]
    kinds = {round(looks[i] / 50) for i in chosen(pool(looks), 3)}
    assert kinds == {0, 1, 2}


def test_what_is_annotated_is_not_chosen_again() -> None:
    looks, uncertainties = [0.0, 50.0], [5.0, 1.0]
    assert chosen(pool(looks, uncertainties), 1) == [0]
    assert chosen(pool(looks, uncertainties), 1, known=np.array([[0.0]])) == [1]


def test_no_image_gives_more_than_its_share_while_others_have_some() -> None:
    corners = [(0, 0), (0, 20), (0, 40), (0, 0)]
    images = [0, 0, 0, 1]
    uncertainties = [9.0, 9.0, 9.0, 0.1]
    found = chosen(pool([0.0, 50, 100, 0], uncertainties, images, corners), 2)
    assert {images[i] for i in found} == {0, 1}
    everything = chosen(pool([0.0, 50, 100, 0], uncertainties, images, corners), 4)
    assert sorted(everything) == [0, 1, 2, 3]


def test_windows_of_an_image_that_overlap_are_not_both_chosen() -> None:
    corners = [(0, 0), (0, 9), (0, 10), (9, 9)]
    found = chosen(pool([0.0, 1, 2, 3], [9.0, 1, 1, 1], [0] * 4, corners), 4)
    assert found == [0, 2]


def test_other_planes_of_a_place_come_when_no_other_place_is_left() -> None:
    # Two places of three planes of a stack; all planes of the first are the worst.
    corners, fields = [(0, 0)] * 3 + [(0, 50)] * 3, [0, 1, 2] * 2
    uncertainties = [9.0, 8.0, 7.0, 3.0, 2.0, 1.0]
    looks = [0.0, 50, 100, 150, 200, 250]

    def in_order(beside, count):
        windows = pool(looks, uncertainties, [0] * 6, corners, fields, beside)
        return [index // 3 for index in chosen(windows, count)]

    assert in_order([False] * 6, 6) == [0, 1, 0, 1, 0, 1]
    assert in_order([True] * 3 + [False] * 3, 2) == [1, 0]


def test_windows_without_uncertainty_are_left_out() -> None:
    assert chosen(pool([0.0, 1.0, 2.0], uncertainties=[0.0, 1.0, 0.0]), 3) == [1]


def test_a_number_that_never_varies_changes_nothing() -> None:
    looks = np.array([[0.0, 7.0], [1.0, 7.0], [5.0, 7.0]])
    found = choose(pool(looks), np.empty((0, 2)), 3)
    assert sorted(c.index for c in found) == [0, 1, 2]
    assert all(math.isfinite(c.novelty) for c in found)


def test_among_equals_the_first_is_chosen() -> None:
    assert chosen(pool([3.0, 3.0, 3.0]), 3) == [0, 1, 2]
