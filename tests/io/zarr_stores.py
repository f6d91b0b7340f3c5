"""OME-Zarr stores as other programs write them, for tests."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

zarr = pytest.importorskip("zarr", "3")

TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
TYPES |= {"a": "angle", "b": "illumination"}


def axes_of(axes: str, units: dict[str, str]) -> list[dict[str, str]]:
    """Return the description of axes."""
    return [
        {"name": a, "type": TYPES[a]} | ({"unit": units[a]} if a in units else {})
        for a in axes
    ]


def write_store(
    path: Path,
    pixels: npt.NDArray[Any],
    axes: str = "yx",
    *,
    version: str = "0.5",
    channels: tuple[str, ...] = (),
    scale: dict[str, float] | None = None,
    units: dict[str, str] | None = None,
    levels: int = 1,
    consolidated: bool = False,
    root: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write an image as OME-Zarr, each level every other pixel of the one before.

    `scale` and `units` are by axis, `options` go to zarr (chunks, shards, compressors);
    `root` are further attributes.
    """
    number = {"0.4": 2, "0.5": 3}[version]
    group = zarr.create_group(path, zarr_format=number)
    if number == 2:
        options |= {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    else:
        options |= {"dimension_names": list(axes)}
    datasets = []
    for level in range(levels):
        step = [2**level if a in "yx" else 1 for a in axes]
        part = pixels[tuple(slice(None, None, s) for s in step)]
        array = group.create_array(
            f"s{level}", shape=part.shape, dtype=part.dtype, **options
        )
        array[...] = part
        steps = [(scale or {}).get(a, 1.0) * s for a, s in zip(axes, step, strict=True)]
        datasets.append(
            {
                "path": f"s{level}",
                "coordinateTransformations": [{"type": "scale", "scale": steps}],
            }
        )
    multiscale = {"axes": axes_of(axes, units or {}), "datasets": datasets}
    ome: dict[str, Any] = {"multiscales": [multiscale], **(root or {})}
    if channels:
        window = {"start": 0, "end": 4000, "min": 0, "max": 65535}
        ome["omero"] = {
            "channels": [
                {"label": name, "color": "FFFFFF", "window": window}
                for name in channels
            ]
        }
    if number == 2:
        multiscale["version"] = version
        group.update_attributes(ome)
    else:
        group.update_attributes({"ome": {"version": version, **ome}})
    if consolidated:
        with warnings.catch_warnings():
            # It is no part of Zarr 3 yet.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(path)
    return path


def labels_in(path: Path, level: int = 0) -> npt.NDArray[np.uint32]:
    """Return the pixels of labels, without axes of length 1."""
    return np.asarray(zarr.open_group(path, mode="r")[str(level)]).squeeze()
