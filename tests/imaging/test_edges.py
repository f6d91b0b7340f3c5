"""Outlines put where the image has come part of the way from background to object."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from cellunet.imaging.growth import Levels, Reach, moved, smoothed

REACH = Reach(sigma=0.3, steps=4, ring=3)


def placed(labels, image, fraction, cuts=(0, None), reach=REACH):
    """The result, computed in blocks of rows between the cuts."""
    ends = [*cuts[:-1], len(labels)]
    levels, result = Levels(int(labels.max())), []
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
        whole = placed(labels, scaled, fraction)
        assert (whole != labels).any()
        for cuts in ((0, 50, 100, None), (0, 17, 90, 101, None)):
            np.testing.assert_array_equal(placed(labels, scaled, fraction, cuts), whole)


def test_an_object_that_is_no_brighter_than_around_it_stays() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[10:30, 10:30] = 1
    image = np.where(labels > 0, 0.2, 0.8).astype(np.float32)
    np.testing.assert_array_equal(placed(labels, image, 0.5), labels)
    labels[:] = 1
    np.testing.assert_array_equal(placed(labels, image, 0.5), labels)


def test_the_reach_is_counted_as_the_model_sees_it() -> None:
    assert (Reach.at(1.0).steps, Reach.at(0.5).steps) == (3, 6)
    assert Reach.at(0.01).halo_px < 100
