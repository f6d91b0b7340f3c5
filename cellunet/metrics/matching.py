"""Match predicted to true objects, and count what one image scores.

All decisions are made in integers. A threshold is kept as twentieths, ``t20`` of
10..19 for IoU .50 to .95, and a pair matches if ``20 * intersection >= t20 * union``
in int64, so that an IoU of exactly .55 is not lost to binary fractions.

Sources: AP = TP / (TP + FP + FN) of one image as in the 2018 Data Science Bowl
(Caicedo et al. 2019, Nature Methods 16, 1247-1253), F1 = 2 TP / (2 TP + FP + FN). An
image without true and without predicted objects scores 1 in both, since nothing is
the right answer there; with objects on one side alone it scores 0.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from cellunet.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    Integers = npt.NDArray[np.integer[Any]]
    Counts = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

HALF = 10
"""IoU .50 in twentieths: missed, extra and matched IoU are of this threshold."""

_SMALL_TABLE = 1 << 20
"""Up to this many entries are counted in a table, however small the image is."""


@dataclass(frozen=True, kw_only=True)
class MatchRule:
    """What counts as a match, and which objects take part."""

    t20: tuple[int, ...] = tuple(range(10, 20))
    """IoU thresholds in twentieths, rising, from 10 (.50) to at most 20 (1.00)."""
    strict: bool = False
    """Match if IoU > t instead of IoU >= t."""
    min_true_area_px: int = 0
    """True objects of fewer pixels do not take part."""
    ignore_small: bool = False
    """Leave out predicted objects with more than half of their area on true objects
    that are too small, instead of taking these as background, where a prediction is
    an extra object."""
    dilate_predicted: bool = False
    """Grow the predicted objects by a 3 x 3 gray dilation before matching."""

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as plain values, thresholds as IoU."""
        values = dataclasses.asdict(self)
        return {"thresholds": [t / 20 for t in values.pop("t20")], **values}


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlaps:
    """Sparse contingency table of a true and a predicted label image.

    All arrays are int64 of shape (n_true,), (n_predicted,) or (n_pairs,); areas and
    intersections are in pixels, over the annotated pixels only. Pairs are the objects
    that share at least one pixel, ordered by true, then by predicted object.
    """

    true_ids: Counts
    """Ids of the true objects, ascending."""
    true_areas: Counts
    """Area of each true object."""
    predicted_ids: Counts
    """Ids of the predicted objects that take part, ascending."""
    predicted_areas: Counts
    """Area of each predicted object."""
    pair_true: Counts
    """Position of each pair's true object in `true_ids`."""
    pair_predicted: Counts
    """Position of each pair's predicted object in `predicted_ids`."""
    intersections: Counts
    """Pixels that each pair shares."""
    left_out: int = 0
    """Predicted objects left out: most of each is not annotated, or on true objects
    that are too small."""
    too_small: int = 0
    """True objects left out by `without_small`."""
    in_part: bool = False
    """Whether the image is annotated in part. Which true objects take part then depends
    on the prediction: the rest of one that is left out does not."""

    @property
    def unions(self) -> Counts:
        """Union of each pair in pixels."""
        areas = self.true_areas[self.pair_true]
        return areas + self.predicted_areas[self.pair_predicted] - self.intersections

    def without_small(self, min_area_px: int, *, ignore: bool = False) -> Overlaps:
        """Return the table without the true objects under `min_area_px`.

        With `ignore`, predicted objects with more than half of their area on those
        are left out too; else they stay, and these true objects are background.
        """
        true = self.true_areas >= min_area_px
        if true.all():
            return self
        small = ~true[self.pair_true]
        on_small = np.zeros_like(self.predicted_areas)
        np.add.at(on_small, self.pair_predicted[small], self.intersections[small])
        found = (2 * on_small <= self.predicted_areas) | (not ignore)
        pairs = ~small & found[self.pair_predicted]
        return Overlaps(
            true_ids=self.true_ids[true],
            true_areas=self.true_areas[true],
            predicted_ids=self.predicted_ids[found],
            predicted_areas=self.predicted_areas[found],
            pair_true=(np.cumsum(true, dtype=np.int64) - 1)[self.pair_true[pairs]],
            pair_predicted=(np.cumsum(found, dtype=np.int64) - 1)[
                self.pair_predicted[pairs]
            ],
            intersections=self.intersections[pairs],
            left_out=self.left_out + int(np.count_nonzero(~found)),
            too_small=self.too_small + int(np.count_nonzero(~true)),
            in_part=self.in_part,
        )


def overlaps(
    labels: Integers, predicted: Integers, *, annotated: Flags | None = None
) -> Overlaps:
    """Count the pixels that each true and each predicted object share.

    Parameters
    ----------
    labels, predicted
        True and predicted instance labels, YX, any integer type, 0 background; ids
        need not be consecutive, and an object need not be connected.
    annotated
        YX, True where the image is annotated; None: everywhere. Pixels that are not
        annotated are no one's error: they count in no area, and an object, true or
        predicted, with more than half of its area there is left out. So is a true
        object at the edge of the annotated part if more than half of what can be seen
        of it lies on predicted objects that are left out: drawn up to the edge alone,
        it is the rest of an object that was found.

    Raises
    ------
    AnnotationError
        If the shapes differ, or labels are not integers of 0 and above.
    """
    _check(labels, labels, "true labels")
    _check(predicted, labels, "predicted labels")
    true_ids, true = _compact(labels)
    found_ids, found = _compact(predicted)
    left_out = 0
    if annotated is not None and (
        annotated.shape != labels.shape or annotated.dtype != np.bool_
    ):
        raise AnnotationError(
            f"The annotated part is {annotated.dtype} of shape {annotated.shape}; "
            f"bool of the labels' shape {labels.shape} is expected."
        )
    # Nothing is left out of most images, which are annotated everywhere.
    in_part = annotated is not None and not annotated.all()
    if annotated is not None and in_part:
        inside = annotated.ravel()
        kept = _mostly_inside(found, inside, len(found_ids))
        left_out = int(np.count_nonzero(~kept))
        kept_true = _mostly_inside(true, inside, len(true_ids))
        kept_true &= ~_rests(true, np.append(False, ~kept)[found], annotated, kept_true)
        found_ids, found = _keep(found_ids, found * inside, kept)
        true_ids, true = _keep(true_ids, true * inside, kept_true)
    pair_true, pair_predicted, shared = _pairs(true, found, len(found_ids) + 1)
    return Overlaps(
        true_ids=true_ids,
        true_areas=np.bincount(true, minlength=len(true_ids) + 1)[1:],
        predicted_ids=found_ids,
        predicted_areas=np.bincount(found, minlength=len(found_ids) + 1)[1:],
        pair_true=pair_true,
        pair_predicted=pair_predicted,
        intersections=shared,
        left_out=left_out,
        in_part=in_part,
    )


def _mostly_inside(numbered: Counts, inside: Flags, count: int) -> Flags:
    """Return which objects have half of their area or more where `inside` is True."""
    areas = np.bincount(numbered, minlength=count + 1)[1:]
    seen = np.bincount(numbered[inside], minlength=count + 1)[1:]
    mostly: Flags = 2 * seen >= areas
    return mostly


def _rests(true: Counts, on_left_out: Flags, annotated: Flags, kept: Flags) -> Flags:
    """Return which true objects are the rests of predicted ones that are left out.

    Objects at the edge of the annotated part alone: else a prediction that covers
    everything would excuse all that it hides.
    """
    inside = annotated.ravel()
    adjacent = np.zeros_like(annotated)
    adjacent[1:] |= ~annotated[:-1]
    adjacent[:-1] |= ~annotated[1:]
    adjacent[:, 1:] |= ~annotated[:, :-1]
    adjacent[:, :-1] |= ~annotated[:, 1:]
    count = len(kept) + 1
    at_edge = np.bincount(true[inside & adjacent.ravel()], minlength=count)[1:] > 0
    seen = np.bincount(true[inside], minlength=count)[1:]
    covered = np.bincount(true[inside & on_left_out], minlength=count)[1:]
    rests: Flags = at_edge & (2 * covered > seen)
    return rests


def _check(array: npt.NDArray[Any], labels: npt.NDArray[Any], what: str) -> None:
    if array.shape != labels.shape:
        raise AnnotationError(
            f"The {what} are of shape {array.shape}; that of the true labels, "
            f"{labels.shape}, is expected.",
            hint="Do they belong to the same image?",
        )
    if array.dtype.kind not in "iu":
        raise AnnotationError(
            f"The {what} are {array.dtype}; integers are expected.",
            hint="Give every object a number of its own, and the background 0.",
        )
    if array.dtype.kind == "i" and array.min(initial=0) < 0:
        raise AnnotationError(
            f"The {what} go down to {array.min()}; 0 is the lowest possible.",
            hint="Tell what is not annotated by an array of its own.",
        )


def _compact(labels: Integers) -> tuple[Counts, Counts]:
    """Return the ids in use, ascending, and the flat image numbered 1..n by them."""
    flat = labels.ravel()
    highest = int(flat.max(initial=0))
    if highest > max(flat.size, _SMALL_TABLE):  # a table would outgrow the image
        values, inverse = np.unique(flat, return_inverse=True)
        ids = values[values > 0].astype(np.int64)
        first = 1 if len(ids) == len(values) else 0  # without background ids start at 1
        return ids, inverse.ravel().astype(np.int64) + first
    whole: Counts = flat.astype(np.int64, copy=False)
    used = np.bincount(whole, minlength=highest + 1) > 0
    used[0] = True
    ids = np.flatnonzero(used)[1:]
    if len(ids) == highest:
        return ids, whole
    return ids, (np.cumsum(used, dtype=np.int64) - 1)[whole]


def _keep(ids: Counts, numbered: Counts, keep: Flags) -> tuple[Counts, Counts]:
    """Make the objects that are not kept background, and number the rest 1..n."""
    position = np.concatenate(([0], np.where(keep, np.cumsum(keep, dtype=np.int64), 0)))
    return ids[keep], position[numbered]


def _pairs(true: Counts, found: Counts, columns: int) -> tuple[Counts, Counts, Counts]:
    """Return true position, predicted position and pixels of the pairs that meet."""
    both = (true > 0) & (found > 0)
    keys = (true[both] - 1) * columns + found[both]
    if int(keys.max(initial=0)) <= max(keys.size, _SMALL_TABLE):
        table = np.bincount(keys)
        keys = np.flatnonzero(table)
        shared = table[keys]
    else:
        keys, shared = np.unique(keys, return_counts=True)
    return keys // columns, keys % columns - 1, shared.astype(np.int64)


def match(table: Overlaps, t20: int, *, strict: bool = False) -> Counts:
    """Choose which pairs of `table` match, one to one and as many as possible.

    Parameters
    ----------
    table
        The objects' overlaps.
    t20
        IoU threshold in twentieths, 10 to 20.
    strict
        Match if IoU > t instead of IoU >= t.

    Returns
    -------
    Counts
        Positions of the matching pairs among the table's pairs, shape (n_matches,),
        ascending.

    Notes
    -----
    An IoU above .5 makes a match unique. With intersection i, union u and areas a and
    b: i > u / 2 and u >= a give i > a / 2, and likewise i > b / 2. The objects of one
    image share no pixel, so no two of them can both hold more than half of a, or of
    b. At exactly .5 an object may have two partners, each with half of it, and a
    maximum bipartite matching is needed to pair as many as possible.
    """
    twentieths = 20 * table.intersections
    limit = t20 * table.unions
    fits = np.flatnonzero(twentieths > limit if strict else twentieths >= limit)
    if strict or t20 > HALF or not fits.size:
        return fits
    # Loaded here since it takes longer than many a score.
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    true, found = table.pair_true[fits], table.pair_predicted[fits]
    graph = csr_matrix(
        (np.ones(fits.size, np.int8), (true, found)),
        shape=(len(table.true_ids), len(table.predicted_ids)),
    )
    partner = maximum_bipartite_matching(graph, perm_type="column")
    matches: Counts = fits[partner[true] == found]
    return matches


def merges_and_splits(table: Overlaps) -> tuple[Counts, Counts]:
    """Return positions of merging predicted objects and of split true objects.

    A predicted object merges if it holds more than half of each of two or more true
    objects; a true object is split if it holds more than half of each of two or more
    predicted ones.
    """
    swallowed = 2 * table.intersections > table.true_areas[table.pair_true]
    inside = 2 * table.intersections > table.predicted_areas[table.pair_predicted]
    holds = np.bincount(
        table.pair_predicted[swallowed], minlength=len(table.predicted_ids)
    )
    parts = np.bincount(table.pair_true[inside], minlength=len(table.true_ids))
    return np.flatnonzero(holds >= 2), np.flatnonzero(parts >= 2)


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """How well the pixels of one class are found."""

    name: str
    """Name of the class."""
    precision: float | None
    """Share of the pixels predicted as the class that are; None: none is predicted."""
    recall: float | None
    """Share of the class's pixels that are predicted as it; None: there are none."""
    true_pixels: int
    """Pixels of the class."""
    predicted_pixels: int
    """Pixels predicted as the class."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return dataclasses.asdict(self)


def confusion_matrix(
    class_map: Integers,
    predicted: Integers,
    *,
    classes: int,
    annotated: Flags | None = None,
) -> Counts:
    """Count the pixels of each pair of true and predicted class.

    Parameters
    ----------
    class_map, predicted
        True and predicted class numbers, 0 to `classes` - 1, of one shape.
    classes
        Number of classes.
    annotated
        True where the image is annotated, of the same shape; None: everywhere.

    Returns
    -------
    Counts
        int64 of shape (classes, classes); rows are true, columns predicted classes.
    """
    inside = slice(None) if annotated is None else annotated.ravel()
    true, found = class_map.ravel()[inside], predicted.ravel()[inside]
    keys = true.astype(np.int64) * classes + found.astype(np.int64)
    counts: npt.NDArray[np.int64] = np.bincount(keys, minlength=classes**2)
    return counts.reshape(classes, classes)


def class_scores(confusion: Counts, names: Sequence[str]) -> tuple[ClassScores, ...]:
    """Return precision and recall of each class.

    Parameters
    ----------
    confusion
        Sum of the images' `confusion_matrix`, shape (classes, classes).
    names
        Names of the classes, in the order of their numbers.
    """
    return tuple(
        ClassScores(
            name=name,
            precision=float(hits / predicted) if predicted else None,
            recall=float(hits / true) if true else None,
            true_pixels=int(true),
            predicted_pixels=int(predicted),
        )
        for name, hits, true, predicted in zip(
            names,
            confusion.diagonal(),
            confusion.sum(axis=1),
            confusion.sum(axis=0),
            strict=True,
        )
    )


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
    in_part: bool = False
    """Whether the image is annotated in part, as of `Overlaps`."""

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
        neighborhood (a gray dilation). So where two objects meet the one of the
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
        in_part=table.in_part,
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
