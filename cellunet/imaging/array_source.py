"""An array as a `cellunet.imaging.source.Source`, for images that are in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellunet.errors import ImageReadError
from cellunet.imaging.source import Origin

if TYPE_CHECKING:
    from types import TracebackType

    import numpy.typing as npt

    from cellunet.imaging.cut import Cut
    from cellunet.imaging.damage import Damage
    from cellunet.imaging.source import Region


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
    cut_from: Cut | None = None
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
        """Return a region; see `cellunet.imaging.source.Source`."""
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
