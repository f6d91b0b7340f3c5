"""``cellunet make-labels``: options to a configuration, one call, a summary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellunet.bugs import REPORT
from cellunet.cli import options as o
from cellunet.cli import options as t
from cellunet.cli.console import counted
from cellunet.cli.session import BUG, INPUTS_FAILED, Failure, Outcome, Session
from cellunet.config import ANNOTATION_KIND, PRESETS, TARGET, for_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellunet.cli.console import Console
    from cellunet.tasks.check_labels import Checked, CheckedImage
    from cellunet.tasks.make_labels import MadeLabels

NEEDS_PERSON = 4

MAX_ROWS = 20


def report_check(console: Console, checked: Checked) -> Outcome:
    """Print what was found and return it, with exit code 4 if a person should look."""
    flagged = [image for image in checked.images if image.needs_person]
    for image in flagged[:MAX_ROWS]:
        console.line(_line(image), "red")
    if len(flagged) > MAX_ROWS:
        console.line(f"and {counted(len(flagged) - MAX_ROWS, 'image')} more", "red")
    for kind, count in checked.counts.items():
        console.line(f"{kind}: {counted(count, 'image')}")
    objects = sum(image.objects for image in checked.images)
    console.line(
        f"{counted(objects, 'object')} in {counted(len(checked.images), 'image')} "
        f"({checked.layout}); {_sizes(checked)}",
        "bold",
    )
    for note in (*_of_parts(checked), *checked.notes):
        console.line(note)
    sheets = ", ".join(str(path) for path in checked.sheets[:3])
    more = ", ..." if len(checked.sheets) > 3 else ""
    console.line(f"Look at {sheets or 'nothing'}{more} and {checked.report}")
    if not flagged:
        return Outcome(result=checked.to_dict())
    failure = _failure(checked, flagged)
    met_bug = checked.counts.get("bug", 0) > 0
    if met_bug:
        failure = replace(failure, type="Bug", hint=REPORT)
    return Outcome(
        code=BUG if met_bug else NEEDS_PERSON,
        result=checked.to_dict(),
        failure=failure,
    )


def _line(image: CheckedImage) -> str:
    told = " ".join(f.message for f in image.findings if f.needs_person)
    return f"{image.name}: {told}"


def _of_parts(checked: Checked) -> Iterator[str]:
    """Yield how much of the images counts, where that is not all."""
    shares = [i.annotated_share for i in checked.images if 0 < i.annotated_share < 1]
    if shares:
        mean = sum(shares) / len(shares)
        yield (
            f"{counted(len(shares), 'image')} annotated in part (on average "
            f"{f'{mean:.0%}' if mean > 0.01 else 'less than 1%'}); the rest is dark on "
            "the sheets."
        )
    said = [i.scribbled_px for i in checked.images if any(i.scribbled_px)]
    if said:
        background, inside = map(sum, zip(*said, strict=True))
        yield (
            f"{counted(len(said), 'image')} with scribbles: {background:,} px of "
            f"background (white on the sheets), {inside:,} px inside objects (blue)."
        )


def _sizes(checked: Checked) -> str:
    if not checked.areas_px:
        return "no areas."
    low, middle, high = (checked.areas_px[p] for p in ("5", "50", "95"))
    return f"area {low:,.0f} to {high:,.0f} px (90 %), median {middle:,.0f}."


def _failure(checked: Checked, flagged: list[CheckedImage]) -> Failure:
    return Failure(
        type="NeedsPerson",
        message=f"{len(flagged)} of {counted(len(checked.images), 'annotation')} need "
        f"a person to look; the first: {_line(flagged[0])}",
        hint=f"Look at the contact sheets in {checked.out}, and correct what is wrong.",
    )


OF_WEIGHTS = ("class_weights", "border_weight", "border_sigma")
"""Parameters that mean something with --weight-map alone."""

OF_LABELS = (
    *(
        "target",
        "boundary_px",
        "boundary_side",
        "weight_map",
        "through_centers",
        "allow_empty",
    ),
    *OF_WEIGHTS,
)
"""Parameters of what is made, which --check does not make."""


def make_labels(
    ctx: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Annotations, with or without their images."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder for labels, classes, weights and previews, one folder each.",
        ),
    ],
    kind: Annotated[
        str,
        typer.Option(
            show_default=False,
            metavar="NAME",
            help=o.help_with_default(
                "How the annotations were drawn; auto decides for each file by its "
                f"pixels. Others: {', '.join(o.KINDS[1:])}.",
                ANNOTATION_KIND,
            ),
        ),
    ] = ANNOTATION_KIND,
    ignore_value: o.IgnoreValue = None,
    through_centers: Annotated[
        bool,
        typer.Option(
            "--through-centers",
            metavar="",
            help="Outlines that go from pixel to pixel run through the centers of the "
            "outermost pixels, which are inside (Cellpose's outlines, "
            "cv2.findContours). Default: no, a pixel is inside if its center is.",
        ),
    ] = False,
    allow_empty: Annotated[
        bool,
        typer.Option(
            "--allow-empty",
            metavar="",
            help="Take a COCO file that lists images and not one object. Default: no, "
            "it is a fault of the export.",
        ),
    ] = False,
    target: t.TargetOption = None,
    boundary_px: t.BoundaryPx = None,
    boundary_side: t.BoundarySide = None,
    weight_map: Annotated[
        bool,
        typer.Option(
            "--weight-map",
            metavar="",
            rich_help_panel=o.TARGET_PANEL,
            help="Also write the weight of each pixel in the loss. Default: no.",
        ),
    ] = False,
    class_weights: t.ClassWeights = None,
    border_weight: t.BorderWeight = None,
    border_sigma: t.BorderSigma = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            metavar="",
            rich_help_panel=o.RESULTS,
            help="Make nothing, but look for what is wrong: a report and contact "
            "sheets in --out; exit code 4 if a person should look. Default: no.",
        ),
    ] = False,
    val: Annotated[
        Path | None,
        typer.Option(
            "--val",
            metavar="DIR",
            rich_help_panel=o.IMAGES,
            help="With --check: annotated folder of validation images, which may hold "
            "no image of SOURCE. Default: none.",
        ),
    ] = None,
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
    log_level: o.LogLevel = None,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> Outcome:
    """Decode annotations to instance labels, class maps, weight maps and previews.

    Understands label images (napari, Cellpose), BBBC039's coloured PNG, binary masks,
    drawings of outlines, a folder per image with one image per object (DSB2018), ROI
    sets of Fiji, GeoJSON of QuPath, COCO and labelme JSON.
    """
    session = Session.of(ctx)
    if check:
        o.refuse_given(ctx, OF_LABELS, "does not go with --check")
        return _check(session, source, out, val, kind, ignore_value)
    if val is not None:
        raise typer.BadParameter("--val goes with --check.")
    if not weight_map:
        o.refuse_given(ctx, OF_WEIGHTS, "goes with --weight-map")
    from cellunet.tasks.make_labels import make_labels as run

    config = for_target(PRESETS["default"](), target or TARGET)
    changes = t.weight_changes(class_weights, border_weight, border_sigma)
    encoding = config.encoding.replace(
        **o.given(boundary_px=boundary_px, boundary_side=boundary_side)
    )
    made = run(
        source,
        out,
        encoding=encoding,
        weights=config.weights.replace(**changes) if weight_map else None,
        kind=kind,
        ignore_value=ignore_value,
        through_centers=through_centers,
        allow_empty=allow_empty,
        overwrite=overwrite,
        track=session.console.track,
    )
    summarize(session, made)
    return Outcome(
        code=BUG if made.bugs else INPUTS_FAILED if made.failures else 0,
        result=made.to_dict(),
        failure=_make_labels_failure(made),
    )


def _check(
    session: Session,
    source: Path,
    out: Path,
    val: Path | None,
    kind: str,
    ignore_value: int | None,
) -> Outcome:
    from cellunet.tasks.check_labels import check_labels as run

    checked = run(
        source,
        out,
        validation=val,
        kind=kind,
        ignore_value=ignore_value,
        track=session.console.track,
    )
    return report_check(session.report, checked)


def summarize(session: Session, made: MadeLabels) -> None:
    """Tell what was found in each annotation, and what could not be decoded."""
    report = session.report
    rows = [
        (
            image.name,
            f"{image.objects:,}",
            "" if image.median_area_px is None else f"{image.median_area_px:,.0f} px",
            f"{image.height_px:,} x {image.width_px:,}",
            image.kind,
        )
        for image in made.images[:MAX_ROWS]
    ]
    if rows:
        header = ("annotation", "objects", "median area", "pixels", "drawn as")
        report.table([header, *rows], left=(0, 4))
    if len(made.images) > MAX_ROWS:
        report.line(f"and {len(made.images) - MAX_ROWS:,} more")
    objects = sum(image.objects for image in made.images)
    report.line(
        f"{counted(objects, 'object')} in {counted(len(made.images), 'annotation')} "
        f"({made.layout}): "
        f"{made.out}",
        "bold",
    )
    for note in (*made.notes, *_of_drawings(made)):
        report.line(note)
    if made.failures:
        session.console.alert(f"{len(made.failures):,} failed:", "red")
        for name, message in made.failures:
            session.console.alert(f"  {name}: {message}", "red")


def _of_drawings(made: MadeLabels) -> list[str]:
    """Return what to know about overlaps and single drawings."""
    notes = []
    overlap = sum(image.overlap_px for image in made.images)
    hidden = sum(image.hidden for image in made.images)
    if overlap:
        notes.append(
            f"{overlap:,} px were claimed by several objects; the smallest got them."
        )
    if hidden:
        notes.append(f"{counted(hidden, 'object')} without a pixel of their own.")
    parts = [image for image in made.images if image.annotated_share < 1]
    if parts:
        notes.append(
            f"{counted(len(parts), 'image')} annotated in part: {made.out}/annotated"
        )
    if scribbled := sum(any(image.scribbled_px) for image in made.images):
        notes.append(
            f"{counted(scribbled, 'image')} with scribbles: {made.out}/scribbles"
        )
    told = [f"{image.name}: {note}" for image in made.images for note in image.notes]
    return [*notes, *told[:MAX_ROWS]]


def _make_labels_failure(made: MadeLabels) -> Failure | None:
    if not made.failures:
        return None
    name, message = made.failures[0]
    count = len(made.failures) + len(made.images)
    return Failure.of_inputs(
        bugs=made.bugs,
        message=f"{len(made.failures)} of {count} annotations failed; the first: "
        f"{name}: {message}",
        hint="The others are finished. Repair these, then run the command again "
        "with --overwrite.",
    )
