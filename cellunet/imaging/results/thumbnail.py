"""A small picture of a plane with outlines, made band by band."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

from cellunet.imaging.normalize import percentile_span
from cellunet.imaging.overlay import GAMMA, PREDICTION, enlargement, outlines
from cellunet.imaging.pieces import PIECE_PX, pieces

if TYPE_CHECKING:
    import numpy.typing as npt

    from cellunet.config import NormalizationConfig
    from cellunet.imaging.intensities import Statistics

SIDE_PX = 256
"""Longest side. Nuclei of 20 px in a field of 696 are then 7 px wide, and their
outlines can be told apart."""
QUALITY = 50
"""Of WebP. At 40, 50 and 75 a picture takes 4.5, 5.2 and 7.0 kB (median of 51 fields,
``python -m benchmarks.report --pictures``); the eye sees no difference."""
GREY = 0.8
"""White of the image below outlines, so that these are brighter."""


class Thumbnail:
    """Take a plane's rows, top to bottom, and make a picture of them.

    The image is averaged over squares of whole pixels; the outlines are those of the
    full resolution, each square as strongly coloured as a line crosses it. In memory
    is the picture, and the band at hand.

    Parameters
    ----------
    shape
        Height and width of the plane.
    statistics
        Of the whole plane: they say what is black and white.
    config
        As the model was trained: the range shown is the one that it sees, so that an
        empty field looks empty, and nuclei beside bright dirt are seen.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        statistics: Statistics,
        config: NormalizationConfig,
    ) -> None:
        self._factor = math.ceil(max(shape) / SIDE_PX)
        # Where a row is cut, it is cut between two squares.
        self._piece = max(PIECE_PX // self._factor, 1) * self._factor
        self._larger = enlargement(shape, SIDE_PX) if self._factor == 1 else 1
        self._low = statistics.low
        self._span = percentile_span(statistics, config) or 1.0
        self._shape = tuple(math.ceil(n * self._larger / self._factor) for n in shape)
        self._grey = np.zeros(self._shape)
        self._lines = np.zeros(self._shape)
        self._pixels = np.zeros(self._shape)
        self._y = 0
        self._before = np.zeros((0, 0), np.uint32)
        """The row whose outline is pending, and the one above it if there is."""

    def add(self, pixels: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
        """Take the next rows of image and labels, YX both."""
        if self._larger > 1:
            pixels, labels = (_enlarged(a, self._larger) for a in (pixels, labels))
        for rows, columns in pieces(pixels.shape, self._piece):
            values = np.nan_to_num(
                pixels[rows, columns].astype(np.float64),
                nan=self._low,
                posinf=self._low,
                neginf=self._low,
            )
            grey = np.clip((values - self._low) / self._span, 0, 1) ** GAMMA
            corner = self._y + rows.start, columns.start
            self._sum(self._grey, corner, grey)
            self._sum(self._pixels, corner, np.ones_like(grey))
        known = np.concatenate([self._before, labels]) if self._y else labels
        # Whether the last row is outline is known when the next one is.
        self._draw(known, len(known) - 1)
        self._y += len(labels)
        self._before = known[-2:].copy()

    def _draw(self, known: npt.NDArray[Any], stop: int) -> None:
        """Draw rows of `known` up to `stop`; the first of two kept rows is drawn."""
        start = max(len(self._before) - 1, 0)
        if stop > start:
            first = self._y - len(self._before)
            lines = outlines(known)[start:stop]
            for rows, columns in pieces(lines.shape, self._piece):
                corner = first + start + rows.start, columns.start
                self._sum(self._lines, corner, lines[rows, columns].astype(np.float64))

    def _sum(
        self,
        cells: npt.NDArray[np.float64],
        corner: tuple[int, int],
        values: npt.NDArray[np.float64],
    ) -> None:
        """Add values to the squares that they lie in; `corner` is the first one's."""
        columns = np.arange(0, values.shape[1], self._factor)
        across = np.add.reduceat(values, columns, axis=1)
        rows = np.arange(corner[0], corner[0] + len(values))
        first = corner[1] // self._factor
        there = cells[:, first : first + len(columns)]
        np.add.at(there, rows // self._factor, across)

    def encode(self) -> tuple[bytes, tuple[int, int]]:
        """Return the picture as WebP, and its width and height."""
        self._draw(self._before, len(self._before))
        count = np.maximum(self._pixels, 1)
        grey = 255 * GREY * self._grey / count
        # A line one pixel wide covers 1 / factor of a square that it crosses.
        cover = np.clip(self._lines / count * self._factor, 0, 1)[..., np.newaxis]
        colour = np.array(PREDICTION, np.float64)
        mixed = grey[..., np.newaxis] * (1 - cover) + colour * cover
        picture = np.rint(mixed).astype(np.uint8)
        encoded = imagecodecs.webp_encode(picture, level=QUALITY, lossless=False)
        return bytes(encoded), (picture.shape[1], picture.shape[0])


def _enlarged(pixels: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
