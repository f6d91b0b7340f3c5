"""Check labels, alone and against what their image shows.

Objects of fluorescence images are brighter than what is around them (or, in other
images, darker), so brightness and labels correlate, and best where the labels belong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import fft, ndimage

from cellunet.errors import some

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from cellunet.command_config import CheckConfig

    Floats = npt.NDArray[np.float64]

LEAST_AREA_PX = 30
"""Objects of fewer pixels have no shape worth measuring."""

_ACROSS_CORNERS = np.ones((3, 3), bool)


@dataclass(frozen=True, kw_only=True)
class LabelProblems:
    """Objects of one image, and the ids of those that a person should look at."""

    areas_px: tuple[int, ...]
    """Area of each object, in the order of their ids."""
    fragments: tuple[int, ...] = ()
    """Far smaller than the others, and not cut by the frame."""
    pieces: tuple[int, ...] = ()
    """In two or more pieces that do not touch, not even across a corner."""
    holes: tuple[int, ...] = ()
    """With background or another object inside."""
    several: tuple[int, ...] = ()
    """Large and far from convex: perhaps touching objects under one id."""


def find_label_problems(
    labels: npt.NDArray[np.integer[Any]], config: CheckConfig
) -> LabelProblems:
    """Look at every object of an image.

    Parameters
    ----------
    labels
        YX, 0 background.
    config
        From when on something is odd.
    """
    objects = list(_objects(labels))
    whole = [area for _, area, cut, _ in objects if not cut]
    areas = [area for _, area, _, _ in objects]
    median = float(np.median(whole or areas)) if areas else 0.0
    found: dict[str, list[int]] = {n: [] for n in ("fragments", "pieces", "holes")}
    several = []
    for number, area, cut, inside in objects:
        if area < config.fragment_share * median and not cut:
            found["fragments"].append(number)
        if ndimage.label(inside, _ACROSS_CORNERS)[1] > 1:
            found["pieces"].append(number)
        if np.count_nonzero(ndimage.binary_fill_holes(inside)) > area:
            found["holes"].append(number)
        large = area > max(config.several_area * median, LEAST_AREA_PX)
        if large and solidity(inside) < config.several_solidity:
            several.append(number)
    return LabelProblems(
        areas_px=tuple(areas),
        several=tuple(several),
        **{name: tuple(ids) for name, ids in found.items()},
    )


def _objects(
    labels: npt.NDArray[Any],
) -> Iterator[tuple[int, int, bool, npt.NDArray[np.bool_]]]:
    """Yield id, area, whether the frame cuts it, and the object within its box."""
    ids = np.unique(labels)
    ids = ids[ids > 0]
    numbered = np.where(labels > 0, np.searchsorted(ids, labels) + 1, 0)
    for index, box in enumerate(ndimage.find_objects(numbered), 1):
        if box is None:
            continue
        inside = numbered[box] == index
        cut = any(
            side.start == 0 or side.stop == length
            for side, length in zip(box, labels.shape, strict=True)
        )
        yield int(ids[index - 1]), int(np.count_nonzero(inside)), cut, inside


def solidity(inside: npt.NDArray[np.bool_]) -> float:
    """Return the area of an object over the area of its convex hull.

    The hull is that of the corners of its pixels, so that a rectangle has 1.

    Examples
    --------
    >>> solidity(np.array([[1, 1], [1, 0]], bool))
    0.8571428571428571
    """
    from scipy.spatial import ConvexHull

    edge = inside & ~ndimage.binary_erosion(inside)
    pixels = np.argwhere(edge)
    corners = np.concatenate([pixels + np.array(c) for c in np.ndindex(2, 2)])
    return float(np.count_nonzero(inside) / ConvexHull(corners).volume)


LONGEST_PX = 1024
"""Larger images are thinned to this side before they are compared."""

LEAST_SIDE_PX = 112
"""A shift of a single smaller image is no finding, as few objects decide it. Of crops
of 126 public images whose labels are in place, 11 % of those of 64 pixels a side fit
better moved, 5 % of 96, 1 % of 112, none of 192."""

LEAST_ALIKE = 3
"""Images that have to agree on a shift for an offset of all of them to be reported."""

ROWS = 256
"""Label images that are compared with all images at once: all at once would need
memory by the square of their number."""

SMALL_PX = 64
"""Side of the pictures by which labels are compared with other images."""


@dataclass(frozen=True, kw_only=True)
class LabelFit:
    """How labels fit their image."""

    here: float
    """Correlation of brightness and labels in place, -1 to 1."""
    best: float
    """Of the shift with the largest correlation, of the sign of `here`."""
    shift_px: tuple[int, int]
    """By how many pixels down and to the right that is."""
    small: bool = False
    """Whether the image is too small for it to say something alone."""

    def is_shifted(self, config: CheckConfig) -> bool:
        """Return whether the labels belong somewhere else."""
        far = np.hypot(*self.shift_px) >= config.shift_px
        gain = abs(self.best) - abs(self.here)
        sure = not self.small and not self.is_other(config)
        return bool(far and gain > config.shift_gain and sure)

    def is_other(self, config: CheckConfig) -> bool:
        """Return whether the labels fit nowhere."""
        return abs(self.best) < config.least_correlation


def brightness(image: npt.NDArray[Any]) -> Floats:
    """Return an image, YX, between its 1st and 99.8th percentile, as 0 to 1.

    The square root lifts what is dim; a constant image is 0.
    """
    values = np.nan_to_num(image.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = np.percentile(values, (1, 99.8))
    if high <= low:
        low, high = values.min(), values.max()
    scaled: Floats = np.sqrt(np.clip((values - low) / max(high - low, 1e-12), 0, 1))
    return scaled


def fit_of(
    image: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    annotated: npt.NDArray[np.bool_] | None,
    config: CheckConfig,
) -> LabelFit | None:
    """Compare labels with their image in place and shifted.

    Parameters
    ----------
    image
        YX, any real type.
    labels
        YX, 0 background.
    annotated
        YX, what counts; None: everything.
    config
        How far labels are shifted.

    Returns
    -------
    Fit or None
        None if there is nothing to compare: no object, or nothing else, away from the
        frame, or a constant image.

    Notes
    -----
    Pearson's correlation over the annotated pixels away from the frame, for all shifts
    at once by the convolution theorem.
    """
    step = -(-max(image.shape) // LONGEST_PX)
    inside = np.ones(labels.shape, bool) if annotated is None else annotated
    values = _thinned(brightness(image), step)
    objects = (labels[::step, ::step] > 0)[: values.shape[0], : values.shape[1]]
    counted = inside[::step, ::step][: values.shape[0], : values.shape[1]].copy()
    reach = min(config.reach_px // step, min(values.shape) // 4)
    counted[:reach] = counted[:, :reach] = False
    counted[values.shape[0] - reach :] = counted[:, values.shape[1] - reach :] = False
    if not counted.any() or np.unique(objects[counted]).size < 2:
        return None
    found = _correlations(values, objects, counted, reach)
    here = float(found[reach, reach])
    if not np.isfinite(here):
        return None
    place = np.unravel_index(np.nanargmax(found * np.sign(here or 1)), found.shape)
    dy, dx = (int(p - reach) * step for p in place)
    return LabelFit(
        here=here,
        best=float(found[place]),
        shift_px=(dy, dx),
        small=min(image.shape) < LEAST_SIDE_PX,
    )


def common_shift(fits: Sequence[LabelFit]) -> tuple[int, int]:
    """Return the shift that half of the images or more, and three, fit best with.

    The best shift of a single image is often a pixel away by chance or by the habit of
    who drew it, which means nothing; the same one in most images is an offset, however
    small. (0, 0) if there is none.

    Parameters
    ----------
    fits
        Of several images.
    """
    counts = Counter(fit.shift_px for fit in fits)
    shift, count = counts.most_common(1)[0] if counts else ((0, 0), 0)
    return shift if count >= max(LEAST_ALIKE, len(fits) / 2) else (0, 0)


def _correlations(
    values: Floats,
    objects: npt.NDArray[np.bool_],
    counted: npt.NDArray[np.bool_],
    reach: int,
) -> Floats:
    """Return the correlation at every shift of up to `reach`; nan where undefined."""
    mask = counted.astype(np.float64)
    centered = np.where(counted, objects - objects[counted].mean(), 0.0)
    count = mask.sum()
    size = [fft.next_fast_len(n + reach) for n in values.shape]

    def slide(moved: Floats, over: Floats) -> Floats:
        """Return the sum of products for every shift of `moved`."""
        spectrum = fft.rfft2(over, size) * np.conj(fft.rfft2(moved, size))
        whole: Floats = fft.irfft2(spectrum, size)
        return np.roll(whole, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]

    products = slide(centered, values)
    sums, squares = slide(mask, values), slide(mask, values**2)
    spread = np.maximum(squares - sums**2 / count, 0.0)
    scale = np.sqrt(spread * (centered**2).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        # Below this a constant image leaves rounding errors alone.
        found: Floats = np.where(spread > 1e-6 * count, products / scale, np.nan)
    return found


def _thinned(values: Floats, step: int) -> Floats:
    """Return the means of blocks of `step` x `step` pixels."""
    height, width = (n // step for n in values.shape)
    blocks = values[: height * step, : width * step]
    means: Floats = blocks.reshape(height, step, width, step).mean(axis=(1, 3))
    return means


def small_picture(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return means of blocks, at most about 64 a side, of mean 0 and length 1."""
    step = max(-(-max(values.shape) // SMALL_PX), 1)
    step = min(step, *values.shape)
    small = _thinned(values.astype(np.float64), step).ravel()
    small -= small.mean()
    length = float(np.sqrt((small**2).sum()))
    picture: npt.NDArray[np.float32] = (small / (length or 1.0)).astype(np.float32)
    return picture


def better_partners(
    images: Mapping[str, npt.NDArray[np.float32]],
    labels: Mapping[str, npt.NDArray[np.float32]],
    config: CheckConfig,
) -> dict[str, str]:
    """Return the labels that fit another image better, and that image.

    Parameters
    ----------
    images, labels
        `small_picture` of the brightness and of the objects, by name, for images of
        one size.
    config
        How much better.
    """
    names = list(images)
    columns = np.stack([images[n] for n in names]).T
    found: dict[str, str] = {}
    for first in range(0, len(names), ROWS):
        rows = names[first : first + ROWS]
        table = np.abs(np.stack([labels[n] for n in rows]) @ columns)
        own = table.diagonal(first)
        best = table.argmax(axis=1)
        found |= {
            name: names[j]
            for i, (name, j) in enumerate(zip(rows, best.tolist(), strict=True))
            if j != first + i and table[i, j] > own[i] + config.other_gain
        }
    return found


LARGE = 10
"""An object of more than this many medians of the others' areas may be none."""

PIECES = 3
"""As may one in this many pieces or more."""

MARKS = (127, 128, 254, 255, 65_534, 65_535)
"""Values at the ends of 8 and 16 bits, which people take for marks."""


SHARE_CUT = 0.1
"""Share of objects in two pieces from which on ids seem to have begun anew."""

ENDS = {255: 8, 65_535: 16}
"""Largest id to the bits that end there."""


def value_notes(labels: Mapping[str, npt.NDArray[Any]]) -> Iterator[str]:
    """Yield what the values of label images say against being ids, in sentences.

    Parameters
    ----------
    labels
        YX, 0 background, by the names of their images.
    """
    cut = {name: note for name, image in labels.items() if (note := _cut_off(image))}
    for name, note in cut.items():
        yield f"The ids of {name} {note}"
    rest = {name: image for name, image in labels.items() if name not in cut}
    odd = suspicious_values(rest)
    values = {int(v) for image in rest.values() for v in np.unique(image[image > 0])}
    if len(odd) > 1 and set(odd) == values:
        yield (
            f"No value of the label images ({some(list(map(str, odd)))}) marks a "
            "single object: are they classes? Every object needs its own "
            "number; cellunet make-labels --kind colored numbers connected pieces."
        )
        return
    for value, names in odd.items():
        yield (
            f"The value {value} marks what is no single object in {len(names)} "
            f"image{'' if len(names) == 1 else 's'} ({some(names)}). If it stands for "
            f"pixels that are not annotated, say so: --ignore-value {value}."
        )


def _cut_off(labels: npt.NDArray[Any]) -> str:
    """Return what to say of ids that did not fit into their type; '' if all did.

    Where larger ids become the largest, that one is in many pieces; where they begin
    anew, many objects are in two.
    """
    top = int(labels.max(initial=0))
    if top not in ENDS or len(np.unique(labels)) <= top * (1 - SHARE_CUT):
        return ""
    counts = [
        ndimage.label(labels[box] == number, _ACROSS_CORNERS)[1]
        for number, box in enumerate(ndimage.find_objects(labels), 1)
        if box is not None
    ]
    several = sum(count > 1 for count in counts)
    if counts[-1] < PIECES and several < SHARE_CUT * len(counts):
        return ""
    told = (
        f"{top} is in {counts[-1]} pieces"
        if counts[-1] >= PIECES
        else (f"{several} of {len(counts)} objects are in several pieces")
    )
    return (
        f"end at {top}, and {told}: were they cut off at {ENDS[top]} bits? "
        f"Save the labels with {2 * ENDS[top]} bits again."
    )


def suspicious_values(labels: Mapping[str, npt.NDArray[Any]]) -> dict[int, list[str]]:
    """Return values that look like a mark, and the images in which they do.

    A value looks like a mark in an image if its pixels are far more than those of the
    other objects, or in several pieces. It is reported if it does so in half or more of
    the images that hold it and these are several, or if it lies beyond a gap in the
    numbers or at the end of 8 or 16 bits, as the number of an object rarely does.

    Parameters
    ----------
    labels
        YX, 0 background, by the names of their images.
    """
    images_with: dict[int, int] = defaultdict(int)
    odd: dict[int, list[str]] = defaultdict(list)
    apart: set[int] = set()
    for name, image in labels.items():
        ids = np.unique(image[image > 0])
        for value in ids.tolist():
            images_with[value] += 1
        for value in _unlike_objects(image):
            odd[value].append(name)
            if value in MARKS or value > 2 * len(ids):
                apart.add(value)
    return {
        value: names
        for value, names in sorted(odd.items())
        if value in apart or (len(names) > 1 and 2 * len(names) >= images_with[value])
    }


def _unlike_objects(image: npt.NDArray[Any]) -> list[int]:
    """Return the values of an image that hold too many pixels, or too many pieces."""
    objects = list(_objects(image))
    if len(objects) < 2:
        return []
    median = float(np.median([area for _, area, _, _ in objects]))
    return [
        number
        for number, area, _, inside in objects
        if area > LARGE * median or ndimage.label(inside, _ACROSS_CORNERS)[1] >= PIECES
    ]
