"""How a page of a TIFF is cut into strips or tiles; pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import tifffile


@dataclass(frozen=True)
class Grid:
    """How one page is cut into strips or tiles; all lengths in pixels."""

    separate: int
    """Samples that are stored one after the other."""
    depth: int
    """Planes of a page with the ImageDepth tag, else 1."""
    length: int
    """Rows."""
    width: int
    """Columns."""
    samples: int
    """Interleaved samples."""
    piece: tuple[int, int, int]
    """Depth, rows and columns of a strip or tile."""
    tiled: bool
    """Tiles, of which a sparse file may leave out empty ones; else strips."""

    @classmethod
    def of(cls, page: tifffile.TiffPage) -> Grid:
        """Read the grid from a page's tags."""
        separate, depth, length, width, samples = page.shaped
        if page.is_tiled:
            piece = (page.tiledepth, page.tilelength, page.tilewidth)
        else:
            piece = (1, page.rowsperstrip, width)
        return cls(separate, depth, length, width, samples, piece, page.is_tiled)

    @property
    def planes(self) -> int:
        """Stored planes in a page."""
        return self.separate * self.depth

    @property
    def pieces(self) -> tuple[int, int, int]:
        """Strips or tiles of one sample along depth, rows and columns."""
        d, y, x = self.piece
        return (
            math.ceil(self.depth / d),
            math.ceil(self.length / y),
            math.ceil(self.width / x),
        )

    @property
    def count(self) -> int:
        """Strips or tiles in a page."""
        return self.separate * math.prod(self.pieces)

    def place(self, number: int) -> tuple[int, int, int, int, int]:
        """Return where a strip or tile lies: stored plane, rows and columns.

        The rows and columns are those of the image, cut at its edges; a tile of several
        planes is given by its first.
        """
        deep, high, wide = self.pieces
        rest, column = divmod(number, wide)
        rest, row = divmod(rest, high)
        sample, layer = divmod(rest, deep)
        d, y, x = self.piece
        return (
            sample * self.depth + layer * d,
            row * y,
            min((row + 1) * y, self.length),
            column * x,
            min((column + 1) * x, self.width),
        )

    @property
    def row_values(self) -> int:
        """Values in one row of a stored plane."""
        return self.width * self.samples

    @property
    def full_width(self) -> bool:
        """Whether every strip or tile is as wide as the image."""
        return self.piece[2] >= self.width

    @property
    def piece_values(self) -> int:
        """Values in one strip or tile."""
        return math.prod(self.piece) * self.samples

    def cover(
        self, plane: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> Iterator[tuple[int, int, int, int]]:
        """Yield (number, first row, first column, depth inside) of the pieces."""
        sample, z = divmod(plane, self.depth)
        deep, high, wide = self.pieces
        d, y, x = self.piece
        for row in range(rows[0] // y, (rows[1] - 1) // y + 1):
            for column in range(columns[0] // x, (columns[1] - 1) // x + 1):
                number = ((sample * deep + z // d) * high + row) * wide + column
                yield number, row * y, column * x, z % d
