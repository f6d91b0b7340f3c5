"""The confidence of an object is the mean of its pixels' evidence."""

from __future__ import annotations

import numpy as np

from cellunet.imaging.measure import Confidences, pixel_confidence


def planes(rng, height: int = 37, width: int = 20):
    background = rng.uniform(0, 1, (height, width)).astype(np.float32)
    labels = rng.integers(0, 4, (height, width)).astype(np.uint32)
    return np.stack([background, 1 - background]), labels


def test_means_do_not_depend_on_how_rows_are_cut(rng) -> None:
    probabilities, labels = planes(rng)
    for height in (7, 37):
        tally = Confidences(np.bincount(labels.ravel())[1:])
        for y0 in range(0, 37, height):
            rows = np.s_[y0 : y0 + height]
            tally.add(labels[rows], pixel_confidence(probabilities[:, rows]))
        expected = [probabilities.max(axis=0)[labels == i].mean() for i in (1, 2, 3)]
        np.testing.assert_allclose(tally.means(), expected, atol=0.002)


def test_certainty_is_one_and_doubt_a_half() -> None:
    tally = Confidences(np.array([2, 2]))
    tally.add(np.array([[1, 1, 2, 0]]), np.array([[255, 255, 255, 0]], np.uint8))
    tally.add(np.array([[2, 0, 0, 0]]), np.array([[0, 9, 9, 9]], np.uint8))
    assert tally.means().tolist() == [1.0, 0.5]


def test_without_objects_there_is_nothing_to_tell() -> None:
    tally = Confidences(np.array([], int))
    tally.add(np.zeros((2, 2), int), np.full((2, 2), 7, np.uint8))
    assert tally.means().shape == (0,)
