"""The confidence of an object is the mean of its pixels' foreground."""

from __future__ import annotations

import numpy as np
import pytest

from cellunet.imaging import confidence as confidence_module
from cellunet.imaging.confidence import Confidences, Foreground


def planes(rng, height: int = 37, width: int = 20):
    background = rng.uniform(0, 1, (height, width)).astype(np.float32)
    labels = rng.integers(0, 4, (height, width)).astype(np.uint32)
    return np.stack([background, 1 - background]), labels


@pytest.mark.parametrize("memory", [10, 2**20])
def test_means_do_not_depend_on_how_rows_are_cut(
    memory, tmp_path, rng, monkeypatch
) -> None:
    monkeypatch.setattr(confidence_module, "MEMORY_BYTES", memory)
    both = [planes(rng), planes(rng)]
    foreground = Foreground(tmp_path)
    for probabilities, _ in both:
        for y0 in range(0, 37, 10):
            foreground.add(y0, probabilities[:, y0 : y0 + 10])
    for probabilities, labels in both:
        tally = Confidences(np.bincount(labels.ravel())[1:])
        for y0 in range(0, 37, 7):
            rows = labels[y0 : y0 + 7]
            tally.add(rows, foreground.rows(len(rows)))
        expected = [(1 - probabilities[0])[labels == i].mean() for i in (1, 2, 3)]
        np.testing.assert_allclose(tally.means(), expected, atol=0.002)
    foreground.close()
    assert list(tmp_path.iterdir()) == []


def test_certainty_is_one_and_doubt_a_half() -> None:
    tally = Confidences(np.array([2, 2]))
    tally.add(np.array([[1, 1, 2, 0]]), np.array([[255, 255, 255, 0]], np.uint8))
    tally.add(np.array([[2, 0, 0, 0]]), np.array([[0, 9, 9, 9]], np.uint8))
    assert tally.means().tolist() == [1.0, 0.5]


def test_without_objects_there_is_nothing_to_tell() -> None:
    tally = Confidences(np.array([], int))
    tally.add(np.zeros((2, 2), int), np.full((2, 2), 7, np.uint8))
    assert tally.means().shape == (0,)
