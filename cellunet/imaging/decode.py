"""Decode class probabilities to instance labels, block by block, exactly.

Five steps, each but the merges a pure function of one block:

1. `seed_and_foreground_mask`: classify each pixel, by itself.
2. `seed_block`: components of seed pixels on the core and a halo of `halo_px`;
   `SeedMerger`: components that share a pixel become one (union-find); for the boundary
   target, those that are background are told apart.
3. `grow_block`: seeds grow into the foreground, level by level. Components keep the
   block's own numbers, so that a block need not wait for the merge, except where
   growth depends on it (`waits_for_all`).
4. `ObjectMerger`: areas add up, holes are filled, small objects dropped, and the rest
   numbered by first pixel in raster order. A hole is filled if it is no larger than a
   limit, does not touch the frame of the plane, and has a single object around it,
   whichever blocks its pixels lie in.
5. `finalize_block` writes the numbers.

Growth is level-synchronous within a radius and breaks ties by the direction that it
came from, so a pixel's object depends on what lies within `growth_px` of it alone, and
the result is the same for every way to cut the plane. A whole small image is the case
of one block, not another algorithm. Foreground farther than `growth_px` steps from a
seed stays background; nothing else bounds the size of an object. The merges keep of a
block only what its neighbors touch, so blocks may pass through memory one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cellunet.config import FOREGROUND
from cellunet.imaging.blocks import BlockArea
from cellunet.imaging.components import components, least_members
from cellunet.imaging.growth import grow, keep_contact, place_outlines
from cellunet.imaging.measure import Confidences, pixel_confidence
from cellunet.imaging.pieces import CACHED_PX, pieces
from cellunet.imaging.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cellunet.config import DecodeConfig, EncodingConfig
    from cellunet.imaging.blocks import GridIndex


def distinct_pairs(
    first: npt.NDArray[np.integer], second: npt.NDArray[np.integer]
) -> npt.NDArray[np.int64]:
    """Return the different rows (first, second), sorted.

    As single numbers, which sort in a fraction of the time of rows.

    Parameters
    ----------
    first, second
        Of one length, from 0 to 2**31.

    Returns
    -------
    ndarray
        N2 int64.
    """
    above = int(second.max(initial=0)) + 1
    keys = np.unique(first.astype(np.int64) * above + second)
    return np.stack(np.divmod(keys, above), 1)


SIDES_IN = np.array([number.bit_count() for number in range(16)])
"""How many sides a sum of sides (`BlockArea.frame`) holds."""

SEED, OPEN = 1, 2
"""Marks of a pixel: it seeds an object; an object may grow into it."""

OPEN_PART = -1
"""What stands in `Seeds.parts` where an object may grow into."""


def seed_and_foreground_mask(
    probabilities: npt.NDArray[np.float32],
    encoding: EncodingConfig,
    decode: DecodeConfig,
    foreground: float = FOREGROUND,
) -> npt.NDArray[np.uint8]:
    """Return all that decoding needs to know of each pixel, one byte of it.

    Parameters
    ----------
    probabilities
        KYX float32, corrected for the odds of a weighted loss.
    encoding, decode
        As the model was trained, and its decode constants.
    foreground
        Probability of object from which on a pixel may belong to one.

    Returns
    -------
    ndarray
        YX uint8: `SEED`, `OPEN`, or 0.
    """
    seed = TARGETS[encoding.target].seed
    marks = np.zeros(probabilities.shape[1:], np.uint8)
    for piece in pieces(probabilities.shape[1:], CACHED_PX):
        some = probabilities[:, *piece]
        seeds, allowed = seed(some, encoding, decode, foreground)
        marks[piece][allowed] = OPEN
        marks[piece][seeds] = SEED
    return marks


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Step 1: local components on the area, `parts`, and what the merge needs of them.

    `parts` is YX int32: the number of a component from 1, `OPEN_PART` where an object
    may grow into, 0 elsewhere. By that number, `pixels` counts those in the core, and
    `sides` are those of the plane's frame that it touches there (`BlockArea.frame`).
    """

    area: BlockArea
    parts: npt.NDArray[np.int32]
    pixels: npt.NDArray[np.int64]
    sides: npt.NDArray[np.int64]


def halo_px(encoding: EncodingConfig, decode: DecodeConfig) -> int:
    """Return by how many pixels, at least, a block's area must exceed its core.

    Growth reaches `growth_px`; the contact of an outer boundary is then decided between
    two more pixels. One pixel is needed always: a seed that a face cuts is made whole
    through the pixels that both blocks see.
    """
    contact = 2 if encoding.boundary_side == "outer" else 0
    return max(decode.growth_px + contact, 1)


def seed_block(marks: npt.NDArray[np.uint8], area: BlockArea) -> Seeds:
    """Find the seeds of a block.

    Parameters
    ----------
    marks
        YX uint8 of the area, from `seed_and_foreground_mask`.
    area
        Where the block lies.
    """
    found = components(marks == SEED)
    parts, count = found.labels(), found.count
    core = parts[area.core]
    # Most pixels are none's; counting those too takes twice as long.
    pixels = np.bincount(core[core > 0], minlength=count + 1)
    sides = np.zeros(count + 1, np.int64)
    for side, edge in area.frame(core):
        sides[np.unique(edge)] |= side
    parts[marks == OPEN] = OPEN_PART
    return Seeds(area=area, parts=parts, pixels=pixels, sides=sides)


@dataclass(frozen=True)
class Strip:
    """A part of a block that its neighbors see too."""

    y0: int
    x0: int
    parts: npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class SeedBorder:
    """What the merge needs of `Seeds`: counts, and the strips that neighbors see too.

    It holds no view of the block, so that the block may go, and little is sent.
    """

    area: BlockArea
    pixels: npt.NDArray[np.int64]
    sides: npt.NDArray[np.int64]
    top: Strip
    bottom: Strip
    left: Strip
    right: Strip


def seed_border(seeds: Seeds, halo: int) -> SeedBorder:
    """Return what the merge needs of the seeds of a block.

    Parameters
    ----------
    seeds
        Step 2.
    halo
        `halo_px`.
    """
    area = seeds.area
    (top, bottom), (left, right) = ((c.start, c.stop) for c in area.core)

    def strip(first: int, last: int | None, *, rows: bool) -> Strip:
        first = max(first, 0)
        y0, x0 = (area.y0 + first, area.x0) if rows else (area.y0, area.x0 + first)
        own = seeds.parts[first:last] if rows else seeds.parts[:, first:last]
        return Strip(y0, x0, own.copy())

    return SeedBorder(
        area=area,
        pixels=seeds.pixels,
        sides=seeds.sides,
        top=strip(0, top + halo, rows=True),
        bottom=strip(bottom - halo, None, rows=True),
        left=strip(0, left + halo, rows=False),
        right=strip(right - halo, None, rows=False),
    )


Known = tuple[Strip, int]
"""A strip, and what the numbers of its components begin after."""


class SeedMerger:
    """Step 2: makes one of the components that hold the same pixel in two blocks.

    Takes the blocks of a plane in raster order and keeps of them what the next ones
    overlap.

    Parameters
    ----------
    encoding, decode
        As the model was trained, and its decode constants.
    """

    def __init__(self, encoding: EncodingConfig, decode: DecodeConfig) -> None:
        self._encoding, self._decode = encoding, decode
        self._total = 1
        self._pixels = [np.zeros(1, np.int64)]
        self._sides = [np.zeros(1, np.int64)]
        self._joins = [np.zeros((0, 2), np.int64)]
        self._above: dict[int, Known] = {}
        self._row: dict[int, Known] = {}
        self._left: Known | None = None

    def add(self, seeds: SeedBorder) -> int:
        """Take the next block; return what its components' numbers begin after.

        Component c of the block is number ``add(seeds) + c`` of the plane, until
        `numbers` says which of these are one.
        """
        column = seeds.area.place[1]
        if column == 0:
            self._above, self._row, self._left = self._row, {}, None
        count = len(seeds.pixels) - 1
        offset = self._total - 1
        self._total += count
        self._pixels.append(seeds.pixels[1:])
        self._sides.append(seeds.sides[1:])
        # The blocks to come do not touch the one above to the left.
        others = [self._above.pop(column - 1, None)]
        others += [self._above.get(column + d) for d in (0, 1)]
        faces = [(other, seeds.top) for other in others]
        for other, mine in (*faces, (self._left, seeds.left)):
            if other is not None:
                self._joins.append(_joins(other, (mine, offset)))
        if seeds.area.y0 + seeds.area.core[0].stop < seeds.area.plane[0]:
            self._row[column] = seeds.bottom, offset
        self._left = seeds.right, offset
        return offset

    def numbers(self) -> npt.NDArray[np.int64]:
        """Return for each number that `add` gave that of its seed, from 1, dense.

        0 stands for none, and for background.
        """
        roots = least_members(self._total, *np.concatenate(self._joins).T)
        if TARGETS[self._encoding.target].seeds_include_background:
            pixels, sides = map(np.concatenate, (self._pixels, self._sides))
            roots[_background(roots, pixels, sides, self._decode)] = 0
        # Dense, so that later tables are as long as there are objects.
        _, dense = np.unique(np.concatenate(([0], roots)), return_inverse=True)
        return dense[1:].astype(np.int64, copy=False)


def waits_for_all(encoding: EncodingConfig) -> bool:
    """Return whether seeds may grow only once those of the whole plane are merged.

    So it is where growth depends on what a seed is: background must not grow at all,
    and an outer boundary lies between two objects only if they are two. Elsewhere a
    block grows by itself, and its numbers are merged afterwards.
    """
    background = TARGETS[encoding.target].seeds_include_background
    return background or encoding.boundary_side == "outer"


def as_one(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Return for each component of a block the first one of the same seed.

    Parameters
    ----------
    numbers
        `SeedMerger.numbers` of the block's components 1, 2, ...

    Returns
    -------
    ndarray
        By component, its entry 0 being 0; 0 for background.
    """
    _, first, seed = np.unique(numbers, return_index=True, return_inverse=True)
    same = np.where(numbers > 0, first.take(seed) + 1, 0)
    return np.concatenate(([0], same)).astype(np.int32)


def _joins(one: Known, other: Known) -> npt.NDArray[np.int64]:
    """Return rows (component of one, of the other) that share a pixel, global."""
    (a, after_a), (b, after_b) = one, other
    y0, x0 = max(a.y0, b.y0), max(a.x0, b.x0)
    ends = [(s.y0 + s.parts.shape[0], s.x0 + s.parts.shape[1]) for s in (a, b)]
    y1, x1 = (min(e) for e in zip(*ends, strict=True))
    first, second = (
        s.parts[
            y0 - s.y0 : max(y1 - s.y0, y0 - s.y0), x0 - s.x0 : max(x1 - s.x0, x0 - s.x0)
        ]
        for s in (a, b)
    )
    joins = _touching(first, second)
    joins += np.array([after_a, after_b])
    return joins


def _background(
    roots: npt.NDArray[np.int64],
    pixels: npt.NDArray[np.int64],
    sides: npt.NDArray[np.int64],
    decode: DecodeConfig,
) -> npt.NDArray[np.bool_]:
    """Return which components are background.

    Those larger than any core, and those that touch three sides of the plane or
    four. Smaller background that nuclei enclose, or cut off at the frame, is taken
    for a nucleus. By size alone that makes 54 objects too many besides the 12,001
    nuclei of the 100 BBBC039 training images. Shape is a worse judge: telling regions
    apart by how much of the ellipse of their moments they fill makes 42 too many and
    loses 297.
    """
    all_pixels = np.zeros(len(roots), np.int64)
    all_sides = np.zeros(len(roots), np.int64)
    np.add.at(all_pixels, roots, pixels)
    np.bitwise_or.at(all_sides, roots, sides)
    around = SIDES_IN[all_sides] >= 3
    is_background: npt.NDArray[np.bool_] = (all_pixels > decode.max_core_px) | around
    return is_background[roots]


Side = tuple["npt.NDArray[np.int32]", "npt.NDArray[np.int32]"]
"""Objects and regions along one side of a face."""

Edge = tuple["npt.NDArray[np.int32]", int, int]
"""The pixels along one side of a core, and what the numbers of its regions and of its
objects begin after."""


@dataclass(frozen=True, kw_only=True)
class Holes:
    """Regions of background in one core that may be holes, or parts of one.

    `areas` are their pixels, in order; `open` those at the frame; `neighbors` has
    rows (region, adjacent object).
    """

    areas: npt.NDArray[np.int64]
    open: npt.NDArray[np.int64]
    neighbors: npt.NDArray[np.int64]


def find_holes(
    objects: npt.NDArray[np.int32], area: BlockArea, largest_px: int
) -> tuple[npt.NDArray[np.int32], Holes]:
    """Find the regions of background of at most `largest_px` pixels in a core.

    Parameters
    ----------
    objects
        Numbers of the objects in the core, YX, 0 background.
    area
        Where the core lies.
    largest_px
        Largest hole.

    Returns
    -------
    regions
        YX int32, their numbers from 1, 0 elsewhere.
    holes
        What is known of them.
    """
    found = components(objects == 0)
    small = found.areas <= largest_px
    small[0] = False
    # What is small are a few pixels, and all that is looked at from here on.
    inside, whose = found.pixels(small)
    numbers = np.cumsum(small, dtype=np.int32).take(whose)
    regions = np.zeros(objects.shape, np.int32)
    regions.put(inside, numbers)
    at_frame = [np.zeros(0, np.int32), *(edge for _, edge in area.frame(regions))]
    opened = np.unique(np.concatenate(at_frame)).astype(np.int64)
    return regions, Holes(
        areas=found.areas[small],
        open=opened[opened > 0],
        neighbors=_neighbors(objects, inside, numbers),
    )


def _neighbors(
    objects: npt.NDArray[np.int32],
    pixels: npt.NDArray[np.intp],
    regions: npt.NDArray[np.int32],
) -> npt.NDArray[np.int64]:
    """Return rows (region, object) of regions' pixels that touch an object."""
    height, width = objects.shape
    y, x = np.divmod(pixels, width)
    found = []
    for offset, exists in (
        (width, y < height - 1),
        (-width, y > 0),
        (1, x < width - 1),
        (-1, x > 0),
    ):
        adjacent = objects.take(pixels[exists] + offset)
        there = adjacent > 0
        found.append((regions[exists][there], adjacent[there]))
    return distinct_pairs(*map(np.concatenate, zip(*found, strict=True)))


def _touching(
    first: npt.NDArray[np.int32], second: npt.NDArray[np.int32]
) -> npt.NDArray[np.int64]:
    """Return rows (number in first, number in second) where both are above 0."""
    both = (first > 0) & (second > 0)
    return distinct_pairs(first[both], second[both])


class HoleMerger:
    """Says which object each region belongs to, whichever blocks it lies in.

    Takes the blocks of a plane in raster order and keeps of them the sides that the
    next ones touch.

    Parameters
    ----------
    largest_px
        Largest hole.
    """

    def __init__(self, largest_px: int) -> None:
        self._largest_px = largest_px
        self._offsets: dict[GridIndex, tuple[int, int]] = {}
        self._total = 1
        self._areas = [np.zeros(1, np.int64)]
        self._open = [np.zeros(0, np.int64)]
        self._neighbors = [np.zeros((0, 2), np.int64)]
        self._joins = [np.zeros((0, 2), np.int64)]
        self._above: dict[int, Edge] = {}
        self._row: dict[int, Edge] = {}
        self._left: Edge | None = None

    def add(self, grown: GrownBlock, seeds: int) -> None:
        """Take the next block.

        Parameters
        ----------
        grown
            Step 3; of its pixels only the edges are looked at.
        seeds
            What the numbers of its objects begin after, from `SeedMerger.add`.
        """
        place, holes = grown.place, grown.holes
        top, bottom, left, right = grown.edges
        column = place[1]
        if column == 0:
            self._above, self._row, self._left = self._row, {}, None
        offset = self._total - 1
        count = len(holes.areas)
        self._offsets[place] = offset, count
        self._total += count
        self._areas.append(holes.areas)
        self._open.append(holes.open + offset)
        self._neighbors.append(holes.neighbors + np.array([offset, seeds]))
        if column in self._above:
            mine = _side(top, offset, seeds)
            self._face(_side(*self._above.pop(column)), mine)
        if self._left is not None:
            self._face(_side(*self._left), _side(left, offset, seeds))
        self._row[column] = bottom, offset, seeds
        self._left = right, offset, seeds

    def _face(self, one: Side, other: Side) -> None:
        self._joins.append(_touching(one[1], other[1]))
        for a, b in ((one, other), (other, one)):
            self._neighbors.append(_touching(a[1], b[0]))
            # Background that is no region is too large to be a hole.
            outside = (a[1] > 0) & (b[1] == 0) & (b[0] == 0)
            self._open.append(np.unique(a[1][outside]).astype(np.int64))

    def owners(
        self, numbers: npt.NDArray[np.int64]
    ) -> dict[GridIndex, npt.NDArray[np.int64]]:
        """Return for each block the seed that each region belongs to, 0 for none.

        A table by region number, its entry 0 being 0.

        Parameters
        ----------
        numbers
            Of the seeds, from `SeedMerger.numbers`.
        """
        roots = least_members(self._total, *np.concatenate(self._joins).T)
        area = np.zeros(self._total, np.int64)
        np.add.at(area, roots, np.concatenate(self._areas))
        neighbors = np.concatenate(self._neighbors)
        neighbors[:, 1] = numbers.take(neighbors[:, 1])
        owner = _single(roots, neighbors)
        owner[area > self._largest_px] = 0
        owner[roots[np.concatenate(self._open)]] = 0
        return {
            place: np.concatenate(([0], owner[roots[offset + 1 : offset + 1 + count]]))
            for place, (offset, count) in self._offsets.items()
        }


def _side(edge: npt.NDArray[np.int32], regions: int, seeds: int) -> Side:
    """Return objects and regions along an edge, by their numbers in the plane."""
    return np.where(edge > 0, edge + seeds, 0), np.where(edge < 0, regions - edge, 0)


def _single(
    roots: npt.NDArray[np.int64], neighbors: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return for each root the one object at its regions, 0 if there are more."""
    low = np.full(len(roots), np.iinfo(np.int64).max)
    high = np.zeros(len(roots), np.int64)
    np.minimum.at(low, roots[neighbors[:, 0]], neighbors[:, 1])
    np.maximum.at(high, roots[neighbors[:, 0]], neighbors[:, 1])
    return np.where(low == high, high, 0)


@dataclass(frozen=True, kw_only=True)
class GrownBlock:
    """Step 3 of one core, its pixels aside.

    Pixels are the block's number of a component, the negative number of a region of
    background that may be a hole, or 0; `edges` are those at the top, at the bottom, on
    the left and on the right. `numbers` are the components that are there, with their
    `areas` and `first_pixels`.
    """

    place: GridIndex
    edges: tuple[npt.NDArray[np.int32], ...]
    holes: Holes
    numbers: npt.NDArray[np.int64]
    areas: npt.NDArray[np.int64]
    first_pixels: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class FinalNumbers:
    """Step 4: the final number of each block's components, and of its holes.

    `areas` are those of the `count` objects that stay, in the order of their numbers.
    """

    count: int
    areas: npt.NDArray[np.int64]
    components: Mapping[GridIndex, npt.NDArray[np.uint32]]
    holes: Mapping[GridIndex, npt.NDArray[np.uint32]]


def grow_block(
    parts: npt.NDArray[np.int32],
    area: BlockArea,
    encoding: EncodingConfig,
    decode: DecodeConfig,
    same: npt.NDArray[np.int32] | None = None,
) -> tuple[npt.NDArray[np.int32], GrownBlock]:
    """Grow a block's seeds and measure what lies in its core.

    Returns the pixels of the core, YX int32, and what the merge needs of them.

    Parameters
    ----------
    parts
        Step 2 of this block, `Seeds.parts`.
    area
        Where the block lies.
    encoding, decode
        As the model was trained, and its decode constants.
    same
        Which components of the block are one, from
        `cellunet.imaging.decode.as_one`; needed where
        `cellunet.imaging.decode.waits_for_all`.
    """
    labels = np.maximum(parts, 0)
    if same is not None:
        labels = same.take(labels)
    grown = grow(labels, parts == OPEN_PART, decode.growth_px)
    if encoding.boundary_side == "outer":
        grown = keep_contact(grown)
    objects = np.ascontiguousarray(grown[area.core])
    there, firsts, areas = _seen(objects)
    y = firsts // objects.shape[1] + area.y0 + area.core[0].start
    x = firsts % objects.shape[1] + area.x0 + area.core[1].start
    regions, holes = find_holes(objects, area, decode.max_hole_px)
    pixels = np.where(regions > 0, -regions, objects)
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    return pixels, GrownBlock(
        place=area.place,
        edges=tuple(edge.copy() for edge in edges),
        holes=holes,
        numbers=there,
        areas=areas,
        first_pixels=y * area.plane[1] + x,
    )


def _seen(
    objects: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the numbers in an array, and each one's first pixel and count of pixels.

    Without the sorting of `np.unique`, which takes ten times as long. The numbers are
    to lie close together.
    """
    inside = np.flatnonzero(objects)
    if not len(inside):
        return (np.zeros(0, np.int64),) * 3
    values = objects.take(inside).astype(np.int64)
    low = int(values.min())
    values -= low
    counts = np.bincount(values)
    # Of each run of equal values the first is enough; written last to first, the first
    # of all stays.
    begins = np.flatnonzero(np.diff(values, prepend=-1))[::-1]
    firsts = np.zeros(len(counts), np.int64)
    firsts[values[begins]] = inside[begins]
    there = np.flatnonzero(counts)
    return there + low, firsts[there], counts[there]


class ObjectMerger:
    """Step 4. Takes the blocks of a plane in raster order.

    Parameters
    ----------
    decode
        Smallest area and largest hole.
    """

    def __init__(self, decode: DecodeConfig) -> None:
        self._decode = decode
        self._holes = HoleMerger(decode.max_hole_px)
        self._blocks: list[tuple[GrownBlock, int]] = []

    def add(self, grown: GrownBlock, offset: int) -> None:
        """Take the next block.

        Parameters
        ----------
        grown
            Step 3.
        offset
            What its components' numbers begin after, from `SeedMerger.add`.
        """
        self._holes.add(grown, offset)
        self._blocks.append((replace(grown, edges=()), offset))

    def numbers(self, seeds: npt.NDArray[np.int64]) -> FinalNumbers:
        """Return the final number of every component and of every filled hole.

        Parameters
        ----------
        seeds
            Which components are one, from `SeedMerger.numbers`.
        """
        blocks = [(b, seeds.take(b.numbers + offset)) for b, offset in self._blocks]
        top = int(seeds.max(initial=0))
        areas = np.zeros(top + 1, np.int64)
        firsts = np.full(top + 1, np.iinfo(np.int64).max)
        for block, own in blocks:
            np.add.at(areas, own, block.areas)
            np.minimum.at(firsts, own, block.first_pixels)
        owners = self._holes.owners(seeds)
        for block, _ in blocks:
            np.add.at(areas, owners[block.place][1:], block.holes.areas)
        areas[0] = 0
        kept = np.flatnonzero(areas >= max(self._decode.min_area_px, 1))
        kept = kept[np.argsort(firsts[kept], kind="stable")]
        final = np.zeros(top + 1, np.uint32)
        final[kept] = np.arange(1, len(kept) + 1)
        return FinalNumbers(
            count=len(kept),
            areas=areas[kept],
            components={b.place: _by_number(b, final[own]) for b, own in blocks},
            holes={place: final[table] for place, table in owners.items()},
        )


def _by_number(
    block: GrownBlock, final: npt.NDArray[np.uint32]
) -> npt.NDArray[np.uint32]:
    """Return a table by component of what is given of those that are there."""
    table = np.zeros(int(block.numbers.max(initial=0)) + 1, np.uint32)
    table[block.numbers] = final
    return table


def finalize_block(
    pixels: npt.NDArray[np.int32], place: GridIndex, numbers: FinalNumbers
) -> npt.NDArray[np.uint32]:
    """Return the final labels of a block's core, or of some of its rows, YX uint32.

    Parameters
    ----------
    pixels
        Step 3, from `grow_block`.
    place
        Place of the block.
    numbers
        Step 4.
    """
    labels = numbers.components[place].take(np.maximum(pixels, 0))
    filled = numbers.holes[place]
    if len(filled) > 1:
        inside = np.flatnonzero(pixels < 0)
        labels.put(inside, filled.take(-pixels.take(inside)))
    return labels


def correct(
    probabilities: npt.NDArray[np.float32], class_odds: tuple[float, ...]
) -> npt.NDArray[np.float32]:
    """Undo the tilt that a weighted loss gives to probabilities.

    A loss that weights class c by a_c is least at q_c proportional to a_c p_c, so p_c
    is proportional to q_c / a_c.

    Parameters
    ----------
    probabilities
        KYX float32, q.
    class_odds
        a, one value per class.

    Returns
    -------
    ndarray
        KYX float32, p, which sums to 1 over K.
    """
    scale = (1.0 / np.asarray(class_odds, np.float32)).astype(np.float32)
    corrected = np.empty(probabilities.shape, np.float32)
    for piece in pieces(probabilities.shape[1:], CACHED_PX):
        some = corrected[:, *piece]
        factors = scale[:, np.newaxis, np.newaxis]
        np.multiply(probabilities[:, *piece], factors, out=some)
        some /= some.sum(axis=0)
    return corrected


def decode_plane(
    probabilities: npt.NDArray[np.float32],
    encoding: EncodingConfig,
    decode: DecodeConfig,
    intensities: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.uint32]:
    """Return the instance labels of a whole plane, as one block.

    Parameters
    ----------
    probabilities
        KYX float32, class probabilities as the network gave them.
    encoding, decode
        As the model was trained, and its decode constants.
    intensities
        YX, scaled, on which outlines are put where the constants have an edge; None:
        outlines are as the network draws them.

    Returns
    -------
    ndarray
        YX uint32, 0 background, objects numbered by first pixel in raster order,
        before an edge moves outlines.
    """
    height, width = probabilities.shape[1:]
    area = BlockArea.whole((height, width))
    corrected = correct(probabilities, decode.class_odds)
    seeds = seed_block(seed_and_foreground_mask(corrected, encoding, decode), area)
    merger, objects = SeedMerger(encoding, decode), ObjectMerger(decode)
    offset = merger.add(seed_border(seeds, halo_px(encoding, decode)))
    numbers = merger.numbers()
    same = as_one(numbers[1:]) if waits_for_all(encoding) else None
    pixels, grown = grow_block(seeds.parts, area, encoding, decode, same)
    objects.add(grown, offset)
    labels = finalize_block(pixels, area.place, objects.numbers(numbers))
    if decode.edge and intensities is not None:
        moved = place_outlines(labels.astype(np.int32), intensities, decode.edge)
        labels = moved.astype(np.uint32)
    return _without_unsure(labels, corrected, decode.min_confidence)


def _without_unsure(
    labels: npt.NDArray[np.uint32],
    corrected: npt.NDArray[np.float32],
    least: float,
) -> npt.NDArray[np.uint32]:
    """Return labels YX, numbered anew, without objects of a lower confidence."""
    if least == 0 or not labels.any():
        return labels
    confidences = Confidences(np.bincount(labels.ravel())[1:])
    confidences.add(labels, pixel_confidence(corrected))
    return new_numbers(confidences.means() >= least)[labels]


def new_numbers(kept: npt.NDArray[np.bool_], after: int = 0) -> npt.NDArray[np.uint32]:
    """Return new numbers, from `after` + 1, by label; 0 for what is not kept."""
    numbers = np.zeros(len(kept) + 1, np.uint32)
    numbers[1:][kept] = after + 1 + np.arange(int(kept.sum()))
    return numbers
