"""The process that runs native decoders, started by `cellunet.io.decoding`.

It ends when its standard input does, also in the midst of decoding; it takes no more
memory than the pixels that it is asked for need, and no more time than it is given.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import tifffile

from cellunet.bugs import is_bug

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = 16
"""Memory that decoding may take, in sizes of the decoded pixels: twice what the
neediest takes (`cellunet.io.decoding.Codec.times`)."""

MORE_BYTES = 128 * 2**20
"""Memory beyond that: libraries that are loaded, stacks of threads, tables."""


def png(data: bytes) -> Any:  # noqa: ANN401
    """Decode a PNG file."""
    return imagecodecs.png_decode(data)


def tiff(
    data: bytes,
    index: int,
    path: str,
    state: str,
    offset: int,
    tables: dict[str, str | None],
) -> Any:  # noqa: ANN401
    """Decode a strip or tile of the page whose directory lies at `offset`.

    The file must be as it was when it was opened; tables of JPEG are in hexadecimal.
    """
    if file_state(path) != state:
        raise ValueError("the file has changed since it was opened")
    known = {name: table and bytes.fromhex(table) for name, table in tables.items()}
    return page_decoder(path, state, offset)(data, index, **known)[0]


def file_state(path: str | Path) -> str:
    """Return what changes when a file does."""
    status = Path(path).stat()
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


@lru_cache(maxsize=8)
def page_decoder(path: str, state: str, offset: int) -> Callable[..., Any]:
    """Return what decodes the pieces of a page."""
    del state
    with tifffile.TiffFile(path, _multifile=False) as file:
        file.filehandle.seek(offset)
        decode: Callable[..., Any] = tifffile.TiffPage(file, index=0).decode
        return decode


DECODERS: dict[str, Callable[..., Any]] = {"png": png, "tiff": tiff}


def main() -> None:
    """Answer what standard input asks until it ends."""
    # Signals and dumps are for cellunet, which decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "win32":
        import ctypes

        # No window that waits for somebody to close it when a decoder crashes.
        ctypes.windll.kernel32.SetErrorMode(0x0001 | 0x0002)
    # What libraries print must not mix with what is told.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    asked: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    out.write(b"{}\n")
    out.flush()
    while True:
        decoder, expected_bytes, seconds, calls = asked.get()
        _bound_memory(MORE_BYTES + TIMES * expected_bytes)
        # Ends the process even where a decoder holds the interpreter.
        faulthandler.dump_traceback_later(seconds, exit=True)
        for arguments in calls:
            told, pixels = answer(decoder, *arguments)
            out.write(json.dumps(told).encode() + b"\n")
            out.write(pixels)
        out.flush()
        faulthandler.cancel_dump_traceback_later()
        # The next question may be large.
        _bound_memory(None)


def _listen(asked: SimpleQueue[Any]) -> None:
    """Pass questions on; end the process, decoding or not, once there are no more."""
    try:
        for line in sys.stdin.buffer:
            *head, calls = json.loads(line)
            read = sys.stdin.buffer.read
            asked.put((*head, [(read(size), *arguments) for size, arguments in calls]))
    finally:
        os._exit(0)


def answer(
    decoder: str, *arguments: object
) -> tuple[dict[str, Any], memoryview | bytes]:
    """Return type and shape of decoded pixels, and their bytes; or what is wrong."""
    try:
        result = DECODERS[decoder](*arguments)
        pixels = np.ascontiguousarray(result)
    except MemoryError:
        return {
            "error": "it takes far more memory than its pixels need",
            "bug": False,
        }, b""
    except Exception as error:  # noqa: BLE001
        line = " ".join(str(error).split())
        if not any(map(str.isalnum, line)):
            # imagecodecs 2026.10.10 says b"\x01" of what is no PNG.
            line = type(error).__name__
        return {"error": line[:1000], "bug": is_bug(error)}, b""
    told = {"dtype": pixels.dtype.str, "shape": pixels.shape}
    return told, pixels.reshape(-1).view(np.uint8).data


def _bound_memory(more_bytes: int | None) -> None:
    """Let the process have so much more address space, or what it may at all."""
    pages = Path("/proc/self/statm")
    if sys.platform == "linux" and pages.exists():
        import resource

        soft = hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if more_bytes is not None:
            taken = int(pages.read_text("ascii").split()[0]) * resource.getpagesize()
            soft = taken + more_bytes
            if hard != resource.RLIM_INFINITY:
                soft = min(soft, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
