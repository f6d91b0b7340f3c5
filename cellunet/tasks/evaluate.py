"""Score labels or a model on annotated images."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellunet import store
from cellunet.annotations.check import value_notes
from cellunet.annotations.label_pairs import pair_folders
from cellunet.annotations.pairs import content_hash, find_pairs, is_known
from cellunet.annotations.read import predicted_kind, read_annotation, read_predicted
from cellunet.command_config import (
    DEVICE,
    ENGINE,
    MODEL,
    THREADS,
    AnnotationConfig,
    EvaluateConfig,
    PredictConfig,
)
from cellunet.errors import AnnotationError, ConfigError, InputError, choose
from cellunet.imaging.targets import encode, has_background
from cellunet.io.scratch import Scratch
from cellunet.io.source import Region, one_plane
from cellunet.metrics.matching import (
    PROTOCOLS,
    class_scores,
    confusion_matrix,
    score_image,
)
from cellunet.metrics.summary import paired, refuse_different_images, summarize
from cellunet.progress import silent_track
from cellunet.tasks.predict.image import ImageScheduler
from cellunet.tasks.predict.inputs import open_as, refuse_misfit
from cellunet.tasks.predict.plane import as_labels, segment
from cellunet.tasks.predict.settings import settings_for, settings_for_image
from cellunet.tasks.predict.sizes import batch_size, find_size, finds_size, with_size
from cellunet.tasks.scheduling import in_order
from cellunet.tasks.train.data import read_annotated

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.annotations.label_pairs import LabelPair
    from cellunet.annotations.pairs import Pair
    from cellunet.annotations.types import Annotation
    from cellunet.io.source import Source
    from cellunet.metrics.matching import (
        ClassScores,
        Counts,
        Flags,
        ImageScores,
        Integers,
    )
    from cellunet.metrics.summary import Paired, Summary
    from cellunet.progress import Track
    from cellunet.store import Model, ModelCard
    from cellunet.tasks.predict.settings import InferenceSettings
    from cellunet.tasks.predict.sizes import Size

    _Found = tuple[dict[str, ImageScores], Counts]

logger = logging.getLogger(__name__)

Group = Literal["unseen", "chosen", "trained"]
"""What a model knows of an image: nothing; its decode constants were chosen on it; its
weights were trained on it."""

GROUPS: tuple[Group, ...] = ("unseen", "chosen", "trained")

Side = Literal["all", "training", "validation"]
"""Images of a folder that has lists of training and validation images."""


@dataclass(frozen=True, kw_only=True)
class GroupScores:
    """Scores of the images of one group, in each form of the protocol."""

    summaries: Mapping[str, Summary]
    """Name of a form to its summary, the headline's first."""
    scores: Mapping[str, tuple[ImageScores, ...]]
    """Name of a form to the scores of its images, in the order they came."""
    classes: tuple[ClassScores, ...]
    """Precision and recall of each class over the pixels of all images."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images, in the order they came."""
        return next(iter(self.summaries.values())).images

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "forms": {form: s.to_dict() for form, s in self.summaries.items()},
            "classes": [c.to_dict() for c in self.classes],
            "scores": {
                form: [one.to_dict() for one in images]
                for form, images in self.scores.items()
            },
        }


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of images, those that the model has seen apart from those it has not."""

    config: EvaluateConfig
    """How it was scored."""
    groups: Mapping[Group, GroupScores]
    """Scores by what the model knows of the images; empty groups are absent."""

    @property
    def unseen(self) -> GroupScores | None:
        """Images that played no part in making the model; None if there are none."""
        return self.groups.get("unseen")

    @property
    def headline(self) -> Summary | None:
        """The figures to quote: unseen images, first form; None if all are seen."""
        if self.unseen is None:
            return None
        return next(iter(self.unseen.summaries.values()))

    @property
    def names(self) -> set[str]:
        """Names of all images."""
        return {name for group in self.groups.values() for name in group.names}

    @property
    def only_seen(self) -> bool:
        """Whether every image is known to the model, so that no figure is fair."""
        return self.unseen is None

    @property
    def only_trained(self) -> bool:
        """Whether the model was trained on every image."""
        return set(self.groups) == {"trained"}

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "config": self.config.to_dict(),
            "only_seen": self.only_seen,
            "headline": self.headline.to_dict() if self.headline else None,
            "groups": {name: group.to_dict() for name, group in self.groups.items()},
        }

    def csv_rows(self) -> list[dict[str, str | int | float | None]]:
        """Return one row per image and form, all of the same keys."""
        return [
            {"group": group, "form": form, **one.csv_row()}
            for group, found in self.groups.items()
            for form, images in found.scores.items()
            for one in images
        ]


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
    """Score images one by one, and summarize the seen and the unseen ones apart.

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
    annotations: AnnotationConfig | None = None,
    track: Track = silent_track,
) -> Evaluation:
    """Score a folder of predicted label files against a folder of true ones.

    Parameters
    ----------
    predicted, labels
        Folders of TIFF or PNG label files, found and paired as in
        `cellunet.annotations.label_pairs.pair_folders`. True labels can be any file
        that `cellunet.annotations.read.read_annotation` decodes, ROI sets and
        GeoJSON too.
    config
        Protocol, intervals and classes.
    names
        Score these images alone, whatever else the folders hold; None: all.
    annotations
        How true labels are read.
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
    annotations = annotations or AnnotationConfig()
    planes = annotations.planes
    found = pair_folders(predicted, labels, names=names, planes=planes)
    tracked = track(found, "Scoring", total=len(found))
    planes_of: dict[Path, list[int | None]] = defaultdict(list)
    for pair in found:
        planes_of[pair.predicted].append(pair.other_plane)
    kind = cache(lambda path: predicted_kind(path, planes_of[path]))
    read = (_read(pair, kind(pair.predicted), annotations) for pair in tracked)
    return score_pairs(filter(None, read), config=config)


def can_be_scored(annotation: Annotation, name: str) -> bool:
    """Return whether labels annotate any of an image; warn of what cannot be scored."""
    annotated = annotation.annotated
    _warn_of_values(annotation, name)
    if annotated is not None and not annotated.any():
        logger.warning("%s is not scored: scribbles are no whole objects.", name)
        return False
    if annotated is not None and not has_background(annotation.labels, annotated):
        logger.warning(
            "%s: only single objects count, not the background. Scores show how many "
            "are found, but not false objects or outlines that are too wide.",
            name,
        )
    return True


def _warn_of_values(annotation: Annotation, name: str) -> None:
    if annotation.kind == "labels":
        for note in value_notes({name: annotation.labels}):
            logger.warning("%s", note)


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


def _read(pair: LabelPair, kind: str, annotations: AnnotationConfig) -> Scorable | None:
    found = read_predicted(pair.predicted, kind, pair.other_plane)
    predicted = found.labels
    height, width = predicted.shape
    true = read_annotation(
        pair.labels,
        shape=(height, width),
        plane=pair.plane,
        annotated=pair.annotated,
        scribbles=pair.scribbles,
        **annotations.of_one_image(),
    )
    for note in true.notes:
        logger.warning("%s: %s", pair.labels, note)
    _warn_of_values(found, pair.predicted.name)
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


def evaluate_model(  # noqa: PLR0913
    data: Path,
    *,
    model: str = MODEL,
    side: Side = "all",
    engine: str = ENGINE,
    device: str = DEVICE,
    threads: int = THREADS,
    config: EvaluateConfig | None = None,
    predict_config: PredictConfig | None = None,
    annotations: AnnotationConfig | None = None,
    track: Track = silent_track,
) -> Evaluation:
    """Predict annotated images and score the labels against the annotation.

    Parameters
    ----------
    data
        A folder of images and annotations in any layout that `train` takes.
    model
        Name or path of the model.
    side
        Images of a folder that has lists: ``all``, ``training`` or ``validation``.
    engine, device, threads
        What computes, as for the command line.
    config
        Protocol and intervals.
    predict_config
        How the model is applied.
    annotations
        How annotations are read.
    track
        Progress over images.

    Returns
    -------
    Evaluation
        Images that the model was trained on, or its decode constants chosen on, are
        recognized by the fingerprint of their pixels and scored apart.

    Raises
    ------
    CellunetError
        If the data or the model cannot be used.
    """
    opened = store.find_model(model)
    config = (config or EvaluateConfig()).replace(encoding=opened.card.config.encoding)
    predict_config = predict_config or PredictConfig()
    annotations = annotations or AnnotationConfig()
    if predict_config.within is not None:
        raise ConfigError(
            "Regions within which objects are looked for were given, but scores are of "
            "whole images.",
            hint="Leave them out; a folder `annotated` beside the images says which "
            "parts of them count.",
        )
    pairs = chosen_side(data, side, annotations.planes)
    recipe = settings_for(opened, predict_config, engine, device, threads)
    images = [*dict.fromkeys(pair.image for pair in pairs)]
    size = batch_size(images, recipe, predict_config, opened.card)
    if size is not None:
        recipe = with_size(recipe, predict_config, opened.card, size)
    one_at_a_time = threading.Lock()

    @cache
    def size_of(stack: Path) -> Size:
        """Return the size of the objects of a stack, as `predict` finds it."""
        with open_as(stack, predict_config, known=opened.card.channels) as source:
            return find_size(source, recipe, opened.card)

    def size_for(pair: Pair) -> Size | None:
        found = finds_size(predict_config, opened.card) and size is None
        if pair.other_plane is None or not found:
            return None
        with one_at_a_time:
            return size_of(pair.image)

    scheduler = ImageScheduler(
        opened,
        predict_config,
        engine,
        device,
        threads,
        recipe=recipe,
        images=len(pairs),
    )
    predicted = partial(
        _predicted,
        model=opened,
        config=predict_config,
        recipe=recipe,
        scheduler=scheduler,
        annotations=annotations,
        size_for=size_for,
    )
    with closing(in_order(predicted, pairs, scheduler.at_once)) as done:
        found = track(done, "Evaluating", len(pairs))
        return score_pairs(filter(None, found), config=config)


def chosen_side(data: Path, side: Side, planes: str | None = None) -> Sequence[Pair]:
    """Return the pairs of one side of a folder's own lists, or all.

    Where validation images alone are listed, the others are for training.

    Raises
    ------
    InputError
        If the folder has no such list.
    """
    found = find_pairs(data, planes)
    for note in found.left_out:
        logger.warning("%s", note)
    if side == "all":
        return found.pairs
    names = found.validation if side == "validation" else found.train
    if side == "training" and names is None and found.validation is not None:
        kept_out = set(found.validation)
        names = tuple(p.name for p in found.pairs if p.name not in kept_out)
    if names is None:
        raise InputError(
            f"{data} has no list of {side} images.",
            hint="Leave out --side, or put the images in a folder of their own.",
        )
    chosen = set(names)
    return [pair for pair in found.pairs if pair.name in chosen]


def read_scorable(
    pair: Pair, source: Source, annotations: AnnotationConfig
) -> Annotation | None:
    """Return how an open image is annotated; None: nothing of it can be scored.

    Raises
    ------
    AnnotationError
        If the annotation cannot be read or is not of the image's shape.
    """
    found = read_annotated(
        pair, source.shape, annotations, channels=len(source.file_channels)
    )
    if not can_be_scored(found, pair.name):
        return None
    labels = found.labels
    if labels.shape != source.shape or source.plane_shape:
        raise AnnotationError(
            f"{pair.annotation} is {labels.shape[0]} x {labels.shape[1]}, but "
            f"{pair.image} is {(*source.plane_shape, *source.shape)}.",
            hint="Image and annotation need the same shape.",
        )
    return found


def _predicted(  # noqa: PLR0913
    pair: Pair,
    *,
    model: Model,
    config: PredictConfig,
    recipe: InferenceSettings,
    scheduler: ImageScheduler,
    annotations: AnnotationConfig,
    size_for: Callable[[Pair], Size | None],
) -> Scorable | None:
    """Return an image's true and predicted labels; None: nothing to be scored."""
    card = model.card
    opened = open_as(pair.image, config, known=card.channels)
    with one_plane(opened, pair.other_plane) as source:
        refuse_misfit(source, model.name, card, config.channel)
        annotation = read_scorable(pair, source, annotations)
        if annotation is None:
            return None
        kept: list[npt.NDArray[np.uint8]] = []
        recipe = settings_for_image(recipe, config, source)
        passing = scheduler.passing(source, recipe, card, size=size_for(pair))
        with passing as chosen, Scratch() as scratch:
            result = segment(
                source,
                0,
                chosen.recipe,
                scratch,
                lambda _, rows: kept.append(classes_of(rows)),
                statistics=chosen.statistics.get(0),
            )
            predicted = as_labels(result.bands())
        pixels = source.read(Region(0, 0, source.shape[0], 0, source.shape[1]))
    return Scorable(
        name=pair.name,
        labels=annotation.labels,
        predicted=predicted,
        annotated=annotation.annotated,
        group=_group(content_hash(pixels), card),
        class_maps=(
            encode(annotation.labels, card.config.encoding),
            np.concatenate(kept),
        ),
    )


def classes_of(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return the likeliest class of each pixel, YX uint8, of KYX."""
    classes: npt.NDArray[np.uint8] = rows.argmax(axis=0).astype(np.uint8)
    return classes


def _group(print_: str, card: ModelCard) -> Group:
    if is_known(print_, card.training.values()):
        return "trained"
    return "chosen" if is_known(print_, card.validation.values()) else "unseen"
