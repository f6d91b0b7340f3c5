"""The sizes of objects, the magnification that a model sees them at, and magnifying.

A model finds objects of the sizes that it has learned, and tells those that are up to
a few times larger as well, if it looks at the plane reduced. So a look at a reduced
plane says how large they are, and two looks are compared by what they found. All is
computed from whole numbers or in a fixed order: the same labels give the same size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cellunet.imaging.measure import EVIDENCE_TOP, equivalent_diameters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Values = npt.NDArray[np.float64]
    Learned = tuple[float, float, float]

BEYOND = 1.375
"""Objects are too large for a model from this factor above its large training objects
on. Up to there it sees them as well, and a reduced look gains nothing."""

LEAST_FILL = 0.88
"""What is less compact on average is no objects, but clumps or background."""

FEWEST = 3
"""Objects that tell a size."""

NEARLY_AS_GOOD = 0.9
"""A reduced look is kept from this share of the usual look's quality on, a magnified
one, which takes time, only if it is no worse."""

SMALL = ((0.34, 0.65), (0.48, 0.77))
"""Below which shares of the median training object a look magnified up to it is tried,
each with the confidence, on average, that it takes: what a model is not sure of is
noise as often, and all but the smallest nuclei lose outlines where they were taken so.
"""

MOST = 3.0
"""Of magnification, compared with the model's own."""

SPECK = 0.2
"""Of the largest object that a model sees as it is: specks lie everywhere."""

CLEAR, COMPACT = 0.7, 0.9
"""Confidence and compactness of an object that one look has ahead of another."""


@dataclass(frozen=True, kw_only=True)
class ObjectSizes:
    """The objects that a look at a plane, or at a part of it, found."""

    diameters: Values
    """Equivalent diameter of each object in the plane's own pixels."""
    confidences: Values
    """Mean probability of the likeliest class of each object."""
    fills: Values
    """How compact each object is: its area over that of the ellipse of its second
    moments; 1 for ellipses, less for what is bent, branched or two in one."""
    pixels: float
    """Of the plane that was looked at."""

    def __len__(self) -> int:
        """Return how many objects were found."""
        return len(self.diameters)

    @property
    def areas(self) -> Values:
        """Area of each object."""
        areas: Values = np.pi / 4 * self.diameters**2
        return areas

    @property
    def diameter(self) -> float:
        """Area-weighted median: half of what is covered lies in larger objects."""
        order = np.argsort(self.diameters, kind="stable")
        total = np.cumsum(self.areas[order])
        place = int(np.searchsorted(total, total[-1] / 2))
        return float(self.diameters[order[place]])

    @property
    def fill(self) -> float:
        """Area-weighted mean."""
        return float(np.average(self.fills, weights=self.areas))

    @property
    def confidence(self) -> float:
        """Area-weighted mean; 0 without objects."""
        if not len(self):
            return 0.0
        return float(np.average(self.confidences, weights=self.areas))

    @property
    def quality(self) -> float:
        """How much a look shows: sure, compact objects that cover the foreground."""
        if not len(self):
            return 0.0
        sure = self.confidences**2 * self.fills**4
        covered = float(self.areas.sum()) / self.pixels
        return float(np.average(sure, weights=self.areas)) * math.sqrt(covered)


def look_of(labels: npt.NDArray[Any], evidence: npt.NDArray[np.uint8]) -> ObjectSizes:
    """Return what a look found.

    Parameters
    ----------
    labels
        YX, 0 background, objects from 1 without gaps.
    evidence
        YX uint8, as `cellunet.imaging.measure.pixel_confidence` makes it.
    """
    y, x = np.nonzero(labels)
    ids = labels[y, x].astype(np.int64) - 1
    count = int(ids.max(initial=-1)) + 1

    def sums(values: npt.NDArray[Any] | None = None) -> Values:
        # Whole numbers below 2^53: exact in any order.
        weights = None if values is None else values.astype(np.float64)
        found: Values = np.bincount(ids, weights, minlength=count).astype(np.float64)
        return found

    area = sums()
    my, mx = sums(y) / area, sums(x) / area
    # Moments of squares, not of points: 1/12 of a pixel along each axis.
    yy = sums(y * y) / area - my * my + 1 / 12
    xx = sums(x * x) / area - mx * mx + 1 / 12
    xy = sums(y * x) / area - my * mx
    ellipse = 4 * np.pi * np.sqrt(np.maximum(yy * xx - xy * xy, 1 / 144))
    return ObjectSizes(
        diameters=equivalent_diameters(area),
        confidences=sums(evidence[y, x]) / area / EVIDENCE_TOP,
        fills=np.minimum(area / ellipse, 1.0),
        pixels=float(labels.size),
    )


def together(looks: Sequence[ObjectSizes]) -> ObjectSizes:
    """Return looks at several parts of a plane as one."""
    return ObjectSizes(
        diameters=np.concatenate([look.diameters for look in looks]),
        confidences=np.concatenate([look.confidences for look in looks]),
        fills=np.concatenate([look.fills for look in looks]),
        pixels=sum(look.pixels for look in looks),
    )


def too_large(look: ObjectSizes, learned: Learned, own: float) -> bool:
    """Return whether a model that magnifies by `own` sees the objects too large."""
    return len(look) > 0 and look.diameter > largest_px(learned, own)


def too_small(look: ObjectSizes, learned: Learned, own: float) -> bool:
    """Return whether objects that it is sure of are so small that more pixels help."""
    return len(look) > 0 and any(
        look.diameter * own < share * learned[1] and look.confidence >= sure
        for share, sure in SMALL
    )


def best_scale(look: ObjectSizes, learned: Learned, own: float) -> float:
    """Return at which magnification a model sees objects best that do not fit it.

    Too large ones are brought to the size of the large objects that it learned, small
    ones to the median.

    Parameters
    ----------
    look
        The objects.
    learned
        Diameters of the small, median and large training objects as it sees them.
    own
        By how much the model magnifies as it is.
    """
    _, median, high = learned
    diameter = look.diameter
    if diameter * own > median:
        return rounded(high / diameter)
    return rounded(min(median / diameter, MOST * own))


def apart(
    look: ObjectSizes,
    labels: npt.NDArray[Any],
    large: npt.NDArray[np.bool_],
    limit_px: float,
) -> int:
    """Return how many clear objects of a look lie beside the large ones of another.

    Parameters
    ----------
    look, labels
        What was found, both of the same labels.
    large
        YX, where the large objects lie.
    limit_px
        Larger objects do not count, nor those of less than `SPECK` of it.
    """
    covered = np.bincount(labels[large].ravel(), minlength=len(look) + 1)[1:]
    clear = (look.confidences >= CLEAR) & (look.fills >= COMPACT)
    size = (look.diameters >= SPECK * limit_px) & (look.diameters <= limit_px)
    return int((clear & size & (covered == 0)).sum())


def largest_px(learned: Learned, own: float) -> float:
    """Return the diameter up to which a model that magnifies by `own` sees objects."""
    return BEYOND * learned[2] / own


def tells_size(look: ObjectSizes) -> bool:
    """Return whether what a look found is enough to go by."""
    return len(look) >= FEWEST and look.fill > LEAST_FILL


def better(other: ObjectSizes, usual: ObjectSizes, *, magnified: bool) -> bool:
    """Return whether another magnification shows more than the usual one.

    About as much is enough for a reduced look, which is quick and sees no texture.
    """
    if magnified:
        return tells_size(other) and other.quality >= usual.quality
    return other.quality >= NEARLY_AS_GOOD * usual.quality


def rounded(scale: float) -> float:
    """Return a magnification in two digits, so that what is told is what is done.

    Examples
    --------
    >>> rounded(0.33333), rounded(1.2345), rounded(0.0123)
    (0.33, 1.2, 0.012)
    """
    return float(f"{scale:.2g}")


T = TypeVar("T", bound=np.generic)


def target_length(length: int, scale: float) -> int:
    """Return how many pixels `length` pixels become, at least 1."""
    return max(round(length * scale), 1)


PIECE_PX = 65_536
"""Target pixels that are made at once: what fits into a processor's cache."""


@dataclass(frozen=True)
class AxisWeights:
    """The weights by which target pixels follow from source pixels.

    Target pixel i is the sum over k of ``weights[i, k]`` times the source pixel
    ``sources[i, k]``. ``self @ rows`` weighs rows, in the order of k in float32, so
    that the result depends on nothing else.
    """

    sources: npt.NDArray[np.intp]
    weights: npt.NDArray[np.float32]

    def __matmul__(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the target rows of source rows."""
        rows = np.ascontiguousarray(rows)
        result = np.zeros((len(self.sources), rows.shape[1]), np.float32)
        step = max(PIECE_PX // max(rows.shape[1], 1), 1)
        for y in range(0, len(result), step):
            part = np.s_[y : y + step]
            for source, weight in zip(
                self.sources[part].T, self.weights[part].T, strict=True
            ):
                if weight.any():
                    taken = rows.take(source, axis=0)
                    taken *= weight[:, None]
                    result[part] += taken
        return result


def axis_weights(
    length: int, target: int, start: int, stop: int
) -> tuple[int, int, AxisWeights]:
    """Return the weights by which target pixels follow from source pixels.

    Parameters
    ----------
    length, target
        Pixels of the whole axis before and after.
    start, stop
        The target pixels wanted.

    Returns
    -------
    first, last, weights
        The source pixels needed, first <= i < last, and the weights of these by target
        pixel, which sum to 1.
    """
    step = length / target
    reach = max(step, 1.0)
    center = (np.arange(start, stop) + 0.5) * step - 0.5
    low = np.ceil(center - reach).astype(int)
    source = low[:, None] + np.arange(int(2 * np.ceil(reach)) + 2)
    weight = np.maximum(1.0 - np.abs(source - center[:, None]) / reach, 0.0)
    weight *= (source >= 0) & (source < length)
    weight /= weight.sum(axis=1, keepdims=True)
    source = np.clip(source, 0, length - 1)
    first, last = int(source.min()), int(source.max()) + 1
    return first, last, AxisWeights(source - first, weight.astype(np.float32))


def resampled(
    read: Callable[[int, int, int, int], npt.NDArray[np.float32]],
    shape: tuple[int, int],
    target: tuple[int, int],
) -> Callable[[int, int, int, int], npt.NDArray[np.float32]]:
    """Return a reader of the resampled plane.

    Parameters
    ----------
    read
        ``read(y0, y1, x0, x1)`` gives a part of the source, CYX float32.
    shape, target
        Height and width before and after.

    Returns
    -------
    callable
        As `read`, in target pixels.
    """

    def read_target(y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[np.float32]:
        top, bottom, rows = axis_weights(shape[0], target[0], y0, y1)
        left, right, columns = axis_weights(shape[1], target[1], x0, x1)
        part = read(top, bottom, left, right)
        return np.stack([(columns @ (rows @ plane).T).T for plane in part])

    return read_target


def magnified(planes: npt.NDArray[np.float32], scale: float) -> npt.NDArray[np.float32]:
    """Return whole planes (CYX float32) resampled by `scale`."""
    height, width = planes.shape[1:]
    target = target_length(height, scale), target_length(width, scale)

    def read(y0: int, y1: int, x0: int, x1: int) -> npt.NDArray[np.float32]:
        return planes[:, y0:y1, x0:x1]

    return resampled(read, (height, width), target)(0, target[0], 0, target[1])


def looked_up(plane: npt.NDArray[T], scale: float) -> npt.NDArray[T]:
    """Return a plane of labels (YX) at the size that `magnified` gives.

    Every target pixel takes the label at its center; none is mixed.
    """
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * length / n).astype(int), length - 1)
        for length, n in ((m, target_length(m, scale)) for m in plane.shape)
    )
    return plane[np.ix_(rows, columns)]
