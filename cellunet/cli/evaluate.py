"""``cellunet evaluate``: options to configurations, calls, one summary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cellunet.cli import options as o
from cellunet.cli.scores import CSV, check_csv, summarize, write_csv
from cellunet.cli.session import Outcome, Session
from cellunet.config import DEVICE, ENGINE, MODEL, PROTOCOL, THREADS, PredictConfig

if TYPE_CHECKING:
    from cellunet.metrics.summary import Paired
    from cellunet.tasks.evaluate import Evaluation

MOST = 2
"""Models or folders that one call scores: a pair can be compared."""

OF_MODELS = (
    *("channel", "gray", "scale", "diameter", "min_area", "seed_threshold", "flips"),
    *("engine", "device", "threads", "tile", "side"),
)
"""Parameters that say how a model is applied, which --pred has no use for."""


def evaluate(
    ctx: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA", help="Annotated folder on which to score --model."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|PATH",
            help="Model to score on DATA; give two to compare them image by image. "
            f"Default: {MODEL}.",
        ),
    ] = None,
    pred: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Folder of label images of any tool, to score against --labels "
            "instead of a model; give two to compare them.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of true labels, with --pred."),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            show_default=False,
            metavar="NAME",
            help=o.help_with_default(
                "standard: IoU of .50 to .95; caicedo2019: the average F1 of the "
                "BBBC039 paper.",
                PROTOCOL,
            ),
        ),
    ] = PROTOCOL,
    table: Annotated[
        Path | None,
        typer.Option(
            CSV,
            metavar="FILE",
            help="Also write the scores of every image. Default: none.",
        ),
    ] = None,
    channel: o.Channel = None,
    gray: o.Gray = False,
    ignore_value: o.IgnoreValue = None,
    scale: o.Scale = None,
    diameter: o.Diameter = None,
    min_area: o.MinArea = None,
    seed_threshold: o.SeedThreshold = None,
    edge: o.Edge = None,
    flips: o.Flips = False,
    engine: o.Engine = ENGINE,
    device: o.Device = DEVICE,
    threads: o.Threads = THREADS,
    tile: o.Tile = PredictConfig.tile_px,
    side: Annotated[
        Literal["all", "training", "validation"],
        typer.Option(
            show_default=False,
            metavar="SIDE",
            rich_help_panel=o.IMAGES,
            help=o.help_with_default(
                "Images to score where DATA has lists: all, training or validation.",
                o.SIDE,
            ),
        ),
    ] = o.SIDE,
    as_json: o.Json = False,
    log_level: o.LogLevel = None,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> Outcome:
    """Score a model on annotated images, or label images of any tool.

    Either DATA with --model, or --pred with --labels. Images that a model was trained
    or chosen on are scored apart; the headline is the others. Intervals are 95 %
    bootstrap intervals over images.
    """
    session = Session.of(ctx)
    _refuse_mixtures(data, model, pred, labels)
    if pred:
        o.refuse_given(ctx, OF_MODELS, "goes with a model, not with --pred")
    if table is not None:
        check_csv(table)
    config = PredictConfig(
        channel=channel,
        gray=gray,
        scale=scale,
        **o.sized(diameter),
        min_area_px=min_area,
        seed_threshold=seed_threshold,
        edge=edge,
        flips=flips,
        tile_px=tile,
    )
    if data is not None:
        from cellunet.config import EvaluateConfig
        from cellunet.tasks.evaluate import evaluate_model

        found = {
            name: evaluate_model(
                data,
                model=name,
                side=side,
                engine=engine,
                device=device,
                threads=threads,
                config=EvaluateConfig(protocol=protocol),
                predict_config=config,
                ignore_value=ignore_value,
                track=session.console.track,
            )
            for name in model or [MODEL]
        }
    else:
        found = _score_folders(session, pred or [], labels, protocol, ignore_value)
    return _report(session, found, table)


def _refuse_mixtures(
    data: Path | None,
    model: list[str] | None,
    pred: list[Path] | None,
    labels: Path | None,
) -> None:
    """Refuse what is neither of the two ways to call.

    Raises
    ------
    typer.BadParameter
        Naming what is missing or too much.
    """
    if data is None and not pred:
        raise typer.BadParameter("Give DATA with --model, or --pred with --labels.")
    if (data is not None or model) and (pred or labels):
        raise typer.BadParameter(
            "DATA and --model do not go with --pred and --labels: score one or the "
            "other."
        )
    if pred and labels is None:
        raise typer.BadParameter("--pred needs the true labels: --labels DIR.")
    for name, values in (("--model", model or []), ("--pred", pred or [])):
        if len(values) > MOST:
            raise typer.BadParameter(f"{name} can be given twice, not more often.")
        if len(set(values)) < len(values):
            raise typer.BadParameter(f"{name} {values[0]} is given twice.")


def _score_folders(
    session: Session,
    pred: list[Path],
    labels: Path | None,
    protocol: str,
    ignore_value: int | None,
) -> dict[str, Evaluation]:
    from cellunet.config import EvaluateConfig
    from cellunet.tasks.evaluate import evaluate_folders

    if labels is None:
        return {}
    config = EvaluateConfig(protocol=protocol)
    track = session.console.track
    return {
        str(folder): evaluate_folders(
            folder, labels, config=config, ignore_value=ignore_value, track=track
        )
        for folder in pred
    }


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
