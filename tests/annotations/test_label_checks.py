"""What is odd about labels is found, and what is sound is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from cellunet.annotations.check import find_label_problems, solidity
from cellunet.command_config import CheckConfig
from cellunet.errors import ConfigError

CONFIG = CheckConfig()


@pytest.fixture
def field():
    """Nine squares of 10 x 10 px, ids 3, 6, ..., 27, 10 px apart."""
    labels = np.zeros((70, 70), np.int32)
    for number in range(9):
        y, x = (5 + 20 * n for n in divmod(number, 3))
        labels[y : y + 10, x : x + 10] = 3 * (number + 1)
    return labels


def test_sound_labels_raise_nothing(field, nuclei_image):
    found = find_label_problems(field, CONFIG)
    assert found.areas_px == (100,) * 9
    assert not (found.fragments + found.pieces + found.holes + found.several)
    drawn = find_label_problems(nuclei_image((200, 200), 20, 3)[1], CONFIG)
    assert not (drawn.pieces + drawn.holes + drawn.several)


def test_fragments_are_small_for_their_image_and_not_cut_by_the_frame(field):
    field[17:19, 17:19] = 40  # 4 px, 4 % of the median
    field[0, 20:24] = 41  # as many, at the frame
    field[17, 40:46] = 42  # 6 px
    assert find_label_problems(field, CONFIG).fragments == (40,)


def test_an_id_in_two_pieces_is_found_unless_they_touch_at_a_corner(field):
    field[0:3, 0:3] = 6
    field[15:18, 15:18] = 3
    assert find_label_problems(field, CONFIG).pieces == (6,)


def test_holes_are_found_whatever_fills_them(field):
    field[8:10, 8:10] = 0
    field[28, 28] = 50
    assert find_label_problems(field, CONFIG).holes == (3, 15)


def test_large_shapes_that_are_not_convex_may_be_several(field):
    # 3 and 6 joined by a thin bridge: 210 px in a hull of 30 x 10.
    field[field == 6] = 3
    field[9, 15:25] = 3
    found = find_label_problems(field, CONFIG)
    assert (found.several, found.pieces) == ((3,), ())


def test_without_objects_there_is_nothing_to_find():
    assert find_label_problems(np.zeros((5, 5), np.int32), CONFIG).areas_px == ()
    assert find_label_problems(np.ones((5, 5), np.int32), CONFIG).areas_px == (25,)


def test_solidity_is_that_of_the_corners_of_pixels():
    assert solidity(np.ones((3, 7), bool)) == pytest.approx(1)
    cross = np.zeros((3, 3), bool)
    cross[1] = cross[:, 1] = True
    # 5 of the 9 - 4 / 2 of the octagon around it.
    assert solidity(cross) == pytest.approx(5 / 7)


@pytest.mark.parametrize(
    "wrong", [{"fragment_share": 2.0}, {"shift_px": 0.0}, {"shift_px": 30.0}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError):
        CheckConfig(**wrong)
