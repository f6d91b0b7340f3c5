"""Check the images of a training before its first step.

Refused are only scribbles without a pretrained model and images of which none shows
anything; all else is a warning, since the user may know better. What cannot be read as
training data is refused where it is read (`cellunet.tasks.train.data`).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from cellunet.annotations import check
from cellunet.command_config import SCRATCH, CheckConfig
from cellunet.errors import ConfigError, InputError, some
from cellunet.imaging.quality import Appearance, summarize
from cellunet.io.scratch import Scratch
from cellunet.io.source import array_source
from cellunet.progress import silent_track
from cellunet.tasks.predict.appearance import Band, QualityRecorder
from cellunet.tasks.predict.inputs import evenly
from cellunet.tasks.predict.plane import as_labels, segment_plane
from cellunet.tasks.train.data import copies, is_scored, objects_of
from cellunet.tasks.train.pretrained import has_dark_objects, names_differ

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from cellunet.core.dataset import Sample
    from cellunet.io.source import Statistics
    from cellunet.progress import Track
    from cellunet.tasks.predict.settings import InferenceSettings
    from cellunet.tasks.train.data import TrainingData

MOST_STATISTICS = 400
"""Of more images as many are taken, evenly spread: their percentiles are as good."""


def training_statistics(
    samples: Sequence[Sample], recipe: InferenceSettings, track: Track = silent_track
) -> dict[str, list[float]]:
    """Return percentiles of what the training images look like.

    Parameters
    ----------
    samples
        Images; of several channels the first is described. Annotations are not needed.
    recipe
        How the trained model is applied.
    track
        Progress over images.

    Returns
    -------
    dict
        Name of a number of `Appearance` to its
        `cellunet.imaging.quality.PERCENTILES`.
    """
    chosen = evenly(samples, MOST_STATISTICS)
    return summarize(
        [
            appearance_of(
                sample.image,
                recipe,
                sample.statistics_for(recipe.config.normalization),
            )
            for sample in track(chosen, "Describing training images", len(chosen))
        ]
    )


def appearance_of(
    pixels: npt.NDArray[Any],
    recipe: InferenceSettings,
    statistics: Sequence[Statistics] | None = None,
) -> Appearance:
    """Return what one image looks like.

    Parameters
    ----------
    pixels
        CYX, the channels that the model looks at, any real dtype.
    recipe
        How the model is applied.
    statistics
        What intensities are scaled by, for each channel; None: the image's own.
    """
    source = array_source(pixels)
    observer = QualityRecorder(source, recipe)
    with Scratch() as scratch:
        plane = segment_plane(source, 0, recipe, scratch, statistics=statistics)
        observer.segmented([plane])
        observer.on_rows(Band(0, 0, pixels[0], as_labels(plane.bands())))
        return observer.finish().appearance


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
            f"Every training image has a single value ({some(names)}), so there "
            "is nothing to learn from.",
            hint="Are they of another channel, or exported empty? Export them again.",
        )


def suspicious_images(samples: Sequence[Sample]) -> Iterator[str]:
    """Yield in sentences what nobody means to train on.

    Parameters
    ----------
    samples
        Annotated images, at least one.
    """
    blank = [sample.name for sample in samples if _is_blank(sample)]
    if blank:
        yield (
            f"Images with a single value: {len(blank)} of {len(samples)} "
            f"({some(blank)}). They teach nothing: are they of another channel, or "
            "exported empty?"
        )
    drawn = [s.name for s in samples if s.name not in blank and _is_drawn(s)]
    if drawn:
        yield (
            f"Images with one value inside objects and one outside: {len(drawn)} of "
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
    """Return whether an image shows no more than its labels do."""
    plane, labels = sample.image[0], sample.labels
    outside = plane[labels == 0]
    if not outside.size or not (labels > 0).any() or (outside != outside[0]).any():
        return False
    ids = np.unique(labels[labels > 0])
    lowest = np.asarray(ndimage.minimum(plane, labels, ids))
    return bool((lowest == ndimage.maximum(plane, labels, ids)).all())


FEW_OBJECTS = 10
"""Below this many outlined objects a training is warned of."""

MOST_IMAGES = 60
"""Of more images as many are compared with their labels, evenly spread: what happened
to all of them shows."""

SEE = "cellunet check shows them."

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
        *check.value_notes({s.name: s.labels for s in both if s.kind == "labels"}),
        *suspicious_images(both),
    )


def _refuse_scribbles_alone(
    training: Sequence[Sample], start: str, target: str
) -> None:
    if any(objects_of(sample) for sample in training):
        return
    if target == "boundary":
        raise ConfigError(
            "No object is outlined, and the boundary target learns boundaries alone, "
            "which scribbles do not show.",
            hint="Outline some objects, or train for the target three-class.",
        )
    if start == SCRATCH:
        raise ConfigError(
            "No object is outlined: scribbles show what is inside and outside, but not "
            "where an object ends, which a network must have learned before.",
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
            f"object{'' if total == 1 else 's'} in all: expect little, or outline "
            "more."
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
                "cannot be scored: scribbles or single objects alone do not show "
                "the background"
                + ("." if data.validation else "; every network is trained on them.")
            )
        return
    yield (
        "No object is outlined, with its background, in the images to score: there "
        "will be no score, and the constants of decoding stay as they are."
        + ("" if data.validation else " Validation uses the training images.")
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
        listed = [f"{n} ({other})" if other else n for n, other in foreign.items()]
        yield (
            f"Labels that do not fit their image: {len(foreign)} of the {len(known)} "
            f"looked at ({some(listed)}"
            + ("; in brackets the image that they fit" if any(foreign.values()) else "")
            + f"). {PARTLY if not all(foreign.values()) else ''}{SEE}"
        )
    yield from _of_shifts({n: f for n, f in known.items() if n not in foreign}, config)


def _of_shifts(
    known: Mapping[str, check.LabelFit], config: CheckConfig
) -> Iterator[str]:
    common = check.common_shift(list(known.values()))
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


def _best_fit(sample: Sample, config: CheckConfig) -> check.LabelFit | None:
    """Return how labels fit the channel that they fit best."""
    whole = None if sample.annotated.all() else sample.annotated
    fits = [check.fit_of(plane, sample.labels, whole, config) for plane in sample.image]
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
        images = {
            s.name: check.small_picture(check.brightness(s.image[0])) for s in group
        }
        labels = {s.name: check.small_picture(s.labels > 0) for s in group}
        found |= check.better_partners(images, labels, config)
    return found
