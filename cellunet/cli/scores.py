"""Scores as tables for people, and as CSV."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from cellunet.cli.console import counted

if TYPE_CHECKING:
    from pathlib import Path

    from cellunet.cli.console import Console, Row
    from cellunet.cli.session import Session
    from cellunet.metrics.summary import Estimate, Paired, Summary
    from cellunet.tasks.evaluate import Evaluation, Group

TITLES: dict[Group, str] = {
    "unseen": "Images that played no part in making the model",
    "chosen": "Images that the constants of the model's decoding were chosen on",
    "trained": "Images that the model was trained on",
}

HALF = 10
"""IoU .50 in twentieths, as `cellunet.metrics.matching` keeps thresholds."""

FORMS = {
    "without_small": "true objects under 25 px are background",
    "small_ignored": "true objects under 25 px are nobody's error",
    "dilated": "predictions grow by a pixel first, as in the paper's scripts",
}
"""Forms of `cellunet.metrics.matching.PROTOCOLS`, in words."""


def summarize(
    session: Session, found: dict[str, Evaluation], differences: dict[str, Paired]
) -> None:
    """Print the tables: scores, classes, seen images apart, differences, warnings."""
    from cellunet.metrics.summary import difference_rows

    console = session.report
    if len(found) == 1:
        for evaluation in found.values():
            _one(console, evaluation)
    else:
        _side_by_side(console, found)
    if differences:
        console.line(f"Difference, {' minus '.join(found)}", "bold")
        console.table(difference_rows(differences))
    for name, evaluation in found.items():
        if evaluation.only_seen:
            _warn_only_seen(session.console, name)


def _side_by_side(console: Console, found: dict[str, Evaluation]) -> None:
    """Print the headline form of several, group by group."""
    from cellunet.metrics.summary import table_rows

    for group, title in TITLES.items():
        columns = {
            name: next(iter(evaluation.groups[group].summaries.values()))
            for name, evaluation in found.items()
            if group in evaluation.groups
        }
        if columns:
            console.line(title, "bold")
            console.table(table_rows(columns))


def _one(console: Console, evaluation: Evaluation) -> None:
    """Print each group's headline form in full, its other forms in short."""
    from cellunet.metrics.summary import class_rows, table_rows

    forms: dict[str, Summary] = {}
    for group, scores in evaluation.groups.items():
        if len(evaluation.groups) > 1 or group != "unseen":
            console.line(TITLES[group], "bold")
        headline, *others = scores.summaries
        forms = {form: scores.summaries[form] for form in others}
        console.table(table_rows({"": scores.summaries[headline]}))
        console.table(_form_rows(forms))
        console.table(class_rows(scores.classes))
    confidence = evaluation.config.bootstrap.confidence
    console.line(f"In brackets: {confidence:.0%} bootstrap intervals over images.")
    for form in forms:
        console.line(f"{form}: {FORMS[form]}.")
    if evaluation.headline is not None:
        which = "unseen image" if len(evaluation.groups) > 1 else "image"
        console.line(_headline(evaluation.headline, which), "bold")


def _headline(summary: Summary, which: str) -> str:
    return (
        f"Over {counted(len(summary.images), which)}: mean AP "
        f"{interval(summary.mean_ap)}, mean F1 {interval(summary.mean_f1)}, F1 at "
        f"IoU .50 {interval(summary.f1_at(HALF))}."
    )


def _form_rows(forms: dict[str, Summary]) -> list[Row]:
    body = [
        (form, interval(summary.mean_ap), interval(summary.mean_f1))
        for form, summary in forms.items()
    ]
    return [("counted otherwise", "mean AP", "mean F1"), *body]


def interval(estimate: Estimate) -> str:
    """Return a value and its interval, ``0.807 [0.788, 0.827]``."""
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _warn_only_seen(console: Console, name: str) -> None:
    console.alert(
        f"WARNING: {name} was trained or chosen on every one of these images. Its "
        "scores here say nothing about other images; score it on images that it has "
        "not seen.",
        "bold red",
    )


def check_csv(path: Path) -> None:
    """Find out before the work whether the file can be written.

    Raises
    ------
    OutputError
        If `path` cannot be written.
    """
    from cellunet.io.files import PendingFile

    PendingFile(path).abort()


def write_csv(path: Path, found: dict[str, Evaluation]) -> None:
    """Write the scores of every image and form, one row each.

    Raises
    ------
    OutputError
        If `path` cannot be written.
    """
    from cellunet.io.files import write_atomically

    rows: list[dict[str, Any]] = [
        {"predictions": name, **row}
        for name, evaluation in found.items()
        for row in evaluation.csv_rows()
    ]
    with (
        write_atomically(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
