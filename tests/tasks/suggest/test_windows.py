"""Windows: where they lie, how doubtful they are, what they look like."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellunet.tasks.suggest.choose import LITTLE, see, starts


@given(st.integers(32, 300), st.integers(0, 2000))
def test_windows_cover_an_axis_and_overlap_by_half(side: int, more: int) -> None:
    length = side + more
    found = starts(length, side)
    assert found[0] == 0
    assert found[-1] == length - side
    assert all(0 < b - a <= (side + 1) // 2 for a, b in pairwise(found))


def flat(value: float, side: int = 20) -> np.ndarray:
    return np.full((side, side), value, np.float32)


def test_doubt_is_the_expected_share_of_wrong_pixels_of_what_is_there() -> None:
    labels = np.zeros((20, 20), int)
    labels[:5, :10] = 7
    evidence = np.full((20, 20), 255, np.uint8)
    # 50 object pixels with a doubt of .2 each, 10 background pixels with .4.
    evidence[:5, :10] = 204
    evidence[19, :10] = 153
    seen = see(flat(0.5), labels, evidence)
    assert seen.doubt == pytest.approx((10 + 4) / (50 + 4 + LITTLE * 400), rel=1e-5)
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
    assert empty.doubt == 0
    assert not empty.shows_something
    suspected = np.full((20, 20), 255, np.uint8)
    suspected[:3, :3] = 128
    assert see(flat(0), np.zeros((20, 20), int), suspected).shows_something
    speck = np.zeros((20, 20), int)
    speck[0, 0] = 1
    assert see(flat(0), speck, np.full((20, 20), 255, np.uint8)).shows_something


def test_a_speck_in_an_empty_window_is_less_doubtful_than_a_doubtful_field() -> None:
    evidence = np.full((100, 100), 255, np.uint8)
    evidence[:3, :3] = 100
    speck = np.zeros((100, 100), int)
    speck[:3, :3] = 1
    alone = see(flat(0, 100), speck, evidence)
    field = np.ones((100, 100), int)
    full = see(flat(0, 100), field, np.full((100, 100), 200, np.uint8))
    assert alone.doubt < full.doubt


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
            assert 0 < seen.doubt <= 1
