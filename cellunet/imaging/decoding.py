"""Class probabilities of a plane to instance labels, block by block, exactly.

Four steps, each a pure function of one block, with a merge between them:

1. `seed_block`: components of seed pixels on the core and a halo of `halo_px`.
2. `merge_seeds`: components that share a pixel become one (union-find); for the
   boundary target, those that are background are told apart.
3. `grow_block`: seeds grow into the foreground, level by level.
4. `merge_objects`: areas add up, holes are filled, small objects dropped, and the rest
   numbered by first pixel in raster order; `finalize_block` writes the numbers.

Growth is level-synchronous within a radius and breaks ties by the direction that it
came from, so a pixel's object depends on what lies within `growth_px` of it alone, and
the result is the same for every way to cut the plane. A whole small image is the case
of one block, not another algorithm. Foreground farther than `growth_px` steps from a
seed stays background; nothing else bounds the size of an object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from cellunet.imaging.blocks import Area
from cellunet.imaging.encoding import TARGETS, correct
from cellunet.imaging.growth import grow, keep_contact
from cellunet.imaging.holes import find_holes, hole_owners
from cellunet.imaging.unionfind import UnionFind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, EncodingConfig
    from cellunet.imaging.blocks import Place
    from cellunet.imaging.holes import Holes


SIDES_IN = np.array([number.bit_count() for number in range(16)])
"""How many sides a sum of sides (`Area.frame`) holds."""


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Step 1: local components on the area.

    `pixels` counts each component's in the core; `sides` are those of the plane's
    frame that it touches there (`Area.frame`).
    """

    area: Area
    components: npt.NDArray[np.int32]
    allowed: npt.NDArray[np.bool_]
    pixels: npt.NDArray[np.int64]
    sides: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Grown:
    """Step 3: the core with global seed numbers, and its holes with local ones."""

    area: Area
    objects: npt.NDArray[np.int32]
    holes: Holes
    numbers: npt.NDArray[np.int64]
    areas: npt.NDArray[np.int64]
    first_pixels: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Step 4: the final number of each seed number, and of each block's holes.

    `areas` are those of the `count` objects that stay, in the order of their numbers.
    """

    count: int
    areas: npt.NDArray[np.int64]
    final: npt.NDArray[np.uint32]
    holes: Mapping[Place, npt.NDArray[np.uint32]]


def halo_px(encoding: EncodingConfig, decode: DecodeConfig) -> int:
    """Return by how many pixels, at least, a block's area must exceed its core.

    Growth reaches `growth_px`; the contact of an outer boundary is then decided between
    two more pixels. One pixel is needed always: a seed that a face cuts is made whole
    through the pixels that both blocks see.
    """
    contact = 2 if encoding.boundary_side == "outer" else 0
    return max(decode.growth_px + contact, 1)


def seed_block(
    probabilities: npt.NDArray[np.float32],
    area: Area,
    encoding: EncodingConfig,
    decode: DecodeConfig,
) -> Seeds:
    """Find the seeds of a block.

    Parameters
    ----------
    probabilities
        KYX float32 of the area, as the network gave them.
    area
        Where the block lies.
    encoding, decode
        As the model was trained, and its decode constants.
    """
    row = TARGETS[encoding.target]
    corrected = correct(probabilities, decode.class_odds)
    seeds, allowed = row.seed(corrected, encoding, decode)
    components, count = ndimage.label(seeds)
    return Seeds(
        area=area,
        components=components,
        allowed=allowed & ~seeds,
        pixels=np.bincount(components[area.core].ravel(), minlength=count + 1),
        sides=_sides(components[area.core], count, area),
    )


def _sides(
    core: npt.NDArray[np.int32], count: int, area: Area
) -> npt.NDArray[np.int64]:
    sides = np.zeros(count + 1, np.int64)
    for side, edge in area.frame(core):
        sides[np.unique(edge)] |= side
    return sides


def merge_seeds(
    blocks: Sequence[Seeds], encoding: EncodingConfig, decode: DecodeConfig
) -> dict[Place, npt.NDArray[np.int64]]:
    """Return for each block the global number of each local component.

    Components that hold the same pixel in two blocks are one. 0 stands for none, and
    for background.
    """
    offsets, total = {}, 1
    for block in blocks:
        offsets[block.area.place] = total - 1
        total += int(block.components.max(initial=0))
    union = UnionFind(total)
    for a, b in _overlapping(blocks):
        mine, theirs = _shared_pixels(a, b)
        both = (mine > 0) & (theirs > 0)
        pairs = np.stack((mine[both], theirs[both]), 1)
        for first, second in np.unique(pairs, axis=0):
            union.join(
                int(first) + offsets[a.area.place], int(second) + offsets[b.area.place]
            )
    roots = union.roots()
    if TARGETS[encoding.target].seeds_include_background:
        roots[_background(blocks, roots, offsets, decode)] = 0
    # Global numbers are dense, so that later tables are as long as there are objects.
    _, dense = np.unique(np.concatenate(([0], roots)), return_inverse=True)
    dense = dense[1:]
    tables = {}
    for block in blocks:
        place = block.area.place
        count = int(block.components.max(initial=0))
        table = np.zeros(count + 1, np.int64)
        table[1:] = dense[offsets[place] + 1 : offsets[place] + 1 + count]
        tables[place] = table
    return tables


def _overlapping(blocks: Sequence[Seeds]) -> list[tuple[Seeds, Seeds]]:
    """Return each pair of neighbouring blocks once."""
    by_place = {b.area.place: b for b in blocks}
    pairs = []
    for (row, column), block in by_place.items():
        for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
            other = by_place.get((row + dy, column + dx))
            if other is not None:
                pairs.append((block, other))
    return pairs


def _shared_pixels(
    a: Seeds, b: Seeds
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return both blocks' components where their areas overlap."""
    y0, x0 = max(a.area.y0, b.area.y0), max(a.area.x0, b.area.x0)
    ends = [
        (s.area.y0 + s.components.shape[0], s.area.x0 + s.components.shape[1])
        for s in (a, b)
    ]
    y1, x1 = min(e[0] for e in ends), min(e[1] for e in ends)
    views = [
        s.components[
            y0 - s.area.y0 : max(y1 - s.area.y0, 0),
            x0 - s.area.x0 : max(x1 - s.area.x0, 0),
        ]
        for s in (a, b)
    ]
    return views[0], views[1]


def _background(
    blocks: Sequence[Seeds],
    roots: npt.NDArray[np.int64],
    offsets: Mapping[Place, int],
    decode: DecodeConfig,
) -> npt.NDArray[np.bool_]:
    """Return which components are background.

    Those larger than any core, and those that touch three sides of the plane or four.
    Smaller background that nuclei enclose, or cut off at the frame, is
    taken for a nucleus: on the 100 BBBC039 training images 54 objects too many for
    12,001 nuclei. Shape is a worse judge (told apart by how much of the ellipse of its
    moments a region fills: 42 too many, and 297 nuclei lost).
    """
    pixels = np.zeros(len(roots), np.int64)
    sides = np.zeros(len(roots), np.int64)
    for block in blocks:
        start = offsets[block.area.place] + 1
        mine = roots[start : start + len(block.pixels) - 1]
        np.add.at(pixels, mine, block.pixels[1:])
        np.bitwise_or.at(sides, mine, block.sides[1:])
    around = SIDES_IN[sides] >= 3
    is_background: npt.NDArray[np.bool_] = (pixels > decode.max_core_px) | around
    return is_background[roots]


def grow_block(
    seeds: Seeds,
    table: npt.NDArray[np.int64],
    encoding: EncodingConfig,
    decode: DecodeConfig,
) -> Grown:
    """Grow a block's seeds and measure what lies in its core.

    Parameters
    ----------
    seeds
        Step 1 of this block.
    table
        Global number of each local component, from `merge_seeds`.
    encoding, decode
        As for `seed_block`.
    """
    area = seeds.area
    labels = table[seeds.components].astype(np.int32)
    grown = grow(labels, seeds.allowed, decode.growth_px)
    if encoding.boundary_side == "outer":
        grown = keep_contact(grown)
    objects = np.ascontiguousarray(grown[area.core])
    numbers, firsts, areas = np.unique(objects, return_index=True, return_counts=True)
    keep = numbers > 0
    width = objects.shape[1]
    y = firsts // width + area.y0 + area.core[0].start
    x = firsts % width + area.x0 + area.core[1].start
    return Grown(
        area=area,
        objects=objects,
        holes=find_holes(objects, area, decode.max_hole_px),
        numbers=numbers[keep].astype(np.int64),
        areas=areas[keep].astype(np.int64),
        first_pixels=(y.astype(np.int64) * area.plane[1] + x)[keep],
    )


def merge_objects(
    blocks: Sequence[Grown], decode: DecodeConfig, *, exclude_border: bool = False
) -> Numbers:
    """Return the final number of every object and of every filled hole.

    Parameters
    ----------
    blocks
        Step 3 of all blocks of a plane.
    decode
        Smallest area and largest hole.
    exclude_border
        Drop objects that touch the frame of the plane.
    """
    top = max((int(b.numbers.max(initial=0)) for b in blocks), default=0)
    areas = np.zeros(top + 1, np.int64)
    firsts = np.full(top + 1, np.iinfo(np.int64).max)
    for block in blocks:
        np.add.at(areas, block.numbers, block.areas)
        np.minimum.at(firsts, block.numbers, block.first_pixels)
    owners = hole_owners([(b.objects, b.holes) for b in blocks], decode.max_hole_px)
    for block in blocks:
        np.add.at(areas, owners[block.area.place][1:], block.holes.areas)
    areas[0] = 0
    if exclude_border:
        for block in blocks:
            for _, edge in block.area.frame(block.objects):
                areas[np.unique(edge)] = 0
    kept = np.flatnonzero(areas >= max(decode.min_area_px, 1))
    kept = kept[np.argsort(firsts[kept], kind="stable")]
    final = np.zeros(top + 1, np.uint32)
    final[kept] = np.arange(1, len(kept) + 1)
    holes = {place: final[table] for place, table in owners.items()}
    return Numbers(count=len(kept), areas=areas[kept], final=final, holes=holes)


def finalize_block(grown: Grown, numbers: Numbers) -> npt.NDArray[np.uint32]:
    """Return the final labels of a block's core, YX uint32."""
    labels = numbers.final[grown.objects]
    filled = numbers.holes[grown.area.place]
    if len(filled) > 1:
        labels = np.where(grown.holes.regions > 0, filled[grown.holes.regions], labels)
    return labels


def decode_plane(
    probabilities: npt.NDArray[np.float32],
    encoding: EncodingConfig,
    decode: DecodeConfig,
) -> npt.NDArray[np.uint32]:
    """Return the instance labels of a whole plane, as one block.

    Parameters
    ----------
    probabilities
        KYX float32, class probabilities as the network gave them.
    encoding, decode
        As the model was trained, and its decode constants.

    Returns
    -------
    ndarray
        YX uint32, 0 background, objects numbered by first pixel in raster order.
    """
    height, width = probabilities.shape[1:]
    area = Area(
        place=(0, 0),
        y0=0,
        x0=0,
        height=height,
        width=width,
        core=(slice(0, height), slice(0, width)),
        plane=(height, width),
    )
    seeds = seed_block(probabilities, area, encoding, decode)
    tables = merge_seeds([seeds], encoding, decode)
    grown = grow_block(seeds, tables[area.place], encoding, decode)
    return finalize_block(grown, merge_objects([grown], decode))
