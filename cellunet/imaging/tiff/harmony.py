"""The index of a Harmony export: what Opera Phenix and Operetta know of each TIFF.

The index, ``Index.idx.xml`` or ``Index.xml`` by version, lies beside the images. Each
image has its entry by file name; newer versions keep what all images of a channel share
in an entry of the channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from cellunet.imaging.tiff.ome import positive, refuse_entities, unit_um

if TYPE_CHECKING:
    from pathlib import Path

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
    """Return the texts of what is used of an entry, lengths in micrometres."""
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
