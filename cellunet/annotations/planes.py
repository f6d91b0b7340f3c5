"""Take stacks of images and their label images apart, plane by plane."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import tifffile

from cellunet.annotations.pixels import planes_with_objects
from cellunet.errors import CellunetError, ConfigError, ImageReadError, InputError
from cellunet.io.axes import axes_by_name, matching_planes
from cellunet.io.images import open_image
from cellunet.io.paths import is_image_file
from cellunet.io.source import reading
from cellunet.io.tiff_checks import scan_directories
from cellunet.io.zarr_store import is_zarr

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cellunet.io.source import Pages, Source

_PART = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")

STACKED = "TZIQ"
"""Axes of planes: time, depth, and those that tifffile calls so without a name."""


MOST_PLANES = 1 << 20
"""Most planes of a range."""

Item = TypeVar("Item")
"""A dataclass with `name`, `plane`, `other_plane` and `scribbles`."""


@dataclass(frozen=True)
class LabelStack:
    """Several planes of labels in one file."""

    axes: str
    """Letters of the axes along which planes lie."""
    shape: tuple[int, ...]
    """Their lengths."""

    @property
    def planes(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    def name(self, plane: int) -> str:
        """Return what a plane is called, after the name of its file.

        Examples
        --------
        >>> LabelStack("TZ", (2, 12)).name(13)
        '_t1_z01'
        """
        places = np.unravel_index(plane, self.shape)
        return "".join(
            f"_{axis.lower() if axis in 'TZ' else 'plane'}{int(k):0{len(str(n - 1))}}"
            for axis, k, n in zip(self.axes, places, self.shape, strict=True)
        )


class ChosenPlanes:
    """A choice of planes, and a count of those that were left out.

    Parameters
    ----------
    chosen
        Numbers from 0 and ranges of them, both ends included, as ``0,4,10-30:10``;
        None: those on which an object is annotated. Where there are scribbles, planes
        with neither an object nor a scribble are never taken.

    Raises
    ------
    ConfigError
        If it is no such list.
    """

    def __init__(self, chosen: str | None = None) -> None:
        self.chosen: set[int] | None = None
        self.taken = self.files = self.empty = 0
        if chosen is None:
            return
        self.chosen = set()
        for part in chosen.split(","):
            found = _PART.fullmatch(part.strip())
            if found is None or int(found[3] or 1) == 0 or len(part) > 30:
                raise ConfigError(
                    f"The planes are {chosen!r}; numbers from 0 are expected, with "
                    "commas between them, and ranges: 0,4,10-30 or 0-100:10.",
                )
            first, last = int(found[1]), int(found[2] or found[1])
            last = min(last, first + MOST_PLANES)
            self.chosen |= set(range(first, last + 1, int(found[3] or 1)))

    def of(
        self, items: Iterable[Item], files: Iterable[tuple[Path, Path | None]]
    ) -> list[Item]:
        """Return each item, or one of every plane of its stack that is taken.

        Parameters
        ----------
        items
            What is annotated.
        files
            The annotation of each, and the image or labels that must have the same
            planes; None: there is none.
        """
        found = []
        for item, (annotation, other) in zip(items, files, strict=True):
            # An overlay in the image itself: the stack is the image.
            stack = None if annotation == other else label_stack(annotation)
            theirs = None if stack is None else _planes_in(other, stack)
            if stack is None or theirs is None:
                found.append(item)
                continue
            plane_of: Any = item
            planes = self._taken(annotation, stack, plane_of.scribbles)
            self.files += 1
            self.taken += len(planes)
            found += [
                replace(
                    plane_of,
                    name=plane_of.name + stack.name(k),
                    plane=k,
                    other_plane=theirs[k],
                )
                for k in planes
            ]
        if self.files and not found:
            raise InputError(
                f"None of the planes of {self.files} stacks is taken.",
                hint="Name planes that are there, numbered from 0: --planes."
                if self.chosen is not None
                else "Planes without an annotated object are left out; name them to "
                "use them anyway: --planes 0-9.",
            )
        return found

    def _taken(
        self, path: Path, stack: LabelStack, scribbles: Path | None
    ) -> list[int]:
        # Those of a single plane are for all planes.
        said = None if scribbles is None else label_stack(scribbles)
        chosen = [*range(stack.planes)]
        if self.chosen is not None:
            chosen = [k for k in chosen if k in self.chosen]
            if said is None:
                return chosen
        drawn = {*planes_with_objects(path, stack.planes)}
        if scribbles is not None and said is not None:
            drawn |= {*planes_with_objects(scribbles, said.planes)}
        planes = [k for k in chosen if k in drawn]
        self.empty += len(chosen) - len(planes)
        return planes

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found, in a sentence."""
        if not self.files:
            return ()
        told = f"Stacks read plane by plane: {self.files:,}; planes: {self.taken:,}"
        if self.empty:
            told += f"; left out, without an object: {self.empty:,}"
            told += " (--planes names planes to use)" * (self.chosen is None)
        return (f"{told}.",)


def label_stack(path: Path) -> LabelStack | None:
    """Return the planes of a TIFF of several, of one channel each; None if it is none.

    What is wrong with a file is for its reader to say.
    """
    if not is_image_file(path):
        return None
    if is_zarr(path):
        return _zarr_stack(path)
    try:
        with reading(path):
            scan_directories(path, path.stat().st_size)
        with reading(path), tifffile.TiffFile(path, _multifile=False) as tiff:
            if not tiff.series:
                return None
            series = tiff.series[0]
            several = len(tiff.series) > 1
            axes, shape = series.axes, series.shape
    except CellunetError:
        return None
    kept = [(a, n) for a, n in zip(axes, shape, strict=True) if n > 1 or a in "YX"]
    letters = "".join(a for a, _ in kept)
    if several or len(kept) < 3 or letters[-2:] != "YX":
        return None
    if not set(letters[:-2]) <= set(STACKED):
        return None
    return LabelStack(letters[:-2], tuple(n for _, n in kept[:-2]))


def _zarr_stack(path: Path) -> LabelStack | None:
    try:
        with open_image(path) as source:
            several = math.prod(source.plane_shape) > 1
            return (
                LabelStack(source.plane_axes, source.plane_shape) if several else None
            )
    except CellunetError:
        return None


def _planes_in(other: Path | None, stack: LabelStack) -> list[int] | None:
    """Return the number of each plane in an image, or the labels of another program.

    None if that has not the same planes.
    """
    if other is None:
        return list(range(stack.planes)) if set(stack.axes) <= set("TZ") else None
    theirs = label_stack(other)
    if theirs is not None:
        return matching_planes(stack.axes, stack.shape, theirs.axes, theirs.shape)
    try:
        with open_to_look(other) as source:
            return matching_planes(
                stack.axes, stack.shape, axes_by_name(source), source.plane_shape
            )
    except CellunetError:
        return None


def open_to_look(
    path: Path,
    channel: str | None = None,
    *,
    gray: bool = False,
    pages: Pages | None = None,
) -> Source:
    """Open an image to be looked at: colors as gray, else the first channel."""
    if gray or channel is not None:
        # Of a model that looks at several, labels follow the first.
        first = None if channel is None else channel.partition(",")[0]
        return open_image(path, channel=first, gray=gray, pages=pages)
    try:
        return open_image(path, gray=True, pages=pages)
    except ImageReadError:
        return open_image(path, channel="0", pages=pages)
