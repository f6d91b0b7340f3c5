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

from cellunet.imaging.encoding import TARGETS, correct
from cellunet.imaging.growth import grow, keep_contact
from cellunet.imaging.unionfind import UnionFind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, EncodingConfig

Place = tuple[int, int]

LEAST_ELLIPSE_FILL = 0.85
"""Boundary target: a closed region that fills less of the ellipse of its second
moments than this is background between nuclei. Discs and ellipses fill 1, squares
.95; a gap between convex nuclei has inward sides and fills less."""


@dataclass(frozen=True, kw_only=True)
class Area:
    """Where a block's arrays lie: the core that it owns and the area it looks at.

    The area exceeds the core by `halo_px` on each side, or ends at the plane's edge.
    `y0`, `x0` is the area's first pixel in the plane, `height` and `width` its size;
    `core` cuts the core out of arrays of the area; `plane` is the plane's shape.
    """

    place: Place
    y0: int
    x0: int
    height: int
    width: int
    core: tuple[slice, slice]
    plane: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Step 1: local components on the area, and sums over the core's pixels.

    `sums` has one row per local component: pixels, y, x, y y, x x, x y.
    """

    area: Area
    components: npt.NDArray[np.int32]
    allowed: npt.NDArray[np.bool_]
    sums: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Grown:
    """Step 3: the core with global seed numbers, and its holes with local ones."""

    area: Area
    objects: npt.NDArray[np.int32]
    holes: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.int64]
    areas: npt.NDArray[np.int64]
    first_pixels: npt.NDArray[np.int64]
    hole_areas: npt.NDArray[np.int64]
    open_holes: npt.NDArray[np.int64]
    hole_neighbours: npt.NDArray[np.int64]


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

    Growth reaches `growth_px`; the contact of an outer boundary is decided between two
    pixels next to seeds. One pixel is needed always: a seed that a face cuts is made
    whole through the pixels that both blocks see.
    """
    if encoding.target == "three-class" and encoding.boundary_side == "outer":
        return 2
    return max(decode.growth_px, 1)


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
        sums=_sums(components, count, area)
        if row.seeds_include_background
        else np.zeros((0, 6)),
    )


def _sums(
    components: npt.NDArray[np.int32], count: int, area: Area
) -> npt.NDArray[np.float64]:
    core = components[area.core]
    y, x = np.nonzero(core)
    numbers = core[y, x]
    # About the plane's middle, so that large planes lose no digits.
    y = y + (area.y0 + area.core[0].start - area.plane[0] / 2)
    x = x + (area.x0 + area.core[1].start - area.plane[1] / 2)
    terms = (np.ones(len(y)), y, x, y * y, x * x, x * y)
    return np.stack([np.bincount(numbers, t, minlength=count + 1) for t in terms], 1)


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
    """Return which components are background, by size and by shape."""
    sums = np.zeros((len(roots), 6))
    for block in blocks:
        start = offsets[block.area.place] + 1
        count = len(block.sums) - 1
        np.add.at(sums, roots[start : start + count], block.sums[1:])
    pixels, y, x, yy, xx, xy = sums.T
    size = np.maximum(pixels, 1.0)
    # Variance of a pixel's own square is 1/12.
    var_y = yy / size - (y / size) ** 2 + 1 / 12
    var_x = xx / size - (x / size) ** 2 + 1 / 12
    cov = xy / size - (y / size) * (x / size)
    ellipse = 4 * np.pi * np.sqrt(np.maximum(var_y * var_x - cov**2, 1e-12))
    is_background = (pixels > decode.max_core_px) | (
        pixels < LEAST_ELLIPSE_FILL * ellipse
    )
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
    if encoding.target == "three-class" and encoding.boundary_side == "outer":
        grown = keep_contact(labels)
    else:
        grown = grow(labels, seeds.allowed, decode.growth_px)
    objects = np.ascontiguousarray(grown[area.core])
    numbers, firsts, areas = np.unique(objects, return_index=True, return_counts=True)
    keep = numbers > 0
    width = objects.shape[1]
    y = firsts // width + area.y0 + area.core[0].start
    x = firsts % width + area.x0 + area.core[1].start
    holes, hole_areas, open_holes, pairs = _holes(objects, area, decode)
    return Grown(
        area=area,
        objects=objects,
        holes=holes,
        numbers=numbers[keep].astype(np.int64),
        areas=areas[keep].astype(np.int64),
        first_pixels=(y.astype(np.int64) * area.plane[1] + x)[keep],
        hole_areas=hole_areas,
        open_holes=open_holes,
        hole_neighbours=pairs,
    )


def _holes(
    objects: npt.NDArray[np.int32], area: Area, decode: DecodeConfig
) -> tuple[npt.NDArray[np.int32], ...]:
    """Return small regions of background: map, areas, open ones, neighbours.

    Regions that are larger than a hole may be are left out. A region that touches the
    frame of the plane is open. `neighbours` has rows (hole, object).
    """
    holes, count = ndimage.label(objects == 0)
    areas = np.bincount(holes.ravel(), minlength=count + 1)
    small = areas <= decode.max_hole_px
    small[0] = False
    renumber = np.where(small, np.cumsum(small), 0).astype(np.int32)
    holes = renumber[holes]
    pairs = []
    for axis in (0, 1):
        for a, b in ((holes, objects), (objects, holes)):
            first = np.take(a, range(a.shape[axis] - 1), axis)
            second = np.take(b, range(1, b.shape[axis]), axis)
            touching = (first > 0) & (second > 0)
            hole, thing = (first, second) if a is holes else (second, first)
            pairs.append(np.stack((hole[touching], thing[touching]), 1))
    neighbours = np.unique(np.concatenate(pairs), axis=0).astype(np.int64)
    frame = [edge for edge, outside in _edges(holes, area) if outside]
    open_holes = np.unique(np.concatenate(frame)) if frame else np.zeros(0, np.int32)
    return holes, areas[small].astype(np.int64), open_holes[open_holes > 0], neighbours


def _edges(
    core: npt.NDArray[np.int32], area: Area
) -> list[tuple[npt.NDArray[np.int32], bool]]:
    """Return the four edges of a core and whether each is the plane's frame."""
    y0, x0 = area.y0 + area.core[0].start, area.x0 + area.core[1].start
    y1, x1 = y0 + core.shape[0], x0 + core.shape[1]
    return [
        (core[0], y0 == 0),
        (core[-1], y1 == area.plane[0]),
        (core[:, 0], x0 == 0),
        (core[:, -1], x1 == area.plane[1]),
    ]


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
    owners = _hole_owners(blocks, decode)
    for block in blocks:
        np.add.at(areas, owners[block.area.place][1:], block.hole_areas)
    areas[0] = 0
    if exclude_border:
        for block in blocks:
            for edge, is_frame in _edges(block.objects, block.area):
                if is_frame:
                    areas[np.unique(edge)] = 0
    kept = np.flatnonzero(areas >= max(decode.min_area_px, 1))
    kept = kept[np.argsort(firsts[kept], kind="stable")]
    final = np.zeros(top + 1, np.uint32)
    final[kept] = np.arange(1, len(kept) + 1)
    holes = {place: final[table] for place, table in owners.items()}
    return Numbers(count=len(kept), areas=areas[kept], final=final, holes=holes)


def _hole_owners(
    blocks: Sequence[Grown], decode: DecodeConfig
) -> dict[Place, npt.NDArray[np.int64]]:
    """Return for each block's holes the object that encloses it whole, or 0."""
    offsets, total = {}, 1
    for block in blocks:
        offsets[block.area.place] = total - 1
        total += len(block.hole_areas)
    union = UnionFind(total)
    neighbours = [
        block.hole_neighbours + (offsets[block.area.place], 0) for block in blocks
    ]
    opened = [block.open_holes + offsets[block.area.place] for block in blocks]
    by_place = {b.area.place: b for b in blocks}
    for block in blocks:
        row, column = block.area.place
        for place, mine, theirs in (
            ((row, column + 1), np.s_[:, -1], np.s_[:, 0]),
            ((row + 1, column), np.s_[-1], np.s_[0]),
        ):
            other = by_place.get(place)
            if other is not None:
                shift = offsets[block.area.place], offsets[place]
                _join_faces(union, (block, mine), (other, theirs), shift)
                neighbours += _face_neighbours((block, mine), (other, theirs), shift)
                opened += _face_open((block, mine), (other, theirs), shift)
    roots = union.roots()
    area = np.zeros(total, np.int64)
    for block in blocks:
        start = offsets[block.area.place] + 1
        np.add.at(area, roots[start : start + len(block.hole_areas)], block.hole_areas)
    owner = np.zeros(total, np.int64)
    pairs = np.concatenate(neighbours) if neighbours else np.zeros((0, 2), np.int64)
    low = np.full(total, np.iinfo(np.int64).max)
    np.minimum.at(low, roots[pairs[:, 0]], pairs[:, 1])
    np.maximum.at(owner, roots[pairs[:, 0]], pairs[:, 1])
    owner[(low != owner) | (area > decode.max_hole_px)] = 0
    for numbers in opened:
        owner[roots[numbers]] = 0
    tables = {}
    for block in blocks:
        start = offsets[block.area.place] + 1
        table = np.zeros(len(block.hole_areas) + 1, np.int64)
        table[1:] = owner[roots[start : start + len(block.hole_areas)]]
        tables[block.area.place] = table
    return tables


Side = tuple[Grown, object]


def _face(side: Side) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    block, where = side
    return (
        block.holes[where].astype(np.int64),  # type: ignore[index]
        block.objects[where].astype(np.int64),  # type: ignore[index]
    )


def _join_faces(union: UnionFind, a: Side, b: Side, shift: tuple[int, int]) -> None:
    mine, theirs = _face(a)[0], _face(b)[0]
    both = (mine > 0) & (theirs > 0)
    for first, second in zip(mine[both], theirs[both], strict=True):
        union.join(int(first) + shift[0], int(second) + shift[1])


def _face_neighbours(
    a: Side, b: Side, shift: tuple[int, int]
) -> list[npt.NDArray[np.int64]]:
    (holes_a, objects_a), (holes_b, objects_b) = _face(a), _face(b)
    found = []
    for holes, objects, offset in (
        (holes_a, objects_b, shift[0]),
        (holes_b, objects_a, shift[1]),
    ):
        touching = (holes > 0) & (objects > 0)
        found.append(np.stack((holes[touching] + offset, objects[touching]), 1))
    return found


def _face_open(a: Side, b: Side, shift: tuple[int, int]) -> list[npt.NDArray[np.int64]]:
    """Return the holes that meet background too large to be a hole."""
    (holes_a, objects_a), (holes_b, objects_b) = _face(a), _face(b)
    found = []
    for holes, other_holes, other_objects, offset in (
        (holes_a, holes_b, objects_b, shift[0]),
        (holes_b, holes_a, objects_a, shift[1]),
    ):
        outside = (holes > 0) & (other_holes == 0) & (other_objects == 0)
        found.append(holes[outside] + offset)
    return found


def finalize_block(grown: Grown, numbers: Numbers) -> npt.NDArray[np.uint32]:
    """Return the final labels of a block's core, YX uint32."""
    labels = numbers.final[grown.objects]
    filled = numbers.holes[grown.area.place]
    if len(filled) > 1:
        labels = np.where(grown.holes > 0, filled[grown.holes], labels)
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
