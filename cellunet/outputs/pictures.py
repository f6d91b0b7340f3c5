"""Pictures for people: outlines over images, thumbnails, previews.

A small plane is enlarged and drawn whole (`draw_outlines`); of a large one, which is
drawn at its own size, only one band of rows is held at a time.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

import imagecodecs
import numpy as np

from cellunet.errors import ConfigError
from cellunet.imaging.normalize import percentile_span
from cellunet.imaging.pieces import PIECE_PX, pieces
from cellunet.imaging.targets import (
    SCRIBBLED_BACKGROUND,
    SCRIBBLED_INTERIOR,
)
from cellunet.io.files import StreamedFile, writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.config import NormalizationConfig
    from cellunet.io.source import Statistics

    Rgb = tuple[int, int, int]

# Of the palette of Okabe and Ito (2008), which eyes of all kinds tell apart; these two
# also differ from gray and in lightness, and white shows where both lines agree.
TRUTH: Rgb = (86, 180, 233)

PREDICTION: Rgb = (230, 159, 0)

AGREEMENT: Rgb = (255, 255, 255)

PAPER: Rgb = (255, 255, 255)

LINES_PX = 1400
"""Below lines, images are enlarged by the largest whole factor up to this side."""

PREVIEW_PX = 700
"""The same below colors, which need less room than lines."""

MAX_ENLARGEMENT = 16

LINE_GRAY = 0.65
"""White of the image below lines, so that lines are brighter than any nucleus."""

GAMMA = 0.7
"""Exponent that lifts dim nuclei beside bright ones without showing the noise."""

MAX_PREVIEW_PX = 2048
"""Previews of larger images are thinned to this side: they are looked at, not used."""

FILL_OPACITY = 0.45

HATCH: Rgb = (120, 120, 120)

GAP_PX = 6
"""Between panels."""

HATCH_PX = 16
"""Distance between the lines over what is not annotated."""


def outlines(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return the inner outlines of all objects, one pixel wide.

    A pixel is outline if it belongs to an object and one of its four neighbors has
    another label: where two objects touch, both have an outline. The frame of the
    image is no neighbor, so that objects it cuts stay open there.

    Parameters
    ----------
    labels
        YX, integer: 0 background.

    Returns
    -------
    ndarray
        YX, bool.

    Examples
    --------
    >>> outlines(np.array([[0, 1, 1, 1, 2]])).astype(int)
    array([[0, 1, 0, 1, 1]])
    """
    edge = np.zeros(labels.shape, np.bool_)
    for axis in (0, 1):
        ahead = np.moveaxis(labels, axis, 0)
        line = np.moveaxis(edge, axis, 0)
        differs = ahead[1:] != ahead[:-1]
        line[1:] |= differs
        line[:-1] |= differs
    inner: npt.NDArray[np.bool_] = edge & (labels != 0)
    return inner


def stretch(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return `image` as 8-bit gray between two percentiles, dark parts lifted.

    The 1st percentile of the finite values becomes black, the 99.8th white. Pixels that
    are not finite are black; so is a constant image.

    Parameters
    ----------
    image
        YX, any real type.

    Returns
    -------
    ndarray
        YX, uint8.
    """
    values = image.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(image.shape, np.uint8)
    dark, bright = np.percentile(values[finite], (1.0, 99.8))
    if bright <= dark:
        dark, bright = values[finite].min(), values[finite].max()
    return gray_between(image, dark, bright)


def gray_between(
    image: npt.NDArray[Any], dark: float, bright: float
) -> npt.NDArray[np.uint8]:
    """Return `image` as 8-bit gray, `dark` black, `bright` white, the middle lifted.

    Parameters
    ----------
    image
        YX, any real type; pixels that are not finite are black.
    dark, bright
        Values; if `bright` is not above `dark`, everything above both is white.

    Returns
    -------
    ndarray
        YX, uint8.
    """
    values = image.astype(np.float64)
    values[~np.isfinite(values)] = dark
    span = bright - dark if bright > dark else 1.0
    gray = np.clip((values - dark) / span, 0, 1) ** GAMMA
    stretched: npt.NDArray[np.uint8] = np.rint(255 * gray).astype(np.uint8)
    return stretched


def enlargement(shape: tuple[int, ...], side_px: int) -> int:
    """Return the largest whole factor that keeps `shape` within `side_px`, or 1."""
    return int(np.clip(side_px // max(*shape, 1), 1, MAX_ENLARGEMENT))


def draw_outlines(
    image: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    *,
    color: Rgb = TRUTH,
    other: npt.NDArray[Any] | None = None,
    other_color: Rgb = PREDICTION,
) -> npt.NDArray[np.uint8]:
    """Return an image in gray with the outlines of objects in color.

    Images below half of `LINES_PX` a side are enlarged first, by a whole factor, so
    that a line one pixel wide follows the pixels exactly and hides little of them.

    Parameters
    ----------
    image
        YX, any real type.
    labels
        YX, integer, of the shape of `image`.
    color
        Red, green and blue of its outlines.
    other
        A second labeling, drawn in `other_color`; where the lines of both coincide
        they are white.

    Returns
    -------
    ndarray
        YXC, uint8, three channels.

    Raises
    ------
    ConfigError
        If the arrays are no planes of one shape.
    """
    shapes = {np.shape(a) for a in (image, labels, other) if a is not None}
    if len(shapes) > 1 or any(len(shape) != 2 for shape in shapes):
        raise ConfigError(
            f"Outlines cannot be drawn: shapes {sorted(shapes)} are given.",
            hint="Give one plane, and labels of its shape.",
        )
    factor = enlargement(image.shape, LINES_PX)
    gray = np.rint(LINE_GRAY * stretch(image)).astype(np.uint8)
    canvas = _rgb(_enlarge(gray, factor))
    first = outlines(_enlarge(labels, factor))
    canvas[first] = color
    if other is not None:
        second = outlines(_enlarge(other, factor))
        canvas[second] = other_color
        canvas[first & second] = AGREEMENT
    return canvas


def color_objects(
    labels: npt.NDArray[Any], *, image: npt.NDArray[Any] | None = None
) -> npt.NDArray[np.uint8]:
    """Return objects filled with a color that follows from their id, outlined.

    Parameters
    ----------
    labels
        YX, integer.
    image
        YX: shown in gray, the colors laid over it thinly; without it objects are
        opaque on black.

    Returns
    -------
    ndarray
        YXC, uint8, three channels; enlarged as in `draw_outlines`.
    """
    factor = enlargement(labels.shape, PREVIEW_PX)
    large = _enlarge(labels, factor)
    fill = id_colors(large)
    edge = outlines(large)
    if image is None:
        fill[edge] = fill[edge] // 2
        return fill
    canvas = _rgb(_enlarge(stretch(image), factor))
    inside = large != 0
    mixed = (1 - FILL_OPACITY) * canvas[inside] + FILL_OPACITY * fill[inside]
    canvas[inside] = np.rint(mixed).astype(np.uint8)
    canvas[edge] = fill[edge]
    return canvas


def id_colors(labels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return a color per pixel that depends on its id alone, black for 0.

    Hues follow the golden ratio, which keeps any run of consecutive ids as far apart
    as possible; three lightnesses tell close hues apart.

    Parameters
    ----------
    labels
        Any shape, integer.

    Returns
    -------
    ndarray
        The shape of `labels` and a last axis of three, uint8.
    """
    ids, index = np.unique(labels, return_inverse=True)
    hue = (ids * 0.6180339887498949) % 1.0
    value = np.array([1.0, 0.85, 1.0])[ids % 3]
    saturation = np.array([0.9, 0.95, 0.6])[ids % 3]
    # HSV to RGB by the piecewise-linear form: f(n) = v - v s max(0, min(k, 4 - k, 1)).
    k = (np.array([5.0, 3.0, 1.0]) + 6 * hue[:, None]) % 6
    ramp = np.clip(np.minimum(k, 4 - k), 0, 1)
    rgb = value[:, None] * (1 - saturation[:, None] * ramp)
    palette = np.rint(255 * rgb).astype(np.uint8)
    palette[ids == 0] = 0
    colored: npt.NDArray[np.uint8] = palette[index.reshape(labels.shape)]
    return colored


def preview(
    image: npt.NDArray[Any] | None,
    labels: npt.NDArray[Any],
    *,
    annotated: npt.NDArray[np.bool_] | None = None,
    scribbles: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """Return a picture to judge an annotation by.

    Parameters
    ----------
    image
        YX, any real type, or None if there is only the annotation.
    labels
        YX, integer, of the shape of `image`.
    annotated
        YX, False on pixels that are not annotated, which are hatched; None: nowhere.
    scribbles
        YX, of `cellunet.annotations.pixels`, drawn on top; None: there are none.

    Returns
    -------
    ndarray
        YXC, uint8: the image beside the same with its objects colored; without an
        image the colored objects alone. Longest side at most about
        `MAX_PREVIEW_PX` a panel.
    """
    step = -(-max(*labels.shape, 1) // MAX_PREVIEW_PX)
    labels = labels[::step, ::step]
    if annotated is not None:
        annotated = annotated[::step, ::step]
    if scribbles is not None:
        scribbles = scribbles[::step, ::step]
    if image is None:
        return _scribbled(_hatched(color_objects(labels), annotated), scribbles)
    image = image[::step, ::step]
    plain = _rgb(_enlarge(stretch(image), enlargement(image.shape, PREVIEW_PX)))
    wide = labels.shape[1] > 2 * labels.shape[0]
    colored = _hatched(color_objects(labels, image=image), annotated)
    colored = _scribbled(colored, scribbles)
    return contact_sheet([plain, colored], 1 if wide else 2)


def _hatched(
    picture: npt.NDArray[np.uint8], annotated: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.uint8]:
    """Return a picture with diagonal lines over what is not annotated."""
    if annotated is None:
        return picture
    left_out = ~_enlarge(annotated, picture.shape[0] // max(annotated.shape[0], 1))
    y, x = np.ogrid[: picture.shape[0], : picture.shape[1]]
    lines: npt.NDArray[np.bool_] = left_out & ((y + x) % HATCH_PX < HATCH_PX // 4)
    picture = picture.copy()
    picture[left_out] //= 2
    picture[lines] = HATCH
    return picture


def _scribbled(
    picture: npt.NDArray[np.uint8], scribbles: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.uint8]:
    """Return a picture with scribbles in colors of their own."""
    if scribbles is None:
        return picture
    large = _enlarge(scribbles, picture.shape[0] // max(scribbles.shape[0], 1))
    picture = picture.copy()
    picture[large == SCRIBBLED_BACKGROUND] = TRUTH
    picture[large == SCRIBBLED_INTERIOR] = PREDICTION
    return picture


def contact_sheet(
    panels: Sequence[npt.NDArray[np.uint8]], columns: int
) -> npt.NDArray[np.uint8]:
    """Return several pictures in rows, each at the upper left of a cell of one size.

    Parameters
    ----------
    panels
        YXC, uint8, three channels, of any sizes; at least one.
    columns
        Panels per row.

    Returns
    -------
    ndarray
        YXC, uint8, three channels.
    """
    rows = -(-len(panels) // columns)
    height = max(p.shape[0] for p in panels) + GAP_PX
    width = max(p.shape[1] for p in panels) + GAP_PX
    shape = (rows * height - GAP_PX, columns * width - GAP_PX, 3)
    sheet = np.full(shape, PAPER, np.uint8)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        top, left = row * height, column * width
        sheet[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
    return sheet


def _enlarge(pixels: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    if factor == 1:
        return pixels
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _rgb(gray: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.repeat(gray[..., None], 3, axis=2)


SIDE_PX = 256
"""Longest side. Nuclei of 20 px in a field of 696 are then 7 px wide, and their
outlines can be told apart."""

QUALITY = 50
"""Of WebP. At 40, 50 and 75 a picture takes 4.5, 5.2 and 7.0 kB (median of 51 fields,
``python -m benchmarks.report --pictures``); the eye sees no difference."""

GRAY = 0.8
"""White of the image below outlines, so that these are brighter."""


class Thumbnail:
    """Take a plane's rows, top to bottom, and make a picture of them.

    The image is averaged over squares of whole pixels; the outlines are those of the
    full resolution, each square as strongly colored as a line crosses it. In memory
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
        self._gray = np.zeros(self._shape)
        self._lines = np.zeros(self._shape)
        self._pixels = np.zeros(self._shape)
        self._y = 0
        self._before = np.zeros((0, 0), np.uint32)
        """The row whose outline is pending, and the one above it if there is."""

    def add(self, pixels: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
        """Take the next rows of image and labels, YX both."""
        if self._larger > 1:
            pixels, labels = (_enlarge(a, self._larger) for a in (pixels, labels))
        for rows, columns in pieces(pixels.shape, self._piece):
            values = np.nan_to_num(
                pixels[rows, columns].astype(np.float64),
                nan=self._low,
                posinf=self._low,
                neginf=self._low,
            )
            gray = np.clip((values - self._low) / self._span, 0, 1) ** GAMMA
            corner = self._y + rows.start, columns.start
            self._sum(self._gray, corner, gray)
            self._sum(self._pixels, corner, np.ones_like(gray))
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
        gray = 255 * GRAY * self._gray / count
        # A line one pixel wide covers 1 / factor of a square that it crosses.
        cover = np.clip(self._lines / count * self._factor, 0, 1)[..., np.newaxis]
        color = np.array(PREDICTION, np.float64)
        mixed = gray[..., np.newaxis] * (1 - cover) + color * cover
        picture = np.rint(mixed).astype(np.uint8)
        encoded = imagecodecs.webp_encode(picture, level=QUALITY, lossless=False)
        return bytes(encoded), (picture.shape[1], picture.shape[0])


PNG_LEVEL = 6
"""Of deflate."""


class PngRows(StreamedFile):
    """A PNG in 8-bit color whose rows come from top to bottom.

    Portable Network Graphics (ISO/IEC 15948:2003): chunks IHDR, IDAT and IEND; every
    row without a filter. With its last row the file is closed, so that those of many
    planes may wait for their `commit`.

    Parameters
    ----------
    path
        Where it is to appear.
    shape
        Height and width in pixels.
    """

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self._height, self._width = shape
        self._done = 0
        self._packer = zlib.compressobj(PNG_LEVEL)
        header = struct.pack(">IIBBBBB", self._width, self._height, 8, 2, 0, 0, 0)

        def begin(temporary: Path) -> BinaryIO:
            file = temporary.open("wb")
            file.write(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header))
            return file

        super().__init__(path, begin)

    def write(self, rows: npt.NDArray[np.uint8]) -> None:
        """Append rows, YXC of three channels."""
        filtered = np.zeros((len(rows), 1 + 3 * self._width), np.uint8)
        filtered[:, 1:] = rows.reshape(len(rows), -1)
        self._done += len(rows)
        packed = self._packer.compress(filtered.tobytes())
        with writing(self._pending.path):
            if packed:
                self._file.write(_chunk(b"IDAT", packed))
            if self._done == self._height:
                self._file.write(_chunk(b"IDAT", self._packer.flush()))
                self._file.write(_chunk(b"IEND", b""))
                self._file.close()
                # It holds a quarter of a MiB.
                del self._packer

    def commit(self) -> None:
        """Make the complete file appear."""
        if self._done != self._height:
            raise ValueError(f"{self._done} of {self._height} rows were written")
        super().commit()


def _chunk(name: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


class OutlinePicture:
    """One plane in gray with the outlines of its objects, rows from top to bottom.

    Parameters
    ----------
    path
        Where the PNG is to appear.
    shape
        Height and width of the plane.
    limits
        Values that become black and white where the plane is drawn band by band.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int], limits: tuple[float, float]
    ) -> None:
        self._limits, self._left = limits, shape[0]
        factor = enlargement(shape, LINES_PX)
        self._whole = factor > 1
        self._rows = PngRows(path, (factor * shape[0], factor * shape[1]))
        self._kept: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
        self._above = 0
        """Rows at the start of what is kept that were drawn already."""

    def write(self, image: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
        """Take the next rows of both, YX."""
        self._kept.append((image, labels))
        self._left -= len(labels)
        if self._whole and self._left:
            return
        image, labels = (np.concatenate(part) for part in zip(*self._kept, strict=True))
        if self._whole:
            self._rows.write(draw_outlines(image, labels))
            self._kept = []
            return
        # The last row waits for the one below it, and stays for the one after that.
        end = len(labels) - bool(self._left)
        if end > self._above:
            self._rows.write(self._drawn(image, labels, end))
        keep = max(len(labels) - 2, 0) if self._left else len(labels)
        self._above = min(len(labels) - 1, 1)
        self._kept = [(image[keep:].copy(), labels[keep:].copy())]

    def _drawn(
        self, image: npt.NDArray[Any], labels: npt.NDArray[Any], end: int
    ) -> npt.NDArray[np.uint8]:
        gray = gray_between(image[self._above : end], *self._limits)
        canvas = _rgb(np.rint(LINE_GRAY * gray).astype(np.uint8))
        canvas[outlines(labels)[self._above : end]] = TRUTH
        return canvas

    def commit(self) -> None:
        """Make the picture appear."""
        self._rows.commit()

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        self._rows.abort()
