"""Smaller versions of an image in its own file: the levels of a pyramid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellunet.errors import ImageReadError

if TYPE_CHECKING:
    from pathlib import Path

Shape = tuple[int, int]
PixelSize = tuple[float, float]


def choose_level(path: Path, level: int, shapes: list[Shape]) -> int:
    """Return `level` if the file has it.

    Parameters
    ----------
    path
        The file, for the message.
    level
        Number of the level; 0 is the image at full size.
    shapes
        Height and width of the image at each level.

    Raises
    ------
    ImageReadError
        If there is no such level.
    """
    if not 0 <= level < len(shapes):
        known = ", ".join(f"{k} ({h} x {w})" for k, (h, w) in enumerate(shapes))
        count = f"{len(shapes)} levels" if len(shapes) > 1 else "1 level"
        raise ImageReadError(
            f"{path} has no level {level}; it has {count}: {known}.",
            hint="Choose one of them with --level, or rescale with --scale.",
        )
    return level


def at_level(full: Shape, level: Shape, pixel_size: PixelSize) -> PixelSize:
    """Return the size of a pixel of a smaller version.

    Writers that halve an image drop or double an odd last row, so a whole number that
    fits both lengths up to one pixel goes before their ratio.

    Parameters
    ----------
    full, level
        Height and width of the image and of its smaller version.
    pixel_size
        Height and width of a pixel of the image.

    Examples
    --------
    >>> at_level((1001, 800), (500, 400), (0.5, 0.5))
    (1.0, 1.0)
    """
    height, width = (_factor(n, m) for n, m in zip(full, level, strict=True))
    return pixel_size[0] * height, pixel_size[1] * width


def _factor(full: int, level: int) -> float:
    factor = max(round(full / level), 1)
    fits = abs(full - factor * level) < factor
    return float(factor) if fits else full / level
