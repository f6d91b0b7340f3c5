"""Join the objects of Z planes to objects of the stack, and their rows in the table.

Two objects of neighboring planes are one if more than half of the smaller lies on the
larger, and neither shares more pixels with another: so an object of the stack has one
section a plane at most. The rule knows nothing of planes farther away.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cellunet.imaging.measure import channel_suffixes
from cellunet.imaging.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from cellunet.imaging.measure import Table
    from cellunet.io.source import Source

    Numbers = npt.NDArray[np.int64]


class Plane(Protocol):
    """One plane of labels."""

    @property
    def areas(self) -> npt.NDArray[np.int64]:
        """Pixels of objects 1, 2, ..."""

    @property
    def bands(self) -> Callable[[], Iterator[npt.NDArray[Any]]]:
        """Full-width rows of labels, the same heights in each plane."""


def frames_of(source: Source) -> list[list[int]]:
    """Return the numbers of the planes of each time point, by ascending Z."""
    shape = source.plane_shape or (1,)
    planes = np.arange(math.prod(shape)).reshape(shape)
    if "Z" not in source.plane_axes:
        return [[int(n)] for n in planes.ravel()]
    stacks = np.moveaxis(planes, source.plane_axes.index("Z"), -1)
    found: list[list[int]] = stacks.reshape(-1, stacks.shape[-1]).tolist()
    return found


def link_planes(
    planes: Sequence[Plane], frames: Sequence[Sequence[int]]
) -> list[Numbers]:
    """Return the number in the stack of each object of each plane, 0 for background.

    Parameters
    ----------
    planes
        All planes.
    frames
        Which of them are a stack, in order of Z; numbers begin anew in each.
    """
    numbers = [np.zeros(0, np.int64)] * len(planes)
    for frame in frames:
        count, before = 0, None
        for place in frame:
            own = np.zeros(len(planes[place].areas) + 1, np.int64)
            if before is not None:
                ours, theirs = _pairs(planes[before], planes[place])
                own[theirs] = numbers[before][ours]
            new = np.flatnonzero(own[1:] == 0) + 1
            own[new] = np.arange(count + 1, count + 1 + len(new))
            count += len(new)
            numbers[place], before = own, place
    return numbers


def _pairs(first: Plane, second: Plane) -> tuple[Numbers, Numbers]:
    """Return the objects of two planes that are one."""
    a, b, shared = overlaps(first, second)
    best_a, best_b = (
        np.zeros(len(plane.areas) + 1, np.int64) for plane in (first, second)
    )
    np.maximum.at(best_a, a, shared)
    np.maximum.at(best_b, b, shared)
    smaller = np.minimum(first.areas[a - 1], second.areas[b - 1])
    one = (shared == best_a[a]) & (shared == best_b[b]) & (2 * shared > smaller)
    a, b = a[one], b[one]
    # Of several that share as much, the one of the lowest number.
    keep = np.zeros(len(a), np.bool_)
    seen_a: set[int] = set()
    seen_b: set[int] = set()
    for k, (i, j) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        if i not in seen_a and j not in seen_b:
            keep[k] = True
            seen_a.add(i)
            seen_b.add(j)
    return a[keep], b[keep]


def overlaps(first: Plane, second: Plane) -> tuple[Numbers, Numbers, Numbers]:
    """Return pairs of objects of two planes, ascending, and the pixels they share."""
    stride = len(second.areas) + 1
    found = []
    for lower, upper in zip(first.bands(), second.bands(), strict=True):
        for piece in pieces(lower.shape):
            a, b = lower[piece], upper[piece]
            both = (a > 0) & (b > 0)
            keys = a[both].astype(np.int64) * stride + b[both]
            found.append(np.stack(np.unique(keys, return_counts=True)))
    keys, counts = np.concatenate(found, axis=1)
    keys, place = np.unique(keys, return_inverse=True)
    shared = np.bincount(place, counts, minlength=len(keys)).astype(np.int64)
    return keys // stride, keys % stride, shared


class VolumeRows:
    """Rows of the objects of one stack, one an object, of rows of their sections.

    A row is that of the largest section, but for the intensities and the confidence,
    which are of all voxels; medians and backgrounds are of the section.

    Parameters
    ----------
    channels
        Names of the channels of intensity.
    voxel_um3
        Volume of a voxel, NaN if it is not known.
    """

    def __init__(self, channels: Sequence[str], voxel_um3: float) -> None:
        self._suffixes = channel_suffixes(channels or ("",))
        self._voxel_um3 = voxel_um3
        self._z = 0
        self._open: list[Table] = []
        """Rows of the plane `_z`, and of objects that may go on there."""
        self._ended: list[Table] = []

    def add(self, z: int, ids: npt.NDArray[Any], table: Table) -> None:
        """Take sections of the plane `z`; planes come by ascending Z."""
        if not len(ids):
            return
        if self._open and z != self._z:
            self._end_plane()
        self._z = z
        area, place = table["area_px"], np.full(len(ids), z)
        rows = table | {
            "id": ids,
            "z": place,
            "volume_vx": area,
            "planes": np.ones(len(ids), np.int64),
            "z_first": place,
            "z_last": place,
            "z_mean": place.astype(np.float64),
        }
        self._open.append(rows)

    def _end_plane(self) -> None:
        """Join what has come; objects that are not in the last plane are not sought."""
        rows = self._joined(_together(self._open))
        ended = rows["z_last"] < self._z
        self._ended.append({name: values[ended] for name, values in rows.items()})
        self._open = [{name: values[~ended] for name, values in rows.items()}]

    def _joined(self, rows: Table) -> Table:
        """Return one row for all that have the same number."""
        order = np.lexsort((-rows["area_px"], rows["id"]))
        rows = {name: values[order] for name, values in rows.items()}
        ids = rows["id"]
        starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
        weight = rows["volume_vx"]
        found = {name: values[starts] for name, values in rows.items()}
        volume = np.add.reduceat(weight, starts)
        for name in ("volume_vx", "planes"):
            found[name] = np.add.reduceat(rows[name], starts)
        for name in ("z_mean", "confidence"):
            found[name] = np.add.reduceat(rows[name] * weight, starts) / volume
        for name, end in (("z_first", np.minimum), ("z_last", np.maximum)):
            found[name] = end.reduceat(rows[name], starts)
        for suffix in self._suffixes:
            self._join_intensities(rows, found, starts, suffix)
        return found

    def _join_intensities(
        self, rows: Table, found: Table, starts: Numbers, suffix: str
    ) -> None:
        names = {
            end: f"intensity_{end}{suffix}" for end in ("mean", "min", "max", "sum")
        }
        weight, volume = rows["volume_vx"], found["volume_vx"]
        found[names["sum"]] = np.add.reduceat(rows[names["sum"]], starts)
        found[names["mean"]] = mean = found[names["sum"]] / volume
        found[names["min"]] = np.minimum.reduceat(rows[names["min"]], starts)
        found[names["max"]] = np.maximum.reduceat(rows[names["max"]], starts)
        spread = f"intensity_std{suffix}"
        if spread not in rows:
            return
        counts = np.diff(np.append(starts, len(weight)))
        away = rows[names["mean"]] - np.repeat(mean, counts)
        inner = np.where(weight > 1, rows[spread] ** 2 * (weight - 1), 0)
        squares = np.add.reduceat(inner + weight * away**2, starts)
        one = volume == 1
        found[spread] = np.sqrt(squares / np.where(one, 1, volume - 1))
        found[spread][one] = np.nan

    def joined(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Table]:
        """Return the numbers, the planes of the rows, and the rows."""
        if not self._open:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), {}
        # Also labels of others, whose objects may have gaps.
        rows = self._joined(_together(self._ended + self._open))
        ids, z = rows.pop("id"), rows.pop("z")
        rows["volume_um3"] = rows["volume_vx"] * self._voxel_um3
        return ids, z, rows


def _together(tables: Sequence[Table]) -> Table:
    """Return the rows of all tables, which have the same columns."""
    return {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
