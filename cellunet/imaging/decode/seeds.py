"""Seeds of a block, and their merge over all blocks: the first half of decoding.

See `cellunet.imaging.decode.decoding` for the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from cellunet.imaging.decode.unionfind import UnionFind, distinct_pairs
from cellunet.imaging.encoding import TARGETS

if TYPE_CHECKING:
    import numpy.typing as npt

    from cellunet.config import DecodeConfig, EncodingConfig
    from cellunet.imaging.blocks import Area

SIDES_IN = np.array([number.bit_count() for number in range(16)])
"""How many sides a sum of sides (`Area.frame`) holds."""
SEED, OPEN = 1, 2
"""Marks of a pixel: it seeds an object; an object may grow into it."""
OPEN_PART = -1
"""What stands in `Seeds.parts` where an object may grow into."""


def mark(
    probabilities: npt.NDArray[np.float32],
    encoding: EncodingConfig,
    decode: DecodeConfig,
) -> npt.NDArray[np.uint8]:
    """Return all that decoding needs to know of each pixel, one byte of it.

    Parameters
    ----------
    probabilities
        KYX float32, corrected for the odds of a weighted loss.
    encoding, decode
        As the model was trained, and its decode constants.

    Returns
    -------
    ndarray
        YX uint8: `SEED`, `OPEN`, or 0.
    """
    seeds, allowed = TARGETS[encoding.target].seed(probabilities, encoding, decode)
    marks = np.where(allowed, np.uint8(OPEN), np.uint8(0))
    marks[seeds] = SEED
    return marks


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Step 1: local components on the area, `parts`, and what the merge needs of them.

    `parts` is YX int32: the number of a component from 1, `OPEN_PART` where an object
    may grow into, 0 elsewhere. By that number, `pixels` counts those in the core, and
    `sides` are those of the plane's frame that it touches there (`Area.frame`).
    """

    area: Area
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


def seed_block(marks: npt.NDArray[np.uint8], area: Area) -> Seeds:
    """Find the seeds of a block.

    Parameters
    ----------
    marks
        YX uint8 of the area, from `mark`.
    area
        Where the block lies.
    """
    parts, count = ndimage.label(marks == SEED)
    core = parts[area.core]
    # Most pixels are none's; counting those too takes twice as long.
    pixels = np.bincount(core[core > 0], minlength=count + 1)
    sides = np.zeros(count + 1, np.int64)
    for side, edge in area.frame(core):
        sides[np.unique(edge)] |= side
    parts[marks == OPEN] = OPEN_PART
    return Seeds(area=area, parts=parts, pixels=pixels, sides=sides)


@dataclass(frozen=True)
class _Strip:
    """A part of a block that its neighbours see too."""

    y0: int
    x0: int
    parts: npt.NDArray[np.int32]
    offset: int


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
        self._halo = halo_px(encoding, decode)
        self._total = 1
        self._pixels = [np.zeros(1, np.int64)]
        self._sides = [np.zeros(1, np.int64)]
        self._joins = [np.zeros((0, 2), np.int64)]
        self._above: dict[int, _Strip] = {}
        self._row: dict[int, _Strip] = {}
        self._left: _Strip | None = None

    def add(self, seeds: Seeds) -> int:
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
        mine = _Strip(seeds.area.y0, seeds.area.x0, seeds.parts, offset)
        # The blocks to come do not touch the one above to the left.
        others = [self._above.pop(column - 1, None)]
        others += [self._above.get(column + d) for d in (0, 1)]
        for other in (*others, self._left):
            if other is not None:
                self._joins.append(_joins(other, mine))
        if seeds.area.y0 + seeds.area.core[0].stop < seeds.area.plane[0]:
            self._row[column] = _lower(seeds, offset, self._halo)
        self._left = _right(seeds, offset, self._halo)
        return offset

    def numbers(self) -> npt.NDArray[np.int64]:
        """Return for each number that `add` gave that of its seed, from 1, dense.

        0 stands for none, and for background.
        """
        union = UnionFind(self._total)
        for first, second in np.concatenate(self._joins):
            union.join(int(first), int(second))
        roots = union.roots()
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


def _lower(seeds: Seeds, offset: int, halo: int) -> _Strip:
    """Return the rows that the blocks below see too."""
    start = max(seeds.area.core[0].stop - halo, 0)
    return _Strip(
        seeds.area.y0 + start, seeds.area.x0, seeds.parts[start:].copy(), offset
    )


def _right(seeds: Seeds, offset: int, halo: int) -> _Strip:
    """Return the columns that the block on the right sees too."""
    start = max(seeds.area.core[1].stop - halo, 0)
    part = seeds.parts[:, start:].copy()
    return _Strip(seeds.area.y0, seeds.area.x0 + start, part, offset)


def _joins(a: _Strip, b: _Strip) -> npt.NDArray[np.int64]:
    """Return rows (component of a, component of b) that share a pixel, global."""
    y0, x0 = max(a.y0, b.y0), max(a.x0, b.x0)
    ends = [(s.y0 + s.parts.shape[0], s.x0 + s.parts.shape[1]) for s in (a, b)]
    y1, x1 = (min(e) for e in zip(*ends, strict=True))
    first, second = (
        s.parts[
            y0 - s.y0 : max(y1 - s.y0, y0 - s.y0), x0 - s.x0 : max(x1 - s.x0, x0 - s.x0)
        ]
        for s in (a, b)
    )
    both = (first > 0) & (second > 0)
    joins = distinct_pairs(first[both], second[both])
    joins += np.array([a.offset, b.offset])
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
    for a nucleus. By size alone that makes 54 objects too many beside the 12,001
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
