"""What is asked of the process that decodes: a PNG, parts of a TIFF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellunet.imaging.native.codecs import PNG, Codec, codec_of
from cellunet.imaging.native.decoder_errors import DecodingError
from cellunet.imaging.native.isolation import SHARED, Task
from cellunet.imaging.native.page_key import page_key

if TYPE_CHECKING:
    import numpy.typing as npt
    import tifffile

    from cellunet.imaging.native.messages import Head

PROCESS_BYTES = 48_000_000
"""What the process takes besides data: the interpreter, numpy and codecs."""
PART_BYTES = 8 * 2**20
"""Bytes that are expected of a part of a strip that is decoded by rows."""


def isolated_bytes(codec: Codec, encoded: int, decoded: int) -> int:
    """Return what the process takes while it decodes, by the bytes of a piece."""
    return PROCESS_BYTES + 2 * encoded + codec.times * decoded


def decode_png(content: bytes, decoded_bytes: int) -> npt.NDArray[Any]:
    """Decode a PNG file; see `DecoderProcess.decode`."""
    return _one(Task(PNG.name, {"task": "png"}, [content], decoded_bytes))


_PARTS = {5: "lzw", 32773: "packbits"}


def decode_bytes(compression: int, data: bytes) -> bytes:
    """Decode a part of a strip of LZW (5) or PackBits (32773) data."""
    head = {"task": _PARTS[compression]}
    return _one(Task(codec_of(compression).name, head, [data], PART_BYTES)).tobytes()


def _one(task: Task) -> npt.NDArray[Any]:
    (result,) = SHARED.decode(task)
    if isinstance(result, DecodingError):
        raise result
    return result


def decode_pieces(
    page: tifffile.TiffPage,
    pieces: dict[int, bytes],
    tables: dict[str, bytes | None],
    decoded_bytes: int,
) -> list[npt.NDArray[Any] | DecodingError]:
    """Decode strips or tiles of a TIFF; see `DecoderProcess.decode`.

    Parameters
    ----------
    page
        The first page of its series, open.
    pieces
        Number of each in its page to its bytes.
    tables
        What JPEG needs besides: ``jpegtables`` and ``jpegheader``; none for others.
    decoded_bytes
        Bytes of their pixels together.
    """
    given = {name: table for name, table in tables.items() if table}
    head: Head = {
        "task": "tiff",
        "path": str(Path(page.parent.filehandle.path).absolute()),
        "page": int(page.offset),
        "key": page_key(page),
        "indices": list(pieces),
        "names": list(tables),
        "tables": list(given),
    }
    codec = codec_of(int(page.compression))
    parts = [*given.values(), *pieces.values()]
    return SHARED.decode(Task(codec.name, head, parts, decoded_bytes))
