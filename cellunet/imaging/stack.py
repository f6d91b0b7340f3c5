"""What an image file holds, in the file's own words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellunet.errors import ImageReadError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Stack:
    """What a file holds, in the file's own words."""

    path: Path
    """The file, for messages."""
    axes: str
    """One letter an axis, in storage order, as tifffile names them."""
    shape: tuple[int, ...]
    """Lengths of `axes`."""
    colour: bool = False
    """The samples are red, green, blue and possibly alpha."""
    indexed: bool = False
    """The values number the colors of a palette."""
    alpha: bool = False
    """The last sample is opacity."""
    channel_names: tuple[str, ...] = ()
    """Names of the channels as far as the file gives them."""

    def refuse(self, what: str, hint: str) -> ImageReadError:
        """Return an error that starts with the path and the axes of length above 1."""
        axes = "".join(a for a, n in self._named() if n > 1 or a in "YX")
        return ImageReadError(
            f"{self.path} has {len(axes)} axes ({axes}) {what}", hint=hint
        )

    def _named(self) -> list[tuple[str, int]]:
        return list(zip(self.axes, self.shape, strict=True))

    def leading(self) -> tuple[list[tuple[str, int, int]], int]:
        """Return (axis, length, stride) of the leading axes, and interleaved samples.

        Axes of length 1 are left out. A stride counts stored planes.
        """
        rows = self.axes.find("YX")
        if rows < 0 or self.axes[rows:] not in ("YX", "YXS"):
            raise self.refuse(
                "in an order that cellunet does not know.",
                "Save it with Y and X as the last two axes.",
            )
        named = self._named()
        samples = self.shape[-1] if self.axes.endswith("S") else 1
        leading, stride = [], 1
        for axis, length in reversed(named[:rows]):
            if length != 1:
                leading.append((axis, length, stride))
            stride *= length
        return leading[::-1], samples

    def intensities(self, axis: str, length: int) -> int:
        """Return how many channels of intensity an axis C or S of `length` holds."""
        if axis == "S" and self.colour:
            return 3
        return length - 1 if axis == "S" and self.alpha else length
