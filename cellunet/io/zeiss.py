"""Read Zeiss CZI, by `czifile` where Python is new enough, else by `pylibCZIrw`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from cellunet.io.metadata import pixel_size, refuse_entities, step
from cellunet.io.scenes import MissingPlaneError, Scene

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.io.metadata import PixelSize


@dataclass(frozen=True)
class _CziText:
    """What the XML of a CZI says."""

    channel_names: tuple[str, ...]
    pixel_size_um: PixelSize | None
    steps: tuple[float | None, float | None]
    acquired: str
    scenes: dict[int, str]


def _czi_text(path: Path, xml: str) -> _CziText:
    """Read the XML of a CZI; names that stand in the display settings count, too."""
    refuse_entities(path, xml)
    root = ElementTree.fromstring(xml or "<none/>")
    image = root.find("./Metadata/Information/Image")
    shown = {
        channel.get("Id"): channel.findtext("DyeName") or channel.get("Name")
        for channel in root.iterfind("./Metadata/DisplaySetting/Channels/Channel")
    }
    names, scenes, acquired, interval = [], {}, "", None
    if image is not None:
        for channel in image.iterfind("./Dimensions/Channels/Channel"):
            names.append(channel.get("Name") or shown.get(channel.get("Id")) or "")
        for scene in image.iterfind("./Dimensions/S/Scenes/Scene"):
            scenes[int(scene.get("Index", "0"))] = scene.get("Name") or ""
        acquired = image.findtext("./AcquisitionDateAndTime") or ""
        interval = image.findtext("./Dimensions/T/Positions/Interval/Increment")
    # Meters, whatever unit is shown.
    scale = {
        distance.get("Id"): 1e6 * float(distance.findtext("Value") or 0)
        for distance in root.iterfind("./Metadata/Scaling/Items/Distance")
    }
    return _CziText(
        tuple(names),
        pixel_size(scale.get("Y"), scale.get("X")),
        (step(scale.get("Z")), step(float(interval or 0))),
        acquired,
        scenes,
    )


_CZI_AXES = "TZC"

_MIXED = "its channels are of gray and of color"

_CZI_GRAY = {"Gray8": np.uint8, "Gray16": np.uint16, "Gray32Float": np.float32}

_CZI_COLOR = {"Bgr24": np.uint8, "Bgr48": np.uint16, "Bgr96Float": np.float32}


class CziByLibrary:
    """Zeiss CZI by Zeiss' own ``pylibCZIrw``: a scene of the file a scene."""

    def __init__(self, path: Path) -> None:
        from pylibCZIrw import czi

        cache = czi.CacheOptions(max_memory_usage=CZI_CACHE_BYTES)
        self._file = czi.CziReader(str(path), cache_options=cache)
        try:
            box = self._file.total_bounding_box_no_pyramid
            rectangles = self._file.scenes_bounding_rectangle_no_pyramid
            whole = self._file.total_bounding_rectangle_no_pyramid
            self._scenes = list((rectangles or {None: whole}).items())
            self._axes = {axis: n for axis, (_, n) in box.items() if axis not in "XY"}
            self._types = list(self._file.pixel_types.values())
            text = _czi_text(path, self._file.raw_metadata)
            self.scenes = [self._scene(text, k) for k in range(len(self._scenes))]
        except BaseException:
            self._file.close()
            raise

    def _scene(self, text: _CziText, number: int) -> Scene:
        index, box = self._scenes[number]
        others = [a for a, n in self._axes.items() if a not in _CZI_AXES and n > 1]
        colors = {pixels in _CZI_COLOR for pixels in self._types}
        dtypes = (_CZI_GRAY | _CZI_COLOR).get
        known = [dtypes(pixels, np.void) for pixels in self._types]
        dtype = np.result_type(*known) if np.void not in known else np.dtype(np.uint8)
        refusal = _MIXED if len(colors) > 1 else ""
        if np.void in known and box.w > 0:
            refusal = f"its pixels are {self._types[known.index(np.void)]}"
        if others:
            refusal = f"it has an axis {others[0]} besides T, Z and C"
        samples = (3,) if True in colors else ()
        return Scene(
            name=text.scenes.get(index, "") if index is not None else "",
            axes=_CZI_AXES + "YX" + "S" * len(samples),
            shape=(*(self._axes.get(a, 1) for a in _CZI_AXES), box.h, box.w, *samples),
            dtype=dtype,
            channel_names=text.channel_names,
            pixel_size_um=text.pixel_size_um,
            steps=text.steps,
            acquired=text.acquired,
            refusal=refusal,
        )

    def read(
        self, scene: int, place: Mapping[str, int], rows: slice, columns: slice
    ) -> npt.NDArray[Any]:
        """Return a part of a plane; see `cellunet.io.scenes.Container`."""
        index, box = self._scenes[scene]
        there = {a: k for a, k in place.items() if self._axes.get(a, 1) > 1}
        if there and not self._holds(there, box):
            raise MissingPlaneError(f"plane {there}")
        roi = (
            box.x + columns.start,
            box.y + rows.start,
            columns.stop - columns.start,
            rows.stop - rows.start,
        )
        pixels = self._file.read(
            roi=roi, plane=there, scene=index, pixel_type=self._types[place["C"]]
        )
        # Blue comes first.
        return np.asarray(
            pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., ::-1]
        )

    def _holds(self, plane: Mapping[str, int], box: Any) -> bool:  # noqa: ANN401
        """Say whether a plane has any pixels; libCZI reads others as zeros."""
        found = []

        def note(number: int, _: object) -> bool:
            found.append(number)
            return False

        self._file.enumerate_subblocks_subset(note, plane=dict(plane), roi=box)
        return bool(found)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


CZI_CACHE_BYTES = 256 * 2**20
"""Decoded pieces of a CZI that are kept, since regions share them."""


class Czi:
    """Zeiss CZI by ``czifile``: a scene of the file a scene."""

    def __init__(self, path: Path) -> None:
        import czifile

        self._file = czifile.CziFile(path, squeeze=False)
        try:
            self._file.maxcache = CZI_CACHE_BYTES
            self._images = dict(self._file.scenes.items())
            text = _czi_text(path, self._file.metadata())
            self.scenes = [self._scene(text, key) for key in self._images]
        except BaseException:
            self._file.close()
            raise

    def _scene(self, text: _CziText, key: int) -> Scene:
        image = self._images[key]
        sizes = image.sizes
        others = [a for a, n in sizes.items() if a not in "TZCYXS" and n > 1]
        kinds = {entry.pixel_type.samples for entry in image.directory_entries}
        samples = (sizes["S"],) if sizes.get("S", 1) > 1 else ()
        refusal = f"it has an axis {others[0]} besides T, Z and C" if others else ""
        return Scene(
            name=text.scenes.get(key, ""),
            axes=_CZI_AXES + "YX" + "S" * len(samples),
            shape=(*(sizes.get(a, 1) for a in _CZI_AXES + "YX"), *samples),
            dtype=image.dtype,
            channel_names=text.channel_names,
            pixel_size_um=text.pixel_size_um,
            steps=text.steps,
            acquired=text.acquired,
            refusal=_MIXED if len(kinds) > 1 else refusal,
        )

    def read(
        self, scene: int, place: Mapping[str, int], rows: slice, columns: slice
    ) -> npt.NDArray[Any]:
        """Return a part of a plane; see `cellunet.io.scenes.Container`."""
        image = list(self._images.values())[scene]
        start = dict(zip(image.dims, image.start, strict=True))
        x, y, _, _ = image.bbox
        there = {a: start[a] + k for a, k in place.items() if a in start}
        roi = (
            x + columns.start,
            y + rows.start,
            columns.stop - columns.start,
            rows.stop - rows.start,
        )
        try:
            plane = image(**there) if there else image
        except ValueError as error:
            raise MissingPlaneError(f"plane {there}") from error
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        samples = self.scenes[scene].shape[5:]
        try:
            part = plane(roi=roi)
        except ValueError:
            # Between the tiles of a mosaic there is nothing.
            return np.zeros((*shape, *samples), image.dtype)
        return np.asarray(part.asarray().reshape(*shape, *samples))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
