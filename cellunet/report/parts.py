"""The parts of the page as HTML; nothing reaches it but through `escape`."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from cellunet.report.charts import Chart, chart
from cellunet.report.escape import link, text
from cellunet.report.look import FEWEST_CARDS, MOST_CARDS, reasons

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cellunet.report.summary import Histogram, ImageSummary, RunSummary
    from cellunet.report.totals import Totals

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
