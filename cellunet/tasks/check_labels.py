"""Check annotations before anything is trained on them."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.annotations import check
from cellunet.annotations.pairs import find_annotations, fingerprint
from cellunet.annotations.planes import open_to_look
from cellunet.annotations.read import read_annotation
from cellunet.bugs import telling_bugs
from cellunet.command_config import AnnotationConfig, CheckConfig
from cellunet.errors import (
    AnnotationError,
    BugError,
    CellunetError,
    InputError,
    some,
)
from cellunet.imaging.targets import scribbled_px
from cellunet.io.files import PendingFile, at_work, write_atomically, writing
from cellunet.io.png_jpeg import write_png
from cellunet.io.source import Region, one_plane
from cellunet.outputs.sheets import COLUMNS, ROWS, sheet, tile
from cellunet.progress import silent_track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.annotations.pairs import AnnotatedImage
    from cellunet.annotations.types import Annotation
    from cellunet.io.source import Pages, Source
    from cellunet.progress import Track

    Read = Callable[[AnnotatedImage], "LabelsWithImage"]

HINTS = ("several", "empty", "overlap", "hidden", "note")
"""Kinds of findings that alone need nobody: real data are full of them."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something odd about one annotation."""

    kind: str
    """``bug``, ``unreadable``, ``fragments``, ``pieces``, ``holes``, ``outside``,
    ``shifted``, ``misfit``, ``other-image``, ``duplicate``, ``values``, or one of
    `HINTS`."""
    message: str
    """A sentence for people."""
    ids: tuple[int, ...] = ()
    """Objects concerned."""

    @property
    def needs_person(self) -> bool:
        """Whether a person should look before training."""
        return self.kind not in HINTS


@dataclass(frozen=True, kw_only=True)
class CheckedImage:
    """One annotation and what is odd about it."""

    name: str
    """Name of the image; ``val/NAME`` for one of the validation folder."""
    objects: int = 0
    """Objects that have a pixel."""
    areas_px: tuple[float, ...] = ()
    """Area of the objects: smallest, 5th, 50th and 95th percentile, largest."""
    annotated_share: float = 1.0
    """Share of the image's pixels that is annotated."""
    scribbled_px: tuple[int, int] = (0, 0)
    """Pixels that are annotated by scribbles: background, and inside an object."""
    correlation: float | None = None
    """Of brightness and labels in place; None if it cannot be computed."""
    findings: tuple[Finding, ...] = ()
    """In the order of the checks."""

    @property
    def needs_person(self) -> bool:
        """Whether a person should look before training."""
        return any(f.needs_person for f in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        values = dataclasses.asdict(self) | {"needs_person": self.needs_person}
        values["areas_px"] = list(self.areas_px)
        values["scribbled_px"] = list(self.scribbled_px)
        values["findings"] = [
            dataclasses.asdict(f) | {"ids": list(f.ids), "needs_person": f.needs_person}
            for f in self.findings
        ]
        return values


@dataclass(frozen=True, kw_only=True)
class CheckedLabels:
    """What was found in all annotations."""

    out: Path
    """The output folder."""
    layout: str
    """How the annotations were arranged."""
    config: CheckConfig
    """From when on something was odd."""
    images: tuple[CheckedImage, ...]
    """Sorted by name."""
    report: Path
    """The JSON file that holds all this."""
    sheets: tuple[Path, ...] = ()
    """Contact sheets, what needs a person first."""
    shown: tuple[str, ...] = ()
    """Names of the images on the sheets, in their order."""
    notes: tuple[str, ...] = ()
    """What was found and left out, in sentences."""
    areas_px: dict[str, float] = field(default_factory=dict)
    """Percentiles of the area of all objects, by their number."""

    @property
    def needs_person(self) -> bool:
        """Whether a person should look before training."""
        return any(image.needs_person for image in self.images)

    @property
    def counts(self) -> dict[str, int]:
        """Images by kind of finding, most frequent first."""
        kinds = [f.kind for image in self.images for f in image.findings]
        return {k: kinds.count(k) for k in sorted(set(kinds), key=kinds.count)[::-1]}

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "out": str(self.out),
            "layout": self.layout,
            "needs_person": self.needs_person,
            "config": self.config.to_dict(),
            "counts": self.counts,
            "objects": sum(image.objects for image in self.images),
            "areas_px": self.areas_px,
            "report": str(self.report),
            "sheets": [str(path) for path in self.sheets],
            "shown": list(self.shown),
            "images": [image.to_dict() for image in self.images],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelsWithImage:
    """An annotation and its image, if there is one."""

    annotation: Annotation
    """What was drawn."""
    image: npt.NDArray[Any] | None = None
    """YX: colors as gray, of several channels the first."""
    pixel_size_um: tuple[float, float] | None = None
    """Of the image, if it is known."""


def read_labels_with_image(
    one: AnnotatedImage,
    *,
    annotations: AnnotationConfig,
    channel: str | None = None,
    gray: bool = False,
    pages: Pages | None = None,
) -> LabelsWithImage:
    """Read an annotation and its image.

    Parameters
    ----------
    one
        Where they are.
    annotations
        How annotations are read.
    channel, gray
        Which channel of the image is meant; left out, colors are taken as gray, else
        the first channel.
    pages
        What its pages are, if it does not say so.

    Raises
    ------
    CellunetError
        If one of them cannot be read, or they differ in size.
    """
    image, pixel_size_um, channels = None, None, 1
    if one.image:
        opened = open_to_look(one.image, channel, gray=gray, pages=pages)
        image, pixel_size_um, channels = _read_image(opened, one.other_plane)
    annotation = read_annotation(
        one.annotation,
        shape=None if image is None else image.shape,
        channels=channels,
        plane=one.plane,
        member=one.member,
        annotated=one.annotated,
        scribbles=one.scribbles,
        **annotations.of_one_image(),
    )
    if image is not None:
        _refuse_other_shape(one, annotation.labels.shape, image.shape)
    return LabelsWithImage(
        annotation=annotation, image=image, pixel_size_um=pixel_size_um
    )


def _read_image(
    opened: Source, plane: int | None
) -> tuple[npt.NDArray[Any], tuple[float, float] | None, int]:
    """Return the image, YX, its pixel size, and how many channels the file has.

    More than one plane is refused.
    """
    with one_plane(opened, plane) as source:
        height, width = source.shape
        planes = math.prod(source.plane_shape)
        if planes != 1:
            raise AnnotationError(
                f"{opened.path} is {_size(source.shape)} px in {planes} planes "
                f"({source.plane_axes}).",
                hint="An annotation is drawn on the full frame of one plane.",
            )
        region = Region(plane=0, y0=0, y1=height, x0=0, x1=width)
        channels = len(source.file_channels)
        return source.read(region)[0], source.pixel_size_um, channels


def _refuse_other_shape(
    one: AnnotatedImage, labels: tuple[int, ...], image: tuple[int, ...]
) -> None:
    if labels != image:
        raise AnnotationError(
            f"{one.annotation} is {_size(labels)} px, its image {one.image} is "
            f"{_size(image)} px.",
            hint="An annotation is drawn on the full frame of one plane.",
        )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


MAX_IDS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelInspection:
    """One annotation, and what to compare with the others."""

    checked: CheckedImage
    """What is known of it alone."""
    shape: tuple[int, ...]
    """Rows and columns."""
    areas_px: Sequence[int]
    """Area of every object."""
    fingerprint: str = ""
    """Of the image's pixels; empty without an image."""
    bright: npt.NDArray[np.float32] | None = None
    """Small picture of the image; None without an image or with nothing to see."""
    objects: npt.NDArray[np.float32] | None = None
    """Small picture of the objects."""


def inspect_labels(
    name: str, one: AnnotatedImage, read: Read, config: CheckConfig
) -> LabelInspection:
    """Read an annotation and check it.

    Raises
    ------
    CellunetError
        If it or its image cannot be read, or they differ in size.
    """
    found = read(one)
    annotation, image = found.annotation, found.image
    checks = check.find_label_problems(annotation.labels, config)
    fit = None
    if image is not None:
        fit = check.fit_of(image, annotation.labels, annotation.annotated, config)
    findings = [*_of_labels(checks, annotation), *_of_fit(fit, config)]
    comparable = image is not None and fit is not None and annotation.annotated is None
    return LabelInspection(
        checked=CheckedImage(
            name=name,
            objects=len(checks.areas_px),
            areas_px=_spread(checks.areas_px),
            annotated_share=annotated_share(annotation),
            scribbled_px=scribbled_px(annotation.scribbles),
            correlation=None if fit is None else round(fit.here, 4),
            findings=tuple(findings),
        ),
        shape=annotation.labels.shape,
        areas_px=checks.areas_px,
        fingerprint="" if image is None else fingerprint(image),
        bright=check.small_picture(check.brightness(image)) if comparable else None,  # type: ignore[arg-type]
        objects=check.small_picture(annotation.labels > 0) if comparable else None,
    )


def _of_labels(
    checks: check.LabelProblems, annotation: Annotation
) -> Iterator[Finding]:
    for kind, ids, text in (
        ("fragments", checks.fragments, "far smaller than the others"),
        ("pieces", checks.pieces, "in two or more pieces under one number"),
        ("holes", checks.holes, "with a hole"),
        ("several", checks.several, "large and not convex, perhaps several in one"),
    ):
        if ids:
            message = f"{_objects(len(ids))} {text}: {_listed(ids)}."
            yield Finding(kind=kind, message=message, ids=ids)
    if annotation.outside:
        message = f"{_objects(annotation.outside)} outside the image."
        yield Finding(kind="outside", message=message)
    if annotation.overlap_px:
        message = f"{annotation.overlap_px:,} px belong to two objects or more."
        yield Finding(kind="overlap", message=message)
    if annotation.hidden:
        message = f"{_objects(annotation.hidden)} without a pixel of their own."
        yield Finding(kind="hidden", message=message)
    if annotation.kind == "labels":
        for text in check.value_notes({"the image": annotation.labels}):
            yield Finding(kind="values", message=text)
    if not checks.areas_px and annotation.scribbles is None:
        yield Finding(kind="empty", message="No object.")
    for note in annotation.notes[1 if annotation.outside else 0 :]:
        # The first is of what lies outside, a finding of its own.
        yield Finding(kind="note", message=note)


def _of_fit(fit: check.LabelFit | None, config: CheckConfig) -> Iterator[Finding]:
    if fit is None:
        return
    if fit.is_other(config):
        message = (
            f"Labels and image have nothing in common (correlation {fit.here:.2f}, "
            f"{fit.best:.2f} at best): do they belong together?"
        )
        yield Finding(kind="misfit", message=message)
    if fit.is_shifted(config):
        down, right = fit.shift_px
        message = (
            f"The labels fit better moved by {down} px down and {right} px to the "
            f"right (correlation {fit.best:.2f} instead of {fit.here:.2f})."
        )
        yield Finding(kind="shifted", message=message)


def _objects(count: int) -> str:
    return f"{count:,} object{'' if count == 1 else 's'}"


def _listed(ids: tuple[int, ...]) -> str:
    rest = len(ids) - MAX_IDS
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(map(str, ids[:MAX_IDS])) + more


def _spread(areas: Sequence[int]) -> tuple[float, ...]:
    if not areas:
        return ()
    return tuple(np.percentile(areas, (0, 5, 50, 95, 100)).tolist())


def annotated_share(annotation: Annotation) -> float:
    """Return the share of the image's pixels that are annotated."""
    if annotation.annotated is None:
        return 1.0
    return float(annotation.annotated.mean())


PER_SHEET = COLUMNS * ROWS

MAX_SHEETS = 40
"""Nearly a thousand images; the report holds them all."""

MAX_LINES = 3

MOST_NAMED = 3
"""Of images that are all the same, how many each one names."""


def write_sheets(
    checked: CheckedLabels,
    drawn: Mapping[str, AnnotatedImage],
    read: Read,
    track: Track,
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Write ``check-1.png``, ... into the output folder.

    Parameters
    ----------
    checked
        What was found.
    drawn
        Name of an image to where its annotation is.
    read
        Reads an annotation and its image.
    track
        Progress over images.

    Returns
    -------
    paths, names
        The sheets, and the names of the images on them in their order.

    Raises
    ------
    OutputError
        If a sheet cannot be written.
    """
    chosen = _chosen(checked)
    paths: list[Path] = []
    names: list[str] = []
    tiles: list[npt.NDArray[np.uint8]] = []
    for image in track(chosen, "Drawing contact sheets", len(chosen)):
        try:
            found = read(drawn[image.name])
        except CellunetError:
            # It is listed as unreadable, or is gone by now.
            continue
        tiles.append(_tile(image, found))
        names.append(image.name)
        if len(tiles) == PER_SHEET:
            paths.append(_write(checked.out, len(paths) + 1, tiles))
            tiles = []
    if tiles:
        paths.append(_write(checked.out, len(paths) + 1, tiles))
    return tuple(paths), tuple(names)


def _chosen(checked: CheckedLabels) -> list[CheckedImage]:
    """Return all that needs a person, and others evenly to fill the last sheet."""
    flagged = [i for i in checked.images if i.needs_person]
    flagged = [i for i in flagged if i.findings[0].kind not in ("unreadable", "bug")]
    others = [i for i in checked.images if not i.needs_person]
    # Images with hints alone come before those without findings.
    others = [i for i in others if i.findings] + [i for i in others if not i.findings]
    flagged = flagged[: MAX_SHEETS * PER_SHEET]
    room = -len(flagged) % PER_SHEET or (0 if flagged else PER_SHEET)
    count = min(room, len(others))
    picked = np.linspace(0, len(others) - 1, count).astype(int)
    return [*flagged, *(others[i] for i in picked)]


def _tile(image: CheckedImage, found: LabelsWithImage) -> npt.NDArray[np.uint8]:
    first = f"{image.name}: {image.objects}"
    findings = [f"{f.kind} {len(f.ids) or ''}".strip() for f in image.findings]
    lines = [first, *findings[:MAX_LINES]]
    lines += [""] * (MAX_LINES + 1 - len(lines))
    odd = {number for f in image.findings for number in f.ids}
    return tile(
        found.image, found.annotation, lines, odd=odd, flagged=image.needs_person
    )


def _write(out: Path, number: int, tiles: list[npt.NDArray[np.uint8]]) -> Path:
    path = out / SHEET.format(number)
    write_png(path, sheet(tiles))
    return path


REPORT = "check.json"

SHEET = "check-{}.png"

_SHEET_NAME = re.compile(r"check-\d+\.png")

PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)


@dataclass
class _ImagesSoFar:
    """What is known of the images so far, to compare them with each other."""

    images: dict[str, CheckedImage] = field(default_factory=dict)
    prints: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    pictures: dict[tuple[int, ...], dict[str, LabelInspection]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    areas: list[int] = field(default_factory=list)


def check_labels(  # noqa: PLR0913
    source: Path,
    out: Path,
    *,
    validation: Path | None = None,
    annotations: AnnotationConfig | None = None,
    channel: str | None = None,
    gray: bool = False,
    pages: Pages | None = None,
    config: CheckConfig | None = None,
    track: Track = silent_track,
) -> CheckedLabels:
    """Check annotations, and write what was found and pictures to look at.

    Writes ``check.json`` and contact sheets ``check-1.png``, ... into `out`, in place
    of those of an earlier check.

    Parameters
    ----------
    source
        Annotations, with or without images, as
        `cellunet.annotations.pairs.find_annotations` understands them.
    out
        Folder for the results.
    validation
        A folder of validation images, which may not hold a training image.
    annotations
        How annotations are read.
    channel, gray, pages
        Which channel of the images shows the objects, and what pages are that have no
        name.
    config
        From when on something is odd.
    track
        Progress over images.

    Raises
    ------
    InputError
        If there are no annotations, partners do not match, a result would replace what
        no earlier check wrote, or sheets would lie among the images.
    BusyError
        If another process is writing into `out`.
    OutputError
        If `out` cannot be written to.
    """
    config, annotations = config or CheckConfig(), annotations or AnnotationConfig()
    read = partial(
        read_labels_with_image,
        annotations=annotations,
        channel=channel,
        gray=gray,
        pages=pages,
    )
    kind, planes = annotations.kind, annotations.planes
    found = find_annotations(source, kind=kind, planes=planes)
    drawn = {one.name: one for one in found.drawn}
    notes = found.notes
    if validation is not None:
        kept_out = find_annotations(validation, kind=kind, planes=planes)
        drawn |= {f"val/{one.name}": one for one in kept_out.drawn}
        notes += kept_out.notes
    _refuse_among_images(out, source, found.layout, drawn)
    with at_work(out):
        earlier = _earlier_sheets(out, drawn)
        # One error before work where a folder permits no writing.
        PendingFile(out / REPORT).abort()
        seen = _ImagesSoFar()
        for name, one in track(drawn.items(), "Checking labels", len(drawn)):
            _look(name, one, seen, read, config)
        _compare(seen, set(found.validation), config)
        checked = CheckedLabels(
            out=out,
            layout=found.layout,
            config=config,
            images=tuple(seen.images[name] for name in sorted(seen.images)),
            report=out / REPORT,
            notes=notes,
            areas_px=_percentiles(seen.areas),
        )
        # The report names the sheets before they are there, so that those of a check
        # that is stopped are known as a check's.
        planned = [out / SHEET.format(k + 1) for k in range(_most_sheets(drawn))]
        _write_report(replace(checked, sheets=(*{*planned, *earlier},)))
        for path in earlier:
            with writing(path):
                path.unlink(missing_ok=True)
        sheets, shown = write_sheets(checked, drawn, read, track)
        checked = replace(checked, sheets=sheets, shown=shown)
        _write_report(checked)
    return checked


def _refuse_among_images(
    out: Path, source: Path, layout: str, drawn: Mapping[str, AnnotatedImage]
) -> None:
    """Refuse a folder in which sheets would be images without annotation."""
    read = (path for one in drawn.values() for path in one.files)
    places = {at.resolve() for path in read for at in (path, path.parent)}
    # Beside the folders of a COCO file and its images may lie images, too.
    places |= {source.resolve()} if layout == "coco" else set()
    if out.resolve() in places:
        raise InputError(
            f"Contact sheets in {out} would be images without an annotation there.",
            hint="Try: another --out.",
        )


def _most_sheets(drawn: Mapping[str, AnnotatedImage]) -> int:
    return min(-(-len(drawn) // PER_SHEET), MAX_SHEETS)


def _write_report(checked: CheckedLabels) -> None:
    with write_atomically(checked.report) as path:
        text = json.dumps(checked.to_dict(), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


def _earlier_sheets(out: Path, drawn: Mapping[str, AnnotatedImage]) -> list[Path]:
    """Return the sheets of an earlier check, which this one replaces.

    Raises
    ------
    InputError
        If what this one writes would replace anything else.
    """
    report = out / REPORT
    named = _sheets_in(report) if report.exists() else []
    earlier = named or []
    new = [out / SHEET.format(k + 1) for k in range(_most_sheets(drawn))]
    others = [path for path in new if path.exists() and path not in earlier]
    others += [report] if named is None else []
    if others:
        raise InputError(
            f"Results would replace what no earlier check wrote: {some(others)}.",
            hint="Try: another --out.",
        )
    return earlier


def _sheets_in(report: Path) -> list[Path] | None:
    """Return the sheets that a report names; None if it is no report of a check."""
    try:
        found = json.loads(report.read_text("utf-8"))
        # The folder may have had another name, on another system.
        names = [PureWindowsPath(path).name for path in found["sheets"]]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return [report.with_name(name) for name in names if _SHEET_NAME.fullmatch(name)]


def _look(
    name: str, one: AnnotatedImage, seen: _ImagesSoFar, read: Read, config: CheckConfig
) -> None:
    try:
        with telling_bugs(one.annotation):
            looked = inspect_labels(name, one, read, config)
    except CellunetError as error:
        what = "bug" if isinstance(error, BugError) else "unreadable"
        unreadable = Finding(kind=what, message=str(error))
        seen.images[name] = CheckedImage(name=name, findings=(unreadable,))
        return
    seen.images[name] = looked.checked
    seen.areas += looked.areas_px
    if looked.fingerprint:
        seen.prints[looked.fingerprint].append(name)
    if looked.bright is not None:
        seen.pictures[looked.shape][name] = replace(looked, areas_px=())


def _compare(seen: _ImagesSoFar, validation: set[str], config: CheckConfig) -> None:
    """Find images that come twice, and labels that fit another image better."""
    for names in seen.prints.values():
        sides = [[n for n in names if _is_kept_out(n, validation) == s] for s in (0, 1)]
        for name in names if len(names) > 1 else ():
            own = _is_kept_out(name, validation)
            # Those of the other side first: they matter most.
            others = chain(sides[not own], (n for n in sides[own] if n != name))
            few = [_with_side(n, validation) for n in islice(others, MOST_NAMED)]
            more = len(names) - 1 - len(few)
            told = ", ".join(few) + (f" and {more:,} more" if more else "")
            message = (
                f"The same image as {told}; this is {_with_side(name, validation)}."
            )
            _add(seen, name, Finding(kind="duplicate", message=message))
    for group in seen.pictures.values():
        images = {n: one.bright for n, one in group.items() if one.bright is not None}
        labels = {n: one.objects for n, one in group.items() if one.objects is not None}
        for name, other in check.better_partners(images, labels, config).items():
            message = f"The labels fit the image {other} better than their own."
            _add(seen, name, Finding(kind="other-image", message=message))


def _is_kept_out(name: str, validation: set[str]) -> bool:
    return name.startswith("val/") or name in validation


def _with_side(name: str, validation: set[str]) -> str:
    if _is_kept_out(name, validation):
        return f"{name} (validation)"
    return f"{name} (training)" if validation else name


def _add(seen: _ImagesSoFar, name: str, finding: Finding) -> None:
    image = seen.images[name]
    seen.images[name] = replace(image, findings=(*image.findings, finding))


def _percentiles(areas: list[int]) -> dict[str, float]:
    if not areas:
        return {}
    values = np.percentile(areas, PERCENTILES).tolist()
    return dict(zip(map(str, PERCENTILES), values, strict=True))
