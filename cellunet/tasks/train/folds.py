"""Divide annotated images into folds: what each network is trained on and scored on."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cellunet.errors import ConfigError, InputError
from cellunet.imaging.targets import has_background
from cellunet.tasks.train.data import whole_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellunet.core.dataset import Sample


@dataclass(frozen=True, kw_only=True)
class Fold:
    """The images of one network: trained on, and scored."""

    training: tuple[Sample, ...]
    validation: tuple[Sample, ...]


def make_folds(samples: Sequence[Sample], folds: int, seed: int) -> list[Fold]:
    """Divide images into folds; a single image is cut into strips.

    What has scribbles alone, or single objects, cannot be scored: every fold trains on
    it, and if it is for the lack of other images alone that there are fewer than folds,
    these are fewer; so they are if there are fewer stacks and images to keep together.

    Parameters
    ----------
    samples
        Annotated images, at least one that can be scored (`is_scored`).
    folds
        How many, 2 or more.
    seed
        The same names and seed give the same folds everywhere.

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
        groups = _alike(samples)
        folds = min(folds, len(groups))
        keys = {name: rng.random() for name in sorted(groups)}
        counts = {name: sum(map(objects_of, group)) for name, group in groups.items()}
        # Crowded and sparse images take turns, so that every fold has both.
        order = sorted(groups, key=lambda name: (-counts[name], keys[name]))
        parts = [
            tuple(s for name in order[i::folds] for s in groups[name])
            for i in range(folds)
        ]
    return [
        Fold(
            training=_with_objects(
                tuple(s for j, part in enumerate(parts) if j != i for s in part) + aside
            ),
            validation=validation,
        )
        for i, validation in enumerate(parts)
    ]


def is_scored(sample: Sample) -> bool:
    """Return whether an image can be scored: not by scribbles and objects alone."""
    return has_background(sample.labels, sample.annotated)


def objects_of(sample: Sample) -> int:
    """Return how many objects of an image are annotated."""
    return len(np.unique(sample.labels[sample.annotated & (sample.labels > 0)]))


def _alike(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Return what belongs into one fold: planes of a stack and parts of an image.

    They are too alike for some to be scored where others are trained on. Where all
    objects are in one stack or image, each plane or part is one of its own.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.origin or whole_name(sample.name), []).append(sample)
    crowded = [group for group in groups.values() if any(map(objects_of, group))]
    return groups if len(crowded) > 1 else {s.name: [s] for s in samples}


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

    Across the longer side of what is annotated, between the centers of objects.
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
    # Not by the labels themselves, which may be as large as their type allows.
    numbers = np.searchsorted(objects, sample.labels[rows])
    centers = np.sort(np.bincount(numbers, rows[axis]) / np.bincount(numbers))
    inner = [len(objects) * i // count for i in range(1, count)]
    cuts = [round((centers[i - 1] + centers[i]) / 2) for i in inner]
    edges = [0, *cuts, sample.labels.shape[axis]]
    strips = []
    for number, (start, stop) in enumerate(itertools.pairwise(edges), 1):
        view = np.s_[start:stop] if axis == 0 else np.s_[:, start:stop]
        here = np.zeros_like(sample.annotated)
        here[view] = True
        name = f"{sample.name}, part {number}"
        scribbles = sample.scribbles
        if scribbles is not None:
            # Those of another strip would teach what that one is scored on.
            scribbles = scribbles * here
        annotated = sample.annotated & here
        strips.append(
            replace(sample, name=name, annotated=annotated, scribbles=scribbles)
        )
    return strips
