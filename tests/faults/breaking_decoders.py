"""The process that decodes, with decoders that break on data which ask for it.

A word behind the end of the data, which decoders do not read, says how.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cellunet.io import decoding


def abort() -> None:
    """As a library does that notices its own confusion."""
    os.abort()


def address_0() -> None:
    """As a library does that does not."""
    ctypes.string_at(0)


def hang() -> None:
    """Never end; says that it began, where somebody waits for that."""
    if "BREAKING_BEGAN" in os.environ:
        Path(os.environ["BREAKING_BEGAN"]).touch()
    while True:
        time.sleep(1)


def bomb() -> None:
    """Take memory that no header claims."""
    bytearray(2**32)


def nonsense() -> None:
    """As a process that the file has taken over: no message at all."""
    os.write(1, b"")
    os._exit(0)


WORDS: dict[bytes, Callable[[], None]] = {
    b"<abort>": abort,
    b"<address 0>": address_0,
    b"<hang>": hang,
    b"<bomb>": bomb,
    b"<exit>": nonsense,
}


def breaking(decode: Callable[..., Any]) -> Callable[..., Any]:
    """Return a decoder that breaks where data say so."""

    def broken(data: bytes, *args: object, **options: object) -> Any:
        for word, happens in WORDS.items():
            if data.endswith(word):
                happens()
        return decode(data, *args, **options)

    return broken


def main() -> None:
    """Decode, or break."""
    # Not the codec itself: tifffile checks where its codecs come from.
    for name, decode in decoding.DECODERS.items():
        decoding.DECODERS[name] = breaking(decode)
    decoding.main()
