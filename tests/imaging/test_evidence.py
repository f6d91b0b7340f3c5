"""The evidence for confidence: a byte a pixel."""

from __future__ import annotations

import numpy as np
import pytest

from cellunet.imaging.measure import measure_labels, pixel_confidence


def test_evidence_is_the_likeliest_class_in_255ths() -> None:
    probabilities = np.array([[[0.2, 1.0]], [[0.5, 0.0]], [[0.3, 0.0]]], np.float32)
    assert pixel_confidence(probabilities).tolist() == [[128, 255]]


def test_confidence_is_its_mean_over_the_object() -> None:
    labels = np.array([[1, 1, 2]])
    table = measure_labels(labels, evidence=np.array([[255, 51, 102]], np.uint8))
    assert table["confidence"].tolist() == pytest.approx([0.6, 0.4])
