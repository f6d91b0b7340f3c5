"""Read Imaris by `h5py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.io.axes import at_level, choose_level
from cellunet.io.metadata import pixel_size, step, unit_um
from cellunet.io.scenes import MissingPlaneError, Scene

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt


class Imaris:
    """Imaris by ``h5py``: one resolution level, in chunks.

    Chunks at the edges are padded; the image ends at ImageSizeX, Y and Z.
    """

    def __init__(self, path: Path, level: int = 0) -> None:
        import h5py

        self._file = h5py.File(path, "r")
        try:
            levels = self._file["DataSet"]
            names = [f"ResolutionLevel {k}" for k in range(len(levels))]
            shapes = [_shape(levels[name]) for name in names if name in levels]
            choose_level(path, level, [shape[1:] for shape in shapes])
            self._level = levels[names[level]]
            self.scenes = [self._scene(self._file["DataSetInfo"], shapes[0])]
        except BaseException:
            self._file.close()
            raise

    def _scene(self, about: Any, full: tuple[int, int, int]) -> Scene:  # noqa: ANN401
        times = len(self._level)
        channels = len(self._level["TimePoint 0"])
        first = self._level["TimePoint 0/Channel 0"]
        shape = _shape(self._level)
        image = about["Image"].attrs
        unit = unit_um(_imaris(image, "Unit") or "um")
        z, y, x = (
            abs(_number(image, f"ExtMax{k}") - _number(image, f"ExtMin{k}")) / n * unit
            if unit
            else 0
            for k, n in zip((2, 1, 0), (shape[0], *full[1:]), strict=True)
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
            pixel_size_um=pixel_size(*at_level(full[1:], shape[1:], (y, x))),
            full_shape=full[1:],
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


def _shape(level: Any) -> tuple[int, int, int]:  # noqa: ANN401
    """Return planes, height and width of a level, without padding."""
    first = level["TimePoint 0/Channel 0"]
    depth, height, width = (
        int(_imaris(first.attrs, f"ImageSize{axis}") or length)
        for axis, length in zip("ZYX", first["Data"].shape, strict=True)
    )
    return depth, height, width


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
