"""Read Olympus OIB and OIF by `oiffile`, OIR by `oirfile`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.io.metadata import pixel_size, step, unit_s, unit_um
from cellunet.io.scenes import MissingPlaneError, Scene, unread
from cellunet.io.source import array_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt


class Olympus:
    """Olympus OIB and OIF by ``oiffile``: a TIFF file a plane."""

    def __init__(self, path: Path) -> None:
        import oiffile

        self._file = oiffile.OifFile(path)
        try:
            self._series = self._file.series[0]
            self._planes = dict(zip(self._series.indices, self._series, strict=True))
            self.scenes = [self._scene(self._file.mainfile)]
        except BaseException:
            self._file.close()
            raise

    def _scene(self, settings: Mapping[str, Any]) -> Scene:
        first = self._file.asarray(self._series[0])
        axes, shape = str(self._series.axes), tuple(self._series.shape)
        size = settings.get("Reference Image Parameter", {})
        height, width = (
            float(size.get(f"{side}ConvertValue", 0))
            * (unit_um(str(size.get(f"{side}Unit", "um"))) or 0)
            for side in ("Height", "Width")
        )
        return Scene(
            axes=axes + "YX" + "S" * (first.ndim - 2),
            shape=(*shape, *first.shape),
            dtype=first.dtype,
            channel_names=_olympus_names(settings, dict(zip(axes, shape, strict=True))),
            pixel_size_um=pixel_size(height, width),
            steps=(_olympus_step(settings, "Z"), _olympus_step(settings, "T")),
            acquired=str(
                settings.get("Acquisition Parameters Common", {}).get(
                    "ImageCaputreDate", ""
                )
            ).strip("'"),
            whole_bytes=array_bytes(first.shape, first.dtype),
        )

    def read(
        self, scene: int, place: Mapping[str, int], rows: slice, columns: slice
    ) -> npt.NDArray[Any]:
        """Return a part of a plane; see `cellunet.io.scenes.Container`."""
        del scene
        index = tuple(place[axis] for axis in self._series.axes)
        if index not in self._planes:
            raise MissingPlaneError(f"plane {place}")
        return np.asarray(self._file.asarray(self._planes[index])[rows, columns])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _olympus_names(
    settings: Mapping[str, Any], lengths: Mapping[str, int]
) -> tuple[str, ...]:
    """Return the dyes of the channels, else the detectors' names."""
    names = []
    for number in range(1, lengths.get("C", 1) + 1):
        channel = settings.get(f"GUI Channel {number} Parameters", {})
        channel = channel | settings.get(f"Channel {number} Parameters", {})
        names.append(str(channel.get("DyeName") or channel.get("CH Name") or ""))
    return tuple(names)


def _olympus_step(settings: Mapping[str, Any], axis: str) -> float | None:
    """Return micrometers along Z, or seconds along T."""
    for number in range(8):
        common = settings.get(f"Axis {number} Parameters Common", {})
        if common.get("AxisCode") == axis:
            unit = str(common.get("UnitName") or common.get("PixUnit") or "")
            factor = unit_s(unit) if axis == "T" else unit_um(unit)
            return step(float(common.get("Interval") or 0) * (factor or 0))
    return None


class Oir:
    """Olympus OIR by ``oirfile``, which decodes the whole image."""

    def __init__(self, path: Path) -> None:
        import oirfile

        self._file = oirfile.OirFile(path)
        self._pixels: npt.NDArray[Any] | None = None
        try:
            self.scenes = [self._scene()]
        except BaseException:
            self._file.close()
            raise

    def _scene(self) -> Scene:
        sizes, scale = self._file.sizes, self._file.coord_scales
        axes = "".join(sizes)
        if "YX" not in axes or not axes.rstrip("S").endswith("YX"):
            return unread("", f"it is a scan along {axes.lower() or 'no axis'}")
        return Scene(
            axes=axes,
            shape=tuple(sizes.values()),
            dtype=self._file.dtype,
            channel_names=tuple(channel.name for channel in self._file.channels),
            pixel_size_um=pixel_size(scale.get("Y"), scale.get("X")),
            steps=(step(scale.get("Z")), step(scale.get("T"))),
            acquired=self._file.datetime or "",
            whole_bytes=self._file.nbytes,
        )

    def read(
        self, scene: int, place: Mapping[str, int], rows: slice, columns: slice
    ) -> npt.NDArray[Any]:
        """Return a part of a plane; see `cellunet.io.scenes.Container`."""
        del scene
        if self._pixels is None:
            self._pixels = self._file.asarray()
        return np.asarray(self._pixels[tuple(place.values())][rows, columns])

    def close(self) -> None:
        """Close the file and forget its pixels."""
        self._file.close()
        self._pixels = None
