"""Every value is in some bar, and the figures say so too."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from cellunet.outputs.charts import MOST_BARS, Chart, chart
from cellunet.outputs.report import Histogram

SIZES = Chart(title="Size", what="objects", axis="diameter, px")
counts = st.dictionaries(st.integers(0, 4000), st.integers(1, 10**6), min_size=1)


@given(counts, st.sampled_from([0.02, 0.5, 1.0]))
def test_the_figures_add_up_to_all_values(found, step) -> None:
    shown = chart(SIZES, Histogram(step=step, counts=found))
    rows = re.findall(r"<tr><td>[^<]*</td><td>([\d,]+)</td></tr>", shown)
    assert sum(int(n.replace(",", "")) for n in rows) == sum(found.values())
    assert len(rows) <= MOST_BARS + 1
    assert "nan" not in shown


def test_values_beyond_the_axis_are_counted_to_the_last_bar() -> None:
    data = Histogram(step=1.0, counts={**dict.fromkeys(range(10), 1000), 5000: 1})
    shown = chart(SIZES, data)
    assert "and more</td><td>1,001</td>" in shown


def test_one_value_makes_one_bar() -> None:
    shown = chart(SIZES, Histogram(step=1.0, counts={7: 3}))
    assert "<td>7 to 8</td><td>3</td>" in shown


def test_without_values_there_is_no_picture() -> None:
    shown = chart(SIZES, Histogram(step=1.0))
    assert "Nothing to show" in shown
    assert "<svg" not in shown
