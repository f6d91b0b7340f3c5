"""Rows of text for people."""

from __future__ import annotations

import numpy as np

from cellunet.metrics.matching import PROTOCOLS, ImageScores, class_scores, score_image
from cellunet.metrics.summary import (
    class_rows,
    difference_rows,
    paired,
    summarize,
    table_rows,
)

SQUARE = np.zeros((12, 12), np.int32)
SQUARE[:10, :10] = 1
EMPTY = np.zeros_like(SQUARE)


def scored(protocol: str = "standard") -> dict[str, list[ImageScores]]:
    forms = PROTOCOLS[protocol]
    images = [
        score_image(labels, labels, name=name, forms=forms)
        for name, labels in (("A", SQUARE), ("B", EMPTY))
    ]
    return {form: [one[form] for one in images] for form in forms}


def test_a_table_has_a_column_per_form_and_a_row_per_quantity() -> None:
    rows = table_rows({form: summarize(s) for form, s in scored().items()})
    assert rows[0] == ("", "all", "without_small", "small_ignored")
    table = {label: cells for label, *cells in rows[1:]}
    one = "1.000 [1.000, 1.000]"
    assert table["mean AP, IoU .50 to .95"] == [one] * 3
    assert table["F1 at IoU .70"] == [one] * 3
    assert table["images"] == ["2"] * 3
    assert table["without any object, true or predicted (score 1)"] == ["1"] * 3
    assert table["mean AP of images with true objects"] == [one] * 3
    assert table["merges"] == ["0"] * 3


def test_the_average_f1_names_its_thresholds() -> None:
    rows = table_rows({f: summarize(s) for f, s in scored("caicedo2019").items()})
    assert "mean F1, IoU .50 to .90" in [row[0] for row in rows]
    assert "F1 at IoU .90" in [row[0] for row in rows]


def test_a_value_that_is_not_there_is_a_dash() -> None:
    empty = scored()["all"][1:]
    table = dict(table_rows({"all": summarize(empty)}))
    assert table["mean IoU of matches"] == "-"
    assert "mean AP of images with true objects" not in table


def test_differences_carry_their_sign() -> None:
    images = scored()["all"]
    rows = dict(difference_rows({"all": paired(images, images)}))
    assert rows["mean AP, IoU .50 to .95"] == "+0.000 [+0.000, +0.000]"
    assert rows["images"] == "2"


def test_classes_have_a_row_each() -> None:
    rows = class_rows(class_scores(np.array([[3, 1], [0, 0]]), ("rest", "boundary")))
    assert rows[1] == ("rest", "1.000", "0.750", "4")
    assert rows[2] == ("boundary", "0.000", "-", "0")
