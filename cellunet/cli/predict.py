"""``cellunet predict`` and ``join``: options to a configuration, a call, a summary."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellunet.cli import options
from cellunet.cli.console import counted, disk_size, duration
from cellunet.cli.options import Options, option
from cellunet.cli.session import (
    Failure,
    Outcome,
    Session,
    importing,
    share_heap,
    stopped,
)
from cellunet.command_config import MODEL, ComputeConfig, PredictConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellunet.tasks.predict.inputs import ImageResult, Predictions

MAX_ROWS = 20

MAX_NAMED = 10

MAX_NAMED_TOGETHER = 2


def predict(
    ctx: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUTS",
            help="Images, folders of images, glob patterns, or - for a list of paths "
            "on standard input.",
        ),
    ],
    out: Annotated[
        Path, options.out("Folder for the label images, one STEM.tif per input.")
    ],
    model: options.Model = MODEL,
    *,
    like: Annotated[
        Path | None,
        option(
            "--like",
            "LABEL.tif",
            "Repeat the run that made this label image: its model, engine and "
            "settings; options that you give take precedence. Default: none.",
        ),
    ] = None,
    config: Annotated[dict[str, Any], Options(PredictConfig)],
    dry_run: Annotated[
        bool,
        option(
            "--dry-run",
            "",
            "Check everything, show what would be done, and estimate time and disk: "
            "the first images are segmented into nothing, for a few seconds. Default: "
            "no.",
            "Results",
        ),
    ] = False,
    computing: Annotated[dict[str, Any], Options(ComputeConfig)],
) -> Outcome:
    """Segment images: one label image per input.

    Finished results of the same model and settings are skipped, so that the same
    command continues what was stopped. Outlines and ROIs that --save asks for later
    are made of the labels that are there; other files are computed anew.
    """
    share_heap()
    with importing():
        from cellunet.tasks.predict.batch import predict as run

    session = Session.of(ctx)
    earlier = None
    if like is not None:
        from cellunet.tasks.predict.like import earlier_run

        own = "model" in options.given_words(ctx)
        earlier = earlier_run(like, model if own else None)
        model, computing = earlier.model, earlier.computing | computing
    asked = earlier.config(config) if earlier else PredictConfig().changed(config)
    again = f"Continue with: {session.command()}"
    if asked.overwrite:
        keeping = session.command(without=("--overwrite",))
        if keeping == session.command():
            keeping = "leave overwrite out of the --config file"
        again = (
            "With --overwrite it would begin anew. To keep what is finished, and the "
            f"older results of other settings: {keeping}"
        )
    should_stop = session.can_stop(f"Finished images are kept. {again}")
    found = run(
        inputs,
        out,
        model=model,
        config=asked,
        **ComputeConfig().changed(computing).to_dict(),
        dry_run=dry_run,
        # What an earlier run was told of plates and samples is not repeated.
        keep_columns=earlier is not None and not (asked.plate_pattern or asked.samples),
        stdin=sys.stdin if "-" in inputs else None,
        track=session.console.track,
        should_stop=should_stop,
    )
    if earlier is not None:
        found = replace(found, notes=(*found.notes, *earlier.differences(found.engine)))
    summarize(session, found, out, asked.into_source)
    if found.stopped:
        finished = len(found.done) + len(found.skipped)
        return stopped(
            session,
            f"{counted(finished, 'image')} finished.",
            again,
            **found.to_dict(),
        )
    return Outcome.of_batch(found.to_dict(), _failure(found))


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
    return Outcome.of_batch(found.to_dict(), _failure(found))


def summarize(
    session: Session, found: Predictions, out: Path, into: str | None = None
) -> None:
    """Tell the nuclei per image, what it took, where results are, and what failed."""
    from cellunet.tasks.predict.inputs import common_folder

    console, report = session.console, session.report
    there = [i for i in found.images if i.status != "failed"]
    # What is new comes first, and alone where there is more than fits.
    new = [i for i in there if i.status != "skipped" or i.added]
    shown = there if len(there) <= MAX_ROWS or not new else new
    base = common_folder(shown)
    rows: list[tuple[str, ...]] = [_row(image, base) for image in shown[:MAX_ROWS]]
    if rows:
        heads: tuple[str, ...] = ("image", "nuclei", "time", "size", "pixel size", "")
        if not any(row[3] for row in rows):
            # Nobody looked how large the objects are.
            rows, heads = [(*r[:3], *r[4:]) for r in rows], (*heads[:3], *heads[4:])
        report.table([heads, *rows], left=(0, *range(3, len(heads))))
    if len(shown) > MAX_ROWS:
        report.line(f"and {len(shown) - MAX_ROWS:,} more")
    report.line(_totals(found), "bold")
    for line in _estimated(found):
        report.line(line)
    written = {
        "Label images": (f"labels/{into} in each image" if into else out)
        if found.done or found.skipped
        else None,
        "Table of all objects": found.table,
        "COCO file of all objects": found.coco,
        "Report": found.report,
    }
    report.files(written)
    for text, names in _notes(found).items():
        session.note(f"note: {', '.join(names)}: {text}" if names else f"note: {text}")
    of_images = [(_named(i, i.input), w) for i in found.images for w in i.warnings]
    named = [f"{name}: {text}" for name, text in _some(of_images)]
    for text in (*found.warnings, *named):
        console.alert(f"warning: {text}", "yellow")
    if found.failed:
        console.alert(f"{len(found.failed):,} failed:", "red")
        for line in _failures(found.failed):
            console.alert(f"  {line}", "red")


def _notes(found: Predictions) -> dict[str, list[str]]:
    """Return each note once, with the names of its images, or their number."""
    notes: dict[str, list[str]] = {text: [] for text in found.notes}
    for image in found.images:
        for text in image.notes:
            notes.setdefault(text, []).append(Path(image.input).name)
    for text, names in notes.items():
        if len(names) > MAX_NAMED_TOGETHER:
            notes[text] = [f"{counted(len(names), 'image')}, the first {names[0]}"]
    return notes


def _failures(failed: Sequence[ImageResult]) -> list[str]:
    """Return why images failed; what many failed by is told of the first of them."""
    alike: dict[str, list[ImageResult]] = {}
    for image in failed:
        alike.setdefault(_without_name(image), []).append(image)
    lines = []
    for images in alike.values():
        told = [_told(image) for image in images]
        if len(images) > MAX_NAMED_TOGETHER:
            told = [
                f"{counted(len(images), 'image')} by the same; the first: {told[0]}"
            ]
        lines += told
    return lines


def _without_name(image: ImageResult) -> str:
    """Return why an image failed, without its own name or that of its results."""
    from cellunet.io.paths import output_stem

    path = Path(image.input)
    text = image.message.replace(image.input, "*").replace(path.name, "*")
    stem = re.escape(output_stem(path))
    return re.sub(rf"\S*(?<!\w){stem}[._]\w\S*", "*", text)


def _told(image: ImageResult) -> str:
    """Return why an image failed, with its name."""
    named = Path(image.input).name in image.message
    if named and not image.image:
        return image.message
    return f"{_named(image, image.input)}: {image.message}"


def _named(image: ImageResult, name: str) -> str:
    """Return the name of a file, with the image in it if it holds several."""
    return f"{name} ({image.image})" if image.image else name


def _row(image: ImageResult, base: str) -> tuple[str, ...]:
    from cellunet.tasks.predict.inputs import name_below, said, said_of_parts

    known = image.objects is not None
    added = f", {' and '.join(image.added)} added" if image.added else ""
    told = {
        "skipped": f"finished before{added}",
        "planned": f"would write {image.output}",
    }
    name = name_below(image.input, base)
    parts = said_of_parts(image.skipped_share, image.within)
    return (
        _named(image, name),
        f"{image.objects:,}" if known else "",
        duration(image.seconds) if image.status == "done" else "",
        said(image.size),
        _pixel_size(image),
        ", ".join(filter(None, (told.get(image.status, ""), image.pages, parts))),
    )


def _pixel_size(image: ImageResult) -> str:
    """Return the size of a pixel and where it stands, as far as they are known."""
    if image.pixel_size_um is None:
        return ""
    y, x = image.pixel_size_um
    size = f"{x:.4g}" if math.isclose(x, y, rel_tol=1e-4) else f"{x:.4g} x {y:.4g}"
    return f"{size} µm ({image.pixel_size_from})"


def _totals(found: Predictions) -> str:
    planned = sum(image.status == "planned" for image in found.images)
    undone = all(image.status in ("planned", "failed") for image in found.images)
    if undone and (planned or not found.stopped):
        if found.failed and not planned:
            return "No image could be segmented."
        return f"{counted(planned, 'image')} to segment; nothing was written."
    if found.skipped and not found.done:
        before = counted(len(found.skipped), "image")
        kinds = dict.fromkeys(kind for i in found.skipped for kind in i.added)
        if not kinds:
            return f"{before} finished before, nothing new."
        count = sum(bool(i.added) for i in found.skipped)
        return (
            f"{before} finished before; {' and '.join(kinds)} added to {count:,} from "
            "the labels that were there."
        )
    objects = sum(i.objects or 0 for i in found.images)
    told = f"{objects:,} nuclei in {counted(len(found.done), 'image')}"
    if found.skipped:
        told += f" ({len(found.skipped):,} more finished before)"
    pixels = sum(math.prod(i.shape) for i in found.done if i.shape)
    speed = f", {pixels / found.seconds / 1e6:.2f} Mpx/s" if found.seconds > 0 else ""
    name = found.model.get("name", "")
    return f"{told}; {duration(found.seconds)}{speed}; {found.engine}, model {name}."


def _estimated(found: Predictions) -> tuple[str, ...]:
    """Return what a dry run says of time and disk."""
    about, planned = found.estimate, sum(i.status == "planned" for i in found.images)
    if about is None:
        from cellunet.tasks.predict.estimate import MOST_PX

        why = f"they fail, or have more than {MOST_PX // 10**6} Mpx"
        told = f"No estimate of time and disk: no image could be measured; {why}."
        return (told,) * bool(planned)
    kinds = ", ".join(f"{kind} {disk_size(n)}" for kind, n in about.bytes.items())
    return (
        f"Estimate: about {duration(about.seconds)} and {disk_size(about.total_bytes)} "
        f"({kinds}); {disk_size(about.free_bytes)} free. It is that of "
        f"{counted(about.measured, 'image')}, segmented now and thrown away.",
    )


def _some(named: list[tuple[str, str]]) -> list[tuple[str, str]]:
    rest = len(named) - MAX_NAMED
    more = [("...", f"and {rest:,} more warnings")] if rest > 0 else []
    return named[:MAX_NAMED] + more


def _failure(found: Predictions) -> Failure | None:
    if not found.failed and not found.damaged:
        return None
    if not found.failed:
        count = f"{len(found.damaged):,} of {counted(len(found.images), 'image')}"
        return Failure.of_damaged(count, found.damaged[0].input)
    count = f"{len(found.failed):,} of {counted(len(found.images), 'image')}"
    return Failure.of_inputs(
        bugs=found.bugs,
        message=f"{count} failed; the first: {_told(found.failed[0])}",
        hint="The others are finished. Repair these, then run the same command again.",
    )
