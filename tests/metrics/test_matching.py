"""Overlaps, matches, merges and splits on hand-worked 6 x 6 images."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from cellunet.errors import AnnotationError
from cellunet.metrics.matching import match, merges_and_splits, overlaps

small_labels = hnp.arrays(np.uint8, (6, 6), elements=st.integers(0, 4))


def image(text: str) -> np.ndarray:
    """Return six rows of six digits as labels; ``.`` is background."""
    rows = text.replace(".", "0").split()
    return np.array([[int(c) for c in row] for row in rows], np.int32)


def matches(true: np.ndarray, found: np.ndarray, t20: int, strict: bool = False) -> int:
    return len(match(overlaps(true, found), t20, strict=strict))


# Object 1: 9 px, object 2: 6 px.
TRUE = image("""
    111...
    111...
    111...
    ......
    ....22
    ..2222
""")
# Object 5 shares 6 px of its 8 with 1: union 9 + 8 - 6 = 11, IoU 6 / 11 = .545.
# Object 3 shares 4 px of its 4 with 2: union 6 + 4 - 4 = 6, IoU 4 / 6 = .667.
# Object 9, 1 px, lies on 2: IoU 1 / 6.
FOUND = image("""
    .555..
    .555..
    .55...
    ......
    .....9
    ..3333
""")


def test_overlaps_are_counted_by_hand() -> None:
    table = overlaps(TRUE, FOUND)
    assert table.true_ids.tolist() == [1, 2]
    assert table.true_areas.tolist() == [9, 6]
    assert table.predicted_ids.tolist() == [3, 5, 9]
    assert table.predicted_areas.tolist() == [4, 8, 1]
    pairs = zip(table.pair_true, table.pair_predicted, strict=True)
    assert [(int(t), int(p)) for t, p in pairs] == [(0, 1), (1, 0), (1, 2)]
    assert table.intersections.tolist() == [6, 4, 1]
    assert table.unions.tolist() == [11, 6, 6]


@pytest.mark.parametrize(
    ("t20", "expected"),
    [
        (10, [0, 1]),  # .50: 6 / 11 and 4 / 6 both pass
        (11, [1]),  # .55: 20 * 6 = 120 < 11 * 11 = 121 fails
        (13, [1]),  # .65: 20 * 4 = 80 >= 13 * 6 = 78 passes
        (14, []),  # .70: 80 < 84 fails
    ],
)
def test_pairs_match_by_whole_numbers(t20: int, expected: list[int]) -> None:
    assert match(overlaps(TRUE, FOUND), t20).tolist() == expected


def test_equality_matches_unless_the_rule_is_strict() -> None:
    true = image("1111.. " + "...... " * 5)
    found = image("111... " + "...... " * 5)
    # Shared 3, union 4: IoU is exactly .75 = 15 / 20.
    assert matches(true, found, 15) == 1
    assert matches(true, found, 15, strict=True) == 0
    assert matches(true, found, 14, strict=True) == 1
    assert matches(true, found, 16) == 0


@pytest.mark.parametrize("t20", range(10, 20))
def test_an_iou_that_equals_the_threshold_matches_at_every_threshold(t20: int) -> None:
    # An object of 20 px of which t20 are found: IoU is exactly t20 / 20.
    true = np.zeros((6, 6), np.int32)
    true.flat[:20] = 1
    found = np.zeros((6, 6), np.int32)
    found.flat[:t20] = 1
    assert matches(true, found, t20) == 1
    assert matches(true, found, t20, strict=True) == 0


def test_nobody_asks_what_is_left_out_where_all_is_annotated(monkeypatch) -> None:
    true = image("""
        11.2
        11.2
    """)
    found = image("""
        .1.2
        .133
    """)
    everywhere = overlaps(true, found)
    monkeypatch.setattr("cellunet.metrics.matching._mostly_inside", None)
    table = overlaps(true, found, annotated=np.ones(true.shape, bool))
    assert table.intersections.tolist() == [2, 1, 1]
    assert vars(table).keys() == vars(everywhere).keys()
    for name, values in vars(everywhere).items():
        np.testing.assert_array_equal(getattr(table, name), values)


def test_two_halves_of_one_object_make_one_match_at_a_half() -> None:
    true = image("111111 " + "...... " * 5)
    found = image("111222 " + "...... " * 5)
    # Each half shares 3 px, union 6: IoU .5 twice, but one to one leaves one.
    assert matches(true, found, 10) == 1
    assert matches(true, found, 10, strict=True) == 0
    assert matches(true, found, 11) == 0


def test_as_many_as_possible_match_at_a_half() -> None:
    true = image("""
        111111
        ......
        222333
        ......
        444444
        ......
    """)
    found = image("""
        111222
        ......
        333333
        ......
        44444.
        ......
    """)
    # True 1 has two halves, predicted 3 has two halves, 4 has an IoU of 5 / 6:
    # one match each.
    assert matches(true, found, 10) == 3
    table = overlaps(true, found)
    chosen = match(table, 10)
    assert len(set(table.pair_true[chosen].tolist())) == 3
    assert len(set(table.pair_predicted[chosen].tolist())) == 3


def test_a_merge_holds_more_than_half_of_two_objects() -> None:
    true = image("""
        1122..
        1122..
        ......
        33....
        33....
        ......
    """)
    found = image("""
        7777..
        7777..
        7.....
        7.....
        7.....
        ......
    """)
    # 7 holds 4 of 4 px of 1, 4 of 4 of 2 and 2 of 4 of 3: half is not more than half.
    table = overlaps(true, found)
    merging, split = merges_and_splits(table)
    assert table.predicted_ids[merging].tolist() == [7]
    assert split.tolist() == []


def test_half_of_each_of_two_objects_is_no_merge() -> None:
    true = image("1122.. " * 2 + "...... " * 4)
    found = image(".77... " * 2 + "...... " * 4)
    # 7 holds 2 of 4 px of either.
    merging, split = merges_and_splits(overlaps(true, found))
    assert merging.tolist() == []
    assert split.tolist() == []


def test_a_split_object_holds_more_than_half_of_two_predictions() -> None:
    true = image("""
        1111..
        1111..
        ......
        ......
        ......
        ......
    """)
    found = image("""
        22.333
        22.3..
        ......
        ......
        ......
        ......
    """)
    # 1 holds 4 of 4 px of 2, and of 3 it holds (0, 3) and (1, 3): 2 of 4, just half.
    merging, split = merges_and_splits(overlaps(true, found))
    assert split.tolist() == []
    found[0, 5] = 0
    # Now 2 of 3 px of 3: more than half.
    table = overlaps(true, found)
    merging, split = merges_and_splits(table)
    assert table.true_ids[split].tolist() == [1]
    assert merging.tolist() == []


def test_empty_images_have_no_objects_and_no_pairs() -> None:
    empty = np.zeros((6, 6), np.uint16)
    for true, found in ((empty, empty), (TRUE, empty), (empty, FOUND)):
        table = overlaps(true, found)
        assert table.intersections.size == 0
        assert match(table, 10).size == 0
        assert [x.size for x in merges_and_splits(table)] == [0, 0]
    assert overlaps(np.zeros((0, 6), int), np.zeros((0, 6), int)).true_ids.size == 0


def test_what_is_not_annotated_is_no_ones_error() -> None:
    true = image("""
        11....
        11....
        ......
        ...222
        ...222
        ......
    """)
    found = image("""
        11....
        11....
        .3333.
        ...444
        ...4.5
        ......
    """)
    annotated = np.ones((6, 6), bool)
    annotated[:, 3:] = False
    annotated[2, 3] = True
    table = overlaps(true, found, annotated=annotated)
    # True 2 lies outside: gone. 3 has 3 of its 4 px inside: it stays, with 3 px.
    # 4 (0 of 4 px inside) and 5 (0 of 1) are left out.
    assert table.true_ids.tolist() == [1]
    assert table.predicted_ids.tolist() == [1, 3]
    assert table.predicted_areas.tolist() == [4, 3]
    assert table.left_out == 2
    annotated[2, 1:3] = False
    # Now 1 of the 4 px of 3 is inside: more than half is not annotated.
    table = overlaps(true, found, annotated=annotated)
    assert table.predicted_ids.tolist() == [1]
    assert table.left_out == 3
    annotated[2, 2] = True
    # 2 of 4: half is not more than half.
    assert overlaps(true, found, annotated=annotated).predicted_areas.tolist() == [4, 2]


def test_a_true_object_that_lies_mostly_outside_is_no_ones_error() -> None:
    true = image("""
        1112..
        1112..
    """)
    found = np.zeros_like(true)
    annotated = np.ones((2, 6), bool)
    annotated[:, :2] = False
    # 2 of the 6 px of 1 are inside; all of 2.
    assert overlaps(true, found, annotated=annotated).true_ids.tolist() == [2]
    annotated[:, 1] = True
    # 4 of 6 px.
    assert overlaps(true, found, annotated=annotated).true_ids.tolist() == [1, 2]


def test_what_is_drawn_of_an_object_up_to_the_edge_is_excused_with_it() -> None:
    # Whoever annotates a box draws the rest of a nucleus that the box cuts; who
    # predicts finds the nucleus whole, mostly outside.
    true = image("""
        ...11...
        ...11.22
    """)
    found = image("""
        33333.4.
        33333.4.
    """)
    annotated = np.ones((2, 8), bool)
    annotated[:, :3] = False
    table = overlaps(true, found, annotated=annotated)
    assert (table.true_ids.tolist(), table.predicted_ids.tolist()) == ([2], [4])
    # Not so an object within the annotated part, whatever hides it.
    true[:] = [[0, 0, 0, 0, 1, 0, 0, 0]] * 2
    assert overlaps(true, found, annotated=annotated).true_ids.tolist() == [1]
    # Nor where nothing was found.
    true[:] = [[0, 0, 0, 1, 0, 0, 0, 0]] * 2
    assert overlaps(true, 0 * found, annotated=annotated).true_ids.tolist() == [1]


def test_small_true_objects_become_background() -> None:
    table = overlaps(TRUE, FOUND).without_small(7)
    # True 2 has 6 px and goes; predicted 3 and 9 stay.
    assert table.true_ids.tolist() == [1]
    assert table.predicted_ids.tolist() == [3, 5, 9]
    assert table.intersections.tolist() == [6]
    assert table.too_small == 1
    same = overlaps(TRUE, FOUND)
    assert same.without_small(6) is same


def test_predictions_on_small_true_objects_can_be_ignored() -> None:
    # Of predicted 3, all 4 px lie on true 2 (6 px), of 9 its only one: both go.
    table = overlaps(TRUE, FOUND).without_small(7, ignore=True)
    assert table.predicted_ids.tolist() == [5]
    assert table.pair_predicted.tolist() == [0]
    assert (table.left_out, table.too_small) == (2, 1)
    found = FOUND.copy()
    found[5, 0:2] = 3  # 6 px, 4 on true 2
    found[3, 0:4] = 3  # 10 px, 4 on true 2
    table = overlaps(TRUE, found).without_small(7, ignore=True)
    assert table.predicted_ids.tolist() == [3, 5]
    found[3, 0:2] = 0  # 8 px, 4 on true 2: just half
    table = overlaps(TRUE, found).without_small(7, ignore=True)
    assert table.predicted_ids.tolist() == [3, 5]
    assert table.pair_true.tolist() == [0]
    assert table.pair_predicted.tolist() == [1]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_any_integer_type_will_do(dtype: type) -> None:
    table = overlaps(TRUE.astype(dtype), FOUND.astype(dtype))
    assert table.intersections.tolist() == [6, 4, 1]
    assert table.intersections.dtype == np.int64


@pytest.mark.parametrize("background", [True, False])
def test_ids_may_be_huge(background: bool) -> None:
    huge = TRUE.astype(np.int64) * 2_000_000_011
    found = FOUND.astype(np.int64)
    if not background:
        huge[huge == 0] = 7
    table = overlaps(huge, found)
    first = [] if background else [7]
    assert table.true_ids.tolist() == [*first, 2_000_000_011, 4_000_000_022]
    assert table.true_areas.tolist()[-2:] == [9, 6]
    assert table.intersections.tolist()[-3:] == [6, 4, 1]


def test_pairs_of_many_objects_do_not_overflow_where_whole_numbers_have_32_bits(
    monkeypatch,
) -> None:
    cumsum = np.cumsum
    # As NumPy before 2.0 does on Windows.
    monkeypatch.setattr(
        np, "cumsum", lambda a, dtype=np.int32, **more: cumsum(a, dtype=dtype, **more)
    )
    labels = 2 * np.arange(1, 50_001).reshape(200, 250)
    table = overlaps(labels, labels)
    assert np.array_equal(table.pair_true, np.arange(50_000))
    assert np.array_equal(table.pair_predicted, np.arange(50_000))


def test_many_objects_are_counted_without_a_table() -> None:
    # 2,500 x 2,500 objects: more pairs are possible than a table may hold.
    true = np.arange(1, 2501).reshape(50, 50)
    table = overlaps(true, true.T)
    assert table.intersections.sum() == 2500
    assert len(match(table, 19)) == 2500


@pytest.mark.parametrize(
    ("true", "found", "said"),
    [
        (TRUE, FOUND[:5], r"predicted labels are of shape \(5, 6\).*\(6, 6\)"),
        (TRUE.astype(float), FOUND, "true labels are float64; integers"),
        (TRUE, FOUND > 0, "predicted labels are bool; integers"),
        (TRUE, -FOUND, "predicted labels go down to -9"),
    ],
)
def test_what_cannot_be_labels_is_refused(
    true: np.ndarray, found: np.ndarray, said: str
) -> None:
    with pytest.raises(AnnotationError, match=said):
        overlaps(true, found)


@pytest.mark.parametrize("annotated", [np.ones((6, 5), bool), np.ones((6, 6), int)])
def test_an_annotated_part_of_another_kind_is_refused(annotated: np.ndarray) -> None:
    with pytest.raises(AnnotationError, match="annotated part is"):
        overlaps(TRUE, FOUND, annotated=annotated)


@pytest.mark.slow
@given(true=small_labels, found=small_labels, t20=st.integers(10, 20))
def test_matches_equal_an_exhaustive_search(
    true: np.ndarray, found: np.ndarray, t20: int
) -> None:
    ids = [np.unique(x[x > 0]) for x in (true, found)]
    ious = np.array(
        [
            [
                Fraction(
                    int(((true == t) & (found == p)).sum()),
                    int(((true == t) | (found == p)).sum()),
                )
                for p in ids[1]
            ]
            for t in ids[0]
        ],
        dtype=object,
    ).reshape(len(ids[0]), len(ids[1]))
    threshold = Fraction(t20, 20)
    for strict in (False, True):
        fits = (ious > threshold if strict else ious >= threshold).astype(int)
        rows, columns = linear_sum_assignment(-fits)
        assert matches(true, found, t20, strict) == fits[rows, columns].sum()


@pytest.mark.slow
@given(true=small_labels, found=small_labels)
def test_merges_and_splits_equal_an_exhaustive_search(
    true: np.ndarray, found: np.ndarray
) -> None:
    def holding(whole: np.ndarray, parts: np.ndarray) -> int:
        """Count objects of `whole` with more than half of two or more of `parts`."""
        return sum(
            sum(
                2 * ((whole == w) & (parts == p)).sum() > (parts == p).sum()
                for p in np.unique(parts[parts > 0])
            )
            >= 2
            for w in np.unique(whole[whole > 0])
        )

    merging, split = merges_and_splits(overlaps(true, found))
    assert len(merging) == holding(found, true)
    assert len(split) == holding(true, found)


@pytest.mark.slow
@given(true=small_labels, found=small_labels, seed=st.integers(0, 99))
def test_numbering_does_not_matter(
    true: np.ndarray, found: np.ndarray, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    other_true, other_found = (
        np.concatenate(([0], rng.permutation(1000)[:4] + 1))[x] for x in (true, found)
    )
    for t20 in (10, 11, 15, 19):
        assert matches(true, found, t20) == matches(other_true, other_found, t20)


@pytest.mark.slow
@given(true=small_labels, found=small_labels)
def test_swapping_sides_swaps_merges_and_splits(
    true: np.ndarray, found: np.ndarray
) -> None:
    there = [len(x) for x in merges_and_splits(overlaps(true, found))]
    back = [len(x) for x in merges_and_splits(overlaps(found, true))]
    assert there == back[::-1]
    for t20 in (10, 12):
        assert matches(true, found, t20) == matches(found, true, t20)
