"""One large strip of a TIFF, decoded as a stream of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

from cellunet.bugs import is_bug
from cellunet.imaging.native.decoder_errors import NoDecoderError
from cellunet.imaging.reading import READ_FAILURES
from cellunet.imaging.tiff.decoders import DECODERS, starts_with_clear

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    import tifffile

    from cellunet.imaging.tiff.decoders import Decoder, Read

MARK_BYTES = 64 * 2**20
"""After so many decoded bytes the decoder's state is kept, to start from again."""
MOST_MARKS = 32
_SMALL_REST_BYTES = 2**20
"""Most undecoded rest that is kept with a state."""
_LZW = 5
_UNDO: dict[int, Callable[..., Any] | None] = {
    1: None,
    2: imagecodecs.delta_decode,
    3: imagecodecs.floatpred_decode,
}
"""TIFF predictor to what undoes it, row by row."""
_FLOATING_POINT = 3


@dataclass(frozen=True)
class RowForm:
    """How the rows of a strip are stored."""

    width: int
    """Pixels."""
    samples: int
    """Interleaved samples of a pixel."""
    stored: np.dtype[Any]
    """Type of the stored values."""
    predictor: int
    """TIFF predictor."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a decoded row."""
        return self.width * self.samples * self.stored.itemsize

    def values(self, data: bytes) -> npt.NDArray[Any]:
        """Return decoded rows as (rows, width, samples) in native byte order."""
        native = self.stored.newbyteorder("=")
        # The floating-point predictor has put the bytes in an order of its own.
        stored = native if self.predictor == _FLOATING_POINT else self.stored
        rows = np.frombuffer(data, stored).reshape(-1, self.width, self.samples)
        undo = _UNDO[self.predictor]
        if undo is None:
            return rows.astype(native, copy=False)
        result = rows.astype(native)
        undone: npt.NDArray[Any] = undo(result, axis=-2, out=result)
        return undone


def streams(page: tifffile.TiffPage, head: bytes) -> bool:
    """Say whether the strips of a page can be decoded in pieces.

    Parameters
    ----------
    page
        The page.
    head
        The first bytes of its first strip.
    """
    whole_bytes = page.bitspersample == page.dtype.itemsize * 8
    plain = whole_bytes and page.fillorder == 1 and not page.is_subsampled
    known = int(page.compression) in DECODERS and int(page.predictor) in _UNDO
    old_lzw = int(page.compression) == _LZW and not starts_with_clear(head)
    return plain and known and not page.is_tiled and not old_lzw


class EndsEarlyError(ValueError):
    """The data of a strip end before its last row."""


class LostRowsError(Exception):
    """Rows of a strip from `row` on cannot be decoded."""

    def __init__(self, row: int, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.row, self.cause = row, cause


class StripRows:
    """The rows of one strip: read forwards, or backwards from a kept state.

    Parameters
    ----------
    decoder
        Makes the decoder.
    read
        Reads the encoded bytes.
    rows
        Number of rows.
    form
        How they are stored.
    """

    def __init__(
        self, decoder: Callable[[Read], Decoder], read: Read, rows: int, form: RowForm
    ) -> None:
        self._make, self._encoded = decoder, read
        self._rows, self._form = rows, form
        self._decoder = decoder(read)
        self._row, self._rest, self._since = 0, bytearray(), 0
        self._failed: BaseException | None = None
        self._marks: list[tuple[int, Decoder, bytes]] = []
        self._spacing = max(MARK_BYTES, rows * form.row_bytes // MOST_MARKS)

    def read(self, out: npt.NDArray[Any], first: int) -> None:
        """Fill `out`, of shape (rows, width, samples), with rows from `first` on.

        Raises
        ------
        LostRowsError
            If a row cannot be decoded; the rows before it are filled.
        """
        if first < self._row:
            self._rewind(first)
        last, length = first + len(out), self._form.row_bytes
        while self._row < last:
            count = min(len(self._rest) // length, last - self._row)
            if not count:
                self._more()
                continue
            if self._row < first:
                count = min(count, first - self._row)
            else:
                at = self._row - first
                rows = self._form.values(bytes(self._rest[: count * length]))
                out[at : at + count] = rows
            del self._rest[: count * length]
            self._row += count
            self._mark()

    def _more(self) -> None:
        # A decoder that failed must not be asked again: some go on with nonsense.
        if self._failed is not None:
            raise LostRowsError(self._row, self._failed)
        try:
            data = self._decoder.step()
            if not data:
                raise EndsEarlyError("its data end too early")
        except NoDecoderError:
            raise
        except READ_FAILURES as error:
            if is_bug(error):
                raise
            self._failed = error
            raise LostRowsError(self._row, error) from error
        self._rest += data
        self._since += len(data)

    def check_end(self) -> None:
        """Decode what follows the last row: there the checksum is.

        Raises
        ------
        LostRowsError
            With row 0, if it does not fit: the damage may be anywhere, and pixels are
            as they were decoded.
        """
        if self._row == self._rows:
            try:
                while self._decoder.step():
                    pass
            except READ_FAILURES as error:
                if is_bug(error):
                    raise
                kept = ValueError(f"{error}; its pixels are kept as decoded")
                raise LostRowsError(0, kept) from error

    def _mark(self) -> None:
        known = self._marks[-1][0] if self._marks else 0
        if self._row <= known or self._since < self._spacing:
            return
        if len(self._rest) > _SMALL_REST_BYTES:
            return
        copy = self._decoder.fork()
        if copy is not None:
            self._marks.append((self._row, copy, bytes(self._rest)))
        self._since = 0

    def _rewind(self, row: int) -> None:
        self._since, self._failed = 0, None
        for at, state, rest in reversed(self._marks):
            copy = state.fork()
            if at <= row and copy is not None:
                self._row, self._decoder, self._rest = at, copy, bytearray(rest)
                return
        self._row, self._decoder, self._rest = 0, self._make(self._encoded), bytearray()
