"""Find the regions of an image within which it is to be segmented."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellunet.errors import AnnotationError, InputError
from cellunet.io.paths import output_stem

if TYPE_CHECKING:
    from cellunet.annotations.regions import RegionMask, Regions
    from cellunet.io.source import Source


class RegionFiles:
    """The files of regions of a run: one for all images, or one for each.

    Parameters
    ----------
    named
        A file, or a folder of files that are named like the images.

    Raises
    ------
    InputError
        If it is not there.
    AnnotationError
        If the one file cannot be used.
    """

    def __init__(self, named: str) -> None:
        # Imported here, because few predictions have regions.
        from cellunet.annotations.regions import SUFFIXES, read_regions

        self._named, self._suffixes = Path(named), SUFFIXES
        # An image has its regions read once, be others in work beside it.
        self.read = lru_cache(maxsize=128)(read_regions)
        if self._named.is_dir():
            return
        if not self._named.exists():
            raise InputError(
                f"There is no {self._named} with regions to segment within.",
                hint="--within takes a file of ROIs or GeoJSON, or a folder of them.",
            )
        self.read(self._named)

    def of(self, image: Path) -> Regions:
        """Return the regions of an image.

        Raises
        ------
        AnnotationError
            If there are none, or more than one file, or it cannot be used.
        """
        if not self._named.is_dir():
            return self.read(self._named)
        names = dict.fromkeys((image.name, output_stem(image)))
        found = [
            path
            for name in names
            for suffix in self._suffixes
            if (path := self._named / f"{name}{suffix}").is_file()
        ]
        if not found:
            raise AnnotationError(
                f"{self._named} holds no regions of {image.name}.",
                hint=f"Name them {output_stem(image)}.geojson, .zip or .roi.",
            )
        if len(found) > 1:
            names_found = " and ".join(path.name for path in found)
            raise AnnotationError(
                f"{self._named} holds several files of regions of {image.name}: "
                f"{names_found}.",
                hint="Leave one of them there.",
            )
        return self.read(found[0])


def within_of(mask: RegionMask | None) -> dict[str, Any] | None:
    """Return what results tell of regions."""
    if mask is None:
        return None
    regions = mask.regions
    return {
        "file": str(regions.path),
        "regions": len(regions.kept),
        "area_px": mask.area_px,
    }


def region_warnings(mask: RegionMask | None, source: Source) -> tuple[str, ...]:
    """Return what to look at in the drawing of regions, for an image."""
    if mask is None:
        return ()
    regions, path = mask.regions, mask.regions.path
    found, planes = [], math.prod(source.plane_shape)
    if regions.on_plane and planes > 1:
        found.append(
            f"{path}: the regions were drawn on one plane of a stack; they count on "
            f"all {planes:,}."
        )
    if regions.left_out:
        names = ", ".join(regions.left_out)
        found.append(f"{path}: {names} enclose nothing and do not count.")
    if mask.crossing:
        names = ", ".join(mask.crossing)
        found.append(
            f"{path}: the outlines of {names} cross themselves; what they enclose "
            "twice does not count. Draw them again."
        )
    return tuple(found)
