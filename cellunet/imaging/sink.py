"""Label images, written while they are computed: tiled, deflated OME-TIFF.

Rows are cut into tiles and compressed as they come, so that never more than one row
of tiles is held uncompressed. Compressed tiles wait in memory, and from
`MEMORY_BYTES` on in a temporary file in the same folder; `commit` writes the TIFF.
"""

from __future__ import annotations

import math
import tempfile
from typing import TYPE_CHECKING, Any, Self

import imagecodecs
import numpy as np
import tifffile

from cellunet.imaging.atomic import PendingFile, close_unwanted, writing
from cellunet.imaging.provenance import SOFTWARE, LabelSpec, ome_xml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

TILE_PX = 256
"""Side of a tile; images that are smaller get the next multiple of 16."""
DEFLATE_LEVEL = 6
MEMORY_BYTES = 16 * 2**20
"""Compressed tiles beyond this wait on the disk, not in memory."""
BIG_BYTES = 2 * 2**30
"""Labels of more uncompressed bytes are written as BigTIFF: a classic TIFF ends at
4 GiB, and how well labels compress is not known before the end."""
MICROMETRES_PER_CM = 10_000.0


class LabelTiff:
    """The `cellunet.imaging.source.Sink` of label images.

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

    def __init__(self, path: Path, spec: LabelSpec) -> None:
        self._spec = spec
        # Before the file is made: provenance that is not JSON fails here.
        self._xml = ome_xml(spec)
        self._planes = math.prod(spec.plane_shape)
        height, width = spec.shape
        self._tile = tile_side(height), tile_side(width)
        self._dtype = spec.dtype.newbyteorder("<")
        # Rows that do not fill a row of tiles yet; made when there are such.
        self._band: npt.NDArray[Any] | None = None
        self._done = 0
        self._lengths: list[int] = []
        self._pending = PendingFile(path)
        self._tiles = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - `abort` closes
            MEMORY_BYTES, dir=str(path.parent), prefix=".", suffix=".partial"
        )

    def write(self, plane: int, y0: int, rows: npt.NDArray[Any]) -> None:
        """Append full-width rows; see `cellunet.imaging.source.Sink`.

        Raises
        ------
        OutputError
            If there is no room for the compressed tiles.
        ValueError
            If rows come out of order, or of another width or dtype: a bug.
        """
        height, width = self._spec.shape
        wrong = (
            (plane, y0) != divmod(self._done, height)
            or plane >= self._planes
            or rows.ndim != 2
            or rows.shape[1] != width
            or not 0 < len(rows) <= height - y0
            or rows.dtype != self._spec.dtype
        )
        if wrong:
            raise ValueError(
                f"rows {rows.shape} {rows.dtype} at {(plane, y0)}, expected at "
                f"{divmod(self._done, height)} of {self._planes} x {self._spec.shape} "
                f"{self._spec.dtype}"
            )
        while len(rows):
            rows = self._fill(rows)

    def _fill(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Take as many rows as fit into the current row of tiles; return the rest."""
        height, width = self._spec.shape
        y = self._done % height
        top = y % self._tile[0]
        full = min(self._tile[0], height - (y - top))
        taken = min(len(rows), full - top)
        self._done += taken
        if taken == full:
            self._compress(rows[:taken])
            return rows[taken:]
        if self._band is None:
            self._band = np.empty((min(self._tile[0], height), width), self._dtype)
        self._band[top : top + taken] = rows[:taken]
        if top + taken == full:
            self._compress(self._band[:full])
        return rows[taken:]

    def _compress(self, rows: npt.NDArray[Any]) -> None:
        """Encode one row of tiles, padded with zeros where the image ends."""
        high, wide = self._tile
        with writing(self._pending.path):
            for x in range(0, rows.shape[1], wide):
                tile = np.zeros((high, wide), self._dtype)
                part = rows[:, x : x + wide]
                tile[: part.shape[0], : part.shape[1]] = part
                encoded = imagecodecs.deflate_encode(tile.tobytes(), DEFLATE_LEVEL)
                self._lengths.append(len(encoded))
                self._tiles.write(encoded)

    def _encoded(self, plane: int) -> Iterator[bytes]:
        """Yield the compressed tiles of a plane; planes come in order."""
        count = len(self._lengths) // self._planes
        for length in self._lengths[plane * count : (plane + 1) * count]:
            yield self._tiles.read(length)

    def commit(self) -> None:
        """Write the file and make it appear.

        Raises
        ------
        OutputError
            If there is no room or no permission; then nothing stays behind.
        ValueError
            If rows are missing: a bug.
        """
        try:
            if self._done != self._planes * self._spec.shape[0]:
                raise ValueError(f"{self._done} rows were written")
            with writing(self._pending.path):
                self._write_tiff()
            self._pending.commit()
        finally:
            self.abort()

    def _write_tiff(self) -> None:
        spec = self._spec
        options: dict[str, Any] = {}
        if spec.pixel_size_um is not None:
            y, x = (MICROMETRES_PER_CM / size for size in spec.pixel_size_um)
            options = {"resolution": (x, y), "resolutionunit": "CENTIMETER"}
        size = self._planes * math.prod(spec.shape) * spec.dtype.itemsize
        self._tiles.seek(0)
        with tifffile.TiffWriter(
            self._pending.temporary, bigtiff=size > BIG_BYTES, byteorder="<", ome=False
        ) as tiff:
            # Page by page: some versions of tifffile take the last axis of a stack for
            # samples if it is of length 1.
            for plane in range(self._planes):
                tiff.write(
                    self._encoded(plane),
                    shape=spec.shape,
                    dtype=spec.dtype,
                    photometric="minisblack",
                    tile=self._tile,
                    compression="zlib",
                    description=None if plane else self._xml,
                    metadata=None,
                    software=False if plane else SOFTWARE,
                    **options,
                )

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        close_unwanted(self._tiles)
        self._pending.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()


def tile_side(length: int) -> int:
    """Return the side of tiles along an axis of so many pixels."""
    return min(TILE_PX, 16 * math.ceil(length / 16))
