"""Class probabilities of a plane to instance labels, block by block, exactly.

Five steps, each but the merges a pure function of one block:

1. `seeds.mark`: what each pixel is, by itself.
2. `seeds.seed_block`: components of seed pixels on the core and a halo of
   `seeds.halo_px`; `seeds.SeedMerger`: components that share a pixel become one
   (union-find); for the boundary target, those that are background are told apart.
3. `grow_block`: seeds grow into the foreground, level by level. Components keep the
   block's own numbers, so that a block need not wait for the merge, except where
   growth depends on it (`seeds.waits_for_all`).
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
from cellunet.imaging.decode.growth import grow, keep_contact
from cellunet.imaging.decode.holes import HoleMerger, Holes, find_holes
from cellunet.imaging.decode.seeds import (
    OPEN_PART,
    SeedMerger,
    as_one,
    mark,
    seed_block,
    waits_for_all,
)
from cellunet.imaging.encoding import correct

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, EncodingConfig
    from cellunet.imaging.blocks import Place


@dataclass(frozen=True, kw_only=True)
class Grown:
    """Step 3 of one core.

    `pixels` is YX int32: the block's number of a component, the negative number of a
    region of background that may be a hole, or 0. `numbers` are the components that are
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
    """Step 4: the final number of each block's components, and of its holes.

    `areas` are those of the `count` objects that stay, in the order of their numbers.
    """

    count: int
    areas: npt.NDArray[np.int64]
    components: Mapping[Place, npt.NDArray[np.uint32]]
    holes: Mapping[Place, npt.NDArray[np.uint32]]


def grow_block(
    parts: npt.NDArray[np.int32],
    area: Area,
    encoding: EncodingConfig,
    decode: DecodeConfig,
    same: npt.NDArray[np.int32] | None = None,
) -> Grown:
    """Grow a block's seeds and measure what lies in its core.

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
        `cellunet.imaging.decode.seeds.as_one`; needed where
        `cellunet.imaging.decode.seeds.waits_for_all`.
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
    frame = [np.zeros(0, np.int32), *(edge for _, edge in area.frame(objects))]
    return Grown(
        place=area.place,
        pixels=np.where(regions > 0, -regions, objects),
        holes=holes,
        numbers=there,
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
        self._blocks: list[tuple[Grown, int]] = []

    def add(self, grown: Grown, offset: int) -> None:
        """Take the next block; of its pixels only the sides are kept.

        Parameters
        ----------
        grown
            Step 3.
        offset
            What its components' numbers begin after, from `SeedMerger.add`.
        """
        self._holes.add(grown.place, grown.pixels, grown.holes, offset)
        kept = replace(grown, pixels=np.zeros((0, 0), np.int32))
        self._blocks.append((kept, offset))

    def numbers(self, seeds: npt.NDArray[np.int64]) -> Numbers:
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
        if self._exclude_border:
            for block, offset in self._blocks:
                areas[seeds.take(block.at_frame[block.at_frame > 0] + offset)] = 0
        kept = np.flatnonzero(areas >= max(self._decode.min_area_px, 1))
        kept = kept[np.argsort(firsts[kept], kind="stable")]
        final = np.zeros(top + 1, np.uint32)
        final[kept] = np.arange(1, len(kept) + 1)
        return Numbers(
            count=len(kept),
            areas=areas[kept],
            components={b.place: _by_number(b, final[own]) for b, own in blocks},
            holes={place: final[table] for place, table in owners.items()},
        )


def _by_number(block: Grown, final: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return a table by component of what is given of those that are there."""
    table = np.zeros(int(block.numbers.max(initial=0)) + 1, np.uint32)
    table[block.numbers] = final
    return table


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
    labels = numbers.components[place].take(np.maximum(pixels, 0))
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
    merger, objects = SeedMerger(encoding, decode), ObjectMerger(decode)
    offset = merger.add(seeds)
    numbers = merger.numbers()
    same = as_one(numbers[1:]) if waits_for_all(encoding) else None
    grown = grow_block(seeds.parts, area, encoding, decode, same)
    objects.add(grown, offset)
    return finalize_block(grown.pixels, area.place, objects.numbers(numbers))
