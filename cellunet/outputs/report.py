"""Write the report of a batch: one HTML file that needs nothing else.

A histogram has fixed steps, so that images add up to a batch without any object being
kept, and a record of an image is small whatever the image holds.

It lies in the folder of results, so that a run that finds an image finished can still
show it, and so that no report holds more than one picture in memory.

Images pass by twice, one at a time: for what stands above the table, then for its rows,
which go to the disk as they are made. In memory are one image, the pictures of at most
`MOST_CARDS` + `FEWEST_CARDS` images, and sums.

File names may hold anything: markup, quotes, line separators, marks that turn the
direction of reading, halves of surrogate pairs that stand for undecodable bytes.
Jinja2 escapes every value of the page, after `visible` has spelled out what is not
seen.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import json
import math
import os
import re
import statistics
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from cellunet.io.file_names import name_of
from cellunet.io.files import write_atomically
from cellunet.io.samples import is_given
from cellunet.outputs import charts
from cellunet.outputs.plates import (
    Plates,
    Samples,
    layout_of,
    value_shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from jinja2 import Environment, Template

    from cellunet.outputs.plates import WellSums

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

    def median(self) -> float | None:
        """Return the median; None without any.

        That of whole numbers counted in steps of 1 is exact; else as `quantile`.

        Examples
        --------
        >>> Histogram(step=1.0, counts={3: 1, 7: 1, 9: 1}).median()
        7
        """
        if self.step != 1 or not self.counts:
            return self.quantile(0.5)
        return statistics.median(Counter(self.counts).elements())

    def mean(self) -> float | None:
        """Return the mean, each value in the middle of its bin; None without any."""
        total = self.total
        if not total:
            return None
        return self.step * sum((p + 0.5) * n for p, n in self.counts.items()) / total


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
    size: str = ""
    """How large its objects are and how it was seen, in words, if that was found."""
    error: str = ""
    """Why it failed."""
    link: str = ""
    """Path of a larger picture, relative to the report's folder."""
    columns: Mapping[str, str | float] = field(default_factory=dict)
    """What tables say of the whole image: plate, well, ..., and the samples. It is of
    this run, and in no record."""
    intensities: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """By channel the sum over objects of their mean intensity, and their number; of a
    table, and in no record."""

    @property
    def place(self) -> str:
        """What tables say of it, in words."""
        return ", ".join(
            f"{name} {value_shown(value)}"
            for name, value in self.columns.items()
            if is_given(value)
        )


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What the report says of the run as a whole; values are shown in this order."""

    created: str
    """When, in words."""
    folder: str
    """What the names of all images begin with, which is not repeated."""
    results: str
    """Where the label images are."""
    stopped: bool = False
    """Whether it was stopped before its end."""
    measured: bool = False
    """Whether labels were given and measured, and no model made them."""
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


class ImagesToReview:
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
class ReportTotals:
    """Counts, sums and the images to look at first, of the images added so far."""

    images: int = 0
    failed: int = 0
    skipped: int = 0
    objects: Counter[int] = field(default_factory=Counter)
    """Images by their number of objects."""
    diameters: Counter[int] = field(default_factory=Counter)
    """Objects by the bin of their diameter."""
    confidences: Counter[int] = field(default_factory=Counter)
    pixel_sizes: set[tuple[float, float] | None] = field(default_factory=set)
    """The different ones, two at the most."""
    look: ImagesToReview = field(default_factory=ImagesToReview)
    plates: Plates = field(default_factory=Plates)
    samples: Samples = field(default_factory=Samples)

    def add(self, image: ImageSummary) -> None:
        """Count one image."""
        self.images += 1
        self.look.add(self.images, image)
        self.plates.add(image)
        self.samples.add(image)
        if image.status == "failed":
            self.failed += 1
            return
        self.skipped += image.status == "skipped"
        self.objects[image.objects] += 1
        self.diameters.update(image.diameters.counts)
        if image.confidences is not None:
            self.confidences.update(image.confidences.counts)
        if len(self.pixel_sizes) < 2:
            self.pixel_sizes.add(image.pixel_size_um)

    @property
    def object_count(self) -> int:
        """How many objects there are in all images."""
        return sum(n * images for n, images in self.objects.items())

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """The size of a pixel if it is the same in all images."""
        (size,) = self.pixel_sizes if len(self.pixel_sizes) == 1 else (None,)
        return size


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
        "pixel_size_um": image.pixel_size_um and list(image.pixel_size_um),
        "pixel_size_from": image.pixel_size_from,
        "notes": list(image.notes),
        "seconds": image.seconds,
        "warnings": list(image.warnings),
        "size": image.size,
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
        diameters=_histogram(values["diameters"], DIAMETER_STEP_PX),
        confidences=(_histogram(confidences, CONFIDENCE_STEP) if confidences else None),
        pixel_size_um=(float(size[0]), float(size[1])) if size else None,
        # Records of before this was known do not have them.
        pixel_size_from=str(values.get("pixel_size_from", "")),
        notes=tuple(str(n) for n in values.get("notes", ())),
        seconds=float(values["seconds"]),
        warnings=tuple(str(w) for w in values["warnings"]),
        # Not in records from before sizes were found.
        size=str(values.get("size", "")),
    )


def _pairs(histogram: Histogram) -> list[Any]:
    return [histogram.step, *([p, n] for p, n in histogram.counts.items())]


def _histogram(pairs: list[Any], step: float) -> Histogram:
    own, *rest = pairs
    if own != step:
        raise ValueError(f"a step of {own} does not add to {step}")
    return Histogram(step=step, counts={int(p): int(number) for p, number in rest})


OBJECTS = charts.Chart(
    title="Objects per image", what="images", axis="objects in an image", whole=True
)

SIZES = charts.Chart(title="Size", what="objects", axis="equivalent diameter, px")

CERTAINTY = charts.Chart(
    title="Confidence", what="objects", axis="confidence of an object", high=1.0
)

HIDDEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
"""Categories of characters that are not seen, or change how others are seen."""

OPTION = re.compile(r"(--[a-z][a-z-]*)")

MAX_PICTURES = 20_000
"""Beyond so many images only those that need a look, as many again, have a picture."""

GROUP = 50
"""Rows of one group of the table; a browser that runs the page's script lays out the
first group alone."""

HEAD_SCRIPT = 'document.documentElement.className="js"'


def visible(text: str) -> str:
    r"""Return `text` with every character that is not seen spelled out.

    Examples
    --------
    >>> visible("gpj\u202efit.exe")
    'gpj\\u202efit.exe'
    """
    if text.isprintable():
        return text
    return "".join(
        c if unicodedata.category(c) not in HIDDEN else _spelled(c) for c in text
    )


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def link(path: str) -> str:
    """Return a relative path, its parts divided by "/", as an address.

    It cannot be anything else than a path below the page.

    Examples
    --------
    >>> link('javascript:alert(1)')
    './javascript%3Aalert%281%29'
    """
    return "./" + quote(os.fsencode(path), safe="/")


def source_hash(content: str) -> str:
    """Return the name of an inline script or style in a Content-Security-Policy."""
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"'sha256-{_base64(digest)}'"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _px(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _mean(value: float) -> str:
    return "" if math.isnan(value) else charts.number(value)


def _um(size: tuple[float, float]) -> str:
    y, x = size
    return f"{x:.4g}" if y == x else f"{x:.4g} (width) by {y:.4g} (height)"


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


@cache
def environment() -> Environment:
    """Return what makes a page of a template: every value escaped, none hidden."""
    from jinja2 import Environment, StrictUndefined

    made = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=lambda value: (
            value if hasattr(value, "__html__") else visible(str(value))
        ),
    )
    made.filters |= {
        "base64": _base64,
        "counted": _counted,
        "link": link,
        "options": OPTION.split,
        "mean": _mean,
        "px": _px,
        "reasons": reasons,
        "source_hash": source_hash,
        "um": _um,
    }
    return made


@cache
def _template() -> Template:
    return environment().from_string(_resource("report.html.jinja"))


@cache
def _resource(name: str) -> str:
    return (resources.files("cellunet.outputs") / name).read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """A histogram of the batch as the page shows it."""

    about: charts.Chart
    alt: str = ""
    light: bytes = b""
    """SVG, empty if there is nothing to show."""
    dark: bytes = b""
    rows: tuple[tuple[str, int], ...] = ()


def _drawn(about: charts.Chart, data: Histogram) -> _Drawn:
    median = data.median()
    if median is None:
        return _Drawn(about=about)
    bars = charts.bars_of(about, data)
    light, dark = (
        charts.svg(charts.histogram(about, bars, median, colors), about.title)
        for colors in (charts.LIGHT, charts.DARK)
    )
    return _Drawn(
        about=about,
        alt=f"{about.title}: {data.total:,} {about.what}, median "
        f"{charts.number(median)}, range of the axis {charts.number(bars.low)} to "
        f"{charts.number(bars.high)}.",
        light=light.encode("utf-8"),
        dark=dark.encode("utf-8"),
        rows=tuple(charts.table_rows(about, bars)),
    )


MOST_PLATES = 12
"""Plates that are drawn; their wells are in the table, all of them."""


@dataclass(frozen=True, kw_only=True)
class _Map:
    """One quantity of a plate as the page shows it."""

    title: str
    alt: str
    light: bytes
    dark: bytes
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class _Plate:
    """A plate as the page shows it."""

    name: str
    maps: list[_Map]
    wells: list[tuple[str, WellSums]]
    """Those with images, by name."""


def _plates(plates: Plates) -> Iterator[_Plate]:
    for name, wells in list(plates.wells.items())[:MOST_PLATES]:
        counts = {
            at: float(s.objects) if s.images else math.nan for at, s in wells.items()
        }
        drawn = [_drawn_map("Objects per well", wells, counts, whole=True)]
        for channel in plates.channels:
            title = f"Mean intensity{f', {channel}' if channel else ''}"
            means = {at: sums.intensity(channel) for at, sums in wells.items()}
            drawn.append(_drawn_map(title, wells, means, whole=False))
        shown = [(name_of(at), wells[at]) for at in sorted(wells)]
        yield _Plate(name=name, maps=drawn, wells=shown)


def _drawn_map(
    title: str,
    wells: Mapping[tuple[int, int], WellSums],
    values: Mapping[tuple[int, int], float],
    *,
    whole: bool,
) -> _Map:
    rows, columns = layout_of(wells)
    about = charts.PlateMap(
        title=title,
        rows=rows,
        columns=columns,
        values=values,
        failed={at for at, sums in wells.items() if not sums.images},
        whole=whole,
    )
    light, dark = (charts.plate_map(about, c) for c in (charts.LIGHT, charts.DARK))
    width, height = (round(inches / charts.PX) for inches in light.get_size_inches())
    known = {at: v for at, v in values.items() if v == v}
    low, high = (f(known, key=known.__getitem__, default=None) for f in (min, max))
    said = "nothing is known"
    if low is not None and high is not None:
        said = (
            f"from {charts.number(known[low])} in {name_of(low)} to "
            f"{charts.number(known[high])} in {name_of(high)}"
        )
    return _Map(
        title=title,
        alt=f"{title}, {len(known)} of {rows * columns} wells: {said}.",
        light=charts.svg(light, title).encode("utf-8"),
        dark=charts.svg(dark, title).encode("utf-8"),
        width=width,
        height=height,
    )


def write_report(
    path: Path,
    run: RunSummary,
    images: Callable[[], Iterable[ImageSummary]],
    most_pictures: int = MAX_PICTURES,
) -> None:
    """Write the page of a batch; it appears only when it is complete.

    Parameters
    ----------
    path
        Where, ending in ``.html``.
    run
        The run as a whole.
    images
        Called twice, for the same images; they are asked for one at a time.
    most_pictures
        Images that have a picture in the table; of those beyond, as many again that
        need a look have one.

    Raises
    ------
    OutputError
        If there is no room or no permission.
    """
    with write_atomically(path) as temporary, temporary.open("wb") as page:
        totals = ReportTotals()
        for image in images():
            totals.add(image)
        objects = Histogram(step=1.0, counts=totals.objects)
        sizes = Histogram(step=DIAMETER_STEP_PX, counts=totals.diameters)
        sure = Histogram(step=CONFIDENCE_STEP, counts=totals.confidences)
        style, script = _resource("report.css"), _resource("report_table.js")
        parts = _template().generate(
            run=run,
            totals=totals,
            objects=objects,
            diameters=sizes,
            confidences=sure,
            charts=[
                _drawn(OBJECTS, objects),
                _drawn(SIZES, sizes),
                *([] if run.measured else [_drawn(CERTAINTY, sure)]),
            ],
            plates=_plates(totals.plates),
            most_plates=MOST_PLATES,
            rows=_rows(images(), most_pictures),
            group=GROUP,
            most_cards=MOST_CARDS,
            fewest_cards=FEWEST_CARDS,
            style=style,
            script=script,
            head_script=HEAD_SCRIPT,
        )
        page.writelines(part.encode("utf-8") for part in parts)


def _rows(
    images: Iterable[ImageSummary], most_pictures: int
) -> Iterator[tuple[ImageSummary, bool]]:
    """Yield each image, and whether its row has a picture."""
    pictures = 0
    for number, image in enumerate(images, 1):
        room = pictures < most_pictures
        if number > most_pictures:
            room = bool(image.warnings) and pictures < 2 * most_pictures
        shown = bool(image.thumbnail) and room
        pictures += shown
        yield image, shown
