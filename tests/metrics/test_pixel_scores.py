"""Precision and recall of classes, counted by hand."""

from __future__ import annotations

import numpy as np

from cellunet.metrics.matching import class_scores, confusion_matrix

TRUE = np.array([[0, 0, 1], [1, 2, 2]], np.uint8)
FOUND = np.array([[0, 1, 1], [1, 1, 2]], np.uint8)
NAMES = ("background", "interior", "boundary")


def test_pixels_are_counted_by_true_and_predicted_class() -> None:
    # Rows true, columns predicted: 0 -> one 0, one 1; 1 -> two 1; 2 -> one 1, one 2.
    counts = confusion_matrix(TRUE, FOUND, classes=3)
    assert counts.tolist() == [[1, 1, 0], [0, 2, 0], [0, 1, 1]]


def test_precision_and_recall_are_those_worked_by_hand() -> None:
    background, interior, boundary = class_scores(
        confusion_matrix(TRUE, FOUND, classes=3), NAMES
    )
    assert (background.precision, background.recall) == (1, 1 / 2)
    assert (interior.precision, interior.recall) == (2 / 4, 1)
    assert (boundary.precision, boundary.recall) == (1, 1 / 2)
    assert (interior.true_pixels, interior.predicted_pixels) == (2, 4)
    assert interior.to_dict()["name"] == "interior"


def test_what_is_not_annotated_does_not_count() -> None:
    annotated = np.array([[True, False, True], [True, False, True]])
    counts = confusion_matrix(TRUE, FOUND, classes=3, annotated=annotated)
    assert counts.tolist() == [[1, 0, 0], [0, 2, 0], [0, 0, 1]]


def test_a_class_that_never_comes_has_no_precision_and_no_recall() -> None:
    empty = np.zeros((2, 2), np.uint8)
    scores = class_scores(confusion_matrix(empty, empty, classes=2), NAMES[:2])
    assert (scores[1].precision, scores[1].recall) == (None, None)
