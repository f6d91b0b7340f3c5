"""Native decoders run where their crash costs one image: in a process of its own.

There is one such process for all that a command reads. It is started at the first
image that needs it, is asked by one thread at a time, and ends with cellunet. When it
dies, or does not answer in time, the image that it was decoding is refused, and the
next one gets a new process.
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from cellunet.imaging.codecs import PNG, codec_of
from cellunet.imaging.messages import Head, Part, receive, send
from cellunet.imaging.page_key import page_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import tifffile

PROCESS_BYTES = 48_000_000
"""What the process takes besides data: the interpreter, numpy and codecs."""
START_S = 120.0
"""Most seconds until the process is ready."""
LEAST_S = 60.0
"""Most seconds that decoding may take, however little there is to decode."""
BYTES_PER_S = 2 * 2**20
"""Decoded bytes for which a second is added; no codec is so slow by far."""
WATCH_S = 0.5
"""Seconds between two looks at the time."""
TIMES_RESULT = 64
"""Most bytes of a result, in sizes of what was expected: more is no answer."""
PART_BYTES = 8 * 2**20
"""Bytes that are expected of a part of a strip that is decoded by rows."""
PIPE_BYTES = 2**20
"""What a pipe holds where that can be chosen: fewer changes between processes."""
MODULE = "cellunet.imaging.decoder_process"
"""What the process runs."""
_START = (
    "import sys; sys.path[:] = sys.argv[2:]; from importlib import import_module; "
    "import_module(sys.argv[1]).main()"
)
"""Not ``-m``, which would look for modules in the current folder first."""


class DecodingError(RuntimeError):
    """A decoder refused what it was given; the process goes on."""


class DecoderLostError(RuntimeError):
    """A decoder crashed, or did not end.

    Parameters
    ----------
    what
        What became of it.
    """

    hint = (
        "Convert the file with another program, or leave it out; the decoder may be "
        "out of date, or the file made to break it."
    )

    def __init__(self, what: str) -> None:
        super().__init__(what)


class NoDecoderError(RuntimeError):
    """The process that decodes cannot be started: no fault of the image's."""

    hint = (
        "cellunet decodes compressed images in a process of its own; permit it to "
        "start one, or convert them to uncompressed TIFF."
    )


@dataclass(frozen=True)
class Task:
    """Something to be decoded."""

    codec: str
    """What messages call the decoder."""
    head: Head
    """What is to be done; see `cellunet.imaging.decoder_process`."""
    parts: Sequence[Part]
    """The bytes."""
    decoded_bytes: int
    """Bytes that are expected to come of it."""

    @property
    def seconds(self) -> float:
        """Most seconds that it may take."""
        return LEAST_S + self.decoded_bytes / BYTES_PER_S


@dataclass
class _Running:
    """A process that decodes, and who watches over its time."""

    process: subprocess.Popen[bytes]
    due: float = math.inf
    late: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Kill the process when it does not answer in time."""
        while not self.ended.wait(WATCH_S):
            if time.monotonic() > self.due:
                self.late = True
                self.process.kill()
                return


class DecoderProcess:
    """Decodes in another process, which is started when it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._foreign: _Running | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._disown)

    def _disown(self) -> None:
        """Leave the process to that of which this one is a copy."""
        self._lock = threading.Lock()
        self._foreign, self._running = self._running, None

    @property
    def pid(self) -> int | None:
        """Number of the process, None if there is none."""
        running = self._running
        return None if running is None else running.process.pid

    def decode(self, task: Task) -> list[npt.NDArray[Any] | DecodingError]:
        """Return what a decoder makes of some bytes, or what it says of them.

        Raises
        ------
        DecodingError
            If nothing can be decoded.
        DecoderLostError
            If a decoder crashed, or did not end in time.
        NoDecoderError
            If the process cannot be started.
        """
        with self._lock:
            running = self._ready()
            try:
                told, parts = _exchange(running, task)
            except (OSError, EOFError, ValueError) as error:
                raise DecoderLostError(self._lost(task, error)) from error
            except BaseException:
                # Interrupted between question and answer: both sides would disagree.
                self._end(kill=True)
                raise
        return _results(told, parts)

    def close(self) -> None:
        """End the process, if there is one; the next `decode` starts another."""
        with self._lock:
            self._end()

    def _ready(self) -> _Running:
        running = self._running
        if running is not None and running.process.poll() is not None:
            self._end()
            running = None
        if running is None:
            running = self._running = _started()
            try:
                running.due = time.monotonic() + START_S
                receive(_out(running), 0)
            except (OSError, EOFError, ValueError) as error:
                code = self._end(kill=True)
                raise NoDecoderError(
                    f"the process that decodes images did not start ({_ending(code)})"
                ) from error
            finally:
                running.due = math.inf
        return running

    def _lost(self, task: Task, error: Exception) -> str:
        """End the process, and return what became of it."""
        late = self._running is not None and self._running.late
        code = self._end(kill=isinstance(error, ValueError))
        if late:
            return f"the {task.codec} decoder did not end within {task.seconds:.0f} s"
        return f"the {task.codec} decoder crashed: {_ending(code)}"

    def _end(self, *, kill: bool = False) -> int:
        """End the process and return its exit code."""
        running, self._running = self._running, None
        if running is None:
            return 0
        running.ended.set()
        if kill:
            running.process.kill()
        # To close its standard input is to end it.
        for stream in (running.process.stdin, running.process.stdout):
            _close(stream)
        return running.process.wait()


def _exchange(running: _Running, task: Task) -> tuple[Head, list[bytearray]]:
    head = {**task.head, "seconds": task.seconds, "bytes": task.decoded_bytes}
    most = TIMES_RESULT * task.decoded_bytes + PIPE_BYTES
    running.due = time.monotonic() + task.seconds
    try:
        send(cast("Any", running.process.stdin), head, task.parts)
        return receive(_out(running), most)
    finally:
        running.due = math.inf


def _out(running: _Running) -> Any:  # noqa: ANN401
    return running.process.stdout


def _started() -> _Running:
    """Start the process.

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
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, MODULE, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **single},
            pipesize=PIPE_BYTES,
            **options,
        )
    except (OSError, ValueError) as error:
        raise NoDecoderError(
            f"the process that decodes images cannot be started ({error})"
        ) from error
    running = _Running(process)
    threading.Thread(target=running.watch, name="decoder", daemon=True).start()
    return running


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        try:
            stream.close()
        except OSError:
            # What was buffered for a process that is gone.
            return


def _ending(code: int) -> str:
    """Return how a process ended, by its exit code."""
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code:#x}" if code > 255 else f"exit code {code}"


def _results(
    told: Head, parts: list[bytearray]
) -> list[npt.NDArray[Any] | DecodingError]:
    """Return decoded pixels; a process that was taken over may tell anything."""
    if "error" in told:
        raise DecodingError(str(told["error"]))
    data = iter(parts)
    results: list[npt.NDArray[Any] | DecodingError] = []
    try:
        for one in told["results"]:
            if "error" in one:
                results.append(DecodingError(str(one["error"])))
                continue
            dtype = np.dtype(str(one["dtype"]))
            if dtype.kind not in "buifc":
                raise DecodingError(f"its values are of type {dtype}")
            pixels = np.frombuffer(next(data), dtype)
            results.append(pixels.reshape([int(n) for n in one["shape"]]))
    except (LookupError, TypeError, ValueError, StopIteration) as error:
        raise DecodingError(f"the decoder's answer makes no sense: {error}") from error
    return results


def isolated_bytes(encoded: int, decoded: int) -> int:
    """Return what the process takes while it decodes, by the bytes of a piece."""
    return PROCESS_BYTES + 2 * encoded + 2 * decoded


@cache
def shared() -> DecoderProcess:
    """Return the one that everything in this process uses."""
    process = DecoderProcess()
    atexit.register(process.close)
    return process


def decode_png(content: bytes, decoded_bytes: int) -> npt.NDArray[Any]:
    """Decode a PNG file; see `DecoderProcess.decode`."""
    return _one(Task(PNG.name, {"task": "png"}, [content], decoded_bytes))


_PARTS = {5: "lzw", 32773: "packbits"}


def decode_bytes(compression: int, data: bytes) -> bytes:
    """Decode a part of a strip of LZW (5) or PackBits (32773) data."""
    head = {"task": _PARTS[compression]}
    return _one(Task(codec_of(compression).name, head, [data], PART_BYTES)).tobytes()


def _one(task: Task) -> npt.NDArray[Any]:
    (result,) = shared().decode(task)
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
    return shared().decode(Task(codec.name, head, parts, decoded_bytes))
