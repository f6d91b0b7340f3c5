"""What score to expect: of unseen images, or of the quarters of few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cellunet.config import DecodeConfig, EncodingConfig
from cellunet.metrics.fit import (
    ENOUGH_IMAGES,
    ValidationImage,
    expected,
    fit,
    piece_scores,
    rank,
)
from cellunet.progress import silent_track

ENCODING = EncodingConfig()
DECODE = DecodeConfig(class_odds=(1.0, 1.0, 1.0), min_area_px=1, growth_px=2)


def truth(name: str, found: slice = np.s_[:, :], side: int = 40) -> ValidationImage:
    """Four squares, one a quarter; `found` is where the network sees them."""
    labels = np.zeros((side, side), np.int32)
    for number, (y, x) in enumerate(((4, 4), (4, 24), (24, 4), (24, 24)), 1):
        labels[y : y + 12, x : x + 12] = number
    seen = np.zeros_like(labels, dtype=bool)
    seen[found] = labels[found] > 0
    probabilities = np.zeros((3, side, side), np.float16)
    probabilities[0], probabilities[1] = ~seen, seen
    return ValidationImage(
        name=name,
        intensities=np.zeros((side, side), np.float32),
        probabilities=probabilities,
        labels=labels,
        annotated=np.ones_like(seen),
    )


def test_few_images_are_scored_by_quarters() -> None:
    scores = piece_scores([truth("a", np.s_[:20, :])], [DECODE], ENCODING)
    assert {s.name: s.mean_ap for s in scores} == {
        "a, upper left": 1.0,
        "a, upper right": 1.0,
        "a, lower left": 0.0,
        "a, lower right": 0.0,
    }
    found = expected(scores, None, images=1)
    assert (found.mean_ap.value, found.pieces, found.quarters) == (0.5, 4, True)
    assert found.mean_ap.low < 0.5 < found.mean_ap.high
    assert found.gain is None


def test_quarters_are_of_what_is_annotated() -> None:
    one = truth("a")
    annotated = np.zeros_like(one.annotated)
    annotated[:24] = True
    part = replace(one, annotated=annotated)
    scores = piece_scores([part], [DECODE], ENCODING)
    # Cut at row 12, with most of the upper two squares above it.
    assert [s.true_objects for s in scores] == [1, 1]


def test_quarters_without_an_object_are_not_scored() -> None:
    one = truth("a", np.s_[:0])
    labels = np.where(one.labels == 1, 1, 0).astype(np.int32)
    empty = replace(one, name="b", labels=np.zeros_like(labels))
    scores = piece_scores([replace(one, labels=labels), empty], [DECODE] * 2, ENCODING)
    assert {s.name: s.mean_ap for s in scores} == {"a, upper left": 0.0}


def test_an_object_that_no_quarter_holds_is_scored_in_the_whole_image() -> None:
    one = truth("a")
    labels = np.zeros_like(one.labels)
    labels[10:30, 10:30] = 1
    (score,) = piece_scores([replace(one, labels=labels)], [DECODE], ENCODING)
    assert (score.name, score.true_objects) == ("a", 1)


@pytest.mark.slow
def test_constants_that_find_nothing_are_never_the_better_ones() -> None:
    full, empty = truth("a"), truth("b")
    empty = replace(empty, labels=np.zeros_like(empty.labels))
    # Every square of an empty image is one too many.
    truths = [full, empty, empty, empty]
    chosen = fit(truths, ENCODING, DECODE, silent_track)
    assert chosen.decode == DECODE
    nothing = piece_scores([truth("a", np.s_[:0])], [DECODE], ENCODING)
    found = piece_scores([truth("a", np.s_[:20, :20])], [DECODE], ENCODING)
    assert rank(nothing) < rank(found)


def test_many_images_are_scored_whole() -> None:
    truths = [truth(f"{i}") for i in range(ENOUGH_IMAGES)]
    scores = piece_scores(truths, [DECODE] * ENOUGH_IMAGES, ENCODING)
    assert [s.name for s in scores] == [t.name for t in truths]
    assert not expected(scores, None, images=ENOUGH_IMAGES).quarters


def test_the_gain_is_paired() -> None:
    better = piece_scores([truth("a")], [DECODE], ENCODING)
    worse = piece_scores([truth("a", np.s_[:, :20])], [DECODE], ENCODING)
    gain = expected(better, worse, images=1).gain
    assert gain is not None
    assert gain.value == pytest.approx(0.5)
    none = expected(better, better, images=1).gain
    assert none is not None
    assert (none.low, none.value, none.high) == (0.0, 0.0, 0.0)
