"""COCO's run-length encodings, plain and compressed, column by column."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellunet.annotations.coco import decode_counts, runs
from cellunet.errors import AnnotationError

masks = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def counts_of(mask):
    """Return runs, outside first, counted one by one down the columns."""
    found, inside = [0], False
    for value in mask.T.ravel():
        if value != inside:
            found.append(0)
            inside = value
        found[-1] += 1
    return found


def filled(encoded, shape):
    window, inside, *_ = runs(encoded, shape).fill(shape)
    image = np.zeros(shape, bool)
    image[window] = inside
    return image


# Worked out by hand. A count c of 0 to 15 is the character of code 48 + c. 17 is 10001
# in bits: low five bits 10001 and more to follow (32), 48 + 17 + 32 = 97 'a', then 0.
# From the fourth count on the difference to the one two before is written: of
# 1, 2, 2, 1, 4 that is 1, 2, 2, -1, 2, and -1 is 11111, 48 + 31 = 79 'O'.
@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("", []),
        ("04", [0, 4]),
        ("22", [2, 2]),
        ("a0", [17]),
        ("122O2", [1, 2, 2, 1, 4]),
        # 100 = 3 * 32 + 4: 4 + 32 + 48 = 84 'T', 3 + 48 = 51 '3'.
        ("6T33", [6, 100, 3]),
    ],
)
def test_compressed_counts_are_those_worked_by_hand(text, counts):
    assert decode_counts(text) == counts


def test_runs_go_down_the_columns():
    # 1 outside, 2 inside, 3 outside: pixels 1 and 2 of the first column of 3 rows.
    expected = [[0, 0], [1, 0], [1, 0]]
    assert filled([1, 2, 3], (3, 2)).astype(int).tolist() == expected
    assert filled("123", (3, 2)).astype(int).tolist() == expected


@pytest.mark.slow
@given(mask=masks)
def test_runs_give_their_mask_back(mask):
    assert np.array_equal(filled(counts_of(mask), mask.shape), mask)


@given(mask=masks)
def test_a_run_of_nothing_changes_nothing(mask):
    counts = [0, 0, *counts_of(mask), 0, 0]
    assert np.array_equal(filled(counts, mask.shape), mask)


def test_memory_is_that_of_the_columns_of_the_object():
    size = (2000, 30_000)
    before = 2000 * 15_000 + 3
    counts = [before, 5, size[0] * size[1] - before - 5]
    window, inside, *_ = runs(counts, size).fill(size)
    assert (window, inside.shape) == ((slice(3, 8), slice(15_000, 15_001)), (5, 1))


@pytest.mark.parametrize("counts", [[4], [3, 2], [5, -1], [2**62, 2**62], [10**30]])
def test_counts_that_do_not_add_up_are_refused(counts):
    with pytest.raises(AnnotationError, match="runs of the mask add up to"):
        runs(counts, (1, 3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 4", "holds ' '"),
        ("é", "holds 'é'"),
        ("0a", "cut off"),
        ("p" * 13, "holds 'p'"),
    ],
)
def test_strings_that_are_no_counts_are_refused(text, message):
    with pytest.raises(AnnotationError, match=message):
        decode_counts(text)


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(AnnotationError, match="2 x 2 pixels; its image has 4 x 1"):
        runs([4], (2, 2)).fill((4, 1))
