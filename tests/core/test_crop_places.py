"""Crops are taken where there is something to learn."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")


import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cellunet.core.dataset import crop_center, crop_corner


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.integers(1, 30),
    place=st.tuples(st.integers(0, 39), st.integers(0, 39)),
    seed=st.integers(0, 1000),
)
def test_a_crop_of_a_partly_annotated_image_holds_some_of_it(shape, size, place, seed):
    annotated = np.zeros(shape, bool)
    annotated[place[0] % shape[0], place[1] % shape[1]] = True
    y, x = crop_corner(annotated, size, np.random.default_rng(seed))
    assert annotated[y : y + size, x : x + size].any()
    # Within the image wherever the image is large enough.
    for corner, length in zip((y, x), shape, strict=True):
        assert 0 <= corner <= max(length - size, 0)
    if annotated.size > 1:
        center = crop_center(annotated, np.random.default_rng(seed))
        assert annotated[tuple(map(int, center))]


def test_every_crop_that_holds_an_annotated_pixel_can_come(rng):
    annotated = np.zeros((9, 20), bool)
    annotated[4, 10] = True
    found = {crop_corner(annotated, 4, rng) for _ in range(2000)}
    assert found == {(y, x) for y in range(1, 5) for x in range(7, 11)}


def test_where_all_is_annotated_two_numbers_are_drawn():
    whole = np.ones((30, 50), bool)
    rng, same = (np.random.default_rng(3) for _ in range(2))
    for _ in range(20):
        corner = crop_corner(whole, 16, rng)
        assert corner == (int(same.integers(15)), int(same.integers(35)))
        assert crop_center(whole, rng) == (same.uniform(0, 29), same.uniform(0, 49))


def test_without_anything_annotated_crops_come_from_anywhere(rng):
    nothing = np.zeros((8, 8), bool)
    assert len({crop_corner(nothing, 2, rng) for _ in range(200)}) > 20
