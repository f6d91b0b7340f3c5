"""``cellunet join``: the parts of a batch in, one table and one report out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellunet.cli.predict import outcome_of, summarize
from cellunet.cli.session import Outcome, Session


def join(
    ctx: typer.Context,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of the results: --out of predict --part I/N."
        ),
    ],
) -> Outcome:
    """Make one table and one report of the parts of a batch.

    Once all parts of predict --part I/N are finished, this writes what they were asked
    to --save of the whole batch: table, COCO file, report. It needs neither the
    images nor the model. Parts that are missing or were stopped are named.
    """
    from cellunet.tasks.predict.parts import join as run

    found = run(folder)
    # Labels that went into their images are not in the folder.
    outputs = [Path(image.output) for image in found.images if image.output]
    into = [path.name for path in outputs if not path.is_relative_to(folder)]
    summarize(Session.of(ctx), found, folder, into[0] if into else None)
    return outcome_of(found)
