"""Contact sheets show images with their outlines, what is odd in orange."""

from __future__ import annotations

import numpy as np
import pytest

from cellunet.imaging.check_sheet import FRAME_PX, TILE_PX, sheet, tile
from cellunet.imaging.overlay import PREDICTION, TRUTH


def has(picture, color):
    return bool((picture == color).all(axis=2).any())


@pytest.mark.parametrize("shape", [(40, 60), (500, 900), (1, 1), (321, 3), (320, 320)])
def test_a_tile_is_of_one_size_whatever_the_image(shape):
    labels = np.zeros(shape, np.int32)
    picture = tile(None, labels, ["a", "b"])
    assert picture.dtype == np.uint8
    longest = max(shape)
    rows = max(round(shape[0] * TILE_PX / longest), 1)
    assert picture.shape[0] == rows + 2 * FRAME_PX + 2 * 9
    assert picture.shape[1] >= TILE_PX


@pytest.mark.parametrize("side", [60, 1500])
def test_outlines_are_blue_and_odd_ones_orange(side):
    labels = np.zeros((side, side), np.int32)
    labels[side // 6 : side // 3, side // 6 : side // 3] = 4
    labels[side // 2 : side // 2 + 9, side // 2 : side // 2 + 9] = 7
    image = np.arange(side * side).reshape(side, side)
    plain = tile(image, labels, [])
    assert has(plain, TRUTH)
    assert not has(plain, PREDICTION)
    odd = tile(image, labels, [], odd=[7])
    assert has(odd[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX], PREDICTION)
    # The line around 4 is unbroken: its box in the tile has no gap in any row.
    blue = (odd == TRUTH).all(axis=2)
    rows = np.flatnonzero(blue.any(axis=1))
    assert np.array_equal(rows, np.arange(rows[0], rows[-1] + 1))
    flagged = tile(image, labels, [], flagged=True)
    assert (flagged[0, :TILE_PX] == PREDICTION).all()


def test_tiles_of_different_height_stand_on_one_sheet():
    tiles = [tile(None, np.zeros(s, int), ["x"]) for s in ((10, 20), (20, 10), (9, 9))]
    assert sheet(tiles).ndim == 3
    assert sheet(tiles[:1]).shape == tiles[0].shape
