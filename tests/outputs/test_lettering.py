"""Small letters can be read, and what is not in the alphabet does no harm."""

from __future__ import annotations

import numpy as np

from cellunet.outputs.pictures import HEIGHT_PX, lettered

BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def written(text, width=40):
    return lettered(text, width, color=BLACK, background=WHITE)


def test_letters_are_drawn_row_by_row():
    inked = written("t")[..., 0] == 0
    rows = ["".join("#" if p else "." for p in row) for row in inked[1:8, 1:6]]
    assert rows == ["#####", "..#..", "..#..", "..#..", "..#..", "..#..", "..#.."]
    assert not inked[[0, -1]].any()


def test_every_letter_differs_and_none_is_empty():
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_,:/?+"
    pictures = {written(letter).tobytes() for letter in alphabet}
    assert len(pictures) == len(alphabet)
    assert written(" ").tobytes() not in pictures


def test_a_line_is_cut_off_and_what_is_unknown_is_a_question_mark():
    assert written("A" * 99, 20).shape == (HEIGHT_PX, 20, 3)
    assert np.array_equal(written("é"), written("?"))
    assert (written("") == 255).all()
    assert written("A", 1).shape == (HEIGHT_PX, 1, 3)
