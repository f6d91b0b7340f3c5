"""Outlines and colours over an image, for people who look rather than read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.imaging.drawn.scribbles import BACKGROUND, INTERIOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Rgb = tuple[int, int, int]

# Of the palette of Okabe and Ito (2008), which eyes of all kinds tell apart; these two
# also differ from grey and in lightness, and white shows where both lines agree.
TRUTH: Rgb = (86, 180, 233)
PREDICTION: Rgb = (230, 159, 0)
AGREEMENT: Rgb = (255, 255, 255)
PAPER: Rgb = (255, 255, 255)

LINES_PX = 1400
"""Below lines, images are enlarged by the largest whole factor up to this side."""
PREVIEW_PX = 700
"""The same below colours, which need less room than lines."""
MAX_ENLARGEMENT = 16
LINE_GREY = 0.65
"""White of the image below lines, so that lines are brighter than any nucleus."""
GAMMA = 0.7
"""Exponent that lifts dim nuclei beside bright ones without showing the noise."""
MAX_PREVIEW_PX = 2048
"""Previews of larger images are thinned to this side: they are looked at, not used."""
FILL_OPACITY = 0.45
HATCH: Rgb = (120, 120, 120)
HATCH_PX = 16
"""Distance between the lines over what is not annotated."""


def outlines(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return the inner outlines of all objects, one pixel wide.

    A pixel is outline if it belongs to an object and one of its four neighbours has
    another label: where two objects touch, both have an outline. The frame of the
    image is no neighbour, so that objects it cuts stay open there.

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


def stretch(
    image: npt.NDArray[Any], *, low: float = 1.0, high: float = 99.8
) -> npt.NDArray[np.uint8]:
    """Return `image` as 8-bit grey between two of its percentiles, dark parts lifted.

    Pixels that are not finite are black; so is a constant image.

    Parameters
    ----------
    image
        YX, any real type.
    low, high
        Percentiles of the finite values that become black and white.

    Returns
    -------
    ndarray
        YX, uint8.
    """
    values = image.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(image.shape, np.uint8)
    dark, bright = np.percentile(values[finite], (low, high))
    if bright <= dark:
        dark, bright = values[finite].min(), values[finite].max()
    return grey_between(image, dark, bright)


def grey_between(
    image: npt.NDArray[Any], dark: float, bright: float
) -> npt.NDArray[np.uint8]:
    """Return `image` as 8-bit grey, `dark` black, `bright` white, the middle lifted.

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
    grey = np.clip((values - dark) / span, 0, 1) ** GAMMA
    stretched: npt.NDArray[np.uint8] = np.rint(255 * grey).astype(np.uint8)
    return stretched


def enlargement(shape: tuple[int, ...], side_px: int) -> int:
    """Return the largest whole factor that keeps `shape` within `side_px`, or 1."""
    return int(np.clip(side_px // max(*shape, 1), 1, MAX_ENLARGEMENT))


def draw(
    image: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    *,
    color: Rgb = TRUTH,
    other: npt.NDArray[Any] | None = None,
    other_color: Rgb = PREDICTION,
) -> npt.NDArray[np.uint8]:
    """Return `image` in grey with the outlines of objects in colour.

    Small images are enlarged first (`enlargement`), so that a line one pixel wide
    follows the pixels exactly and hides little of them.

    Parameters
    ----------
    image
        YX, any real type.
    labels
        YX, integer, of the shape of `image`.
    color
        Red, green and blue of its outlines.
    other
        A second labelling, drawn in `other_color`; where the lines of both coincide
        they are white.

    Returns
    -------
    ndarray
        YXC, uint8, three channels.
    """
    factor = enlargement(image.shape, LINES_PX)
    grey = np.rint(LINE_GREY * stretch(image)).astype(np.uint8)
    canvas = _rgb(_enlarge(grey, factor))
    first = outlines(_enlarge(labels, factor))
    canvas[first] = color
    if other is not None:
        second = outlines(_enlarge(other, factor))
        canvas[second] = other_color
        canvas[first & second] = AGREEMENT
    return canvas


def colour_objects(
    labels: npt.NDArray[Any], *, image: npt.NDArray[Any] | None = None
) -> npt.NDArray[np.uint8]:
    """Return objects filled with a colour that follows from their id, outlined.

    Parameters
    ----------
    labels
        YX, integer.
    image
        YX: shown in grey, the colours laid over it thinly; without it objects are
        opaque on black.

    Returns
    -------
    ndarray
        YXC, uint8, three channels; enlarged as in `draw`.
    """
    factor = enlargement(labels.shape, PREVIEW_PX)
    large = _enlarge(labels, factor)
    fill = id_colours(large)
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


def id_colours(labels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return a colour per pixel that depends on its id alone, black for 0.

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
    coloured: npt.NDArray[np.uint8] = palette[index.reshape(labels.shape)]
    return coloured


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
        YX, of `cellunet.imaging.drawn.scribbles`, drawn on top; None: there are none.

    Returns
    -------
    ndarray
        YXC, uint8: the image beside the same with its objects coloured; without an
        image the coloured objects alone. Longest side at most about
        `MAX_PREVIEW_PX` a panel.
    """
    step = -(-max(*labels.shape, 1) // MAX_PREVIEW_PX)
    labels = labels[::step, ::step]
    if annotated is not None:
        annotated = annotated[::step, ::step]
    if scribbles is not None:
        scribbles = scribbles[::step, ::step]
    if image is None:
        return _scribbled(_hatched(colour_objects(labels), annotated), scribbles)
    image = image[::step, ::step]
    plain = _rgb(_enlarge(stretch(image), enlargement(image.shape, PREVIEW_PX)))
    wide = labels.shape[1] > 2 * labels.shape[0]
    coloured = _hatched(colour_objects(labels, image=image), annotated)
    coloured = _scribbled(coloured, scribbles)
    return contact_sheet([plain, coloured], columns=1 if wide else 2)


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
    """Return a picture with scribbles in colours of their own."""
    if scribbles is None:
        return picture
    large = _enlarge(scribbles, picture.shape[0] // max(scribbles.shape[0], 1))
    picture = picture.copy()
    picture[large == BACKGROUND] = TRUTH
    picture[large == INTERIOR] = PREDICTION
    return picture


def contact_sheet(
    panels: Sequence[npt.NDArray[np.uint8]],
    *,
    columns: int = 0,
    gap_px: int = 6,
    background: Rgb = PAPER,
) -> npt.NDArray[np.uint8]:
    """Return several pictures in rows, each centred in a cell of the same size.

    Parameters
    ----------
    panels
        YXC, uint8, three channels, of any sizes; at least one.
    columns
        Panels per row; 0 puts all into one row.
    gap_px
        Pixels between panels.
    background
        Colour of the gaps.

    Returns
    -------
    ndarray
        YXC, uint8, three channels.
    """
    columns = columns or len(panels)
    rows = -(-len(panels) // columns)
    height = max(p.shape[0] for p in panels)
    width = max(p.shape[1] for p in panels)
    sheet = np.empty(
        (rows * (height + gap_px) - gap_px, columns * (width + gap_px) - gap_px, 3),
        np.uint8,
    )
    sheet[:] = background
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        top = row * (height + gap_px) + (height - panel.shape[0]) // 2
        left = column * (width + gap_px) + (width - panel.shape[1]) // 2
        sheet[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
    return sheet


def _enlarge(pixels: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    if factor == 1:
        return pixels
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _rgb(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.repeat(grey[..., None], 3, axis=2)
