"""``cellunet measure``: label images and images in, tables and outlines out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellunet.cli import options as o
from cellunet.cli.console import counted
from cellunet.cli.session import BUG, INPUTS_FAILED, Failure, Outcome, Session
from cellunet.config import PredictConfig

if TYPE_CHECKING:
    from cellunet.tasks.measure import Measured

MAX_ROWS = 20


def measure(
    ctx: typer.Context,
    labels: Annotated[
        str,
        typer.Argument(
            metavar="LABELS", help="A label image, a folder of them, or a pattern."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Folder for tables and outlines."
        ),
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES",
            help="Images, folders or patterns, those of each label image found by "
            "name; one file per channel or one of several. Without, shapes alone are "
            "measured.",
        ),
    ] = None,
    gray: o.Gray = False,
    z: Annotated[
        o.ZMode,
        typer.Option(
            show_default=False,
            metavar="keep|max",
            rich_help_panel=o.IMAGES,
            help=o.help_with_default(
                "Z planes: keep measures each by itself, max their maximum projection.",
                PredictConfig.z,
            ),
        ),
    ] = PredictConfig.z,
    level: o.Level = PredictConfig.level,
    keep_going: o.KeepGoing = False,
    link_planes: Annotated[
        bool,
        typer.Option(
            "--link-planes",
            metavar="",
            rich_help_panel=o.OBJECTS,
            help="One number in several Z planes is one object: one row in the table, "
            "a volume. Default: no.",
        ),
    ] = False,
    save: Annotated[
        list[o.SavedMeasurements] | None,
        typer.Option(
            metavar="WHAT",
            rich_help_panel=o.RESULTS,
            help="What to write: the table, rois (for Fiji), geojson (for QuPath); "
            "repeat for more. Default: the table.",
        ),
    ] = None,
    table_format: o.FormatOfTables = PredictConfig.table_format,
    measured: o.Measure = PredictConfig.measure,
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
    log_level: o.LogLevel = None,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> Outcome:
    """Measure the objects of label images, of whatever origin.

    The same table, ROI sets and GeoJSON as predict writes, of labels that were
    corrected by hand or made by another program, and of other images than those that
    were segmented.
    """
    from cellunet.tasks.measure import measure as run

    session = Session.of(ctx)
    config = PredictConfig(
        gray=gray,
        z=z,
        level=level,
        keep_going=keep_going,
        link_planes=link_planes,
        save=tuple(dict.fromkeys(s.value for s in save or ())) or ("table",),
        table_format=table_format,
        measure=measured,
        overwrite=overwrite,
    )
    found = run(labels, images or (), out, config=config, track=session.console.track)
    summarize(session, found, out)
    some_failed = INPUTS_FAILED if found.failed else 0
    return Outcome(
        code=BUG if found.bugs else some_failed,
        result=found.to_dict(),
        failure=_failure(found),
    )


def summarize(session: Session, found: Measured, out: Path) -> None:
    """Tell the objects and images of each label image, and what failed."""
    console, report = session.console, session.report
    done = [image for image in found.images if image.objects is not None]
    rows = [
        (
            Path(image.labels).name,
            f"{image.objects:,}",
            ", ".join(Path(path).name for path in image.images) or "none",
        )
        for image in done[:MAX_ROWS]
    ]
    if rows:
        report.table([("labels", "objects", "measured on"), *rows], left=(0, 2))
    if len(done) > MAX_ROWS:
        report.line(f"and {len(done) - MAX_ROWS:,} more")
    objects = sum(image.objects or 0 for image in done)
    report.line(
        f"{counted(objects, 'object')} in {counted(len(done), 'label image')}: {out}",
        "bold",
    )
    if found.table:
        report.line(f"Table of all objects: {found.table}")
    for image in done[:MAX_ROWS]:
        for note in image.notes:
            report.line(f"note: {Path(image.labels).name}: {note}")
    for note in found.notes:
        report.line(f"note: {note}")
    if found.failed:
        console.alert(f"{len(found.failed):,} failed:", "red")
        for image in found.failed:
            console.alert(f"  {image.labels}: {image.message}", "red")


def _failure(found: Measured) -> Failure | None:
    if not found.failed:
        return None
    first = found.failed[0]
    count = f"{len(found.failed):,} of {counted(len(found.images), 'label image')}"
    return Failure.of_inputs(
        bugs=found.bugs,
        message=f"{count} failed; the first: {first.labels}: {first.message}",
        hint="The others are finished. Repair these, then measure them alone.",
    )
