"""Learning curves as SVG."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from cellunet.outputs.charts import (
    COLOURS,
    PANEL_HEIGHT,
    PANEL_WIDTH,
    _curves_round_up,
    learning_curves,
)

SVG = "{http://www.w3.org/2000/svg}"
CLASSES = ("background", "in < out & up")


def rows(losses: list[float]) -> list[dict[str, float]]:
    return [
        {
            "epoch": i + 1.0,
            "train_loss": loss,
            "validation_loss": loss / 2,
            "train_precision_background": 0.25,
            "validation_recall_background": math.nan,
        }
        for i, loss in enumerate(losses)
    ]


def drawn(losses: list[float]) -> ElementTree.Element:
    return ElementTree.fromstring(learning_curves(rows(losses), CLASSES))


def points(line: ElementTree.Element) -> list[tuple[float, float]]:
    text = line.get("points") or ""
    return [tuple(map(float, p.split(","))) for p in text.split()]  # type: ignore[misc]


def test_there_is_a_panel_for_loss_and_for_each_measure_and_class() -> None:
    texts = [t.text for t in drawn([1.0, 0.5]).iter(f"{SVG}text")]
    for title in (
        "loss",
        "precision, background",
        "recall, background",
        "precision, in < out & up",
        "recall, in < out & up",
        *COLOURS,
    ):
        assert texts.count(title) == 1


def test_points_lie_where_the_numbers_say() -> None:
    lines = list(drawn([4.0, 2.0, 0.0]).iter(f"{SVG}polyline"))
    train, validation = lines[:2]
    # The axis ends at the next round number, 5.
    assert (PANEL_WIDTH, PANEL_HEIGHT) == (300, 200)
    assert points(train) == [(0, 40), (150, 120), (300, 200)]
    assert points(validation) == [(0, 120), (150, 160), (300, 200)]
    assert points(lines[2]) == [(x, 150) for x in (0, 150, 300)]


def test_a_validation_loss_far_above_all_others_lies_on_the_edge() -> None:
    history = rows([1.0, 0.5])
    history[0]["validation_loss"] = 175.0
    svg = ElementTree.fromstring(learning_curves(history, CLASSES))
    train, validation = list(svg.iter(f"{SVG}polyline"))[:2]
    # The axis ends at the next round number above 1.5, 2.
    assert points(train) == [(0, 100), (300, 150)]
    assert points(validation) == [(0, 0), (300, 175)]


def test_what_is_undefined_is_left_out() -> None:
    svg = ElementTree.tostring(drawn([math.nan, math.inf, 1.0]), encoding="unicode")
    assert "nan" not in svg
    assert "inf" not in svg
    lines = list(drawn([math.nan, math.inf, 1.0]).iter(f"{SVG}polyline"))
    assert len(points(lines[0])) == 1


def test_one_epoch_and_no_finite_number_still_draw() -> None:
    assert len(list(drawn([math.nan]).iter(f"{SVG}polyline"))) == 10


def test_epochs_are_numbered_at_both_ends_and_between() -> None:
    texts = [t.text or "" for t in drawn([1.0] * 30).iter(f"{SVG}text")]
    assert [t for t in texts if re.fullmatch("[0-9]+", t)].count("15") == 5
    assert texts.count("30") == 5


@pytest.mark.parametrize(
    ("value", "top"),
    [
        (0.0, 1),
        (-1, 1),
        (0.3, 0.5),
        (1, 1),
        (1.1, 2),
        (2.2, 2.5),
        (7, 10),
        (1000, 1000),
    ],
)
def test_axes_end_at_round_numbers(value, top) -> None:
    assert _curves_round_up(value) == pytest.approx(top)
