"""Small letters can be read, and what cannot be shown does no harm."""

from __future__ import annotations

import numpy as np
import pytest

from cellunet.outputs.pictures import LINE_PX, lettered

BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def written(text, width=40):
    return lettered(text, width, color=BLACK, background=WHITE)


def test_every_letter_differs_none_is_empty_and_all_fit_into_the_line():
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_,:/?+"
    pictures = {letter: written(letter) for letter in alphabet}
    assert len({p.tobytes() for p in pictures.values()}) == len(alphabet)
    for picture in pictures.values():
        inked = (picture < 128).all(axis=2)
        assert inked.any()
        assert not inked[[0, -1]].any()
    assert (written(" ") == 255).all()


def test_the_colors_are_those_asked_for():
    picture = lettered("M", 20, color=(200, 0, 0), background=(0, 0, 90))
    assert (picture == (0, 0, 90)).all(axis=2).any()
    assert picture[..., 0].max() > 150
    assert not picture[..., 1].any()


def test_a_line_is_cut_off_at_its_width():
    assert written("A" * 99_999, 20).shape == (LINE_PX, 20, 3)
    assert (written("") == 255).all()
    assert written("A", 1).shape == (LINE_PX, 1, 3)


@pytest.mark.parametrize("hidden", ["\n", "\x1b", "\u202e", "\udcff", "\x00", "é"])
def test_what_the_font_lacks_is_a_question_mark(hidden):
    assert np.array_equal(written(f"a{hidden}b"), written("a?b"))
