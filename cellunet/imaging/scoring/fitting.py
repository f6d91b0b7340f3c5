"""Choose a model's decode constants on validation images, and score them fairly.

Each half of the images is scored with the constants chosen on the other half (two-fold
cross-fitting); the constants that travel with the model are chosen on all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellunet.imaging.decode.decoding import decode_plane
from cellunet.imaging.scoring.image_scores import score_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, EncodingConfig
    from cellunet.imaging.scoring.image_scores import ImageScores
    from cellunet.progress import Track

ODDS_FACTORS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0)
"""Of the boundary: where interior ends and boundary begins."""
BACKGROUND_FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25)
"""Of the background, if there are three classes: where the outline lies."""
SEED_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
MIN_AREAS_PX = (6, 8, 10, 12, 15, 20, 30, 40, 60)
ROUNDS = 2
"""Times that all constants are gone through, one after the other."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A validation image: KYX float probabilities, true labels, annotated part."""

    name: str
    probabilities: npt.NDArray[np.floating]
    labels: npt.NDArray[np.int32]
    annotated: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What was chosen on all images, and the cross-fitted scores of each image."""

    decode: DecodeConfig
    scores: tuple[ImageScores, ...]
    crossed: tuple[DecodeConfig, ...]
    """The constants that each image was scored with."""


def fit(
    truths: Sequence[Truth],
    encoding: EncodingConfig,
    start: DecodeConfig,
    track: Track,
) -> Fit:
    """Choose the odds of boundary and background, seed threshold and minimum area.

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
    """
    cache: dict[tuple[DecodeConfig, int], ImageScores] = {}

    def score(decode: DecodeConfig, index: int) -> ImageScores:
        if (decode, index) not in cache:
            cache[decode, index] = score_truth(truths[index], encoding, decode)
        return cache[decode, index]

    everything = range(len(truths))
    halves = [everything[0::2], everything[1::2]]
    # A single image has no other half: it is scored with what was there before.
    *chosen, final = [
        _choose(subset, start, score) if subset else start
        for subset in track([*halves, everything], "Choosing decode constants")
    ]
    crossed = [chosen[1 - index % 2] for index in everything]
    fair = [score(decode, index) for index, decode in enumerate(crossed)]
    return Fit(decode=final, scores=tuple(fair), crossed=tuple(crossed))


def score_truth(
    truth: Truth, encoding: EncodingConfig, decode: DecodeConfig
) -> ImageScores:
    """Return the scores of an image that is decoded with given constants."""
    probabilities = truth.probabilities.astype(np.float32)
    labels = decode_plane(probabilities, encoding, decode)
    forms = score_image(
        truth.labels, labels, name=truth.name, annotated=truth.annotated
    )
    return next(iter(forms.values()))


def _boundaries(best: DecodeConfig, start: DecodeConfig) -> Iterator[DecodeConfig]:
    *others, _ = best.class_odds
    for factor in ODDS_FACTORS:
        yield best.replace(class_odds=(*others, start.class_odds[-1] * factor))


def _backgrounds(best: DecodeConfig, start: DecodeConfig) -> Iterator[DecodeConfig]:
    _, *others = best.class_odds
    # Of two classes the odds of one say all.
    for factor in BACKGROUND_FACTORS if len(others) > 1 else ():
        yield best.replace(class_odds=(start.class_odds[0] * factor, *others))


def _seeds(best: DecodeConfig, start: DecodeConfig) -> Iterator[DecodeConfig]:
    del start
    for threshold in SEED_THRESHOLDS:
        yield best.replace(seed_threshold=threshold)


def _areas(best: DecodeConfig, start: DecodeConfig) -> Iterator[DecodeConfig]:
    del start
    for area in MIN_AREAS_PX:
        yield best.replace(min_area_px=area)


CHOICES = (_boundaries, _backgrounds, _seeds, _areas)
"""What is tried of one constant, given the best so far and where the search began."""


def _choose(
    subset: Sequence[int],
    start: DecodeConfig,
    score: Callable[[DecodeConfig, int], ImageScores],
) -> DecodeConfig:
    def value(decode: DecodeConfig) -> float:
        return float(np.mean([score(decode, i).mean_ap for i in subset]))

    best, best_value = start, value(start)
    for _ in range(ROUNDS):
        for choices in CHOICES:
            for candidate in choices(best, start):
                if (found := value(candidate)) > best_value:
                    best, best_value = candidate, found
    return best
