"""COCO's run-length encodings of a mask, plain and compressed.

Runs of pixels outside and inside take turns, outside first, column by column. The
compressed form writes the same numbers, from the fourth on as the difference to the
number two before, five bits a character from the lowest on: the character's code is 48
plus the bits plus 32 if more follow; the highest bit of the last character is the
sign. (Format of the COCO data set, Lin et al. 2014, "Microsoft COCO: Common Objects in
Context"; described by the comments of its ``maskApi.h``.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellunet.errors import AnnotationError
from cellunet.imaging.drawn.rasterize import Filled

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

MOST_CHARACTERS = 12
"""Characters of one number: 60 bits."""
_AGAIN = "Export the file again."


def decode_counts(text: str) -> list[int]:
    """Return the runs that a compressed string stands for.

    Raises
    ------
    AnnotationError
        If a character is none of the encoding's or the string ends within a number.

    Examples
    --------
    >>> decode_counts("04"), decode_counts("122O2")
    ([0, 4], [1, 2, 2, 1, 4])
    """
    counts: list[int] = []
    value = place = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or place == MOST_CHARACTERS:
            raise AnnotationError(
                f"The compressed mask holds {character!r} where no such character can "
                "be.",
                hint=_AGAIN,
            )
        value |= (bits & 31) << (5 * place)
        place += 1
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << (5 * place)
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = place = 0
    if place:
        raise AnnotationError("The compressed mask is cut off.", hint=_AGAIN)
    return counts


@dataclass(frozen=True, eq=False)
class Runs:
    """A mask as runs; `size` is rows and columns of the image it was drawn on."""

    counts: npt.NDArray[np.int64]
    size: tuple[int, int]

    def fill(self, shape: tuple[int, int]) -> Filled:
        """Return the pixels of the mask; memory is that of its columns."""
        if self.size != shape:
            raise AnnotationError(
                f"The mask is {self.size[0]} x {self.size[1]} pixels; its image has "
                f"{shape[0]} x {shape[1]}.",
                hint=_AGAIN,
            )
        ends = self.counts.cumsum()
        start, stop = ends[0::2][: len(ends) // 2], ends[1::2]
        kept = stop > start
        start, stop = start[kept], stop[kept]
        if not len(start):
            return Filled((slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool))
        height = shape[0]
        first, last = int(start[0]) // height, int(stop[-1] - 1) // height
        turns = np.zeros((last - first + 1) * height + 1, np.int8)
        turns[start - first * height] = 1
        turns[stop - first * height] -= 1
        inside = turns[:-1].cumsum(dtype=np.int8).reshape(-1, height).T > 0
        rows = np.flatnonzero(inside.any(axis=1))
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        window = (slice(top, bottom), slice(first, last + 1))
        return Filled(window, inside[top:bottom])


def runs(counts: Sequence[int] | str, size: tuple[int, int]) -> Runs:
    """Return the mask of plain or compressed counts.

    Parameters
    ----------
    counts
        Pixels outside, inside, outside, ...; or the same as a compressed string.
    size
        Rows and columns.

    Raises
    ------
    AnnotationError
        If a run is negative or they do not add up to the size.
    """
    numbers = decode_counts(counts) if isinstance(counts, str) else list(counts)
    # Before an array is made of them: a sum may be larger than any array holds.
    if any(n < 0 for n in numbers) or sum(numbers) != size[0] * size[1]:
        raise AnnotationError(
            f"The runs of the mask add up to {sum(numbers):,} pixels, not to the "
            f"{size[0]} x {size[1]} of its image, or one is negative.",
            hint=_AGAIN,
        )
    return Runs(np.array(numbers, np.int64), size)
