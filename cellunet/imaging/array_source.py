"""An array as a `cellunet.imaging.source.Source`, for images that are in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellunet.errors import ImageReadError

if TYPE_CHECKING:
    from types import TracebackType

    import numpy.typing as npt

    from cellunet.imaging.cut import Cut
    from cellunet.imaging.damage import Damage
    from cellunet.imaging.source import Region


class ArraySource:
    """One plane of one channel in memory.

    Parameters
    ----------
    plane
        YX, any real type.
    pixel_size_um
        Height and width of a pixel, if known.

    Raises
    ------
    ImageReadError
        If it is no such plane.
    """

    path = Path("array")
    plane_axes = ""
    plane_shape: tuple[int, ...] = ()
    channels = 1
    channel_names = ("0",)
    file_channels = ("0",)
    cut_from: Cut | None = None
    memory_note = ""
    damaged: tuple[Damage, ...] = ()

    def __init__(
        self,
        plane: npt.NDArray[Any],
        pixel_size_um: tuple[float, float] | None = None,
    ) -> None:
        if plane.ndim != 2 or not plane.size:
            raise ImageReadError(
                f"The array is of shape {plane.shape}; one plane of rows and columns "
                "is expected.",
                hint="Take a stack plane by plane, and one channel of several.",
            )
        if plane.dtype.kind not in "buif":
            raise ImageReadError(
                f"The array is {plane.dtype}; real numbers are expected.",
                hint="Convert it, for example with .astype('float32').",
            )
        self.shape: tuple[int, int] = (plane.shape[0], plane.shape[1])
        self._plane = plane.astype(np.uint8) if plane.dtype == np.bool_ else plane
        self.dtype = self._plane.dtype
        self.pixel_size_um = pixel_size_um

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return a region; see `cellunet.imaging.source.Source`."""
        region.check(self.shape, 1)
        part = self._plane[region.y0 : region.y1, region.x0 : region.x1]
        return part[np.newaxis].copy()

    def held_bytes(self, rows: int) -> int:
        """Return 0: the plane is held by whoever gave it."""
        del rows
        return 0

    def read_all(self) -> npt.NDArray[Any]:
        """Return the plane itself, YX."""
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
