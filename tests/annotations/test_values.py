"""What the values of label images say against being ids."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from cellunet.annotations.check import value_notes
from cellunet.cli.app import main


def grid(count, side=3):
    """Squares in rows of twenty."""
    labels = np.zeros((4 * (count // 20 + 1), 80), np.int32)
    for k in range(count):
        y, x = divmod(k, 20)
        labels[4 * y : 4 * y + side, 4 * x : 4 * x + side] = k + 1
    return labels


def test_ids_that_became_the_largest_are_told() -> None:
    (note,) = value_notes({"a": np.minimum(grid(400), 255)})
    assert "end at 255, and 255 is in 146 pieces" in note
    assert "8 bits" in note
    assert "--ignore-value" not in note


def test_ids_that_began_anew_are_told() -> None:
    (note,) = value_notes({"a": grid(400) % 256})
    assert "144 of 255 objects are in several pieces" in note


@pytest.mark.parametrize("count", [12, 255, 256, 400])
def test_ids_that_fit_are_fine(count) -> None:
    assert not list(value_notes({"a": grid(count)}))


def test_a_mark_is_told_with_the_option_that_ignores_it() -> None:
    labels = grid(12)
    for left in (0, 30, 60):
        labels[3, left : left + 20] = 255
    (note,) = value_notes({"a": labels})
    assert "--ignore-value 255" in note


def test_make_labels_and_evaluate_say_it(tmp_path, capsys) -> None:
    cut = np.minimum(grid(400), 255).astype(np.uint8)
    for name in ("labels", "pred"):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a.tif", cut)
    labels, pred = str(tmp_path / "labels"), str(tmp_path / "pred")
    assert main(["make-labels", labels, "--out", str(tmp_path / "o")]) == 0
    assert "cut off at 8 bits" in capsys.readouterr().out
    assert main(["check", labels, "--out", str(tmp_path / "c")]) == 4
    assert "cut off at 8 bits" in capsys.readouterr().out
    assert main(["evaluate", labels, "--pred", pred]) == 0
    assert "cut off at 8 bits" in capsys.readouterr().err
