"""Seeds of a block, and their merge over all blocks: the first half of decoding.

See `cellunet.imaging.decoding` for the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from cellunet.imaging.encoding import TARGETS, correct
from cellunet.imaging.unionfind import UnionFind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, EncodingConfig
    from cellunet.imaging.blocks import Area, Place

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

    Those larger than any core, and those that touch three sides of the plane or
    four. Smaller background that nuclei enclose, or cut off at the frame, is taken
    for a nucleus. By size alone that makes 54 objects too many beside the 12,001
    nuclei of the 100 BBBC039 training images. Shape is a worse judge: telling regions
    apart by how much of the ellipse of their moments they fill makes 42 too many and
    loses 297.
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
