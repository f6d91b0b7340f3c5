"""Score predicted against true instance labels, image by image and over all images."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellunet.config import EvaluateConfig
from cellunet.errors import AnnotationError, InputError
from cellunet.imaging.annotations import read_annotation, read_labels
from cellunet.imaging.drawn.scribbles import shows_beside
from cellunet.imaging.encoding import encode
from cellunet.imaging.label_folders import pair_folders
from cellunet.imaging.scoring.image_scores import PROTOCOLS, score_image
from cellunet.imaging.scoring.pixel_scores import class_scores, confusion_matrix
from cellunet.imaging.scoring.scores import paired, refuse_different_images, summarize
from cellunet.progress import silent_track
from cellunet.registry import choose
from cellunet.tasks.evaluation import GROUPS, Evaluation, GroupScores

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.imaging.annotations import Annotation
    from cellunet.imaging.label_folders import LabelPair
    from cellunet.imaging.matching import Counts, Flags, Integers
    from cellunet.imaging.scoring.image_scores import ImageScores
    from cellunet.imaging.scoring.scores import Paired
    from cellunet.progress import Track
    from cellunet.tasks.evaluation import Group

    _Found = tuple[dict[str, ImageScores], Counts]


logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scorable:
    """One image with its true and its predicted labels."""

    name: str
    """Name of the image."""
    labels: Integers
    """True instance labels, YX, 0 background."""
    predicted: Integers
    """Predicted instance labels, YX, 0 background."""
    annotated: Flags | None = None
    """YX, True where the image is annotated; None: everywhere."""
    group: Group = "unseen"
    """What the model knows of this image."""
    class_maps: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None = None
    """True and predicted class numbers, YX, of the config's encoding; None: the true
    and the predicted labels are both encoded."""


def score_pairs(
    pairs: Iterable[Scorable], *, config: EvaluateConfig | None = None
) -> Evaluation:
    """Score images one by one, and summarise the seen and the unseen ones apart.

    Parameters
    ----------
    pairs
        Images with true and predicted labels; one is held in memory at a time if
        `pairs` is a generator.
    config
        Protocol, intervals and classes.

    Raises
    ------
    InputError
        If there are no images or a name comes twice.
    AnnotationError
        If the arrays of an image differ in shape or cannot be labels.
    """
    config = config or EvaluateConfig()
    groups: dict[Group, list[_Found]] = {group: [] for group in GROUPS}
    names: set[str] = set()
    for pair in pairs:
        if pair.name in names:
            raise InputError(f"The image {pair.name} is given twice.")
        names.add(pair.name)
        groups[pair.group].append(_score(pair, config))
    if not names:
        raise InputError(
            "There are no images to score.",
            hint="Scores need images on which objects are outlined.",
        )
    return Evaluation(
        config=config,
        groups={
            group: _group_scores(found, config)
            for group, found in groups.items()
            if found
        },
    )


def evaluate_folders(
    predicted: Path,
    labels: Path,
    *,
    config: EvaluateConfig | None = None,
    names: Collection[str] | None = None,
    ignore_value: int | None = None,
    track: Track = silent_track,
) -> Evaluation:
    """Score a folder of predicted label files against a folder of true ones.

    Parameters
    ----------
    predicted, labels
        Folders of TIFF or PNG label files, found and paired as in
        `cellunet.imaging.label_folders.pair_folders`. True labels can be any file
        that `cellunet.imaging.annotations.read_annotation` decodes, ROI sets and
        GeoJSON too.
    config
        Protocol, intervals and classes.
    names
        Score these images alone, whatever else the folders hold; None: all.
    ignore_value
        Value of the pixels of true label images that are not annotated.
    track
        Wraps the loop over images.

    Raises
    ------
    InputError
        If a folder is missing or empty, or files lack their partner.
    AnnotationError
        If a file cannot be read as labels, or the two files of an image differ in
        shape.
    """
    found = pair_folders(predicted, labels, names=names)
    tracked = track(found, "Scoring", total=len(found))
    read = (_read(pair, ignore_value) for pair in tracked)
    return score_pairs(filter(None, read), config=config)


def can_be_scored(annotation: Annotation, name: str) -> bool:
    """Return whether labels annotate any of an image; say what they leave open."""
    annotated = annotation.annotated
    if annotated is not None and not annotated.any():
        said = "%s is not scored: scribbles say nothing of whole objects."
        logger.warning(said, name)
        return False
    if annotated is not None and not shows_beside(annotation.labels, annotated):
        logger.warning(
            "%s: single objects count, nothing beside them. Scores say how many are "
            "found, not what else is found, nor whether outlines are too wide.",
            name,
        )
    return True


def compare(first: Evaluation, second: Evaluation) -> dict[str, Paired]:
    """Compare two models or folders image by image.

    Parameters
    ----------
    first, second
        Evaluations of the same images by the same protocol.

    Returns
    -------
    dict
        Name of a form to its differences, first minus second, over the images that
        neither has seen; if there are none, over those that neither was trained on.
        They name the images.

    Raises
    ------
    InputError
        If the images, true objects or protocols differ, or one of the two was trained
        on every image.
    """
    if first.config.protocol != second.config.protocol:
        raise InputError(
            f"The first was scored by protocol {first.config.protocol}, the second by "
            f"{second.config.protocol}.",
            hint="Score both by the same protocol.",
        )
    refuse_different_images(first.names, second.names)
    shared = _names(first, "unseen") & _names(second, "unseen")
    if not shared:
        shared = _names(first, "unseen", "chosen") & _names(second, "unseen", "chosen")
    if not shared:
        raise InputError("There is no image that neither of the two was trained on.")
    return {
        form: paired(
            _scores(first, form, shared),
            _scores(second, form, shared),
            config=first.config.bootstrap,
        )
        for form in PROTOCOLS[first.config.protocol]
    }


def _names(evaluation: Evaluation, *groups: Group) -> set[str]:
    found = [evaluation.groups[g].names for g in groups if g in evaluation.groups]
    return {name for names in found for name in names}


def _scores(
    evaluation: Evaluation, form: str, names: Collection[str]
) -> list[ImageScores]:
    """Return one form's scores of the images named, sorted by name."""
    every = [s for group in evaluation.groups.values() for s in group.scores[form]]
    return sorted((s for s in every if s.name in names), key=lambda s: s.name)


def _read(pair: LabelPair, ignore_value: int | None) -> Scorable | None:
    predicted = read_labels(pair.predicted)
    height, width = predicted.shape
    true = read_annotation(
        pair.labels,
        shape=(height, width),
        ignore_value=ignore_value,
        annotated=pair.annotated,
        scribbles=pair.scribbles,
    )
    if not can_be_scored(true, pair.name):
        return None
    labels = true.labels
    if labels.shape != predicted.shape:
        raise AnnotationError(
            f"{pair.predicted} is {_size(predicted)}, its true labels {pair.labels} "
            f"are {_size(labels)}.",
            hint="Predictions must have the size of the image that was annotated.",
        )
    return Scorable(
        name=pair.name, labels=labels, predicted=predicted, annotated=true.annotated
    )


def _size(labels: Integers) -> str:
    return " x ".join(map(str, labels.shape)) + " px"


def _score(pair: Scorable, config: EvaluateConfig) -> _Found:
    try:
        scores = score_image(
            pair.labels,
            pair.predicted,
            name=pair.name,
            forms=choose(PROTOCOLS, config.protocol, "protocol"),
            annotated=pair.annotated,
        )
        true, found = pair.class_maps or (
            encode(pair.labels, config.encoding),
            encode(pair.predicted, config.encoding),
        )
        confusion = confusion_matrix(
            true,
            found,
            classes=len(config.encoding.classes),
            annotated=pair.annotated,
        )
    except AnnotationError as error:
        raise AnnotationError(
            f"{pair.name}: {error.message}", hint=error.hint
        ) from error
    return scores, confusion


def _group_scores(images: list[_Found], config: EvaluateConfig) -> GroupScores:
    scores = {
        form: tuple(one[form] for one, _ in images)
        for form in choose(PROTOCOLS, config.protocol, "protocol")
    }
    confusion: Counts = np.sum([pixels for _, pixels in images], axis=0)
    return GroupScores(
        summaries={
            form: summarize(found, config=config.bootstrap)
            for form, found in scores.items()
        },
        scores=scores,
        classes=class_scores(confusion, config.encoding.classes),
    )
