"""The protobuf wire format, as much of it as an ONNX file needs.

A message is a row of fields; a field is a tag (number << 3 | wire type) and a value.
Source: https://protobuf.dev/programming-guides/encoding. Written bytes follow from the
values alone, which protobuf libraries do not promise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellunet.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VARINT, CHUNK = 0, 2
"""Wire types. The others are floating-point numbers and groups, which a model that
cellunet writes has none of: its weights are chunks."""


def varint(value: int) -> bytes:
    """Return an integer of 0 to 2^64 - 1, seven bits a byte, lowest first.

    Examples
    --------
    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def integer(number: int, value: int) -> bytes:
    """Return field `number` holding an integer of at least 0."""
    return varint(number << 3 | VARINT) + varint(value)


def integers(number: int, values: Iterable[int]) -> bytes:
    """Return field `number` once for each of the integers."""
    return b"".join(integer(number, v) for v in values)


def chunk(number: int, value: bytes) -> bytes:
    """Return field `number` holding bytes or an encoded message."""
    return varint(number << 3 | CHUNK) + varint(len(value)) + value


def text(number: int, value: str) -> bytes:
    """Return field `number` holding text."""
    return chunk(number, value.encode())


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message, in the order of the bytes.

    Integers come as int, text, bytes and messages as a view of their bytes.

    Raises
    ------
    CheckpointError
        If the bytes are no message of such fields or end too early.
    """
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        wire = tag & 7
        if wire == VARINT:
            value, at = _read_varint(message, at)
            yield tag >> 3, value
            continue
        if wire != CHUNK:
            raise CheckpointError(f"No field that is known ends its tag at byte {at}.")
        size, at = _read_varint(message, at)
        if size > len(message) - at:
            raise CheckpointError(
                f"A field of {size} bytes starts at byte {at}, "
                f"but only {len(message) - at} follow."
            )
        yield tag >> 3, message[at : at + size]
        at += size


def read_integers(value: int | memoryview) -> list[int]:
    """Return the integers of a repeated field: one, or packed into a chunk.

    Raises
    ------
    CheckpointError
        If the chunk ends within an integer.
    """
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        one, at = _read_varint(value, at)
        found.append(one)
    return found


def read_text(value: int | memoryview) -> str:
    """Return a field as text.

    Raises
    ------
    CheckpointError
        If it is an integer or not UTF-8.
    """
    try:
        return str(value, "utf-8")  # type: ignore[arg-type]
    except (TypeError, UnicodeDecodeError) as error:
        raise CheckpointError("A field that should be text is none.") from error


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise CheckpointError(f"The bytes end within an integer at byte {at}.")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 and value < 1 << 64:
            return value, at
    raise CheckpointError(f"The integer before byte {at} has more than 64 bits.")
