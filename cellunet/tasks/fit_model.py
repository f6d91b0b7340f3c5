"""Fit a model to a few annotated images without training: size, contrast, edge, seeds.

Each setting is chosen on all pieces but one and scored on that one, each piece in turn.
It is taken over only where that gains more than its own uncertainty, so what a model
gains is said of pieces that it was not chosen on.
"""

from __future__ import annotations

import itertools
import math
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet import store
from cellunet.annotations.pairs import content_hash, find_pairs
from cellunet.command_config import (
    DEVICE,
    ENGINE,
    THREADS,
    AnnotationConfig,
    PredictConfig,
)
from cellunet.errors import AnnotationError, ConfigError
from cellunet.imaging.measure import equivalent_diameters
from cellunet.imaging.sizes import rounded
from cellunet.io.files import writing
from cellunet.io.scratch import Scratch
from cellunet.io.source import Region, array_source, one_plane
from cellunet.metrics.matching import score_image
from cellunet.progress import silent_track
from cellunet.tasks.evaluate import read_scorable
from cellunet.tasks.predict.inputs import open_as, refuse_misfit
from cellunet.tasks.predict.plane import as_labels, segment
from cellunet.tasks.predict.settings import at_scale, settings_for
from cellunet.tasks.predict.sizes import find_size, with_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.io.crops import CropMetadata
    from cellunet.io.source import Pages
    from cellunet.metrics.matching import ImageScores
    from cellunet.progress import Track
    from cellunet.store import Model, ModelCard
    from cellunet.tasks.predict.settings import InferenceSettings
    from cellunet.tasks.predict.sizes import Size

    Labels = npt.NDArray[Any]

MOST_IMAGES = 20
"""More are worth a training, which gains more."""

EDGES_TRIED = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)

SEEDS_TRIED = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

CONFIDENCES_TRIED = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8)

WHOLE = 3
"""From so many images on each is a piece; two are halved, one is quartered."""


@dataclass(frozen=True)
class FittedSettings:
    """How a model is applied; None where it is not fitted."""

    scale: float | None = None
    """Magnification; None: found for each image."""
    curve: str | None = None
    edge: float | None = None
    seed_threshold: float | None = None
    min_confidence: float | None = None

    @property
    def decode(self) -> dict[str, Any]:
        """Constants of decoding that are fitted, by name."""
        names = ("edge", "seed_threshold", "min_confidence")
        return {n: v for n, v in vars(self).items() if n in names and v is not None}


@dataclass(frozen=True, kw_only=True)
class FittedModel:
    """What was fitted, and what it gains on pieces that it was not chosen on."""

    name: str
    path: Path
    """Folder of the new model."""
    start: str
    """Name of the model that it was made of."""
    images: int
    pieces: int
    """Images, or parts of one or two, that were scored in turn."""
    setting: FittedSettings
    before: dict[str, float]
    """Mean AP and F1 at .50 of the model as it was."""
    after: dict[str, float]
    """The same, each piece with what was chosen on the others."""
    notes: tuple[str, ...]
    """What was taken over and what was not, in sentences."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return dict(vars(self)) | {
            "path": str(self.path),
            "setting": vars(self.setting),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True)
class _Annotated:
    """An image that is annotated, at least in part."""

    name: str
    pixels: npt.NDArray[Any]
    labels: Labels
    annotated: npt.NDArray[np.bool_] | None
    cut_from: CropMetadata | None
    """Of a crop: it is scaled as its field is."""
    size: Size | None
    """Of the objects of the stack, if it is a plane of one."""


@dataclass(frozen=True)
class _Piece:
    """A part of an image that is scored by itself."""

    image: int
    rows: slice
    columns: slice


def fit_model(  # noqa: PLR0913
    model: str,
    data: Path,
    name: str,
    *,
    engine: str = ENGINE,
    device: str = DEVICE,
    threads: int = THREADS,
    channel: str | None = None,
    gray: bool = False,
    pages: Pages | None = None,
    annotations: AnnotationConfig | None = None,
    overwrite: bool = False,
    track: Track = silent_track,
) -> FittedModel:
    """Fit a model to a few annotated images and keep it under a name of its own.

    Parameters
    ----------
    model
        Name or path of the model.
    data
        A folder of images and annotations in any layout that `train` takes.
    name
        Of the new model.
    engine, device, threads
        What computes, as for the command line.
    channel, gray, pages
        Which channel of the images is seen, and what pages are that have no name, as
        for prediction.
    annotations
        How annotations are read.
    overwrite
        Replace a model of that name.
    track
        Progress over the settings.

    Raises
    ------
    CellunetError
        If the data or the model cannot be used, or the name is taken.
    """
    opened = store.find_model(model)
    folder = store.new_folder(name, overwrite=overwrite)
    config = PredictConfig(channel=channel, gray=gray, pages=pages, diameter_px="model")
    recipe = settings_for(opened, config, engine, device, threads)
    images = _read(opened, data, config, annotations or AnnotationConfig(), recipe)
    trial = _Trial(opened.card, images, recipe)
    if not trial.pieces:
        raise AnnotationError(
            f"No object is annotated in {data}.",
            hint="Outline all objects of at least one image, or of a part of it.",
        )
    setting, notes = FittedSettings(), []
    start = trial.scores(setting)
    gained = np.zeros((len(trial.pieces), 2))
    stages = trial.stages()
    for what, candidates in track(stages, "Fitting", len(stages)):
        setting, gain, note = _stage(trial, setting, what, candidates)
        gained += gain
        notes.append(note)
    before = start.mean(0)
    after = _named(before + gained.mean(0))
    _write(opened, folder, _card(opened, name, setting, images, after))
    return FittedModel(
        name=name,
        path=folder,
        start=opened.name,
        images=len(images),
        pieces=len(trial.pieces),
        setting=setting,
        before=_named(before),
        after=after,
        notes=tuple(notes),
    )


def _named(values: npt.NDArray[np.float64]) -> dict[str, float]:
    return {"mean_ap": float(values[0]), "f1_50": float(values[1])}


def _read(
    model: Model,
    data: Path,
    config: PredictConfig,
    annotations: AnnotationConfig,
    recipe: InferenceSettings,
) -> list[_Annotated]:
    """Return the annotated images of a folder."""
    pairs = find_pairs(data, annotations.planes).pairs
    if len(pairs) > MOST_IMAGES:
        raise ConfigError(
            f"{data} holds {len(pairs)} annotated images; a model is fitted to "
            f"{MOST_IMAGES} at most.",
            hint=f"Train on them: cellunet train {data} --name NAME",
        )
    found = []
    sizes: dict[Path, Size] = {}
    for pair in pairs:
        opened = open_as(pair.image, config, known=model.card.channels)
        with one_plane(opened, pair.other_plane) as source:
            refuse_misfit(source, model.name, model.card, config.channel)
            annotation = read_scorable(pair, source, annotations)
            if annotation is None:
                continue
            if pair.other_plane is not None and pair.image not in sizes:
                sizes[pair.image] = find_size(opened, recipe, model.card)
            height, width = source.shape
            found.append(
                _Annotated(
                    name=pair.name,
                    pixels=source.read(Region(0, 0, height, 0, width)),
                    labels=annotation.labels,
                    annotated=annotation.annotated,
                    cut_from=source.cut_from,
                    size=sizes.get(pair.image),
                )
            )
    return found


class _Trial:
    """Scores of settings on the pieces of annotated images, each computed once."""

    def __init__(
        self, card: ModelCard, images: Sequence[_Annotated], recipe: InferenceSettings
    ) -> None:
        self._card, self._images, self._recipe = card, images, recipe
        self.pieces = [p for i in range(len(images)) for p in self._parts(i)]
        self._known: dict[FittedSettings, npt.NDArray[np.float64]] = {}
        self._sizes = {i: one.size for i, one in enumerate(images) if one.size}

    def _parts(self, index: int) -> list[_Piece]:
        """Return the pieces of an image that hold an object."""
        height, width = self._images[index].labels.shape
        down = 2 if len(self._images) < WHOLE else 1
        across = 2 if len(self._images) == 1 else 1
        parts = [
            _Piece(index, slice(*y), slice(*x))
            for y in _cuts(height, down)
            for x in _cuts(width, across)
        ]
        labels = self._images[index].labels
        return [p for p in parts if labels[p.rows, p.columns].any()]

    def stages(self) -> list[tuple[str, list[FittedSettings]]]:
        """Return what is fitted, one after the other, and what is tried."""
        diameters = np.concatenate([_diameters(i.labels) for i in self._images])
        order = np.sort(diameters)
        covered = np.cumsum(order**2)
        large = order[int(np.searchsorted(covered, covered[-1] / 2))]
        _, median, high = self._card.diameter_px
        scales = {rounded(median / float(np.median(diameters))), rounded(high / large)}
        sizes = sorted(scales | {self._recipe.scale}) if median > 0 else []
        curves = ["square-root"] if self._curve() == "linear" else ["linear"]
        if self._card.config.normalization.kind != "percentile":
            curves = []
        return [
            ("scale", [FittedSettings(scale=s) for s in sizes]),
            # First: with another curve the network draws further out as well.
            ("edge", [FittedSettings(edge=e) for e in EDGES_TRIED]),
            ("curve", [FittedSettings(curve=c) for c in curves]),
            ("seed_threshold", [FittedSettings(seed_threshold=s) for s in SEEDS_TRIED]),
            (
                "min_confidence",
                [FittedSettings(min_confidence=c) for c in CONFIDENCES_TRIED],
            ),
        ]

    def _curve(self) -> str:
        return self._card.config.normalization.curve

    def scores(self, setting: FittedSettings) -> npt.NDArray[np.float64]:
        """Return mean AP and F1 at .50 of every piece, a row each."""
        if setting not in self._known:
            labels = [self._predicted(setting, i) for i in range(len(self._images))]
            rows = [self._scored(piece, labels[piece.image]) for piece in self.pieces]
            self._known[setting] = np.array(rows)
        return self._known[setting]

    def _scored(self, piece: _Piece, predicted: Labels) -> tuple[float, float]:
        image, part = self._images[piece.image], (piece.rows, piece.columns)
        forms = score_image(
            np.ascontiguousarray(image.labels[part]),
            np.ascontiguousarray(predicted[part]),
            name=image.name,
            annotated=None if image.annotated is None else image.annotated[part],
        )
        found: ImageScores = next(iter(forms.values()))
        return found.mean_ap, found.f1_at(10)

    def _predicted(self, setting: FittedSettings, index: int) -> Labels:
        source = array_source(self._images[index].pixels)
        source.cut_from = self._images[index].cut_from
        recipe = self._recipe
        if setting.curve is not None:
            norm = recipe.config.normalization.replace(curve=setting.curve)
            recipe = replace(recipe, config=recipe.config.replace(normalization=norm))
        if setting.scale is None:
            if index not in self._sizes:
                self._sizes[index] = find_size(source, self._recipe, self._card)
            recipe = with_size(recipe, PredictConfig(), self._card, self._sizes[index])
        else:
            decode = at_scale(recipe.config.decode, setting.scale)
            recipe = replace(recipe, scale=setting.scale, decode=decode)
        recipe = replace(recipe, decode=recipe.decode.replace(**setting.decode))
        with Scratch() as scratch, closing(source):
            return as_labels(segment(source, 0, recipe, scratch).bands())


def _cuts(length: int, parts: int) -> list[tuple[int, int]]:
    ends = [length * i // parts for i in range(parts + 1)]
    return list(itertools.pairwise(ends))


def _diameters(labels: Labels) -> npt.NDArray[np.float64]:
    # Not by counting up to the largest label, which may be any number.
    _, areas = np.unique(labels[labels > 0], return_counts=True)
    return equivalent_diameters(areas)


def _stage(
    trial: _Trial, now: FittedSettings, what: str, candidates: Sequence[FittedSettings]
) -> tuple[FittedSettings, npt.NDArray[np.float64], str]:
    """Return the setting after one thing was fitted, its gains, and what to say."""
    tried = [replace(now, **{what: getattr(c, what)}) for c in candidates]
    usual = trial.scores(now)
    nothing = np.zeros_like(usual)
    if not tried or len(usual) < 2:
        return now, nothing, f"{TITLES[what]}: unchanged; too little data to tell."
    every = [now, *tried]
    aps = np.stack([trial.scores(setting)[:, 0] for setting in every])
    gains = np.zeros_like(usual)
    for piece in range(len(usual)):
        others = np.delete(aps, piece, axis=1).mean(1)
        chosen = every[int(np.argmax(others))]
        gains[piece] = trial.scores(chosen)[piece] - usual[piece]
    mean = float(gains[:, 0].mean())
    unsure = float(gains[:, 0].std(ddof=1)) / math.sqrt(len(gains))
    best = every[int(np.argmax(aps.mean(1)))]
    if best == now or mean <= unsure:
        return (
            now,
            nothing,
            f"{TITLES[what]}: unchanged; nothing else is clearly better.",
        )
    value = getattr(best, what)
    said = value if isinstance(value, str) else f"{value:g}"
    return best, gains, f"{TITLES[what]}: {said}, mean AP {mean:+.3f}."


TITLES = {
    "scale": "Magnification",
    "curve": "Intensity curve",
    "edge": "Edge",
    "seed_threshold": "Seed threshold",
    "min_confidence": "Least confidence",
}


def _card(
    model: Model,
    name: str,
    setting: FittedSettings,
    images: Sequence[_Annotated],
    scores: dict[str, float],
) -> ModelCard:
    """Return the card of the fitted model."""
    card, config = model.card, model.card.config
    config = config.replace(decode=config.decode.replace(**setting.decode))
    if setting.curve is not None:
        norm = config.normalization.replace(curve=setting.curve)
        config = config.replace(normalization=norm)
    statistics = dict(card.training_statistics)
    if setting.scale is not None:
        # The training images' pixels, as large as those of these images.
        factor = card.config.scale / setting.scale
        config = config.replace(scale=setting.scale)
        if "diameter_px" in statistics:
            sizes = statistics["diameter_px"]
            statistics["diameter_px"] = [round(d * factor, 5) for d in sizes]
    return replace(
        card,
        name=name,
        config=config,
        validation=store.with_those_of(
            model.name,
            card.validation,
            {i.name: content_hash(i.pixels) for i in images},
        ),
        scores=scores,
        start={
            "name": model.name,
            "sha256": model.sha256,
            "kept": "yes",
            "calibrated": "yes",
        },
        training_statistics=statistics,
        # With another curve features have other ranges.
        int8_ranges={} if setting.curve is not None else card.int8_ranges,
    )


def _write(model: Model, folder: Path, card: ModelCard) -> None:
    """Write the same weights with another card."""
    weights = folder / store.WEIGHTS_FILE
    with store.in_home(), writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with store.training(card.name):
        with writing(folder):
            folder.mkdir(exist_ok=True)
        store.write(weights, store.read_tensors(model.weights), card.to_dict())
        store.remove_replaced(folder, {store.WEIGHTS_FILE})
