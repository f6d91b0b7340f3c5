"""Write label images, stacks and crops as TIFF, with what they are to remember.

Planes are cut into strips, or into tiles where they are too large for that to read well
(`STRIPS_PIXELS`), and compressed as their rows come. Never more than one strip or one
row of tiles of each page that grows is held uncompressed. What is compressed waits in
memory, and from `WAITING_BYTES` on in a temporary file in the same folder; `commit`
writes the TIFF.

Their provenance is one JSON document, the value of the key ``provenance`` in a
MapAnnotation: OME readers (Bio-Formats, and so Fiji and QuPath) show it as key and
value, and it comes back with all its types. Nothing in the XML depends on the clock or
on chance, so the same labels give the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import tifffile

import cellunet
from cellunet.errors import ImageReadError
from cellunet.io import zarr_store
from cellunet.io.files import PendingFile, close_unwanted, write_atomically, writing
from cellunet.io.source import kind_by_content, reading
from cellunet.io.tiff_checks import scan_directories
from cellunet.io.zarr_store import is_zarr

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.io.crops import CropMetadata
    from cellunet.io.source import Source, StoredGrid

STRIPS_PIXELS = 2**28
"""Planes of so many pixels or fewer are cut into strips: ImageJ, SimpleITK and R's
package tiff open no tiles. Larger ones are cut into tiles, since a window of a strip
costs the whole width of the plane."""

STRIP_BYTES = 2**18
"""A strip is at most so large uncompressed, if that is not less than one row."""

TILE_PX = 256

DEFLATE_LEVEL = 6

WAITING_BYTES = 16 * 2**20
"""Compressed strips and tiles beyond this wait on the disk, not in memory."""

CLASSIC_BYTES = 2**32 - 2**24
"""Files of more bytes are BigTIFF, which ImageJ opens by Bio-Formats alone."""

MICROMETERS_PER_CM = 10_000.0


NAMESPACE = "cellunet.provenance"

SOFTWARE = f"cellunet {cellunet.__version__}"

MARK_BYTES = 4096
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
    pixel_size_um: tuple[float, float] | None = None
    """Height and width of a pixel."""
    z_step_um: float | None = None
    """Distance of planes along Z."""
    time_step_s: float | None = None
    """Seconds from one plane to the next along T."""
    provenance: dict[str, Any] | None = None
    """What can be written as JSON; None: nothing is said."""
    grid: StoredGrid | None = None
    """Of an image in an OME-Zarr: the grid of its planes."""
    same_labels: bool = False
    """Whether they are those that are there: tables in their store stay."""

    @classmethod
    def like(cls, source: Source, dtype: npt.DTypeLike, **options: Any) -> Self:  # noqa: ANN401
        """Return what has the planes of a source."""
        return cls(
            shape=source.shape,
            plane_axes=source.plane_axes,
            plane_shape=source.plane_shape,
            dtype=np.dtype(dtype),
            pixel_size_um=source.pixel_size_um,
            z_step_um=source.z_step_um,
            time_step_s=source.time_step_s,
            grid=source.origin.grid,
            **options,
        )

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


@dataclass
class _Page:
    """What is known of a page that grows."""

    rows: int = 0
    """Rows that have come."""
    band: npt.NDArray[Any] | None = None
    """Those of them that do not fill a strip or a row of tiles yet."""
    places: list[tuple[int, int]] = field(default_factory=list)
    """Offset and length of each strip or tile in the temporary file."""


def held_bytes(shape: tuple[int, int]) -> int:
    """Return the bytes that `TiffSink` holds of a plane at most."""
    return 4 * TILE_PX * shape[1] + WAITING_BYTES


class TiffSink:
    """The `cellunet.io.source.Sink` of TIFF files.

    Parameters
    ----------
    path
        Where the file is to appear.
    spec
        What the image is.

    Raises
    ------
    OutputError
        If the folder cannot be made or written to.
    """

    def __init__(self, path: Path, spec: ImageSpec) -> None:
        self._spec = spec
        # Before the file is made: provenance that is not JSON fails here.
        self._xml = ome_xml(spec)
        self._pages = [_Page() for _ in range(spec.pages)]
        self._segment = segment_shape(spec.shape, spec.dtype.itemsize)
        self._dtype = spec.dtype.newbyteorder("<")
        self._end = 0
        self._pending = PendingFile(path)
        self._waiting = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - `abort` closes
            WAITING_BYTES, dir=str(path.parent), prefix=".", suffix=".partial"
        )

    def write(self, plane: int, y0: int, rows: npt.NDArray[Any]) -> None:
        """Append full-width rows; see `cellunet.io.source.Sink`.

        Pages may grow in turn, as those of several channels do: `plane` counts them in
        C order, channels fastest.

        Raises
        ------
        OutputError
            If there is no room for the compressed rows.
        ValueError
            If rows come out of order, or of another width or dtype: a bug.
        """
        height, width = self._spec.shape
        known = 0 <= plane < len(self._pages)
        done = self._pages[plane].rows if known else height
        wrong = (
            y0 != done
            or rows.ndim != 2
            or rows.shape[1] != width
            or not 0 < len(rows) <= height - done
            or rows.dtype != self._spec.dtype
        )
        if wrong:
            raise ValueError(
                f"rows {rows.shape} {rows.dtype} at {(plane, y0)}, expected at row "
                f"{done} of {len(self._pages)} x {self._spec.shape} {self._spec.dtype}"
            )
        while len(rows):
            rows = self._fill(self._pages[plane], rows)

    def _fill(self, page: _Page, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Take as many rows as fit into the current strip or tiles; return the rest."""
        height, width = self._spec.shape
        top = page.rows % self._segment[0]
        full = min(self._segment[0], height - (page.rows - top))
        taken = min(len(rows), full - top)
        page.rows += taken
        if taken == full:
            self._compress(page, rows[:taken])
            return rows[taken:]
        if page.band is None:
            page.band = np.empty((full, width), self._dtype)
        page.band[top : top + taken] = rows[:taken]
        if top + taken == full:
            self._compress(page, page.band)
            page.band = None
        return rows[taken:]

    def _compress(self, page: _Page, rows: npt.NDArray[Any]) -> None:
        """Encode one strip, or one row of tiles."""
        with writing(self._pending.path):
            for part in self._cut(rows):
                encoded = imagecodecs.deflate_encode(part.tobytes(), DEFLATE_LEVEL)
                page.places.append((self._end, len(encoded)))
                self._waiting.write(encoded)
                self._end += len(encoded)

    def _cut(self, rows: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
        """Yield the strip, or tiles padded with zeros where the image ends."""
        high, wide = self._segment
        if not self._tiled:
            yield rows.astype(self._dtype, copy=False)
            return
        for x in range(0, rows.shape[1], wide):
            tile = np.zeros((high, wide), self._dtype)
            part = rows[:, x : x + wide]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile

    @property
    def _tiled(self) -> bool:
        return math.prod(self._spec.shape) > STRIPS_PIXELS

    def _encoded(self, page: _Page) -> Iterator[bytes]:
        for start, length in page.places:
            self._waiting.seek(start)
            yield self._waiting.read(length)

    def commit(self, noted: Mapping[str, Any] | None = None) -> None:
        """Write the file and make it appear; see `cellunet.io.source.Sink`.

        Raises
        ------
        OutputError
            If there is no room or no permission; then nothing stays behind.
        ValueError
            If rows are missing: a bug.
        """
        try:
            height = self._spec.shape[0]
            if any(page.rows != height for page in self._pages):
                done = sum(page.rows for page in self._pages)
                raise ValueError(f"{done} rows of {height} x {len(self._pages)}")
            if noted:
                provenance = (self._spec.provenance or {}) | dict(noted)
                self._xml = ome_xml(replace(self._spec, provenance=provenance))
            with writing(self._pending.path):
                self._write_tiff()
            self._pending.commit()
        finally:
            self.abort()

    def _write_tiff(self) -> None:
        spec = self._spec
        options: dict[str, Any] = {"rowsperstrip": self._segment[0]}
        if self._tiled:
            options = {"tile": self._segment}
        options |= _resolution(spec.pixel_size_um)
        with tifffile.TiffWriter(
            self._pending.temporary,
            bigtiff=self._file_bytes() > CLASSIC_BYTES,
            byteorder="<",
            ome=False,
        ) as tiff:
            # Page by page: some versions of tifffile take the last axis of a stack for
            # samples if it is of length 1.
            for number, page in enumerate(self._pages):
                tiff.write(
                    self._encoded(page),
                    shape=spec.shape,
                    dtype=spec.dtype,
                    photometric="minisblack",
                    compression="zlib",
                    description=None if number else self._xml,
                    metadata=None,
                    software=False if number else SOFTWARE,
                    **options,
                )

    def _file_bytes(self) -> int:
        """Return the most bytes that the file may come to."""
        segments = sum(len(page.places) for page in self._pages)
        # Of each strip or tile an offset, a length and their alignment; of each page
        # its tags.
        return self._end + len(self._xml) + 32 * segments + 1024 * len(self._pages)

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        close_unwanted(self._waiting)
        self._pending.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.abort()


def _resolution(pixel_size_um: tuple[float, float] | None) -> dict[str, Any]:
    """Return what tifffile writes into the resolution tags."""
    if pixel_size_um is None:
        return {}
    y, x = (MICROMETERS_PER_CM / size for size in pixel_size_um)
    return {"resolution": (x, y), "resolutionunit": "CENTIMETER"}


def segment_shape(shape: tuple[int, int], itemsize: int) -> tuple[int, int]:
    """Return height and width of the strips or tiles of a plane.

    Examples
    --------
    >>> segment_shape((1024, 2048), 2), segment_shape((20_000, 30_000), 2)
    ((64, 2048), (256, 256))
    """
    height, width = shape
    if height * width > STRIPS_PIXELS:
        return tile_side(height), tile_side(width)
    return min(height, max(STRIP_BYTES // (width * itemsize), 1)), width


def tile_side(length: int) -> int:
    """Return the side of tiles along an axis of so many pixels, a multiple of 16."""
    return min(TILE_PX, 16 * math.ceil(length / 16))


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
    if is_zarr(path):
        return zarr_store.read_provenance(path)
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
    if is_zarr(path):
        return zarr_store.read_provenance(path) is not None
    with contextlib.suppress(OSError), path.open("rb") as file:
        return NAMESPACE.encode() in file.read(MARK_BYTES)
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


def write_crop(
    path: Path,
    pixels: npt.NDArray[np.generic],
    cut: CropMetadata,
    pixel_size_um: tuple[float, float] | None,
) -> None:
    """Write a crop as TIFF in its own type, with its record; a page a channel.

    Parameters
    ----------
    path
        Where; the file appears complete or not at all.
    pixels
        YX, or CYX of several channels, any real type.
    cut
        Where it comes from.
    pixel_size_um
        Height and width of a pixel, if known.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with write_atomically(path) as temporary:
        tifffile.imwrite(
            temporary,
            pixels,
            photometric="minisblack",
            compression="zlib",
            description=cut.to_text(),
            metadata=None,
            software=SOFTWARE,
            **_resolution(pixel_size_um),
        )
