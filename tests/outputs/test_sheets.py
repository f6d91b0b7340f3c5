"""Contact sheets: tiles, what is outlined on them, letters."""

from __future__ import annotations

import numpy as np
import pytest

from cellunet.annotations.types import Annotation
from cellunet.outputs.pictures import (
    AGREEMENT,
    PREDICTION,
    TRUTH,
)
from cellunet.outputs.sheets import FRAME_PX, LINE_PX, TILE_PX, lettered, sheet, tile


def written(text, width=40):
    return lettered(text, width)


def test_every_letter_differs_none_is_empty_and_all_fit_into_the_line():
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_,:/?+"
    pictures = {letter: written(letter) for letter in alphabet}
    assert len({p.tobytes() for p in pictures.values()}) == len(alphabet)
    for picture in pictures.values():
        inked = (picture < 128).all(axis=2)
        assert inked.any()
        assert not inked[[0, -1]].any()
    assert (written(" ") == 255).all()


def test_a_line_is_cut_off_at_its_width():
    assert written("A" * 99_999, 20).shape == (LINE_PX, 20, 3)
    assert (written("") == 255).all()
    assert written("A", 1).shape == (LINE_PX, 1, 3)


@pytest.mark.parametrize("hidden", ["\n", "\x1b", "\u202e", "\udcff", "\x00", "é"])
def test_what_the_font_lacks_is_a_question_mark(hidden):
    assert np.array_equal(written(f"a{hidden}b"), written("a?b"))


def has(picture, color):
    return bool((picture == color).all(axis=2).any())


@pytest.mark.parametrize("shape", [(40, 60), (500, 900), (1, 1), (321, 3), (320, 320)])
def test_a_tile_is_of_one_size_whatever_the_image(shape):
    labels = np.zeros(shape, np.int32)
    drawn = Annotation(labels, "labels")
    picture = tile(None, drawn, ["a", "b"])
    assert picture.dtype == np.uint8
    longest = max(shape)
    rows = max(round(shape[0] * TILE_PX / longest), 1)
    assert picture.shape[0] == rows + 2 * FRAME_PX + 2 * LINE_PX
    assert picture.shape[1] >= TILE_PX


@pytest.mark.slow
@pytest.mark.parametrize("side", [60, 1500])
def test_outlines_are_blue_and_odd_ones_orange(side):
    labels = np.zeros((side, side), np.int32)
    labels[side // 6 : side // 3, side // 6 : side // 3] = 4
    labels[side // 2 : side // 2 + 9, side // 2 : side // 2 + 9] = 7
    image = np.arange(side * side).reshape(side, side)
    drawn = Annotation(labels, "labels")
    plain = tile(image, drawn, [])
    assert has(plain, TRUTH)
    assert not has(plain, PREDICTION)
    odd = tile(image, drawn, [], odd=[7])
    assert has(odd[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX], PREDICTION)
    # The line around 4 is unbroken: its box in the tile has no gap in any row.
    blue = (odd == TRUTH).all(axis=2)
    rows = np.flatnonzero(blue.any(axis=1))
    assert np.array_equal(rows, np.arange(rows[0], rows[-1] + 1))
    flagged = tile(image, drawn, [], flagged=True)
    assert (flagged[0, :TILE_PX] == PREDICTION).all()


def test_tiles_of_different_height_stand_on_one_sheet():
    tiles = [
        tile(None, Annotation(np.zeros(s, int), "labels"), ["x"])
        for s in ((10, 20), (20, 10), (9, 9))
    ]
    assert sheet(tiles).ndim == 3
    assert sheet(tiles[:1]).shape == tiles[0].shape


def test_scribbles_are_drawn_and_what_is_not_annotated_is_darker():
    labels = np.zeros((60, 60), np.int32)
    said = np.zeros(labels.shape, np.uint8)
    said[5, 5:9], said[40:44, 40:44] = 1, 2
    image = np.full(labels.shape, 50)
    image[::2] = 90
    counts = np.zeros(labels.shape, bool)
    counts[:, 30:] = True
    drawn = Annotation(labels, "labels", annotated=counts, scribbles=said)
    picture = tile(image, drawn, [])
    assert has(picture, AGREEMENT)
    assert has(picture, TRUTH)
    inner = picture[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX, 0]
    brightest = [inner[200:, part].max() for part in (np.s_[:100], np.s_[290:])]
    assert brightest[0] < 0.6 * brightest[1]


def test_of_a_field_the_annotated_box_is_shown():
    labels = np.zeros((3000, 2000), np.int32)
    labels[1010:1040, 510:540] = 1
    counts = np.zeros(labels.shape, bool)
    counts[1000:1100, 500:600] = True
    picture = tile(None, Annotation(labels, "labels", annotated=counts), [])
    blue = np.argwhere((picture == TRUTH).all(axis=2))
    # 30 px of a box of 100 with 64 px on every side, on 320 px.
    high, wide = np.ptp(blue, axis=0)
    assert 38 <= high <= 45
    assert 38 <= wide <= 45
