"""``cellunet make-labels`` and ``check``: options, one call, a summary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellunet.bugs import REPORT
from cellunet.cli import options
from cellunet.cli.console import counted
from cellunet.cli.options import Options, option
from cellunet.cli.session import BUG, Failure, Outcome, Session
from cellunet.command_config import (
    AnnotationConfig,
    CheckConfig,
    ComputeConfig,
    PredictConfig,
)
from cellunet.config import TrainConfig
from cellunet.config_file import Settings
from cellunet.errors import some
from cellunet.presets import configure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellunet.cli.console import Console
    from cellunet.tasks.check_labels import CheckedImage, CheckedLabels
    from cellunet.tasks.make_labels import MadeLabels

NEEDS_PERSON = 4

MAX_ROWS = 20


def report_check(console: Console, checked: CheckedLabels) -> Outcome:
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


def _of_parts(checked: CheckedLabels) -> Iterator[str]:
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


def _sizes(checked: CheckedLabels) -> str:
    if not checked.areas_px:
        return "no areas."
    low, middle, high = (checked.areas_px[p] for p in ("5", "50", "95"))
    return f"area {low:,.0f} to {high:,.0f} px (90 %), median {middle:,.0f}."


def _failure(checked: CheckedLabels, flagged: list[CheckedImage]) -> Failure:
    return Failure(
        type="NeedsPerson",
        message=f"{len(flagged)} of {counted(len(checked.images), 'annotation')} need "
        f"a person to look; the first: {_line(flagged[0])}",
        hint=f"Look at the contact sheets in {checked.out}, and correct what is wrong.",
    )


Source = Annotated[
    Path,
    typer.Argument(metavar="SOURCE", help="Annotations, with or without their images."),
]


def check(
    ctx: typer.Context,
    source: Source,
    out: Annotated[Path, options.out("Folder for the report and contact sheets.")],
    *,
    annotations: AnnotationConfig,
    channel: options.Channel,
    config: CheckConfig,
    val: Annotated[
        Path | None,
        option(
            "--val",
            "DIR",
            "Annotated folder of validation images, none of them in SOURCE. Default: "
            "none.",
            "Images",
        ),
    ] = None,
) -> Outcome:
    """Look for what is wrong with annotations: a report and contact sheets.

    Fragments, objects that touch or are drawn as one, labels that are shifted or of
    another image, images that are there twice. Exit code 4 if a person should look.
    """
    from cellunet.tasks.check_labels import check_labels as run

    session = Session.of(ctx)
    track = session.console.track
    checked = run(
        source,
        out,
        validation=val,
        annotations=annotations,
        config=config,
        track=track,
        **channel,
    )
    return report_check(session.report, checked)


def make_labels(
    ctx: typer.Context,
    source: Source,
    out: Annotated[
        Path,
        options.out(
            "Folder for labels, classes, weights and previews, one folder each."
        ),
    ],
    *,
    settings: Settings,
    annotations: AnnotationConfig,
    allow_empty: Annotated[
        bool,
        option(
            "--allow-empty",
            "",
            "Accept a COCO file that lists images but no object. Default: no, such an "
            "export is usually faulty.",
            "Images",
        ),
    ] = False,
    weight_map: Annotated[
        bool,
        option(
            "--weight-map",
            "",
            "Also write the weight of each pixel in the loss. Default: no.",
            "Results",
        ),
    ] = False,
    reading: Annotated[dict[str, Any], Options(PredictConfig, "pages")],
    overwrite: options.Overwrite,
    computing: Annotated[dict[str, Any], Options(ComputeConfig, "threads")],
) -> Outcome:
    """Decode annotations to instance labels, class maps, weight maps and previews.

    Understands label images (napari, Cellpose), BBBC039's colored PNG, binary masks,
    drawings of outlines, a folder per image with one image per object (DSB2018), ROI
    sets of Fiji, GeoJSON of QuPath, JSON of COCO, labelme and VGG Image Annotator,
    shapes of napari. Classes and weights are as the encoding and the weights of
    --config say.
    """
    from cellunet.tasks.make_labels import make_labels as run

    session = Session.of(ctx)
    config = configure(settings.get(TrainConfig, {}))
    made = run(
        source,
        out,
        encoding=config.encoding,
        weights=config.weights if weight_map else None,
        annotations=annotations,
        allow_empty=allow_empty,
        track=session.console.track,
        **(reading | overwrite | computing),
    )
    summarize(session, made)
    return Outcome.of_batch(made.to_dict(), _make_labels_failure(made))


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
        session.note(note)
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
    told: dict[str, list[str]] = {}
    for image in made.images:
        for note in image.notes:
            told.setdefault(note, []).append(image.name)
    lines = [f"{some(names)}: {note}" for note, names in told.items()]
    return [*notes, *lines[:MAX_ROWS]]


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
