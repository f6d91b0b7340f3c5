"""An image unlike the training images is told of with what to do; others are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cellunet.imaging.quality import Appearance, out_of_distribution_warnings

KNOWN = {
    "contrast": [10, 20, 50, 80, 100, 120, 200, 300, 400],
    "level": [0.02, 0.03, 0.05, 0.08, 0.1, 0.13, 0.2, 0.3, 0.4],
    "sharpness": [0.4, 0.5, 0.54, 0.58, 0.6, 0.62, 0.68, 0.7, 1.0],
    "diameter_px": [8, 9, 10, 15, 20, 25, 40, 50, 60],
    "uncertain": [0, 0, 0, 0, 0, 0.05, 0.2, 0.3, 0.5],
}
FINE = Appearance(
    contrast=90.0,
    level=0.1,
    sharpness=0.6,
    diameter_px=20.0,
    uncertain=0.05,
    objects=20,
    uncertain_objects=1,
)


def said(image: Appearance, known=KNOWN, **options) -> tuple[str, ...]:
    return out_of_distribution_warnings(
        image, known, **{"learned_px": (8.0, 30.0), **options}
    )


def test_an_image_like_the_training_images_is_not_remarked_on() -> None:
    assert said(FINE) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contrast": 19.9}, ("noise", "--channel")),
        ({"level": 0.36}, ("bright", "--channel", "invert", "train")),
        ({"sharpness": 0.51}, ("focus", "--diameter")),
        ({"diameter_px": 7.9}, ("8 px wide", "10 to 40", "--diameter")),
        ({"diameter_px": 50.1}, ("50 px wide", "10 to 40", "--diameter")),
        ({"uncertain": 0.36, "uncertain_objects": 7}, ("36%", "cellunet train")),
        ({"objects": 0, "diameter_px": None}, ("Nothing was found", "--channel")),
    ],
)
def test_each_number_beyond_its_margin_has_one_line(changes, words) -> None:
    (line,) = said(replace(FINE, **changes))
    assert all(word.casefold() in line.casefold() for word in words)
    assert "\n" not in line


@pytest.mark.parametrize(
    "changes",
    [
        {"contrast": 20.1},
        {"level": 0.34},
        {"level": 0.0},
        {"sharpness": 0.53},
        {"diameter_px": 8.1},
        {"diameter_px": 49.9},
        {"uncertain": 0.34, "uncertain_objects": 7},
        {"uncertain": 1.0, "uncertain_objects": 2, "objects": 2},
    ],
)
def test_within_the_margin_nothing_is_said(changes) -> None:
    assert said(replace(FINE, **changes)) == ()


def test_of_noise_nothing_else_is_said() -> None:
    noise = replace(FINE, contrast=5.0, level=0.5, sharpness=0.3, objects=0)
    (line,) = said(noise)
    assert "noise" in line


def test_a_card_without_statistics_warns_of_sizes_alone() -> None:
    odd = replace(FINE, contrast=1.0, level=0.9, sharpness=0.1, uncertain=1.0)
    assert said(odd, {}) == ()
    assert said(replace(odd, objects=0, diameter_px=None), {}) == ()
    (line,) = said(replace(odd, diameter_px=31.0), {})
    assert "31 px wide (median); the model learned 8 to 30" in line
    assert said(replace(odd, diameter_px=31.0), {}, learned_px=(0.0, 0.0)) == ()
    assert said(replace(odd, diameter_px=31.0), {}, learned_px=None) == ()


def test_sizes_are_those_that_the_model_sees() -> None:
    large = replace(FINE, diameter_px=100.0)
    assert said(large, magnification=0.2) == ()
    (line,) = said(replace(FINE, diameter_px=20.0), magnification=0.2)
    assert "learned 50 to 200" in line
