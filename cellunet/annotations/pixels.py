"""Read annotations painted as pixels: labels, binary masks, outlines, scribbles.

An image may be rescaled, projected or read one channel at a time; an annotation may
not: it is one plane, or it is refused. So annotations have a reader of their own.

A scribble gives its own pixels a class. It is no object, says nothing of the pixels
around it, and takes no part in scores.
"""

from __future__ import annotations

import contextlib
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from scipy import ndimage

from cellunet.annotations.foreign import refuse_foreign_file
from cellunet.errors import AnnotationError, ImageReadError
from cellunet.imaging.components import components
from cellunet.imaging.targets import (
    NO_SCRIBBLE,
    SCRIBBLED_BACKGROUND,
    SCRIBBLED_INTERIOR,
)
from cellunet.io.decoding import PNG, decode_file
from cellunet.io.images import open_image
from cellunet.io.paths import CELLPOSE
from cellunet.io.source import (
    KEEP_GOING,
    DamageLog,
    DecoderLostError,
    DecodingError,
    Region,
    kind_by_content,
    reading,
)
from cellunet.io.tiff_checks import scan_directories
from cellunet.io.tiff_pixels import SeriesReader
from cellunet.io.zarr_store import is_zarr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.annotations.types import Annotation

    _PlaneReader = Callable[[int], npt.NDArray[Any]]

LOSSY = {"OJPEG", "JPEG", "JPEG_LOSSY", "JPEG_2000_LOSSY", "JPEGXR_NDPI"}

_ARRAY = b"\x93NUMPY"
"""First bytes of NumPy's arrays."""

MAX_PIXELS = 2**30
"""Labels and their components need some 16 bytes a pixel: 16 GiB at this size."""


def read_pixels(path: Path, plane: int | None = None) -> npt.NDArray[Any]:
    """Read the one plane of a PNG or TIFF file, distinguished by content.

    Parameters
    ----------
    path
        The file.
    plane
        Number of the plane to read of a TIFF of several; None: there is one.

    Returns
    -------
    ndarray
        YX, or YXC for 2 to 4 color channels that differ, the last of 2 or 4 being
        alpha. Channels that are all the same are returned as one, whole numbers in
        floating point as integers, and of a PNG with a palette its indices, where
        these number the objects.

    Raises
    ------
    AnnotationError
        If the file is missing, empty, truncated or of another kind, if its header
        claims more pixels than can be labels, or if it has several planes.
    """
    with _reading(path):
        pixels = _as_integers(_without_equal_channels(_read(path, plane)))
    if pixels.ndim == 3 and (pixels.shape[2] > 4 or pixels.dtype.itemsize > 2):
        raise AnnotationError(
            f"{path} has {pixels.shape[2]} channels of {pixels.dtype}; a colored "
            "annotation has 3, or 4 with alpha, of 8 or 16 bits.",
            hint="Number the objects in an image of one channel.",
        )
    return pixels


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        with reading(path):
            yield
    except ImageReadError as error:
        # No part of an annotation is left out on request.
        hint = "Export it again." if error.hint == KEEP_GOING else error.hint
        raise AnnotationError(error.message, hint=hint) from error


def planes_with_objects(path: Path, count: int) -> list[int]:
    """Return which of so many planes of a stack are not 0 everywhere.

    Raises
    ------
    AnnotationError
        As of `read_pixels`.
    """
    first = read_pixels(path, 0)  # Refuses what is no stack of labels.
    found = [0] if first.any() else []
    # Opened once: opening looks at all planes.
    with _reading(path), contextlib.ExitStack() as stack:
        read = _zarr_planes(path, stack) if is_zarr(path) else _planes_of(path, stack)
        return found + [k for k in range(1, count) if _as_integers(read(k)).any()]


def _zarr_planes(path: Path, stack: contextlib.ExitStack) -> _PlaneReader:
    source = stack.enter_context(open_image(path))
    height, width = source.shape
    return lambda plane: source.read(Region(plane, 0, height, 0, width))[0]


def _planes_of(path: Path, stack: contextlib.ExitStack) -> _PlaneReader:
    tiff = stack.enter_context(tifffile.TiffFile(path, _multifile=False))
    reader = SeriesReader(path, tiff.series[0], DamageLog(path, keep_going=False))
    rows, columns = (0, reader.grid.length), (0, reader.grid.width)
    return lambda plane: reader.read(plane, rows, columns)


def _read(path: Path, plane: int | None) -> npt.NDArray[Any]:
    if is_zarr(path):
        return _read_zarr(path, plane)
    with path.open("rb") as file:
        head = file.read(32)
    if not head:
        raise AnnotationError(
            f"{path} is empty (0 bytes).", hint="Copy or export it again."
        )
    if head.startswith(_ARRAY) or path.name.lower().endswith(CELLPOSE):
        return _read_array(path)
    kind = kind_by_content(head)
    if kind == "TIFF":
        return _read_tiff(path, plane)
    if kind == "PNG":
        return _read_png(path)
    refuse_foreign_file(path)
    lossy = ", whose compression changes ids" if kind == "JPEG" else ""
    raise AnnotationError(
        f"{path} holds {kind or 'neither an image nor shapes'}{lossy}; label images "
        "are read as TIFF or PNG.",
        hint="Export it again as PNG or TIFF.",
    )


def _read_array(path: Path) -> npt.NDArray[Any]:
    """Return the array in a file of NumPy, axes of length 1 left out."""
    try:
        # Never unpickles: arrays of objects are refused.
        stored = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        made_by = " of Cellpose" if path.name.lower().endswith(CELLPOSE) else ""
        raise AnnotationError(
            f"{path} is a NumPy file{made_by} that holds no plain array, or is cut "
            "off; one that holds objects can run code when it is opened, and is never "
            "read.",
            hint="In Cellpose: File, Save masks as PNG/tif; or on its command line "
            "--save_tif or --save_png. Then keep NAME_cp_masks next to the image.",
        ) from error
    _check_size(path, stored.shape)
    if stored.dtype.kind not in "biuf":
        raise AnnotationError(
            f"{path} holds {stored.dtype.str}; labels are whole numbers.",
            hint="Save the label image itself.",
        )
    shape = stored.shape
    if len(shape) != 2:
        shape = tuple(n for n in shape if n > 1)
    if len(shape) != 2:
        raise AnnotationError(
            f"{path} is an array of {' x '.join(map(str, stored.shape))}; an "
            "annotation is one plane of rows and columns.",
            hint="Save each plane as a file of its own, next to its image.",
        )
    return np.array(stored).reshape(shape)


def _read_zarr(path: Path, plane: int | None) -> npt.NDArray[Any]:
    with open_image(path) as source:
        planes = math.prod(source.plane_shape)
        if plane is None and planes > 1:
            raise AnnotationError(
                f"{path} holds {planes} planes; an annotation is one of them.",
                hint="Save each plane as a file of its own, next to its image.",
            )
        _check_size(path, source.shape)
        region = Region(plane or 0, 0, source.shape[0], 0, source.shape[1])
        pixels: npt.NDArray[Any] = source.read(region)[0]
        return pixels


def _read_png(path: Path) -> npt.NDArray[Any]:
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    _check_size(path, (height, width))
    palette, gray = _without_palette(content)
    if palette is not None:
        # A gray of fewer bits than 8 is stretched to them.
        stretch = 255 // (2 ** content[24] - 1)
        indices: npt.NDArray[Any] = decode_file(PNG, gray, width * height) // stretch
        if _numbers_objects(indices, palette):
            return indices
    return decode_file(PNG, content, 8 * width * height)


VOID = (224, 224, 192)
"""Color of 255 in Pascal VOC's palette: an edge that belongs to no object."""


def void_value(path: Path) -> int | None:
    """Return 255 if a file is a PNG with the palette of Pascal VOC; otherwise None."""
    try:
        with path.open("rb") as file:
            content = file.read(32)
            if kind_by_content(content) != "PNG":
                return None
            content += file.read()
    except OSError:
        return None  # For its reader to say.
    palette, _ = _without_palette(content)
    is_voc = palette is not None and len(palette) > 255 and tuple(palette[255]) == VOID
    return 255 if is_voc else None


def _without_palette(content: bytes) -> tuple[npt.NDArray[np.uint8] | None, bytes]:
    """Return the palette of a PNG, (N, 3), and the same PNG with its indices as gray.

    Both are stored alike; what tells them apart is the color type (PNG specification,
    11.2.2) and the chunks of the palette.
    """
    if len(content) < 33 or content[25] != 3:
        return None, content
    header = content[12:25] + b"\0" + content[26:29]
    kept = [content[:12], header, struct.pack(">I", zlib.crc32(header))]
    palette, place = None, 33
    while place + 8 <= len(content):
        length, name = struct.unpack(">I4s", content[place : place + 8])
        if name == b"IDAT":
            break
        if name == b"PLTE":
            colors = content[place + 8 : place + 8 + length]
            palette = np.frombuffer(colors[: len(colors) // 3 * 3], np.uint8)
        elif name != b"tRNS":
            kept.append(content[place : place + 12 + length])
        place += 12 + length
    if palette is None:
        return None, content
    return palette.reshape(-1, 3), b"".join((*kept, content[place:]))


def _numbers_objects(indices: npt.NDArray[Any], palette: npt.NDArray[np.uint8]) -> bool:
    """Return whether indices are ids, 0 being the background.

    So they are if color 0 is black (Pascal VOC, labelme), if the palette is ImageJ's
    inverted gray, which shows masks black on white, if 0 is what most of the frame of
    the image shows, or if no color that is there is black.
    """
    frame = np.concatenate([indices[0], indices[-1], indices[:, 0], indices[:, -1]])
    inverted = len(palette) == 256 and (palette == np.arange(256)[::-1, None]).all()
    there = np.unique(indices)
    black = ~palette[there[there < len(palette)]].any(axis=1)
    return bool(
        not palette[0].any()
        or inverted
        or np.count_nonzero(frame == 0) > frame.size / 2
        or not black.any()
    )


def _as_integers(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return whole numbers in floating point as integers, if none can be rounded.

    Where nothing is 0, NaN is the background: ImageJ's threshold can leave it so.
    """
    nothing = pixels != pixels
    if nothing.any() and not nothing.all() and pixels.all():
        pixels = np.where(nothing, 0, pixels)
    if pixels.dtype.kind != "f" or not pixels.size or not np.isfinite(pixels).all():
        return pixels
    exact = 2 ** (np.finfo(pixels.dtype).nmant + 1)
    if np.abs(pixels).max() > exact or (pixels != np.rint(pixels)).any():
        return pixels
    return pixels.astype(np.int64)


def decode_bitmap(content: bytes, what: str) -> npt.NDArray[np.bool_]:
    """Return where a PNG that is kept in another file is not 0, YX.

    Raises
    ------
    AnnotationError
        If it is no PNG, has no size that an annotation can have, or is in color.
    """
    if kind_by_content(content[:32]) != "PNG" or len(content) < 33:
        raise AnnotationError(f"{what} is no PNG.", hint="Save the annotation again.")
    width, height = struct.unpack(">II", content[16:24])
    if width * height > MAX_PIXELS:
        raise AnnotationError(f"{what} claims {height:,} x {width:,} pixels.")
    try:
        pixels = decode_file(PNG, content, 8 * width * height)
    except (DecodingError, DecoderLostError) as error:
        raise AnnotationError(
            f"{what} is damaged: {error}.", hint="Save the annotation again."
        ) from error
    if pixels.ndim != 2:
        raise AnnotationError(f"{what} is in color; a mask has one channel.")
    drawn: npt.NDArray[np.bool_] = pixels != 0
    return drawn


def _read_tiff(path: Path, plane: int | None) -> npt.NDArray[Any]:
    scan_directories(path, path.stat().st_size)
    # Nothing that its metadata names elsewhere is opened.
    with tifffile.TiffFile(path, _multifile=False) as tiff:
        planes = [(series.axes, series.shape) for series in tiff.series]
        axes, shape = _one_plane(path, planes, plane)
        compression = tiff.pages[0].compression.name
        if compression in LOSSY:
            raise AnnotationError(
                f"{path} is stored with lossy {compression} compression, which changes "
                "ids.",
                hint="Export it again without compression, or with deflate or LZW.",
            )
        _check_size(path, shape)
        series = tiff.series[0]
        stacked = plane is not None and math.prod(series.shape) > math.prod(shape)
        pixels = _planes(path, series, plane if stacked else None).reshape(shape)
    return np.moveaxis(pixels, 0, -1) if axes == "SYX" else pixels


def _planes(
    path: Path, series: tifffile.TiffPageSeries, plane: int | None
) -> npt.NDArray[Any]:
    """Return the stored planes of a series, colors apart or interleaved, or one."""
    reader = SeriesReader(path, series, DamageLog(path, keep_going=False))
    rows, columns = (0, reader.grid.length), (0, reader.grid.width)
    count = math.prod(series.shape) // (reader.grid.length * reader.grid.row_values)
    numbers = range(count) if plane is None else (plane,)
    return np.stack([reader.read(k, rows, columns) for k in numbers])


def _one_plane(
    path: Path, planes: list[tuple[str, tuple[int, ...]]], plane: int | None
) -> tuple[str, tuple[int, ...]]:
    """Return axes and shape of one plane, axes of length 1 left out."""
    if not planes or not planes[0][1]:
        raise AnnotationError(
            f"{path} is a TIFF file without an image.", hint="Export it again."
        )
    axes, shape = planes[0]
    kept = [(a, n) for a, n in zip(axes, shape, strict=True) if n > 1 or a in "YX"]
    axes, shape = "".join(a for a, _ in kept), tuple(n for _, n in kept)
    if plane is not None and axes[-2:] == "YX":
        axes, shape = axes[-2:], shape[-2:]
    if len(planes) > 1 or axes not in ("YX", "YXS", "SYX"):
        found = "; ".join(f"{a} {' x '.join(map(str, n))}" for a, n in planes[:4])
        raise AnnotationError(
            f"{path} holds more than one plane ({found}); an annotation is one plane.",
            hint="A stack of labels is read with an image of the same planes. If each "
            "plane is one object: save them as files in a folder for each image, "
            "NAME/masks beside NAME/images.",
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
    """Return a gray image that was saved in color as one channel."""
    if pixels.ndim == 2:
        return pixels
    alpha = pixels[..., -1] if pixels.shape[2] in (2, 4) else pixels[:1, :1, 0]
    colors = pixels[..., :-1] if pixels.shape[2] in (2, 4) else pixels
    if alpha.min() == alpha.max() and (colors == colors[..., :1]).all():
        return colors[..., 0]
    return pixels


THIN_PX = 3
"""Half the width of a thin line: no pixel of it is further from its edge."""

THICK_PX = 12
"""Half the width from which on nothing is a line."""


def looks_like_outlines(drawn: npt.NDArray[np.bool_]) -> bool:
    """Return whether a binary image may be outlines: thin, and around larger areas.

    Parameters
    ----------
    drawn
        YX, True where something is drawn.
    """
    if not drawn.any():
        return False
    enclosed = ndimage.binary_fill_holes(drawn) & ~drawn
    if np.count_nonzero(enclosed) <= np.count_nonzero(drawn):
        return False
    return float(ndimage.distance_transform_edt(drawn).max()) <= THIN_PX


def fill_outlines(drawn: npt.NDArray[np.bool_], path: Path) -> npt.NDArray[np.int32]:
    """Return an object for every area that lines enclose.

    The background is the largest area that reaches the frame of the image; other areas
    at the frame are objects that the frame cuts. A line belongs to the nearest object
    next to it, so that neighbors share the line between them. What a line does not
    close is background.

    Parameters
    ----------
    drawn
        YX, True on the lines, which are closed where each pixel of a line has another
        one next to it or across a corner.
    path
        For messages.

    Returns
    -------
    ndarray
        YX, int32, numbered in raster order.

    Raises
    ------
    AnnotationError
        If what is drawn is too thick to be a line.
    """
    inward = ndimage.distance_transform_edt(drawn)
    half = float(inward.max(initial=0.0))
    if half > THICK_PX:
        raise AnnotationError(
            f"{path} holds areas {2 * half:.0f} px thick, which are no outlines.",
            hint="Try: cellunet make-labels --kind binary, or --kind labels.",
        )
    # The default structure joins pixels side by side, so nothing leaks at a corner.
    areas, count = ndimage.label(~drawn)
    areas[_background(areas, count)] = 0
    objects = areas > 0
    if not objects.any():
        return np.zeros(drawn.shape, np.int32)
    distance, nearest = ndimage.distance_transform_edt(~objects, return_indices=True)
    grown = np.where(drawn & (distance <= 2 * half), areas[tuple(nearest)], areas)
    ids = np.unique(grown[grown > 0])
    labels: npt.NDArray[np.int32] = np.searchsorted(ids, grown).astype(np.int32) + 1
    return np.where(grown > 0, labels, 0).astype(np.int32)


def _background(areas: npt.NDArray[Any], count: int) -> npt.NDArray[np.bool_]:
    """Return the largest area at the frame, as pixels."""
    frame = np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]])
    sizes = np.bincount(areas.ravel(), minlength=count + 1)
    at_frame = np.unique(frame[frame > 0])
    if not at_frame.size:
        return np.zeros(areas.shape, np.bool_)
    background: npt.NDArray[np.bool_] = areas == at_frame[sizes[at_frame].argmax()]
    return background


# In 360 annotated images an id is in 1.4 pieces at most and a piece has 58 pixels and
# more on average. Microscope images fall into 60 and more pieces per gray value, or,
# where noise is large and 16-bit values rarely repeat, into pieces of 1 to 3 pixels.
PIECES_PER_ID = 20

PICTURE_PIECE_PX = 4

PICTURE_MIN_PIECES = 200


def recognize(pixels: npt.NDArray[Any]) -> str:
    """Return how `pixels` were drawn: ``labels``, ``binary`` or ``colored``.

    An image of several colors is ``colored``. A single-channel image is ``binary``
    if it is boolean or if its only value besides 0 is 1, 255 or the largest of its
    type: such an image could as well hold one object of that id, but then it is
    nearly always one connected piece and comes out the same. Everything else is
    ``labels``.

    Parameters
    ----------
    pixels
        YX or YXC as `cellunet.annotations.pixels.read_pixels` returns
        them.
    """
    if pixels.ndim == 3:
        return "colored"
    if pixels.dtype == bool:
        return "binary"
    if pixels.dtype.kind not in "iu" or not pixels.size:
        return "labels"
    top = int(pixels.max())
    if top not in (1, 255, np.iinfo(pixels.dtype).max):
        return "labels"
    return "binary" if bool(((pixels == 0) | (pixels == top)).all()) else "labels"


def decode_labels(pixels: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int32]:
    """Take the values as ids, unless they look like gray values."""
    labels = as_ids(pixels, path)
    refuse_picture(labels, path)
    return labels


def as_ids(pixels: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int32]:
    """Take the values as ids, wherever they lie."""
    pixels = _whole_numbers(pixels, path)
    if pixels.ndim != 2:
        raise AnnotationError(
            f"{path} has {pixels.shape[2]} color channels; ids need one channel.",
            hint="If each object has its own color: cellunet make-labels --kind "
            "colored.",
        )
    if pixels.size and pixels.max() > np.iinfo(np.int32).max:
        raise AnnotationError(
            f"{path} holds the id {pixels.max()}; ids up to "
            f"{np.iinfo(np.int32).max} are possible.",
            hint="Number the objects from 1.",
        )
    return pixels.astype(np.int32)


def refuse_picture(labels: npt.NDArray[Any], path: Path, least_ids: int = 1) -> None:
    """Refuse ids that lie about as gray values do, if there are so many of them.

    Raises
    ------
    AnnotationError
        If they do.
    """
    pieces = components(labels).count
    ids = np.unique(labels).size if pieces >= PICTURE_MIN_PIECES else 0
    if not ids or ids < least_ids:
        return
    tiny = np.count_nonzero(labels) < PICTURE_PIECE_PX * pieces
    _refuse_picture(path, pieces, pieces > (2 if tiny else PIECES_PER_ID) * ids)


def decode_binary(pixels: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int32]:
    """Take each piece of everything but 0 as an object."""
    return components(foreground(pixels, path), across_corners=True).labels()


def decode_inverted(pixels: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int32]:
    """Take each piece of 0, or of black, as an object."""
    return components(~foreground(pixels, path), across_corners=True).labels()


def refuse_white_background(drawn: npt.NDArray[np.bool_], path: Path) -> None:
    """Refuse a binary image in which what is drawn looks like the background.

    It does if most of the frame of the image and of what is drawn are one piece, with
    holes in it.

    Parameters
    ----------
    drawn
        YX, True where something is drawn.
    path
        For messages.

    Raises
    ------
    AnnotationError
        If it does.
    """
    frame = np.concatenate([drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]])
    if 2 * np.count_nonzero(frame) <= frame.size:
        return
    pieces = components(drawn, across_corners=True).areas
    holes = ndimage.binary_fill_holes(drawn) & ~drawn
    if 2 * pieces.max() <= pieces.sum() or not holes.any():
        return
    raise AnnotationError(
        f"{path} holds one piece of {pieces.max():,} px that reaches around the image, "
        f"and {np.count_nonzero(~drawn):,} px of 0 or black in it: the background "
        "seems to be white.",
        hint="Say which, and use what it makes: cellunet make-labels --kind inverted "
        "takes what is black for objects, --kind binary what is white. Of files of "
        "one object each: invert them (Fiji: Edit, Invert).",
    )


def decode_colored(pixels: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int32]:
    """Take each piece of one color as an object; black is background.

    This decodes the graph coloring of BBBC039, in which touching nuclei differ, as
    well as images in which every object has a color of its own.
    """
    codes = _color_codes(_whole_numbers(pixels, path))
    if codes.size:
        _refuse_mostly_white(pixels, codes, path)
    pieces = components(codes).count
    drawn = int(np.count_nonzero(codes))
    _refuse_picture(path, pieces, drawn < PICTURE_PIECE_PX * pieces)
    return components(codes, across_corners=True).labels()


def decode_outlines(pixels: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int32]:
    """Take each area that lines enclose as an object; everything but 0 is a line."""
    return fill_outlines(foreground(pixels, path), path)


def _color_codes(pixels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return one number per color, 0 where black or transparent."""
    if pixels.ndim == 2:
        return pixels.astype(np.int64, copy=False)
    colors = pixels[..., : _colors(pixels)]
    bits = 8 * pixels.dtype.itemsize
    codes = np.zeros(pixels.shape[:2], np.int64)
    for channel in range(colors.shape[2]):
        codes |= colors[..., channel].astype(np.int64) << (bits * channel)
    return np.where(_opaque(pixels), codes, 0)


def foreground(pixels: npt.NDArray[Any], path: Path) -> npt.NDArray[np.bool_]:
    """Return what is neither 0, black nor transparent, YX; refuse what is no label."""
    drawn: npt.NDArray[np.bool_] = _color_codes(_whole_numbers(pixels, path)) != 0
    return drawn


def _colors(pixels: npt.NDArray[Any]) -> int:
    """Return the number of channels that are not alpha: 1 of 2, 3 of 4."""
    channels = int(pixels.shape[2])
    return channels - 1 if channels in (2, 4) else channels


def _opaque(pixels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return where alpha is not 0; everywhere if alpha is constant."""
    alpha = pixels[..., -1]
    if _colors(pixels) == pixels.shape[2] or alpha.min() == alpha.max():
        return np.ones(alpha.shape, np.bool_)
    opaque: npt.NDArray[np.bool_] = alpha != 0
    return opaque


def _whole_numbers(pixels: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """Return `pixels` if they can be ids, or refuse them."""
    if pixels.dtype.kind not in "iub":
        raise _float_error(pixels, path)
    if pixels.dtype.kind == "i" and pixels.size and pixels.min() < 0:
        raise AnnotationError(
            f"{path} holds negative values, down to {pixels.min()}; labels are 0 for "
            "background and positive ids.",
            hint="Set the negative pixels to 0, or number the objects from 1; if one "
            "value marks what is not annotated, name it: --ignore-value "
            f"{pixels.min()}.",
        )
    return pixels


def _float_error(pixels: npt.NDArray[Any], path: Path) -> AnnotationError:
    finite = pixels[np.isfinite(pixels)]
    whole = finite.size == pixels.size and bool((pixels == np.rint(pixels)).all())
    span = f"{finite.min():g} to {finite.max():g}" if finite.size else "none finite"
    found = f"{path} holds floating-point values ({pixels.dtype}, {span})"
    if whole:
        exact = 2 ** (np.finfo(pixels.dtype).nmant + 1)
        return AnnotationError(
            f"{found}; ids above {exact:,} are rounded in this type.",
            hint="Number the objects from 1, or save them as integers.",
        )
    return AnnotationError(
        f"{found}; labels are whole numbers.",
        hint="Is it an image or a probability map in place of the annotation?",
    )


def _refuse_picture(path: Path, pieces: int, scattered: bool) -> None:
    if pieces >= PICTURE_MIN_PIECES and scattered:
        raise AnnotationError(
            f"{path} falls into {pieces} pieces of equal value: it looks like an "
            "intensity image or a blurred or lossy copy, not like an annotation.",
            hint="Export the annotation again; or, if everything but 0 is an object, "
            "cellunet make-labels --kind binary makes label images of it.",
        )


def _refuse_mostly_white(
    pixels: npt.NDArray[Any], codes: npt.NDArray[np.int64], path: Path
) -> None:
    values, counts = np.unique(codes, return_counts=True)
    white = np.full((1, 1, *pixels.shape[2:]), np.iinfo(pixels.dtype).max, pixels.dtype)
    if values[counts.argmax()] == _color_codes(white)[0, 0]:
        raise AnnotationError(
            f"{path} is mostly white; black is background.",
            hint="Turn the background black.",
        )


Decoder = Callable[["npt.NDArray[Any]", "Path"], "npt.NDArray[np.int32]"]
"""From the pixels of a file to labels, YX; the path is for messages."""

DECODERS: dict[str, Decoder] = {
    "labels": decode_labels,
    "binary": decode_binary,
    "inverted": decode_inverted,
    "colored": decode_colored,
    "outlines": decode_outlines,
}

RING_PX = 3
"""Without it outlines become far too wide (`docs/annotations.md`)."""


def with_scribbles(
    found: Annotation,
    scribbles: npt.NDArray[np.uint8],
    ignored: npt.NDArray[np.bool_] | None = None,
) -> Annotation:
    """Return an annotation with scribbles next to its labels.

    Where neither a region nor anything else says what is annotated, only the objects
    and the scribbles count, and a ring of `RING_PX` around objects as background: it is
    what shows where they end. An outlined object counts more than a scribble on
    it, and a region more than a scribble of background in it. A pixel inside an
    object that is not outlined is not annotated for the labels, which would call it
    background. So each pixel that counts does so by its label or by a scribble, never
    by both.

    Parameters
    ----------
    found
        Labels, and what of them counts.
    scribbles
        YX, uint8: `NO_SCRIBBLE`, `SCRIBBLED_BACKGROUND` or `SCRIBBLED_INTERIOR`.
    ignored
        YX, what counts for nothing, whatever else is drawn; None: nowhere.
    """
    objects = found.labels > 0
    annotated = objects if found.annotated is None else found.annotated
    marked = np.where(objects, np.uint8(NO_SCRIBBLE), scribbles)
    if found.annotated is None:
        around = ndimage.binary_dilation(objects, iterations=RING_PX) & ~objects
        marked[around & (marked == NO_SCRIBBLE)] = SCRIBBLED_BACKGROUND
    if ignored is not None:
        annotated = annotated & ~ignored
        marked[ignored] = NO_SCRIBBLE
    marked[(marked == SCRIBBLED_BACKGROUND) & annotated] = NO_SCRIBBLE
    return replace(
        found,
        annotated=annotated & (marked != SCRIBBLED_INTERIOR),
        scribbles=marked if marked.any() else None,
    )


def read_scribbles(path: Path, plane: int | None = None) -> npt.NDArray[np.uint8]:
    """Return scribbles painted as an image: 1 is background, 2 inside an object.

    Raises
    ------
    AnnotationError
        If the file cannot be read, or holds other values, or none but 0 and is no
        plane of a stack.
    """
    pixels = read_pixels(path, plane)
    values: list[Any] = np.unique(pixels).tolist()
    if pixels.ndim != 2 or not set(values) <= {
        NO_SCRIBBLE,
        SCRIBBLED_BACKGROUND,
        SCRIBBLED_INTERIOR,
    }:
        shown = ", ".join(map(str, values[:6])) + (", ..." if len(values) > 6 else "")
        raise AnnotationError(
            f"{path} holds the values {shown}; an image of scribbles is one channel of "
            "0 (no scribble), 1 (background) and 2 (inside an object).",
            hint="Paint with these values; objects that are outlined go into labels.",
        )
    if values == [NO_SCRIBBLE] and plane is None:
        raise AnnotationError(
            f"{path} holds no scribble: it is 0 everywhere.", hint="Leave it out."
        )
    return pixels.astype(np.uint8)


def within(
    found: Annotation, sidecar: Path, path: Path, plane: int | None = None
) -> Annotation:
    """Return an annotation limited to what an image marks by other values than 0.

    Parameters
    ----------
    found, path
        The annotation and where it was read.
    sidecar
        The image.
    plane
        Which of it, if it has several.

    Raises
    ------
    AnnotationError
        If the image cannot be read or has another shape.
    """
    inside = foreground(read_pixels(sidecar, plane), sidecar)
    _refuse_other_shape(inside.shape, found, sidecar, path)
    scribbles = found.scribbles
    if scribbles is not None:
        scribbles = np.where(inside, scribbles, np.uint8(NO_SCRIBBLE))
    if found.annotated is not None:
        inside &= found.annotated
    return replace(found, annotated=inside, scribbles=scribbles)


def scribbled(
    found: Annotation, sidecar: Path, path: Path, plane: int | None = None
) -> Annotation:
    """Return an annotation with the scribbles in an image; otherwise as `within`."""
    scribbles = read_scribbles(sidecar, plane)
    _refuse_other_shape(scribbles.shape, found, sidecar, path)
    return with_scribbles(found, scribbles)


def _refuse_other_shape(
    shape: tuple[int, ...], found: Annotation, sidecar: Path, path: Path
) -> None:
    if shape != found.labels.shape:
        raise AnnotationError(
            f"{sidecar} has {shape[0]} x {shape[1]} pixels, {path.name} "
            f"has {found.labels.shape[0]} x {found.labels.shape[1]}.",
            hint="What is annotated is given for every pixel of the image.",
        )
