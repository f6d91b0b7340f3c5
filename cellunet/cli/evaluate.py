"""``cellunet evaluate``: options to configurations, calls, one summary."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cellunet.cli.console import counted
from cellunet.cli.options import Options, option, out, refuse_given
from cellunet.cli.session import Outcome, Session
from cellunet.command_config import (
    MODEL,
    AnnotationConfig,
    ComputeConfig,
    EvaluateConfig,
    PredictConfig,
)

if TYPE_CHECKING:
    from cellunet.cli.console import Console, Row
    from cellunet.metrics.summary import Paired, Summary
    from cellunet.tasks.evaluate import Evaluation, Group

MOST = 2
"""Models or folders that one call scores: a pair can be compared."""

APPLIED = Options(
    PredictConfig,
    *("channel", "gray", "pages", "scale", "diameter_px", "pixel_size_um"),
    *("min_area_px", "max_area_px", "min_confidence"),
    *("seed_threshold", "min_foreground", "edge", "flips"),
)
"""How a model is applied."""

OF_MODELS = (*APPLIED.names, *(f.name for f in ComputeConfig.fields()), "side")
"""Parameters that say how a model is applied, which --pred has no use for."""


def evaluate(
    ctx: typer.Context,
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Annotated folder on which to score --model, or folder of true "
            "labels for --pred.",
        ),
    ],
    model: Annotated[
        list[str] | None,
        option(
            "--model -m",
            "NAME|PATH",
            "Model to score on DATA; give two to compare them image by image. "
            f"Default: {MODEL}.",
        ),
    ] = None,
    pred: Annotated[
        list[Path] | None,
        option(
            "--pred",
            "DIR",
            "Folder of label images of any tool, to score instead of a model; give "
            "two to compare them. Default: none.",
        ),
    ] = None,
    *,
    scoring: EvaluateConfig,
    table: Annotated[
        Path | None,
        out("Also write the scores of every image there. Default: none.", "FILE.csv"),
    ] = None,
    side: Annotated[
        Literal["all", "training", "validation"],
        option(
            "--side",
            "SIDE",
            "Images to score where DATA has lists: all, training or validation. "
            "Default: all.",
            "Images",
        ),
    ] = "all",
    annotations: AnnotationConfig,
    config: Annotated[PredictConfig, APPLIED],
    computing: ComputeConfig,
) -> Outcome:
    """Score a model on annotated images, or label images of any tool.

    Images that a model was trained or chosen on are scored apart; the headline is the
    others. Intervals are 95 % bootstrap intervals over images.
    """
    from cellunet.tasks.evaluate import evaluate_folders, evaluate_model

    session = Session.of(ctx)
    _refuse_mixtures(model, pred)
    if pred:
        refuse_given(ctx, OF_MODELS, "goes with a model, not with --pred")
    if table is not None:
        check_csv(table)
    shared: dict[str, Any] = {
        "annotations": annotations,
        "config": scoring,
        "track": session.console.track,
    }
    found = {
        str(folder): evaluate_folders(folder, data, **shared) for folder in pred or ()
    } or {
        name: evaluate_model(
            data,
            model=name,
            side=side,
            predict_config=config,
            **(computing.to_dict() | shared),
        )
        for name in model or [MODEL]
    }
    return _report(session, found, table)


def _refuse_mixtures(model: list[str] | None, pred: list[Path] | None) -> None:
    """Refuse what is neither of the two ways to call.

    Raises
    ------
    typer.BadParameter
        Naming what is too much.
    """
    if model and pred:
        raise typer.BadParameter(
            "--model does not go with --pred: score one or the other."
        )
    for name, values in (("--model", model or []), ("--pred", pred or [])):
        if len(values) > MOST:
            raise typer.BadParameter(f"{name} can be given twice, not more often.")
        if len(set(values)) < len(values):
            raise typer.BadParameter(f"{name} {values[0]} is given twice.")


def _report(
    session: Session, found: dict[str, Evaluation], table: Path | None
) -> Outcome:
    """Print, write, compare if there are two, and return everything."""
    summarize(session, found)
    if table is not None:
        write_csv(table, found)
        session.report.line(f"Scores per image: {table}")
    differences: dict[str, Paired] = {}
    if len(found) == MOST and not any(e.only_trained for e in found.values()):
        differences = _compared(session, found)
    return Outcome(
        result={
            "evaluations": [
                {"name": name, **evaluation.to_dict()}
                for name, evaluation in found.items()
            ],
            "differences": {k: d.to_dict() for k, d in differences.items()} or None,
            "csv": table,
        }
    )


def _compared(session: Session, found: dict[str, Evaluation]) -> dict[str, Paired]:
    """Print and return the differences of two; warn if they cannot be compared."""
    from cellunet.errors import InputError
    from cellunet.metrics.summary import difference_rows
    from cellunet.tasks.evaluate import compare

    try:
        differences = compare(*found.values())
    except InputError as error:
        session.console.alert(f"warning: not compared: {error}", "yellow")
        return {}
    session.report.line(f"Difference, {' minus '.join(found)}", "bold")
    session.report.table(difference_rows(differences))
    return differences


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


def summarize(session: Session, found: dict[str, Evaluation]) -> None:
    """Print the tables: scores, classes, seen images apart, warnings."""
    console = session.report
    if len(found) == 1:
        for evaluation in found.values():
            _one(console, evaluation)
    else:
        _side_by_side(console, found)
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
        f"{summary.mean_ap.text()}, mean F1 {summary.mean_f1.text()}, F1 at "
        f"IoU .50 {summary.f1_at(HALF).text()}."
    )


def _form_rows(forms: dict[str, Summary]) -> list[Row]:
    body = [
        (form, summary.mean_ap.text(), summary.mean_f1.text())
        for form, summary in forms.items()
    ]
    return [("counted otherwise", "mean AP", "mean F1"), *body]


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
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
