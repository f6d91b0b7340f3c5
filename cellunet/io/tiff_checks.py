"""Validate the image file directories of a TIFF before they are believed."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING

from cellunet.errors import ImageReadError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

MAX_TAGS = 4096
"""A directory of more entries than this is damage; tifffile draws the same line."""

MAX_DEPTH = 4
"""Directories in directories; pyramids need one level of them."""

LEAST_BYTES = 64
"""A directory of an image takes more bytes: a file that names more smaller versions
than it has such pieces names the same ones again and again."""

_SUB_DIRECTORIES = 330
"""The tag of smaller versions of a page (TIFF Technical Note 1)."""

_SOFTWARE, _ASCII = 305, 2

BIO_FORMATS = b"OME Bio-Formats"
"""How the Software tag of files of Bio-Formats' converter begins."""

_SIZES = {3: 2, 4: 4, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of the types that a count or an offset can have (TIFF 6.0; BigTIFF)."""

_WHOLE = {
    256: "ImageWidth",
    257: "ImageLength",
    258: "BitsPerSample",
    259: "Compression",
    273: "StripOffsets",
    277: "SamplesPerPixel",
    278: "RowsPerStrip",
    279: "StripByteCounts",
    322: "TileWidth",
    323: "TileLength",
    324: "TileOffsets",
    325: "TileByteCounts",
}
"""Tags that say where which pixels lie: whole numbers, whatever else is in them."""

_NOT_WHOLE = {2: "text", 5: "fractions", 10: "fractions", 11: "floats", 12: "floats"}
"""Types of tags that are no whole numbers (TIFF 6.0, section 2)."""


def scan_directories(path: Path, size: int) -> None:
    """Walk the chain of image directories, and the smaller versions below them, once.

    tifffile stops in silence where the chain breaks, and a truncated file would look
    like one with fewer pages.

    Raises
    ------
    ImageReadError
        If a directory lies beyond the end of the file, two overlap, or directories
        run in a circle.
    """
    with path.open("rb") as file:
        walk = _DirectoryReader(path, file, size)
        offset = walk.first()
        pages: set[int] = set()
        # Bio-Formats' converter ends a part of a split image with the place where it
        # would have written the next directory.
        while offset and not (pages and offset == size and walk.of_bio_formats):
            if offset in pages:
                raise walk.damaged(f"its chain of {len(pages)} pages runs in a circle")
            pages.add(offset)
            offset = walk.visit(offset, ())
    if not pages:
        raise ImageReadError(f"{path} is a TIFF without an image.")
    walk.check_apart()


class _DirectoryReader:
    """Reads directories of one file; knows which bytes they take."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self._path, self._file, self._size = path, file, size
        head = file.read(16)
        self._head = head
        self._order = "<" if head[:2] == b"II" else ">"
        self._big = struct.unpack(self._order + "H", head[2:4])[0] == 43
        self._kind = self._order + ("Q" if self._big else "I")
        self._ends: dict[int, int] = {}
        self._named = 0
        self.of_bio_formats = False
        """Whether Bio-Formats wrote the file, by the Software tag of a page."""

    def first(self) -> int:
        """Return where the first directory lies."""
        return int(struct.unpack_from(self._kind, self._head, 8 if self._big else 4)[0])

    def visit(self, offset: int, above: tuple[int, ...]) -> int:
        """Check a directory and what hangs below it; return where the next one lies."""
        if offset in above or len(above) > MAX_DEPTH:
            raise self.damaged("the smaller versions of a page lead back to it")
        known = offset in self._ends
        if known and above:
            return 0
        entries, following = self._read(offset)
        if not known:
            for entry in entries:
                self._check_whole(entry)
                self.of_bio_formats |= self._text(entry, _SOFTWARE) == BIO_FORMATS
                for below in self._sub_directories(entry):
                    self.visit(below, (*above, offset))
        return following

    def _read(self, offset: int) -> tuple[list[bytes], int]:
        count_kind, entry = (self._order + "Q", 20) if self._big else ("", 12)
        count_kind = count_kind or self._order + "H"
        width, count_width = struct.calcsize(self._kind), struct.calcsize(count_kind)
        if offset + count_width <= self._size:
            self._file.seek(offset)
            count = struct.unpack(count_kind, self._file.read(count_width))[0]
            end = offset + count_width + count * entry
            if count <= MAX_TAGS and end + width <= self._size:
                data = self._file.read(count * entry)
                following = struct.unpack(self._kind, self._file.read(width))[0]
                self._ends[offset] = end + width
                entries = [data[k : k + entry] for k in range(0, len(data), entry)]
                return entries, int(following)
        raise ImageReadError(
            f"{self._path} is truncated or damaged: a page's directory at byte "
            f"{offset:,} does not fit into its {self._size:,} bytes.",
            hint="Copy or export it again.",
        )

    def _check_whole(self, entry: bytes) -> None:
        """Refuse a size, place or count that is no whole number, as .5 pixels."""
        tag, kind = struct.unpack_from(self._order + "HH", entry)
        if tag in _WHOLE and kind in _NOT_WHOLE:
            raise self.damaged(
                f"its {_WHOLE[tag]} is stored as {_NOT_WHOLE[kind]}, not as a whole "
                "number"
            )

    def _text(self, entry: bytes, wanted: int) -> bytes:
        """Return the beginning of the text of a tag, empty if this is another one."""
        tag, kind = struct.unpack_from(self._order + "HH", entry)
        count = struct.unpack_from(self._kind, entry, 4)[0]
        if tag != wanted or kind != _ASCII or count <= struct.calcsize(self._kind):
            return b""
        self._file.seek(struct.unpack_from(self._kind, entry, len(entry) // 2 + 2)[0])
        return self._file.read(len(BIO_FORMATS))

    def _sub_directories(self, entry: bytes) -> list[int]:
        """Return where the directories lie that an entry names."""
        tag, kind = struct.unpack_from(self._order + "HH", entry)
        item = _SIZES.get(kind)
        if tag != _SUB_DIRECTORIES or item is None:
            return []
        count = struct.unpack_from(self._kind, entry, 4)[0]
        room = struct.calcsize(self._kind)
        data = entry[4 + room :]
        if count > MAX_TAGS:
            raise self.damaged(f"a page has {count:,} smaller versions")
        self._named += count
        if self._named * LEAST_BYTES > self._size:
            raise self.damaged(
                f"it names {self._named:,} smaller versions or more, too many for its "
                f"{self._size:,} bytes"
            )
        if count * item > room:
            self._file.seek(struct.unpack(self._kind, data)[0])
            data = self._file.read(count * item)
        letter = {2: "H", 4: "I", 8: "Q"}[item]
        whole = data[: min(count, len(data) // item) * item]
        return [o for (o,) in struct.iter_unpack(self._order + letter, whole) if o]

    def damaged(self, what: str) -> ImageReadError:
        """Return the error of directories that cannot be."""
        return ImageReadError(
            f"{self._path} is damaged: {what}.", hint="Export it again."
        )

    def check_apart(self) -> None:
        """Refuse directories of which one begins within another."""
        for (first, end), (second, _) in pairwise(sorted(self._ends.items())):
            if second < end:
                raise self.damaged(
                    f"the directories at bytes {first:,} and {second:,} overlap"
                )
