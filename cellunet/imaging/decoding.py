"""Class probabilities of a plane to instance labels, block by block, exactly.

Five steps, each but the merges a pure function of one block:

1. `seeds.mark`: what each pixel is, by itself.
2. `seeds.seed_block`: components of seed pixels on the core and a halo of
   `seeds.halo_px`; `seeds.SeedMerger`: components that share a pixel become one
   (union-find); for the boundary target, those that are background are told apart.
3. `grow_block`: seeds grow into the foreground, level by level.
4. `ObjectMerger`: areas add up, holes are filled, small objects dropped, and the rest
   numbered by first pixel in raster order.
5. `finalize_block` writes the numbers.

Growth is level-synchronous within a radius and breaks ties by the direction that it
came from, so a pixel's object depends on what lies within `growth_px` of it alone, and
the result is the same for every way to cut the plane. A whole small image is the case
of one block, not another algorithm. Foreground farther than `growth_px` steps from a
seed stays background; nothing else bounds the size of an object. The merges keep of a
block what its neighbours touch, so blocks may pass through memory one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cellunet.imaging.blocks import Area
from cellunet.imaging.encoding import correct
from cellunet.imaging.growth import grow, keep_contact
from cellunet.imaging.holes import HoleMerger, Holes, find_holes
from cellunet.imaging.seeds import OPEN_PART, mark, merge_seeds, seed_block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, EncodingConfig
    from cellunet.imaging.blocks import Place


@dataclass(frozen=True, kw_only=True)
class Grown:
    """Step 3 of one core.

    `pixels` is YX int32: the global number of a seed, the negative local number of a
    region of background that may be a hole, or 0. `numbers` are the seeds that are
    there, with their `areas` and `first_pixels`; `at_frame` those that touch the frame
    of the plane.
    """

    place: Place
    pixels: npt.NDArray[np.int32]
    holes: Holes
    numbers: npt.NDArray[np.int64]
    areas: npt.NDArray[np.int64]
    first_pixels: npt.NDArray[np.int64]
    at_frame: npt.NDArray[np.int64]


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
    parts: npt.NDArray[np.int32],
    area: Area,
    table: npt.NDArray[np.int64],
    encoding: EncodingConfig,
    decode: DecodeConfig,
) -> Grown:
    """Grow a block's seeds and measure what lies in its core.

    Parameters
    ----------
    parts
        Step 2 of this block, `Seeds.parts`.
    area
        Where the block lies.
    table
        Global number of each local component, from `merge_seeds`.
    encoding, decode
        As the model was trained, and its decode constants.
    """
    # Dense numbers while growing, so that objects are counted without a sort of pixels.
    numbers, dense = np.unique(np.append(0, table), return_inverse=True)
    labels = dense[1:].astype(np.int32).take(np.maximum(parts, 0))
    grown = grow(labels, parts == OPEN_PART, decode.growth_px)
    if encoding.boundary_side == "outer":
        grown = keep_contact(grown)
    core = grown[area.core]
    there, firsts, areas = _seen(core)
    y = firsts // core.shape[1] + area.y0 + area.core[0].start
    x = firsts % core.shape[1] + area.x0 + area.core[1].start
    objects = numbers.astype(np.int32).take(core)
    regions, holes = find_holes(objects, area, decode.max_hole_px)
    frame = [np.zeros(0, np.int32), *(edge for _, edge in area.frame(objects))]
    return Grown(
        place=area.place,
        pixels=np.where(regions > 0, -regions, objects),
        holes=holes,
        numbers=numbers[there],
        areas=areas,
        first_pixels=y * area.plane[1] + x,
        at_frame=np.unique(np.concatenate(frame)).astype(np.int64),
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
    exclude_border
        Drop objects that touch the frame of the plane.
    """

    def __init__(self, decode: DecodeConfig, *, exclude_border: bool = False) -> None:
        self._decode, self._exclude_border = decode, exclude_border
        self._holes = HoleMerger(decode.max_hole_px)
        self._blocks: list[Grown] = []

    def add(self, grown: Grown) -> None:
        """Take the next block; of its pixels only the sides are kept."""
        self._holes.add(grown.place, grown.pixels, grown.holes)
        self._blocks.append(replace(grown, pixels=np.zeros((0, 0), np.int32)))

    def numbers(self) -> Numbers:
        """Return the final number of every object and of every filled hole."""
        blocks = self._blocks
        top = max((int(b.numbers.max(initial=0)) for b in blocks), default=0)
        areas = np.zeros(top + 1, np.int64)
        firsts = np.full(top + 1, np.iinfo(np.int64).max)
        for block in blocks:
            np.add.at(areas, block.numbers, block.areas)
            np.minimum.at(firsts, block.numbers, block.first_pixels)
        owners = self._holes.owners()
        for block in blocks:
            np.add.at(areas, owners[block.place][1:], block.holes.areas)
        areas[0] = 0
        if self._exclude_border:
            for block in blocks:
                areas[block.at_frame] = 0
        kept = np.flatnonzero(areas >= max(self._decode.min_area_px, 1))
        kept = kept[np.argsort(firsts[kept], kind="stable")]
        final = np.zeros(top + 1, np.uint32)
        final[kept] = np.arange(1, len(kept) + 1)
        holes = {place: final[table] for place, table in owners.items()}
        return Numbers(count=len(kept), areas=areas[kept], final=final, holes=holes)


def merge_objects(
    blocks: Sequence[Grown], decode: DecodeConfig, *, exclude_border: bool = False
) -> Numbers:
    """Return `ObjectMerger.numbers` of all blocks of a plane, given in any order."""
    merger = ObjectMerger(decode, exclude_border=exclude_border)
    for block in sorted(blocks, key=lambda b: b.place):
        merger.add(block)
    return merger.numbers()


def finalize_block(
    pixels: npt.NDArray[np.int32], place: Place, numbers: Numbers
) -> npt.NDArray[np.uint32]:
    """Return the final labels of a block's core, or of some of its rows, YX uint32.

    Parameters
    ----------
    pixels
        Step 3, `Grown.pixels`.
    place
        Place of the block.
    numbers
        Step 4.
    """
    labels = numbers.final.take(np.maximum(pixels, 0))
    filled = numbers.holes[place]
    if len(filled) > 1:
        inside = np.flatnonzero(pixels < 0)
        labels.put(inside, filled.take(-pixels.take(inside)))
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
    area = Area.whole((height, width))
    corrected = correct(probabilities, decode.class_odds)
    seeds = seed_block(mark(corrected, encoding, decode), area)
    tables = merge_seeds([seeds], encoding, decode)
    grown = grow_block(seeds.parts, area, tables[area.place], encoding, decode)
    numbers = merge_objects([grown], decode)
    return finalize_block(grown.pixels, area.place, numbers)
