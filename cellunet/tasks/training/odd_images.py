"""What is odd about the pixels of training images, whatever their outlines are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from cellunet.errors import InputError
from cellunet.imaging.drawn.drawings import some
from cellunet.tasks.training.start_model import has_dark_objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cellunet.core.dataset import Sample


def refuse_blank(samples: Sequence[Sample]) -> None:
    """Refuse images of which none shows anything.

    Raises
    ------
    InputError
        If each has one value everywhere.
    """
    if all(_is_blank(sample) for sample in samples):
        names = [sample.name for sample in samples]
        raise InputError(
            f"Every training image has one value everywhere ({some(names)}), so there "
            "is nothing to learn from.",
            hint="Are they of another channel, or exported empty? Export them again.",
        )


def odd_images(samples: Sequence[Sample]) -> Iterator[str]:
    """Yield in sentences what nobody means to train on.

    Parameters
    ----------
    samples
        Annotated images, at least one.
    """
    blank = [sample.name for sample in samples if _is_blank(sample)]
    if blank:
        yield (
            f"Images of one value everywhere: {len(blank)} of {len(samples)} "
            f"({some(blank)}). They teach nothing: are they of another channel, or "
            "exported empty?"
        )
    drawn = [s.name for s in samples if s.name not in blank and _is_drawn(s)]
    if drawn:
        yield (
            f"Images of one value in each object and one beside them: {len(drawn)} of "
            f"{len(samples)} ({some(drawn)}). Were labels saved in place of images?"
        )
    yield from _of_contrast([s for s in samples if s.name not in blank])
    full = [sample.name for sample in samples if (sample.labels > 0).all()]
    if len(full) == len(samples):
        yield (
            "No pixel of any image is background: the model will find objects "
            "everywhere. Is one value of the labels the background? It should be 0."
        )
    elif full:
        yield (
            f"No pixel is background in {len(full)} of {len(samples)} images "
            f"({some(full)}). Is one value of their labels the background? It should "
            "be 0."
        )


def _of_contrast(samples: Sequence[Sample]) -> Iterator[str]:
    seen = {sample.name: has_dark_objects(sample) for sample in samples}
    known = {name: dark for name, dark in seen.items() if dark is not None}
    dark = [name for name, is_dark in known.items() if is_dark]
    bright = [name for name, is_dark in known.items() if not is_dark]
    if not dark or not bright:
        return
    fewer, than = (dark, "darker") if len(dark) <= len(bright) else (bright, "brighter")
    yield (
        f"In {len(fewer)} of {len(known)} images objects are {than} than their "
        f"background, in the others not ({some(fewer)}). A model sees one kind of "
        "contrast: train one on each kind, or check the labels."
    )


def _is_blank(sample: Sample) -> bool:
    return bool((sample.image == sample.image[:, :1, :1]).all())


def _is_drawn(sample: Sample) -> bool:
    """Return whether an image tells no more than its labels do."""
    plane, labels = sample.image[0], sample.labels
    beside = plane[labels == 0]
    if not beside.size or not (labels > 0).any() or (beside != beside[0]).any():
        return False
    ids = np.unique(labels[labels > 0])
    lowest = np.asarray(ndimage.minimum(plane, labels, ids))
    return bool((lowest == ndimage.maximum(plane, labels, ids)).all())
