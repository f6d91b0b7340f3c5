"""Contact sheets of annotated images, to be looked through."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.imaging.targets import (
    SCRIBBLED_BACKGROUND,
    SCRIBBLED_INTERIOR,
    trainable_mask,
)
from cellunet.outputs.pictures import (
    AGREEMENT,
    LINE_GRAY,
    PAPER,
    PREDICTION,
    TRUTH,
    contact_sheet,
    outlines,
    stretch,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy.typing as npt

    from cellunet.annotations.types import Annotation
    from cellunet.outputs.pictures import Rgb

LETTER_PX, LINE_PX = 11, 14
"""Size of letters, and height of a line of them."""


def lettered(text: str, width_px: int) -> npt.NDArray[np.uint8]:
    """Return one line of text as a picture of a given width, cut off where it ends.

    Parameters
    ----------
    text
        What is not ASCII, which is all that Pillow's own font has, is a question mark.
    width_px
        Width of the picture.

    Returns
    -------
    ndarray
        (`LINE_PX`, `width_px`, 3), uint8.
    """
    # Imported where letters are drawn, which prediction does not.
    from PIL import Image, ImageDraw, ImageFont

    shown = "".join(c if " " <= c <= "~" else "?" for c in text[:width_px])
    picture = Image.new("RGB", (width_px, LINE_PX), PAPER)
    font = ImageFont.load_default(LETTER_PX)
    ImageDraw.Draw(picture).text((1, 0), shown, fill=INK, font=font)
    return np.asarray(picture)


TILE_PX = 320
"""Longest side of one image on the sheet."""

COLUMNS, ROWS = 4, 6

INK: Rgb = (20, 20, 20)

FRAME_PX = 3

SCRIBBLED: dict[int, Rgb] = {SCRIBBLED_BACKGROUND: AGREEMENT, SCRIBBLED_INTERIOR: TRUTH}

AROUND_PX, SMALL_SHARE = 64, 0.5
"""What is annotated is shown with so much around it, if that is but a part."""


def tile(
    image: npt.NDArray[Any] | None,
    annotation: Annotation,
    lines: Sequence[str],
    *,
    odd: Collection[int] = (),
    flagged: bool = False,
) -> npt.NDArray[np.uint8]:
    """Return one image of a contact sheet.

    What is not annotated is darker. If that is most of it, what is annotated is shown
    with a little of what is around it.

    Parameters
    ----------
    image
        YX; None: black.
    annotation
        Its objects are outlined in blue, scribbles are blue inside objects and white in
        the background.
    lines
        Text below it.
    odd
        Ids that are outlined in orange.
    flagged
        Whether it has an orange frame.

    Returns
    -------
    ndarray
        YXC, uint8, its longest side `TILE_PX` without text and frame.
    """
    view = _worth_showing(annotation)
    annotation = _part(annotation, view)
    labels, said = annotation.labels, annotation.scribbles
    scale = TILE_PX / max(*labels.shape, 1)
    rows, columns = (
        np.minimum(((np.arange(max(round(n * scale), 1)) + 0.5) / scale), n - 1)
        for n in labels.shape
    )
    sample = np.ix_(rows.astype(int), columns.astype(int))
    gray = np.zeros(labels.shape, np.uint8) if image is None else stretch(image)[view]
    if annotation.annotated is not None:
        gray = np.where(trainable_mask(annotation.annotated, said), gray, gray // 2)
    # Darker than the lines, as in `draw_outlines`, so that these show on the
    # brightest nucleus.
    dim = np.rint(LINE_GRAY * gray[sample]).astype(np.uint8)
    canvas = np.repeat(dim[..., None], 3, axis=2)
    for only, color in ((None, TRUTH), (list(odd), PREDICTION)):
        canvas[_lines(labels, sample, only)] = color
    said = np.zeros_like(labels, np.uint8) if said is None else said
    for value, color in SCRIBBLED.items():
        canvas[_marks(said == value, sample)] = color
    height, width = (n + 2 * FRAME_PX for n in canvas.shape[:2])
    framed = np.full((height, max(width, TILE_PX), 3), PAPER, np.uint8)
    framed[:, :width] = PREDICTION if flagged else PAPER
    framed[FRAME_PX : height - FRAME_PX, FRAME_PX : width - FRAME_PX] = canvas
    text = [lettered(line, framed.shape[1]) for line in lines]
    return np.concatenate([framed, *text])


def _lines(
    labels: npt.NDArray[Any], sample: tuple[Any, ...], only: list[int] | None
) -> npt.NDArray[np.bool_]:
    """Return outlines, of some ids `only`, on the pixels that are sampled."""
    if len(sample[0]) >= labels.shape[0]:
        labels = labels[sample]
    edge = outlines(labels)
    if only is not None:
        edge &= np.isin(labels, only)
    return _marks(edge, sample)


def _marks(
    marked: npt.NDArray[np.bool_], sample: tuple[Any, ...]
) -> npt.NDArray[np.bool_]:
    """Return where marked pixels are on the pixels that are sampled, YX."""
    shape = (len(sample[0]), sample[1].shape[1])
    if marked.shape != shape and len(sample[0]) >= marked.shape[0]:
        marked = marked[sample]
    # All pixels of a line leave a mark: sampling would break it up.
    y, x = np.nonzero(marked)
    found = np.zeros(shape, np.bool_)
    found[y * shape[0] // marked.shape[0], x * shape[1] // marked.shape[1]] = True
    return found


def _part(annotation: Annotation, view: tuple[slice, slice]) -> Annotation:
    annotated, said = annotation.annotated, annotation.scribbles
    return replace(
        annotation,
        labels=annotation.labels[view],
        annotated=None if annotated is None else annotated[view],
        scribbles=None if said is None else said[view],
    )


def _worth_showing(annotation: Annotation) -> tuple[slice, slice]:
    """Return rows and columns around what counts, or all if that is much of it."""
    shape = annotation.labels.shape
    whole = np.s_[: shape[0], : shape[1]]
    if annotation.annotated is None:
        return whole
    counts = trainable_mask(annotation.annotated, annotation.scribbles)
    spans = [np.flatnonzero(counts.any(axis=axis)) for axis in (1, 0)]
    if not spans[0].size:
        return whole
    rows, columns = (
        slice(max(int(at[0]) - AROUND_PX, 0), min(int(at[-1]) + 1 + AROUND_PX, length))
        for at, length in zip(spans, shape, strict=True)
    )
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return (rows, columns) if area < SMALL_SHARE * counts.size else whole


def sheet(tiles: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Return up to `COLUMNS` x `ROWS` tiles as one picture, YXC uint8."""
    return contact_sheet(tiles, min(COLUMNS, len(tiles)))
