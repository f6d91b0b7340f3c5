"""Annotated images dealt into parts, each to be scored by a network that misses it."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cellunet.errors import ConfigError, InputError
from cellunet.imaging.drawn.scribbles import shows_beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellunet.core.dataset import Sample


@dataclass(frozen=True, kw_only=True)
class Fold:
    """What one network is trained on, and what it is scored on."""

    training: tuple[Sample, ...]
    held: tuple[Sample, ...]


def dealt(samples: Sequence[Sample], folds: int, seed: int) -> list[Fold]:
    """Deal images into folds; a single image is cut into strips.

    What has scribbles alone, or single objects, cannot be scored: every fold trains on
    it, and if it is for the lack of other images alone that there are fewer than folds,
    these are fewer.

    Parameters
    ----------
    samples
        Annotated images, at least one that can be scored (`is_scored`).
    folds
        How many, 2 or more.
    seed
        Seed of the deal: the same names and seed give the same folds everywhere.

    Raises
    ------
    ConfigError
        If there are more folds than images, and more than one image.
    InputError
        If a network would be trained without any object.
    """
    aside = tuple(s for s in samples if not is_scored(s))
    if folds <= len(samples):
        folds = max(min(folds, len(samples) - len(aside)), 2)
    samples = [s for s in samples if is_scored(s)]
    parts: list[tuple[Sample, ...]]
    if len(samples) == 1:
        parts = [(strip,) for strip in _strips(samples[0], folds)]
    elif folds > len(samples):
        raise ConfigError(
            f"{folds} folds were asked for, but there are {len(samples)} annotated "
            "images.",
            hint=f"Try: --folds {len(samples)}.",
        )
    else:
        # Python promises that random() repeats across versions.
        rng = random.Random(seed)
        keys = {s.name: rng.random() for s in sorted(samples, key=lambda s: s.name)}
        # Crowded and sparse images are dealt in turn.
        order = sorted(samples, key=lambda s: (-objects_of(s), keys[s.name]))
        parts = [tuple(order[i::folds]) for i in range(folds)]
    return [
        Fold(
            training=_with_objects(
                tuple(s for j, part in enumerate(parts) if j != i for s in part) + aside
            ),
            held=held,
        )
        for i, held in enumerate(parts)
    ]


def is_scored(sample: Sample) -> bool:
    """Return whether an image can be scored: not by scribbles and objects alone."""
    return shows_beside(sample.labels, sample.annotated)


def objects_of(sample: Sample) -> int:
    """Return how many objects of an image are annotated."""
    return len(np.unique(sample.labels[sample.annotated & (sample.labels > 0)]))


def _with_objects(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    if not any(objects_of(s) for s in samples):
        raise InputError(
            "All annotated objects are in one part of the images, so that no network "
            "can be trained without that part and scored on it.",
            hint="Annotate more objects, in more than one image or place; a few dozen "
            "are a good beginning.",
        )
    return samples


def _strips(sample: Sample, count: int) -> list[Sample]:
    """Cut what is annotated of an image into strips with as many objects each.

    Across the longer side of what is annotated, between the centres of objects.
    """
    places = np.nonzero(sample.annotated)
    axis = int(np.argmax([int(np.ptp(p)) if p.size else 0 for p in places]))
    objects = np.unique(sample.labels[sample.annotated & (sample.labels > 0)])
    if len(objects) < count:
        raise InputError(
            f"{sample.name} has {len(objects)} annotated "
            f"{'object' if len(objects) == 1 else 'objects'}; a single image needs at "
            f"least {count}, so that some can be kept out and scored.",
            hint="Annotate more objects, a few dozen are a good beginning, or another "
            "image.",
        )
    rows = np.nonzero(np.isin(sample.labels, objects))
    centres = np.sort(
        np.bincount(sample.labels[rows], rows[axis])[objects]
        / np.bincount(sample.labels[rows])[objects]
    )
    inner = [len(objects) * i // count for i in range(1, count)]
    cuts = [round((centres[i - 1] + centres[i]) / 2) for i in inner]
    edges = [0, *cuts, sample.labels.shape[axis]]
    strips = []
    for number, (start, stop) in enumerate(itertools.pairwise(edges), 1):
        view = np.s_[start:stop] if axis == 0 else np.s_[:, start:stop]
        here = np.zeros_like(sample.annotated)
        here[view] = True
        name = f"{sample.name}, part {number}"
        said = sample.scribbles
        if said is not None:
            # Those of another strip would tell what that one is scored on.
            said = said * here
        annotated = sample.annotated & here
        strips.append(replace(sample, name=name, annotated=annotated, scribbles=said))
    return strips
