"""``cellunet suggest``: options to a request, one call, one summary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellunet.cli import options
from cellunet.cli.console import counted
from cellunet.cli.options import option, option_of
from cellunet.cli.session import (
    Failure,
    Outcome,
    Session,
    shell_line,
)
from cellunet.command_config import MODEL, AnnotationConfig, SuggestConfig

if TYPE_CHECKING:
    from cellunet.tasks.suggest.request import Suggested, SuggestRequest


def suggest(
    ctx: typer.Context,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES",
            help="Images or folders of images that are not annotated yet.",
        ),
    ],
    out: Annotated[Path, options.out("Folder for the crops and their labels.")],
    data: Annotated[
        list[Path] | None,
        option(
            "--data",
            "DIR",
            "Folder that is annotated already; crops are chosen to differ from it. "
            "Repeat for more. Default: none.",
        ),
    ] = None,
    model: options.Model = MODEL,
    *,
    config: SuggestConfig,
    channel: options.Channel,
    annotations: AnnotationConfig,
    overwrite: options.Overwrite,
    computing: options.Computing,
) -> Outcome:
    """Choose crops of images to annotate next, with labels to correct.

    They are of what the model is least sure of and what the annotated images do not
    show yet. The labels are the model's; correct them, then train on the folder.
    """
    from cellunet.tasks.suggest.request import SuggestRequest
    from cellunet.tasks.suggest.suggest import suggest as run

    session = Session.of(ctx)
    request = SuggestRequest(
        images=tuple(images),
        out=out,
        data=tuple(data or ()),
        model=model,
        config=config,
        annotations=annotations,
        **(channel | overwrite | computing),
    )
    suggested = run(request, track=session.console.track)
    for note in suggested.notes:
        session.console.line(note)
    summarize(session, suggested, request)
    return Outcome.of_batch(suggested.to_dict(), _failure(suggested))


def summarize(session: Session, suggested: Suggested, request: SuggestRequest) -> None:
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
    again = shell_line(["cellunet", "train", *_training_words(suggested, request)])
    drawn = suggested.out / suggested.annotations
    report.line(f"Correct what is in {drawn}, then: {again}")
    kind = request.annotations.kind
    if request.data and kind not in ("auto", request.config.annotations):
        report.line(
            f"It reads all folders alike, and the crops are not drawn as {kind}: make "
            f"label images of the others first (cellunet make-labels --kind {kind})."
        )
    for name, message in suggested.failures:
        session.console.alert(f"  {name}: {message}", "red")


def _training_words(suggested: Suggested, request: SuggestRequest) -> list[str]:
    """Return the folders to train on, with the options that they are read with.

    Crops alone need but the names of several channels.
    """
    words = [*map(str, request.data), str(suggested.out)]
    channel = ",".join(suggested.channels) or (request.data and request.channel)
    if channel:
        words += ["--channel", channel]
    if not request.data:
        return words
    words += ["--gray"] if request.gray else []
    words += ["--pages", request.pages] if request.pages else []
    for field in AnnotationConfig.fields():
        value = getattr(request.annotations, field.name)
        drawn = field.name != "kind" or value == request.config.annotations
        if value != field.default and drawn:
            words.append(option_of(field))
            words += [] if value is True else [str(value)]
    return words


def _failure(suggested: Suggested) -> Failure | None:
    if not suggested.failures:
        return None
    name, message = suggested.failures[0]
    count = len(suggested.failures) + suggested.images
    return Failure.of_inputs(
        bugs=suggested.bugs,
        message=f"{len(suggested.failures)} of {count} images could not be looked at; "
        f"the first: {name}: {message}",
        hint="The crops are from the others.",
    )
