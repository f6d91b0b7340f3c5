"""Refuse annotations that show objects alone, or background alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellunet.errors import InputError
from cellunet.imaging.drawn.scribbles import scribbled_px, shows_beside
from cellunet.tasks.training.field_parts import whole_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellunet.core.dataset import Sample


def refuse_one_sided(samples: Sequence[Sample]) -> None:
    """Refuse training images of which no pixel counts as object, or as background.

    Raises
    ------
    InputError
        If that is so.
    """
    if not any(_shows_object(sample) for sample in samples):
        raise InputError(
            f"{_lack(samples, 'an', _object(samples))}.", hint=_what_next(samples)
        )
    if not any(_shows_background(sample) for sample in samples):
        what = _lack(samples, "a", "pixel that is annotated as background")
        raise InputError(
            f"{what}: the model would find objects everywhere.",
            hint="Draw some lines or areas named 'background', or a region around "
            "objects that are all outlined.",
        )


def _lack(samples: Sequence[Sample], article: str, what: str) -> str:
    names = sorted({whole_name(sample.name) for sample in samples})
    if len(names) > 1:
        return f"None of the {len(names)} training images has {article} {what}"
    return f"{names[0]}, the only training image, has no {what}"


def _shows_object(sample: Sample) -> bool:
    outlined = bool((sample.annotated & (sample.labels > 0)).any())
    return outlined or scribbled_px(sample.scribbles)[1] > 0


def _shows_background(sample: Sample) -> bool:
    beside = shows_beside(sample.labels, sample.annotated)
    return beside or scribbled_px(sample.scribbles)[0] > 0


def _object(samples: Sequence[Sample]) -> str:
    if any(sample.scribbles is not None for sample in samples):
        return "outlined object or click inside one, only background"
    if all(sample.annotated.all() for sample in samples):
        return "annotated object"
    return "object in the part that is annotated"


def _what_next(samples: Sequence[Sample]) -> str:
    if any(sample.scribbles is not None for sample in samples):
        return "Outline some objects, or click into some: points named 'interior'."
    if all(sample.annotated.all() for sample in samples):
        return "Do they belong to these images? Try: cellunet make-labels."
    return "Outline every object in the region or box, also those that it cuts."
