"""The scores of one image, and the protocols that say how they are counted.

Sources: AP = TP / (TP + FP + FN) of one image as in the 2018 Data Science Bowl
(Caicedo et al. 2019, Nature Methods 16, 1247-1253), F1 = 2 TP / (2 TP + FP + FN). An
image without true and without predicted objects scores 1 in both, since nothing is
the right answer there; with objects on one side alone it scores 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scipy import ndimage

from cellunet.imaging.matching import (
    HALF,
    MatchRule,
    Overlaps,
    match,
    merges_and_splits,
    overlaps,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from cellunet.imaging.matching import Flags, Integers

SMALL_PX = 25
"""True objects of fewer pixels are small: annotators often disagree on them."""

_STANDARD = MatchRule()
_CAICEDO = MatchRule(t20=tuple(range(10, 19)), strict=True, min_true_area_px=SMALL_PX)

PROTOCOLS: dict[str, dict[str, MatchRule]] = {
    "standard": {
        "all": _STANDARD,
        "without_small": MatchRule(min_true_area_px=SMALL_PX),
        "small_ignored": MatchRule(min_true_area_px=SMALL_PX, ignore_small=True),
    },
    "caicedo2019": {
        "plain": _CAICEDO,
        "dilated": MatchRule(
            t20=_CAICEDO.t20,
            strict=True,
            min_true_area_px=SMALL_PX,
            dilate_predicted=True,
        ),
    },
}
"""Name of a protocol to its forms, the one that makes the headline first.

``standard``: IoU >= t for t of .50 to .95. ``all`` counts every true object.
``without_small`` takes those under 25 px as background, so that whoever finds them
has found too much; ``small_ignored`` takes them as no one's error.

``caicedo2019``: the average F1 of Caicedo et al. 2019, Cytometry Part A 95, 952-965
(BBBC039): IoU > t for t of .50 to .90 in steps of .05, true objects under 25 px
removed, F1 of each image at each threshold, mean over images, then over thresholds
(`Summary.mean_f1`; both means are over the full grid, so their order is free).
``dilated`` first grows the predictions as the authors' scripts do
(`dilate_labels`), ``plain`` takes them as they are. Here as in ``standard`` an image
without true and predicted objects scores 1; in the authors' scripts it scores 0, so
compare `Summary.with_true_objects` where the data hold such images. The scripts also
number the true objects anew as 8-connected regions of one value; here the labels are
taken as given.
"""


def ratio_f1(tp: int, fp: int, fn: int) -> float:
    """Return 2 TP / (2 TP + FP + FN), or 1 where there is nothing to find or found."""
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0


def ratio_ap(tp: int, fp: int, fn: int) -> float:
    """Return TP / (TP + FP + FN), or 1 where there is nothing to find or found."""
    return tp / (tp + fp + fn) if tp + fp + fn else 1.0


@dataclass(frozen=True, kw_only=True)
class ImageScores:
    """Counts of one image; every score derives from them.

    Tuples hold one value per threshold of `rule`.
    """

    name: str
    """Name of the image."""
    rule: MatchRule
    """How it was counted."""
    tp: tuple[int, ...]
    """Pairs that match."""
    true_objects: int
    """True objects that take part."""
    predicted_objects: int
    """Predicted objects that take part."""
    merges: int
    """Predicted objects with more than half of two or more true objects in them."""
    splits: int
    """True objects with more than half of two or more predicted objects in them."""
    matched_iou_sum: float
    """Sum of the IoU of the pairs that match at IoU .50."""
    left_out: int = 0
    """Predicted objects left out: most of each is not annotated, or ignored."""
    too_small: int = 0
    """True objects left out because they are under the rule's area."""

    @property
    def fp(self) -> tuple[int, ...]:
        """Predicted objects without a match."""
        return tuple(self.predicted_objects - n for n in self.tp)

    @property
    def fn(self) -> tuple[int, ...]:
        """True objects without a match."""
        return tuple(self.true_objects - n for n in self.tp)

    @property
    def f1(self) -> tuple[float, ...]:
        """F1 at each threshold."""
        return tuple(map(ratio_f1, self.tp, self.fp, self.fn))

    @property
    def ap(self) -> tuple[float, ...]:
        """AP at each threshold."""
        return tuple(map(ratio_ap, self.tp, self.fp, self.fn))

    @property
    def mean_f1(self) -> float:
        """Mean of F1 over the thresholds."""
        return sum(self.f1) / len(self.tp)

    @property
    def mean_ap(self) -> float:
        """Mean of AP over the thresholds."""
        return sum(self.ap) / len(self.tp)

    @property
    def missed(self) -> int:
        """True objects without a match at IoU .50."""
        return self.fn[0]

    @property
    def extra(self) -> int:
        """Predicted objects without a match at IoU .50."""
        return self.fp[0]

    @property
    def mean_matched_iou(self) -> float | None:
        """Mean IoU of the pairs that match at IoU .50; None if none does."""
        return self.matched_iou_sum / self.tp[0] if self.tp[0] else None

    def f1_at(self, t20: int) -> float:
        """F1 at one of the rule's thresholds, in twentieths."""
        return self.f1[self.rule.t20.index(t20)]

    def to_dict(self) -> dict[str, Any]:
        """Return counts and scores as plain values."""
        return {
            "name": self.name,
            "true_objects": self.true_objects,
            "predicted_objects": self.predicted_objects,
            "missed": self.missed,
            "extra": self.extra,
            "merges": self.merges,
            "splits": self.splits,
            "too_small": self.too_small,
            "left_out": self.left_out,
            "mean_ap": self.mean_ap,
            "mean_f1": self.mean_f1,
            "mean_matched_iou": self.mean_matched_iou,
            "thresholds": [t / 20 for t in self.rule.t20],
            "tp": list(self.tp),
            "fp": list(self.fp),
            "fn": list(self.fn),
            "f1": list(self.f1),
            "ap": list(self.ap),
        }

    def csv_row(self) -> dict[str, str | int | float | None]:
        """Return one flat row: `to_dict` with a column per threshold."""
        row = self.to_dict()
        names = [f"{t:.2f}" for t in row.pop("thresholds")]
        for key in ("tp", "fp", "fn", "f1", "ap"):
            values = row.pop(key)
            row |= {f"{key}_{n}": v for n, v in zip(names, values, strict=True)}
        return row


def dilate_labels(labels: Integers) -> npt.NDArray[np.integer[Any]]:
    """Grow each object by one pixel as the BBBC039 paper's scripts do.

    Parameters
    ----------
    labels
        Instance labels, YX, 0 background.

    Returns
    -------
    npt.NDArray
        The same type and shape; each pixel holds the largest id of its 3 x 3
        neighbourhood (a grey dilation). So where two objects meet the one of the
        larger id wins, and takes one pixel off the other as well as off the
        background: the result depends on how the objects are numbered.
    """
    grown: npt.NDArray[np.integer[Any]] = ndimage.maximum_filter(labels, size=3)
    return grown


def score_overlaps(table: Overlaps, *, name: str, rule: MatchRule) -> ImageScores:
    """Score one image from its table of overlaps (dilation aside, see `score_image`).

    Parameters
    ----------
    table
        Overlaps of true and predicted objects.
    name
        Name of the image.
    rule
        Thresholds and the smallest true object.
    """
    table = table.without_small(rule.min_true_area_px, ignore=rule.ignore_small)
    matches = [match(table, t20, strict=rule.strict) for t20 in rule.t20]
    at_half = matches[rule.t20.index(HALF)]
    ious = table.intersections[at_half] / table.unions[at_half]
    merging, split = merges_and_splits(table)
    return ImageScores(
        name=name,
        rule=rule,
        tp=tuple(len(m) for m in matches),
        true_objects=len(table.true_ids),
        predicted_objects=len(table.predicted_ids),
        merges=len(merging),
        splits=len(split),
        matched_iou_sum=float(ious.sum()),
        left_out=table.left_out,
        too_small=table.too_small,
    )


def score_image(
    labels: Integers,
    predicted: Integers,
    *,
    name: str,
    forms: Mapping[str, MatchRule] = PROTOCOLS["standard"],
    annotated: Flags | None = None,
) -> dict[str, ImageScores]:
    """Score one image in all forms of a protocol.

    Parameters
    ----------
    labels, predicted
        True and predicted instance labels, YX, any integer type, 0 background.
    name
        Name of the image.
    forms
        Name of a form to its rule, as in `PROTOCOLS`.
    annotated
        YX, True where the image is annotated; None: everywhere.

    Raises
    ------
    AnnotationError
        If the shapes differ, or labels are not integers of 0 and above.
    """
    tables: dict[bool, Overlaps] = {}
    for grown in {rule.dilate_predicted for rule in forms.values()}:
        found = dilate_labels(predicted) if grown else predicted
        tables[grown] = overlaps(labels, found, annotated=annotated)
    return {
        form: score_overlaps(tables[rule.dilate_predicted], name=name, rule=rule)
        for form, rule in forms.items()
    }
