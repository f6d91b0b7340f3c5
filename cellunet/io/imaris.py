"""Read Imaris by `h5py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.io.metadata import unit_um
from cellunet.io.scenes import (
    MissingPlaneError,
    Scene,
    pixel_size,
    step,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt


class Imaris:
    """Imaris by ``h5py``: full resolution, in chunks.

    Chunks at the edges are padded; the image ends at ImageSizeX, Y and Z.
    """

    def __init__(self, path: Path) -> None:
        import h5py

        self._file = h5py.File(path, "r")
        try:
            self._level = self._file["DataSet/ResolutionLevel 0"]
            self.scenes = [self._scene(self._file["DataSetInfo"])]
        except BaseException:
            self._file.close()
            raise

    def _scene(self, about: Any) -> Scene:  # noqa: ANN401
        times = len(self._level)
        channels = len(self._level["TimePoint 0"])
        first = self._level["TimePoint 0/Channel 0"]
        shape = tuple(
            int(_imaris(first.attrs, f"ImageSize{axis}") or length)
            for axis, length in zip("ZYX", first["Data"].shape, strict=True)
        )
        image = about["Image"].attrs
        unit = unit_um(_imaris(image, "Unit") or "um")
        z, y, x = (
            abs(_number(image, f"ExtMax{k}") - _number(image, f"ExtMin{k}")) / n * unit
            if unit
            else 0
            for k, n in zip((2, 1, 0), shape, strict=True)
        )
        names = (
            _imaris(about[f"Channel {k}"].attrs, "Name").replace(_NO_NAME, "")
            if f"Channel {k}" in about
            else ""
            for k in range(channels)
        )
        return Scene(
            axes="TCZYX",
            shape=(times, channels, *shape),
            dtype=first["Data"].dtype,
            channel_names=tuple(names),
            pixel_size_um=pixel_size(y, x),
            steps=(step(z), None),
            acquired=_imaris(image, "RecordingDate"),
        )

    def read(
        self, scene: int, place: Mapping[str, int], rows: slice, columns: slice
    ) -> npt.NDArray[Any]:
        """Return a part of a plane; see `cellunet.io.scenes.Container`."""
        del scene
        name = f"TimePoint {place['T']}/Channel {place['C']}/Data"
        if name not in self._level:
            raise MissingPlaneError(name)
        return np.asarray(self._level[name][place["Z"], rows, columns])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


_NO_NAME = "(name not specified)"
"""What Imaris writes where a channel has none."""


def _imaris(attributes: Mapping[str, Any], name: str) -> str:
    """Return an attribute, which Imaris stores as an array of single characters."""
    value = attributes.get(name, b"")
    if isinstance(value, np.ndarray):
        value = b"".join(value.astype("S1").ravel())
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.strip("\0 ")


def _number(attributes: Mapping[str, Any], name: str) -> float:
    return float(_imaris(attributes, name) or 0)
