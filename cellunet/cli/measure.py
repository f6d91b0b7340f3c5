"""``cellunet measure``: label images and images in, tables and outlines out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellunet.cli.console import counted
from cellunet.cli.options import Options, option
from cellunet.cli.session import Failure, Outcome, Session
from cellunet.command_config import PredictConfig

if TYPE_CHECKING:
    from cellunet.tasks.measure import Measured

MAX_ROWS = 20

MEASURED = Options(
    PredictConfig,
    "gray",
    "z",
    "pages",
    "level",
    "image",
    "keep_going",
    "plate_pattern",
    "samples",
    "link_planes",
    "table_format",
    "measure",
    "overwrite",
)


class MeasuredFiles(StrEnum):
    """What of `PredictConfig.save` holds measurements and outlines."""

    ROIS = "rois"
    GEOJSON = "geojson"
    COCO = "coco"
    TABLE = "table"
    REPORT = "report"


def measure(
    ctx: typer.Context,
    labels: Annotated[
        str,
        typer.Argument(
            metavar="LABELS", help="A label image, a folder of them, or a pattern."
        ),
    ],
    out: Annotated[Path, option("--out -o", "DIR", "Folder for tables and outlines.")],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES",
            help="Images, folders or patterns, those of each label image found by "
            "name; one file per channel or one of several. Without, shapes alone are "
            "measured.",
        ),
    ] = None,
    *,
    save: Annotated[
        list[MeasuredFiles] | None,
        option(
            "--save",
            "WHAT",
            "What to write: the table, rois (for Fiji), geojson (for QuPath), coco "
            "(masks as JSON), or one report (HTML) of all; repeat for more. Default: "
            "the table.",
            "Results",
        ),
    ] = None,
    given: Annotated[dict[str, Any], MEASURED],
) -> Outcome:
    """Measure the objects of label images, of whatever origin.

    The same table, ROI sets, GeoJSON, COCO file and report as predict writes, of labels
    that were corrected by hand or made by another program, and of other images than
    those that were segmented. Label images whose results are all there are skipped, so
    that the same command goes on.
    """
    from cellunet.tasks.measure import measure as run

    session = Session.of(ctx)
    kinds: tuple[Any, ...] = tuple(dict.fromkeys(s.value for s in save or ())) or (
        "table",
    )
    config = PredictConfig(save=kinds, **given)
    found = run(labels, images or (), out, config=config, track=session.console.track)
    summarize(session, found, out)
    return Outcome.of_batch(found.to_dict(), _failure(found))


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
        objects = sum(image.objects or 0 for image in done)
        count = f"{counted(objects, 'object')} in {counted(len(done), 'label image')}"
        more = f" ({len(done) - MAX_ROWS:,} not shown)" * (len(done) > MAX_ROWS)
        report.line(f"{count}{more}: {out}", "bold")
    written = {
        "Table of all objects": found.table,
        "COCO file of all objects": found.coco,
        "Report": found.report,
    }
    report.files(written)
    for image in done[:MAX_ROWS]:
        for note in image.notes:
            session.note(f"note: {Path(image.labels).name}: {note}")
    for note in found.notes:
        session.note(f"note: {note}")
    for image in found.damaged:
        for text in image.warnings:
            console.alert(f"warning: {image.labels}: {text}", "yellow")
    if found.failed:
        console.alert(f"{len(found.failed):,} failed:", "red")
        for image in found.failed:
            console.alert(f"  {image.labels}: {image.message}", "red")


def _failure(found: Measured) -> Failure | None:
    if not found.failed and not found.damaged:
        return None
    total = counted(len(found.images), "label image")
    if not found.failed:
        count = f"Images of {len(found.damaged):,} of {total} are"
        return Failure.of_damaged(count, found.damaged[0].labels)
    first = found.failed[0]
    count = f"{len(found.failed):,} of {total}"
    return Failure.of_inputs(
        bugs=found.bugs,
        message=f"{count} failed; the first: {first.labels}: {first.message}",
        hint="The others are finished. Repair these, and run the same line again.",
    )
