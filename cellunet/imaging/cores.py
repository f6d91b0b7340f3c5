"""Connected cores of objects, from which the decoder grows them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from cellunet.imaging.components import components
from cellunet.imaging.growth import grow

if TYPE_CHECKING:
    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]
    Pair = tuple[tuple[slice, slice], tuple[slice, slice]]
    """Views of all pixels with a neighbor on one side, and of those neighbors."""

GROWTH_STEPS = 10
"""Levels of growth when a core is tried: as many as the decoder takes by default."""

CROSS = ndimage.generate_binary_structure(2, 1)
"""Handed to `ndimage.label`, which makes it anew otherwise: half of a small call."""

ALL, FIRST, LAST = slice(None), slice(None, -1), slice(1, None)

SIDES: tuple[Pair, ...] = (((ALL, FIRST), (ALL, LAST)), ((FIRST, ALL), (LAST, ALL)))

AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))

CORNERS: tuple[Pair, ...] = (
    ((FIRST, FIRST), (LAST, LAST)),
    ((FIRST, LAST), (LAST, FIRST)),
)


def cores(labels: npt.NDArray[np.integer], thickness: int) -> Bools:
    """Return the pixels of objects that lie deeper than a boundary.

    Every 4-connected part of an object keeps one 4-connected, non-empty core from which
    it can be grown back. Where a boundary of `thickness` would cut the core in pieces,
    leave none, or let a neighbor grow into the part (so that less than 9 tenths of it
    came back), the part gets a thinner one. Between two parts the thinner of their
    boundaries counts on both sides, so that both grow back to where they meet.

    Parameters
    ----------
    labels
        YX, instance ids, 0 background.
    thickness
        Boundary thickness in pixels, counted in octagonal steps (4 and 8 neighbors
        in turn); 0 leaves out only the pixels next to another label.

    Returns
    -------
    ndarray
        YX bool. Pixels with a 4-neighbor of another label are no core, unless the
        part would have none at all: then its deepest pixel is.
    """
    if not labels.any():
        return np.zeros(labels.shape, bool)
    parts = components(labels).labels()
    edges = _Edges(parts)
    thick = np.full(int(parts.max()) + 1, thickness, np.uint8)
    core = _connected(edges, edges.depths(thickness)[-1], thick)
    for _ in range(thickness):
        lost = _lost(parts, core)
        if not (lost & (thick > 0)).any():
            break
        touching = _touching(parts, lost)
        thick[lost & (thick > 0)] -= 1
        thick[touching & (thick > 1)] -= 1
        core = _connected(edges, edges.eroded(thick), thick)
    return core


class _Edges:
    """Where parts end: what every boundary starts from, whatever its thickness.

    Bytes, not numbers of parts, are what is compared and joined from here on.
    """

    def __init__(self, parts: npt.NDArray[np.int32]) -> None:
        self.parts = parts
        self.inside = parts > 0
        self.differ = [(pair, parts[pair[0]] != parts[pair[1]]) for pair in SIDES]
        self.contact = self._touching(
            [d & self.inside[a] & self.inside[b] for (a, b), d in self.differ]
        )
        self._same: dict[int, list[tuple[Pair, Bools]]] = {}

    def _touching(self, marked: list[Bools]) -> Bools:
        both = np.zeros(self.parts.shape, bool)
        for (here, there), mark in zip(SIDES, marked, strict=True):
            both[here] |= mark
            both[there] |= mark
        return both

    def same(self, step: int) -> list[tuple[Pair, Bools]]:
        """Return pairs of 4 or 8 neighbors, and which of them are one part."""
        if step % 2 not in self._same:
            pairs = [(pair, ~differ) for pair, differ in self.differ]
            if step % 2:
                pairs += [(p, self.parts[p[0]] == self.parts[p[1]]) for p in CORNERS]
            self._same[step % 2] = pairs
        return self._same[step % 2]

    def depths(self, thickness: int) -> list[Bools]:
        """Return the parts without their boundaries, 0 to `thickness` steps deep."""
        left = [self.inside & ~self.contact]
        edge = self._touching([differ for _, differ in self.differ])
        for step in range(1, thickness + 1):
            if step > 1:
                before = edge.copy()
                for (here, there), same in self.same(step - 1):
                    edge[here] |= same & before[there]
                    edge[there] |= same & before[here]
            left.append(self.inside & ~edge)
        return left

    def eroded(self, thick: npt.NDArray[np.uint8]) -> Bools:
        """Return the parts without their boundaries, `thick` steps deep each."""
        mine = thick.take(self.parts)
        # How many steps a boundary that starts at a pixel still reaches inwards: the
        # fewer of both sides, except from the background.
        reach = np.zeros(self.parts.shape, np.uint8)
        deep = np.where(self.inside, mine, np.uint8(255))
        for (here, there), differ in self.differ:
            fewer = differ * np.minimum(deep[here], deep[there])
            reach[here] = np.maximum(reach[here], fewer)
            reach[there] = np.maximum(reach[there], fewer)
        for step in range(1, int(thick.max(initial=0))):
            before = reach * (reach > step)
            for (here, there), same in self.same(step):
                reach[here] = np.maximum(reach[here], same * before[there])
                reach[there] = np.maximum(reach[there], same * before[here])
        core: Bools = self.inside & (reach == 0) & ~self.contact
        return core


def _connected(edges: _Edges, core: Bools, thick: npt.NDArray[np.uint8]) -> Bools:
    """Mend the core of every part that has none or more than one piece."""
    parts = edges.parts
    pieces, count = ndimage.label(core, CROSS)
    # One pixel of each run in a row is enough to know a piece's part.
    begins = core.copy()
    begins[:, 1:] &= ~core[:, :-1]
    where = np.flatnonzero(begins)
    owner = np.zeros(count + 1, np.int64)
    owner[pieces.take(where)] = parts.take(where)
    pieces_per_part = np.bincount(owner[1:], minlength=len(thick))
    wrong = np.flatnonzero(pieces_per_part != 1)
    boxes = ndimage.find_objects(parts) if (wrong > 0).any() else ()
    for number in wrong[wrong > 0]:
        # One pixel wider, so that only the frame of the image ends the view early.
        rows, columns = (
            slice(max(b.start - 1, 0), b.stop + 1) for b in boxes[number - 1]
        )
        part = parts[rows, columns] == number
        view = core[rows, columns]
        contact = edges.contact[rows, columns] & part
        whole = _whole_core(part, contact, int(thick[number]))
        if not whole.any():
            whole = _forced_core(part, ndimage.binary_dilation(view & ~part))
        view[part] = whole[part]
    return core


def _lost(parts: npt.NDArray[np.int32], core: Bools) -> Bools:
    """Return which parts grow back from their cores with an IoU below .9."""
    grown = grow(parts * core, parts > 0, GROWTH_STEPS)
    areas = np.bincount(parts.ravel())
    # All but a few pixels come back as they were.
    other = np.flatnonzero(grown != parts)
    count = len(areas)
    gone = np.bincount(parts.take(other), minlength=count)
    gained = np.bincount(grown.take(other), minlength=count)
    lost: Bools = (areas - gone) * 10 < (areas + gained) * 9
    lost[0] = False
    return lost


def _touching(parts: npt.NDArray[np.int32], chosen: Bools) -> Bools:
    """Return the parts that touch a chosen one, by an edge or a corner."""
    there = np.pad(chosen.take(parts), 1)
    # Three rows, and then three columns.
    there = there[:-2] | there[1:-1] | there[2:]
    there = there[:, :-2] | there[:, 1:-1] | there[:, 2:]
    touching = np.zeros(len(chosen), bool)
    touching[parts[there]] = True
    touching[0] = False
    return touching & ~chosen


def _whole_core(part: Bools, contact: Bools, thickness: int) -> Bools:
    """Return one connected core of a part, as deep as it can be; or none."""
    edges = _Edges(part.astype(np.int32))
    depths = [depth & ~contact for depth in edges.depths(thickness)]
    whole = next((d for d in depths[::-1] if ndimage.label(d, CROSS)[1] == 1), None)
    if whole is None:
        return _largest_piece(depths[0])
    deepest = depths[-1]
    return _bridged(whole, deepest) if deepest.any() else whole


def _largest_piece(core: Bools) -> Bools:
    pieces, count = ndimage.label(core, CROSS)
    if count < 2:
        return core
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == np.argmax(sizes))


def _forced_core(part: Bools, beside_core: Bools) -> Bools:
    """Return a core of a part of which every pixel touches another label.

    Its upper left pixels, since growth from below and from the right gives way where
    two fronts meet: so the part's neighbors keep their own pixels. Pixels that would
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


def _bridged(whole: Bools, pieces: Bools) -> Bools:
    """Return pieces of a connected core, joined by thin paths along its middle.

    The core is thinned to the pieces and what joins them: from one side after the
    other, the pixels are left out that end on this side and whose absence separates no
    4-neighbors (A. Rosenfeld, "A characterization of parallel thinning algorithms",
    Information and Control 29, 1975). A path is then made a pixel wider on each side.
    """
    thin = np.pad(whole, 1)
    here = thin[1:-1, 1:-1]
    # Around a pixel, from the one above.
    ring = [
        thin[1 + y : 1 + y + here.shape[0], 1 + x : 1 + x + here.shape[1]]
        for y, x in AROUND
    ]
    before = -1
    while (left := int(np.count_nonzero(here))) != before:
        before = left
        for side in (0, 4, 2, 6):
            # A 4-neighbor starts a stretch unless the next one is reached through the
            # corner between them: one stretch is left connected.
            starts = [
                ring[n] & ~(ring[n + 1] & ring[(n + 2) % 8]) for n in (0, 2, 4, 6)
            ]
            one: Bools = np.sum(starts, axis=0, dtype=np.uint8) == 1
            here &= pieces | ring[side] | ~one
    paths = here & ~pieces
    beside = ndimage.binary_dilation(paths, np.ones((3, 3))) & whole
    # Step by step, as a pixel beside a corner alone would be a piece of its own.
    wide: Bools = pieces | ndimage.binary_dilation(paths, CROSS, 2, beside)
    return wide
