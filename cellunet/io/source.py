"""The interface of image readers and writers, and what of a file cannot be read.

One streaming pass over full-width bands of rows (three for types that are wider than 16
bits), never over tiles, so that no tile can tell where it lies. They are exact order
statistics, so that the bands' heights do not matter.

A `Source` is one file seen as a stack of planes and read by `Region`; a `Sink` takes
labels row by row and makes the file appear only when it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np

from cellunet.errors import ImageReadError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

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
    return f"{' '.join(str(error).split()) or type(error).__name__:.160}"


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What is known of the intensities of one whole plane.

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
class Choice:
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


@dataclass(frozen=True)
class Origin:
    """What a file tells of an image besides its pixels, for people to read."""

    pixel_size_from: str = ""
    """Where in the file, or beside it, the size of a pixel stands."""
    image: str = ""
    """Number of the image in a file of several."""
    image_name: str = ""
    """Its name, if it has one."""
    position: str = ""
    """Well, site or field, in the maker's words."""
    acquired: str = ""
    """When it was taken, in the maker's words."""
    notes: tuple[str, ...] = ()
    """What to tell: other images in the file, a size that cannot be known."""


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
        """Height and width of a pixel in micrometres, if the file says so credibly."""
        ...

    @property
    def z_step_um(self) -> float | None:
        """Distance of planes along Z in micrometres, if the file says so."""
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
        """What could not be read so far; zeros stand there (`Choice.keep_going`)."""
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class OnePlane:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


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


class ArraySource:
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
    plane_axes = ""
    plane_shape: tuple[int, ...] = ()
    z_step_um: float | None = None
    time_step_s: float | None = None
    cut_from: CropMetadata | None = None
    memory_note = ""
    damaged: tuple[Damage, ...] = ()
    origin = Origin()

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

    def close(self) -> None:
        """Do nothing: there is no file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing: there is no file."""


def array_source(pixels: npt.NDArray[Any]) -> ArraySource:
    """Return the channels of an image, CYX, as a source."""
    if len(pixels) == 1:
        return ArraySource(pixels[0])
    return ArraySource(pixels, channels=len(pixels))
