"""What a reader and a writer of images are to the rest of the package.

A `Source` is one file seen as a stack of planes and read by `Region`; a `Sink` takes
labels row by row and makes the file appear only when it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt

    from cellunet.imaging.cut import Cut
    from cellunet.imaging.damage import Damage

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
    def cut_from(self) -> Cut | None:
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

    def commit(self) -> None:
        """Make the complete file appear under its name."""
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
