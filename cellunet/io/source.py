"""The interface of image readers and writers, and what of a file cannot be read.

A `Source` is one file seen as a stack of planes and read by `Region`; a `Sink` takes
labels row by row and makes the file appear only when it is complete. Inside `reading`
every failure becomes an ImageReadError, and what a header claims is checked before
memory is taken for it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import struct
import zlib
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np
import tifffile

from cellunet.bugs import bug, is_bug
from cellunet.errors import CellunetError, ImageReadError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from cellunet.io.crops import CropMetadata


class DecodingError(RuntimeError):
    """A decoder refused what it was given; its process goes on."""


class DecoderLostError(RuntimeError):
    """A decoder crashed, or did not end."""

    hint = (
        "Convert the file with another program, or leave it out; the decoder may be "
        "out of date, or the file made to break it."
    )


class NoDecoderError(RuntimeError):
    """The process that decodes cannot be started: no fault of the image's."""

    hint = (
        "cellunet decodes compressed images in a process of its own; permit it to "
        "start one, or convert them to uncompressed TIFF."
    )


KEEP_GOING = (
    "Copy or export it again; cellunet predict --keep-going leaves zeros there."
)
"""What helps where a part of an image is lost."""

MOST_LOST = 4
"""Parts of one file at which a decoder may crash or hang before it is given up."""


@dataclass(frozen=True, order=True)
class Damage:
    """A rectangle of a plane as the file stores it, whose pixels are lost."""

    plane: int
    """Number of the stored plane, 0-based: each channel has its own."""
    y0: int
    """First row."""
    y1: int
    """Row after the last."""
    x0: int
    """First column."""
    x1: int
    """Column after the last."""
    what: str
    """What is lost: ``tile``, ``strip`` or ``rows``."""
    reason: str
    """What the decoder said."""

    @property
    def place(self) -> str:
        """Where it is, both ends included."""
        return (
            f"{self.what} at x {self.x0} to {self.x1 - 1}, y {self.y0} to "
            f"{self.y1 - 1} of plane {self.plane}"
        )


class DamageLog:
    """What became of the parts of one file that cannot be read.

    Parameters
    ----------
    path
        The file.
    keep_going
        Note the damage and let zeros stand there, instead of raising.
    """

    def __init__(self, path: Path, *, keep_going: bool) -> None:
        self._path, self.keep_going = path, keep_going
        self._noted: dict[tuple[int, int, int, int, int], Damage] = {}
        self._lost = 0

    @property
    def noted(self) -> tuple[Damage, ...]:
        """All that was found so far, in the order of planes, rows and columns."""
        return tuple(sorted(self._noted.values()))

    def note(self, damage: Damage, error: BaseException | None = None) -> None:
        """Note that a part is lost, or refuse the file.

        Raises
        ------
        ImageReadError
            Unless the log is to keep going, and decoders did not crash or hang too
            often: each time takes a while, and a file has many parts.
        """
        lost = isinstance(error, DecoderLostError)
        self._lost += lost
        if not self.keep_going or self._lost > MOST_LOST:
            raise ImageReadError(
                f"{self._path} is damaged: its {damage.place} cannot be read "
                f"({damage.reason}).",
                hint=DecoderLostError.hint if lost else KEEP_GOING,
            ) from error
        key = (damage.plane, damage.y0, damage.y1, damage.x0, damage.x1)
        self._noted.setdefault(key, damage)


def brief(error: BaseException) -> str:
    """Return an error in one short line."""
    return f"{one_line(error) or type(error).__name__:.160}"


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What is known of the intensities of one whole plane.

    One streaming pass over full-width bands of rows (three for types that are wider
    than 16 bits), never over tiles, so that no tile can tell where it lies. They are
    exact order statistics, so that the bands' heights do not matter.
    All values are in the image's own units; `count` is the number of finite pixels.
    `foreground` is the contrast to `low` (inverted: to `high`) below which 90 % of the
    foreground's pixels lie (`cellunet.imaging.normalize`): 0 if nothing stands out
    from the noise, None if nobody asked.
    """

    low: float
    high: float
    mean: float
    std: float
    noise: float
    count: int
    foreground: float | None = None


ZMode = Literal["keep", "max"]

Pages = Literal["channels", "time", "z"]


@dataclass(frozen=True)
class Region:
    """A rectangle of one plane: rows ``y0 <= y < y1``, columns ``x0 <= x < x1``."""

    plane: int
    """Number of the plane, 0-based, in C order of the source's `plane_shape`."""
    y0: int
    """First row."""
    y1: int
    """Row after the last."""
    x0: int
    """First column."""
    x1: int
    """Column after the last."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.y1 - self.y0, self.x1 - self.x0

    def check(self, shape: tuple[int, int], planes: int) -> None:
        """Raise ValueError unless this lies, not empty, inside such an image."""
        inside = (
            0 <= self.plane < planes
            and 0 <= self.y0 < self.y1 <= shape[0]
            and 0 <= self.x0 < self.x1 <= shape[1]
        )
        if not inside:
            raise ValueError(f"{self} lies outside {planes} planes of {shape}")


@dataclass(frozen=True)
class PlaneChoice:
    """What the user wants of an image that holds more than one plane of intensity."""

    channel: str | None = None
    """Number (0-based) or name of the channel, or several with commas between."""
    gray: bool = False
    """Make one channel of red, green and blue: their luminance."""
    z: ZMode = "keep"
    """``keep``: every Z plane by itself. ``max``: their maximum."""
    level: int = 0
    """Which smaller version of the image, if the file holds some; 0 is full size."""
    keep_going: bool = False
    """Let zeros stand where a part cannot be read, and say so in `Source.damaged`."""
    limit_bytes: int | None = None
    """Refuse a file of which more must be decoded at once; None: no limit."""
    known: tuple[str, ...] = ()
    """Where no channel is named: the names of those to look for."""
    image: str | None = None
    """Number (0-based) or name of the image in a file of several; None: the largest."""
    pages: Pages | None = None
    """What pages are whose axis has no name; None: T, or Z if T is taken."""


@dataclass(frozen=True)
class StoredGrid:
    """On what grid the planes of an OME-Zarr lie, for labels that lie beside them."""

    image: str
    """The image: a folder, or an address."""
    zarr_format: int
    """2 or 3."""
    axes: str
    """Letters of its axes but for channels, ending in Y and X."""
    lengths: tuple[int, ...]
    """Planes and pixels along them."""
    described: tuple[dict[str, Any], ...]
    """The same axes, as its metadata describe them."""
    scale: tuple[float, ...]
    """Length of a pixel along each of them, in the axis' unit."""
    translation: tuple[float, ...]
    """Place of the first pixel."""
    levels: int | None
    """Levels of the image from this one on; None: it has no smaller ones."""


@dataclass(frozen=True)
class Origin:
    """What a file tells of an image besides its pixels, for people to read."""

    pixel_size_from: str = ""
    """Where in the file, or beside it, the size of a pixel stands."""
    image: str = ""
    """Number of the image in a file of several."""
    position: str = ""
    """Well, site or field, in the maker's words."""
    acquired: str = ""
    """When it was taken, in the maker's words."""
    pages: str = ""
    """How many pages without a name there are, and as what they are read."""
    notes: tuple[str, ...] = ()
    """What to tell: other images in the file, a size that cannot be known."""
    full_px: tuple[float, float] = (1.0, 1.0)
    """Height and width of a pixel of a pyramid's level, in those of full resolution."""
    grid: StoredGrid | None = None
    """Of an OME-Zarr: the grid of its planes."""
    projected: int = 1
    """How many Z planes of the file each plane is the projection of."""


class Source(Protocol):
    """One image file: opened lazily, cheap to pickle, closed by ``with``.

    Not safe for use by several threads at once.
    """

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a plane in pixels."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of what `read` returns."""
        ...

    @property
    def plane_axes(self) -> str:
        """Leading axes that a result keeps: none, or letters of T and Z."""
        ...

    @property
    def plane_shape(self) -> tuple[int, ...]:
        """Lengths of `plane_axes`; their product is the number of planes."""
        ...

    @property
    def channels(self) -> int:
        """Channels that `read` returns."""
        ...

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Their names; the number as text where a file gives no name."""
        ...

    @property
    def file_channels(self) -> tuple[str, ...]:
        """Names of all channels of the file, of which one or more are read."""
        ...

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """Height and width of a pixel in micrometers, if the file says so credibly."""
        ...

    @property
    def z_step_um(self) -> float | None:
        """Distance of planes along Z in micrometers, if the file says so."""
        ...

    @property
    def time_step_s(self) -> float | None:
        """Seconds from one plane to the next along T, if the file says so."""
        ...

    @property
    def origin(self) -> Origin:
        """Where the size stands, and what else the file tells."""
        ...

    @property
    def cut_from(self) -> CropMetadata | None:
        """The field that this is a crop of, if the file says so."""
        ...

    @property
    def memory_note(self) -> str:
        """What to know of the memory that reading takes, if that is much; else empty.

        One sentence that names the file.
        """
        ...

    def held_bytes(self, rows: int) -> int:
        """Return what reading holds in memory at once, besides what it returns.

        Parameters
        ----------
        rows
            Rows of the tallest region that will be read.
        """
        ...

    @property
    def damaged(self) -> tuple[Damage, ...]:
        """What could not be read so far; `PlaneChoice.keep_going` has zeros there."""
        ...

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return the pixels of `region`, shape (channels, height, width).

        Raises
        ------
        ImageReadError
            If the file cannot be read there.
        """
        ...

    def close(self) -> None:
        """Close the file; a later `read` opens it again."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class Sink(Protocol):
    """A label image being written; as a context manager an exception aborts it."""

    def write(self, plane: int, y0: int, rows: npt.NDArray[Any]) -> None:
        """Append a band of full-width rows.

        Parameters
        ----------
        plane
            Number of the plane; planes come in order.
        y0
            First row; within a plane bands come top to bottom without a gap.
        rows
            Labels of shape (any height, width) in the dtype of the image.

        Raises
        ------
        OutputError
            If there is no room or no permission.
        """
        ...

    def commit(self, noted: Mapping[str, Any] | None = None) -> None:
        """Make the complete file appear under its name.

        Parameters
        ----------
        noted
            What was found out while it was written, for its provenance.
        """
        ...

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class Closing:
    """Closes on leaving a ``with`` block."""

    def close(self) -> None:
        """Let go of what is held open; does nothing where there is nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class SinglePlane(Closing):
    """What a `Source` of one plane without metadata says of itself."""

    plane_axes = ""
    plane_shape: tuple[int, ...] = ()
    pixel_size_um: tuple[float, float] | None = None
    z_step_um: float | None = None
    time_step_s: float | None = None
    cut_from: CropMetadata | None = None
    damaged: tuple[Damage, ...] = ()
    origin = Origin()


class OnePlane(Closing):
    """One plane of a source of several, as a source; closing it closes the other.

    Parameters
    ----------
    source
        The other.
    plane
        Number of the plane.
    """

    plane_axes = ""
    plane_shape: tuple[int, ...] = ()
    time_step_s: float | None = None

    def __init__(self, source: Source, plane: int) -> None:
        self._source, self._plane = source, plane
        self.path, self.shape, self.dtype = source.path, source.shape, source.dtype
        self.channels, self.channel_names = source.channels, source.channel_names
        self.file_channels = source.file_channels
        self.pixel_size_um, self.z_step_um = source.pixel_size_um, source.z_step_um
        self.origin, self.cut_from = source.origin, source.cut_from
        self.memory_note = source.memory_note

    @property
    def damaged(self) -> tuple[Damage, ...]:
        """What could not be read so far, of all planes."""
        return self._source.damaged

    def held_bytes(self, rows: int) -> int:
        """Return what reading holds; see `Source`."""
        return self._source.held_bytes(rows)

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return a region; see `Source`."""
        region.check(self.shape, 1)
        return self._source.read(replace(region, plane=self._plane))

    def close(self) -> None:
        """Close the file; a later `read` opens it again."""
        self._source.close()


def one_plane(source: Source, plane: int | None) -> Source:
    """Return a plane of a source, or the source itself: None, there is one plane."""
    return source if plane is None else OnePlane(source, plane)


def _check_shape(shape: tuple[int, ...], channels: int) -> None:
    if channels == 1 and (len(shape) != 2 or 0 in shape):
        raise ImageReadError(
            f"The array is of shape {shape}; one plane of rows and columns "
            "is expected.",
            hint="Take a stack plane by plane, and one channel of several.",
        )
    if channels > 1 and (len(shape) != 3 or shape[0] != channels or 0 in shape):
        raise ImageReadError(
            f"The array is of shape {shape}; {channels} channels are expected, and "
            "the rows and columns of one plane.",
            hint="Put the channels first, in the order of the training: "
            "np.stack([first, second]).",
        )


class ArraySource(SinglePlane):
    """One plane of one channel, or of several, in memory.

    Parameters
    ----------
    plane
        YX, or CYX of several channels, any real type.
    pixel_size_um
        Height and width of a pixel, if known.
    channels
        How many are expected.

    Raises
    ------
    ImageReadError
        If it is no such plane.
    """

    path = Path("array")
    memory_note = ""

    def __init__(
        self,
        plane: npt.NDArray[Any],
        pixel_size_um: tuple[float, float] | None = None,
        *,
        channels: int = 1,
    ) -> None:
        _check_shape(plane.shape, channels)
        if plane.dtype.kind not in "buif":
            raise ImageReadError(
                f"The array is {plane.dtype}; real numbers are expected.",
                hint="Convert it, for example with .astype('float32').",
            )
        self.shape: tuple[int, int] = (plane.shape[-2], plane.shape[-1])
        self.channels = channels
        self.channel_names = tuple(map(str, range(channels)))
        self.file_channels = self.channel_names
        self._plane = plane.astype(np.uint8) if plane.dtype == np.bool_ else plane
        self.dtype = self._plane.dtype
        self.pixel_size_um = pixel_size_um

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return a region; see `cellunet.io.source.Source`."""
        region.check(self.shape, 1)
        part = self._plane[..., region.y0 : region.y1, region.x0 : region.x1]
        return part.reshape(self.channels, *region.shape).copy()

    def held_bytes(self, rows: int) -> int:
        """Return 0: the plane is held by whoever gave it."""
        del rows
        return 0

    def read_all(self) -> npt.NDArray[Any]:
        """Return the plane itself, as it was given."""
        return self._plane


def array_source(pixels: npt.NDArray[Any]) -> ArraySource:
    """Return the channels of an image, CYX, as a source."""
    if len(pixels) == 1:
        return ArraySource(pixels[0])
    return ArraySource(pixels, channels=len(pixels))


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

EXPORT = (
    "Export it as OME-TIFF in the microscope's program, in Fiji, or with Bio-Formats' "
    "converter (bfconvert)."
)

_ADVICE = {
    "TIFF": "Rename it to .tif.",
    "PNG": "Rename it to .png.",
    "JPEG": "Rename it to .jpg; better, export the original again as TIFF: JPEG has "
    "altered the intensities.",
    "Zeiss CZI": "Rename it to .czi.",
    "Nikon ND2": "Rename it to .nd2.",
    "Leica LIF": "Rename it to .lif.",
    "Olympus OIR": "Rename it to .oir.",
    "Olympus OIB or Zeiss ZVI": f"Rename it to .oib; or, if it is a ZVI: {EXPORT}",
    "DeltaVision": "Rename it to .dv.",
    "HDF5": f"Rename it to .ims if it is of Imaris; else: {EXPORT}",
    "ZIP": "Unpack it first.",
    "gzip": "Unpack it first.",
    "Git LFS pointer (the image was not downloaded)": "Run: git lfs pull.",
}

_log = logging.getLogger(__name__)

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


class _WarningsAsDebug(logging.Filter):
    """Turn warnings about a file that we are reading into debug records.

    What matters in them is checked and raised here. Outside of `reading`, tifffile and
    imagecodecs keep their voices.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if _quiet.get():
            _log.debug("%s", record.getMessage())
            return False
        return True


_TALKATIVE = ("tifffile", "imagecodecs", "liffile", "czifile", "oirfile", "nd2")

for _name in _TALKATIVE:
    logging.getLogger(_name).addFilter(_WarningsAsDebug())


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
    if isinstance(error, MemoryError):
        return ImageReadError(f"{path} does not fit into memory.")
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
    if isinstance(error, DecoderLostError | NoDecoderError):
        return ImageReadError(f"{path} cannot be read: {error}.", hint=error.hint)
    return ImageReadError(
        f"{path} cannot be read; it is damaged, truncated or of a kind that cellunet "
        f"does not know ({brief(error)}).",
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


def advice_on(kind: str) -> str:
    """Return what to do with a file that is not of the kind that its name claims."""
    return _ADVICE.get(kind, "Export it as TIFF, OME-TIFF or PNG.")


def check_kind(path: Path, *expected: str) -> int:
    """Check that a file is of a kind that its name claims; return its bytes.

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
    if kind not in expected:
        found = f"its content is {kind}" if kind else "it is not an image"
        raise ImageReadError(
            f"{path} is named like a {expected[0]} file, but {found}.",
            hint=advice_on(kind),
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


def array_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the bytes of an array."""
    return math.prod(shape) * dtype.itemsize
