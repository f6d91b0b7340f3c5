"""What is odd about the images of a training, told before its first step.

Only what no person may know better is refused here: scribbles that nothing to start
from makes sense of, and images of which none shows anything. What cannot be read as
training data is refused where it is read.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from cellunet.config import SCRATCH, CheckConfig
from cellunet.errors import ConfigError
from cellunet.imaging.checks.fit_checks import (
    better_partners,
    brightness,
    common_shift,
    fit_of,
    small_picture,
)
from cellunet.imaging.checks.odd_values import odd_values
from cellunet.imaging.drawn.drawings import some
from cellunet.tasks.training.copies import copies
from cellunet.tasks.training.folds import is_scored, objects_of
from cellunet.tasks.training.odd_images import odd_images, refuse_blank
from cellunet.tasks.training.start_channels import names_differ
from cellunet.tasks.training.training_statistics import evenly

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cellunet.core.dataset import Sample
    from cellunet.imaging.checks.fit_checks import Fit
    from cellunet.tasks.training.train_data import TrainingData

FEW_OBJECTS = 10
"""Below this many outlined objects a training is warned of."""
MOST_IMAGES = 60
"""Of more images as many are compared with their labels, evenly spread: what happened
to all of them shows."""
SEE = "cellunet make-labels --check shows them."
PARTLY = (
    "If only some of the objects are outlined, the others are taken for background: "
    "say which part counts (docs/annotations.md). "
)


def training_notes(data: TrainingData, *, start: str, target: str) -> tuple[str, ...]:
    """Return what is odd about the images of a training, in sentences.

    Parameters
    ----------
    data
        Both sides.
    start
        ``scratch``, or the name of the model whose weights training starts from.
    target
        What the network learns.

    Raises
    ------
    ConfigError
        If there are scribbles alone, and nothing to learn an outline from.
    InputError
        If every training image has one value everywhere.
    """
    config = CheckConfig()
    _refuse_scribbles_alone(data.training, start, target)
    refuse_blank(data.training)
    both = data.samples
    return (
        *filter(None, [names_differ(both)]),
        *_of_objects(data.training),
        *_of_scores(data),
        *_of_copies(data.training_prints, "training"),
        *_of_copies(data.validation_prints, "validation"),
        *_of_fits(evenly(both, MOST_IMAGES), config),
        *_of_values(both),
        *odd_images(both),
    )


def _refuse_scribbles_alone(
    training: Sequence[Sample], start: str, target: str
) -> None:
    if any(objects_of(sample) for sample in training):
        return
    if target == "boundary":
        raise ConfigError(
            "No object is outlined, and the boundary target learns boundaries alone, "
            "of which scribbles say nothing.",
            hint="Outline some objects, or train --target three-class.",
        )
    if start == SCRATCH:
        raise ConfigError(
            "No object is outlined: scribbles say what is inside and outside, but not "
            "where an object ends, which a network must have learnt before.",
            hint="Outline some objects, or start from a model: --from nuclei.",
        )


def _of_objects(training: Sequence[Sample]) -> Iterator[str]:
    counts = [objects_of(sample) for sample in training]
    total = sum(counts)
    if total == 0:
        yield (
            "No object is outlined in the training images: a model forgets where "
            "objects end if scribbles alone are trained on, and may become worse. "
            "Outline some objects, too (docs/annotations.md)."
        )
    elif total < FEW_OBJECTS:
        yield (
            f"The training images hold {total} outlined "
            f"object{'' if total == 1 else 's'} in all: expect little of it, or "
            "outline more."
        )
    empty = [
        sample.name
        for sample, count in zip(training, counts, strict=True)
        if not count and sample.scribbles is None
    ]
    if empty:
        yield (
            f"Training images without an object: {len(empty)} of {len(training)} "
            f"({some(empty)}). They teach what background is; leave them out if they "
            "were not annotated."
        )


def _of_scores(data: TrainingData) -> Iterator[str]:
    scored = data.validation or data.training
    if any(objects_of(sample) and is_scored(sample) for sample in scored):
        alone = sum(not is_scored(sample) for sample in scored)
        if alone:
            side = "validation " if data.validation else ""
            yield (
                f"{alone} of the {len(scored)} {side}images "
                "cannot be scored: scribbles or single objects alone do not say what "
                "is beside objects"
                + ("." if data.validation else "; every network is trained on them.")
            )
        return
    yield (
        "No object is outlined, with what is beside it, in the images to score: there "
        "will be no score, and the constants of decoding stay as they are."
        + ("" if data.validation else " Validation is of the training images.")
    )


def _of_copies(prints: Mapping[str, str], side: str) -> Iterator[str]:
    same = copies(prints)
    if same:
        yield f"The same image comes more than once in {side}: {some(same)}."


def _of_fits(samples: Sequence[Sample], config: CheckConfig) -> Iterator[str]:
    fits = {sample.name: _best_fit(sample, config) for sample in samples}
    known = {name: fit for name, fit in fits.items() if fit is not None}
    foreign = {name: "" for name, fit in known.items() if fit.is_other(config)}
    foreign |= _foreign([s for s in samples if s.name in known], config)
    if foreign:
        told = [f"{n} ({other})" if other else n for n, other in foreign.items()]
        yield (
            f"Labels that do not fit their image: {len(foreign)} of the {len(known)} "
            f"looked at ({some(told)}"
            + ("; in brackets the image that they fit" if any(foreign.values()) else "")
            + f"). {PARTLY if not all(foreign.values()) else ''}{SEE}"
        )
    yield from _of_shifts({n: f for n, f in known.items() if n not in foreign}, config)


def _of_shifts(known: Mapping[str, Fit], config: CheckConfig) -> Iterator[str]:
    common = common_shift(list(known.values()))
    if common != (0, 0):
        alike = sum(fit.shift_px == common for fit in known.values())
        yield (
            f"In {alike} of {len(known)} images labels fit better moved by "
            f"{_moved(common)}: were they drawn or saved with an offset?"
        )
    shifted = [
        f"{name} by {_moved(fit.shift_px)}"
        for name, fit in known.items()
        if fit.is_shifted(config) and fit.shift_px != common
    ]
    if shifted:
        yield (
            f"Labels that fit better moved: {len(shifted)} of {len(known)} looked at "
            f"({some(shifted)}). {SEE}"
        )


def _moved(shift_px: tuple[int, int]) -> str:
    down, right = shift_px
    ways = []
    if down:
        ways.append(f"{abs(down)} px {'down' if down > 0 else 'up'}")
    if right:
        ways.append(f"{abs(right)} px to the {'right' if right > 0 else 'left'}")
    return " and ".join(ways)


def _best_fit(sample: Sample, config: CheckConfig) -> Fit | None:
    """Return how labels fit the channel that they fit best."""
    whole = None if sample.annotated.all() else sample.annotated
    fits = [fit_of(plane, sample.labels, whole, config) for plane in sample.image]
    return max(
        (fit for fit in fits if fit is not None),
        key=lambda fit: abs(fit.best),
        default=None,
    )


def _foreign(samples: Sequence[Sample], config: CheckConfig) -> dict[str, str]:
    """Return the images whose labels fit another one better, and which."""
    groups: dict[tuple[int, ...], list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.annotated.all() and len(sample.image) == 1:
            groups[sample.labels.shape].append(sample)
    found: dict[str, str] = {}
    for group in groups.values():
        images = {s.name: small_picture(brightness(s.image[0])) for s in group}
        labels = {s.name: small_picture(s.labels > 0) for s in group}
        found |= better_partners(images, labels, config)
    return found


def _of_values(samples: Sequence[Sample]) -> Iterator[str]:
    odd = odd_values({s.name: s.labels for s in samples})
    if odd and len(odd) > 1 and set(odd) == _values_of(samples):
        yield (
            f"All values of the label images ({some(list(map(str, odd)))}) mark what "
            "is no single object: are they classes? Every object needs a number of its "
            "own; cellunet make-labels --kind coloured numbers connected pieces."
        )
        return
    for value, names in odd.items():
        yield (
            f"The value {value} marks what is no single object in {len(names)} "
            f"image{'' if len(names) == 1 else 's'} ({some(names)}). If it stands for "
            f"pixels that are not annotated, say so: --ignore-value {value}."
        )


def _values_of(samples: Sequence[Sample]) -> set[int]:
    found: set[int] = set()
    for sample in samples:
        found.update(np.unique(sample.labels[sample.labels > 0]).tolist())
    return found
