"""Summarize the scores of many images: means, intervals and paired differences.

Intervals describe another draw of images of this kind, not another training run.

A score is computed for each image and averaged over images, so that a sparse image
counts as much as a crowded one; counts are sums over images.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.command_config import BootstrapConfig
from cellunet.errors import InputError, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from cellunet.metrics.matching import ClassScores, ImageScores, MatchRule

    Floats = npt.NDArray[np.float64]

_BLOCK = 1 << 22
"""Weights drawn at a time: 32 MB, whatever the number of images."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value over the images at hand and its interval."""

    value: float
    """The value."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""

    def text(self, *, signed: bool = False) -> str:
        """Return the value and its interval, those of differences `signed`.

        Examples
        --------
        >>> Estimate(value=0.807, low=0.788, high=0.827).text()
        '0.807 [0.788, 0.827]'
        """
        sign = "+" if signed else ""
        numbers = (self.value, self.low, self.high)
        value, low, high = (f"{number:{sign}.3f}" for number in numbers)
        return f"{value} [{low}, {high}]"


def estimate_ratios(
    numerators: Floats, denominators: Floats, config: BootstrapConfig
) -> list[Estimate | None]:
    """Estimate ratios of sums over images; means are those over a column of ones.

    Parameters
    ----------
    numerators, denominators
        float64 of shape (images, values); images in the same order, 1 or more. All
        values share the draws, so that intervals belong together.
    config
        Draws, confidence and seed.

    Returns
    -------
    list of Estimate or None
        One for each value; None where the denominators sum to 0. Draws whose
        denominator is 0 are left out of that value's interval.
    """
    values = _ratio(numerators.sum(axis=0), denominators.sum(axis=0))
    generator = np.random.default_rng(config.seed)
    count = len(numerators)
    step = max(1, _BLOCK // count)
    drawn = []
    for start in range(0, config.resamples, step):
        size = min(step, config.resamples - start)
        weights = generator.multinomial(count, np.full(count, 1 / count), size=size)
        weights = weights.astype(np.float64)
        drawn.append(_ratio(weights @ numerators, weights @ denominators))
    tail = 50 * (1 - config.confidence)
    return [
        _estimate(float(value), column, tail)
        for value, column in zip(values, np.concatenate(drawn).T, strict=True)
    ]


def estimate_means(columns: Floats, config: BootstrapConfig) -> list[Estimate]:
    """Estimate the mean of each column of `columns`, shape (images, values)."""
    found = estimate_ratios(columns, np.ones_like(columns), config)
    return [estimate for estimate in found if estimate is not None]


def _ratio(numerators: Floats, denominators: Floats) -> Floats:
    undefined = np.full_like(numerators, np.nan)
    return np.divide(numerators, denominators, out=undefined, where=denominators != 0)


def _estimate(value: float, drawn: Floats, tail: float) -> Estimate | None:
    if np.isnan(value):
        return None
    defined = drawn[~np.isnan(drawn)]
    if not defined.size:
        return Estimate(value=value, low=value, high=value)
    low, high = np.percentile(defined, [tail, 100 - tail])
    return Estimate(value=value, low=float(low), high=float(high))


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
class ScoreTotals:
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
    totals: ScoreTotals
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
    """Summarize the scores of some images.

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
    held = [s for s in scores if s.true_objects]
    whole = _summary(scores, config)
    rest = (
        whole if len(held) == len(scores) else _summary(held, config) if held else None
    )
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
        If the images, the rules or, of images annotated as a whole, the numbers of
        true objects differ.
    """
    config = config or BootstrapConfig()
    _check_one_rule(first)
    _check_one_rule(second)
    _refuse_different_rules([*first, *second])
    others = {s.name: s for s in second}
    refuse_different_images((s.name for s in first), others)
    matched = [others[s.name] for s in first]
    for one, other in zip(first, matched, strict=True):
        in_part = one.in_part or other.in_part
        if one.true_objects != other.true_objects and not in_part:
            raise InputError(
                f"{one.name} has {one.true_objects} true objects in the first set of "
                f"scores and {other.true_objects} in the second.",
                hint="Score both against the same labels.",
            )
    difference = _columns(first) - _columns(matched)
    return Paired(
        images=tuple(s.name for s in first),
        mean_ap_by_image=tuple(difference[:, 0].tolist()),
        **_estimates(difference, first[0].rule, config),
    )


def _check_one_rule(scores: Sequence[ImageScores]) -> None:
    if not scores:
        raise InputError("There are no images to summarize.")
    counted = Counter(s.name for s in scores)
    twice = sorted(name for name, count in counted.items() if count > 1)
    if twice:
        raise InputError(f"Images are scored more than once: {some(twice, 10)}.")
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
        If the names differ; names those in one set alone.
    """
    one, other = set(first), set(second)
    parts = [
        f"only in the {which}: {some(sorted(rest), 10)}"
        for which, rest in (("first", one - other), ("second", other - one))
        if rest
    ]
    if parts:
        raise InputError(
            f"The two sets of scores are not of the same images; {'; '.join(parts)}.",
            hint="Compare on the images that both have.",
        )


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


def _totals(scores: Sequence[ImageScores]) -> ScoreTotals:
    def total(name: str) -> Any:  # noqa: ANN401 - a sum, or one for each threshold
        values = [getattr(s, name) for s in scores]
        if isinstance(values[0], tuple):
            return tuple(map(sum, zip(*values, strict=True)))
        return sum(values)

    return ScoreTotals(
        **{f.name: total(f.name) for f in dataclasses.fields(ScoreTotals)}
    )


HEADLINE_T20 = (10, 14, 18)
"""Thresholds, in twentieths, whose F1 has a row of its own: IoU .50, .70 and .90."""

Row = tuple[str, ...]


def table_rows(summaries: Mapping[str, Summary]) -> list[Row]:
    """Return a table of summaries: a header, then one row per quantity.

    Parameters
    ----------
    summaries
        Heading of each column to its summary; one or more.

    Returns
    -------
    list of tuple of str
        Rows of one label and one cell per summary; ``-`` where there is no value.
    """
    return _rows({heading: _column(s) for heading, s in summaries.items()})


def difference_rows(differences: Mapping[str, Paired]) -> list[Row]:
    """Return a table of paired differences, like `table_rows`."""
    return _rows(
        {
            heading: {"images": f"{len(d.images):,}"} | _scores(d, signed=True)
            for heading, d in differences.items()
        }
    )


def class_rows(classes: Sequence[ClassScores]) -> list[Row]:
    """Return a table of each class's precision, recall and pixels."""

    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    body = [
        (c.name, share(c.precision), share(c.recall), f"{c.true_pixels:,}")
        for c in classes
    ]
    return [("class", "precision", "recall", "true pixels"), *body]


def _rows(columns: Mapping[str, Mapping[str, str]]) -> list[Row]:
    labels = dict.fromkeys(label for column in columns.values() for label in column)
    body = [(x, *(c.get(x, "-") for c in columns.values())) for x in labels]
    return [("", *columns), *body]


def _column(summary: Summary) -> dict[str, str]:
    totals, rest = summary.totals, summary.with_true_objects
    matched = summary.mean_matched_iou
    column = {
        "images": f"{len(summary.images):,}",
        "without any object, true or predicted (score 1)": f"{summary.both_empty:,}",
        "with only true or only predicted objects (score 0)": f"{summary.one_empty:,}",
        **_scores(summary),
        "mean IoU of matches": "-" if matched is None else matched.text(),
    }
    if rest is not None and len(rest.images) < len(summary.images):
        column["mean AP of images with true objects"] = rest.mean_ap.text()
        column["mean F1 of images with true objects"] = rest.mean_f1.text()
    return column | {
        "true objects": f"{totals.true_objects:,}",
        "predicted objects": f"{totals.predicted_objects:,}",
        "missed": f"{totals.missed:,}",
        "extra": f"{totals.extra:,}",
        "merges": f"{totals.merges:,}",
        "splits": f"{totals.splits:,}",
        "true objects too small to count": f"{totals.too_small:,}",
        "predicted objects left out": f"{totals.left_out:,}",
    }


def _scores(scored: Summary | Paired, *, signed: bool = False) -> dict[str, str]:
    t20 = scored.rule.t20
    span = f"IoU {_threshold(t20[0])} to {_threshold(t20[-1])}"
    rows = {
        f"mean AP, {span}": scored.mean_ap.text(signed=signed),
        f"mean F1, {span}": scored.mean_f1.text(signed=signed),
    }
    for t in HEADLINE_T20:
        if t in t20:
            key = f"F1 at IoU {_threshold(t)}"
            rows[key] = scored.f1_at(t).text(signed=signed)
    return rows


def _threshold(t20: int) -> str:
    return f"{t20 / 20:.2f}".removeprefix("0")
