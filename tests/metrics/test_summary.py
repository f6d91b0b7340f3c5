"""Summaries and paired differences of several images, their tables and intervals."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from cellunet.command_config import BootstrapConfig
from cellunet.errors import ConfigError, InputError
from cellunet.metrics import summary
from cellunet.metrics.matching import (
    PROTOCOLS,
    ImageScores,
    MatchRule,
    class_scores,
    score_image,
)
from cellunet.metrics.summary import (
    class_rows,
    difference_rows,
    estimate_means,
    estimate_ratios,
    paired,
    summarize,
    table_rows,
)

RULE = MatchRule(t20=(10, 14, 18))


def scores(
    name: str, tp: tuple[int, int, int], true: int, found: int, **more: float
) -> ImageScores:
    return ImageScores(
        name=name,
        rule=RULE,
        tp=tp,
        true_objects=true,
        predicted_objects=found,
        merges=int(more.get("merges", 0)),
        splits=int(more.get("splits", 0)),
        matched_iou_sum=more.get("iou", 0.0),
        too_small=int(more.get("too_small", 0)),
        left_out=int(more.get("left_out", 0)),
    )


# AP: 2/2, 1/3, 0/4; F1: 1, 2/4, 0.
A = scores("A", (2, 1, 0), 2, 2, iou=1.4, merges=1, too_small=3)
# AP: 3/5, 3/5, 3/5; F1: 6/8 three times.
B = scores("B", (3, 3, 3), 4, 4, iou=2.8, splits=2, left_out=1)
# Neither true nor predicted: 1.
NEITHER = scores("C", (0, 0, 0), 0, 0)
# Predicted only: 0.
ONLY_FOUND = scores("D", (0, 0, 0), 0, 5)
ALL = [A, B, NEITHER, ONLY_FOUND]


def test_scores_are_means_over_images_and_counts_are_sums() -> None:
    found = summarize(ALL)
    # AP of A: (1 + 1/3 + 0) / 3 = 4/9; B: 3/5; C: 1; D: 0.
    assert found.mean_ap.value == pytest.approx((4 / 9 + 3 / 5 + 1 + 0) / 4)
    # F1 of A: (1 + 1/2 + 0) / 3 = 1/2; B: 3/4; C: 1; D: 0.
    assert found.mean_f1.value == pytest.approx((1 / 2 + 3 / 4 + 1 + 0) / 4)
    assert found.f1_at(10).value == pytest.approx((1 + 3 / 4 + 1 + 0) / 4)
    assert found.f1_at(14).value == pytest.approx((1 / 2 + 3 / 4 + 1 + 0) / 4)
    assert found.f1_at(18).value == pytest.approx((0 + 3 / 4 + 1 + 0) / 4)
    assert found.ap[1].value == pytest.approx((1 / 3 + 3 / 5 + 1 + 0) / 4)
    # Five pairs match at .50, with IoU 4.2 in all.
    assert found.mean_matched_iou is not None
    assert found.mean_matched_iou.value == pytest.approx(4.2 / 5)
    assert found.images == ("A", "B", "C", "D")
    assert (found.both_empty, found.one_empty) == (1, 1)
    totals = found.totals
    assert (totals.true_objects, totals.predicted_objects) == (6, 11)
    assert (totals.missed, totals.extra) == (1, 6)
    assert (totals.merges, totals.splits) == (1, 2)
    assert (totals.too_small, totals.left_out) == (3, 1)
    assert (totals.tp, totals.fp, totals.fn) == ((5, 4, 3), (6, 7, 8), (1, 2, 3))


def test_images_without_true_objects_are_told_apart() -> None:
    rest = summarize(ALL).with_true_objects
    assert rest is not None
    assert rest.images == ("A", "B")
    assert rest.mean_ap.value == pytest.approx((4 / 9 + 3 / 5) / 2)
    assert (rest.both_empty, rest.one_empty) == (0, 0)
    assert rest.with_true_objects is None
    assert summarize([NEITHER, ONLY_FOUND]).with_true_objects is None
    assert summarize([A, B]).with_true_objects == rest


def test_an_image_without_any_match_is_missed_not_empty() -> None:
    found = summarize([scores("E", (0, 0, 0), 3, 0)])
    assert (found.both_empty, found.one_empty) == (0, 1)
    assert found.mean_matched_iou is None


def test_intervals_hold_the_value_and_repeat() -> None:
    found = summarize(ALL)
    assert found.mean_ap.low <= found.mean_ap.value <= found.mean_ap.high
    assert 0 <= found.mean_ap.low < found.mean_ap.high <= 1
    assert summarize(ALL) == found
    sure = summarize(ALL, config=BootstrapConfig(confidence=0.5))
    assert found.mean_ap.low < sure.mean_ap.low < sure.mean_ap.high < found.mean_ap.high


def test_a_summary_becomes_json() -> None:
    plain = json.loads(json.dumps(summarize(ALL).to_dict()))
    assert plain["rule"]["thresholds"] == [0.5, 0.7, 0.9]
    assert plain["totals"]["tp"] == [5, 4, 3]
    assert plain["with_true_objects"]["images"] == ["A", "B"]
    assert plain["with_true_objects"]["rule"]["strict"] is False
    assert plain["with_true_objects"]["with_true_objects"] is None


def test_no_images_cannot_be_summarized() -> None:
    with pytest.raises(InputError, match="no images"):
        summarize([])


def test_an_image_given_twice_is_named() -> None:
    with pytest.raises(InputError, match="more than once: A"):
        summarize([A, B, A])


def test_scores_of_different_rules_do_not_mix() -> None:
    strict = dataclasses.replace(B, rule=MatchRule(t20=RULE.t20, strict=True))
    with pytest.raises(InputError, match="different rules"):
        summarize([A, strict])
    with pytest.raises(InputError, match="different rules"):
        paired([A], [dataclasses.replace(strict, name="A", true_objects=2)])


def test_differences_are_taken_image_by_image_whatever_their_order() -> None:
    # A worse by one match at .50 (AP 1 -> 1/3, F1 1 -> 1/2), B unchanged.
    worse = scores("A", (1, 1, 0), 2, 2)
    found = paired([A, B], [B, worse])
    assert found.images == ("A", "B")
    assert found.mean_ap_by_image == pytest.approx((2 / 9, 0))
    assert found.mean_ap.value == pytest.approx(1 / 9)
    assert found.f1_at(10).value == pytest.approx(1 / 4)
    assert found.mean_f1.value == pytest.approx(1 / 12)
    # Draws of two images take A none, one or two times.
    assert found.mean_ap.low == 0
    assert found.mean_ap.high == pytest.approx(2 / 9)
    back = paired([B, worse], [A, B])
    assert back.mean_ap.value == pytest.approx(-1 / 9)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["images"] == ["A", "B"]


def test_pairing_is_narrower_than_either_interval(rng: np.random.Generator) -> None:
    first, second = [], []
    for k in range(40):  # hard and easy images, the second always one match behind
        tp = int(rng.integers(1, 20))
        first.append(scores(f"{k}", (tp, tp, tp), 20, 20))
        second.append(scores(f"{k}", (tp - 1, tp - 1, tp - 1), 20, 20))
    found, alone = paired(first, second), summarize(first)
    width = found.mean_f1.high - found.mean_f1.low
    assert found.mean_f1.value == pytest.approx(1 / 20)
    assert width < 0.1 * (alone.mean_f1.high - alone.mean_f1.low)


def test_different_images_are_not_compared_but_named() -> None:
    with pytest.raises(InputError, match="only in the first: B; only in the second: C"):
        paired([A, B], [A, NEITHER])
    many = [scores(f"{k:02}", (0, 0, 0), 0, 0) for k in range(12)]
    with pytest.raises(InputError, match="09 and 2 more"):
        paired([A], [A, *many])


def test_different_truth_is_not_compared() -> None:
    other = scores("A", (2, 1, 0), 3, 2)
    with pytest.raises(InputError, match=r"A has 2 true objects in the first.*and 3"):
        paired([A], [other])


def test_the_average_f1_of_caicedo2019_is_a_mean_over_images() -> None:
    true = np.zeros((20, 20), np.int32)
    true[:10, :10] = 1
    shifted = np.zeros_like(true)
    shifted[:10, 2:12] = 1  # shared 80, union 120: IoU 2/3 > .50, .55, .60, .65
    forms = PROTOCOLS["caicedo2019"]
    found = [
        score_image(true, predicted, name=name, forms=forms)["plain"]
        for name, predicted in (("same", true), ("shifted", shifted))
    ]
    assert summarize(found).mean_f1.value == pytest.approx((1 + 4 / 9) / 2)


SQUARE = np.zeros((12, 12), np.int32)
SQUARE[:10, :10] = 1
EMPTY = np.zeros_like(SQUARE)


def scored(protocol: str = "standard") -> dict[str, list[ImageScores]]:
    forms = PROTOCOLS[protocol]
    images = [
        score_image(labels, labels, name=name, forms=forms)
        for name, labels in (("A", SQUARE), ("B", EMPTY))
    ]
    return {form: [one[form] for one in images] for form in forms}


def test_a_table_has_a_column_per_form_and_a_row_per_quantity() -> None:
    rows = table_rows({form: summarize(s) for form, s in scored().items()})
    assert rows[0] == ("", "all", "without_small", "small_ignored")
    table = {label: cells for label, *cells in rows[1:]}
    one = "1.000 [1.000, 1.000]"
    assert table["mean AP, IoU .50 to .95"] == [one] * 3
    assert table["F1 at IoU .70"] == [one] * 3
    assert table["images"] == ["2"] * 3
    assert table["without any object, true or predicted (score 1)"] == ["1"] * 3
    assert table["mean AP of images with true objects"] == [one] * 3
    assert table["merges"] == ["0"] * 3


def test_the_average_f1_names_its_thresholds() -> None:
    rows = table_rows({f: summarize(s) for f, s in scored("caicedo2019").items()})
    assert "mean F1, IoU .50 to .90" in [row[0] for row in rows]
    assert "F1 at IoU .90" in [row[0] for row in rows]


def test_a_value_that_is_not_there_is_a_dash() -> None:
    empty = scored()["all"][1:]
    table = dict(table_rows({"all": summarize(empty)}))
    assert table["mean IoU of matches"] == "-"
    assert "mean AP of images with true objects" not in table


def test_differences_carry_their_sign() -> None:
    images = scored()["all"]
    rows = dict(difference_rows({"all": paired(images, images)}))
    assert rows["mean AP, IoU .50 to .95"] == "+0.000 [+0.000, +0.000]"
    assert rows["images"] == "2"


def test_classes_have_a_row_each() -> None:
    rows = class_rows(class_scores(np.array([[3, 1], [0, 0]]), ("rest", "boundary")))
    assert rows[1] == ("rest", "1.000", "0.750", "4")
    assert rows[2] == ("boundary", "0.000", "-", "0")


def test_the_interval_of_a_mean_of_zeros_and_ones_is_binomial() -> None:
    # A draw of 16 from eight ones and eight zeros holds B(16, 1/2) ones. P(B <= 3) is
    # .0106 and P(B <= 4) .0384, so the 2.5 % quantile is 4 / 16; the other is 12 / 16.
    column = np.repeat([0.0, 1.0], 8)[:, None]
    (found,) = estimate_means(column, BootstrapConfig(resamples=20_000))
    assert (found.value, found.low, found.high) == (0.5, 0.25, 0.75)


def test_the_same_seed_gives_the_same_interval(rng: np.random.Generator) -> None:
    columns = rng.random((30, 3))
    first = estimate_means(columns, BootstrapConfig(seed=5))
    assert estimate_means(columns, BootstrapConfig(seed=5)) == first
    assert estimate_means(columns, BootstrapConfig(seed=6)) != first


def test_many_images_are_drawn_in_blocks_with_the_same_result(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = rng.random((30, 2))
    whole = estimate_means(columns, BootstrapConfig(resamples=100))
    monkeypatch.setattr(summary, "_BLOCK", 30 * 7)
    blocks = estimate_means(columns, BootstrapConfig(resamples=100))
    for one, other in zip(whole, blocks, strict=True):
        assert one.low == pytest.approx(other.low)
        assert one.high == pytest.approx(other.high)


def test_a_single_image_has_no_spread() -> None:
    (found,) = estimate_means(np.array([[0.7]]), BootstrapConfig())
    assert (found.value, found.low, found.high) == (0.7, 0.7, 0.7)


def test_a_ratio_is_that_of_the_sums() -> None:
    numerators = np.array([[1.0, 0.0], [2.0, 0.0]])
    denominators = np.array([[1.0, 0.0], [3.0, 0.0]])
    found, undefined = estimate_ratios(numerators, denominators, BootstrapConfig())
    assert found is not None
    assert found.value == 3 / 4
    assert found.low == pytest.approx(2 / 3)
    assert found.high == pytest.approx(1)
    assert undefined is None


def test_draws_without_a_denominator_are_left_out() -> None:
    # A draw of two images misses the second one quarter of the time.
    ones = np.array([[0.0], [1.0]])
    (found,) = estimate_ratios(ones, ones, BootstrapConfig())
    assert found is not None
    assert (found.value, found.low, found.high) == (1, 1, 1)
    many = np.zeros((1000, 1))
    many[0] = 1.0
    seed = next(
        s
        for s in range(99)
        if not np.random.default_rng(s).multinomial(1000, np.full(1000, 1 / 1000))[0]
    )
    (found,) = estimate_ratios(many, many, BootstrapConfig(resamples=1, seed=seed))
    assert found is not None
    assert (found.low, found.high) == (1, 1)


@pytest.mark.parametrize(
    "wrong", [{"resamples": 0}, {"confidence": 0.0}, {"confidence": 1.0}]
)
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        BootstrapConfig(**wrong)
