"""The core of each object: what is left of it inside its boundary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from cellunet.imaging.growth import grow

if TYPE_CHECKING:
    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]

GROWTH_STEPS = 10
"""Levels of growth when a core is tried: as many as the decoder takes by default."""


def cores(labels: npt.NDArray[np.integer], thickness: int) -> Bools:
    """Return the pixels of objects that lie deeper than a boundary.

    Every 4-connected part of an object keeps one 4-connected, non-empty core from which
    it can be grown back. Where a boundary of `thickness` would cut the core in pieces,
    leave none, or let a neighbour grow into the part (so that less than 9 tenths of it
    came back), the part gets a thinner one. Between two parts the thinner of their
    boundaries counts on both sides, so that both grow back to where they meet.

    Parameters
    ----------
    labels
        YX, instance ids, 0 background.
    thickness
        Boundary thickness in pixels, counted in octagonal steps (4 and 8 neighbours
        in turn); 0 leaves out only the pixels next to another label.

    Returns
    -------
    ndarray
        YX bool. Pixels with a 4-neighbour of another label are no core, unless the
        part would have none at all: then its deepest pixel is.
    """
    from skimage.measure import label

    if not labels.any():
        return np.zeros(labels.shape, bool)
    parts = label(labels, background=0, connectivity=1).astype(np.int32)
    thick = np.full(int(parts.max()) + 1, thickness, np.uint8)
    contact = _contact(parts)
    core = _connected(parts, contact, _eroded(parts, contact, thick), thick)
    for _ in range(thickness):
        lost = _lost(parts, core)
        if not (lost & (thick > 0)).any():
            break
        beside = _beside(parts, lost)
        thick[lost & (thick > 0)] -= 1
        thick[beside & (thick > 1)] -= 1
        core = _connected(parts, contact, _eroded(parts, contact, thick), thick)
    return core


def _eroded(
    parts: npt.NDArray[np.int32], contact: Bools, thick: npt.NDArray[np.uint8]
) -> Bools:
    """Return the parts without their boundaries, `thick` steps deep each."""
    mine = thick[parts]
    # How many steps a boundary that starts at a pixel still reaches inwards.
    reach = np.zeros(parts.shape, np.uint8)
    for here, there in _pairs(((0, 1), (1, 0))):
        differ = parts[here] != parts[there]
        to_there = np.where(parts[there] > 0, mine[there], mine[here])
        to_here = np.where(parts[here] > 0, mine[here], mine[there])
        reach[here] = np.maximum(reach[here], differ * np.minimum(mine[here], to_there))
        reach[there] = np.maximum(
            reach[there], differ * np.minimum(mine[there], to_here)
        )
    for step in range(1, int(thick.max(initial=0))):
        before = np.where(reach > step, reach, 0)
        offsets = ((0, 1), (1, 0), (1, 1), (1, -1)) if step % 2 else ((0, 1), (1, 0))
        for here, there in _pairs(offsets):
            same = parts[here] == parts[there]
            reach[here] = np.maximum(reach[here], same * before[there])
            reach[there] = np.maximum(reach[there], same * before[here])
    core: Bools = (parts > 0) & (reach == 0) & ~contact
    return core


def _connected(
    parts: npt.NDArray[np.int32],
    contact: Bools,
    core: Bools,
    thick: npt.NDArray[np.uint8],
) -> Bools:
    """Mend the core of every part that has none or more than one piece."""
    pieces, count = ndimage.label(core)
    owner = np.zeros(count + 1, np.int64)
    owner[pieces] = parts
    pieces_per_part = np.bincount(owner[1:], minlength=int(parts.max()) + 1)
    boxes = ndimage.find_objects(parts)
    for number in np.flatnonzero(pieces_per_part != 1):
        if number == 0:
            continue
        # One pixel wider, so that only the frame of the image ends the view early.
        rows, columns = (
            slice(max(b.start - 1, 0), b.stop + 1) for b in boxes[number - 1]
        )
        part = parts[rows, columns] == number
        view = core[rows, columns]
        whole = _whole_core(part, contact[rows, columns] & part, int(thick[number]))
        if not whole.any():
            whole = _forced_core(part, ndimage.binary_dilation(view & ~part))
        view[part] = whole[part]
    return core


def _lost(parts: npt.NDArray[np.int32], core: Bools) -> Bools:
    """Return which parts grow back from their cores with an IoU below .9."""
    grown = grow(np.where(core, parts, 0), parts > 0, GROWTH_STEPS)
    count = int(parts.max()) + 1
    common = np.bincount(parts[grown == parts], minlength=count)
    union = np.bincount(parts.ravel(), minlength=count)
    union = union + np.bincount(grown.ravel(), minlength=count) - common
    lost: Bools = common * 10 < union * 9
    lost[0] = False
    return lost


def _beside(parts: npt.NDArray[np.int32], chosen: Bools) -> Bools:
    """Return the parts that touch a chosen one, by an edge or a corner."""
    beside = np.zeros(len(chosen), bool)
    for here, there in _pairs(((0, 1), (1, 0), (1, 1), (1, -1))):
        a, b = parts[here], parts[there]
        beside[b[chosen[a] & (a != b)]] = True
        beside[a[chosen[b] & (a != b)]] = True
    beside[0] = False
    return beside & ~chosen


def _contact(parts: npt.NDArray[np.int32]) -> Bools:
    """Return the object pixels with a 4-neighbour in another object."""
    contact = np.zeros(parts.shape, bool)
    for here, there in _pairs(((0, 1), (1, 0))):
        touching = (
            (parts[here] != parts[there]) & (parts[here] > 0) & (parts[there] > 0)
        )
        contact[here] |= touching
        contact[there] |= touching
    return contact


def _pairs(
    offsets: tuple[tuple[int, int], ...],
) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Return views of each pixel and of its neighbour at each offset."""
    found = []
    for dy, dx in offsets:
        rows = slice(None, -dy or None), slice(dy, None)
        if dx >= 0:
            columns = slice(None, -dx or None), slice(dx, None)
        else:
            columns = slice(-dx, None), slice(None, dx)
        found.append(((rows[0], columns[0]), (rows[1], columns[1])))
    return found


def _whole_core(part: Bools, contact: Bools, thickness: int) -> Bools:
    """Return one connected core of a part, as deep as it can be; or none."""
    parts = part.astype(np.int32)
    depths = [
        _eroded(parts, contact, np.array([0, t], np.uint8))
        for t in range(thickness + 1)
    ]
    whole = [d for d in depths if ndimage.label(d)[1] == 1]
    if not whole:
        return _largest_piece(depths[0])
    deepest = depths[-1]
    if deepest.any():
        bridged = deepest | _bridges(whole[-1], deepest)
        if ndimage.label(bridged)[1] == 1:
            return bridged
    return whole[-1]


def _largest_piece(core: Bools) -> Bools:
    pieces, count = ndimage.label(core)
    if count < 2:
        return core
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == np.argmax(sizes))


def _forced_core(part: Bools, beside_core: Bools) -> Bools:
    """Return a core of a part of which every pixel touches another label.

    Its upper left pixels, since growth from below and from the right gives way where
    two fronts meet: so the part's neighbours keep their own pixels. Pixels that would
    join another part's core are left out where that leaves any.
    """
    framed = np.pad(part, 1)
    above_own, left_of_own = framed[2:, 1:-1], framed[1:-1, 2:]
    for core in (part & above_own & left_of_own, part & left_of_own, part & above_own):
        if (core & ~beside_core).any():
            return _largest_piece(core & ~beside_core)
    first = np.zeros(part.shape, bool)
    first[np.unravel_index(np.argmax(part), part.shape)] = True
    return first


def _bridges(whole: Bools, pieces: Bools) -> Bools:
    """Return the thin paths through `whole` that join the pieces of a core."""
    from skimage.morphology import skeletonize

    paths, count = ndimage.label(skeletonize(whole) & ~pieces, np.ones((3, 3)))
    numbers, _ = ndimage.label(pieces)
    bridges = np.zeros(whole.shape, bool)
    for path in range(1, count + 1):
        # One step wider than the skeleton, which is connected by corners only.
        wide = ndimage.binary_dilation(paths == path, np.ones((3, 3))) & whole
        touched = np.unique(numbers[ndimage.binary_dilation(wide) & pieces])
        if len(touched) > 1:
            bridges |= wide
    return bridges
