"""What a model found in a crop as a file that a person corrects: one row a kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellunet.imaging.files import write_labels
from cellunet.imaging.objects.stream import Objects
from cellunet.imaging.results.write_geojson import GeoJson
from cellunet.imaging.results.write_rois import Place, RoiSet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.imaging.objects.stream import Batch


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a model found in one crop."""

    kind: str
    """Name in `DRAWN`."""
    labels: npt.NDArray[np.uint32]
    """YX, 0 background, objects from 1 without gaps."""
    pixel_size_um: tuple[float, float] | None
    """Height and width of a pixel."""
    provenance: Mapping[str, Any]
    """What label images tell of their origin."""

    def objects(self) -> Batch:
        """Return the objects with their outlines."""
        areas = np.bincount(self.labels.ravel(), minlength=1)[1:]
        height, width = self.labels.shape
        found = Objects(0, (height, width), areas, pixel_size_um=self.pixel_size_um)
        return found.add(self.labels)


class Write(Protocol):
    """Write what was found in a crop."""

    def __call__(self, path: Path, drawn: Drawn) -> None:
        """Write it to `path`, whose folder may be missing."""


@dataclass(frozen=True)
class DrawnKind:
    """A way to write annotations."""

    folder: str
    """Below the folder of the crops: one in which annotations are looked for."""
    suffix: str
    """Of the file, behind the crop's name."""
    write: Write


def without_gaps(labels: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return labels numbered from 1 in their order.

    Examples
    --------
    >>> without_gaps(np.array([[0, 7], [3, 7]], np.uint32)).tolist()
    [[0, 2], [1, 2]]
    """
    ids = np.unique(labels[labels > 0])
    numbers = np.searchsorted(ids, labels) + 1
    return np.where(labels > 0, numbers, 0).astype(np.uint32)


def write_drawn_labels(path: Path, drawn: Drawn) -> None:
    """Write a label image."""
    write_labels(path, drawn.labels, drawn.pixel_size_um, dict(drawn.provenance))


def write_rois(path: Path, drawn: Drawn) -> None:
    """Write a ROI set of Fiji."""
    rois = RoiSet(path)
    try:
        rois.add(Place(), drawn.objects())
        rois.commit()
    finally:
        rois.abort()


def write_geojson(path: Path, drawn: Drawn) -> None:
    """Write GeoJSON of QuPath."""
    file = GeoJson(path, path.stem)
    try:
        file.add({}, drawn.objects())
        file.commit()
    finally:
        file.abort()


DRAWN = {
    "labels": DrawnKind("labels", ".tif", write_drawn_labels),
    "rois": DrawnKind("rois", ".zip", write_rois),
    "geojson": DrawnKind("annotations", ".geojson", write_geojson),
}
"""Name in `SuggestConfig.annotations` to kind."""
