"""From the pixels of one annotation file to instance labels, per way of drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy import ndimage

from cellunet.errors import AnnotationError
from cellunet.imaging.drawn.outline_drawings import fill_outlines

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

# In 360 annotated images an id is in 1.4 pieces at most and a piece has 58 pixels and
# more on average. Microscope images fall into 60 and more pieces per grey value, or,
# where noise is large and 16-bit values rarely repeat, into pieces of 1 to 3 pixels.
PIECES_PER_ID = 20
PICTURE_PIECE_PX = 4
PICTURE_MIN_PIECES = 200


def recognise(pixels: npt.NDArray[Any]) -> str:
    """Return how `pixels` were drawn: ``labels``, ``binary`` or ``coloured``.

    An image of several colours is ``coloured``. A single-channel image is ``binary``
    if it is boolean or if its only value besides 0 is 1, 255 or the largest of its
    type: such an image could as well hold one object of that id, but then it is
    nearly always one connected piece and comes out the same. Everything else is
    ``labels``.

    Parameters
    ----------
    pixels
        YX or YXC as `cellunet.imaging.drawn.annotation_pixels.read_pixels` returns
        them.
    """
    if pixels.ndim == 3:
        return "coloured"
    if pixels.dtype == bool:
        return "binary"
    if pixels.dtype.kind not in "iu" or not pixels.size:
        return "labels"
    top = int(pixels.max())
    if top not in (1, 255, np.iinfo(pixels.dtype).max):
        return "labels"
    return "binary" if bool(((pixels == 0) | (pixels == top)).all()) else "labels"


def decode_labels(pixels: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int32]:
    """Take the values as ids."""
    pixels = _whole_numbers(pixels, path)
    if pixels.ndim != 2:
        raise AnnotationError(
            f"{path} has {pixels.shape[2]} colour channels; ids need one channel.",
            hint="If each object has its own colour: cellunet make-labels --kind "
            "coloured.",
        )
    if pixels.size and pixels.max() > np.iinfo(np.int32).max:
        raise AnnotationError(
            f"{path} holds the id {pixels.max()}; ids up to "
            f"{np.iinfo(np.int32).max} are possible.",
            hint="Number the objects from 1.",
        )
    labels = pixels.astype(np.int32)
    pieces = int(_components(labels).max(initial=0))
    if pieces >= PICTURE_MIN_PIECES:
        ids = np.unique(labels).size
        tiny = np.count_nonzero(labels) < PICTURE_PIECE_PX * pieces
        _refuse_picture(path, pieces, pieces > (2 if tiny else PIECES_PER_ID) * ids)
    return labels


def decode_binary(pixels: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int32]:
    """Take each 4-connected piece of everything but 0 as an object."""
    inside = foreground(pixels, path)
    labels: npt.NDArray[np.int32] = ndimage.label(inside)[0].astype(np.int32)
    return labels


def decode_coloured(pixels: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int32]:
    """Take each 4-connected piece of one colour as an object; black is background.

    This decodes the graph colouring of BBBC039, in which touching nuclei differ, as
    well as images in which every object has a colour of its own.
    """
    codes = _colour_codes(_whole_numbers(pixels, path))
    if codes.size and codes.all():
        _refuse_white_background(pixels, codes, path)
    labels = _components(codes)
    pieces = int(labels.max(initial=0))
    drawn = int(np.count_nonzero(codes))
    _refuse_picture(path, pieces, drawn < PICTURE_PIECE_PX * pieces)
    return labels


def decode_outlines(pixels: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int32]:
    """Take each area that lines enclose as an object; everything but 0 is a line."""
    return fill_outlines(foreground(pixels, path), path)


def _colour_codes(pixels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return one number per colour, 0 where black or transparent."""
    if pixels.ndim == 2:
        return pixels.astype(np.int64, copy=False)
    colours = pixels[..., : _colours(pixels)]
    bits = 8 * pixels.dtype.itemsize
    codes = np.zeros(pixels.shape[:2], np.int64)
    for channel in range(colours.shape[2]):
        codes |= colours[..., channel].astype(np.int64) << (bits * channel)
    return np.where(_opaque(pixels), codes, 0)


def foreground(pixels: npt.NDArray[Any], path: Path) -> npt.NDArray[np.bool_]:
    """Return what is neither 0, black nor transparent, YX; refuse what is no label."""
    drawn: npt.NDArray[np.bool_] = _colour_codes(_whole_numbers(pixels, path)) != 0
    return drawn


def _colours(pixels: npt.NDArray[Any]) -> int:
    """Return the number of channels that are not alpha: 1 of 2, 3 of 4."""
    channels = int(pixels.shape[2])
    return channels - 1 if channels in (2, 4) else channels


def _opaque(pixels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return where alpha is not 0; everywhere if alpha says nothing (is constant)."""
    alpha = pixels[..., -1]
    if _colours(pixels) == pixels.shape[2] or alpha.min() == alpha.max():
        return np.ones(alpha.shape, np.bool_)
    opaque: npt.NDArray[np.bool_] = alpha != 0
    return opaque


def _components(values: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Return 4-connected pieces of equal value numbered in raster order, 0 left out."""
    from skimage.measure import label

    pieces: npt.NDArray[np.int32] = label(values, background=0, connectivity=1)
    return pieces.astype(np.int32, copy=False)


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
        return AnnotationError(
            f"{found}; labels are whole numbers of an integer type.",
            hint="Every value is whole, so converting loses nothing. In Fiji: Image, "
            "Type, 16-bit, with 'Scale when converting' off (Edit, Options, "
            "Conversions); in Python: "
            f"tifffile.imwrite('{path.stem}.tif', pixels.astype('uint32')).",
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


def _refuse_white_background(
    pixels: npt.NDArray[Any], codes: npt.NDArray[np.int64], path: Path
) -> None:
    values, counts = np.unique(codes, return_counts=True)
    white = np.full((1, 1, *pixels.shape[2:]), np.iinfo(pixels.dtype).max, pixels.dtype)
    if values[counts.argmax()] == _colour_codes(white)[0, 0]:
        raise AnnotationError(
            f"{path} has no black pixel and is mostly white; black is background.",
            hint="Turn the background black.",
        )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


class Decoder(Protocol):
    """Turn the pixels of one file into labels."""

    def __call__(self, pixels: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int32]:
        """Return labels, YX; `path` is for messages."""


DECODERS: dict[str, Decoder] = {
    "labels": decode_labels,
    "binary": decode_binary,
    "coloured": decode_coloured,
    "outlines": decode_outlines,
}
