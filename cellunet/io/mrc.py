"""Read DeltaVision and MRC: a header of 1 kB, and planes as they are."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.io.metadata import pixel_size, step
from cellunet.io.scenes import Scene
from cellunet.io.source import array_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt


_MRC_BYTES = 1024

_MRC_TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
"""Mode of a header to a type of values; complex and 4-bit ones are no intensities."""

_SEQUENCES = {0: "CTZ", 1: "TZC", 2: "TCZ"}
"""DeltaVision's order of planes, the axis that counts fastest last."""


class Mrc:
    """DeltaVision and MRC by their header of 1 kB; planes are mapped into memory.

    Rows are stored bottom up: the last one comes first here, as in Fiji.

    References
    ----------
    A. Cheng et al., "MRC2014: extensions to the MRC format header for electron
    cryo-microscopy and tomography", Journal of Structural Biology 192, 2015.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            head = file.read(_MRC_BYTES)
        if len(head) < _MRC_BYTES:
            raise ValueError(f"{len(head)} bytes, and no complete header")
        deltavision = head[96:98] in (b"\xa0\xc0", b"\xc0\xa0")
        big = head[96:98] == b"\xc0\xa0" if deltavision else head[212:213] == b"\x11"
        self._order = ">" if big else "<"
        width, height, sections, mode = self._unpack(head, 0, "4i")
        if not deltavision and head[208:211] != b"MAP":
            raise ValueError("it is neither DeltaVision nor MRC of 2014")
        if min(width, height, sections) < 1 or mode not in _MRC_TYPES:
            raise ValueError(
                f"{width} x {height} x {sections} values of mode {mode}, which are no "
                "intensities"
            )
        (extended,) = self._unpack(head, 92, "i")
        kind = self._order + _MRC_TYPES[mode]
        if mode == 0 and deltavision:
            kind = "u1"
        dtype = np.dtype(kind)
        self._offset = _MRC_BYTES + max(extended, 0)
        self._path = path
        self._stored = dtype
        self._planes = (sections, height, width)
        need = self._offset + array_bytes(self._planes, dtype)
        if path.stat().st_size < need:
            raise ValueError(f"{path.stat().st_size:,} bytes of {need:,}")
        describe = self._deltavision if deltavision else self._mrc
        self.scenes = [describe(head, dtype.newbyteorder("="))]

    def _unpack(self, head: bytes, offset: int, form: str) -> tuple[Any, ...]:
        return struct.unpack_from(self._order + form, head, offset)

    def _deltavision(self, head: bytes, dtype: np.dtype[Any]) -> Scene:
        sections, *plane = self._planes
        x, y, z = self._unpack(head, 40, "3f")
        (times, order), (waves,) = (
            self._unpack(head, 180, "2h"),
            self._unpack(head, 196, "h"),
        )
        lengths = {"T": max(times, 1), "C": max(waves, 1)}
        depth, rest = divmod(sections, lengths["T"] * lengths["C"])
        if rest or order not in _SEQUENCES:
            raise ValueError(
                f"{sections} planes of {times} times and {waves} channels in sequence "
                f"{order}"
            )
        lengths["Z"] = depth
        axes = _SEQUENCES[order]
        return Scene(
            axes=f"{axes}YX",
            shape=(*(lengths[a] for a in axes), *plane),
            dtype=dtype,
            pixel_size_um=pixel_size(y, x),
            steps=(step(z) if depth > 1 else None, None),
        )

    def _mrc(self, head: bytes, dtype: np.dtype[Any]) -> Scene:
        grid, cell = self._unpack(head, 28, "3i"), self._unpack(head, 40, "3f")
        # Of ångström.
        x, y, z = (
            1e-4 * length / n if n > 0 else 0
            for length, n in zip(cell, grid, strict=True)
        )
        return Scene(
            axes="ZYX",
            shape=self._planes,
            dtype=dtype,
            pixel_size_um=pixel_size(y, x),
            steps=(step(z) if self._planes[0] > 1 else None, None),
        )

    def read(
        self, scene: int, place: Mapping[str, int], rows: slice, columns: slice
    ) -> npt.NDArray[Any]:
        """Return a part of a plane; see `cellunet.io.scenes.Container`."""
        described = self.scenes[scene]
        index = 0
        for axis, length in zip(described.axes, described.shape, strict=False):
            if axis != "Y":
                index = index * length + place[axis]
            else:
                break
        stored = np.memmap(
            self._path, self._stored, mode="r", offset=self._offset, shape=self._planes
        )
        return np.array(stored[index, ::-1][rows, columns], described.dtype)

    def close(self) -> None:
        """Do nothing: the file is mapped anew for each part."""
