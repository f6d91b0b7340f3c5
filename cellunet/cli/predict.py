"""``cellunet predict``: options to a configuration, one call, one summary."""

from __future__ import annotations

import math
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellunet.cli import options as o
from cellunet.cli.console import counted, duration
from cellunet.cli.session import BUG, INPUTS_FAILED, Failure, Outcome, Session, stopped
from cellunet.config import DEVICE, ENGINE, MODEL, THREADS, PredictConfig
from cellunet.errors import ConfigError

if TYPE_CHECKING:
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
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder for the label images, one STEM.tif per input.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            show_default=False,
            metavar="NAME|PATH",
            help=o.help_with_default(
                "Model to use; cellunet models lists them.", MODEL
            ),
        ),
    ] = MODEL,
    channel: o.Channel = None,
    segment_channel: Annotated[
        str | None,
        typer.Option(
            "--segment-channel",
            metavar="NAME",
            rich_help_panel=o.IMAGES,
            help="Of images that are stored as a file per channel (..._w1, -ch2), "
            "segment those of this channel, by its mark or name, and measure the "
            "others under its labels. Default: every file by itself.",
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
                "Z planes: keep segments each by itself, max their maximum projection.",
                PredictConfig.z,
            ),
        ),
    ] = PredictConfig.z,
    include: Annotated[
        list[o.Included] | None,
        typer.Option(
            metavar="WHAT",
            rich_help_panel=o.IMAGES,
            help="Also segment what folders hold beside the images: thumbs and "
            "projections (or copies of planes) of a plate, labels (or pictures of "
            "results); repeat for more. Files that are named are always taken. "
            "Default: none.",
        ),
    ] = None,
    level: o.Level = PredictConfig.level,
    image: o.Image = None,
    keep_going: o.KeepGoing = False,
    scale: o.Scale = None,
    diameter: o.Diameter = None,
    pixel_size: o.PixelSize = None,
    min_area: o.MinArea = None,
    seed_threshold: o.SeedThreshold = None,
    flips: o.Flips = False,
    exclude_border: Annotated[
        bool,
        typer.Option(
            "--exclude-border",
            metavar="",
            rich_help_panel=o.OBJECTS,
            help="Drop objects that touch the edge of the image. Default: no.",
        ),
    ] = False,
    save: Annotated[
        list[o.Saved] | None,
        typer.Option(
            metavar="WHAT",
            rich_help_panel=o.RESULTS,
            help="Also write, beside each label image: classes or probabilities "
            "(TIFF), outlines (a picture), rois (for Fiji), geojson (for QuPath), or "
            "the table of what is measured; or one report (HTML) of all images; "
            "repeat for more. Default: none.",
        ),
    ] = None,
    table_format: o.FormatOfTables = PredictConfig.table_format,
    measure: o.Measure = PredictConfig.measure,
    link_planes: Annotated[
        bool,
        typer.Option(
            "--link-planes",
            metavar="",
            rich_help_panel=o.OBJECTS,
            help="Join a nucleus over the Z planes of a stack by overlap: one number, "
            "one row in the table, a volume. Default: no.",
        ),
    ] = False,
    engine: o.Engine = ENGINE,
    device: o.Device = DEVICE,
    threads: o.Threads = THREADS,
    tile: o.Tile = PredictConfig.tile_px,
    max_memory: o.MaxMemory = None,
    scratch: o.Scratch = None,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            rich_help_panel=o.RESULTS,
            help="Segment every N-th image, from the I-th on, for N calls side by "
            "side; then the same command without it writes the table and the report "
            "of all. Default: all images.",
        ),
    ] = None,
    overwrite: o.Overwrite = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            metavar="",
            rich_help_panel=o.RESULTS,
            help="Check everything and tell what would be done. Default: no.",
        ),
    ] = False,
    as_json: o.Json = False,
    log_level: o.LogLevel = None,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> Outcome:
    """Segment images: one label image per input.

    Finished results of the same model and settings are skipped, so that the same
    command continues what was stopped.
    """
    from cellunet.tasks.predict.batch import predict as run

    session = Session.of(ctx)
    config = PredictConfig(
        channel=channel,
        gray=gray,
        z=z,
        scale=scale,
        diameter_px=diameter,
        pixel_size_um=pixel_size,
        level=level,
        image=image,
        keep_going=keep_going,
        min_area_px=min_area,
        seed_threshold=seed_threshold,
        flips=flips,
        exclude_border=exclude_border,
        tile_px=tile,
        max_memory_mb=max_memory,
        scratch=None if scratch is None else str(scratch),
        save=tuple(dict.fromkeys(s.value for s in save or ())),
        table_format=table_format,
        measure=measure,
        segment_channel=segment_channel,
        link_planes=link_planes,
        include=tuple(dict.fromkeys(i.value for i in include or ())),
        part=_part(part),
        overwrite=overwrite,
    )
    again = session.command()
    should_stop = session.can_stop(f"Finished images are kept. Continue with: {again}")
    found = run(
        inputs,
        out,
        model=model,
        engine=engine,
        device=device,
        threads=threads,
        config=config,
        dry_run=dry_run,
        stdin=sys.stdin if "-" in inputs else None,
        track=session.console.track,
        should_stop=should_stop,
    )
    summarize(session, found, out)
    if found.stopped:
        finished = len(found.done) + len(found.skipped)
        return stopped(
            session,
            f"{counted(finished, 'image')} finished.",
            f"Continue with: {again}",
            **found.to_dict(),
        )
    some_failed = INPUTS_FAILED if found.failed or found.damaged else 0
    return Outcome(
        code=BUG if found.bugs else some_failed,
        result=found.to_dict(),
        failure=_failure(found),
    )


def summarize(session: Session, found: Predictions, out: Path) -> None:
    """Tell the nuclei per image, what it took, where results are, and what failed."""
    console, report = session.console, session.report
    shown = [i for i in found.images if i.status != "failed"]
    base = _common_folder([image.input for image in shown])
    rows = [_row(image, base) for image in shown[:MAX_ROWS]]
    if rows:
        head = ("image", "nuclei", "time", "pixel size", "")
        report.table([head, *rows], left=(0, 3, 4))
    if len(shown) > MAX_ROWS:
        report.line(f"and {len(shown) - MAX_ROWS:,} more")
    report.line(_totals(found), "bold")
    written = {
        "Label images": out if found.done or found.skipped else None,
        "Table of all objects": found.table,
        "Report": found.report,
    }
    for what, path in written.items():
        if path:
            report.line(f"{what}: {path}")
    for text, names in _notes(found).items():
        report.line(f"note: {', '.join(names)}: {text}" if names else f"note: {text}")
    of_images = [(i.input, w) for i in found.images for w in i.warnings]
    named = [f"{name}: {text}" for name, text in _some(of_images)]
    for text in (*found.warnings, *named):
        console.alert(f"warning: {text}", "yellow")
    if found.failed:
        console.alert(f"{len(found.failed):,} failed:", "red")
        for image in found.failed:
            console.alert(f"  {_told(image)}", "red")


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


def _part(text: str | None) -> tuple[int, int] | None:
    """Return (i, n) of ``i/n``."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    if not found:
        raise ConfigError(f"--part is {text!r}.", hint="For example --part 2/8.")
    return int(found[1]), int(found[2])


def _told(image: ImageResult) -> str:
    """Return why an image failed, with its name."""
    named = Path(image.input).name in image.message
    return image.message if named else f"{image.input}: {image.message}"


def _common_folder(inputs: list[str]) -> Path:
    """Return the folder below which all inputs lie, which tables need not repeat."""
    parents = {str(Path(name).parent) for name in inputs}
    try:
        return Path(os.path.commonpath(parents))
    except ValueError:
        # No inputs, relative beside absolute ones, or two drives.
        return Path()


def _row(image: ImageResult, base: Path) -> tuple[str, ...]:
    known = image.objects is not None
    told = {"skipped": "finished before", "planned": f"would write {image.output}"}
    path = Path(image.input)
    name = str(path.relative_to(base) if path.is_relative_to(base) else path)
    return (
        f"{name} ({image.image})" if image.image else name,
        f"{image.objects:,}" if known else "",
        duration(image.seconds) if image.status == "done" else "",
        _pixel_size(image),
        told.get(image.status, ""),
    )


def _pixel_size(image: ImageResult) -> str:
    """Return the size of a pixel and where it stands, as far as they are known."""
    if image.pixel_size_um is None:
        return ""
    y, x = image.pixel_size_um
    size = f"{x:.4g}" if math.isclose(x, y, rel_tol=1e-4) else f"{x:.4g} x {y:.4g}"
    return f"{size} µm ({image.pixel_size_from})"


def _totals(found: Predictions) -> str:
    if all(image.status in ("planned", "failed") for image in found.images):
        planned = sum(image.status == "planned" for image in found.images)
        return f"{counted(planned, 'image')} to segment; nothing was written."
    if found.skipped and not found.done:
        before = counted(len(found.skipped), "image")
        return f"{before} finished before, nothing new."
    objects = sum(i.objects or 0 for i in found.images)
    told = f"{objects:,} nuclei in {counted(len(found.done), 'image')}"
    if found.skipped:
        told += f" ({len(found.skipped):,} more finished before)"
    pixels = sum(math.prod(i.shape) for i in found.done if i.shape)
    speed = f", {pixels / found.seconds / 1e6:.2f} Mpx/s" if found.seconds > 0 else ""
    name = found.model.get("name", "")
    return f"{told}; {duration(found.seconds)}{speed}; {found.engine}, model {name}."


def _some(named: list[tuple[str, str]]) -> list[tuple[str, str]]:
    rest = len(named) - MAX_NAMED
    more = [("...", f"and {rest:,} more warnings")] if rest > 0 else []
    return named[:MAX_NAMED] + more


def _failure(found: Predictions) -> Failure | None:
    if not found.failed and not found.damaged:
        return None
    if not found.failed:
        first = found.damaged[0]
        count = f"{len(found.damaged):,} of {counted(len(found.images), 'image')}"
        return Failure(
            type="InputsDamaged",
            message=f"{count} damaged, with zeros in place of what is lost; the first: "
            f"{first.input}.",
            hint="The warnings say where. Copy or export these again.",
        )
    count = f"{len(found.failed):,} of {counted(len(found.images), 'image')}"
    return Failure.of_inputs(
        bugs=found.bugs,
        message=f"{count} failed; the first: {_told(found.failed[0])}",
        hint="The others are finished. Repair these, then run the same command again.",
    )
