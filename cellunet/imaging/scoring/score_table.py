"""Scores as rows of text, for people: one column per summary or difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cellunet.imaging.scoring.bootstrap import Estimate
    from cellunet.imaging.scoring.pixel_scores import ClassScores
    from cellunet.imaging.scoring.scores import Paired, Summary

HEADLINE_T20 = (10, 14, 18)
"""Thresholds, in twentieths, whose F1 is told by itself: IoU .50, .70 and .90."""

Row = tuple[str, ...]


def table_rows(summaries: Mapping[str, Summary]) -> list[Row]:
    """Return a table of summaries: a header, then one row per quantity.

    Parameters
    ----------
    summaries
        Heading of each column to its summary; one or more.

    Returns
    -------
    list of tuple of str
        Rows of one label and one cell per summary; ``-`` where there is no value.
    """
    return _rows({heading: _column(s) for heading, s in summaries.items()})


def difference_rows(differences: Mapping[str, Paired]) -> list[Row]:
    """Return a table of paired differences, like `table_rows`."""
    return _rows(
        {
            heading: {"images": f"{len(d.images):,}"} | _scores(d, signed=True)
            for heading, d in differences.items()
        }
    )


def class_rows(classes: Sequence[ClassScores]) -> list[Row]:
    """Return a table of each class's precision, recall and pixels."""

    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    body = [
        (c.name, share(c.precision), share(c.recall), f"{c.true_pixels:,}")
        for c in classes
    ]
    return [("class", "precision", "recall", "true pixels"), *body]


def _rows(columns: Mapping[str, Mapping[str, str]]) -> list[Row]:
    labels = dict.fromkeys(label for column in columns.values() for label in column)
    body = [(x, *(c.get(x, "-") for c in columns.values())) for x in labels]
    return [("", *columns), *body]


def _column(summary: Summary) -> dict[str, str]:
    totals, rest = summary.totals, summary.with_true_objects
    column = {
        "images": f"{len(summary.images):,}",
        "without any object, true or predicted (score 1)": f"{summary.both_empty:,}",
        "with only true or only predicted objects (score 0)": f"{summary.one_empty:,}",
        **_scores(summary),
        "mean IoU of matches": _text(summary.mean_matched_iou),
    }
    if rest is not None and len(rest.images) < len(summary.images):
        column["mean AP of images with true objects"] = _text(rest.mean_ap)
        column["mean F1 of images with true objects"] = _text(rest.mean_f1)
    return column | {
        "true objects": f"{totals.true_objects:,}",
        "predicted objects": f"{totals.predicted_objects:,}",
        "missed": f"{totals.missed:,}",
        "extra": f"{totals.extra:,}",
        "merges": f"{totals.merges:,}",
        "splits": f"{totals.splits:,}",
        "true objects too small to count": f"{totals.too_small:,}",
        "predicted objects left out": f"{totals.left_out:,}",
    }


def _scores(scored: Summary | Paired, *, signed: bool = False) -> dict[str, str]:
    t20 = scored.rule.t20
    span = f"IoU {_threshold(t20[0])} to {_threshold(t20[-1])}"
    rows = {
        f"mean AP, {span}": _text(scored.mean_ap, signed=signed),
        f"mean F1, {span}": _text(scored.mean_f1, signed=signed),
    }
    for t in HEADLINE_T20:
        if t in t20:
            key = f"F1 at IoU {_threshold(t)}"
            rows[key] = _text(scored.f1_at(t), signed=signed)
    return rows


def _threshold(t20: int) -> str:
    return f"{t20 / 20:.2f}".removeprefix("0")


def _text(estimate: Estimate | None, *, signed: bool = False) -> str:
    if estimate is None:
        return "-"
    sign = "+" if signed else ""
    values = (estimate.value, estimate.low, estimate.high)
    value, low, high = (f"{v:{sign}.3f}" for v in values)
    return f"{value} [{low}, {high}]"
