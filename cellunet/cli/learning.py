"""``cellunet train --learning-curve``: a table, a picture, a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cellunet.cli.jsonout import Outcome
from cellunet.cli.score_report import interval
from cellunet.cli.session import stopped
from cellunet.cli.watching import TrainingView

if TYPE_CHECKING:
    from pathlib import Path

    from cellunet.cli.console import Row
    from cellunet.cli.session import Session
    from cellunet.tasks.learning_curve import LearningCurve
    from cellunet.tasks.train_request import TrainRequest


def run_learning_curve(
    session: Session, request: TrainRequest, out: Path | None
) -> Outcome:
    """Train on nested subsets, and tell what came of it.

    Raises
    ------
    typer.BadParameter
        If there is no folder to write to.
    """
    if out is None:
        raise typer.BadParameter(
            "--learning-curve needs a folder for its table and picture.",
            param_hint="--out",
        )
    from cellunet.tasks.learning_curve import learning_curve
    from cellunet.tasks.train_request import Hooks

    again = session.command(without=("--overwrite",))
    view = TrainingView(session.console)
    hooks = Hooks(
        on_note=session.console.line,
        on_step=view.step,
        track=view.track,
        should_stop=session.can_stop(f"Go on with: {again}"),
    )
    try:
        curve = learning_curve(request, out, hooks)
    finally:
        view.close()
    if curve.points:
        session.report.table(rows_of(curve))
    if not curve.finished:
        return stopped(
            session,
            f"Finished trainings are kept in {curve.folder}.",
            f"Go on with: {again}",
            **curve.to_dict(),
        )
    session.report.line(sentence(curve), "bold")
    session.report.line(f"Table and picture: {curve.folder}")
    return Outcome(result=curve.to_dict())


def rows_of(curve: LearningCurve) -> list[Row]:
    """Return the table of a curve."""
    return [
        ("images", "objects", "mean AP", "loss"),
        *(
            (
                f"{p.images:,}" + (f" ({curve.start})" if not p.images else ""),
                f"{p.objects:,.0f}",
                interval(p.mean_ap),
                f"{p.loss:.4f}",
            )
            for p in curve.points
        ),
    ]


def sentence(curve: LearningCurve) -> str:
    """Return what more images would give, in one sentence."""
    if curve.outlook is None:
        return "There are too few numbers of images to tell what more would give."
    gain = curve.outlook.gain
    span = f"[{gain.low:+.3f}, {gain.high:+.3f}]"
    if gain.low <= 0:
        return (
            f"Whether {curve.outlook.more} more images would help is not sure: "
            f"{gain.value:+.3f} {span} mean AP, if errors go on to fall as they do."
        )
    return (
        f"{curve.outlook.more} more images would give about {gain.value:+.3f} {span} "
        "mean AP, if errors go on to fall as they do."
    )
