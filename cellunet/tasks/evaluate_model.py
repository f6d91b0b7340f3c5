"""Score a model on annotated images, those that made it apart from the others."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellunet import store
from cellunet.config import (
    DEVICE,
    ENGINE,
    MODEL,
    THREADS,
    EvaluateConfig,
    PredictConfig,
)
from cellunet.errors import AnnotationError, InputError
from cellunet.imaging.encoding import encode
from cellunet.imaging.files import Region
from cellunet.imaging.pairing import find_pairs, image_print, is_known
from cellunet.imaging.scratch import Scratch
from cellunet.progress import silent_track
from cellunet.run.ahead import in_order
from cellunet.tasks.evaluate import Scorable, can_be_scored, score_pairs
from cellunet.tasks.prediction.channels_seen import refuse_misfit
from cellunet.tasks.prediction.read_notes import open_as
from cellunet.tasks.prediction.segment import as_labels, segment_plane
from cellunet.tasks.prediction.side_by_side import SideBySide
from cellunet.tasks.recipe import recipe_for, recipe_for_image
from cellunet.tasks.training.train_data import read_annotated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.imaging.pairing import Pair
    from cellunet.progress import Track
    from cellunet.store import Model, ModelCard
    from cellunet.tasks.evaluation import Evaluation, Group, Side
    from cellunet.tasks.prediction.segment import Recipe


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
    ignore_value: int | None = None,
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
    ignore_value
        Value of the pixels of label images that are not annotated.
    track
        Progress over images.

    Returns
    -------
    Evaluation
        Images that the model was trained on, or its decode constants chosen on, are
        recognised by the fingerprint of their pixels and scored apart.

    Raises
    ------
    CellunetError
        If the data or the model cannot be used.
    """
    opened = store.find_model(model)
    config = (config or EvaluateConfig()).replace(encoding=opened.card.config.encoding)
    predict_config = predict_config or PredictConfig()
    pairs = chosen_side(data, side)
    recipe = recipe_for(opened, predict_config, engine, device, threads)
    job = _Job(
        model=opened,
        config=predict_config,
        recipe=recipe,
        beside=SideBySide(
            opened,
            predict_config,
            engine,
            device,
            threads,
            recipe=recipe,
            images=len(pairs),
        ),
        ignore_value=ignore_value,
    )
    with closing(in_order(job.predicted, pairs, job.beside.at_once)) as done:
        found = track(done, "Evaluating", len(pairs))
        return score_pairs(filter(None, found), config=config)


def chosen_side(data: Path, side: Side) -> Sequence[Pair]:
    """Return the pairs of one side of a folder's own lists, or all.

    Where validation images alone are listed, the others are for training.

    Raises
    ------
    InputError
        If the folder has no such list.
    """
    found = find_pairs(data)
    if side == "all":
        return found.pairs
    names = found.validation if side == "validation" else found.train
    if side == "training" and names is None and found.validation is not None:
        held = set(found.validation)
        names = tuple(p.name for p in found.pairs if p.name not in held)
    if names is None:
        raise InputError(
            f"{data} has no list of {side} images.",
            hint="Leave out --side, or put the images in a folder of their own.",
        )
    return [pair for pair in found.pairs if pair.name in set(names)]


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A model loaded once and applied to annotated images."""

    model: Model
    config: PredictConfig
    recipe: Recipe
    beside: SideBySide
    ignore_value: int | None

    def predicted(self, pair: Pair) -> Scorable | None:
        """Return an image's true and predicted labels; None: nothing to be scored."""
        card = self.model.card
        with open_as(pair.image, self.config, known=card.channels) as source:
            refuse_misfit(source, self.model.name, card, self.config.channel)
            height, width = source.shape
            annotation = read_annotated(pair, (height, width), self.ignore_value)
            if not can_be_scored(annotation, pair.name):
                return None
            labels = annotation.labels
            if labels.shape != (height, width) or source.plane_shape:
                raise AnnotationError(
                    f"{pair.annotation} is {labels.shape[0]} x {labels.shape[1]}, but "
                    f"{pair.image} is {(*source.plane_shape, height, width)}.",
                    hint="Image and annotation need the same shape.",
                )
            kept: list[npt.NDArray[np.uint8]] = []
            recipe = recipe_for_image(self.recipe, self.config, source)
            with self.beside.passing(source, recipe) as own, Scratch() as scratch:
                result = segment_plane(
                    source,
                    0,
                    own,
                    scratch,
                    lambda _, rows: kept.append(classes_of(rows)),
                )
                predicted = as_labels(result.bands())
            pixels = source.read(Region(0, 0, height, 0, width))
        return Scorable(
            name=pair.name,
            labels=labels,
            predicted=predicted,
            annotated=annotation.annotated,
            group=_group(image_print(pixels), card),
            class_maps=(
                encode(labels, card.config.encoding),
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
