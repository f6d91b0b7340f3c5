"""Run native decoders in a process of their own, where a crash costs one image.

A decoder that is native code and is given bytes of others can end the process that it
runs in. `cellunet.io.decoding` runs such a one where that costs one image.

There is one such process for all that a command reads. It is started at the first
image that needs it, is asked by one thread at a time, and ends with cellunet. When it
dies, or does not answer in time, the image that it was decoding is refused, and the
next one gets a new process.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from cellunet.bugs import REPORT, library_versions
from cellunet.errors import BugError
from cellunet.io.decoder_messages import Head, Part, page_key, receive, send
from cellunet.io.source import DecoderLostError, DecodingError, NoDecoderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import tifffile


@dataclass(frozen=True)
class Codec:
    """How one kind of compressed bytes is decoded."""

    name: str
    """What messages call it."""
    isolated: bool
    """Whether it is decoded in a process of its own."""
    why: str
    """Why it is, or why it need not be."""
    times: int = 3
    """Memory that it takes, in sizes of the decoded pixels: measured with 2048 x 2048
    pixels of 8 bits, 1.0 to 2.1, and 6.6 for JPEG 2000."""


_LIBRARY = "a native library of many thousand lines that parses what others wrote"

_SHORT = "a short native loop; a process of its own costs less than 5 % of predict"

PNG = Codec("PNG", True, _LIBRARY)
"""Files named .png; their filters are sequential along a row, so not for numpy."""

JPEG_2000 = Codec("JPEG 2000", True, _LIBRARY, times=8)
"""Decodes to 32 bits, several times over."""

CODECS: dict[int, Codec] = {
    1: Codec("no", False, "values are copied; bits and differences have known sizes"),
    2: Codec("CCITT RLE", True, _SHORT),
    3: Codec("CCITT T.4", True, _SHORT),
    4: Codec("CCITT T.6", True, _SHORT),
    5: Codec("LZW", True, _SHORT),
    6: Codec("JPEG", True, _LIBRARY),
    7: Codec("JPEG", True, _LIBRARY),
    8: Codec("deflate", True, _LIBRARY),
    22610: Codec("JPEG XR", True, _LIBRARY),
    32773: Codec("PackBits", True, _SHORT),
    32946: Codec("deflate", True, _LIBRARY),
    33003: JPEG_2000,
    33004: JPEG_2000,
    33005: JPEG_2000,
    33007: Codec("JPEG", True, _LIBRARY),
    34712: JPEG_2000,
    34887: Codec("LERC", True, _LIBRARY),
    34892: Codec("JPEG", True, _LIBRARY),
    34925: Codec("LZMA", True, _LIBRARY),
    34926: Codec("Zstandard", True, _LIBRARY),
    34927: Codec("WebP", True, _LIBRARY),
    34933: PNG,
    34934: Codec("JPEG XR", True, _LIBRARY),
    48124: Codec("Jetraw", True, _LIBRARY),
    50000: Codec("Zstandard", True, _LIBRARY),
    50001: Codec("WebP", True, _LIBRARY),
    50002: Codec("JPEG XL", True, _LIBRARY),
    50013: Codec("deflate", True, _LIBRARY),
    52546: Codec("JPEG XL", True, _LIBRARY),
    65000: Codec("EER", True, _SHORT),
    65001: Codec("EER", True, _SHORT),
    65002: Codec("EER", True, _SHORT),
}
"""TIFF compression to its decoder, where a strip or tile is decoded whole. Where it is
decoded by rows (`cellunet.io.tiff_strips`), deflate and LZMA come from the
standard library and stay in the process."""


def codec_of(compression: int) -> Codec:
    """Return the decoder of a TIFF compression; one that is not listed is isolated.

    Examples
    --------
    >>> codec_of(34712).name, codec_of(1).isolated
    ('JPEG 2000', False)
    """
    unknown = Codec(f"compression {compression}", True, "nothing is known of it")
    return CODECS.get(compression, unknown)


START_S = 120.0
"""Most seconds until the process is ready."""

WATCH_S = 0.5
"""Seconds between two looks at the time."""

PIPE_BYTES = 2**20
"""What a pipe holds where that can be chosen: fewer changes between processes."""

MODULE = "cellunet.io.decoder_process"
"""What the process runs."""

_START = (
    "import sys; sys.path[:] = sys.argv[2:]; from importlib import import_module; "
    "import_module(sys.argv[1]).main()"
)
"""Not ``-m``, which would look for modules in the current folder first."""


@dataclass
class DecoderChild:
    """A process that decodes, and who watches over its time."""

    process: subprocess.Popen[bytes]
    late: bool = False
    """Whether it was killed because it did not answer in time."""
    _due: float = math.inf
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.process.poll() is not None

    def ask(
        self, head: Head, parts: Sequence[Part], most_bytes: int, seconds: float
    ) -> tuple[Head, list[bytearray]]:
        """Send a message and return the answer; see `messages.receive`."""
        self._due = time.monotonic() + seconds
        try:
            send(cast("Any", self.process.stdin), head, parts)
            return receive(cast("Any", self.process.stdout), most_bytes)
        finally:
            self._due = math.inf

    def greet(self) -> None:
        """Wait until it is ready."""
        self._due = time.monotonic() + START_S
        try:
            receive(cast("Any", self.process.stdout), 0)
        finally:
            self._due = math.inf

    def end(self, *, kill: bool = False) -> int:
        """End the process and return its exit code."""
        self._ended.set()
        if kill:
            self.process.kill()
        # To close its standard input is to end it.
        for stream in (self.process.stdin, self.process.stdout):
            # What is buffered for a process that is gone cannot be written.
            with contextlib.suppress(OSError):
                cast("IO[bytes]", stream).close()
        return self.process.wait()

    def watch(self) -> None:
        """Kill the process when it does not answer in time; runs in a thread."""
        while not self._ended.wait(WATCH_S):
            if time.monotonic() > self._due:
                self.late = True
                self.process.kill()
                return


def start() -> DecoderChild:
    """Start a process; it is ready after `DecoderChild.greet`.

    Raises
    ------
    NoDecoderError
        If the system refuses.
    """
    paths = [str(Path(folder).absolute()) for folder in sys.path if folder]
    # One thread each: what else libraries reserve counts against the bound on memory.
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NO_WINDOW
    else:
        # Apart from the terminal's signals, which are for cellunet to decide on.
        options["process_group"] = 0
    try:
        if getattr(sys, "frozen", False):
            raise OSError(f"{sys.executable} is no Python")
        process = subprocess.Popen(
            [sys.executable or "", "-P", "-c", _START, MODULE, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **single},
            **options,
        )
    except (OSError, ValueError) as error:
        raise NoDecoderError(
            f"the process that decodes images cannot be started ({error})"
        ) from error
    for stream in (process.stdin, process.stdout):
        _widen(cast("IO[bytes]", stream))
    child = DecoderChild(process)
    threading.Thread(target=child.watch, name="decoder", daemon=True).start()
    return child


def _widen(pipe: IO[bytes]) -> None:
    """Let a pipe hold more, where the system can and permits it."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def ending(code: int) -> str:
    """Return how a process ended, by its exit code.

    Examples
    --------
    >>> ending(1), ending(-9)
    ('exit code 1', 'killed, perhaps for want of memory')
    """
    if code == -9:
        return "killed, perhaps for want of memory"
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"
    # Windows' codes of crashes are known by their hexadecimal form.
    return f"exit code {code:#x}" if code > 255 else f"exit code {code}"


LEAST_S = 60.0
"""Most seconds that decoding may take, however little there is to decode."""

BYTES_PER_S = 2 * 2**20
"""Decoded bytes for which a second is added; no codec is so slow by far."""

TIMES_RESULT = 64
"""Most bytes of a result, in sizes of what was expected: more is no answer."""

MORE_RESULT_BYTES = 2**20
"""Bytes of a result beyond that."""

_GONE = (OSError, EOFError, ValueError)
"""What the exchange with a process raises that is gone, or talks nonsense."""


@dataclass(frozen=True)
class Task:
    """Something to be decoded."""

    codec: str
    """What messages call the decoder."""
    head: Head
    """What is to be done; see `cellunet.io.decoder_process`."""
    parts: Sequence[Part]
    """The bytes."""
    decoded_bytes: int
    """Bytes that are expected to come of it."""

    @property
    def seconds(self) -> float:
        """Most seconds that it may take."""
        return LEAST_S + self.decoded_bytes / BYTES_PER_S


class DecoderProcess:
    """Decodes in another process, which is started when it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: DecoderChild | None = None
        self._foreign: DecoderChild | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._disown)

    def _disown(self) -> None:
        """Leave the process to that of which this one is a copy."""
        self._lock = threading.Lock()
        self._foreign, self._child = self._child, None

    @property
    def pid(self) -> int | None:
        """Number of the process, None if there is none."""
        child = self._child
        return None if child is None else child.process.pid

    def decode(self, task: Task) -> list[npt.NDArray[Any] | DecodingError]:
        """Return what a decoder makes of each part, or what it says of it.

        Raises
        ------
        DecodingError
            If nothing can be decoded.
        DecoderLostError
            If a decoder crashed, or did not end in time.
        NoDecoderError
            If the process cannot be started.
        BugError
            If a library lacks what is asked of it.
        """
        head = {**task.head, "seconds": task.seconds, "bytes": task.decoded_bytes}
        most = TIMES_RESULT * task.decoded_bytes + MORE_RESULT_BYTES
        with self._lock:
            child = self._ready()
            try:
                told, parts = child.ask(head, task.parts, most, task.seconds)
            except _GONE as error:
                raise DecoderLostError(self._lost(child, task, error)) from error
            except BaseException:
                # Interrupted between question and answer: both sides would disagree.
                self._end(kill=True)
                raise
        return _results(told, parts)

    def close(self) -> None:
        """End the process, if there is one; the next `decode` starts another."""
        with self._lock:
            self._end()

    def kill(self) -> None:
        """Kill the process even if it is decoding; who waits for it is told so."""
        child = self._child
        if child is not None:
            child.process.kill()

    def end(self) -> None:
        """End the process, decoding or not; the end of cellunet."""
        self.kill()
        self.close()

    def _ready(self) -> DecoderChild:
        if self._child is not None and self._child.ended:
            self._end()
        if self._child is None:
            self._child = start()
            try:
                self._child.greet()
            except _GONE as error:
                told = ending(self._end())
                raise NoDecoderError(
                    f"the process that decodes images did not start ({told})"
                ) from error
            except BaseException:
                self._end(kill=True)
                raise
        return self._child

    def _lost(self, child: DecoderChild, task: Task, error: Exception) -> str:
        """End the process, and return what became of it."""
        senseless = isinstance(error, ValueError)
        code = self._end(kill=senseless)
        if senseless:
            return f"the {task.codec} decoder gave an answer that makes no sense"
        if child.late:
            return f"the {task.codec} decoder did not end within {task.seconds:.0f} s"
        return f"the {task.codec} decoder crashed: {ending(code)}"

    def _end(self, *, kill: bool = False) -> int:
        child, self._child = self._child, None
        return 0 if child is None else child.end(kill=kill)


def _results(
    told: Head, parts: list[bytearray]
) -> list[npt.NDArray[Any] | DecodingError]:
    """Return decoded pixels; a process that was taken over may tell anything."""
    if "error" in told:
        raise _refusal(told)
    data = iter(parts)
    results: list[npt.NDArray[Any] | DecodingError] = []
    try:
        for one in told["results"]:
            if "error" in one:
                results.append(_refusal(one))
                continue
            dtype = np.dtype(str(one["dtype"]))
            if dtype.kind not in "buifc":
                raise DecodingError(f"its values are of type {dtype}")
            pixels = np.frombuffer(next(data), dtype)
            results.append(pixels.reshape([int(n) for n in one["shape"]]))
    except (LookupError, TypeError, ValueError, StopIteration) as error:
        raise DecodingError(f"the decoder's answer makes no sense: {error}") from error
    return results


def _refusal(told: Head) -> DecodingError:
    """Return what a decoder says of bytes that it refuses; raise what is no refusal."""
    if told.get("bug"):
        raise BugError(
            "The process that decodes met a bug in cellunet or in a library that it "
            f"uses ({told['error']}). {library_versions()}",
            hint=REPORT,
        )
    return DecodingError(str(told["error"]))


SHARED = DecoderProcess()
"""The one that everything in this process uses."""

atexit.register(SHARED.end)

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
