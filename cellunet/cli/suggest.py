"""``cellunet train --suggest``: options to a request, one call, one summary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cellunet.cli.console import counted
from cellunet.cli.options import given, given_words, help_with_default
from cellunet.cli.session import (
    BUG,
    INPUTS_FAILED,
    Failure,
    Outcome,
    Session,
    shell_line,
)
from cellunet.config import MODEL, SCRATCH, SuggestConfig

if TYPE_CHECKING:
    from cellunet.tasks.suggest.request import Suggested

PANEL = "What to annotate next"

Suggest = Annotated[
    list[str] | None,
    typer.Option(
        "--suggest",
        metavar="IMAGES",
        rich_help_panel=PANEL,
        help="Train nothing, but write the crops of these images (files or folders; "
        "may be repeated) that should be annotated next, with labels to correct: those "
        f"of --from, or of {MODEL}. DATA is what is annotated already. Default: none.",
    ),
]

Crops = Annotated[
    int | None,
    typer.Option(
        "--crops",
        metavar="N",
        rich_help_panel=PANEL,
        help=help_with_default(
            "With --suggest: how many, of --crop pixels a side "
            f"({SuggestConfig.side_px} if that is left out).",
            SuggestConfig.crops,
        ),
    ),
]

Annotations = Annotated[
    Literal["labels", "rois", "geojson"] | None,
    typer.Option(
        "--annotations",
        metavar="NAME",
        rich_help_panel=PANEL,
        help=help_with_default(
            "With --suggest: what the model's annotation is written as: labels "
            "(label images), rois (sets of Fiji), geojson (of QuPath).",
            SuggestConfig.annotations,
        ),
    ),
]

OURS = ("suggest", "crops", "annotations")
"""Parameters that mean something with --suggest alone."""

SHARED = (
    "data",
    "out",
    "start",
    "crop",
    "channel",
    "gray",
    "ignore_value",
    "device",
    "threads",
    "overwrite",
    "as_json",
    "log_level",
    "verbose",
)
"""Parameters of ``train`` that mean something with it too."""


def check_train(ctx: typer.Context, data: list[Path] | None) -> list[Path]:
    """Return what to train on; refuse a call without, or with options of --suggest.

    Raises
    ------
    typer.BadParameter
        If so.
    """
    for name, word in given_words(ctx).items():
        if name in OURS:
            raise typer.BadParameter(f"{word} goes with --suggest.", ctx=ctx)
    if ctx.params["out"] is not None and not ctx.params["learning_curve"]:
        raise typer.BadParameter(
            "--out goes with --suggest or --learning-curve.", ctx=ctx
        )
    if not data:
        raise typer.BadParameter("Missing argument 'DATA...'.", ctx=ctx)
    return data


def suggest(ctx: typer.Context) -> Outcome:
    """Choose crops to annotate next, with the options of ``train`` in a context.

    Raises
    ------
    typer.BadParameter
        If an option does not go with --suggest, or --out is missing.
    """
    words, values = given_words(ctx), ctx.params
    wrong = [word for name, word in words.items() if name not in (*OURS, *SHARED)]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]} does not go with --suggest.", ctx=ctx)
    if values["out"] is None:
        raise typer.BadParameter("--suggest needs --out DIR for the crops.", ctx=ctx)
    model = values["start"] or MODEL
    if model == SCRATCH:
        raise typer.BadParameter(
            "--suggest needs a trained model; --from scratch has none.", ctx=ctx
        )
    from cellunet.tasks.suggest.request import Hooks, SuggestRequest
    from cellunet.tasks.suggest.suggest import suggest as run

    chosen: dict[str, Any] = given(
        crops=values["crops"],
        side_px=values["crop"],
        annotations=values["annotations"],
    )
    session = Session.of(ctx)
    request = SuggestRequest(
        images=tuple(values["suggest"]),
        out=Path(values["out"]),
        data=tuple(map(Path, values["data"] or ())),
        model=model,
        config=SuggestConfig(**chosen),
        **_same(values),
    )
    hooks = Hooks(on_note=session.console.line, track=session.console.track)
    suggested = run(request, hooks)
    summarize(session, suggested, request.data)
    return Outcome(
        code=BUG if suggested.bugs else INPUTS_FAILED if suggested.failures else 0,
        result=suggested.to_dict(),
        failure=_failure(suggested),
    )


def _same(values: dict[str, Any]) -> dict[str, Any]:
    """Return the options that the request has under the same names."""
    names = ("channel", "gray", "ignore_value", "device", "threads", "overwrite")
    return {name: values[name] for name in names}


def summarize(session: Session, suggested: Suggested, data: tuple[Path, ...]) -> None:
    """Tell which crops were chosen, why, and what to do with them."""
    report = session.report
    rows = [
        (f"{c.name}.tif", f"{c.uncertainty:.2f}", f"{c.novelty:.2f}", c.why)
        for c in suggested.crops
    ]
    report.table([("crop", "uncertainty", "novelty", "why"), *rows], left=(0, 3))
    report.line(
        f"{counted(len(suggested.crops), 'crop')} of "
        f"{counted(suggested.images, 'image')}, with labels of model "
        f"{suggested.model}: {suggested.out}",
        "bold",
    )
    folders = [*map(str, data), str(suggested.out)]
    if suggested.channels:
        folders += ["--channel", ",".join(suggested.channels)]
    again = shell_line(["cellunet", "train", *folders])
    drawn = suggested.out / suggested.annotations
    report.line(f"Correct what is in {drawn}, then: {again}")
    for name, message in suggested.failures:
        session.console.alert(f"  {name}: {message}", "red")


def _failure(suggested: Suggested) -> Failure | None:
    if not suggested.failures:
        return None
    name, message = suggested.failures[0]
    count = len(suggested.failures) + suggested.images
    return Failure.of_inputs(
        bugs=suggested.bugs,
        message=f"{len(suggested.failures)} of {count} images could not be looked at; "
        f"the first: {name}: {message}",
        hint="The crops are of the others.",
    )
