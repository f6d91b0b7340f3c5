"""Cut a band of rows into pieces, so that what is made of one stays small."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_PX = 2**18
"""Pixels of a piece, at most."""

CACHED_PX = 2**15
"""Pixels of a piece that is gone through several times: what a processor's cache holds
of a few numbers each."""


def pieces(
    shape: tuple[int, ...], most: int = PIECE_PX
) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of each piece of a band, in raster order.

    A piece is some whole rows, or a part of one row, so that going through the pieces
    and through the rows of each meets every pixel in raster order.

    Parameters
    ----------
    shape
        Height and width of the band.
    most
        Pixels of a piece.

    Examples
    --------
    >>> list(pieces((3, 5), 10))
    [(slice(0, 2, None), slice(0, 5, None)), (slice(2, 3, None), slice(0, 5, None))]
    >>> list(pieces((1, 5), 3))
    [(slice(0, 1, None), slice(0, 3, None)), (slice(0, 1, None), slice(3, 5, None))]
    """
    height, width = shape
    rows, columns = max(most // max(width, 1), 1), max(min(width, most), 1)
    for y in range(0, height, rows):
        for x in range(0, width, columns):
            yield (
                slice(y, min(y + rows, height)),
                slice(x, min(x + columns, width)),
            )
