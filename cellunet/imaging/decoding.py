"""Class probabilities of a plane to instance labels, block by block, exactly.

Four steps, each a pure function of one block, with a merge between them:

1. `seeds.seed_block`: components of seed pixels on the core and a halo of
   `seeds.halo_px`.
2. `seeds.merge_seeds`: components that share a pixel become one (union-find); for the
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

from cellunet.imaging.blocks import Area
from cellunet.imaging.growth import grow, keep_contact
from cellunet.imaging.holes import find_holes, hole_owners
from cellunet.imaging.seeds import merge_seeds, seed_block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, EncodingConfig
    from cellunet.imaging.blocks import Place
    from cellunet.imaging.holes import Holes
    from cellunet.imaging.seeds import Seeds


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
    labels = table.astype(np.int32).take(seeds.components)
    grown = grow(labels, seeds.allowed, decode.growth_px)
    if encoding.boundary_side == "outer":
        grown = keep_contact(grown)
    objects = np.ascontiguousarray(grown[area.core])
    numbers, firsts, areas = _seen(objects)
    width = objects.shape[1]
    y = firsts // width + area.y0 + area.core[0].start
    x = firsts % width + area.x0 + area.core[1].start
    return Grown(
        area=area,
        objects=objects,
        holes=find_holes(objects, area, decode.max_hole_px),
        numbers=numbers,
        areas=areas,
        first_pixels=y * area.plane[1] + x,
    )


def _seen(
    objects: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the numbers in an array, and each one's first pixel and count of pixels.

    Without the sorting of `np.unique`, which takes ten times as long. Numbers in a
    block lie close together, since seeds are numbered block by block.
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
    labels = numbers.final.take(grown.objects)
    filled = numbers.holes[grown.area.place]
    if len(filled) > 1:
        inside = np.flatnonzero(grown.holes.regions)
        labels.put(inside, filled.take(grown.holes.regions.take(inside)))
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
