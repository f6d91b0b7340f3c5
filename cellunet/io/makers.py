"""Where each maker's TIFFs keep pixel size, channel name, position and time.

The index, ``Index.idx.xml`` or ``Index.xml`` by version, lies beside the images. Each
image has its entry by file name; newer versions keep what all images of a channel share
in an entry of the channel.

One row a maker in `MAKERS`. A row knows its files, reads what they say, and tells
whether their resolution tags may be believed: several programs write the same number
there whatever the objective was. Where the truth is missing there is no pixel size, and
a note says so; no constant takes its place.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import tifffile

from cellunet.io.metadata import (
    HARMONY_UM,
    imagej_channel_names,
    positive,
    refuse_entities,
    tag_pixel_size,
    unit_um,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cellunet.io.metadata import OmeImage

INDEXES = ("Index.idx.xml", "Index.xml")

_HEAD_BYTES = 64 * 2**10
"""A document type stands before the first element: this far entities are looked for."""

_KEPT = 4

_FIELDS = (
    "Row",
    "Col",
    "FieldID",
    "ChannelName",
    "ImageResolutionX",
    "ImageResolutionY",
    "AbsTime",
)


@dataclass(frozen=True)
class IndexEntry:
    """What an index says of one image."""

    index: str
    """Name of the index."""
    pixel_size_um: tuple[float, float] | None
    """Height and width of a pixel."""
    channel: str
    """Name of its channel."""
    position: str
    """Row, column and field."""
    acquired: str
    """When it was taken."""


def find_in_index(path: Path) -> IndexEntry | None:
    """Return what the index beside an image says of it; None without one."""
    for name in INDEXES:
        index = path.with_name(name)
        try:
            stat = index.stat()
        except OSError:
            continue
        found = _entries(index, stat.st_mtime_ns, stat.st_size).get(
            path.name.casefold()
        )
        if found is not None:
            return found
    return None


@lru_cache(maxsize=_KEPT)
def _entries(index: Path, modified_ns: int, size: int) -> dict[str, IndexEntry]:
    """Return all entries by file name; an index may describe 100,000 images."""
    del modified_ns, size  # A changed index is read again.
    with index.open("rb") as file:
        refuse_entities(index, file.read(_HEAD_BYTES).decode("utf-8", "replace"))
    images: list[dict[str, str]] = []
    channels: dict[str, dict[str, str]] = {}
    try:
        for _, element in ElementTree.iterparse(index):
            kind = element.tag.rsplit("}", 1)[-1]
            if kind == "Entry":
                fields = channels.setdefault(element.get("ChannelID", ""), {})
                fields |= _fields(element)
                element.clear()
            elif kind == "Image" and (fields := _fields(element)).get("URL"):
                images.append(fields)
                element.clear()
    except (ElementTree.ParseError, OSError):
        return {}
    entries = {}
    for own in images:
        fields = channels.get(own.get("ChannelID", ""), {}) | own
        name = fields["URL"].replace("\\", "/").rsplit("/", 1)[-1]
        entries[name.casefold()] = _entry(index.name, fields)
    return entries


def _fields(element: ElementTree.Element) -> dict[str, str]:
    """Return the texts of what is used of an entry, lengths in micrometers."""
    fields = {}
    for child in element:
        name = child.tag.rsplit("}", 1)[-1]
        text = (child.text or "").strip()
        if name.startswith("ImageResolution"):
            size, unit = positive(text), unit_um(child.get("Unit", ""))
            text = str(size * unit) if size and unit else ""
        if text and name in (*_FIELDS, "URL", "ChannelID"):
            fields[name] = text
    return fields


def _entry(index: str, fields: dict[str, str]) -> IndexEntry:
    height, width = (positive(fields.get(f"ImageResolution{axis}")) for axis in "YX")
    places = (("row", "Row"), ("column", "Col"), ("field", "FieldID"))
    return IndexEntry(
        index,
        (height, width) if height and width else None,
        fields.get("ChannelName", ""),
        ", ".join(f"{word} {fields[key]}" for word, key in places if key in fields),
        fields.get("AbsTime", ""),
    )


PixelSize = tuple[float, float]

_MICROMANAGER, _UIC1 = 51123, 33628

_METERS_UM = 1e6


@dataclass(frozen=True)
class TiffImage:
    """One image of an open TIFF."""

    path: Path
    tiff: tifffile.TiffFile
    series: tifffile.TiffPageSeries
    ome: OmeImage | None = None
    split: bool = False
    """Whether it is a part of an image whose whole the metadata describe."""

    @property
    def page(self) -> tifffile.TiffPage:
        """The first page of the image."""
        return self.series.keyframe

    def tag(self, code: int) -> Any:  # noqa: ANN401 - of any type
        """Return the value of a tag of the file's first page, None without it."""
        return self.tiff.pages.first.tags.valueof(code)


@dataclass(frozen=True)
class Metadata:
    """What is known of how an image was taken."""

    pixel_size_um: PixelSize | None = None
    """Height and width of a pixel."""
    channel_names: tuple[str, ...] = ()
    position: str = ""
    """Well, site or field, in the maker's words."""
    acquired: str = ""
    """When, in the maker's words."""
    pixel_size_from: str = ""
    """Where the size stands."""
    notes: tuple[str, ...] = ()
    """What to tell the user."""


@dataclass(frozen=True)
class Maker:
    """One kind of file: a row of `MAKERS`."""

    name: str
    place: str
    """Where the truth stands."""
    knows: Callable[[TiffImage], bool]
    read: Callable[[TiffImage], Metadata] = field(repr=False)
    tags: str = ""
    """What stands in the resolution tags instead of a size; empty if they are right."""


def describe(image: TiffImage) -> Metadata:
    """Return what the first maker that knows an image says of it.

    What it leaves out is filled in from the rows behind it.
    """
    rows = [maker for maker in MAKERS if maker.knows(image)]
    found = [(maker, maker.read(image)) for maker in rows]
    sized = [(m, d) for m, d in found if d.pixel_size_um is not None]
    size, place = (
        (sized[0][1].pixel_size_um, sized[0][1].pixel_size_from or sized[0][0].place)
        if sized
        else (None, "")
    )
    wrong = next((maker for maker in rows if maker.tags), None)
    notes: tuple[str, ...] = ()
    if size is None and wrong is not None:
        notes = (
            f"no pixel size: {wrong.name} files say {wrong.tags} in their resolution "
            f"tags, and {wrong.place} gives none",
        )
    elif size is None:
        size = tag_pixel_size(image.page, image.tiff.imagej_metadata)
        place = "resolution tags" if size else ""

    def first(values: list[Any]) -> Any:  # noqa: ANN401 - of the type of the values
        return next((value for value in values if value), values[0] if values else "")

    return Metadata(
        size,
        first([d.channel_names for _, d in found]) or (),
        first([d.position for _, d in found]),
        first([d.acquired for _, d in found]),
        place,
        notes,
    )


def _is_harmony(image: TiffImage) -> bool:
    sizes = _tag_sizes(image.page)
    constant = sizes is not None and all(
        math.isclose(size, HARMONY_UM, rel_tol=1e-6) for size in sizes
    )
    return constant or re.match(_HARMONY_NAME, image.path.name, re.I) is not None


_HARMONY_NAME = r"r\d+c\d+f\d+p\d+-ch\d+sk\d+fk\d+fl\d+\.tiff?$"


def _tag_sizes(page: tifffile.TiffPage) -> PixelSize | None:
    """Return the sizes by resolution tags per centimeter, right or wrong."""
    ratios = page.tags.valueof(283), page.tags.valueof(282)
    if page.tags.valueof(296) != 3 or not all(
        isinstance(ratio, tuple) and all(ratio) for ratio in ratios
    ):
        return None
    return 1e4 * ratios[0][1] / ratios[0][0], 1e4 * ratios[1][1] / ratios[1][0]


def _harmony(image: TiffImage) -> Metadata:
    found = find_in_index(image.path)
    if found is None:
        return Metadata()
    return Metadata(
        found.pixel_size_um,
        (found.channel,) if found.channel else (),
        found.position,
        found.acquired,
        found.index,
    )


def _metaseries(image: TiffImage) -> Metadata:
    values = {
        e.get("id", ""): e.get("value", "")
        for e in _xml(image.path, image.tiff.pages.first.description).iter()
        if e.tag in ("prop", "custom-prop")
    }
    unit = unit_um(values.get("spatial-calibration-units", ""))
    on = values.get("spatial-calibration-state", "on") == "on"
    sizes = [positive(values.get(f"spatial-calibration-{axis}")) for axis in "yx"]
    name = values.get("_IllumSetting_") or values.get("image-name", "")
    return Metadata(
        _sizes(sizes, unit if on else None),
        (name,) if name else (),
        values.get("stage-label", ""),
        values.get("acquisition-time-local", ""),
    )


def _sizes(values: list[float | None], unit: float | None) -> PixelSize | None:
    """Return height and width in micrometers if both and their unit are known."""
    height, width = values
    if unit is None or height is None or width is None:
        return None
    return height * unit, width * unit


def _xml(path: Path, text: str) -> ElementTree.Element:
    """Return XML in a description, an empty element if it is none."""
    refuse_entities(path, text)
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return ElementTree.Element("none")


def _micromanager(image: TiffImage) -> Metadata:
    meta = image.tag(_MICROMANAGER)
    if not isinstance(meta, dict):
        return Metadata()
    size = positive(meta.get("PixelSizeUm"))
    axes = meta.get("Axes")
    axes = axes if isinstance(axes, dict) else {}
    name = meta.get("Channel") or meta.get("ChannelName") or axes.get("channel")
    names: tuple[str, ...] = (str(name),) if name is not None else ()
    if _planes_of_channels(image) > 1:
        names = _ndtiff_channels(image)
    return Metadata(
        _sizes([size, size], 1.0),
        names,
        str(meta.get("PositionName") or ""),
        str(meta.get("ReceivedTime") or meta.get("Time") or ""),
    )


def _ndtiff_channels(image: TiffImage) -> tuple[str, ...]:
    """Return the channels of an NDTiff data set by name, as tifffile numbers them."""
    if image.series.kind != "ndtiff":
        return ()
    index = image.path.with_name("NDTiff.index")
    found = [axes.get("channel") for axes, *_ in tifffile.read_ndtiff_index(index)]
    named = dict.fromkeys(name for name in found if isinstance(name, str))
    return tuple(named)


def _planes_of_channels(image: TiffImage) -> int:
    axes, shape = image.series.axes, image.series.shape
    return int(shape[axes.index("C")]) if "C" in axes else 1


def _lsm(image: TiffImage) -> Metadata:
    info = image.tiff.lsm_metadata or {}
    colors = info.get("ChannelColors") or {}
    scan = info.get("ScanInformation") or {}
    return Metadata(
        _sizes([positive(info.get(f"VoxelSize{axis}")) for axis in "YX"], _METERS_UM),
        tuple(str(name) for name in colors.get("ColorNames") or ()),
        acquired=_ole_date(scan.get("Sample0time")),
    )


def _ole_date(days: Any) -> str:  # noqa: ANN401 - of metadata
    """Return a date that is told in days since the end of 1899, as text."""
    from datetime import datetime, timedelta

    number = positive(days)
    if number is None or number > 100_000:
        return ""
    date = datetime(1899, 12, 30) + timedelta(days=number)
    return date.isoformat(" ", "seconds")


def _uic(image: TiffImage) -> Metadata:
    info = image.tag(_UIC1)
    info = info if isinstance(info, dict) else {}
    # Of .stk files a later tag may replace what the first one says.
    info = {**info, **(image.tiff.stk_metadata or {})} if image.tiff.is_stk else info
    unit = unit_um(_text(info.get("CalibrationUnits")))
    sizes = [positive(info.get(f"{axis}Calibration")) for axis in "YX"]
    properties = info.get("PlaneProperty")
    # Older versions of tifffile leave a number where newer ones read the list.
    listed = properties if isinstance(properties, list | tuple) else ()
    named = {p.get("name"): p.get("value") for p in listed if isinstance(p, dict)}
    name = _text(named.get("_IllumSetting_") or info.get("Name"))
    return Metadata(
        _sizes(sizes, unit if info.get("SpatialCalibration", 1) else None),
        (name,) if name else (),
        _text(info.get("StageLabel")),
        _text(info.get("CreateTime")),
    )


def _text(value: Any) -> str:  # noqa: ANN401 - of metadata
    """Return text of a tag, of several the first."""
    if isinstance(value, list | tuple):
        value = value[0] if value else ""
    return str(value or "").strip().strip("\0")


def _qptiff(image: TiffImage) -> Metadata:
    names, first = [], ElementTree.Element("none")
    for number, page in enumerate(image.series.pages):
        described = getattr(page, "description", "")
        xml = _xml(image.path, described)
        first = xml if number == 0 else first
        names.append((xml.findtext("Name") or "").strip())
    return Metadata(
        tag_pixel_size(image.page, None),
        tuple(names) if any(names) else (),
        (first.findtext("SlideID") or "").strip(),
        str(image.tag(306) or ""),
        "resolution tags",
    )


def _ome(image: TiffImage) -> Metadata:
    if image.ome is None:
        return Metadata()
    return Metadata(image.ome.pixel_size_um, image.ome.channel_names)


def _imagej(image: TiffImage) -> Metadata:
    imagej = image.tiff.imagej_metadata or {}
    return Metadata(
        tag_pixel_size(image.page, imagej),
        () if image.split else imagej_channel_names(imagej),
    )


MAKERS = (
    Maker(
        "Opera Phenix and Operetta",
        " or ".join(INDEXES) + " beside them",
        _is_harmony,
        _harmony,
        "6.4504 µm whatever the objective",
    ),
    Maker(
        "ImageXpress",
        "the MetaSeries XML",
        lambda image: image.tiff.pages.first.is_metaseries,
        _metaseries,
        "1 px per inch",
    ),
    Maker(
        "MetaMorph",
        "the UIC1 tag",
        lambda image: _UIC1 in image.tiff.pages.first.tags,
        _uic,
        "the dots per inch of a screen",
    ),
    Maker("OME-TIFF", "OME-XML", lambda image: image.ome is not None, _ome),
    Maker(
        "Zeiss LSM",
        "the CZ_LSMINFO tag",
        lambda image: image.tiff.pages.first.is_lsm,
        _lsm,
    ),
    Maker(
        "PerkinElmer QPTIFF",
        "resolution tags",
        lambda image: image.tiff.pages.first.is_qpi,
        _qptiff,
    ),
    Maker(
        "ImageJ",
        "ImageJ's description",
        lambda image: image.tiff.imagej_metadata is not None,
        _imagej,
    ),
    Maker(
        "Micro-Manager",
        "tag 51123 (PixelSizeUm)",
        lambda image: _MICROMANAGER in image.tiff.pages.first.tags,
        _micromanager,
        "1 px per cm",
    ),
)
"""The first row that knows a file and has an answer is believed."""
