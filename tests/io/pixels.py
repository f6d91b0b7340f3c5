"""Small files, what is read of them, and which of their pieces are decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tifffile

from cellunet.io.images import open_image
from cellunet.io.source import Region
from cellunet.io.tiff_pixels import SeriesReader

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pytest

    from cellunet.io.source import Source


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    """Write a TIFF, gray unless told otherwise."""
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **options})
    return path


def whole(source: Source, plane: int = 0) -> np.ndarray:
    """Return the first channel of a plane, YX."""
    height, width = source.shape
    return source.read(Region(plane, 0, height, 0, width))[0]


def read(path: Path, plane: int = 0, **options: object) -> np.ndarray:
    """Return the first channel of a plane of a file, YX."""
    with open_image(path, **options) as source:
        return whole(source, plane)


def decoded_pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of the strips or tiles that are decoded from now on."""
    decoded: list[int] = []
    decode = SeriesReader._decode
    monkeypatch.setattr(
        SeriesReader,
        "_decode",
        lambda self, page, them: decoded.extend(them) or decode(self, page, them),
    )
    return decoded
