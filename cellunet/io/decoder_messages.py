"""Messages between cellunet and the process that runs native decoders.

A message is a head, written as JSON, and byte strings behind it. Nothing in it is ever
unpickled, and what a length claims is checked before memory is taken: the other side
may have been taken over by the file that it decoded.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Sequence

    import tifffile

MOST_HEAD_BYTES = 2**22

_SIZE = struct.Struct("<Q")

Head = dict[str, Any]
"""What a message says, in types of JSON."""

Part = bytes | bytearray | memoryview
"""One of the byte strings of a message."""


def send(stream: BinaryIO, head: Head, parts: Sequence[Part] = ()) -> None:
    """Write a message."""
    text = json.dumps({**head, "lengths": [len(part) for part in parts]}).encode()
    stream.write(_SIZE.pack(len(text)) + text)
    for part in parts:
        stream.write(part)
    stream.flush()


def receive(stream: BinaryIO, most_bytes: int) -> tuple[Head, list[bytearray]]:
    """Read a message.

    Parameters
    ----------
    stream
        Where it comes from; buffered.
    most_bytes
        Most bytes that its byte strings may have together.

    Raises
    ------
    EOFError
        If the other side is gone.
    ValueError
        If this is no message, or a larger one.
    """
    (size,) = _SIZE.unpack(_exactly(stream, _SIZE.size))
    if size > MOST_HEAD_BYTES:
        raise ValueError(f"a message with a head of {size:,} bytes")
    head = json.loads(_exactly(stream, size))
    lengths = head.get("lengths") if isinstance(head, dict) else None
    if not isinstance(lengths, list) or not all(_is_length(n) for n in lengths):
        raise ValueError("a message without lengths")
    if sum(lengths) > most_bytes:
        raise ValueError(f"a message of {sum(lengths):,} bytes")
    return head, [_exactly(stream, length) for length in lengths]


def _is_length(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _exactly(stream: BinaryIO, count: int) -> bytearray:
    data = bytearray(count)
    # A buffered stream fills it, unless the data end before.
    if stream.readinto(data) != count:  # type: ignore[attr-defined]
        raise EOFError("the other side is gone")
    return data


_NAMES = (
    *("imagewidth", "imagelength", "rowsperstrip", "tilewidth", "tilelength"),
    *("tiledepth", "compression", "predictor", "fillorder", "photometric"),
    *("planarconfig", "bitspersample", "sampleformat", "samplesperpixel"),
)


def page_key(page: tifffile.TiffPage) -> str:
    """Return everything that decides how the pieces of a page are decoded."""
    values = (getattr(page, name) for name in _NAMES)
    return repr([tuple(v) if isinstance(v, tuple) else int(v or 0) for v in values])
