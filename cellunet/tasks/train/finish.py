"""Finish a training: decode constants, scores, verdict, files."""

from __future__ import annotations

import copy
import csv
import io
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cellunet import __version__, store
from cellunet.core.checkpoint import export_weights, weights_of
from cellunet.core.device import TorchEngine, torch_version
from cellunet.core.unet import mean_network
from cellunet.engine.runtimes import plane_probabilities
from cellunet.imaging.blocks import network_plan
from cellunet.imaging.normalize import network_input
from cellunet.imaging.quality import Appearance, summarize
from cellunet.imaging.targets import has_background
from cellunet.io.files import write_atomically, writing
from cellunet.io.png_jpeg import write_png
from cellunet.io.scratch import Scratch
from cellunet.io.source import array_source
from cellunet.metrics import fit
from cellunet.outputs.charts import learning_curves, svg
from cellunet.outputs.pictures import draw_outlines
from cellunet.progress import silent_track
from cellunet.tasks.predict.appearance import Band, QualityRecorder
from cellunet.tasks.predict.inputs import evenly
from cellunet.tasks.predict.plane import as_labels, segment_plane
from cellunet.tasks.predict.settings import InferenceSettings, at_scale
from cellunet.tasks.quantize import ranges_on_samples
from cellunet.tasks.train.data import has_objects, object_diameters_px, whole_name
from cellunet.tasks.train.pretrained import channel_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, TrainConfig
    from cellunet.core.dataset import Prepared, Sample
    from cellunet.core.unet import UNet
    from cellunet.engine.runtimes import Engine
    from cellunet.io.source import Statistics
    from cellunet.metrics.matching import ImageScores
    from cellunet.progress import Track
    from cellunet.store import ModelCard
    from cellunet.tasks.train.pretrained import PretrainedModel
    from cellunet.tasks.train.request import Hooks
    from cellunet.tasks.train.train import Run

PICTURES_FOLDER = "validation"

PICTURES = 4
"""Validation images that are drawn with truth and prediction."""


def write_history(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write ``history.csv`` of the epochs so far."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    with write_atomically(folder / "history.csv") as path:
        path.write_text(text.getvalue(), encoding="utf-8", newline="\n")


def draw_curves(
    folder: Path, history: Sequence[Mapping[str, float]], classes: Sequence[str]
) -> None:
    """Write ``curves.svg`` of the epochs so far."""
    with write_atomically(folder / "curves.svg") as path:
        path.write_text(
            svg(learning_curves(history, classes), "Learning curves"),
            encoding="utf-8",
            newline="\n",
        )


def write_pictures(
    folder: Path,
    truths: Sequence[fit.ValidationImage],
    images: Sequence[npt.NDArray[np.float32]],
    config: TrainConfig,
) -> None:
    """Write a few validation images with truth and prediction outlined.

    Parameters
    ----------
    folder
        The run's folder; the pictures go into ``validation`` in it.
    truths, images
        Validation images with their probabilities, and what the network sees of each,
        YX, in the same order.
    config
        As trained, with the decode constants that were chosen.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    pictures = folder / PICTURES_FOLDER
    with writing(pictures):
        pictures.mkdir(exist_ok=True)
        # Those of a run that this one replaces.
        for old in pictures.glob("*.png"):
            old.unlink()
    picked = np.unique(np.linspace(0, len(images) - 1, PICTURES).astype(int))
    for index in picked:
        truth = truths[index]
        labels = fit.decoded(truth, config.encoding, config.decode)
        picture = draw_outlines(images[index], truth.labels, other=labels)
        name = re.sub(r"[\\/:]", "_", truth.name)
        write_png(pictures / f"{name}.png", picture)


T = TypeVar("T")

SCORES = {"f1_50": 10, "f1_70": 14, "f1_90": 18}
"""F1 at these IoU thresholds, in twentieths."""


class TrainingStopped(Exception):  # noqa: N818
    """The caller asked to stop after the last epoch, whose state is saved."""


@dataclass(frozen=True, kw_only=True)
class FinishedModel:
    """What the model is made of."""

    network: UNet
    decode: DecodeConfig
    scores: dict[str, float]
    expected: fit.ExpectedScores | None
    """None if there was nothing to score."""
    kept_start: bool
    truths: list[fit.ValidationImage]
    """Of the images that were not trained on, by the networks that missed them."""


def finish(run: Run) -> tuple[ModelCard, FinishedModel]:
    """Choose the decode constants and write the model and its pictures.

    Where training started from a model, the start is kept unless what was trained is
    better on images that were not trained on, by `cellunet.metrics.fit.rank`.

    Raises
    ------
    TrainingStopped
        If the caller asked to stop.
    CellunetError
        If the model cannot be written.
    """
    track = _stoppable(run.hooks)
    verdict = _verdict(run, track)
    config = run.config.replace(decode=verdict.decode)
    if run.start is not None and verdict.kept_start:
        # What the weights were made with, not what was tried in vain.
        config = run.start.card.config.replace(
            normalization=config.normalization, scale=config.scale
        )
    card = _card(run, config, verdict, track)
    export_weights(run.folder / store.WEIGHTS_FILE, verdict.network, card)
    images = [p.crop.image[0] for fold in run.folds for p in fold.validation]
    write_pictures(run.folder, verdict.truths, images, config)
    return card, verdict


def _verdict(run: Run, track: Track) -> FinishedModel:
    """Choose constants, and between what was trained and what it started from."""
    config = run.config
    pictured = _predicted(run, run.networks, track)
    trained = FinishedModel(
        network=mean_network(run.networks),
        decode=config.decode,
        scores={},
        expected=None,
        kept_start=False,
        truths=pictured,
    )
    truths = scorable(pictured)
    if not truths:
        # There is nothing to choose by.
        return trained
    chosen = constants(config, truths, track, started=run.start is not None)
    found = fit.piece_scores(truths, chosen.crossed, config.encoding)
    trained = replace(
        trained,
        decode=chosen.decode,
        scores=mean_scores(chosen.scores),
        expected=fit.expected(
            found,
            None,
            images=len(truths),
            of_one_image=_of_one_image(run, truths),
        ),
    )
    return _or_start(run, run.start, trained, found, track) if run.start else trained


def _or_start(
    run: Run,
    start: PretrainedModel,
    trained: FinishedModel,
    found: Sequence[ImageScores],
    track: Track,
) -> FinishedModel:
    """Return what was trained if it gained over the start, else the start."""
    config = run.config
    network = copy.deepcopy(start.network).to(run.device)
    theirs = start.card.config.decode
    with_edge = replace(run, config=config.replace(decode=theirs))
    pictured = _predicted(with_edge, [network] * len(run.folds), track)
    before = scorable(pictured)
    scores = fit.piece_scores(before, [theirs] * len(before), config.encoding)
    one = _of_one_image(run, before)
    verdict = fit.expected(found, scores, images=len(before), of_one_image=one)
    if fit.rank(found) > fit.rank(scores):
        return replace(trained, expected=verdict)
    kept = fit.expected(scores, scores, images=len(before), of_one_image=one)
    return FinishedModel(
        network=network,
        decode=theirs,
        scores=mean_scores(
            [fit.score_truth(truth, config.encoding, [theirs])[0] for truth in before]
        ),
        expected=replace(kept, gain=verdict.gain),
        kept_start=True,
        truths=pictured,
    )


def _of_one_image(run: Run, truths: Sequence[fit.ValidationImage]) -> bool:
    """Return whether what is scored is parts of one image, others of it trained on."""
    return not run.data.validation and len({whole_name(t.name) for t in truths}) == 1


def scorable(truths: Sequence[fit.ValidationImage]) -> list[fit.ValidationImage]:
    """Return the images that can be scored: not of scribbles or single objects alone.

    None, if no object is among it: constants would be chosen that find none.
    """
    seen = [truth for truth in truths if has_background(truth.labels, truth.annotated)]
    objects = any(fit.holds_object(truth.labels, truth.annotated) for truth in seen)
    return seen if objects else []


def constants(
    config: TrainConfig,
    truths: Sequence[fit.ValidationImage],
    track: Track,
    *,
    started: bool,
) -> fit.DecodeFit:
    """Return the constants chosen on all images, and what each image was scored with.

    Parameters
    ----------
    config
        As trained; its constants are those of the model that training started from.
    truths
        Images that were not trained on, with their probabilities.
    track
        Progress over candidates.
    started
        Whether there is such a model, whose constants stay unless others score better.
    """
    # Where the search begins: at the odds that the weights of the loss gave.
    begin = config.decode.replace(class_odds=config.weights.class_weights)
    known = config.decode if started else None
    return fit.fit(truths, config.encoding, begin, track, known=known)


def _predicted(
    run: Run, networks: Sequence[UNet], track: Track
) -> list[fit.ValidationImage]:
    """Return the images that each fold kept out, with its network's probabilities."""
    work = [
        (network, prepared)
        for network, fold in zip(networks, run.folds, strict=True)
        for prepared in fold.validation
    ]
    return [
        truth_of(TorchEngine(network, run.device), prepared, run.config)
        for network, prepared in track(work, "Predicting validation images", len(work))
    ]


def truth_of(
    engine: Engine, prepared: Prepared, config: TrainConfig
) -> fit.ValidationImage:
    """Return a prepared image with its probabilities, as the network sees it."""
    labels, scaled = prepared.crop.labels, prepared.crop.image[0]
    probabilities = plane_probabilities(
        engine,
        network_input(prepared.crop.image, config.normalization),
        network_plan((labels.shape[0], labels.shape[1]), config.network),
        config.network.classes,
    )
    return fit.ValidationImage(
        name=prepared.name,
        intensities=_linear(scaled, config) if config.decode.edge else None,
        # Half precision holds what a threshold needs, in half the memory.
        probabilities=probabilities.astype(np.float16),
        labels=labels,
        annotated=prepared.crop.scored,
    )


def _linear(
    scaled: npt.NDArray[np.float32], config: TrainConfig
) -> npt.NDArray[np.float32]:
    """Return intensities on which half way is half way, whatever the network sees."""
    return scaled if config.normalization.curve == "linear" else scaled**2


def _stoppable(hooks: Hooks) -> Track:
    def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        for item in hooks.track(items, label, total):
            if hooks.should_stop():
                raise TrainingStopped
            yield item

    return track


def mean_scores(scores: Sequence[ImageScores]) -> dict[str, float]:
    """Return the scores that a model's card quotes."""
    means = {"mean_ap": fit.rank(scores)[1]}
    for name, t20 in SCORES.items():
        means[name] = float(np.mean([s.f1_at(t20) for s in scores]))
    return means


def _card(
    run: Run, config: TrainConfig, verdict: FinishedModel, track: Track
) -> ModelCard:
    start = run.start
    if start is not None and (verdict.kept_start or not has_objects(run.data.training)):
        diameters = start.card.diameter_px
    else:
        low, median, high = object_diameters_px(run.data.training)
        # As the network sees them.
        diameters = low * config.scale, median * config.scale, high * config.scale
    recipe = InferenceSettings(
        engine=TorchEngine(verdict.network, run.device),
        config=config,
        decode=at_scale(config.decode, config.scale),
        scale=config.scale,
    )
    return store.ModelCard(
        name=run.name,
        config=config,
        epochs=run.state.epoch,
        training=_with_those_of(start, "training", run.data.training_prints),
        validation=_with_those_of(start, "validation", run.data.validation_prints),
        start={}
        if start is None
        else {
            "name": start.name,
            "sha256": start.sha256,
            "kept": "yes" if verdict.kept_start else "no",
        },
        scores=verdict.scores,
        diameter_px=diameters,
        training_statistics=training_statistics(run.data.training, recipe, track),
        versions={
            "cellunet": __version__,
            "torch": torch_version(),
            "numpy": np.__version__,
        },
        channels=channel_names(run.data.samples),
        int8_ranges=ranges_on_samples(
            weights_of(verdict.network), config, run.data.training, run.threads, track
        ),
    )


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


def _with_those_of(
    start: PretrainedModel | None, side: str, prints: dict[str, str]
) -> dict[str, str]:
    if start is None:
        return prints
    return store.with_those_of(start.name, getattr(start.card, side), prints)
