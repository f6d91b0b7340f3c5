"""The evidence for confidence: a byte a pixel, put aside and taken back."""

from __future__ import annotations

import numpy as np
import pytest

from cellunet.imaging import evidence as evidence_module
from cellunet.imaging.evidence import Evidence, evidence
from cellunet.imaging.objects import measure_labels


def test_evidence_is_the_likeliest_class_in_255ths() -> None:
    probabilities = np.array([[[0.2, 1.0]], [[0.5, 0.0]], [[0.3, 0.0]]], np.float32)
    assert evidence(probabilities).tolist() == [[128, 255]]


def test_confidence_is_its_mean_over_the_object() -> None:
    labels = np.array([[1, 1, 2]])
    table = measure_labels(labels, evidence=np.array([[255, 51, 102]], np.uint8))
    assert table["confidence"].tolist() == pytest.approx([0.6, 0.4])


@pytest.mark.parametrize("memory", [1, 2**20], ids=["on disk", "in memory"])
def test_bands_come_back_in_order(memory, tmp_path, rng, monkeypatch) -> None:
    monkeypatch.setattr(evidence_module, "MEMORY_BYTES", memory)
    bands = [rng.random((3, n, 50)).astype(np.float32) for n in (9, 1, 30)]
    with Evidence(tmp_path / "new" / "a.tif") as kept:
        for band in bands:
            kept.put(band)
        for band in bands:
            np.testing.assert_array_equal(kept.take(), evidence(band))
    assert list((tmp_path / "new").iterdir()) == []
