"""The pixels of an annotation file, exactly as they were drawn.

An image may be rescaled, projected or taken channel by channel; an annotation may
not: one plane, or nothing. Hence a reader of its own.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from cellunet.errors import AnnotationError, ImageReadError
from cellunet.imaging.damage import KEEP_GOING, DamageLog
from cellunet.imaging.native.isolated import decode_png
from cellunet.imaging.reading import kind_by_content, reading
from cellunet.imaging.tiff.checks import check_codec, check_pixels
from cellunet.imaging.tiff.directories import scan_directories
from cellunet.imaging.tiff.segments import SeriesReader

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

LOSSY = {"OJPEG", "JPEG", "JPEG_LOSSY", "JPEG_2000_LOSSY", "JPEGXR_NDPI"}
MAX_PIXELS = 2**30
"""Labels and their components need some 16 bytes a pixel: 16 GiB at this size."""


def read_pixels(path: Path) -> npt.NDArray[Any]:
    """Read the one plane of a PNG or TIFF file, told apart by their content.

    Returns
    -------
    ndarray
        YX, or YXC for 2 to 4 colour channels that differ, the last of 2 or 4 being
        alpha. Channels that are all the same are returned as one.

    Raises
    ------
    AnnotationError
        If the file is missing, empty, truncated or of another kind, if its header
        claims more pixels than can be labels, or if it has several planes.
    """
    try:
        with reading(path):
            pixels = _without_equal_channels(_read(path))
    except ImageReadError as error:
        # No part of an annotation is left out on request.
        hint = "Export it again." if error.hint == KEEP_GOING else error.hint
        raise AnnotationError(error.message, hint=hint) from error
    if pixels.ndim == 3 and (pixels.shape[2] > 4 or pixels.dtype.itemsize > 2):
        raise AnnotationError(
            f"{path} has {pixels.shape[2]} channels of {pixels.dtype}; a coloured "
            "annotation has 3, or 4 with alpha, of 8 or 16 bits.",
            hint="Number the objects in an image of one channel.",
        )
    return pixels


def _read(path: Path) -> npt.NDArray[Any]:
    with path.open("rb") as file:
        head = file.read(32)
    if not head:
        raise AnnotationError(
            f"{path} is empty (0 bytes).", hint="Copy or export it again."
        )
    kind = kind_by_content(head)
    if kind == "TIFF":
        return _read_tiff(path)
    if kind == "PNG":
        return _read_png(path)
    lossy = ", whose compression changes ids" if kind == "JPEG" else ""
    raise AnnotationError(
        f"{path} holds {kind or 'no image'}{lossy}; an annotation is TIFF or PNG.",
        hint="Export it again as PNG or TIFF.",
    )


def _read_png(path: Path) -> npt.NDArray[Any]:
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    _check_size(path, (height, width))
    return decode_png(content, 8 * width * height)


def _read_tiff(path: Path) -> npt.NDArray[Any]:
    scan_directories(path, path.stat().st_size)
    # Nothing that its metadata names elsewhere is opened.
    with tifffile.TiffFile(path, _multifile=False) as tiff:
        planes = [(series.axes, series.shape) for series in tiff.series]
        axes, shape = _one_plane(path, planes)
        compression = tiff.pages[0].compression.name
        if compression in LOSSY:
            raise AnnotationError(
                f"{path} is stored with lossy {compression} compression, which changes "
                "ids.",
                hint="Export it again without compression, or with deflate or LZW.",
            )
        _check_size(path, shape)
        pixels = _planes(path, tiff.series[0]).reshape(shape)
    return np.moveaxis(pixels, 0, -1) if axes == "SYX" else pixels


def _planes(path: Path, series: tifffile.TiffPageSeries) -> npt.NDArray[Any]:
    """Return the stored planes of a series, colours apart or interleaved."""
    check_pixels(path, series.keyframe)
    check_codec(path, series.keyframe)
    reader = SeriesReader(path, series, DamageLog(path, keep_going=False))
    rows, columns = (0, reader.grid.length), (0, reader.grid.width)
    count = math.prod(series.shape) // (reader.grid.length * reader.grid.row_values)
    return np.stack([reader.read(k, rows, columns) for k in range(count)])


def _one_plane(
    path: Path, planes: list[tuple[str, tuple[int, ...]]]
) -> tuple[str, tuple[int, ...]]:
    """Return axes and shape of the only plane, axes of length 1 left out."""
    if not planes or not planes[0][1]:
        raise AnnotationError(
            f"{path} is a TIFF file without an image.", hint="Export it again."
        )
    axes, shape = planes[0]
    kept = [(a, n) for a, n in zip(axes, shape, strict=True) if n > 1 or a in "YX"]
    axes, shape = "".join(a for a, _ in kept), tuple(n for _, n in kept)
    if len(planes) > 1 or axes not in ("YX", "YXS", "SYX"):
        found = "; ".join(f"{a} {' x '.join(map(str, n))}" for a, n in planes[:4])
        raise AnnotationError(
            f"{path} holds more than one plane ({found}); an annotation is one plane.",
            hint="Save each plane as a file of its own, beside its image.",
        )
    return axes, shape


def _check_size(path: Path, shape: tuple[int, ...]) -> None:
    count = math.prod(shape)
    if count > MAX_PIXELS:
        raise AnnotationError(
            f"{path} claims {' x '.join(map(str, shape))} pixels in a file of "
            f"{path.stat().st_size:,} bytes; annotations of up to {MAX_PIXELS:,} "
            "pixels are read whole.",
            hint="Export it again, or cut it into smaller fields.",
        )


def _without_equal_channels(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a grey image that was saved in colour as one channel."""
    if pixels.ndim == 2:
        return pixels
    alpha = pixels[..., -1] if pixels.shape[2] in (2, 4) else pixels[:1, :1, 0]
    colours = pixels[..., :-1] if pixels.shape[2] in (2, 4) else pixels
    if alpha.min() == alpha.max() and (colours == colours[..., :1]).all():
        return colours[..., 0]
    return pixels
