"""Turn every failure to read an image into an ImageReadError.

Also what a file really is by its first bytes, and the limits that a header's claims
must keep before memory is taken for them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import zlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

import tifffile

from cellunet.bugs import bug, is_bug
from cellunet.errors import CellunetError, ImageReadError
from cellunet.io.source import DecoderLostError, NoDecoderError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_DECODED_BYTES = 4 * 2**30
"""Most bytes that are decoded in one piece: a PNG, or one strip or tile of a TIFF."""

NOTED_BYTES = 512 * 2**20
"""From so much memory on, a file is worth a word."""

READ_FAILURES = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    NameError,
    AssertionError,
    MemoryError,
    ImportError,
    RuntimeError,
    SyntaxError,
    struct.error,
    zlib.error,
    tifffile.TiffFileError,
)
"""What tifffile and imagecodecs are known to raise on broken files: the codecs'
errors are RuntimeErrors, a missing codec is an ImportError, broken XML a SyntaxError,
and a damaged tag can surface as almost any of the others. Faults of code are among
them: see `cellunet.bugs.is_bug`."""

_MAGIC = (
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"RIFF", "WebP or AVI"),
    (b"%PDF", "PDF"),
    (b"\x89HDF", "HDF5"),
    (b"ZISRAWFILE", "Zeiss CZI"),
    (b"\xda\xce\xbe\x0a", "Nikon ND2"),
    (b"OLYMPUSRAWFORMAT", "Olympus OIR"),
    (b"\x70\0\0\0", "Leica LIF"),
    (b"\xd0\xcf\x11\xe0", "Olympus OIB or Zeiss ZVI"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
    (b"\x93NUMPY", "NumPy"),
    (b"version https://git-lfs", "Git LFS pointer (the image was not downloaded)"),
    (b"<", "XML or HTML"),
)

_DELTAVISION = 96
"""Place of DeltaVision's magic number, -16224 in either byte order."""

HEAD_BYTES = 128
"""First bytes of a file that tell what it is."""

MICROSCOPES = {
    "Zeiss CZI",
    "Nikon ND2",
    "Leica LIF",
    "Olympus OIR",
    "Olympus OIB or Zeiss ZVI",
    "DeltaVision",
    "HDF5",
}
"""Kinds of microscopes' own files that are not read."""

EXPORT = (
    "Export it as OME-TIFF in the microscope's program, in Fiji, or with Bio-Formats' "
    "converter (bfconvert)."
)

_WAY_OUT = dict.fromkeys(MICROSCOPES, EXPORT) | {
    "TIFF": "Rename it to .tif.",
    "PNG": "Rename it to .png.",
    "JPEG": "Export the original again as TIFF: JPEG has altered the intensities.",
    "ZIP": "Unpack it first.",
    "gzip": "Unpack it first.",
    "Git LFS pointer (the image was not downloaded)": "Run: git lfs pull.",
}

_log = logging.getLogger(__name__)

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


class _Quieten(logging.Filter):
    """Turn warnings about a file that we are reading into debug records.

    What matters in them is checked and raised here. Outside of `reading`, tifffile and
    imagecodecs keep their voices.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if _quiet.get():
            _log.debug("%s", record.getMessage())
            return False
        return True


for _name in ("tifffile", "imagecodecs"):
    logging.getLogger(_name).addFilter(_Quieten())


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong inside into an ImageReadError that names `path`.

    Raises
    ------
    ImageReadError
        In place of any of `READ_FAILURES`.
    BugError
        If it was no fault of the file's.
    """
    token = _quiet.set(True)
    try:
        yield
    except CellunetError:
        raise
    except READ_FAILURES as error:
        if is_bug(error):
            raise bug(error, path) from error
        raise _explained(path, error) from error
    finally:
        _quiet.reset(token)


def _explained(path: Path, error: BaseException) -> ImageReadError:
    if isinstance(error, FileNotFoundError):
        return ImageReadError(f"{path} does not exist.")
    # Windows says no permission where others say a folder; Path.is_dir may raise.
    if os.path.isdir(path):  # noqa: PTH112
        return ImageReadError(
            f"{path} is a folder, not an image.",
            hint="Name the images in it, or the folder as an input.",
        )
    if isinstance(error, PermissionError):
        return ImageReadError(
            f"{path} may not be read (permission denied).",
            hint="Change its permissions.",
        )
    if isinstance(error, MemoryError):
        return ImageReadError(f"{path} does not fit into memory.")
    if isinstance(error, DecoderLostError | NoDecoderError):
        return ImageReadError(f"{path} cannot be read: {error}.", hint=error.hint)
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageReadError(
        f"{path} cannot be read; it is damaged, truncated or of a kind that cellunet "
        f"does not know ({reason:.200}).",
        hint="Open it in another viewer, or export the image again.",
    )


def kind_by_content(head: bytes) -> str:
    """Return what a file is by its first bytes, ``""`` if that is not known."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[_DELTAVISION : _DELTAVISION + 2] in (b"\xa0\xc0", b"\xc0\xa0"):
        return "DeltaVision"
    return ""


def way_out(kind: str) -> str:
    """Return what to do with a file that is not of the kind that its name claims."""
    return _WAY_OUT.get(kind, "Export it as TIFF, OME-TIFF or PNG.")


def check_kind(path: Path, expected: str) -> int:
    """Check that a file is of the kind that its name claims; return its bytes.

    Raises
    ------
    ImageReadError
        If the file is empty, or something else.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    size = path.stat().st_size
    if not size:
        raise ImageReadError(
            f"{path} is empty (0 bytes).", hint="Copy or export it again."
        )
    kind = kind_by_content(head)
    if kind != expected:
        found = f"its content is {kind}" if kind else "it is not an image"
        raise ImageReadError(
            f"{path} is named like a {expected} file, but {found}.",
            hint=way_out(kind),
        )
    return size


def check_claim(
    path: Path,
    claimed: int,
    held: int,
    ratio: int,
    hint: str = "Copy or export it again.",
) -> None:
    """Refuse a header that claims more pixels than the file can hold.

    Parameters
    ----------
    path
        The file, for the message.
    claimed
        Bytes of the decoded pixels that the header claims.
    held
        Bytes of encoded pixels in the file.
    ratio
        Most decoded bytes that one encoded byte can stand for.
    hint
        What to do then.

    Raises
    ------
    ImageReadError
        If ``claimed > held * ratio``.
    """
    if claimed > held * ratio:
        raise ImageReadError(
            f"{path} claims {claimed:,} bytes of pixels, but holds {held:,} bytes that "
            f"can stand for {held * ratio:,} at most; it is damaged or truncated.",
            hint=hint,
        )


def check_piece(path: Path, piece_bytes: int, limit: int | None = None) -> None:
    """Refuse to decode more than `limit` or `MAX_DECODED_BYTES` in one piece.

    Raises
    ------
    ImageReadError
        If `piece_bytes` is more.
    """
    most = MAX_DECODED_BYTES if limit is None else min(limit, MAX_DECODED_BYTES)
    if piece_bytes > most:
        raise ImageReadError(
            f"{path} can only be decoded in pieces of {piece_bytes:,} bytes; the limit "
            f"is {most:,}.",
            hint="Allow more memory, or export it again as a tiled TIFF.",
        )


def memory_note(path: Path, piece_bytes: int, held_bytes: int) -> str:
    """Return what to know of the memory that reading a file takes, if that is much."""
    if held_bytes < NOTED_BYTES:
        return ""
    return (
        f"{path.name} can only be decoded in pieces of {piece_bytes / 2**20:,.0f} MiB, "
        f"and reading it takes up to {held_bytes / 2**20:,.0f} MiB of memory. As a "
        "tiled TIFF it takes less."
    )
