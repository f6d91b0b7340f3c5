"""``cellunet evaluate``: options to configurations, calls, one summary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cellunet.cli.options import Options, option, out, refuse_given
from cellunet.cli.scores import check_csv, summarize, write_csv
from cellunet.cli.session import Outcome, Session
from cellunet.command_config import (
    MODEL,
    AnnotationConfig,
    ComputeConfig,
    EvaluateConfig,
    PredictConfig,
)

if TYPE_CHECKING:
    from cellunet.metrics.summary import Paired
    from cellunet.tasks.evaluate import Evaluation

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
    """Compare if there are two, print, write, and return everything."""
    from cellunet.tasks.evaluate import compare

    differences: dict[str, Paired] = {}
    if len(found) == MOST and not any(e.only_trained for e in found.values()):
        differences = compare(*found.values())
    summarize(session, found, differences)
    if table is not None:
        write_csv(table, found)
        session.report.line(f"Scores per image: {table}")
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
