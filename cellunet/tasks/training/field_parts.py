"""The parts of a large field that are annotated, each with its surroundings.

A field of which little is annotated is cut into these before anything is prepared, so
that neither memory nor time of a training grow with the rest of it. What is made of
the whole field, its intensity statistics and its fingerprint, stays the whole's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from cellunet.imaging.drawn.scribbles import teaches
from cellunet.imaging.files import Region, open_image
from cellunet.imaging.intensities import measure_channels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.config import NormalizationConfig
    from cellunet.core.dataset import Measured, Sample
    from cellunet.imaging.intensities import Statistics

    Box = tuple[slice, slice]

MARGIN_PX = 256
"""What is kept around annotated pixels: more than a crop of 192 px that holds one of
them at its corner, scaled and turned, and than the network sees (48 px)."""
BLOCK_PX = 64
"""Side of the blocks in which annotated pixels are looked for."""
LARGEST_SHARE = 0.5
"""A field is cut only if its parts together are at most this share of it."""
BAND_PX = 512
"""Rows of a field that are read at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadImage:
    """One annotated image that was read."""

    parts: tuple[Sample, ...]
    """The image, or the parts of it that are annotated."""
    reduced: bool
    """Whether it is parts that are kept."""
    print_: str
    """Fingerprint of the whole image."""
    annotated_share: float
    """Share of the image's pixels that its labels annotate."""
    scribbled_px: tuple[int, int]
    """Pixels that scribbles call background, and inside of objects."""


def partly_annotated(images: Sequence[ReadImage]) -> list[str]:
    """Say of how many images only a part counts, and of how many parts are kept."""
    notes = []
    shares = [i.annotated_share for i in images if 0 < i.annotated_share < 1]
    if shares:
        mean = float(np.mean(shares))
        share = f"{mean:.0%}" if mean > 0.01 else "less than 1%"
        share = share if mean < 0.99 else "more than 99%"
        notes.append(
            f"Annotated in part: {len(shares)} of {len(images)} images (on average "
            f"{share}); the rest does not count."
        )
    scribbled = [i for i in images if any(i.scribbled_px)]
    if scribbled:
        background, inside = np.sum([i.scribbled_px for i in scribbled], axis=0)
        alone = sum(not i.annotated_share for i in scribbled)
        notes.append(
            f"With scribbles: {len(scribbled)} of {len(images)} images"
            + (f", {alone} with nothing else" if alone else "")
            + f": {background:,} px of background and {inside:,} px inside objects."
        )
    fields = [i.parts for i in images if i.reduced]
    if fields:
        pixels = sum(s.labels.size for parts in fields for s in parts)
        notes.append(
            f"Large images: {len(fields)}; of them annotated parts with {MARGIN_PX} px "
            f"around are kept ({sum(map(len, fields))}, {pixels / 1e6:.1f} Mpx in all)."
        )
    return notes


def whole_name(name: str) -> str:
    """Return the name of the image that a part belongs to.

    Examples
    --------
    >>> whole_name("field (2 of 3)"), whole_name("field (2)")
    ('field', 'field (2)')
    >>> whole_name("field, part 2"), whole_name("field (2 of 3), part 1")
    ('field', 'field')
    """
    return re.sub(r"( \(\d+ of \d+\))?(, part \d+)?$", "", name)


def annotated_boxes(
    counted: npt.NDArray[np.bool_],
) -> list[tuple[Box, npt.NDArray[np.bool_]]]:
    """Return the annotated parts of a field with their surroundings.

    Parameters
    ----------
    counted
        YX, what counts.

    Returns
    -------
    list
        Rows and columns of each part, and what counts in it, of its shape. Every
        pixel that counts does so in one part. Parts whose surroundings meet are one.
    """
    blocks = _any_in_blocks(counted)
    reach = -(-MARGIN_PX // BLOCK_PX)
    near = ndimage.maximum_filter(blocks, 2 * reach + 1, mode="constant")
    numbers, _ = ndimage.label(near, np.ones((3, 3)))
    mine = np.where(blocks, numbers, 0)
    found = []
    for number, box in enumerate(ndimage.find_objects(mine), 1):
        if box is None:
            continue
        wide = [
            slice(
                max(side.start * BLOCK_PX - MARGIN_PX, 0),
                min(side.stop * BLOCK_PX + MARGIN_PX, length),
            )
            for side, length in zip(box, counted.shape, strict=True)
        ]
        view = (wide[0], wide[1])
        # The box of another part may reach into this one's.
        places = [np.arange(side.start, side.stop) // BLOCK_PX for side in view]
        found.append((view, counted[view] & (mine[np.ix_(*places)] == number)))
    return found


def _any_in_blocks(counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which blocks hold a pixel that counts; the last ones may be cut."""
    found = counted
    for axis in (0, 1):
        starts = np.arange(0, counted.shape[axis], BLOCK_PX)
        found = np.logical_or.reduceat(found, starts, axis=axis)
    return found


def cut(sample: Sample, measured: Measured) -> list[Sample]:
    """Return the parts of a sample to train on; the sample itself if that is as well.

    Parameters
    ----------
    sample
        A whole image.
    measured
        Returns the statistics of the whole image, which parts are normalised by; if
        the sample is a crop itself, its field's stay.
    """
    counted = teaches(sample.annotated, sample.scribbles)
    if counted.all():
        return [sample]
    boxes = annotated_boxes(counted)
    area = sum(own.size for _, own in boxes)
    if not boxes or area > LARGEST_SHARE * counted.size:
        return [sample]
    return [
        replace(
            sample,
            name=sample.name + (f" ({i} of {len(boxes)})" if len(boxes) > 1 else ""),
            # Copies, so that nothing holds the whole field.
            image=sample.image[:, *view].copy(),
            labels=sample.labels[view].copy(),
            annotated=sample.annotated[view] & own,
            scribbles=_scribbles(sample, view, own),
            measured=sample.measured or measured,
        )
        for i, (view, own) in enumerate(boxes, 1)
    ]


def _scribbles(
    sample: Sample, view: Box, own: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8] | None:
    return None if sample.scribbles is None else sample.scribbles[view] * own


def measured_in(
    path: Path, channel: str | None, *, gray: bool, known: tuple[str, ...] = ()
) -> Measured:
    """Return a function that measures the channels of an image, read band by band.

    Parameters
    ----------
    path
        The image.
    channel, gray, known
        As for `cellunet.imaging.files.open_image`.
    """

    @cache
    def statistics(config: NormalizationConfig) -> tuple[Statistics, ...]:
        with open_image(path, channel=channel, gray=gray, known=known) as source:
            height, width = source.shape

            def bands() -> Iterator[npt.NDArray[np.generic]]:
                for y0 in range(0, height, BAND_PX):
                    y1 = min(y0 + BAND_PX, height)
                    yield source.read(Region(0, y0, y1, 0, width))

            return measure_channels(bands, config)

    return statistics
