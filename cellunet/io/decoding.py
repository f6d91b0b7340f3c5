"""Run native decoders in a process of their own, where a crash costs one image.

A decoder that is native code and is given bytes of others can end the process that it
runs in. There is one such process for all that a command reads. It is started at the
first image that needs it, is asked by one thread at a time, and ends with cellunet,
whose end closes its standard input.
When it dies, or does not answer in time, the image that it was decoding is refused, and
the next one gets a new process.

Questions and answers are lines of JSON with bytes behind them. Nothing is unpickled,
and what an answer claims is checked before memory is taken: the file that was decoded
may have taken the process over.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import tifffile

from cellunet.bugs import REPORT, is_bug, library_versions
from cellunet.errors import BugError, one_line
from cellunet.io.source import DecoderLostError, DecodingError, NoDecoderError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Call = tuple[Any, ...]
    """Bytes to decode, and what else their decoder must know, in types of JSON."""


@dataclass(frozen=True)
class Codec:
    """How one kind of compressed bytes is decoded."""

    name: str
    """What messages call it."""
    isolated: bool = True
    """Whether it is decoded in a process of its own: all but what is not compressed,
    whose values are copied, and whose bits and differences have known sizes. Of the
    short native loops (CCITT, LZW, PackBits, EER) that costs less than 5 % of predict;
    the others are libraries of many thousand lines that parse what others wrote."""
    times: int = 3
    """Memory that it takes, in sizes of the decoded pixels: measured with 2048 x 2048
    pixels of 8 bits, 1.0 to 2.1, and 6.6 for JPEG 2000, which decodes to 32 bits,
    several times over."""


PNG = Codec("PNG")
"""Files named .png, too; their filters are sequential along a row: not for numpy."""

JPEG = Codec("JPEG")

CODECS: dict[int, Codec] = {
    number: codec
    for codec, numbers in {
        Codec("no", isolated=False): (1,),
        Codec("CCITT RLE"): (2,),
        Codec("CCITT T.4"): (3,),
        Codec("CCITT T.6"): (4,),
        Codec("LZW"): (5,),
        JPEG: (6, 7, 33007, 34892),
        Codec("deflate"): (8, 32946, 50013),
        Codec("JPEG XR"): (22610, 34934),
        Codec("PackBits"): (32773,),
        Codec("JPEG 2000", times=8): (33003, 33004, 33005, 34712),
        Codec("LERC"): (34887,),
        Codec("LZMA"): (34925,),
        Codec("Zstandard"): (34926, 50000),
        Codec("WebP"): (34927, 50001),
        PNG: (34933,),
        Codec("Jetraw"): (48124,),
        Codec("JPEG XL"): (50002, 52546),
        Codec("EER"): (65000, 65001, 65002),
    }.items()
    for number in numbers
}
"""TIFF compression to its decoder."""


def codec_of(compression: int) -> Codec:
    """Return the decoder of a TIFF compression; one that is not listed is isolated.

    Examples
    --------
    >>> codec_of(34712).name, codec_of(1).isolated
    ('JPEG 2000', False)
    """
    return CODECS.get(compression, Codec(f"compression {compression}"))


END_S = 5.0
"""Most seconds until the process ends that is asked to."""

LEAST_S = 60.0
"""Most seconds that decoding may take, however little there is to decode."""

BYTES_PER_S = 2 * 2**20
"""Decoded bytes for which a second is added; no codec is so slow by far."""

TIMES_RESULT = 64
"""Most bytes of a result, in sizes of what was expected: more is no answer."""

MORE_RESULT_BYTES = 2**20
"""Bytes of a result beyond that."""

MOST_LINE_BYTES = 8192
"""Of an answer, besides the pixels."""

MODULE = "cellunet.io.decoding"
"""Whose `main` the process runs."""

_START = (
    "import sys; sys.path[:] = sys.argv[2:]; from importlib import import_module; "
    "import_module(sys.argv[1]).main()"
)
"""Not ``-m``, which would look for modules in the current folder first."""


_SINGLE = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"), "1"
)
"""What libraries reserve for more threads counts against the bound on memory."""


class ChildProcess(subprocess.Popen[bytes]):
    """A process with pipes to its standard input and from its standard output."""

    stdin: IO[bytes]
    stdout: IO[bytes]


class DecoderProcess:
    """Decodes in another process, which is started when it is needed.

    Parameters
    ----------
    module
        What the process runs.
    least_s
        Seconds that decoding may take at least.
    """

    def __init__(self, module: str = MODULE, least_s: float = LEAST_S) -> None:
        self.module, self.least_s = module, least_s
        self._child: ChildProcess | None = None
        self._disown()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._disown)

    def _disown(self) -> None:
        """Leave the process to that of which this one is a copy."""
        self._foreign, self._child = self._child, None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Number of the process, None if there is none."""
        child = self._child
        return None if child is None else child.pid

    def decode(
        self, codec: str, decoder: str, calls: Sequence[Call], expected_bytes: int
    ) -> list[npt.NDArray[Any] | DecodingError]:
        """Return what a decoder makes of each call, or what it says of it.

        Parameters
        ----------
        codec
            What messages call it.
        decoder, calls
            Its name in `DECODERS`, and its arguments.
        expected_bytes
            Bytes of the decoded pixels together.

        Raises
        ------
        DecoderLostError
            If a decoder crashed, or did not end in time.
        NoDecoderError
            If the process cannot be started.
        BugError
            If a library lacks what is asked of it.
        """
        seconds = self.least_s + expected_bytes / BYTES_PER_S
        most = TIMES_RESULT * expected_bytes + MORE_RESULT_BYTES
        with self._lock:
            child = self._ready()
            begin = time.monotonic()
            try:
                sizes = [(len(data), others) for data, *others in calls]
                asked = json.dumps([decoder, expected_bytes, seconds, sizes])
                child.stdin.write(asked.encode() + b"\n")
                child.stdin.writelines(data for data, *_ in calls)
                child.stdin.flush()
                return [_answer(child.stdout, most) for _ in calls]
            except (BugError, MemoryError):
                self._end()
                raise
            except Exception as error:
                told = f"crashed: {ending(self._end())}"
                if not isinstance(error, OSError | EOFError):
                    told = "gave an answer that makes no sense"
                elif time.monotonic() - begin >= seconds:
                    told = f"did not end within {seconds:.0f} s"
                raise DecoderLostError(f"the {codec} decoder {told}") from error
            except BaseException:
                # Interrupted between question and answer: both sides would disagree.
                self._end()
                raise

    def _ready(self) -> ChildProcess:
        if self._child is not None and self._child.poll() is not None:
            self._end()
        if self._child is None:
            try:
                self._child = start(self.module)
                _line(self._child.stdout)
            except (OSError, ValueError) as error:
                told = f"cannot be started ({error})"
            except EOFError:
                told = f"did not start ({ending(self._end())})"
            else:
                return self._child
            raise NoDecoderError(f"the process that decodes images {told}")
        return self._child

    def _end(self) -> int:
        """End the process and return its exit code."""
        child, self._child = self._child, None
        if child is None:
            return 0
        # To close its standard input is to end it.
        for stream in (child.stdin, child.stdout):
            # What is buffered for a process that is gone cannot be written.
            with contextlib.suppress(OSError):
                stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(END_S)
        child.kill()
        return child.wait()

    def close(self) -> None:
        """End the process, if there is one; the next `decode` starts another."""
        with self._lock:
            self._end()

    def kill(self) -> None:
        """Kill the process even if it is decoding; who waits for it is told so."""
        child = self._child
        if child is not None:
            child.kill()


def start(module: str) -> ChildProcess:
    """Start the process; its first line says that it is ready."""
    paths = [str(Path(folder).absolute()) for folder in sys.path if folder]
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NO_WINDOW
    else:
        # Apart from the terminal's signals, which are for cellunet to decide on.
        options["process_group"] = 0
    return ChildProcess(
        [sys.executable or "", "-P", "-c", _START, module, *paths],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | _SINGLE,
        **options,
    )


def _line(stream: IO[bytes]) -> dict[str, Any]:
    line = stream.readline(MOST_LINE_BYTES)
    if not line:
        raise EOFError("the process is gone")
    told: dict[str, Any] = json.loads(line)
    return told


def _answer(stream: IO[bytes], most_bytes: int) -> npt.NDArray[Any] | DecodingError:
    """Read pixels, or what is wrong; what is neither raises as it may."""
    told = _line(stream)
    if "error" in told and told["bug"]:
        raise BugError(
            "The process that decodes met a bug in cellunet or in a library that it "
            f"uses ({told['error']}). {library_versions()}",
            hint=REPORT,
        )
    if "error" in told:
        return DecodingError(str(told["error"]))
    dtype, shape = np.dtype(str(told["dtype"])), [int(n) for n in told["shape"]]
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in "buifc" or min(shape, default=1) < 0 or size > most_bytes:
        raise ValueError(f"no pixels: {told}")
    pixels = np.empty(shape, dtype)
    # A buffered stream fills it, unless the data end before.
    if stream.readinto(pixels.reshape(-1).view(np.uint8)) != size:  # type: ignore[attr-defined]
        raise EOFError("the process is gone")
    return pixels


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


SHARED = DecoderProcess()
"""The one that everything in this process uses."""

PROCESS_BYTES = 48_000_000
"""What the process takes besides data: the interpreter, numpy and codecs."""


def isolated_bytes(codec: Codec, encoded: int, decoded: int) -> int:
    """Return what the process takes while it decodes, by the bytes of a piece."""
    return PROCESS_BYTES + 2 * encoded + codec.times * decoded


def decode_file(codec: Codec, content: bytes, decoded_bytes: int) -> npt.NDArray[Any]:
    """Decode a PNG or JPEG file; see `DecoderProcess.decode`.

    Raises
    ------
    DecodingError
        If it is damaged.
    """
    (result,) = SHARED.decode(codec.name, codec.name, [(content,)], decoded_bytes)
    if isinstance(result, DecodingError):
        raise result
    return result


_MOST_TIMES = 16
"""Memory that decoding may take, in sizes of the decoded pixels: twice what the
neediest takes (`Codec.times`)."""

_MORE_BYTES = 128 * 2**20
"""Memory beyond that: libraries that are loaded, stacks of threads, tables."""


def png(data: bytes) -> Any:  # noqa: ANN401
    """Decode a PNG file."""
    return imagecodecs.png_decode(data)


def jpeg(data: bytes) -> Any:  # noqa: ANN401
    """Decode a JPEG file."""
    return imagecodecs.jpeg_decode(data)


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
    """Return what changes when a file does.

    Inode numbers are left out: some mounts (FUSE, CIFS) give a file new ones.
    """
    status = Path(path).stat()
    return f"{status.st_size} {status.st_mtime_ns}"


@lru_cache(maxsize=8)
def page_decoder(path: str, state: str, offset: int) -> Callable[..., Any]:
    """Return what decodes the pieces of a page."""
    del state
    with tifffile.TiffFile(path, _multifile=False) as file:
        file.filehandle.seek(offset)
        decode: Callable[..., Any] = tifffile.TiffPage(file, index=0).decode
        return decode


DECODERS: dict[str, Callable[..., Any]] = {
    PNG.name: png,
    JPEG.name: jpeg,
    "tiff": tiff,
}
"""What decodes whole files of a codec, and pieces of a TIFF of any."""


def main() -> None:
    """Answer what standard input asks until it ends.

    What the process of a `DecoderProcess` runs. It ends when its standard input does,
    also in the midst of decoding; it takes no more memory than the pixels that it is
    asked for need, and no more time than it is given.
    """
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
        _bound_memory(_MORE_BYTES + _MOST_TIMES * expected_bytes)
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
        line = one_line(error)
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
