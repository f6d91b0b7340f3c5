"""Read Leica LIF by `liffile`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.io.metadata import pixel_size, step, unit_um
from cellunet.io.scenes import Scene, unread
from cellunet.io.source import array_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from xml.etree import ElementTree

    import numpy.typing as npt


class Lif:
    """Leica LIF by ``liffile``: a scene an image, and one a tile of a mosaic.

    Images are mapped into memory, but for those in color.
    """

    _CHANNELS = ("C", "λ", "Λ")

    def __init__(self, path: Path) -> None:
        import liffile

        self._file = liffile.LifFile(path)
        try:
            self._images: list[tuple[Any, int | None]] = []
            self.scenes: list[Scene] = []
            for image in self._file.images:
                self._add(image)
        except BaseException:
            self._file.close()
            raise

    def _add(self, image: Any) -> None:  # noqa: ANN401
        """Take an image, tile by tile."""
        try:
            scene, tiles = self._scene(image)
        except (ValueError, NotImplementedError) as error:
            refusal = f"its image {image.path} is not understood ({error})"
            scene, tiles = unread(image.path, refusal), 0
        for tile in range(tiles) if tiles > 1 else (None,):
            name = image.path if tile is None else f"{image.path}/tile {tile}"
            notes = () if tile is None else ("one tile of a mosaic, not stitched",)
            self._images.append((image, tile))
            self.scenes.append(replace(scene, name=name, notes=notes))

    def _scene(self, image: Any) -> tuple[Scene, int]:  # noqa: ANN401
        """Return an image and how many tiles it has."""
        sizes = dict(image.sizes)
        if image.is_flim or not {"Y", "X"} <= set(sizes):
            scan = "".join(sizes).lower()
            what = "is of lifetimes" if image.is_flim else f"is a scan along {scan}"
            refusal = f"its image {image.path} {what}, not of rows and columns"
            return unread(image.path, refusal), 0
        tiles = sizes.pop("M", 1)
        plane, samples = (sizes.pop("Y"), sizes.pop("X")), sizes.pop("S", 0)
        bands = [sizes.pop(a) for a in self._CHANNELS if a in sizes]
        leading = {**sizes, "C": math.prod(bands)}
        dtype = image.dtype
        scale, names = _lif_scale(image.xml_element), _lif_names(image.xml_element)
        known = len(bands) == 1 and "C" in image.sizes
        scene = Scene(
            axes="".join(leading) + "YX" + "S" * bool(samples),
            shape=(*leading.values(), *plane, *((samples,) if samples else ())),
            dtype=dtype,
            channel_names=names if known or not bands else (),
            pixel_size_um=pixel_size(scale.get("Y"), scale.get("X")),
            steps=(step(scale.get("Z")), step(scale.get("T"))),
            whole_bytes=array_bytes((*plane, max(samples, 1)), dtype) * bool(samples),
        )
        return scene, tiles

    def read(
        self, scene: int, place: Mapping[str, int], rows: slice, columns: slice
    ) -> npt.NDArray[Any]:
        """Return a part of a plane; see `cellunet.io.scenes.Container`."""
        image, tile = self._images[scene]
        sizes = dict(image.sizes)
        bands = [a for a in self._CHANNELS if a in sizes]
        at = dict(place) | ({} if tile is None else {"M": tile})
        band = np.unravel_index(at.pop("C"), [sizes[a] for a in bands]) if bands else ()
        at = {a: k for a, k in at.items() if a in sizes}
        at |= dict(zip(bands, map(int, band), strict=True))
        if self.scenes[scene].whole_bytes:
            return np.asarray(image.frame(**at)[rows, columns])
        stored = image.asarray(out="memmap")
        index = tuple(
            {"Y": rows, "X": columns}.get(axis, at.get(axis, 0)) for axis in image.dims
        )
        turned = image.dims.index("X") < image.dims.index("Y")
        return np.array(stored[index].T if turned else stored[index])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


_LIF_AXES = {"1": "X", "2": "Y", "3": "Z", "4": "T"}
"""Number of a dimension in Leica's XML to its letter."""


def _lif_scale(element: ElementTree.Element) -> dict[str, float]:
    """Return micrometers, of T seconds, from one place to the next along each axis.

    Lengths reach from the first to the last.
    """
    scale = {}
    for dim in element.iterfind(".//Dimensions/DimensionDescription"):
        axis = _LIF_AXES.get(dim.get("DimID", ""))
        steps = int(dim.get("NumberOfElements", "1")) - 1
        unit = 1.0 if axis == "T" else unit_um(dim.get("Unit", ""))
        if axis and steps > 0 and unit:
            scale[axis] = abs(float(dim.get("Length", "0"))) / steps * unit
    return scale


def _lif_names(element: ElementTree.Element) -> tuple[str, ...]:
    """Return what channels are called: the dye, else the color if they differ."""
    found = sorted(
        element.iterfind(".//Channels/ChannelDescription"),
        key=lambda channel: int(channel.get("BytesInc", "0")),
    )
    dyes = [
        next(
            (
                p.findtext("Value", "")
                for p in channel.iterfind("ChannelProperty")
                if p.findtext("Key") == "DyeName"
            ),
            "",
        )
        for channel in found
    ]
    colors = [channel.get("LUTName", "") for channel in found]
    for names in (dyes, colors):
        if all(names) and len(set(names)) == len(names):
            return tuple(names)
    return ()
