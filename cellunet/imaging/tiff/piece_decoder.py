"""Strips and tiles of a TIFF that are decoded whole, several at a time.

A question to the process that decodes takes longer than a small strip does, so the
pieces that a region needs are asked for together.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from cellunet.imaging.native.codecs import codec_of
from cellunet.imaging.native.decoder_errors import DecoderLostError, DecodingError
from cellunet.imaging.native.isolated import decode_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt
    import tifffile

    from cellunet.imaging.tiff.grid import Grid

    Page: TypeAlias = tifffile.TiffPage | tifffile.TiffFrame

TOGETHER_BYTES = 2**20
"""Decoded bytes of small pieces that are asked for together."""
TOGETHER_MOST = 1024
"""Most pieces of one question."""
JPEG_COMPRESSIONS = (6, 7, 33007, 34892)


class PieceDecoder:
    """Decodes strips or tiles of the pages of one series.

    Parameters
    ----------
    page
        The first page.
    find
        Returns a page by its number.
    grid
        How they are cut into pieces.
    """

    def __init__(
        self, page: tifffile.TiffPage, find: Callable[[int], Page], grid: Grid
    ) -> None:
        self._page0, self._find, self._grid = page, find, grid
        self._file = page.parent.filehandle
        self._compression = int(page.compression)
        self._bytes: int = grid.piece_values * np.dtype(page.dtype).itemsize
        self._coming: deque[tuple[int, int]] = deque()
        self._ahead: dict[tuple[int, int], npt.NDArray[Any] | DecodingError] = {}

    def clear(self) -> None:
        """Forget what was decoded ahead."""
        self._coming.clear()
        self._ahead.clear()

    def expect(self, number: int, indices: Iterable[int]) -> None:
        """Say which pieces of a page will be asked for next, in this order."""
        self._coming = deque((number, index) for index in indices)

    def decode(self, number: int, index: int) -> npt.NDArray[Any]:
        """Return one strip or tile: (depth, rows, columns, samples).

        Raises
        ------
        EOFError
            If the file ends before its data do.
        DecodingError
            If they are damaged; in this process, tifffile's own errors pass.
        DecoderLostError, NoDecoderError
            As of `cellunet.imaging.native.isolation.DecoderProcess.decode`.
        """
        key = (number, index)
        if key not in self._ahead:
            page = self._find(number)
            if self._grid.tiled and not page.databytecounts[index]:
                shape = (*self._grid.piece, self._grid.samples)
                return np.full(shape, self._page0.nodata, self._page0.dtype)
            if not codec_of(self._compression).isolated:
                encoded = self._encoded(page, index)
                here: npt.NDArray[Any] = self._page0.decode(encoded, index)[0]
                return here
            self._fetch(number, page, index)
        result = self._ahead.pop(key)
        if isinstance(result, DecodingError):
            raise result
        return result

    def _fetch(self, number: int, page: Page, index: int) -> None:
        """Decode a piece, and small ones that are expected after it."""
        pieces = {index: self._encoded(page, index)}
        while self._coming and self._coming[0] != (number, index):
            self._coming.popleft()
        for _, other in list(self._coming)[1 : self._most_together]:
            try:
                pieces[other] = self._encoded(page, other)
            except EOFError:
                # Its turn comes.
                break
        try:
            self._ask(number, page, pieces)
        except DecoderLostError:
            if len(pieces) == 1:
                raise
            # Which of them it was is found by asking for each alone.
            self._coming.clear()
            self._ask(number, page, {index: pieces[index]})

    @property
    def _most_together(self) -> int:
        return min(max(TOGETHER_BYTES // max(self._bytes, 1), 1), TOGETHER_MOST)

    def _ask(self, number: int, page: Page, pieces: dict[int, bytes]) -> None:
        tables = {}
        if self._compression in JPEG_COMPRESSIONS:
            tables = {
                "jpegtables": page.jpegtables,
                "jpegheader": self._page0.jpegheader,
            }
        size = self._bytes * len(pieces)
        results = decode_pieces(self._page0, pieces, tables, size)
        keys = ((number, index) for index in pieces)
        self._ahead = dict(zip(keys, results, strict=True))

    def _encoded(self, page: Page, index: int) -> bytes:
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        self._file.seek(offset)
        encoded: bytes = self._file.read(count)
        if len(encoded) != count or not count:
            raise EOFError(
                f"its pixels go on to byte {offset + max(count, 1):,}, the file ends "
                f"at {self._file.size:,}"
            )
        return encoded
