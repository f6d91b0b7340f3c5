"""Contact sheets of annotations: many images at once, what is odd in another colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.imaging.lettering import lettered
from cellunet.imaging.overlay import (
    LINE_GREY,
    PREDICTION,
    TRUTH,
    contact_sheet,
    outlines,
    stretch,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy.typing as npt

    from cellunet.imaging.overlay import Rgb

TILE_PX = 320
"""Longest side of one image on the sheet."""
COLUMNS, ROWS = 4, 6
INK: Rgb = (20, 20, 20)
PAPER: Rgb = (255, 255, 255)
FRAME_PX = 3


def tile(
    image: npt.NDArray[Any] | None,
    labels: npt.NDArray[Any],
    lines: Sequence[str],
    *,
    odd: Collection[int] = (),
    flagged: bool = False,
) -> npt.NDArray[np.uint8]:
    """Return one image of a contact sheet.

    Parameters
    ----------
    image
        YX; None: black.
    labels
        YX, integer; outlined in blue.
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
    scale = TILE_PX / max(*labels.shape, 1)
    rows, columns = (
        np.minimum(((np.arange(max(round(n * scale), 1)) + 0.5) / scale), n - 1)
        for n in labels.shape
    )
    sample = np.ix_(rows.astype(int), columns.astype(int))
    grey = np.zeros(labels.shape, np.uint8) if image is None else stretch(image)
    # Darker than the lines, as in `draw`, so that these show on the brightest nucleus.
    dim = np.rint(LINE_GREY * grey[sample]).astype(np.uint8)
    canvas = np.repeat(dim[..., None], 3, axis=2)
    for only, color in ((None, TRUTH), (list(odd), PREDICTION)):
        canvas[_lines(labels, sample, only)] = color
    color = PREDICTION if flagged else PAPER
    frame = ((FRAME_PX, FRAME_PX), (FRAME_PX, FRAME_PX))
    canvas = np.stack(
        [np.pad(canvas[..., c], frame, constant_values=color[c]) for c in range(3)],
        axis=2,
    )
    width = max(canvas.shape[1], TILE_PX)
    side = width - canvas.shape[1]
    canvas = np.pad(canvas, ((0, 0), (0, side), (0, 0)), constant_values=255)
    text = [lettered(t, width, color=INK, background=PAPER) for t in lines]
    return np.concatenate([canvas, *text])


def _lines(
    labels: npt.NDArray[Any], sample: tuple[Any, ...], only: list[int] | None
) -> npt.NDArray[np.bool_]:
    """Return outlines, of some ids `only`, on the pixels that are sampled."""
    shape = (len(sample[0]), sample[1].shape[1])
    if shape[0] >= labels.shape[0]:
        labels = labels[sample]
    edge = outlines(labels)
    if only is not None:
        edge &= np.isin(labels, only)
    # All pixels of a line leave a mark: sampling would break it up.
    y, x = np.nonzero(edge)
    found = np.zeros(shape, np.bool_)
    found[y * shape[0] // labels.shape[0], x * shape[1] // labels.shape[1]] = True
    return found


def sheet(tiles: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Return up to `COLUMNS` x `ROWS` tiles as one picture, YXC uint8."""
    height = max(t.shape[0] for t in tiles)
    level = [
        np.pad(t, ((0, height - t.shape[0]), (0, 0), (0, 0)), constant_values=255)
        for t in tiles
    ]
    return contact_sheet(level, columns=min(COLUMNS, len(tiles)))
