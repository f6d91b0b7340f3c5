"""Scores of many images: means with intervals, counts, and paired differences.

A score is computed for each image and averaged over images, so that a sparse field
counts as much as a crowded one; counts are sums over images.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.config import BootstrapConfig
from cellunet.errors import InputError
from cellunet.imaging.scoring.bootstrap import (
    Estimate,
    estimate_means,
    estimate_ratios,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cellunet.imaging.matching import MatchRule
    from cellunet.imaging.scoring.bootstrap import Floats
    from cellunet.imaging.scoring.image_scores import ImageScores


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """Scores, or differences of scores, of some images under one rule."""

    images: tuple[str, ...]
    """Names of the images."""
    rule: MatchRule
    """How they were counted."""
    mean_ap: Estimate
    """Mean over images of the mean of AP over the thresholds."""
    mean_f1: Estimate
    """Mean over images of the mean of F1 over the thresholds: the average F1."""
    ap: tuple[Estimate, ...]
    """Mean AP over images, per threshold of the rule."""
    f1: tuple[Estimate, ...]
    """Mean F1 over images, per threshold of the rule."""

    def f1_at(self, t20: int) -> Estimate:
        """F1 at one of the rule's thresholds, in twentieths."""
        return self.f1[self.rule.t20.index(t20)]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return dataclasses.asdict(self) | {"rule": self.rule.to_dict()}


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over images; tuples hold one value per threshold."""

    true_objects: int
    """True objects that take part."""
    predicted_objects: int
    """Predicted objects that take part."""
    missed: int
    """True objects without a match at IoU .50."""
    extra: int
    """Predicted objects without a match at IoU .50."""
    merges: int
    """Predicted objects with more than half of two or more true objects in them."""
    splits: int
    """True objects with more than half of two or more predicted objects in them."""
    too_small: int
    """True objects left out because they are under the rule's area."""
    left_out: int
    """Predicted objects left out: most of each is not annotated, or ignored."""
    tp: tuple[int, ...]
    """Pairs that match."""
    fp: tuple[int, ...]
    """Predicted objects without a match."""
    fn: tuple[int, ...]
    """True objects without a match."""


@dataclass(frozen=True, kw_only=True)
class Summary(_Scored):
    """Scores of a set of images."""

    both_empty: int
    """Images without true and without predicted objects; they score 1."""
    one_empty: int
    """Images with only true or only predicted objects; they score 0."""
    mean_matched_iou: Estimate | None
    """Mean IoU of all pairs that match at IoU .50; None if none does."""
    totals: Totals
    """Sums over images."""
    with_true_objects: Summary | None = None
    """The same for the images that hold a true object; None if none does, and in
    that summary itself."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        rest = self.with_true_objects
        return super().to_dict() | {"with_true_objects": rest and rest.to_dict()}


@dataclass(frozen=True, kw_only=True)
class Paired(_Scored):
    """Differences of two sets of scores on the same images, first minus second."""

    mean_ap_by_image: tuple[float, ...]
    """Difference of each image's mean AP, in the order of `images`."""


def summarize(
    scores: Sequence[ImageScores], *, config: BootstrapConfig | None = None
) -> Summary:
    """Summarise the scores of some images.

    Parameters
    ----------
    scores
        One or more, all under one rule, names unique. Order does not matter to the
        values but to the draws of the intervals.
    config
        How intervals are drawn.

    Raises
    ------
    InputError
        If there are no scores, an image comes twice or rules differ.
    """
    config = config or BootstrapConfig()
    _check_one_rule(scores)
    some = [s for s in scores if s.true_objects]
    if not some:
        return _summary(scores, config)
    rest = _summary(some, config)
    whole = rest if len(some) == len(scores) else _summary(scores, config)
    return dataclasses.replace(whole, with_true_objects=rest)


def paired(
    first: Sequence[ImageScores],
    second: Sequence[ImageScores],
    *,
    config: BootstrapConfig | None = None,
) -> Paired:
    """Return by how much `first` is better than `second` on the same images.

    Each draw takes the same images of both, so that what makes an image hard for
    both does not widen the interval.

    Parameters
    ----------
    first, second
        Scores of the same images under one rule, in any order.
    config
        How intervals are drawn.

    Raises
    ------
    InputError
        If the images, their numbers of true objects or the rules differ.
    """
    config = config or BootstrapConfig()
    _check_one_rule(first)
    _check_one_rule(second)
    _refuse_different_rules([*first, *second])
    others = {s.name: s for s in second}
    refuse_different_images((s.name for s in first), others)
    matched = [others[s.name] for s in first]
    for one, other in zip(first, matched, strict=True):
        _refuse_different_truth(one, other)
    difference = _columns(first) - _columns(matched)
    return Paired(
        images=tuple(s.name for s in first),
        mean_ap_by_image=tuple(difference[:, 0].tolist()),
        **_estimates(difference, first[0].rule, config),
    )


def _check_one_rule(scores: Sequence[ImageScores]) -> None:
    if not scores:
        raise InputError("There are no images to summarise.")
    counted = Counter(s.name for s in scores)
    twice = sorted(name for name, count in counted.items() if count > 1)
    if twice:
        raise InputError(f"Images are scored more than once: {_listed(twice)}.")
    _refuse_different_rules(scores)


def _refuse_different_rules(scores: Sequence[ImageScores]) -> None:
    if len({s.rule for s in scores}) > 1:
        raise InputError(
            "Images are scored under different rules.",
            hint="Score all of them by one protocol.",
        )


def refuse_different_images(first: Iterable[str], second: Iterable[str]) -> None:
    """Refuse to compare scores of different images.

    Parameters
    ----------
    first, second
        Names of the images of either set.

    Raises
    ------
    InputError
        If the names differ; tells which are in one set alone.
    """
    one, other = set(first), set(second)
    parts = [
        f"only in the {which}: {_listed(sorted(rest))}"
        for which, rest in (("first", one - other), ("second", other - one))
        if rest
    ]
    if parts:
        raise InputError(
            f"The two sets of scores are not of the same images; {'; '.join(parts)}.",
            hint="Compare on the images that both have.",
        )


def _refuse_different_truth(one: ImageScores, other: ImageScores) -> None:
    if one.true_objects != other.true_objects:
        raise InputError(
            f"{one.name} has {one.true_objects} true objects in the first set of "
            f"scores and {other.true_objects} in the second.",
            hint="Score both against the same labels.",
        )


def _listed(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _columns(scores: Sequence[ImageScores]) -> Floats:
    """Return mean AP, mean F1, AP and F1 per threshold, of each image."""
    return np.array([(s.mean_ap, s.mean_f1, *s.ap, *s.f1) for s in scores])


def _estimates(
    columns: Floats, rule: MatchRule, config: BootstrapConfig
) -> dict[str, Any]:
    mean_ap, mean_f1, *rest = estimate_means(columns, config)
    count = len(rule.t20)
    return {
        "rule": rule,
        "mean_ap": mean_ap,
        "mean_f1": mean_f1,
        "ap": tuple(rest[:count]),
        "f1": tuple(rest[count:]),
    }


def _summary(scores: Sequence[ImageScores], config: BootstrapConfig) -> Summary:
    matched = np.array([[s.matched_iou_sum, s.tp[0]] for s in scores], np.float64)
    sides = [(s.true_objects > 0) + (s.predicted_objects > 0) for s in scores]
    return Summary(
        images=tuple(s.name for s in scores),
        both_empty=sides.count(0),
        one_empty=sides.count(1),
        mean_matched_iou=estimate_ratios(matched[:, :1], matched[:, 1:], config)[0],
        totals=_totals(scores),
        **_estimates(_columns(scores), scores[0].rule, config),
    )


def _totals(scores: Sequence[ImageScores]) -> Totals:
    def total(name: str) -> int:
        return sum(getattr(s, name) for s in scores)

    def totals(name: str) -> tuple[int, ...]:
        return tuple(map(sum, zip(*(getattr(s, name) for s in scores), strict=True)))

    return Totals(
        true_objects=total("true_objects"),
        predicted_objects=total("predicted_objects"),
        missed=total("missed"),
        extra=total("extra"),
        merges=total("merges"),
        splits=total("splits"),
        too_small=total("too_small"),
        left_out=total("left_out"),
        tp=totals("tp"),
        fp=totals("fp"),
        fn=totals("fn"),
    )
