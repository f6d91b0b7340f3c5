"""Images to windows that may be annotated next, and to those that are annotated."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cellunet.config import NormalizationConfig
from cellunet.errors import InputError
from cellunet.imaging.cut import Cut, CutChannel
from cellunet.imaging.files import open_image
from cellunet.imaging.intensities import measure_channels
from cellunet.imaging.pairing import find_pairs
from cellunet.imaging.scratch import Scratch
from cellunet.imaging.windows import area_share, starts
from cellunet.tasks.prediction.channels_seen import refuse_misfit
from cellunet.tasks.prediction.segment import band_rows, channel_bands, segment_plane
from cellunet.tasks.suggestion.windows import windows
from cellunet.tasks.training.train_data import read_annotated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cellunet.imaging.files import Source
    from cellunet.imaging.intensities import Statistics
    from cellunet.imaging.pairing import Pair
    from cellunet.imaging.scratch import Kept
    from cellunet.imaging.windows import Seen
    from cellunet.store import Model
    from cellunet.tasks.prediction.segment import Recipe
    from cellunet.tasks.suggested import SuggestRequest
    from cellunet.tasks.suggestion.windows import Window

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
    seen: Seen
    """What the model makes of it."""
    labels: Kept
    """Its labels, put aside."""
    area: float
    """The area that it stands for, in windows."""


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """What is annotated already."""

    looks: list[tuple[float, ...]]
    """Of its windows."""
    cuts: list[Cut]
    """Crops among it that cellunet cut."""
    windows: set[tuple[Statistics, int, int, tuple[float, ...]]]
    """Intensities of the image, y, x and look of windows with anything annotated: the
    same for the same image under whatever name."""
    side: int
    """Of crops and windows, in pixels: of all that are suggested."""

    def holds(self, candidate: Candidate) -> bool:
        """Return whether something of a window is annotated.

        In the image itself, under whatever name, or in a crop that overlaps it. The
        same pixels twice would be on both sides where images are scored in turn.
        """
        field = candidate.path.name, candidate.plane
        seen = candidate.statistics
        if (seen, candidate.y, candidate.x, candidate.seen.look) in self.windows:
            return True
        return any(
            (c.image, c.plane) == field
            and (c.statistics.mean, c.statistics.std) == (seen.mean, seen.std)
            and max(abs(c.y - candidate.y), abs(c.x - candidate.x)) < self.side
            for c in self.cuts
        )


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
        path, channel=request.channel, gray=request.gray, known=card.channels
    )
    refuse_misfit(source, model.name, card, request.channel, more=True)
    return source


def candidates(
    source: Source, request: SuggestRequest, recipe: Recipe, most: int, keep: Scratch
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
    area = area_share(source.shape, side, _neighbourhoods(source.shape, side, most)[1])
    for plane in range(planes):
        with Scratch(request.out) as scratch:
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
                )


def cut_of(
    candidate: Candidate, source: Source, channel: str | None, recipe: Recipe
) -> Cut:
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
    first, *further = (
        CutChannel(channel=name, statistics=statistics, negative=inverted)
        for name, statistics, inverted in zip(
            _asked_by(channel, source.channel_names), usual, negative, strict=True
        )
    )
    return Cut(
        image=candidate.path.name,
        plane=candidate.plane,
        y=candidate.y,
        x=candidate.x,
        **vars(first),
        further=tuple(further),
        percentiles=(norm.low_percentile, norm.high_percentile),
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
    """Yield the windows that show something, of each neighbourhood the most doubtful.

    Neighbourhoods are so large that about `most` cover the plane; with few windows
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
    reach, _ = _neighbourhoods(shape, side, most)
    columns = len(starts(shape[1], side))
    best: dict[int, Window] = {}
    for number, window in enumerate(every):
        row, column = divmod(number, columns)
        if row % reach == 0 and column == 0:
            yield from best.values()
            best = {}
        if window.seen.shows_something:
            held = best.setdefault(column // reach, window)
            if window.seen.doubt > held.seen.doubt:
                best[column // reach] = window
    yield from best.values()


def _neighbourhoods(shape: tuple[int, int], side: int, most: int) -> tuple[int, int]:
    """Return how many windows wide and high neighbourhoods are, and their number."""
    rows, columns = (len(starts(length, side)) for length in shape)
    reach = math.ceil(math.sqrt(max(rows * columns / most, 1.0)))
    return reach, -(-rows // reach) * -(-columns // reach)


def annotated(request: SuggestRequest, model: Model, recipe: Recipe) -> Annotated:
    """Return what is annotated already: nothing, if no folder was named.

    Raises
    ------
    CellunetError
        If a folder holds no pairs, or one of them cannot be used.
    """
    pairs = [pair for folder in request.data for pair in find_pairs(folder).pairs]
    found = Annotated(looks=[], cuts=[], windows=set(), side=request.config.side_px)
    for pair in pairs:
        with opened(pair.image, request, model) as source:
            if math.prod(source.plane_shape) != 1:
                raise InputError(
                    f"{pair.image} holds {math.prod(source.plane_shape)} planes; an "
                    "annotated image has one.",
                    hint="Save the annotated planes as single images.",
                )
            if source.cut_from is not None:
                found.cuts.append(source.cut_from)
            _add_windows(found, pair, source, recipe, request)
    return found


def _add_windows(
    known: Annotated,
    pair: Pair,
    source: Source,
    recipe: Recipe,
    request: SuggestRequest,
) -> None:
    """Add the windows of an image that are annotated, and what they look like."""
    mask = read_annotated(pair, source.shape, request.ignore_value).annotated
    side = min(request.config.side_px, *source.shape)
    looks: list[tuple[float, ...]] = []
    shares: list[float] = []
    with Scratch(request.out) as scratch:
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
