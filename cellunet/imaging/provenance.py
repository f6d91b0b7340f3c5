"""OME-XML of the images that are written, and the provenance of a label image in it.

The provenance is one JSON document, the value of the key ``provenance`` in a
MapAnnotation: OME readers (Bio-Formats, and so Fiji and QuPath) show it as key and
value, and it comes back with all its types. Nothing in the XML depends on the clock or
on chance, so the same labels give the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

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

    Units are left out: the schema's defaults are micrometres and seconds, and the micro
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
