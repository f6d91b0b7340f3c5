"""Scores of one image: arithmetic by hand, protocols, dilation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellunet.metrics.matching import (
    PROTOCOLS,
    ImageScores,
    MatchRule,
    dilate_labels,
    ratio_ap,
    ratio_f1,
    score_image,
)

small_labels = hnp.arrays(np.uint8, (6, 6), elements=st.integers(0, 4))
EMPTY = np.zeros((6, 6), np.int32)
# Object 1: 9 px; object 2: 4 px; object 3: 3 px.
TRUE = np.array(
    [
        [1, 1, 1, 0, 2, 2],
        [1, 1, 1, 0, 2, 2],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [3, 3, 3, 0, 0, 0],
    ],
    np.int32,
)
# 1: 8 of the 9 px of true 1, IoU 8 / 9 = .889, matches up to .85.
# 2: 3 of the 4 px of true 2, IoU 3 / 4 = .75, matches up to .75.
# 4: 2 px on nothing.
FOUND = np.array(
    [
        [1, 1, 1, 0, 2, 2],
        [1, 1, 1, 0, 2, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 4, 4],
        [0, 0, 0, 0, 0, 0],
    ],
    np.int32,
)


def score(true: np.ndarray, found: np.ndarray, **rule: object) -> ImageScores:
    forms = {"it": MatchRule(**rule)}
    return score_image(true, found, name="A01", forms=forms)["it"]


def test_counts_and_scores_are_those_worked_by_hand() -> None:
    found = score(TRUE, FOUND)
    assert (found.true_objects, found.predicted_objects) == (3, 3)
    # Thresholds .50 to .75 (6 of them): both match; .80 and .85: one; .90, .95: none.
    assert found.tp == (2, 2, 2, 2, 2, 2, 1, 1, 0, 0)
    assert found.fp == (1, 1, 1, 1, 1, 1, 2, 2, 3, 3)
    assert found.fn == (1, 1, 1, 1, 1, 1, 2, 2, 3, 3)
    # F1: 4 / 6, then 2 / 6, then 0. AP: 2 / 4, then 1 / 5, then 0.
    assert found.f1 == pytest.approx([2 / 3] * 6 + [1 / 3] * 2 + [0] * 2)
    assert found.ap == pytest.approx([1 / 2] * 6 + [1 / 5] * 2 + [0] * 2)
    assert found.mean_f1 == pytest.approx((4 + 2 / 3) / 10)
    assert found.mean_ap == pytest.approx((3 + 0.4) / 10)
    assert (found.missed, found.extra, found.merges, found.splits) == (1, 1, 0, 0)
    assert found.mean_matched_iou == pytest.approx((8 / 9 + 3 / 4) / 2)
    assert found.f1_at(14) == pytest.approx(2 / 3)
    assert found.f1_at(18) == 0


def test_nothing_predicted_where_nothing_is_scores_one() -> None:
    found = score(EMPTY, EMPTY)
    assert found.f1 == (1.0,) * 10
    assert found.ap == (1.0,) * 10
    assert found.mean_matched_iou is None


@pytest.mark.parametrize(("true", "found"), [(TRUE, EMPTY), (EMPTY, TRUE)])
def test_objects_on_one_side_alone_score_zero(
    true: np.ndarray, found: np.ndarray
) -> None:
    scores = score(true, found)
    assert scores.f1 == (0.0,) * 10
    assert scores.ap == (0.0,) * 10
    assert scores.missed + scores.extra == 3


def test_ratios_by_hand() -> None:
    assert ratio_f1(3, 1, 2) == 6 / 9
    assert ratio_ap(3, 1, 2) == 3 / 6


def test_a_strict_rule_does_not_match_equality() -> None:
    assert score(TRUE, FOUND).tp[5] == 2  # .75, and 3 / 4 is .75
    assert score(TRUE, FOUND, strict=True).tp[5] == 1


def test_small_true_objects_can_be_left_out() -> None:
    found = score(TRUE, FOUND, min_true_area_px=4)
    # True 3 has 3 px and goes: no miss any more.
    assert (found.missed, found.extra, found.too_small) == (0, 1, 1)
    found = score(TRUE, FOUND, min_true_area_px=5)
    # True 2 goes as well; what is predicted there is extra.
    assert (found.missed, found.extra, found.too_small) == (0, 2, 2)


def test_the_standard_protocol_has_three_ways_with_small_objects() -> None:
    true = np.zeros((12, 12), np.int32)
    true[:5, :5] = 1  # 25 px
    true[6:10, 6:12] = 2  # 24 px
    found = score_image(true, true, name="A01")
    assert list(found) == ["all", "without_small", "small_ignored"]
    assert found["all"].f1_at(10) == 1
    assert found["without_small"].true_objects == 1
    assert found["without_small"].f1_at(10) == pytest.approx(2 / 3)
    assert found["small_ignored"].f1_at(10) == 1
    assert found["small_ignored"].left_out == 1


def test_caicedo2019_is_strict_from_half_to_nine_tenths() -> None:
    true = np.zeros((12, 12), np.int32)
    true[:10, :10] = 1  # 100 px
    true[11, :] = 2  # 12 px: removed
    found = np.zeros((12, 12), np.int32)
    found[:10, :9] = 1  # 90 px: IoU is exactly .9
    scores = score_image(true, found, name="A01", forms=PROTOCOLS["caicedo2019"])
    plain, dilated = scores["plain"], scores["dilated"]
    assert plain.rule.t20 == tuple(range(10, 19))
    assert plain.true_objects == 1
    # IoU .9 > t for .50 to .85, not for .90.
    assert plain.f1 == (1.0,) * 8 + (0.0,)
    assert plain.mean_f1 == pytest.approx(8 / 9)
    # Dilated, the prediction is 11 x 10 = 110 px and holds all 100: IoU 100 / 110.
    assert dilated.matched_iou_sum == pytest.approx(100 / 110)
    assert dilated.mean_f1 == 1


def test_where_dilated_objects_meet_the_larger_id_wins() -> None:
    labels = np.array(
        [
            [0, 0, 0, 0, 0, 0],
            [0, 1, 1, 5, 5, 0],
            [0, 1, 1, 5, 5, 0],
            [0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0],
            [3, 0, 0, 0, 0, 0],
        ],
        np.uint16,
    )
    grown = [
        [1, 1, 5, 5, 5, 5],
        [1, 1, 5, 5, 5, 5],
        [1, 1, 5, 5, 5, 5],
        [1, 1, 5, 5, 5, 5],
        [3, 3, 0, 0, 0, 0],
        [3, 3, 0, 0, 0, 0],
    ]
    assert dilate_labels(labels).tolist() == grown
    assert dilate_labels(labels).dtype == np.uint16


@given(labels=small_labels)
def test_dilation_is_that_of_scikit_image(labels: np.ndarray) -> None:
    from skimage.morphology import dilation

    expected = dilation(labels, np.ones((3, 3), np.uint8))
    assert np.array_equal(dilate_labels(labels), expected)


def test_what_is_not_annotated_is_left_out() -> None:
    annotated = np.ones((6, 6), bool)
    annotated[4:] = False
    # True 3 and predicted 4 lie there.
    found = score_image(TRUE, FOUND, name="A01", annotated=annotated)["all"]
    assert (found.missed, found.extra, found.left_out) == (0, 0, 1)


def test_scores_become_json_and_a_flat_row() -> None:
    found = score(TRUE, FOUND)
    assert json.loads(json.dumps(found.to_dict()))["tp"] == list(found.tp)
    row = found.csv_row()
    assert row["name"] == "A01"
    assert row["tp_0.50"] == 2
    assert row["ap_0.80"] == pytest.approx(1 / 5)
    assert not any(isinstance(v, list) for v in row.values())


@pytest.mark.slow
@given(true=small_labels, found=small_labels)
def test_scores_keep_their_order_and_bounds(
    true: np.ndarray, found: np.ndarray
) -> None:
    scores = score(true, found)
    assert all(0 <= a <= f <= 1 for a, f in zip(scores.ap, scores.f1, strict=True))
    assert list(scores.tp) == sorted(scores.tp, reverse=True)
    assert min(scores.fp) >= 0
    assert min(scores.fn) >= 0


@given(labels=small_labels)
def test_a_perfect_prediction_scores_one(labels: np.ndarray) -> None:
    scores = score(labels, labels)
    assert scores.mean_ap == scores.mean_f1 == 1
    assert scores.merges == scores.splits == 0
    assert scores.mean_matched_iou in (None, 1)
