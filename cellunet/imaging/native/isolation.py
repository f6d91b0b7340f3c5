"""Native decoders run where their crash costs one image: in a process of its own.

There is one such process for all that a command reads. It is started at the first
image that needs it, is asked by one thread at a time, and ends with cellunet. When it
dies, or does not answer in time, the image that it was decoding is refused, and the
next one gets a new process.
"""

from __future__ import annotations

import atexit
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.bugs import REPORT, library_versions
from cellunet.errors import BugError
from cellunet.imaging.native import decoder_child
from cellunet.imaging.native.decoder_errors import (
    DecoderLostError,
    DecodingError,
    NoDecoderError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cellunet.imaging.native.decoder_child import DecoderChild
    from cellunet.imaging.native.messages import Head, Part

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
    """What is to be done; see `cellunet.imaging.native.decoder_process`."""
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
            self._child = decoder_child.start()
            try:
                self._child.greet()
            except _GONE as error:
                told = decoder_child.ending(self._end())
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
        return f"the {task.codec} decoder crashed: {decoder_child.ending(code)}"

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
