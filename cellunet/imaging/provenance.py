"""OME-XML of a label image, and the provenance that travels in it.

The provenance is one JSON document, the value of the key ``provenance`` in a
MapAnnotation: OME readers (Bio-Formats, and so Fiji and QuPath) show it as key and
value, and it comes back with all its types. Nothing in the XML depends on the clock or
on chance, so the same labels give the same bytes.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import tifffile

import cellunet
from cellunet.errors import ImageReadError
from cellunet.imaging.reading import kind_by_content, reading
from cellunet.imaging.tiff.directories import scan_directories

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

NAMESPACE = "cellunet.provenance"
SOFTWARE = f"cellunet {cellunet.__version__}"
HEAD_BYTES = 4096
"""The metadata of a label image begins this early, and its namespace stands in them."""
_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


@dataclass(frozen=True, kw_only=True)
class LabelSpec:
    """What a label image is, apart from its pixels."""

    shape: tuple[int, int]
    """Height and width in pixels."""
    plane_axes: str
    """Leading axes: letters of T and Z, slowest first."""
    plane_shape: tuple[int, ...]
    """Their lengths."""
    dtype: np.dtype[Any]
    """uint16 or uint32."""
    pixel_size_um: tuple[float, float] | None
    """Height and width of a pixel."""
    provenance: dict[str, Any]
    """What can be written as JSON."""


def ome_xml(spec: LabelSpec) -> str:
    """Return the OME-XML of a label image, in ASCII."""
    lengths = dict(zip(spec.plane_axes, spec.plane_shape, strict=True))
    planes = lengths.get("T", 1) * lengths.get("Z", 1)
    # The axes of the file, slowest first, are the reverse of OME's order.
    order = "XY" + (spec.plane_axes[::-1] or "ZT")
    order += "".join(a for a in "ZTC" if a not in order)
    sizes = ""
    if spec.pixel_size_um is not None:
        y, x = spec.pixel_size_um
        sizes = (
            f' PhysicalSizeX="{x!r}" PhysicalSizeXUnit="µm"'
            f' PhysicalSizeY="{y!r}" PhysicalSizeYUnit="µm"'
        )
    document = json.dumps(spec.provenance, ensure_ascii=True, allow_nan=False)
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="{_SCHEMA}"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xsi:schemaLocation="{_SCHEMA} {_SCHEMA}/ome.xsd"'
        f' Creator="{SOFTWARE}">'
        '<Image ID="Image:0" Name="labels">'
        f'<Pixels ID="Pixels:0" DimensionOrder="{order}" Type="{spec.dtype.name}"'
        f' SizeX="{spec.shape[1]}" SizeY="{spec.shape[0]}" SizeC="1"'
        f' SizeZ="{lengths.get("Z", 1)}" SizeT="{lengths.get("T", 1)}"'
        f' BigEndian="false" Interleaved="false"{sizes}>'
        '<Channel ID="Channel:0:0" Name="labels" SamplesPerPixel="1"/>'
        f'<TiffData IFD="0" PlaneCount="{planes}"/></Pixels>'
        '<AnnotationRef ID="Annotation:0"/></Image>'
        "<StructuredAnnotations>"
        f'<MapAnnotation ID="Annotation:0" Namespace="{NAMESPACE}"><Value>'
        f'<M K="provenance">{escape(document)}</M>'
        "</Value></MapAnnotation></StructuredAnnotations></OME>"
    )
    return xml.encode("ascii", "xmlcharrefreplace").decode("ascii")


def read_provenance(path: Path) -> dict[str, Any] | None:
    """Return the provenance in a label image, quickly.

    Returns
    -------
    dict or None
        What `cellunet.imaging.files.create_labels` was given; None if cellunet did
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
            # A broken file of whatever origin; ours are recognised by this very part.
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
