"""The process that runs native decoders.

Started by `cellunet.io.decoding` and by nothing else. It ends when its
standard input does, also in the midst of decoding; it takes no more memory than the
pixels that it is asked for need, and no more time than it is given.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile

from cellunet.bugs import is_bug
from cellunet.io.decoder_messages import Head, Part, page_key, receive, send

TIMES = 16
"""Memory that decoding may take, in sizes of the decoded pixels: twice what the
neediest takes (`cellunet.io.decoding.Codec.times`)."""

MORE_BYTES = 64 * 2**20
"""Memory beyond that: libraries that are loaded, stacks of threads, tables."""

GRACE_S = 5
"""Seconds that the process goes on for where cellunet should have ended it."""

MOST_BYTES = 2**40
"""Of a message from cellunet, whose lengths can be believed."""

Parts = list[bytearray]

Task = Callable[[Head, Parts], Iterator[Any]]
"""Yields an array for each part that is to be decoded, or the error in its place."""


def whole(decode: Callable[[bytes], Any]) -> Task:
    """Return the task of decoding some bytes without knowing more."""

    def task(head: Head, parts: Parts) -> Iterator[Any]:
        del head
        for part in parts:
            yield _tried(decode, bytes(part))

    return task


def tiff(head: Head, parts: Parts) -> Iterator[Any]:
    """Decode strips or tiles of a page; what JPEG needs besides comes first."""
    path, tables = head["path"], len(head["tables"])
    status = Path(path).stat()
    state = status.st_ino, status.st_size, status.st_mtime_ns
    decode, key = _page_decoder(path, head["page"], state)
    if key != head["key"]:
        raise ValueError("the file has changed since it was opened")
    options: dict[str, bytes | None] = dict.fromkeys(head["names"])
    for name, table in zip(head["tables"], parts[:tables], strict=True):
        options[name] = bytes(table)
    for index, part in zip(head["indices"], parts[tables:], strict=True):
        yield _tried(lambda *asked: decode(*asked, **options)[0], bytes(part), index)


def _tried(decode: Callable[..., Any], *asked: object) -> Any:  # noqa: ANN401
    """Return what `decode` does, or the error that is its file's alone."""
    try:
        result = decode(*asked)
        if isinstance(result, np.ndarray):
            return np.ascontiguousarray(result)
        return np.frombuffer(result, np.uint8)
    except MemoryError:
        return ValueError("it takes far more memory than its pixels need")
    except Exception as error:  # noqa: BLE001
        return error


@lru_cache(maxsize=8)
def _page_decoder(
    path: str, page: int, state: tuple[int, ...]
) -> tuple[Callable[..., Any], str]:
    """Return what decodes pieces of a page, found by the place of its directory."""
    del state
    with tifffile.TiffFile(path, _multifile=False) as file:
        file.filehandle.seek(page)
        found = tifffile.TiffPage(file, index=0)
        return found.decode, page_key(found)


TASKS: dict[str, Task] = {
    "png": whole(lambda data: imagecodecs.png_decode(data)),
    "lzw": whole(lambda data: imagecodecs.lzw_decode(data)),
    "packbits": whole(lambda data: imagecodecs.packbits_decode(data)),
    "tiff": tiff,
}
"""What can be asked for; a decoder is looked up when it is needed, so that the lack of
one is told where it matters."""


def main() -> None:
    """Answer messages of standard input until it ends."""
    _prepare()
    source = sys.stdin.buffer
    # What libraries print must not mix with what is told.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    asked: SimpleQueue[tuple[Head, Parts]] = SimpleQueue()
    threading.Thread(target=_listen, args=(source, asked), daemon=True).start()
    send(out, {"ready": True})
    while True:
        head, parts = asked.get()
        with _limited(head):
            told, pixels = _answer(head, parts)
        send(out, told, pixels)


def _listen(source: BinaryIO, asked: SimpleQueue[tuple[Head, Parts]]) -> None:
    """Pass messages on; end the process, decoding or not, once there are no more."""
    try:
        while True:
            asked.put(receive(source, MOST_BYTES))
    finally:
        os._exit(0)


def _answer(head: Head, parts: Parts) -> tuple[Head, list[Part]]:
    """Return the reply to a message: for each part pixels, or what went wrong."""
    try:
        results = list(TASKS[head["task"]](head, parts))
    # The file is gone, for instance, or no longer what it was.
    except Exception as error:  # noqa: BLE001
        return _told(error), []
    told: list[Head] = []
    pixels: list[Part] = []
    for result in results:
        if isinstance(result, Exception):
            told.append(_told(result))
        else:
            told.append({"dtype": result.dtype.str, "shape": result.shape})
            pixels.append(result.reshape(-1).view(np.uint8).data)
    return {"results": told}, pixels


def _told(error: Exception) -> Head:
    line = " ".join(str(error).split())
    if not any(map(str.isalnum, line)):
        # imagecodecs 2026.10.10 says b"\x01" of what is no PNG.
        line = type(error).__name__
    return {"error": line, "bug": is_bug(error)}


def _prepare() -> None:
    """Leave signals and dumps to cellunet, which decides when this process ends."""
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "win32":
        import ctypes

        # No window that waits for somebody to close it when a decoder crashes.
        ctypes.windll.kernel32.SetErrorMode(0x0001 | 0x0002)
    else:
        import resource

        most = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (0, most))


@contextlib.contextmanager
def _limited(head: Head) -> Iterator[None]:
    """Bound memory and time of a task, where the system can."""
    if sys.platform != "win32":
        # Ends the process even where a decoder holds the interpreter and cellunet is
        # gone; otherwise cellunet, which waits a little less, does.
        signal.setitimer(signal.ITIMER_REAL, head["seconds"] + GRACE_S)
    _bound_memory(MORE_BYTES + TIMES * head["bytes"])
    try:
        yield
    finally:
        # The next message may be large.
        _bound_memory(None)
        if sys.platform != "win32":
            signal.setitimer(signal.ITIMER_REAL, 0)


def _bound_memory(more: int | None) -> None:
    """Let the process have `more` bytes of address space, or what it may at all."""
    pages = Path("/proc/self/statm")
    if sys.platform == "linux" and pages.exists():
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = hard
        if more is not None:
            soft = more + int(pages.read_text().split()[0]) * resource.getpagesize()
            if hard != resource.RLIM_INFINITY:
                soft = min(soft, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
