"""Channel names, pixel sizes and provenance in the metadata of a TIFF.

Pixel sizes are taken from OME (``PhysicalSizeX``, ``PhysicalSizeY`` with their units),
else from ImageJ (resolution tags in the unit of its description), else from the
resolution tags, if these are in centimeters or inches. Resolution tags are believed
only from 0.001 to 10 micrometers a pixel: programs write 72, 96, 150, 300 or 600 dots
an inch (353 to 42 micrometers) into files that have no scale at all.

The provenance is one JSON document, the value of the key ``provenance`` in a
MapAnnotation: OME readers (Bio-Formats, and so Fiji and QuPath) show it as key and
value, and it comes back with all its types. Nothing in the XML depends on the clock or
on chance, so the same labels give the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import tifffile

import cellunet
from cellunet.errors import ImageReadError
from cellunet.io.reading import kind_by_content, reading
from cellunet.io.tiff_checks import scan_directories

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

MICROMETERS = {
    "Å": 1e-4,
    "angstrom": 1e-4,
    "pm": 1e-6,
    "nm": 1e-3,
    "µm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "dm": 1e5,
    "m": 1e6,
    "in": 25_400.0,
    "inch": 25_400.0,
}
"""Length units in micrometers; the keys are in Unicode normal form KC."""

SECONDS = {
    "ns": 1e-9,
    "µs": 1e-6,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "d": 86_400.0,
}
"""Units of time in seconds, as OME and ImageJ write them."""

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
    pixel_size_um: tuple[float, float] | None
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
    >>> unit_um("nm"), unit_um("pixel")
    (0.001, None)
    """
    # ImageJ writes the micro sign as an escape; OME files use either of two mu's,
    # which form KC makes one.
    text = unit.strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ")
    text = unicodedata.normalize("NFKC", text)
    known = {unicodedata.normalize("NFKC", k): v for k, v in MICROMETERS.items()}
    return known.get(text, known.get(text.lower()))


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
    """Return the OME-XML of a set of files that lies in a file of its own."""
    # Of the name alone: metadata must not lead out of the image's folder.
    companion = path.with_name(re.split(r"[/\\]", name)[-1] or "unnamed")
    try:
        text = companion.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
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
        pixel_size_um=_ome_pixel_size(pixels),
        steps=(
            _ome_length(pixels, "PhysicalSizeZ", unit_um, "µm"),
            _ome_length(pixels, "TimeIncrement", SECONDS.get, "s"),
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


def _ome_pixel_size(pixels: ElementTree.Element) -> tuple[float, float] | None:
    y, x = (_ome_length(pixels, f"PhysicalSize{a}", unit_um, "µm") for a in "YX")
    return None if y is None or x is None else (y, x)


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


def tag_pixel_size(
    page: tifffile.TiffPage, imagej: dict[str, Any] | None
) -> tuple[float, float] | None:
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
    sizes = []
    for code in (283, 282):
        ratio = page.tags.valueof(code)
        if factor is None or not isinstance(ratio, tuple) or not all(ratio):
            return None
        sizes.append(factor * ratio[1] / ratio[0])
    if all(math.isclose(size, HARMONY_UM, rel_tol=1e-6) for size in sizes):
        return None
    in_dots = factor in per_tag.values()
    low, high = CREDIBLE_UM if in_dots else (0.0, math.inf)
    return (sizes[0], sizes[1]) if all(low <= s <= high for s in sizes) else None


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
        ("finterval", SECONDS.get(str(imagej.get("tunit", "s")))),
    ):
        value = positive(imagej.get(key))
        steps.append(None if value is None or unit is None else value * unit)
    return steps[0], steps[1]


def imagej_channel_names(imagej: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the channels by the slice labels of an ImageJ hyperstack.

    ImageJ keeps one label a plane, channels counting fastest; Bio-Formats starts it
    with a position (``c:1/3 z:2/9 - DAPI``), which is left out. Labels name channels
    if those of the first planes differ and come again (or are absent) in later ones.
    """
    count = imagej.get("channels", 1)
    labels = [_POSITION.sub("", str(x)) for x in imagej.get("Labels") or []]
    if not isinstance(count, int) or count < 1 or len(labels) < count:
        return ()
    names = tuple(labels[:count])
    repeated = all(x in ("", names[k % count]) for k, x in enumerate(labels))
    return names if repeated and "" not in names and len(set(names)) == count else ()


def imagej_planes(imagej: dict[str, Any]) -> int:
    """Return the planes that an ImageJ description tells of."""
    keys = ("frames", "slices", "channels")
    return math.prod(int(imagej.get(key, 1)) for key in keys)


NAMESPACE = "cellunet.provenance"

SOFTWARE = f"cellunet {cellunet.__version__}"

HEAD_BYTES = 4096
"""The metadata of a label image begins this early, and its namespace stands in them."""

_NIL = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """What an image to be written is, apart from its pixels."""

    name: str = "labels"
    """What its pixels are, in ASCII."""
    shape: tuple[int, int]
    """Height and width in pixels."""
    plane_axes: str = ""
    """Leading axes: letters of T and Z, slowest first."""
    plane_shape: tuple[int, ...] = ()
    """Their lengths."""
    channels: tuple[str, ...] = ()
    """Names in ASCII of the channels of each plane; none: there is no such axis."""
    dtype: np.dtype[Any]
    """Of labels uint16 or uint32."""
    pixel_size_um: tuple[float, float] | None
    """Height and width of a pixel."""
    z_step_um: float | None = None
    """Distance of planes along Z."""
    time_step_s: float | None = None
    """Seconds from one plane to the next along T."""
    provenance: dict[str, Any] | None = None
    """What can be written as JSON; None: nothing is said."""

    @property
    def pages(self) -> int:
        """Number of planes times channels."""
        return math.prod(self.plane_shape) * max(len(self.channels), 1)


def ome_xml(spec: ImageSpec) -> str:
    """Return the OME-XML of an image, in ASCII.

    Units are left out: the schema's defaults are micrometers and seconds, and the micro
    sign as a character reference makes Bio-Formats refuse the whole document.
    """
    axes = spec.plane_axes + ("C" if spec.channels else "")
    lengths = (*spec.plane_shape, *filter(None, [len(spec.channels)]))
    known: dict[str, Any] = {"Channel": {"Name": list(spec.channels or (spec.name,))}}
    if spec.pixel_size_um is not None:
        y, x = spec.pixel_size_um
        known |= {"PhysicalSizeX": x, "PhysicalSizeY": y}
    for axis, key, step in (
        ("Z", "PhysicalSizeZ", spec.z_step_um),
        ("T", "TimeIncrement", spec.time_step_s),
    ):
        if axis in axes and step is not None:
            known[key] = step
    if spec.provenance is not None:
        document = json.dumps(spec.provenance, ensure_ascii=True, allow_nan=False)
        known["MapAnnotation"] = {
            "Namespace": NAMESPACE,
            "Value": {"provenance": document},
        }
    xml = tifffile.OmeXml(Creator=SOFTWARE, UUID=_NIL)
    xml.addimage(
        spec.dtype,
        (*lengths, *spec.shape),
        (spec.pages, 1, 1, *spec.shape, 1),
        axes=f"{axes}YX",
        Name=spec.name,
        **known,
    )
    # Without the UUID that tifffile always writes: one of chance or of the clock would
    # make other bytes of the same labels, and a fixed one would name all files alike.
    text: str = xml.tostring(declaration=True)
    return text.replace(f' UUID="urn:uuid:{_NIL}"', "", 1)


def read_provenance(path: Path) -> dict[str, Any] | None:
    """Return the provenance in a label image, quickly.

    Returns
    -------
    dict or None
        What `cellunet.io.images.create_labels` was given; None if cellunet did
        not write the file, whatever it is.

    Raises
    ------
    ImageReadError
        If the file cannot be opened, or cellunet wrote it but it is not complete.
    """
    with reading(path):
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(32)
    if kind_by_content(head) != "TIFF":
        return None
    with contextlib.ExitStack() as stack:
        try:
            with reading(path):
                tiff = stack.enter_context(tifffile.TiffFile(path, _multifile=False))
                found = _from_xml(tiff.pages.first.description)
        except ImageReadError:
            # A broken file of whatever origin; ours are recognized by this very part.
            return None
        if found is not None:
            with reading(path):
                scan_directories(path, size)
                _check_complete(path, tiff, size)
    return found


def is_written_by_cellunet(path: Path) -> bool:
    """Return whether a file begins as a label image of cellunet, from its first bytes.

    False as well for a file that cannot be read.
    """
    with contextlib.suppress(OSError), path.open("rb") as file:
        return NAMESPACE.encode() in file.read(HEAD_BYTES)
    return False


def _from_xml(xml: str) -> dict[str, Any] | None:
    if NAMESPACE not in xml:
        return None
    for annotation in ElementTree.fromstring(xml).iter():
        if annotation.get("Namespace") == NAMESPACE:
            for entry in annotation.iter():
                if entry.get("K") == "provenance" and entry.text:
                    found = json.loads(entry.text)
                    return found if isinstance(found, dict) else None
    return None


def _check_complete(path: Path, tiff: tifffile.TiffFile, size: int) -> None:
    tiff.pages.useframes = True
    for page in tiff.pages:
        ends = zip(page.dataoffsets, page.databytecounts, strict=True)
        if max(offset + count for offset, count in ends) > size:
            raise ImageReadError(
                f"{path} is a truncated result of cellunet.",
                hint="Delete it and predict again.",
            )
