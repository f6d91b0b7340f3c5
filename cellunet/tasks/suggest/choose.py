"""Choose the windows of images to annotate next.

A window is a square of the image. Its *uncertainty* is the share of it that the model
is not sure of; its *look* is a short list of numbers by which windows are compared.

Two windows i and j are alike by s(i, j) = exp(-d(i, j)^2 / (2 `ALIKE`^2)), where d is
the root mean square difference of their looks, each number in units of its standard
deviation over all windows. What has been annotated, A, covers a window i to the extent
c(i) = max over j in A of s(i, j). The window that comes next is the k that adds most to
the uncertainty that is covered,

    gain(k) = sum over i of a(i) * uncertainty(i) * max(s(i, k) - c(i), 0),

and joins A. a(i) is the area that the window stands for, so that an image counts by its
size, however many windows overlap in it. So a window is chosen if many other uncertain
ones are like it and none that is annotated is: uncertainty that many share counts for
more than one blurred or dirty corner, however unsure the model is of that. This is the
greedy choice for the facility location function weighted by uncertainty, which is
monotone and submodular, so that the sum that greedy choice covers is at least 1 - 1/e
of the greatest possible, limits per image and overlaps aside (Nemhauser, Wolsey and
Fisher, Mathematical Programming 14, 265-294, 1978). Facility location for choosing what
to label: Wei, Iyer and Bilmes, ICML 2015.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cellunet.annotations.pairs import find_pairs
from cellunet.config import NormalizationConfig
from cellunet.errors import InputError
from cellunet.imaging.measure import EVIDENCE_TOP, equivalent_diameters
from cellunet.imaging.normalize import (
    CLIP,
    LOG_GAIN,
    measure_channels,
    rescale_intensity,
)
from cellunet.io.crops import CropChannel, CropMetadata
from cellunet.io.images import open_image
from cellunet.io.scratch import Scratch
from cellunet.io.source import Region, one_plane
from cellunet.tasks.predict.inputs import refuse_misfit
from cellunet.tasks.predict.plane import band_rows, channel_bands, segment_plane
from cellunet.tasks.suggest.request import temporary_beside
from cellunet.tasks.train.data import read_annotated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.annotations.pairs import Pair
    from cellunet.io.scratch import Kept
    from cellunet.io.source import Source, Statistics
    from cellunet.store import Model
    from cellunet.tasks.predict.plane import Segmented
    from cellunet.tasks.predict.settings import InferenceSettings
    from cellunet.tasks.suggest.request import SuggestRequest

DENSITY_PX = 256**2
"""Objects are counted per so many pixels."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Of a window's intensities."""

LAGS_PX = (1, 2, 4, 8)
"""Distances over which intensity steps are measured: noise, edges, sizes."""

LEAST_STEP = 1e-3
"""Steps below this (in units of the logarithmic range) are alike."""

LITTLE = 0.01
"""Share of a window that has to be object, or uncertain, for that to count in full: a
single speck in an otherwise empty window is not what a model should learn from."""

FAINT = 0.05
"""Uncertainty below which a window without objects is empty: in the empty fields of
BBBC039 the shipped model has at most .032, in pure noise .038."""

UNSURE = 0.65
"""Objects of less confidence are counted as unsure, as in `cellunet.imaging.quality`
(`UNCERTAIN`)."""


@dataclass(frozen=True, kw_only=True)
class WindowFeatures:
    """What a model makes of one window."""

    uncertainty: float
    """Expected share of wrong pixels, from 0 (sure of all) to below 1."""
    objects: int
    """Objects that have a pixel in the window."""
    unsure: int
    """How many of them have a confidence below `UNSURE` there."""
    look: tuple[float, ...]
    """Numbers that describe its look: quantiles of the intensities and mean steps
    between pixels some distance apart, as the network sees both; the share of object
    pixels, the objects' median diameter and density, in logarithms; the uncertainty."""

    @property
    def shows_something(self) -> bool:
        """Whether there is anything to correct: an object, or some uncertainty."""
        return self.objects > 0 or self.uncertainty > FAINT


def starts(length: int, side: int) -> list[int]:
    """Return where windows begin along an axis: evenly, overlapping by half or more.

    Parameters
    ----------
    length
        Of the axis, in pixels, at least `side`.
    side
        Of a window.

    Examples
    --------
    >>> starts(256, 256), starts(360, 256), starts(1024, 256)
    ([0], [0, 104], [0, 128, 256, 384, 512, 640, 768])
    """
    steps = math.ceil(2 * (length - side) / side)
    if not steps:
        return [0]
    return [round(k * (length - side) / steps) for k in range(steps + 1)]


def area_share(shape: tuple[int, int], side: int, count: int) -> float:
    """Return the area that each of `count` windows of a plane stands for, in windows.

    Examples
    --------
    >>> area_share((256, 256), 256, 1), area_share((512, 512), 256, 9)
    (1.0, 0.4444444444444444)
    """
    return shape[0] * shape[1] / side**2 / count


def see(
    scaled: npt.NDArray[np.float32],
    labels: npt.NDArray[np.integer],
    evidence: npt.NDArray[np.uint8],
) -> WindowFeatures:
    """Return what a model makes of one window.

    Uncertainty is D / (F + little). D is the sum, over all pixels, of one minus the
    probability of the likeliest class: the number of pixels that are expected to be
    wrong. F is the number of pixels that belong to an object or, to the extent of
    their uncertainty, might; `LITTLE` of the window keeps it from 0.

    Parameters
    ----------
    scaled
        YX float32, from `cellunet.imaging.normalize.rescale_intensity`.
    labels
        YX, 0 background.
    evidence
        YX uint8 of `cellunet.imaging.measure.pixel_confidence`.
    """
    uncertainties = 1.0 - evidence.astype(np.float32) / EVIDENCE_TOP
    ids, which, areas = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.bincount(which.ravel(), uncertainties.ravel())
    inside = ids > 0
    total, own = float(uncertainties.sum()), float(areas[inside].sum())
    beyond = total - float(sums[inside].sum())
    uncertainty = total / (own + beyond + LITTLE * labels.size)
    means = sums[inside] / areas[inside]
    return WindowFeatures(
        uncertainty=uncertainty,
        objects=int(inside.sum()),
        unsure=int((1.0 - means < UNSURE).sum()),
        look=(
            *_intensities(scaled),
            math.log(own / labels.size + LITTLE),
            math.log1p(_diameter(areas[inside])),
            math.log1p(float(inside.sum()) / labels.size * DENSITY_PX),
            uncertainty,
        ),
    )


def _intensities(scaled: npt.NDArray[np.float32]) -> list[float]:
    """Return quantiles, and logarithms of the mean steps over `LAGS_PX`.

    Both of the logarithmic channel that the network sees.
    """
    values = np.log1p(LOG_GAIN * np.clip(scaled, 0.0, CLIP[1])) / math.log1p(LOG_GAIN)
    steps = []
    for lag in LAGS_PX:
        across = np.abs(values[:, lag:] - values[:, :-lag]).mean()
        down = np.abs(values[lag:] - values[:-lag]).mean()
        steps.append(math.log(float(across + down) / 2 + LEAST_STEP))
    return [*np.quantile(values, QUANTILES).tolist(), *steps]


def _diameter(areas: npt.NDArray[np.integer]) -> float:
    """Return the median equivalent diameter in pixels; 0 without objects."""
    return float(equivalent_diameters(np.median(areas))) if areas.size else 0.0


ALIKE = 0.5
"""Root mean square difference of looks, in standard deviations, at which likeness has
fallen to exp(-1/2)."""


@dataclass(frozen=True, kw_only=True)
class CandidateWindows:
    """N windows to choose from."""

    uncertainties: npt.NDArray[np.float64]
    """Uncertainty of each, at least 0, times the area that it stands for; (N,)."""
    looks: npt.NDArray[np.float64]
    """Look of each; (N, L)."""
    images: npt.NDArray[np.int64]
    """Number of the image that each lies in, from 0; (N,)."""
    fields: npt.NDArray[np.int64]
    """Number of the plane, or of the field of a crop, that each lies in; (N,)."""
    corners: npt.NDArray[np.int64]
    """First row and column of each in its field; (N, 2)."""
    side: int
    """Of a window in pixels: two of one field that overlap are not both chosen."""
    beside: npt.NDArray[np.bool_]
    """Whether the place of each is annotated in another plane; (N,)."""


@dataclass(frozen=True, kw_only=True)
class ChosenWindow:
    """One window that was chosen."""

    index: int
    """Which."""
    novelty: float
    """One minus its likeness to the most similar window that is annotated or was
    chosen before: 0 for one just like it, 1 for nothing like it."""
    share: float
    """Share of all uncertainty that it covers and nothing did before."""


def choose(
    pool: CandidateWindows, known: npt.NDArray[np.float64], count: int
) -> list[ChosenWindow]:
    """Return windows to annotate, in the order of their worth.

    No image gives more windows than its share of `count`, unless the others have none
    left. Another plane of a place that is annotated or chosen comes when no other place
    is left, as neighboring planes may be nearly equal. Windows without uncertainty are
    not chosen.

    Parameters
    ----------
    pool
        What there is to choose from.
    known
        Looks of what is annotated, (M, L); M may be 0.
    count
        How many to choose; fewer come back if there are no more.
    """
    alike, covered = _likeness(pool.looks, known)
    total = float(pool.uncertainties.sum())
    free = pool.uncertainties > 0
    fresh = ~pool.beside
    taken = np.zeros(int(pool.images.max(initial=-1)) + 1, np.int64)
    most = -(-count // max(len(np.unique(pool.images[free])), 1))
    chosen: list[ChosenWindow] = []
    while len(chosen) < count and free.any():
        if not (free & fresh).any():
            fresh = np.ones_like(free)
        open_ = free & fresh & (taken[pool.images] < most)
        if not open_.any():
            most += 1
            continue
        gains = pool.uncertainties @ np.maximum(alike - covered[:, np.newaxis], 0.0)
        # Rounded, so that the last bits of a sum do not decide between equals.
        best = int(np.argmax(np.where(open_, np.round(gains, 9), -1.0)))
        chosen.append(
            ChosenWindow(
                index=best,
                novelty=1.0 - float(covered[best]),
                share=float(gains[best]) / total,
            )
        )
        covered = np.maximum(covered, alike[:, best])
        taken[pool.images[best]] += 1
        overlap = (np.abs(pool.corners - pool.corners[best]) < pool.side).all(axis=1)
        free &= ~(overlap & (pool.fields == pool.fields[best]))
        fresh &= ~(overlap & (pool.images == pool.images[best]))
    return chosen


def _likeness(
    looks: npt.NDArray[np.float64], known: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the likeness of all windows to each other, and to what is known most."""
    spread = np.concatenate([looks, known]).std(axis=0)
    # A number that is the same everywhere distinguishes nothing.
    units = np.where(spread > 0, spread, 1.0)
    ours, theirs = looks / units, known / units
    to_known = _similar(ours, theirs)
    return _similar(ours, ours), to_known.max(axis=1, initial=0.0)


def _similar(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    squares = np.zeros((len(a), len(b)))
    for x, y in zip(a.T, b.T, strict=True):
        squares += (x[:, np.newaxis] - y) ** 2
    result: npt.NDArray[np.float64] = np.exp(
        -squares / max(a.shape[1], 1) / (2 * ALIKE**2)
    )
    return result


@dataclass(frozen=True, kw_only=True)
class Window:
    """A square of a plane."""

    y: int
    """First row."""
    x: int
    """First column."""
    seen: WindowFeatures
    """What the model makes of it."""
    labels: npt.NDArray[np.uint32]
    """Its part of the plane's labels, YX."""


def windows(
    source: Source,
    plane: int,
    segmented: Segmented,
    recipe: InferenceSettings,
    side: int,
) -> Iterator[Window]:
    """Yield the windows of a segmented plane in raster order.

    In memory are as many rows as a window has, and a band.

    Parameters
    ----------
    source
        The image, no smaller than a window.
    plane
        Number of the plane.
    segmented
        What the model found in it; its scratch is open.
    recipe
        How it was found.
    side
        Of a window, in pixels.
    """
    height, width = source.shape
    tops = starts(height, side)
    for y, labels in zip(tops, _rows(segmented.bands(), tops, side), strict=True):
        pixels = source.read(Region(plane, y, y + side, 0, width))[0]
        scaled = rescale_intensity(
            pixels, segmented.statistics, recipe.config.normalization
        )
        evidence = segmented.evidence(y, y + side)
        for x in starts(width, side):
            view = np.s_[:, x : x + side]
            seen = see(scaled[view], labels[view], evidence[view])
            yield Window(y=y, x=x, seen=seen, labels=labels[view].copy())


def _rows(
    bands: Iterable[npt.NDArray[np.uint32]], tops: list[int], side: int
) -> Iterator[npt.NDArray[np.uint32]]:
    """Yield the `side` rows from each of `tops` on, which rise, of bands of rows."""
    first, have = 0, np.empty((0, 0), np.uint32)
    passing = iter(bands)
    for top in tops:
        have = have[top - first :]
        first = top
        while len(have) < side:
            band = next(passing)
            have = np.concatenate([have, band]) if len(have) else band
        yield have[:side]


ENOUGH = 0.5
"""Share of a window that is annotated, for the window to count as annotated."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A window that may be annotated next."""

    path: Path
    """The image."""
    plane: int
    """Number of its plane."""
    y: int
    """First row."""
    x: int
    """First column."""
    statistics: Statistics
    """Of the plane."""
    seen: WindowFeatures
    """What the model makes of it."""
    labels: Kept
    """Its labels, put aside."""
    area: float
    """The area that it stands for, in windows."""
    cut: CropMetadata | None = None
    """Where its image was cut, if that is a crop itself."""

    @property
    def field(self) -> tuple[str, int, float, float]:
        """What tells the plane that it lies in, or that its crop was cut from."""
        name, plane = self.path.name, self.plane
        if self.cut is not None:
            name, plane = self.cut.image, self.cut.plane
        return name, plane, self.statistics.mean, self.statistics.std

    @property
    def corner(self) -> tuple[int, int]:
        """First row and column in there."""
        if self.cut is None:
            return self.y, self.x
        return self.cut.y + self.y, self.cut.x + self.x


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """What is annotated already."""

    looks: list[tuple[float, ...]]
    """Of its windows."""
    cuts: list[tuple[CropMetadata, tuple[int, int]]]
    """Crops among it that cellunet cut, with their height and width."""
    windows: set[tuple[Statistics, int, int, tuple[float, ...]]]
    """Intensities of the image, y, x and look of windows with anything annotated: the
    same for the same image under whatever name."""
    side: int
    """Of windows, in pixels: of all that are suggested."""

    def holds(self, candidate: Candidate) -> bool:
        """Return whether something of a window is annotated.

        In the image itself, under whatever name, or in a crop that overlaps it. The
        same pixels twice would be on both sides where images are scored in turn.
        """
        seen = candidate.statistics
        if (seen, candidate.y, candidate.x, candidate.seen.look) in self.windows:
            return True
        return any(
            (c.image, c.plane, of.mean, of.std) == candidate.field
            for c in self._over(candidate)
            for of in [c.channels[0].statistics]
        )

    def lies_beside(self, candidate: Candidate) -> bool:
        """Return whether a crop of another plane of an image so named overlaps it."""
        name, plane, *_ = candidate.field
        return any(c.image == name and c.plane != plane for c in self._over(candidate))

    def _over(self, candidate: Candidate) -> Iterator[CropMetadata]:
        y, x = candidate.corner
        for cut, (height, width) in self.cuts:
            if -height < cut.y - y < self.side and -width < cut.x - x < self.side:
                yield cut


def opened(path: Path, request: SuggestRequest, model: Model) -> Source:
    """Open an image as asked for.

    Of its channels the model looks at the first; the crops show all of them.

    Raises
    ------
    CellunetError
        If it cannot be read, or has fewer channels than the model looks at.
    """
    card = model.card
    source = open_image(
        path,
        channel=request.channel,
        gray=request.gray,
        known=card.channels,
        pages=request.pages,
    )
    refuse_misfit(source, model.name, card, request.channel, more=True)
    return source


def candidates(
    source: Source,
    request: SuggestRequest,
    recipe: InferenceSettings,
    most: int,
    keep: Scratch,
) -> Iterator[Candidate]:
    """Yield the windows of an image that show something.

    Parameters
    ----------
    source
        The image, no smaller than a window.
    request
        What is asked for.
    recipe
        How the model is applied.
    most
        Windows of the image at most, more or less.
    keep
        Where labels wait.
    """
    path, side = source.path, request.config.side_px
    planes = math.prod(source.plane_shape)
    most = max(most // planes, 1)
    area = area_share(source.shape, side, _neighborhoods(source.shape, side, most)[1])
    for plane in range(planes):
        with Scratch(temporary_beside(request.out)) as scratch:
            found = segment_plane(source, plane, recipe, scratch)
            every = windows(source, plane, found, recipe, side)
            for window in thinned(every, source.shape, side, most):
                yield Candidate(
                    path=path,
                    plane=plane,
                    y=window.y,
                    x=window.x,
                    statistics=found.statistics,
                    seen=window.seen,
                    labels=keep.keep(window.labels),
                    area=area,
                    cut=source.cut_from,
                )


def cut_of(
    candidate: Candidate, source: Source, channel: str | None, recipe: InferenceSettings
) -> CropMetadata:
    """Return what the crop of a window is to remember of its image.

    Parameters
    ----------
    candidate
        The window.
    source
        Its image.
    channel
        What the channels were asked for by: the crop keeps them under those names, so
        that crops can be trained on together with the images they are of.
    recipe
        How the model is applied.
    """
    if source.cut_from is not None:
        cut = source.cut_from
        return replace(cut, y=cut.y + candidate.y, x=cut.x + candidate.x)
    # Whatever this model looks at: the crops are for any to be trained on.
    norm = NormalizationConfig(
        low_percentile=recipe.config.normalization.low_percentile,
        high_percentile=recipe.config.normalization.high_percentile,
    )
    rows = band_rows(source.shape[1], recipe.memory)
    usual, negative = (
        measure_channels(
            lambda: channel_bands(source, candidate.plane, rows),
            norm.replace(invert=invert),
        )
        for invert in (False, True)
    )
    named = zip(_asked_by(channel, source.channel_names), usual, negative, strict=True)
    return CropMetadata(
        image=candidate.path.name,
        plane=candidate.plane,
        y=candidate.y,
        x=candidate.x,
        percentiles=(norm.low_percentile, norm.high_percentile),
        channels=tuple(
            CropChannel(channel=name, statistics=statistics, negative=inverted)
            for name, statistics, inverted in named
        ),
        planes=math.prod(source.plane_shape),
    )


def _asked_by(channel: str | None, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return what each channel was asked for by, else its name in the file."""
    if channel is None:
        return names
    if len(names) == 1:
        return (channel,)
    parts = tuple(part.strip() for part in channel.split(","))
    return parts if len(parts) == len(names) else names


def thinned(
    every: Iterable[Window], shape: tuple[int, int], side: int, most: int
) -> Iterator[Window]:
    """Yield the windows that show something, of each neighborhood the most uncertain.

    Neighborhoods are so large that about `most` cover the plane; with few windows
    each is its own.

    Parameters
    ----------
    every
        All windows of a plane, in raster order.
    shape
        Height and width of the plane.
    side
        Of a window, in pixels.
    most
        How many may be left.
    """
    reach, _ = _neighborhoods(shape, side, most)
    columns = len(starts(shape[1], side))
    best: dict[int, Window] = {}
    for number, window in enumerate(every):
        row, column = divmod(number, columns)
        if row % reach == 0 and column == 0:
            yield from best.values()
            best = {}
        if window.seen.shows_something:
            leader = best.setdefault(column // reach, window)
            if window.seen.uncertainty > leader.seen.uncertainty:
                best[column // reach] = window
    yield from best.values()


def _neighborhoods(shape: tuple[int, int], side: int, most: int) -> tuple[int, int]:
    """Return how many windows wide and high neighborhoods are, and their number."""
    rows, columns = (len(starts(length, side)) for length in shape)
    reach = math.ceil(math.sqrt(max(rows * columns / most, 1.0)))
    return reach, -(-rows // reach) * -(-columns // reach)


def annotated(
    request: SuggestRequest, model: Model, recipe: InferenceSettings
) -> Annotated:
    """Return what is annotated already: nothing, if no folder was named.

    Raises
    ------
    CellunetError
        If a folder holds no pairs, or one of them cannot be used.
    """
    pairs = [
        pair
        for folder in request.data
        for pair in find_pairs(folder, request.annotations.planes).pairs
    ]
    found = Annotated(looks=[], cuts=[], windows=set(), side=request.config.side_px)
    for pair in pairs:
        with one_plane(opened(pair.image, request, model), pair.other_plane) as source:
            if math.prod(source.plane_shape) != 1:
                raise InputError(
                    f"{pair.image} holds {math.prod(source.plane_shape)} planes; an "
                    "annotated image has one.",
                    hint="Save the annotated planes as single images.",
                )
            if source.cut_from is not None:
                found.cuts.append((source.cut_from, source.shape))
            _add_windows(found, pair, source, recipe, request)
    return found


def _add_windows(
    known: Annotated,
    pair: Pair,
    source: Source,
    recipe: InferenceSettings,
    request: SuggestRequest,
) -> None:
    """Add the windows of an image that are annotated, and what they look like."""
    mask = read_annotated(
        pair,
        source.shape,
        request.annotations,
        channels=len(source.file_channels),
    ).annotated
    side = min(request.config.side_px, *source.shape)
    looks: list[tuple[float, ...]] = []
    shares: list[float] = []
    with Scratch(temporary_beside(request.out)) as scratch:
        found = segment_plane(source, 0, recipe, scratch)
        for window in windows(source, 0, found, recipe, side):
            part = np.s_[window.y : window.y + side, window.x : window.x + side]
            looks.append(window.seen.look)
            shares.append(1.0 if mask is None else float(mask[part].mean()))
            # The statistics of a crop are of its field, where it lies elsewhere.
            if shares[-1] and source.cut_from is None:
                place = window.y, window.x, window.seen.look
                known.windows.add((found.statistics, *place))
    # A box smaller than half a window is annotated too.
    least = min(ENOUGH, max(shares))
    known.looks.extend(
        look for look, share in zip(looks, shares, strict=True) if share >= least
    )
