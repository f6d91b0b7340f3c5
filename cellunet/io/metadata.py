"""What a TIFF's metadata say: channel names, pixel sizes, position and time.

Pixel sizes are taken from OME (``PhysicalSizeX``, ``PhysicalSizeY`` with their units),
else from ImageJ (resolution tags in the unit of its description), else from the
resolution tags, if these are in centimeters or inches. Resolution tags are believed
only from 0.001 to 10 micrometers a pixel: programs write 72, 96, 150, 300 or 600 dots
an inch (353 to 42 micrometers) into files that have no scale at all.

Makers of microscopes have places of their own, one row a maker in `TIFF_MAKERS`. A row
knows its files, reads what they say, and tells whether their resolution tags may be
believed: several programs write the same number there whatever the objective was. Where
the truth is missing there is no pixel size, and a note says so; no constant takes its
place.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import tifffile

from cellunet.errors import ImageReadError
from cellunet.io.source import reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PixelSize = tuple[float, float]
"""Height and width."""

MICROMETERS = {
    "Å": 1e-4,
    "angstrom": 1e-4,
    "pm": 1e-6,
    "nm": 1e-3,
    "µm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "dm": 1e5,
    "m": 1e6,
    "in": 25_400.0,
    "inch": 25_400.0,
    "foot": 304_800.0,
    "yard": 914_400.0,
}
"""Length units in micrometers that are not called meter with a prefix."""

SECONDS = {
    "ns": 1e-9,
    "µs": 1e-6,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "d": 86_400.0,
    "day": 86_400.0,
}
"""Units of time in seconds that are not called second with a prefix."""

_PREFIXES = {
    "yotta": 24,
    "zetta": 21,
    "exa": 18,
    "peta": 15,
    "tera": 12,
    "giga": 9,
    "mega": 6,
    "kilo": 3,
    "hecto": 2,
    "deca": 1,
    "": 0,
    "deci": -1,
    "centi": -2,
    "milli": -3,
    "micro": -6,
    "nano": -9,
    "pico": -12,
    "femto": -15,
    "atto": -18,
    "zepto": -21,
    "yocto": -24,
}
"""Powers of ten by the names that UDUNITS-2 has for them, as OME-Zarr recommends."""

CREDIBLE_UM = (0.001, 10.0)

HARMONY_UM = 1e4 * 2770410 / 4294967295
"""Micrometers a pixel in every TIFF of Opera Phenix and Operetta, whatever the lens."""

_MIN_DIRECTORY_BYTES = 50

_POSITION = re.compile(r"^(?:[cztCZT]:\d+/\d+\s*)+(?:-\s*)?")


@dataclass(frozen=True)
class OmeImage:
    """What is used of one image of OME-XML."""

    name: str
    """As people know it; may be empty."""
    axes: str
    """T, Z and C in storage order, the one that counts fastest last."""
    lengths: tuple[int, ...]
    """Lengths of `axes`, in planes."""
    samples: int
    """Samples of a pixel."""
    channel_names: tuple[str, ...]
    """Names of the channels, empty where one has none."""
    pixel_size_um: PixelSize | None
    """Height and width of a pixel."""
    steps: tuple[float | None, float | None]
    """Micrometers along Z and seconds along T from one plane to the next."""
    blocks: tuple[tuple[int, int, int], ...]
    """What this file holds of it: first page, first plane, and number of planes, 0 if
    that is as many as there are pages."""

    @property
    def planes(self) -> int:
        """Its planes: Z times C times T."""
        return math.prod(self.lengths)


@dataclass(frozen=True)
class OmeSummary:
    """What is used of a file's OME-XML."""

    images: tuple[OmeImage, ...]
    """All images, those of other files included."""
    files: int
    """Files of the set, of which this is one; 1 if it stands alone."""
    own_metadata: bool = True
    """Whether the XML is in this file, and not in a companion beside it."""


def unit_um(unit: str) -> float | None:
    """Return a length unit in micrometers, or None if it is not known.

    Examples
    --------
    >>> unit_um("nm"), unit_um("nanometer"), unit_um("pixel")
    (0.001, 0.001, None)
    """
    return _factor(unit, MICROMETERS, r"(\w*?)met(?:er|re)s?", 6)


def unit_s(unit: str) -> float | None:
    """Return a unit of time in seconds, or None if it is not known.

    Examples
    --------
    >>> unit_s("ms"), unit_s("millisecond"), unit_s("frame")
    (0.001, 0.001, None)
    """
    return _factor(unit, SECONDS, r"(\w*?)seconds?", 0)


def _factor(
    unit: str, known: dict[str, float], prefixed: str, power: int
) -> float | None:
    """Return a unit by a table, else by the prefix before its name."""
    # ImageJ writes the micro sign as an escape; OME files use either of two mu's,
    # which form KC makes one.
    text = unit.strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ")
    text = unicodedata.normalize("NFKC", text)
    table = {unicodedata.normalize("NFKC", k): v for k, v in known.items()}
    found = re.fullmatch(prefixed, text.lower())
    if found and found[1] in _PREFIXES:
        # Of decimal text, so that a nanometer is what nm is.
        return float(f"1e{_PREFIXES[found[1]] + power}")
    # Of symbols of time Ms is not ms.
    any_case = known is MICROMETERS or len(text) > len("ms")
    return table.get(text, table.get(text.lower()) if any_case else None)


def summarize_ome(path: Path, xml: str, size: int) -> OmeSummary:
    """Read OME-XML, and check its claims before tifffile acts on them.

    Parameters
    ----------
    path
        The file, for messages; a companion with the metadata is looked for beside it.
    xml
        Its OME-XML.
    size
        Bytes of the file.

    Raises
    ------
    ImageReadError
        If the XML is broken, lies in a companion that is not there, uses modulo axes
        or claims more planes than the file has room for. Entities of `xml` are refused
        before, by `refuse_entities`.
    """
    root = own = _root(path, xml)
    binary = next((e for e in own if _name(e) == "BinaryOnly"), None)
    if binary is not None:
        xml = _companion(path, binary.get("MetadataFile", ""))
        root = _root(path, xml)
    if "ModuloAlong" in xml:
        raise _refused(path, "splits an axis in two (ModuloAlong)")
    uuid = own.get("UUID") or ""
    named = {
        (e.text or "").strip(): e.get("FileName", "")
        for e in root.iter()
        if _name(e) == "UUID"
    }
    apart = binary is not None or (
        len(named) > 1 and any(not _is_own(path, uuid, *x) for x in named.items())
    )
    images = tuple(
        _image(path, image, pixels, uuid if apart else None)
        for image in root.iter()
        if _name(image) == "Image"
        for pixels in image
        if _name(pixels) == "Pixels"
    )
    if not images:
        raise _refused(path, "describes no image")
    listed = sum(count for image in images for _, _, count in image.blocks)
    planes = listed if apart else max(listed, *(i.planes for i in images))
    if planes * _MIN_DIRECTORY_BYTES > size:
        raise _refused(path, f"claims {planes:,} planes, too many for {size:,} bytes")
    return OmeSummary(
        images, max(len(named), 1) if apart else 1, own_metadata=binary is None
    )


def _root(path: Path, xml: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError) as error:
        raise _refused(path, f"is not valid XML ({error})") from error


def _companion(path: Path, name: str) -> str:
    """Return the OME-XML of a set that lies in a file of its own, or in one of them."""
    # Of the name alone: metadata must not lead out of the image's folder.
    companion = path.with_name(re.split(r"[/\\]", name)[-1] or "unnamed")
    try:
        with reading(companion):
            if companion.suffix.lower() in (".tif", ".tiff"):
                with tifffile.TiffFile(companion) as tiff:
                    text = str(tiff.pages.first.description)
            else:
                text = companion.read_text(encoding="utf-8-sig")
    except ImageReadError as error:
        raise ImageReadError(
            f"{path} keeps its OME metadata in another file, {companion.name}, which "
            "cannot be read beside it.",
            hint="Put that file beside it, or export it as a single OME-TIFF.",
        ) from error
    refuse_entities(companion, text)
    return text


def _is_own(path: Path, uuid: str, text: str, name: str) -> bool:
    """Say whether a reference, by UUID or by the name of a file, is to `path`."""
    return text == uuid or name.casefold() == path.name.casefold()


def _image(
    path: Path,
    image: ElementTree.Element,
    pixels: ElementTree.Element,
    uuid: str | None,
) -> OmeImage:
    """Return one image; with a `uuid` of what the file of that UUID holds of it."""
    channels = [c for c in pixels if _name(c) == "Channel"]
    samples = _count(path, channels[0], "SamplesPerPixel") if channels else 1
    axes = pixels.get("DimensionOrder", "XYCZT")[:1:-1]
    if sorted(axes) != ["C", "T", "Z"]:
        raise _refused(path, f"has the odd order of axes {axes[:9]!r}")
    lengths = tuple(
        _count(path, pixels, f"Size{a}") // (max(samples, 1) if a == "C" else 1)
        for a in axes
    )
    blocks = []
    for data in (d for d in pixels if _name(d) == "TiffData"):
        at = [(e.text or "", e.get("FileName", "")) for e in data if _name(e) == "UUID"]
        if (
            uuid is not None
            and at
            and not _is_own(path, uuid, at[0][0].strip(), at[0][1])
        ):
            continue
        first = 0
        for axis, length in zip(axes, lengths, strict=True):
            first = first * length + _count(path, data, f"First{axis}", "0")
        blocks.append(
            (
                _count(path, data, "IFD", "0"),
                first,
                _count(path, data, "PlaneCount", "1" if "IFD" in data.attrib else "0"),
            )
        )
    return OmeImage(
        name=image.get("Name", ""),
        axes=axes,
        lengths=lengths,
        samples=samples,
        channel_names=tuple(c.get("Name", "") or c.get("Fluor", "") for c in channels),
        pixel_size_um=pixel_size(
            *(_ome_length(pixels, f"PhysicalSize{a}", unit_um, "µm") for a in "YX")
        ),
        steps=(
            _ome_length(pixels, "PhysicalSizeZ", unit_um, "µm"),
            _ome_length(pixels, "TimeIncrement", unit_s, "s"),
        ),
        blocks=tuple(blocks),
    )


def refuse_entities(path: Path, text: str) -> None:
    """Refuse metadata that define XML entities: a short text may stand for gigabytes.

    tifffile reads XML of microscopes and scanners too, not of OME alone.

    Raises
    ------
    ImageReadError
        If `text` does.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ImageReadError(
            f"{path} has metadata that defines XML entities.",
            hint="Save the file again as a single OME-TIFF or plain TIFF.",
        )


def _refused(path: Path, what: str) -> ImageReadError:
    return ImageReadError(
        f"{path} has OME metadata that {what}.",
        hint="Save the file again as a single OME-TIFF or plain TIFF.",
    )


def _name(element: ElementTree.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def _count(
    path: Path, element: ElementTree.Element, key: str, default: str = "1"
) -> int:
    text = element.get(key, default).strip()
    if not text.isdecimal() or len(text) > 12:
        raise _refused(path, f"says {key}={text[:40]!r}, not a count")
    return int(text)


def _ome_length(
    pixels: ElementTree.Element,
    key: str,
    unit: Callable[[str], float | None],
    default: str,
) -> float | None:
    """Return an attribute in the unit that `unit` knows others in, or None."""
    factor = unit(pixels.get(f"{key}Unit", default))
    value = positive(pixels.get(key))
    return None if factor is None or value is None else value * factor


def positive(text: Any) -> float | None:  # noqa: ANN401
    """Return a positive finite number, or None."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def pixel_size(
    height: Any,  # noqa: ANN401
    width: Any,  # noqa: ANN401
    *,
    unit: float | None = 1.0,
) -> PixelSize | None:
    """Return the size of a pixel if its sides, and their unit, are known.

    Examples
    --------
    >>> pixel_size("500", 250, unit=unit_um("nm")), pixel_size(0.5, 0)
    ((0.5, 0.25), None)
    """
    sides = positive(height), positive(width)
    if unit is None or sides[0] is None or sides[1] is None:
        return None
    return sides[0] * unit, sides[1] * unit


def step(length: float | None) -> float | None:
    """Return the length of a step in whatever direction, if there is one."""
    return None if length is None else positive(abs(length))


def tag_pixel_size(
    page: tifffile.TiffPage, imagej: dict[str, Any] | None
) -> PixelSize | None:
    """Return (height, width) of a pixel in micrometers by resolution tags.

    Parameters
    ----------
    page
        The page with the tags.
    imagej
        ImageJ's description, whose unit goes before the tag's.
    """
    unit = str((imagej or {}).get("unit", ""))
    per_tag = {2: MICROMETERS["inch"], 3: MICROMETERS["cm"]}
    factor = unit_um(unit) if unit else per_tag.get(page.tags.valueof(296))
    sizes = _tag_sizes(page, factor)
    low, high = CREDIBLE_UM if factor in per_tag.values() else (0.0, math.inf)
    credible = sizes is not None and low <= min(sizes) and max(sizes) <= high
    return sizes if credible and not _are_of_harmony(sizes) else None


def _tag_sizes(page: tifffile.TiffPage, factor: float | None) -> PixelSize | None:
    """Return height and width by resolution tags per `factor` micrometers."""
    ratios = page.tags.valueof(283), page.tags.valueof(282)
    if factor is None or not all(isinstance(r, tuple) and all(r) for r in ratios):
        return None
    return factor * ratios[0][1] / ratios[0][0], factor * ratios[1][1] / ratios[1][0]


def _are_of_harmony(sizes: PixelSize | None) -> bool:
    return sizes is not None and all(
        math.isclose(size, HARMONY_UM, rel_tol=1e-6) for size in sizes
    )


def imagej_steps(imagej: dict[str, Any]) -> tuple[float | None, float | None]:
    """Return micrometers along Z and seconds along T from one plane to the next.

    Examples
    --------
    >>> imagej_steps({"spacing": 500.0, "unit": "nm", "finterval": 2.0, "tunit": "min"})
    (0.5, 120.0)
    """
    steps = []
    for key, unit in (
        ("spacing", unit_um(str(imagej.get("zunit", imagej.get("unit", ""))))),
        ("finterval", unit_s(str(imagej.get("tunit", "s")))),
    ):
        value = positive(imagej.get(key))
        steps.append(None if value is None or unit is None else value * unit)
    return steps[0], steps[1]


def imagej_channel_names(imagej: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the channels by the slice labels of an ImageJ hyperstack.

    ImageJ keeps one label a plane, channels counting fastest; Bio-Formats starts it
    with a position (``c:1/3 z:2/9 - DAPI``), which is left out. Labels name channels
    if those of the first planes differ and come again (or are absent) in later ones.
    ImageJ may append what else is known of a plane: the first line alone is the name.
    """
    count = imagej.get("channels", 1)
    labels = [_POSITION.sub("", _first_line(x)) for x in imagej.get("Labels") or []]
    if not isinstance(count, int) or count < 1 or len(labels) < count:
        return ()
    names = tuple(labels[:count])
    repeated = all(x in ("", names[k % count]) for k, x in enumerate(labels))
    return names if repeated and "" not in names and len(set(names)) == count else ()


def _first_line(label: object) -> str:
    """Return the first line of a text, without control characters."""
    line = next(iter(str(label).splitlines()), "")
    return "".join(c for c in line if unicodedata.category(c) != "Cc").strip()


def imagej_planes(imagej: dict[str, Any]) -> int:
    """Return the planes that an ImageJ description tells of."""
    keys = ("frames", "slices", "channels")
    return math.prod(int(imagej.get(key, 1)) for key in keys)


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


def find_in_index(path: Path) -> Metadata | None:
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
def _entries(index: Path, modified_ns: int, size: int) -> dict[str, Metadata]:
    """Return all entries by file name; an index may describe 100,000 images."""
    del modified_ns, size  # A changed index is read again.
    with index.open("rb") as file:
        refuse_entities(index, file.read(_HEAD_BYTES).decode("utf-8", "replace"))
    images: list[dict[str, str]] = []
    channels: dict[str, dict[str, str]] = {}
    try:
        for _, element in ElementTree.iterparse(index):
            kind = _name(element)
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
        name = _name(child)
        text = (child.text or "").strip()
        if name.startswith("ImageResolution"):
            size, unit = positive(text), unit_um(child.get("Unit", ""))
            text = str(size * unit) if size and unit else ""
        if text and name in (*_FIELDS, "URL", "ChannelID"):
            fields[name] = text
    return fields


def _entry(index: str, fields: dict[str, str]) -> Metadata:
    sides = (fields.get(f"ImageResolution{axis}") for axis in "YX")
    places = (("row", "Row"), ("column", "Col"), ("field", "FieldID"))
    name = fields.get("ChannelName", "")
    return Metadata(
        pixel_size(*sides),
        (name,) if name else (),
        ", ".join(f"{word} {fields[key]}" for word, key in places if key in fields),
        fields.get("AbsTime", ""),
        index,
    )


_MICROMANAGER, _UIC1 = 51123, 33628


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
class TiffMaker:
    """One kind of file: a row of `TIFF_MAKERS`."""

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
    rows = [maker for maker in TIFF_MAKERS if maker.knows(image)]
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
    per_cm = MICROMETERS["cm"] if image.page.tags.valueof(296) == 3 else None
    return (
        _are_of_harmony(_tag_sizes(image.page, per_cm))
        or re.match(_HARMONY_NAME, image.path.name, re.I) is not None
    )


_HARMONY_NAME = r"r\d+c\d+f\d+p\d+-ch\d+sk\d+fk\d+fl\d+\.tiff?$"


def _harmony(image: TiffImage) -> Metadata:
    return find_in_index(image.path) or Metadata()


def _metaseries(image: TiffImage) -> Metadata:
    values = {
        e.get("id", ""): e.get("value", "")
        for e in _xml(image.path, image.tiff.pages.first.description).iter()
        if e.tag in ("prop", "custom-prop")
    }
    unit = unit_um(values.get("spatial-calibration-units", ""))
    on = values.get("spatial-calibration-state", "on") == "on"
    sides = (values.get(f"spatial-calibration-{axis}") for axis in "yx")
    name = values.get("_IllumSetting_") or values.get("image-name", "")
    return Metadata(
        pixel_size(*sides, unit=unit if on else None),
        (name,) if name else (),
        values.get("stage-label", ""),
        values.get("acquisition-time-local", ""),
    )


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
    size = meta.get("PixelSizeUm")
    axes = meta.get("Axes")
    axes = axes if isinstance(axes, dict) else {}
    name = meta.get("Channel") or meta.get("ChannelName") or axes.get("channel")
    names: tuple[str, ...] = (str(name),) if name is not None else ()
    if name is None or _planes_of_channels(image) > 1:
        names = _ndtiff_channels(image)
    return Metadata(
        pixel_size(size, size),
        names,
        str(meta.get("PositionName") or ""),
        str(meta.get("ReceivedTime") or meta.get("Time") or ""),
    )


def _ndtiff_channels(image: TiffImage) -> tuple[str, ...]:
    """Return the channels of an NDTiff data set by name, as tifffile numbers them."""
    if image.series.kind != "ndtiff":
        return ()
    index = image.path.with_name("NDTiff.index")
    every: dict[str, bool] = {}
    for axes, file, *_ in tifffile.read_ndtiff_index(index):
        name = axes.get("channel")
        if isinstance(name, str):
            every[name] = every.get(name, False) or file == image.path.name
    return tuple(name for name, here in every.items() if here)


def _planes_of_channels(image: TiffImage) -> int:
    axes, shape = image.series.axes, image.series.shape
    return int(shape[axes.index("C")]) if "C" in axes else 1


def _lsm(image: TiffImage) -> Metadata:
    info = image.tiff.lsm_metadata or {}
    colors = info.get("ChannelColors") or {}
    scan = info.get("ScanInformation") or {}
    sides = (info.get(f"VoxelSize{axis}") for axis in "YX")
    return Metadata(
        pixel_size(*sides, unit=MICROMETERS["m"]),
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
    sides = (info.get(f"{axis}Calibration") for axis in "YX")
    properties = info.get("PlaneProperty")
    # Older versions of tifffile leave a number where newer ones read the list.
    listed = properties if isinstance(properties, list | tuple) else ()
    named = {p.get("name"): p.get("value") for p in listed if isinstance(p, dict)}
    name = _text(named.get("_IllumSetting_") or info.get("Name"))
    return Metadata(
        pixel_size(*sides, unit=unit if info.get("SpatialCalibration", 1) else None),
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


TIFF_MAKERS = (
    TiffMaker(
        "Opera Phenix and Operetta",
        " or ".join(INDEXES) + " beside them",
        _is_harmony,
        _harmony,
        "6.4504 µm whatever the objective",
    ),
    TiffMaker(
        "ImageXpress",
        "the MetaSeries XML",
        lambda image: image.tiff.pages.first.is_metaseries,
        _metaseries,
        "1 px per inch",
    ),
    TiffMaker(
        "MetaMorph",
        "the UIC1 tag",
        lambda image: _UIC1 in image.tiff.pages.first.tags,
        _uic,
        "the dots per inch of a screen",
    ),
    TiffMaker("OME-TIFF", "OME-XML", lambda image: image.ome is not None, _ome),
    TiffMaker(
        "Zeiss LSM",
        "the CZ_LSMINFO tag",
        lambda image: image.tiff.pages.first.is_lsm,
        _lsm,
    ),
    TiffMaker(
        "PerkinElmer QPTIFF",
        "resolution tags",
        lambda image: image.tiff.pages.first.is_qpi,
        _qptiff,
    ),
    TiffMaker(
        "ImageJ",
        "ImageJ's description",
        lambda image: image.tiff.imagej_metadata is not None,
        _imagej,
    ),
    TiffMaker(
        "Micro-Manager",
        "tag 51123 (PixelSizeUm)",
        lambda image: _MICROMANAGER in image.tiff.pages.first.tags,
        _micromanager,
        "1 px per cm",
    ),
)
"""The first row that knows a file and has an answer is believed."""
