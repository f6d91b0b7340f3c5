"""Write the report of a batch: one HTML file that needs nothing else.

A histogram has fixed steps, so that images add up to a batch without any object being
kept, and a record of an image is small whatever the image holds.

It lies in the folder of results, so that a run that finds an image finished can still
show it, and so that no report holds more than one picture in memory.

The rows of the table go to a scratch file while images pass by one at a time; what
stands above the table is known only then. In memory are one image, the pictures of at
most `look.MOST_CARDS` + `look.FEWEST_CARDS` images, and sums.
"""

from __future__ import annotations

import base64
import bisect
import json
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any, Literal

from cellunet.io.files import PendingFile, writing
from cellunet.outputs.charts import Chart, chart, link, source_hash, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

Status = Literal["done", "skipped", "failed"]

DIAMETER_STEP_PX = 0.5

CONFIDENCE_STEP = 0.02

MAX_BIN = 1_000_000
"""Largest number of a bin; what lies beyond is counted there."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of values in steps of one width.

    Bin i holds i * step <= x < (i + 1) * step.
    """

    step: float
    counts: Mapping[int, int] = field(default_factory=dict)
    """Number of the bin to how many values lie in it; empty bins are left out."""

    @classmethod
    def of(cls, values: Iterable[float], step: float, top: float = 0.0) -> Histogram:
        """Count values, none below 0.

        Parameters
        ----------
        values
            Finite numbers.
        step
            Width of a bin.
        top
            If above 0, a value of `top` or more counts to the last bin below it.

        Examples
        --------
        >>> Histogram.of([0.1, 0.99, 1.0], step=0.5, top=1.0).counts
        {0: 1, 1: 2}
        """
        last = round(top / step) - 1 if top else MAX_BIN
        counts: dict[int, int] = {}
        for value in values:
            place = min(int(value / step), last)
            counts[place] = counts.get(place, 0) + 1
        return cls(step=step, counts=dict(sorted(counts.items())))

    @property
    def total(self) -> int:
        """How many values there are."""
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """Return the value below which `share` of the values lie; None without any.

        Exact to the width of a bin: within a bin values count as evenly spread.

        Examples
        --------
        >>> Histogram(step=1.0, counts={3: 2, 7: 2}).quantile(0.5)
        4.0
        """
        wanted = share * self.total
        seen = 0
        for place, count in sorted(self.counts.items()):
            if seen + count >= wanted:
                return (place + (wanted - seen) / count) * self.step
            seen += count
        return None

    def mean(self) -> float | None:
        """Return the mean, each value in the middle of its bin; None without any."""
        total = self.total
        if not total:
            return None
        return self.step * sum((p + 0.5) * n for p, n in self.counts.items()) / total


class Pool:
    """Histograms of one step added up, in one dictionary."""

    def __init__(self, step: float) -> None:
        self.step = step
        self._counts: dict[int, int] = {}

    def add(self, one: Histogram) -> None:
        """Add the counts of another histogram.

        Raises
        ------
        ValueError
            If its step is another one: a bug.
        """
        if one.step != self.step:
            raise ValueError(f"a step of {one.step} does not add to {self.step}")
        for place, count in one.counts.items():
            self._counts[place] = self._counts.get(place, 0) + count

    def histogram(self) -> Histogram:
        """Return what was added up."""
        return Histogram(step=self.step, counts=dict(sorted(self._counts.items())))


@dataclass(frozen=True, kw_only=True)
class ImageSummary:
    """What the report shows of one image."""

    name: str
    """As people know it; any text at all."""
    status: Status
    """``skipped``: its result was there before this run."""
    thumbnail: bytes = b""
    """A WebP picture with outlines; empty without one."""
    thumbnail_size: tuple[int, int] = (0, 0)
    """Its width and height in pixels."""
    plane: str = ""
    """Which plane of a stack the picture shows, in words."""
    objects: int = 0
    """Objects in all planes."""
    diameters: Histogram = field(
        default_factory=lambda: Histogram(step=DIAMETER_STEP_PX)
    )
    """Equivalent diameters of the objects in pixels, in steps of `DIAMETER_STEP_PX`."""
    confidences: Histogram | None = None
    """Confidences of the objects, in steps of `CONFIDENCE_STEP`; None if the model
    does not tell them."""
    shape: tuple[int, ...] = ()
    """Lengths of T and Z if there are, height and width in pixels."""
    pixel_size_um: tuple[float, float] | None = None
    """Height and width of a pixel."""
    pixel_size_from: str = ""
    """Where that stands in the file, or beside it."""
    notes: tuple[str, ...] = ()
    """What to know of how it was read."""
    seconds: float = 0.0
    """Time that it took."""
    warnings: tuple[str, ...] = ()
    """What to look at, though it did not fail."""
    error: str = ""
    """Why it failed."""
    link: str = ""
    """Path of a larger picture, relative to the report's folder."""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What the report says of the run as a whole; values are shown in this order."""

    created: str
    """When, in words."""
    folder: str
    """What the names of all images begin with, which is not repeated."""
    results: str
    """Where the label images are."""
    seconds: float
    """Time that the run took."""
    stopped: bool = False
    """Whether it was stopped before its end."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How the model was applied."""
    versions: Mapping[str, Any] = field(default_factory=dict)
    """Of cellunet and of what computed."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """What the model says of itself."""


MOST_CARDS = 24
"""Images that are shown large at the top."""

FEWEST_CARDS = 6
"""Up to so many are shown there even if nothing was found wrong."""

MOST_ERRORS = 50
"""Failed images that are listed at the top; the table has all."""

NO_OBJECTS = "No object was found in it."

LEAST = "Among the least certain of the others: mean confidence {:.2f}."


def reasons(image: ImageSummary) -> tuple[str, ...]:
    """Return why people should look at an image; nothing for most."""
    if image.status == "failed":
        return (image.error,)
    if not image.objects and not image.warnings:
        return (NO_OBJECTS,)
    return image.warnings


class LookFirst:
    """The images that most need a look, seen one by one."""

    def __init__(self) -> None:
        self.count = 0
        """Images that need a look, failed ones included."""
        self.failed: list[tuple[int, ImageSummary]] = []
        """The first `MOST_ERRORS` of those that failed, with their numbers."""
        self._worst: list[tuple[tuple[float, float, int], ImageSummary]] = []
        self._least: list[tuple[tuple[float, float, int], ImageSummary]] = []

    def add(self, number: int, image: ImageSummary) -> None:
        """Take note of image `number`."""
        why = reasons(image)
        self.count += bool(why)
        if image.status == "failed":
            if len(self.failed) < MOST_ERRORS:
                self.failed.append((number, image))
            return
        mean = image.confidences.mean() if image.confidences else None
        rank = (-float(len(why)), 1.0 if mean is None else mean, number)
        if why:
            bisect.insort(self._worst, (rank, image), key=lambda one: one[0])
            del self._worst[MOST_CARDS:]
        elif mean is not None:
            bisect.insort(self._least, (rank, image), key=lambda one: one[0])
            del self._least[FEWEST_CARDS:]

    def cards(self) -> list[tuple[int, ImageSummary, tuple[str, ...]]]:
        """Return number, image and reasons of those to show, the worst first.

        Filled up with the least confident of the others to `FEWEST_CARDS`.
        """
        found = [(rank[2], one, reasons(one)) for rank, one in self._worst]
        for rank, one in self._least[: max(FEWEST_CARDS - len(found), 0)]:
            found.append((rank[2], one, (LEAST.format(rank[1]),)))
        return found


@dataclass(kw_only=True)
class Totals:
    """Counts, sums and the images to look at first, of the images added so far."""

    images: int = 0
    failed: int = 0
    skipped: int = 0
    pictures: int = 0
    warned: int = 0
    objects: Pool = field(default_factory=lambda: Pool(1.0))
    """Objects per image."""
    diameters: Pool = field(default_factory=lambda: Pool(DIAMETER_STEP_PX))
    confidences: Pool = field(default_factory=lambda: Pool(CONFIDENCE_STEP))
    pixel_sizes: set[tuple[float, float] | None] = field(default_factory=set)
    """The different ones, two at the most."""
    look: LookFirst = field(default_factory=LookFirst)

    def add(self, image: ImageSummary) -> None:
        """Count one image."""
        self.images += 1
        self.look.add(self.images, image)
        if image.status == "failed":
            self.failed += 1
            return
        self.skipped += image.status == "skipped"
        self.warned += bool(image.warnings)
        self.objects.add(Histogram(step=1.0, counts={image.objects: 1}))
        self.diameters.add(image.diameters)
        if image.confidences is not None:
            self.confidences.add(image.confidences)
        if len(self.pixel_sizes) < 2:
            self.pixel_sizes.add(image.pixel_size_um)


FORMAT = 1


def to_json(image: ImageSummary, of: str) -> str:
    """Return a record in ASCII.

    Parameters
    ----------
    image
        A finished image.
    of
        What the labels are known by, so that the record of other labels is noticed.
    """
    values = {
        "format": FORMAT,
        "of": of,
        "objects": image.objects,
        "diameters": _pairs(image.diameters),
        "confidences": _pairs(image.confidences) if image.confidences else None,
        "shape": list(image.shape),
        "pixel_size_um": image.pixel_size_um and list(image.pixel_size_um),
        "pixel_size_from": image.pixel_size_from,
        "notes": list(image.notes),
        "seconds": image.seconds,
        "warnings": list(image.warnings),
        "plane": image.plane,
        "thumbnail_size": list(image.thumbnail_size),
        "thumbnail": base64.b64encode(image.thumbnail).decode("ascii"),
    }
    return json.dumps(values, allow_nan=False)


def from_json(content: str | bytes, name: str) -> tuple[ImageSummary, str]:
    """Return an image, under the name given, and what its labels are known by.

    Raises
    ------
    ValueError
        If it is not a record that this version wrote.
    """
    try:
        values = json.loads(content)
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']!r}")
        return _image(values, name), str(values["of"])
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no record of an image ({error})") from error


def _image(values: Mapping[str, Any], name: str) -> ImageSummary:
    size = values["pixel_size_um"]
    width, height = values["thumbnail_size"]
    confidences = values["confidences"]
    return ImageSummary(
        name=name,
        status="done",
        thumbnail=base64.b64decode(values["thumbnail"], validate=True),
        thumbnail_size=(int(width), int(height)),
        plane=str(values["plane"]),
        objects=int(values["objects"]),
        diameters=_histogram(values["diameters"]),
        confidences=_histogram(confidences) if confidences else None,
        shape=tuple(int(n) for n in values["shape"]),
        pixel_size_um=(float(size[0]), float(size[1])) if size else None,
        # Records of before this was known do not have them.
        pixel_size_from=str(values.get("pixel_size_from", "")),
        notes=tuple(str(n) for n in values.get("notes", ())),
        seconds=float(values["seconds"]),
        warnings=tuple(str(w) for w in values["warnings"]),
    )


def _pairs(histogram: Histogram) -> list[Any]:
    return [histogram.step, *([p, n] for p, n in histogram.counts.items())]


def _histogram(pairs: list[Any]) -> Histogram:
    step, *rest = pairs
    counts = {int(place): int(number) for place, number in rest}
    return Histogram(step=float(step), counts=counts)


OBJECTS = Chart(
    title="Objects per image", what="images", axis="objects in an image", whole=True
)

SIZES = Chart(title="Size", what="objects", axis="equivalent diameter, px")

CERTAINTY = Chart(
    title="Confidence", what="objects", axis="confidence of an object", high=1.0
)

OPTION = re.compile(r"--[a-z][a-z-]*")

NONE = '<span class="quiet">none</span>'

LOOK = '<span class="badge look"><span aria-hidden="true">&#9650;</span> Look</span>'

FAILED = (
    '<span class="badge bad"><span aria-hidden="true">&#10005;</span> Failed</span>'
)


def title(totals: Totals) -> str:
    """Return the title of the page."""
    return text(f"cellunet report: {_counted(totals.images, 'image')}")


def lead(run: RunSummary, totals: Totals) -> str:
    """Return the sentences below the heading."""
    done = totals.images - totals.failed
    objects = _objects(totals)
    said = f"{objects:,} objects in {_counted(done, 'image')}"
    if totals.skipped:
        said += f", {totals.skipped:,} of them finished by an earlier run"
    stop = (
        '<p class="note"><strong>Stopped before the end:</strong> images that were '
        "not reached are not in this report.</p>"
        if run.stopped
        else ""
    )
    return (
        f"<p>{text(said)}. Made {text(run.created)}.</p>"
        f'<p class="quiet">Images: <bdi>{text(run.folder)}</bdi><br>'
        f"Label images: <bdi>{text(run.results)}</bdi></p>{stop}"
    )


def tiles(totals: Totals) -> str:
    """Return the key figures as a list of descriptions."""
    per_image = totals.objects.histogram().quantile(0.5)
    diameter = totals.diameters.histogram().quantile(0.5)
    confidence = totals.confidences.histogram().mean()
    figures = [
        ("Images", f"{totals.images:,}"),
        ("Objects", f"{_objects(totals):,}"),
        (
            "Objects per image <small>median</small>",
            NONE if per_image is None else f"{per_image:,.0f}",
        ),
        (
            "Diameter <small>median</small>",
            NONE if diameter is None else f"{_px(diameter)} px",
        ),
        (
            "Confidence <small>mean</small>",
            NONE if confidence is None else f"{confidence:.2f}",
        ),
        ("Need a look", f"{totals.look.count:,}"),
        ("Failed", f"{totals.failed:,}"),
    ]
    shown = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures
    )
    return f'<dl class="tiles">{shown}</dl>'


def look_first(totals: Totals) -> str:
    """Return the section of images that need a look first."""
    look = totals.look
    cards = look.cards()
    said = _look_lead(totals)
    failed = "".join(
        f'<li><a href="#i{number}"><bdi>{text(image.name)}</bdi></a> {FAILED} '
        f'<span class="why">{_told(image.error)}</span></li>'
        for number, image in look.failed
    )
    rest = totals.failed - len(look.failed)
    more = f"<li>and {rest:,} more, in the table</li>" if rest > 0 else ""
    listed = f'<ul class="errors">{failed}{more}</ul>' if failed else ""
    shown = "".join(_card(*one) for one in cards)
    return f'<p>{said}</p>{listed}<ul class="cards">{shown}</ul>'


def _look_lead(totals: Totals) -> str:
    count = totals.look.count
    if not totals.images:
        return "There is no image to look at."
    if not count:
        return (
            "No image failed or was remarked on. These are the ones whose objects are "
            "the least certain, for a spot check."
        )
    needs = "needs" if count == 1 else "need"
    said = (
        f"{count:,} of {_counted(totals.images, 'image')} {needs} a look: failed, "
        "unlike the images that the model was trained on, or without any object."
    )
    if count - totals.failed > MOST_CARDS:
        said += f" Here are the {MOST_CARDS} that need it most; the table has all."
    if count < FEWEST_CARDS < totals.images:
        said += " The others shown are the least certain ones, for a spot check."
    return said


def _card(number: int, image: ImageSummary, why: Sequence[str]) -> str:
    badge = LOOK if reasons(image) else ""
    told = "".join(f"<p>{_told(one)}</p>" for one in why)
    facts = [_counted(image.objects, "object")]
    median = image.diameters.quantile(0.5)
    if median is not None:
        facts.append(f"{_px(median)} px wide")
    return (
        f"<li>{_picture(image)}<div>"
        f'<h3><a href="#i{number}"><bdi>{text(image.name)}</bdi></a></h3>'
        f'<p class="quiet">{", ".join(facts)} {badge}</p>{told}</div></li>'
    )


def _told(message: str) -> str:
    """Return a message in HTML, with its options of the command line set apart."""
    return OPTION.sub(r"<code>\g<0></code>", text(message))


def _picture(image: ImageSummary) -> str:
    if not image.thumbnail:
        return '<span class="none">no picture</span>'
    width, height = image.thumbnail_size
    data = base64.b64encode(image.thumbnail).decode("ascii")
    of = f", {image.plane}" if image.plane else ""
    said = f"Outlines of {_counted(image.objects, 'object')}{of}"
    shown = (
        f'<img loading="lazy" decoding="async" width="{width}" height="{height}" '
        f'alt="{text(said)}" src="data:image/webp;base64,{data}">'
    )
    if image.link:
        return (
            f'<a href="{link(image.link)}" title="Open the large picture">{shown}</a>'
        )
    return shown


def charts(totals: Totals) -> str:
    """Return the distributions over the batch."""
    parts = [
        chart(OBJECTS, totals.objects.histogram()),
        chart(SIZES, totals.diameters.histogram()),
        chart(CERTAINTY, totals.confidences.histogram()),
    ]
    note = ""
    (size,) = totals.pixel_sizes if len(totals.pixel_sizes) == 1 else (None,)
    if size is not None:
        y, x = size
        same = f"{x:.4g}" if y == x else f"{x:.4g} (width) by {y:.4g} (height)"
        note = f'<p class="quiet">A pixel is {same} micrometres in every image.</p>'
    return f'<div class="charts">{"".join(parts)}</div>{note}'


def _read_as(image: ImageSummary) -> list[str]:
    """Return where the size of a pixel comes from, and what else is noted."""
    notes = list(image.notes)
    if image.pixel_size_um is not None and image.pixel_size_from:
        y, x = image.pixel_size_um
        same = f"{x:.4g}" if y == x else f"{x:.4g} (width) by {y:.4g} (height)"
        notes.insert(0, f"{same} µm per pixel, by {image.pixel_size_from}")
    return notes


def row(number: int, image: ImageSummary, *, picture: bool) -> str:
    """Return one row of the table."""
    why = reasons(image)
    failed = image.status == "failed"
    kind = "failed" if failed else "look" if why else "fine"
    badge = {"failed": FAILED, "look": LOOK, "fine": ""}[kind]
    told = "".join(f'<span class="why">{_told(one)}</span>' for one in why)
    told += "".join(
        f'<span class="why quiet">{_told(one)}</span>' for one in _read_as(image)
    )
    median = image.diameters.quantile(0.5)
    mean = image.confidences.mean() if image.confidences else None
    shown = _picture(image) if picture else '<span class="none">no picture</span>'
    data = {
        "k": kind,
        "n": "" if failed else image.objects,
        "d": "" if median is None else f"{median:.2f}",
        "c": "" if mean is None else f"{mean:.4f}",
        "s": f"{image.seconds:.3f}",
    }
    attributes = "".join(f' data-{key}="{value}"' for key, value in data.items())
    return (
        f'<tr id="i{number}"{attributes}><td class="pic">{shown}</td>'
        f'<th scope="row"><bdi>{text(image.name)}</bdi>{badge}{told}</th>'
        f"<td>{NONE if failed else f'{image.objects:,}'}</td>"
        f"<td>{_sizes(image.diameters)}</td>"
        f"<td>{NONE if mean is None else f'{mean:.2f}'}</td>"
        f'<td class="s">{_seconds(image)}</td></tr>'
    )


def _sizes(diameters: Histogram) -> str:
    low, median, high = (diameters.quantile(share) for share in (0.05, 0.5, 0.95))
    if low is None or median is None or high is None:
        return NONE
    return f"{_px(median)} <small>{_px(low)} to {_px(high)}</small>"


def _seconds(image: ImageSummary) -> str:
    if image.status == "skipped":
        return f"{image.seconds:.1f} <small>before</small>"
    return f"{image.seconds:.1f}"


def facts(run: RunSummary) -> str:
    """Return the sections of settings, versions and model."""
    sections = {
        "Settings": run.settings,
        "Versions": run.versions,
        "Model": run.model,
    }
    return "".join(
        f"<section><h3>{name}</h3>{_definitions(values)}</section>"
        for name, values in sections.items()
    )


def _definitions(values: Mapping[str, Any]) -> str:
    shown = "".join(
        f"<div><dt>{text(name)}</dt><dd><bdi>{_value(value)}</bdi></dd></div>"
        for name, value in values.items()
    )
    return f'<dl class="facts">{shown}</dl>'


def _value(value: object) -> str:
    if value is None or value == [] or value == "":
        return '<span class="quiet">none</span>'
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return text(f"{value:g}")
    if isinstance(value, list | tuple):
        return ", ".join(_value(one) for one in value)
    if isinstance(value, dict):
        return _definitions(value)
    return text(value)


def _objects(totals: Totals) -> int:
    return sum(n * images for n, images in totals.objects.histogram().counts.items())


def _px(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


MAX_PICTURES = 20_000
"""Beyond so many images only those that need a look, as many again, have a picture."""

GROUP = 50
"""Rows of one group of the table; a browser that runs the page's script lays out the
first group alone."""

MEMORY_BYTES = 8 * 2**20
"""Rows beyond this wait on the disk."""

HEAD_SCRIPT = 'document.documentElement.className="js"'


def write_report(path: Path, run: RunSummary, images: Iterable[ImageSummary]) -> None:
    """Write the page of a batch; it appears only when it is complete.

    Parameters
    ----------
    path
        Where, ending in ``.html``.
    run
        The run as a whole.
    images
        Asked for one at a time.

    Raises
    ------
    OutputError
        If there is no room or no permission.
    """
    pending = PendingFile(path)
    try:
        with (
            writing(path),
            tempfile.SpooledTemporaryFile(
                MEMORY_BYTES, dir=str(path.parent), prefix=".", suffix=".partial"
            ) as rows,
        ):
            totals = Totals()
            for image in images:
                totals.add(image)
                rows.write(_row(image, totals).encode("utf-8"))
            rows.seek(0)
            before, after = _frame(run, totals)
            with pending.temporary.open("wb") as page:
                page.write(before.encode("utf-8"))
                shutil.copyfileobj(rows, page, 2**20)
                page.write(after.encode("utf-8"))
        pending.commit()
    finally:
        pending.abort()


def _row(image: ImageSummary, totals: Totals) -> str:
    """Return a row, and what comes between groups of rows in front of it."""
    number = totals.images
    room = totals.pictures < MAX_PICTURES
    if number > MAX_PICTURES:
        room = bool(image.warnings) and totals.pictures < 2 * MAX_PICTURES
    shown = bool(image.thumbnail) and room
    totals.pictures += shown
    between = "</tbody><tbody>" if number > 1 and number % GROUP == 1 else ""
    return f"{between}{row(number, image, picture=shown)}\n"


def _frame(run: RunSummary, totals: Totals) -> tuple[str, str]:
    """Return what stands before and after the rows."""
    style, script = _resource("report_page.css"), _resource("report_page.js")
    marker = "<!--rows-->"
    page = Template(_resource("report_page.html")).substitute(
        style=style,
        script=script,
        head_script=HEAD_SCRIPT,
        style_hash=source_hash(style),
        script_hashes=f"{source_hash(HEAD_SCRIPT)} {source_hash(script)}",
        title=title(totals),
        lead=lead(run, totals),
        tiles=tiles(totals),
        look=look_first(totals),
        charts=charts(totals),
        rows=marker,
        facts=facts(run),
    )
    before, _, after = page.partition(marker)
    return before, after


@cache
def _resource(name: str) -> str:
    return (resources.files("cellunet.outputs") / name).read_text(encoding="utf-8")
