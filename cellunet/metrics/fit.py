"""Choose decode constants on validation images, and estimate the score to expect.

Each half of the images is scored with the constants chosen on the other half (two-fold
cross-fitting); the constants that are saved with the model are chosen on all.

The expected score comes from images that the model was not trained on. If there are
few, each is cut into quarters, so that an interval can be given; it then describes
other places in these images, and is too narrow for other images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cellunet.command_config import BootstrapConfig
from cellunet.imaging.decode import decode_plane
from cellunet.metrics.matching import score_image
from cellunet.metrics.summary import Estimate, estimate_means, summarize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, EncodingConfig
    from cellunet.metrics.matching import ImageScores
    from cellunet.metrics.summary import Floats
    from cellunet.progress import Track

ODDS_FACTORS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0)
"""Of the boundary: where interior ends and boundary begins."""

BACKGROUND_FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25)
"""Of the background, if there are three classes: where the outline lies."""

SEED_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)

MIN_AREAS_PX = (6, 8, 10, 12, 15, 20, 30, 40, 60)

MIN_CONFIDENCES = (0.0, 0.5, 0.6, 0.7)

ROUNDS = 2
"""Times that all constants are gone through, one after the other."""


@dataclass(frozen=True, kw_only=True)
class ValidationImage:
    """A validation image: KYX float probabilities, true labels, annotated part.

    `intensities` are those of the first channel, YX, on which outlines are put; None
    where constants have no edge.
    """

    name: str
    intensities: npt.NDArray[np.float32] | None
    probabilities: npt.NDArray[np.floating]
    labels: npt.NDArray[np.int32]
    annotated: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class DecodeFit:
    """What was chosen on all images, and the cross-fitted scores of each image."""

    decode: DecodeConfig
    scores: tuple[ImageScores, ...]
    crossed: tuple[DecodeConfig, ...]
    """The constants that each image was scored with."""


def fit(
    truths: Sequence[ValidationImage],
    encoding: EncodingConfig,
    start: DecodeConfig,
    track: Track,
    *,
    known: DecodeConfig | None = None,
) -> DecodeFit:
    """Choose the odds of the classes, seed threshold, least area and confidence.

    One constant after the other, twice, to the highest mean AP (IoU .50 to .95).

    Parameters
    ----------
    truths
        Validation images with their probabilities.
    encoding
        As the model was trained.
    start
        Constants to start from; those that are not chosen stay.
    track
        Progress over candidates.
    known
        Constants that stay unless others, cross-fitted, score better: a few images
        are little evidence for four constants.
    """
    score = _Scorer(truths, encoding)
    everything = range(len(truths))
    chosen: list[DecodeConfig] = []
    parts = (everything[0::2], everything[1::2], everything)
    for part in track(parts, "Choosing decode constants"):
        if known is not None and len(chosen) == 2:
            kept = score.crossed([known, known])
            # What would be chosen on all images is then of no use.
            if rank(score.crossed(chosen).scores) <= rank(kept.scores):
                return kept
        # A single image has no other half: it is scored with what was there before.
        chosen.append(_choose(part, start, score) if part else start)
    return score.crossed(chosen)


class _Scorer:
    """Scores of images, none of which is decoded twice with the same constants."""

    def __init__(
        self, truths: Sequence[ValidationImage], encoding: EncodingConfig
    ) -> None:
        self._truths, self._encoding = truths, encoding
        self._known: dict[tuple[DecodeConfig, int], ImageScores] = {}

    def __call__(
        self, decodes: Sequence[DecodeConfig], index: int
    ) -> list[ImageScores]:
        """Return the scores of one image with each of several constants."""
        new = [decode for decode in decodes if (decode, index) not in self._known]
        if new:
            found = score_truth(self._truths[index], self._encoding, new)
            keys = [(decode, index) for decode in new]
            self._known |= zip(keys, found, strict=True)
        return [self._known[decode, index] for decode in decodes]

    def crossed(self, chosen: Sequence[DecodeConfig]) -> DecodeFit:
        """Return what was chosen, each half scored with what the other chose."""
        crossed = tuple(chosen[1 - i % 2] for i in range(len(self._truths)))
        scores = tuple(self([decode], i)[0] for i, decode in enumerate(crossed))
        return DecodeFit(decode=chosen[-1], scores=scores, crossed=crossed)


def decoded(
    truth: ValidationImage, encoding: EncodingConfig, decode: DecodeConfig
) -> npt.NDArray[np.uint32]:
    """Return the labels that constants give an image."""
    probabilities = truth.probabilities.astype(np.float32)
    return decode_plane(probabilities, encoding, decode, truth.intensities)


def score_truth(
    truth: ValidationImage, encoding: EncodingConfig, decodes: Sequence[DecodeConfig]
) -> list[ImageScores]:
    """Return the scores of an image that is decoded with each of several constants."""
    scores: list[ImageScores] = []
    for decode in decodes:
        labels = decoded(truth, encoding, decode)
        forms = score_image(
            truth.labels, labels, name=truth.name, annotated=truth.annotated
        )
        scores.append(next(iter(forms.values())))
    return scores


def rank(scores: Sequence[ImageScores]) -> tuple[bool, float]:
    """Return what constants and models are compared by: the greater is the better.

    Whether any object is found, then the mean AP: alone, it is highest for a model that
    finds nothing where most images are empty, each of which scores 1.
    """
    found = any(s.tp[0] for s in scores)
    return found, float(np.mean([s.mean_ap for s in scores]))


def _boundaries(best: DecodeConfig, start: DecodeConfig) -> Iterator[DecodeConfig]:
    *others, _ = best.class_odds
    for factor in ODDS_FACTORS:
        yield best.replace(class_odds=(*others, start.class_odds[-1] * factor))


def _backgrounds(best: DecodeConfig, start: DecodeConfig) -> Iterator[DecodeConfig]:
    _, *others = best.class_odds
    # Of two classes the odds of one are enough.
    for factor in BACKGROUND_FACTORS if len(others) > 1 else ():
        yield best.replace(class_odds=(start.class_odds[0] * factor, *others))


def _values(
    name: str, values: Sequence[float], best: DecodeConfig, _: DecodeConfig
) -> Iterator[DecodeConfig]:
    return (best.replace(**{name: value}) for value in values)


CHOICES = (
    _boundaries,
    _backgrounds,
    partial(_values, "seed_threshold", SEED_THRESHOLDS),
    partial(_values, "min_area_px", MIN_AREAS_PX),
    partial(_values, "min_confidence", MIN_CONFIDENCES),
)
"""What is tried of one constant, given the best so far and where the search began."""


def _choose(
    subset: Sequence[int],
    start: DecodeConfig,
    score: _Scorer,
) -> DecodeConfig:
    def values(decodes: Sequence[DecodeConfig]) -> list[tuple[bool, float]]:
        by_image = [score(decodes, i) for i in subset]
        return [rank(scores) for scores in zip(*by_image, strict=True)]

    best, (best_value,) = start, values([start])
    for _ in range(ROUNDS):
        for choices in CHOICES:
            candidates = list(choices(best, start))
            for candidate, value in zip(candidates, values(candidates), strict=True):
                if value > best_value:
                    best, best_value = candidate, value
    return best


ENOUGH_IMAGES = 8
"""From so many images on the images themselves are what intervals are drawn from."""


@dataclass(frozen=True, kw_only=True)
class ExpectedScores:
    """Scores on unseen images, with intervals."""

    mean_ap: Estimate
    f1_50: Estimate
    f1_90: Estimate
    gain: Estimate | None
    """Of mean AP over the model that training started from, paired; None from
    scratch."""
    pieces: int
    """How many images or quarters of images were scored."""
    quarters: bool
    """Whether they are quarters."""
    of_one_image: bool
    """Whether all are parts of one image, other parts of which were trained on: they
    tell of no other image."""


def expected(
    found: Sequence[ImageScores],
    before: Sequence[ImageScores] | None,
    *,
    images: int,
    of_one_image: bool = False,
) -> ExpectedScores:
    """Summarize scores of unseen images or of their quarters (`piece_scores`).

    Parameters
    ----------
    found
        Of the trained model.
    before
        Of the model that training started from, in the same order; None from scratch.
    images
        How many images they come from, or parts that were kept out by themselves.
    of_one_image
        Whether other parts of the same image were trained on.
    """
    summary = summarize(found)
    gain = None
    if before is not None:
        # At the edge of a quarter which true objects take part may depend on what is
        # predicted, so that these are not pairs of scores of the very same objects.
        gains = [a.mean_ap - b.mean_ap for a, b in zip(found, before, strict=True)]
        (gain,) = estimate_means(np.array(gains)[:, None], BootstrapConfig())
    return ExpectedScores(
        mean_ap=summary.mean_ap,
        f1_50=summary.f1_at(10),
        f1_90=summary.f1_at(18),
        gain=gain,
        pieces=len(found),
        quarters=images < ENOUGH_IMAGES,
        of_one_image=of_one_image,
    )


def piece_scores(
    truths: Sequence[ValidationImage],
    decodes: Sequence[DecodeConfig],
    encoding: EncodingConfig,
) -> list[ImageScores]:
    """Score images, or the quarters of each if they are fewer than `ENOUGH_IMAGES`.

    Quarters without a true object are left out: the less a model finds, the better it
    would be there.

    Parameters
    ----------
    truths
        Images with their probabilities.
    decodes
        Constants to decode each with.
    encoding
        As the model was trained.
    """
    scores = []
    for truth, decode in zip(truths, decodes, strict=True):
        labels = decoded(truth, encoding, decode)
        for name, annotated in _pieces(truth, len(truths)):
            forms = score_image(truth.labels, labels, name=name, annotated=annotated)
            scores.append(next(iter(forms.values())))
    return scores


def _pieces(
    truth: ValidationImage, images: int
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield names and annotated parts, each with an object if it is a quarter."""
    if images >= ENOUGH_IMAGES:
        yield truth.name, truth.annotated
        return
    rows, columns = np.nonzero(truth.annotated)
    if not rows.size:
        return
    # Quarters of what is annotated, wherever in the image that lies.
    row, column = int(np.median(rows)) + 1, int(np.median(columns)) + 1
    quarters = []
    for name, part in {
        "upper left": np.s_[:row, :column],
        "upper right": np.s_[:row, column:],
        "lower left": np.s_[row:, :column],
        "lower right": np.s_[row:, column:],
    }.items():
        annotated = np.zeros_like(truth.annotated)
        annotated[part] = truth.annotated[part]
        if holds_object(truth.labels, annotated):
            quarters.append((f"{truth.name}, {name}", annotated))
    if not quarters and holds_object(truth.labels, truth.annotated):
        # Objects that no quarter holds half of.
        quarters.append((truth.name, truth.annotated))
    yield from quarters


def holds_object(
    labels: npt.NDArray[np.integer], annotated: npt.NDArray[np.bool_]
) -> bool:
    """Return whether half or more of any object lies in what is annotated, both YX."""
    every, areas = np.unique(labels[labels > 0], return_counts=True)
    ids, seen = np.unique(labels[annotated & (labels > 0)], return_counts=True)
    return bool((2 * seen >= areas[np.searchsorted(every, ids)]).any())


ENOUGH_POINTS = 3
"""Numbers of images from which a law can be drawn; two lie on any."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training on so many images, scored on images that it has not seen."""

    images: int
    objects: int
    """Annotated objects in them."""
    loss: float
    """On the images that it is scored on."""
    mean_ap: Sequence[float]
    """Of each image or quarter of an image, in an order that trials of other numbers
    of images share."""


@dataclass(frozen=True, kw_only=True)
class LearningCurvePoint:
    """All trials of one number of images."""

    images: int
    objects: float
    """Mean over the trials."""
    loss: float
    """Mean over the trials."""
    mean_ap: Estimate


@dataclass(frozen=True, kw_only=True)
class GainForecast:
    """What more images would give, if errors go on to fall as they do."""

    more: int
    """How many more."""
    gain: Estimate
    """In mean AP."""


def points_of(
    trials: Sequence[Trial], *, shared: bool = False
) -> list[LearningCurvePoint]:
    """Return one point for each number of images, fewest first.

    Parameters
    ----------
    trials
        One or more of each number of images.
    shared
        Whether all trials are scored on the same images.
    """
    points = []
    for images in sorted({trial.images for trial in trials}):
        same = [trial for trial in trials if trial.images == images]
        pieces = _learning_pieces(same, shared=shared)
        (mean_ap,) = estimate_means(pieces[:, None], BootstrapConfig())
        points.append(
            LearningCurvePoint(
                images=images,
                objects=float(np.mean([trial.objects for trial in same])),
                loss=float(np.mean([trial.loss for trial in same])),
                mean_ap=mean_ap,
            )
        )
    return points


def outlook(
    trials: Sequence[Trial], more: int, *, shared: bool = False
) -> GainForecast | None:
    """Return what `more` images beyond the largest number tried would give.

    The error, 1 - mean AP, is taken to fall as a power of the number of images n,
    E(n) = a n^-b (Hestness et al. 2017, "Deep learning scaling is predictable,
    empirically"), through all numbers of 1 and above, by least squares of logarithms.
    The interval is of a bootstrap over the images that were scored; `shared` is as for
    `points_of`.

    Returns
    -------
    GainForecast or None
        None with fewer than `ENOUGH_POINTS` numbers of images.
    """
    counts = sorted({trial.images for trial in trials if trial.images})
    if len(counts) < ENOUGH_POINTS:
        return None
    pieces = [
        _learning_pieces([t for t in trials if t.images == n], shared=shared)
        for n in counts
    ]
    config = BootstrapConfig()
    rng = np.random.default_rng(config.seed)
    least = min(len(column) for column in pieces)
    drawn = []
    for _ in range(config.resamples):
        chosen = rng.integers(least, size=least)
        errors = np.array([1 - float(column[chosen].mean()) for column in pieces])
        drawn.append(_gain(counts, errors, more))
    tail = 50 * (1 - config.confidence)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    value = _gain(counts, np.array([1 - column.mean() for column in pieces]), more)
    return GainForecast(
        more=more, gain=Estimate(value=value, low=float(low), high=float(high))
    )


def _learning_pieces(trials: Sequence[Trial], *, shared: bool) -> Floats:
    """Return the score of each image that was scored.

    Scores of one image are not independent: a bootstrap draws images, each with all of
    its scores (Field and Welsh 2007, "Bootstrapping clustered data", Journal of the
    Royal Statistical Society B 69:369-390), which for a mean draws the images' means.
    """
    if shared:
        found: Floats = np.array([trial.mean_ap for trial in trials]).mean(axis=0)
        return found
    return np.array([score for trial in trials for score in trial.mean_ap], float)


def _gain(counts: Sequence[int], errors: Floats, more: int) -> float:
    sizes = np.log(np.array(counts, float))
    slope, level = np.polyfit(sizes, np.log(np.maximum(errors, 1e-6)), 1)
    largest = counts[-1]
    now, then = (np.exp(level + slope * np.log(n)) for n in (largest, largest + more))
    return float(now - then)


def sizes_up_to(most: int) -> list[int]:
    """Return numbers of images to try: 0, 1, 2, 5, 10, 20, 50 ... and all.

    Examples
    --------
    >>> sizes_up_to(14)
    [0, 1, 2, 5, 10, 14]
    """
    steps = [d * 10**e for e in range(7) for d in (1, 2, 5)]
    return [0, *(n for n in steps if n < most), most]
