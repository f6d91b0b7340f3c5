"""Every value is in some bar, and the figures say so too; drawn as the numbers say."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellunet.metrics.fit import Trial, points_of
from cellunet.outputs.charts import (
    DARK,
    MOST_BARS,
    SIDES,
    Chart,
    PlateMap,
    bars_of,
    histogram,
    learning_chart,
    learning_curves,
    plate_map,
    short,
    svg,
    table_rows,
)
from cellunet.outputs.report import Histogram

SIZES = Chart(title="Size", what="objects", axis="diameter, px")
CLASSES = ("background", "in < $x_1$ & up 核")
counts = st.dictionaries(st.integers(0, 4000), st.integers(1, 10**6), min_size=1)


def texts(drawing: str) -> list[str]:
    """Every text of an SVG; it is well formed."""
    return [t.text for t in ElementTree.fromstring(drawing).iter() if t.text]


@given(counts, st.sampled_from([0.02, 0.5, 1.0]))
def test_the_figures_add_up_to_all_values(found, step) -> None:
    bars = bars_of(SIZES, Histogram(step=step, counts=found))
    rows = table_rows(SIZES, bars)
    assert sum(n for _, n in rows) == sum(bars.counts) == sum(found.values())
    assert len(rows) <= MOST_BARS + 1


def test_values_beyond_the_axis_are_counted_to_the_last_bar() -> None:
    data = Histogram(step=1.0, counts={**dict.fromkeys(range(10), 1000), 5000: 1})
    assert table_rows(SIZES, bars_of(SIZES, data))[-1] == ("9 and more", 1001)


def test_one_value_makes_one_bar() -> None:
    bars = bars_of(SIZES, Histogram(step=1.0, counts={7: 3}))
    assert table_rows(SIZES, bars) == [("7 to 8", 3)]


@pytest.mark.slow
def test_a_histogram_has_its_bars_and_its_median_where_the_numbers_say() -> None:
    data = Histogram(step=0.5, counts={2: 3, 9: 5})
    bars = bars_of(SIZES, data)
    (axes,) = histogram(SIZES, bars, 4.5, DARK).axes
    found = axes.patches[0].get_data()
    assert found.values.tolist() == [0, 0, 3, 0, 0, 0, 0, 0, 0, 5]
    assert found.edges.tolist() == [i / 2 for i in range(11)]
    assert axes.lines[0].get_xdata() == [4.5, 4.5]
    assert {"median 4.5", "diameter, px", "2", "5"} <= set(
        texts(svg(histogram(SIZES, bars, 4.5), "Size"))
    )


@pytest.mark.parametrize("top", [1, 2, 3_000_000])
def test_counts_of_any_size_are_drawn(top) -> None:
    bars = bars_of(SIZES, Histogram(step=1.0, counts={0: top}))
    assert short(top) in texts(svg(histogram(SIZES, bars, None), "Size"))


@pytest.mark.slow
def test_the_same_numbers_give_the_same_file() -> None:
    history = rows([1.0, 0.5])
    once, again = (svg(learning_curves(history, CLASSES), "x") for _ in range(2))
    assert once == again


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


def lines(history: list[dict[str, float]], place: int = 0) -> list[list[list[float]]]:
    """The points of training and validation in a panel."""
    axes = learning_curves(history, CLASSES).axes[place]
    return [line.get_xydata().tolist() for line in axes.lines]


@pytest.mark.slow
def test_there_is_a_panel_for_loss_and_for_each_measure_and_class() -> None:
    found = texts(svg(learning_curves(rows([1.0, 0.5]), CLASSES), "Learning curves"))
    for title in (
        "loss",
        *(f"{m}, {name}" for m in ("precision", "recall") for name in CLASSES),
        *SIDES,
    ):
        assert found.count(title) == 1


def test_points_lie_where_the_numbers_say() -> None:
    history = rows([4.0, 2.0, 0.0])
    assert lines(history) == [[[1, 4], [2, 2], [3, 0]], [[1, 2], [2, 1], [3, 0]]]
    assert lines(history, 1) == [[[x, 0.25] for x in (1, 2, 3)], []]
    panels = learning_curves(history, CLASSES).axes
    assert [panel.get_ylim() for panel in panels] == [(0, 4), *[(0, 1)] * 4]


def test_a_validation_loss_far_above_all_others_lies_on_the_edge() -> None:
    history = rows([1.0, 0.5])
    history[0]["validation_loss"] = 175.0
    assert lines(history) == [[[1, 1], [2, 0.5]], [[1, 1.5], [2, 0.25]]]


def test_what_is_undefined_is_left_out() -> None:
    history = rows([math.nan, math.inf, 1.0])
    assert lines(history)[0] == [[3, 1]]
    svg(learning_curves(history, CLASSES), "x")


def test_one_epoch_and_no_finite_number_still_draw() -> None:
    svg(learning_curves(rows([math.nan]), CLASSES), "x")


def trial(images: int, *scores: float, loss: float = 0.2) -> Trial:
    return Trial(images=images, objects=10 * images, loss=loss, mean_ap=scores)


def test_scores_stand_above_the_numbers_of_images_and_none_is_half_way_below_one():
    points = points_of([trial(0, 0.5, 0.6), trial(1, 0.7, 0.6), trial(7, 0.8, 0.82)])
    left, right = learning_chart(points).axes
    assert np.allclose(left.lines[0].get_xydata(), [(0.5, 0.55), (1, 0.65), (7, 0.81)])
    assert right.lines[0].get_xdata().tolist() == [0.5, 1, 7]
    found = texts(svg(learning_chart(points), "Learning curve"))
    assert {"0", "1", "7", "mean AP on images not trained on"} <= set(found)


def test_a_single_point_can_be_drawn() -> None:
    svg(learning_chart(points_of([trial(0, 0.5)])), "Learning curve")


def drawn(**changes) -> tuple[list[str], int]:
    """Return the texts of a plate's map, and how many wells have a color."""
    about = {"title": "t", "rows": 8, "columns": 12, "values": {}, "whole": True}
    text = svg(plate_map(PlateMap(**about | changes)), "t")
    wells = ElementTree.fromstring(text).find(".//*[@id='PathCollection_1']")
    drawn = [] if wells is None else [e.get("style", "") for e in wells.iter()]
    return texts(text), sum("fill: #" in style for style in drawn)


def test_a_well_without_an_image_is_empty_and_one_without_objects_is_not() -> None:
    words, colored = drawn(values={(0, 0): 0.0, (7, 11): 12.0, (3, 3): math.nan})
    assert colored == 2
    assert {"0", "12", "A", "H"} <= set(words)


@pytest.mark.parametrize(
    ("rows", "columns", "last"), [(8, 12, "H"), (16, 24, "P"), (32, 48, "AC")]
)
def test_a_plate_has_all_its_wells_and_names_of_rows(rows, columns, last) -> None:
    wells = {(r, c): float(r + c) for r in range(rows) for c in range(columns)}
    words, colored = drawn(rows=rows, columns=columns, values=wells)
    assert colored == rows * columns
    assert [w for w in words if re.fullmatch("[A-Z]+", w)][-1] == last


def test_a_well_whose_images_failed_has_a_cross() -> None:
    assert "x" in drawn(failed={(1, 1)})[0]
    assert "x" not in drawn()[0]


def test_the_scale_of_counts_begins_at_zero_and_that_of_intensities_does_not() -> None:
    values = {(0, 0): 1000.0, (0, 1): 1010.0}
    assert "1,002" in drawn(values=values, whole=False)[0]
    assert "1,002" not in drawn(values=values)[0]
