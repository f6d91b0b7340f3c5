"""Decode one large strip of a TIFF as a stream of rows.

A decoder is asked for the next bytes until there are none. What it returns depends on
the bytes alone and not on who asks when, so that damage is met at the same place in
every pass. `fork` copies the state, so that a later pass can start in the middle.

Deflate and LZMA come from the standard library; the others run in a process of their
own (`cellunet.io.decoding`). PackBits is cut between its packets, LZW at
its clear codes: after each the table is empty, and the width of the n-th
code after it is known (TIFF 6.0, section 13), so that all codes up to the next clear
are found at once.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import imagecodecs
import numpy as np

from cellunet.bugs import is_bug
from cellunet.io.decoding import decode_bytes
from cellunet.io.reading import READ_FAILURES
from cellunet.io.source import NoDecoderError

if TYPE_CHECKING:
    import numpy.typing as npt
    import tifffile

Read = Callable[[int, int], bytes]
"""``read(start, count)``: encoded bytes of the strip, fewer only at its end."""

CHUNK_BYTES = 64 * 2**10
"""Encoded bytes that are read at once."""

MOST_BYTES = 256 * 2**10
"""Most decoded bytes of one step of a codec that can be held back."""


class Decoder(Protocol):
    """Decodes one strip from its start to its end."""

    def step(self) -> bytes:
        """Return the next decoded bytes; none at the end of the data."""
        ...

    def fork(self) -> Decoder | None:
        """Return a copy that goes on from here by itself, if that is possible."""
        ...


class Stored:
    """Bytes that are not compressed."""

    def __init__(self, read: Read, at: int = 0) -> None:
        self._read, self._at = read, at

    def step(self) -> bytes:
        """Return the next bytes."""
        data = self._read(self._at, CHUNK_BYTES)
        self._at += len(data)
        return data

    def fork(self) -> Stored:
        """Return a copy."""
        return Stored(self._read, self._at)


class Inflate:
    """Deflate with zlib's header and checksum."""

    def __init__(self, read: Read) -> None:
        self._read, self._at = read, 0
        self._zlib: Any = zlib.decompressobj()
        self._tail, self._full = b"", False

    def step(self) -> bytes:
        """Return the next decoded bytes; raises where the checksum does not fit."""
        while not self._zlib.eof:
            # A step that filled its room may hold more without more data.
            if not self._tail and not self._full:
                self._tail = self._read(self._at, CHUNK_BYTES)
                self._at += len(self._tail)
                if not self._tail:
                    break
            out: bytes = self._zlib.decompress(self._tail, MOST_BYTES)
            self._tail = self._zlib.unconsumed_tail
            self._full = len(out) == MOST_BYTES
            if out:
                return out
        return b""

    def fork(self) -> Inflate:
        """Return a copy."""
        copy = Inflate(self._read)
        copy._at, copy._tail, copy._full = self._at, self._tail, self._full
        copy._zlib = self._zlib.copy()
        return copy


class Unxz:
    """LZMA; its state cannot be copied."""

    def __init__(self, read: Read) -> None:
        self._read, self._at = read, 0
        self._lzma = lzma.LZMADecompressor()

    def step(self) -> bytes:
        """Return the next decoded bytes; raises where the checksum does not fit."""
        while not self._lzma.eof:
            data = b""
            if self._lzma.needs_input:
                data = self._read(self._at, CHUNK_BYTES)
                self._at += len(data)
                if not data:
                    break
            out = self._lzma.decompress(data, MOST_BYTES)
            if out:
                return out
        return b""

    def fork(self) -> None:
        """Return nothing."""
        return


class Unpack:
    """PackBits: runs and literals of at most 128 bytes each."""

    def __init__(self, read: Read, at: int = 0) -> None:
        self._read, self._at = read, at

    def step(self) -> bytes:
        """Return the bytes of all packets that are complete in the next chunk."""
        while data := self._read(self._at, CHUNK_BYTES):
            cut = _whole_packets(data)
            if not cut:
                raise ValueError("PackBits data end within a packet")
            self._at += cut
            out = decode_bytes(_PACKBITS, data[:cut])
            if out:
                return out
        return b""

    def fork(self) -> Unpack:
        """Return a copy."""
        return Unpack(self._read, self._at)


def _whole_packets(data: bytes) -> int:
    """Return the length of the packets that `data` holds complete."""
    at = 0
    while at < len(data):
        head = data[at]
        after = at + (head + 2 if head < 128 else 1 if head == 128 else 2)
        if after > len(data):
            break
        at = after
    return at


_LZW, _PACKBITS = 5, 32773

_CLEAR, _END = 256, 257

_CODES = {9: 254, 10: 512, 11: 1024, 12: 2306}
"""Codes of each width after a clear; the last ones are room for the code that ends a
full table, which writers put at one of several places."""

_WIDTHS = np.repeat(list(_CODES), list(_CODES.values()))

_PLACES = np.cumsum(_WIDTHS) - _WIDTHS
"""First bit of each code, counted from the clear's end."""

_RUN_BYTES = -(-int(_WIDTHS.sum()) // 8) + 1

_TARGET_BYTES = 2**20
"""Decoded bytes that a step aims at."""

_MOST_RUNS = 16


class Unlzw:
    """LZW as TIFF has had it since version 5, codes from the highest bit down."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._bit: int | None = None
        self._runs = 1

    def step(self) -> bytes:
        """Return the bytes of the next codes up to a clear."""
        if self._bit is None:
            head = self._read(0, 2)
            if not starts_with_clear(head):
                raise ValueError("LZW data do not start with a clear code")
            self._bit = 9
        while self._bit >= 0:
            bits, self._bit = self._next_runs(self._bit)
            out = decode_bytes(_LZW, np.packbits(bits).tobytes())
            if out:
                mean = len(out) / self._runs
                self._runs = int(np.clip(_TARGET_BYTES // mean, 1, _MOST_RUNS))
                return out
        return b""

    def _next_runs(self, start: int) -> tuple[npt.NDArray[np.uint8], int]:
        """Return the bits of the next runs as a strip of its own, and the next bit.

        The next bit is -1 at the end of the data.
        """
        first = start // 8
        data = self._read(first, self._runs * _RUN_BYTES + 1)
        values = np.frombuffer(data + bytes(3), np.uint8).astype(np.uint32)
        # Three bytes from each one on hold any code that starts in it.
        triples: npt.NDArray[np.uint32] = values[:-2] << np.uint32(16)
        triples |= values[1:-1] << np.uint32(8)
        triples |= values[2:]
        begin = at = start - first * 8
        after = start
        for _ in range(self._runs):
            at, code = _run(triples, at, len(data) * 8)
            after = first * 8 + at if code == _CLEAR else -1
            if code != _CLEAR:
                break
        bits = np.unpackbits(np.frombuffer(data, np.uint8))[begin:at]
        # A clear of its own in front, and an end code behind the clear that ends it.
        parts = [_bits(_CLEAR), bits] + ([_bits(_END)] if after >= 0 else [])
        return np.concatenate(parts), after

    def fork(self) -> Unlzw:
        """Return a copy."""
        copy = Unlzw(self._read)
        copy._bit, copy._runs = self._bit, self._runs
        return copy


def _run(triples: npt.NDArray[np.uint32], start: int, end: int) -> tuple[int, int]:
    """Return the bit after the next clear or end code, and that code."""
    places = start + _PLACES
    # Some writers leave the end code out: then the data end in less than a code.
    count = int(np.searchsorted(places + _WIDTHS, end, side="right"))
    places, widths = places[:count], _WIDTHS[:count]
    codes = triples[places >> 3] >> (24 - widths - (places & 7)).astype(np.uint32)
    codes &= ((1 << widths) - 1).astype(np.uint32)
    ends = np.flatnonzero((codes == _CLEAR) | (codes == _END))
    if len(ends):
        last = int(ends[0])
        return int(places[last] + widths[last]), int(codes[last])
    if count == len(_PLACES):
        raise ValueError(f"LZW data have no clear code among {count:,} codes")
    return (int(places[-1] + widths[-1]) if count else start), _END


def _bits(code: int) -> npt.NDArray[np.uint8]:
    return np.unpackbits(np.array([code >> 8, code & 255], np.uint8))[7:]


def starts_with_clear(head: bytes) -> bool:
    """Say whether LZW data begin as those that `Unlzw` reads do."""
    return len(head) > 1 and head[0] == 0x80 and head[1] < 0x80


DECODERS: dict[int, Callable[[Read], Decoder]] = {
    1: Stored,
    5: Unlzw,
    8: Inflate,
    32946: Inflate,
    32773: Unpack,
    34925: Unxz,
}
"""TIFF compression to the decoder that can decode it in pieces."""

STANDARD = (1, 8, 32946, 34925)
"""Those of which the standard library decodes: nothing of them is isolated."""

MARK_BYTES = 64 * 2**20
"""After so many decoded bytes the decoder's state is kept, to start from again."""

MOST_MARKS = 32

_SMALL_REST_BYTES = 2**20
"""Most undecoded rest that is kept with a state."""

_STRIPS_LZW = 5

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
    old_lzw = int(page.compression) == _STRIPS_LZW and not starts_with_clear(head)
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
