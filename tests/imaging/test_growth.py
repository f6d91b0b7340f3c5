"""Growth in levels, with ties by direction; outlines put where the image says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellunet.imaging.growth import (
    ContrastSums,
    OutlineReach,
    grow,
    keep_contact,
    moved,
    place_outlines,
    smoothed,
)


def _grow(labels, steps, allowed=None):
    labels = np.array(labels, np.int32)
    open_ = np.ones(labels.shape, bool) if allowed is None else np.array(allowed, bool)
    return grow(labels, open_, steps)


@pytest.mark.parametrize(
    ("steps", "rows"),
    [
        (0, [1]),
        (1, [1, 3, 1]),
        (2, [3, 5, 5, 5, 3]),
        (3, [3, 5, 7, 7, 7, 5, 3]),
        (4, [5, 7, 9, 9, 9, 9, 9, 7, 5]),
    ],
)
def test_a_single_seed_grows_into_an_octagon(steps, rows) -> None:
    seed = np.zeros((11, 11), np.int32)
    seed[5, 5] = 4
    grown = _grow(seed, steps)
    widths = (grown == 4).sum(axis=1)
    assert widths[widths > 0].tolist() == rows
    assert np.array_equal(grown, grown.T)


@pytest.mark.parametrize("swap", [False, True])
def test_a_tie_goes_to_above_then_left_then_right_and_never_by_number(swap) -> None:
    a, b = (2, 1) if swap else (1, 2)
    assert _grow([[a, 0, b]], 1).tolist() == [[a, a, b]]
    assert _grow([[a], [0], [b]], 1).ravel().tolist() == [a, a, b]
    # Above beats left, left beats right, right beats below.
    assert _grow([[0, a], [b, 0]], 1).tolist() == [[a, a], [b, a]]
    assert _grow([[0, a], [b, 0]], 1, [[0, 0], [0, 1]]).tolist() == [[0, a], [b, a]]
    assert _grow([[0, b], [a, 0]], 1, [[1, 0], [0, 0]]).tolist() == [[b, b], [a, 0]]


def test_a_nearer_seed_wins_over_every_direction() -> None:
    assert _grow([[1, 0, 0, 0, 2]], 9).tolist() == [[1, 1, 1, 2, 2]]
    assert _grow([[1, 0, 0, 0, 0, 2]], 9).tolist() == [[1, 1, 1, 2, 2, 2]]
    column = [[1], [0], [0], [2]]
    assert _grow(column, 9).ravel().tolist() == [1, 1, 2, 2]


def test_growth_passes_corners_in_every_second_level_only() -> None:
    seed = np.zeros((3, 3), np.int32)
    seed[0, 0] = 1
    diagonal = np.eye(3, dtype=bool)
    assert _grow(seed, 1, diagonal).sum() == 1
    # No 4-neighbor is open, so nothing is gained in level 1 and all ends there.
    assert _grow(seed, 9, diagonal).sum() == 1
    corner = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert _grow(seed, 2, corner).tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_growth_goes_around_a_wall_and_keeps_seeds_outside_of_the_allowed() -> None:
    seed = np.zeros((3, 5), np.int32)
    seed[1, 0] = 7
    allowed = np.ones((3, 5), bool)
    allowed[:2, 2] = allowed[1, 0] = False
    grown = _grow(seed, 20, allowed)
    assert grown.tolist() == [[7, 7, 0, 7, 7], [7, 7, 0, 7, 7], [7, 7, 7, 7, 7]]


def test_growth_does_not_change_its_input_nor_wrap_around_the_array() -> None:
    seed = np.zeros((3, 4), np.int32)
    seed[0, 3] = 1
    before = seed.copy()
    assert _grow(seed, 1).tolist() == [[0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert np.array_equal(seed, before)


def test_growth_of_nothing_and_of_a_single_pixel() -> None:
    assert _grow(np.zeros((4, 4)), 5).sum() == 0
    assert _grow([[3]], 5).tolist() == [[3]]


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_growth_is_blind_to_numbers_and_to_what_is_farther_than_its_steps(
    seed, steps
) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 25, 2))
    labels = rng.integers(1, 7, shape) * (rng.random(shape) < 0.05)
    allowed = rng.random(shape) < 0.8
    grown = _grow(labels, steps, allowed)
    swapped = np.concatenate(([0], rng.permutation(6) + 1))
    assert np.array_equal(_grow(swapped[labels], steps, allowed), swapped[grown])
    # A part of the plane with a margin of `steps` grows as the whole does.
    y0, x0 = (int(rng.integers(n)) for n in shape)
    y1, x1 = (int(rng.integers(a, n)) + 1 for a, n in zip((y0, x0), shape, strict=True))
    top, left = max(y0 - steps, 0), max(x0 - steps, 0)
    view = np.s_[top : y1 + steps, left : x1 + steps]
    part = _grow(labels[view], steps, allowed[view])
    assert np.array_equal(
        part[y0 - top : y1 - top, x0 - left : x1 - left], grown[y0:y1, x0:x1]
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1, 0, 0, 2], [1, 1, 2, 2]),
        ([1, 0, 2], [1, 0, 2]),
        ([1, 0, 0, 0, 2], [1, 0, 0, 0, 2]),
        ([1, 0, 0, 1], [1, 0, 0, 1]),
        ([0, 0, 1, 0, 0], [0, 0, 1, 0, 0]),
        ([1, 2], [1, 2]),
    ],
)
def test_contact_is_the_pair_of_pixels_between_two_objects(before, after) -> None:
    row = np.array([before], np.int32)
    assert keep_contact(row).tolist() == [after]
    assert keep_contact(row.T).ravel().tolist() == after


REACH = OutlineReach(sigma=0.3, steps=4, ring=3)


def placed(labels, image, fraction, cuts=(0, None), reach=REACH):
    """The result, computed in blocks of rows between the cuts."""
    ends = [*cuts[:-1], len(labels)]
    levels, result = ContrastSums(int(labels.max())), []
    blocks = []
    for y0, y1 in pairwise(ends):
        top, stop = max(y0 - reach.halo_px, 0), min(y1 + reach.halo_px, len(labels))
        soft = smoothed(image[top:stop], reach)
        core = slice(y0 - top, y1 - top)
        levels.add(labels[top:stop], soft, (core, slice(None)), reach)
        blocks.append((labels[top:stop], soft, core))
    thresholds = levels.thresholds(fraction)
    for part, soft, core in blocks:
        result.append(moved(part, soft, thresholds, reach)[core])
    return np.concatenate(result)


@pytest.fixture
def ramp():
    """An object of 1 with edges that rise by .1 a pixel, outlined half way."""
    row = np.clip((np.arange(60) - 14.5) / 10, 0, 1)
    row = np.minimum(row, row[::-1])
    image = np.tile(row, (20, 1)).astype(np.float32)
    return (image > 0.5).astype(np.int32), image


@pytest.mark.parametrize(("fraction", "moves"), [(0.3, -2), (0.5, 0), (0.7, 2)])
def test_an_outline_lies_at_the_fraction_of_the_way(ramp, fraction, moves) -> None:
    labels, image = ramp
    found = placed(labels, image, fraction)
    before = np.flatnonzero(labels[10])
    after = np.flatnonzero(found[10])
    # The inside, edges and all, is a little darker than the plateau.
    assert after[0] - before[0] == pytest.approx(moves, abs=1)
    assert before[-1] - after[-1] == pytest.approx(moves, abs=1)


def test_lower_fractions_are_further_out(ramp) -> None:
    labels, image = ramp
    areas = [int((placed(labels, image, f) > 0).sum()) for f in (0.2, 0.4, 0.6, 0.8)]
    assert areas == sorted(areas, reverse=True)
    assert len(set(areas)) == 4


def test_where_two_objects_touch_their_border_stays(ramp) -> None:
    labels, image = ramp
    both = np.where(labels > 0, np.where(np.arange(60) < 30, 1, 2), 0).astype(np.int32)
    for fraction in (0.25, 0.75):
        found = placed(both, image, fraction)
        np.testing.assert_array_equal(found[:, 29], 1)
        np.testing.assert_array_equal(found[:, 30], 2)


def test_any_cut_gives_the_same(nuclei_image) -> None:
    image, labels = nuclei_image((160, 90), 30, 3)
    scaled = (image / 2000).astype(np.float32)
    labels = ndimage.grey_erosion(labels, 3).astype(np.int32)
    for fraction in (0.3, 0.7):
        whole = place_outlines(labels, scaled, fraction)
        assert (whole != labels).any()
        for cuts in ((0, 50, 100, None), (0, 17, 90, 101, None)):
            cut = placed(labels, scaled, fraction, cuts, OutlineReach.at(1.0))
            np.testing.assert_array_equal(cut, whole)


def test_an_object_that_is_no_brighter_than_around_it_stays() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[10:30, 10:30] = 1
    image = np.where(labels > 0, 0.2, 0.8).astype(np.float32)
    np.testing.assert_array_equal(placed(labels, image, 0.5), labels)
    labels[:] = 1
    np.testing.assert_array_equal(placed(labels, image, 0.5), labels)


def test_the_reach_is_counted_as_the_model_sees_it() -> None:
    assert (OutlineReach.at(1.0).steps, OutlineReach.at(0.5).steps) == (3, 6)
    assert OutlineReach.at(0.01).halo_px < 100
