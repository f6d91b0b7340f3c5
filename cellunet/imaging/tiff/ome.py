"""What TIFF metadata says besides the pixels: channel names, pixel size, steps.

Pixel sizes are taken from OME (``PhysicalSizeX``, ``PhysicalSizeY`` with their units),
else from ImageJ (resolution tags in the unit of its description), else from the
resolution tags, if these are in centimetres or inches. Resolution tags are believed
only from 0.001 to 10 micrometres a pixel: programs write 72, 96, 150, 300 or 600 dots
an inch (353 to 42 micrometres) into files that have no scale at all.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from cellunet.errors import ImageReadError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import tifffile

MICROMETRES = {
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
"""Length units in micrometres; the keys are in Unicode normal form KC."""
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
_MIN_DIRECTORY_BYTES = 50
_POSITION = re.compile(r"^(?:[cztCZT]:\d+/\d+\s*)+(?:-\s*)?")


@dataclass(frozen=True)
class OmeSummary:
    """What is used of a file's OME-XML."""

    planes: int
    """Planes of the largest image, by the XML: Z times C times T."""
    channel_names: tuple[str, ...]
    """Names of the channels, empty where one has none."""
    pixel_size_um: tuple[float, float] | None
    """Height and width of a pixel."""
    steps: tuple[float | None, float | None]
    """Micrometres along Z and seconds along T from one plane to the next."""


def unit_um(unit: str) -> float | None:
    """Return a length unit in micrometres, or None if it is not known.

    Examples
    --------
    >>> unit_um("nm"), unit_um("pixel")
    (0.001, None)
    """
    # ImageJ writes the micro sign as an escape; OME files use either of two mu's,
    # which form KC makes one.
    text = unit.strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ")
    text = unicodedata.normalize("NFKC", text)
    known = {unicodedata.normalize("NFKC", k): v for k, v in MICROMETRES.items()}
    return known.get(text, known.get(text.lower()))


def summarise_ome(path: Path, xml: str, size: int) -> OmeSummary:
    """Read OME-XML, and check its claims before tifffile acts on them.

    Parameters
    ----------
    path
        The file, for messages.
    xml
        Its OME-XML.
    size
        Bytes of the file.

    Raises
    ------
    ImageReadError
        If the XML is broken, belongs to a set of several files, uses modulo axes or
        claims more planes than the file has room for. Entities are refused before, by
        `refuse_entities`.
    """
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError) as error:
        raise _refused(path, f"is not valid XML ({error})") from error
    if "ModuloAlong" in xml:
        raise _refused(path, "splits an axis in two (ModuloAlong)")
    _check_single_file(path, root)
    images = [p for p in root.iter() if _name(p) == "Pixels"]
    if not images:
        raise _refused(path, "describes no image")
    planes = max(
        math.prod(_count(path, p, f"Size{axis}") for axis in "ZCT") for p in images
    )
    listed = sum(
        _count(path, d, "PlaneCount") for d in root.iter() if _name(d) == "TiffData"
    )
    if max(planes, listed) * _MIN_DIRECTORY_BYTES > size:
        raise _refused(
            path, f"claims {max(planes, listed):,} planes, too many for {size:,} bytes"
        )
    channels = [c for c in images[0] if _name(c) == "Channel"]
    names = tuple(c.get("Name", "") or c.get("Fluor", "") for c in channels)
    steps = (
        _ome_length(images[0], "PhysicalSizeZ", unit_um, "µm"),
        _ome_length(images[0], "TimeIncrement", SECONDS.get, "s"),
    )
    return OmeSummary(planes, names, _ome_pixel_size(images[0]), steps)


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


def _count(path: Path, element: ElementTree.Element, key: str) -> int:
    text = element.get(key, "1").strip()
    if not text.isdecimal() or len(text) > 12:
        raise _refused(path, f"says {key}={text[:40]!r}, not a count")
    return int(text)


def _check_single_file(path: Path, root: ElementTree.Element) -> None:
    """Refuse one file of a set: its own pages would be only part of the image."""
    if any(_name(e) == "BinaryOnly" for e in root):
        raise _refused(path, "is kept in another file (BinaryOnly)")
    own = root.get("UUID")
    named = {
        (e.text or "").strip(): e.get("FileName", "")
        for e in root.iter()
        if _name(e) == "UUID"
    }
    others = {
        uuid: name
        for uuid, name in named.items()
        if uuid != own and name.casefold() != path.name.casefold()
    }
    if others and len(named) > 1:
        first = next(iter(others.values())) or "unnamed"
        raise ImageReadError(
            f"{path} is one of {len(named)} files of an OME-TIFF set (another: "
            f"{first}); cellunet reads images of one file.",
            hint="Save the set as one OME-TIFF, or every file as plain TIFF.",
        )


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
    value = _number(pixels.get(key))
    return None if factor is None or value is None else value * factor


def _number(text: Any) -> float | None:  # noqa: ANN401
    """Return a positive finite number, or None."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def tag_pixel_size(
    page: tifffile.TiffPage, imagej: dict[str, Any] | None
) -> tuple[float, float] | None:
    """Return (height, width) of a pixel in micrometres by resolution tags.

    Parameters
    ----------
    page
        The page with the tags.
    imagej
        ImageJ's description, whose unit goes before the tag's.
    """
    unit = str((imagej or {}).get("unit", ""))
    per_tag = {2: MICROMETRES["inch"], 3: MICROMETRES["cm"]}
    factor = unit_um(unit) if unit else per_tag.get(page.tags.valueof(296))
    sizes = []
    for code in (283, 282):
        ratio = page.tags.valueof(code)
        if factor is None or not isinstance(ratio, tuple) or not all(ratio):
            return None
        sizes.append(factor * ratio[1] / ratio[0])
    in_dots = factor in per_tag.values()
    low, high = CREDIBLE_UM if in_dots else (0.0, math.inf)
    return (sizes[0], sizes[1]) if all(low <= s <= high for s in sizes) else None


def imagej_steps(imagej: dict[str, Any]) -> tuple[float | None, float | None]:
    """Return micrometres along Z and seconds along T from one plane to the next.

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
        value = _number(imagej.get(key))
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
