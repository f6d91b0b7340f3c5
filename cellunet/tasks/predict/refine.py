"""Refine a plane's labels: outlines moved to an edge, two sizes in one plane."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from cellunet.imaging.growth import Levels, Reach, moved, smoothed
from cellunet.imaging.normalize import rescale_channels
from cellunet.io.source import Region
from cellunet.tasks.predict.plane import (
    Segmented,
    band_rows,
    plane_statistics,
    segment_plane,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from cellunet.io.scratch import Scratch
    from cellunet.io.source import Source, Statistics
    from cellunet.tasks.predict.plane import InferenceSettings, OnBand

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from cellunet.io.scratch import Scratch
    from cellunet.io.source import Source, Statistics
    from cellunet.tasks.predict.plane import InferenceSettings, Segmented

    Rows = tuple[int, npt.NDArray[np.int32], slice]


def with_edge(
    found: Segmented,
    source: Source,
    plane: int,
    recipe: InferenceSettings,
    statistics: Sequence[Statistics],
    scratch: Scratch,
) -> Segmented:
    """Return a plane whose outlines lie at the recipe's fraction of the way inside.

    Parameters
    ----------
    found
        The plane as the model draws it.
    source, plane
        Where its intensities are; those of the first channel count.
    recipe
        Says the fraction, in its decode constants, and the magnification.
    statistics
        Of the plane's channels.
    scratch
        Room for the labels, as long as the result is used.
    """
    fraction, reach = recipe.decode.edge, Reach.at(recipe.scale)
    if not fraction or not found.count:
        return found
    height, width = source.shape

    def soft(y0: int, rows: int) -> npt.NDArray[np.int64]:
        pixels = source.read(Region(plane, y0, y0 + rows, 0, width))[:1]
        # Half way is half way whatever the network sees.
        norm = recipe.config.normalization.replace(curve="linear")
        return smoothed(rescale_channels(pixels, statistics[:1], norm)[0], reach)

    def blocks() -> Iterator[Rows]:
        return with_halo(found.bands(), height, reach.halo_px)

    levels = Levels(found.count)
    for top, labels, core in blocks():
        levels.add(labels, soft(top, len(labels)), (core, slice(None)), reach)
    thresholds = levels.thresholds(fraction)
    kept, areas, ends = scratch.store(), np.zeros(found.count + 1, np.int64), [0]
    for top, labels, core in blocks():
        rows = moved(labels, soft(top, len(labels)), thresholds, reach)[core]
        areas += np.bincount(rows.ravel(), minlength=len(areas))
        kept.put(ends[-1], 0, rows.astype(np.uint32))
        ends.append(ends[-1] + len(rows))

    def bands() -> Iterator[npt.NDArray[np.uint32]]:
        for y0, y1 in pairwise(ends):
            yield kept.read(y0, y1, 0, width)

    return replace(found, areas=areas[1:], bands=bands)


def with_halo(
    bands: Iterable[npt.NDArray[np.uint32]], height: int, halo: int
) -> Iterator[Rows]:
    """Yield bands of rows with their neighbours: first row, labels, and what is new.

    Examples
    --------
    >>> bands = [np.full((2, 1), number, np.uint32) for number in (1, 2, 3)]
    >>> [(y, rows.ravel().tolist(), core) for y, rows, core in with_halo(bands, 6, 1)]
    ... # doctest: +NORMALIZE_WHITESPACE
    [(0, [1, 1, 2], slice(0, 2, None)),
     (1, [1, 2, 2, 3], slice(1, 3, None)),
     (3, [2, 3, 3], slice(1, 3, None))]
    """
    waiting: list[tuple[int, int]] = []
    held = np.zeros((0, 0), np.int32)
    top = stop = 0
    for band in bands:
        rows = band.astype(np.int32)
        held = np.concatenate((held, rows)) if len(held) else rows
        waiting.append((stop, stop + len(rows)))
        stop += len(rows)
        while waiting and (stop >= waiting[0][1] + halo or stop == height):
            y0, y1 = waiting.pop(0)
            first, last = max(y0 - halo, 0), min(y1 + halo, height)
            core = slice(y0 - first, y1 - first)
            yield first, held[first - top : last - top], core
            # Rows above the next band's halo are done with.
            done = max(y1 - halo, 0) - top
            held, top = (held[done:], top + done) if done > 0 else (held, top)


def segment(
    source: Source,
    plane: int,
    recipe: InferenceSettings,
    scratch: Scratch,
    on_band: OnBand | None = None,
    *,
    statistics: Sequence[Statistics] | None = None,
) -> Segmented:
    """Segment one plane, as `segment_plane` does, at one magnification or two.

    Where the recipe names a further one, large objects are taken from the first and
    others from the further one. Probabilities are those of the first.
    Then outlines are put where the recipe's `DecodeConfig.edge` says.
    """
    if statistics is None:
        rows, seen = band_rows(source.shape[1], recipe.memory), recipe.config
        statistics = plane_statistics(
            source,
            plane,
            rows,
            seen.normalization,
            recipe.should_stop,
            seen.image_channels,
        )
    found = _seen(source, plane, recipe, scratch, on_band, statistics)
    return with_edge(found, source, plane, recipe, statistics, scratch)


def _seen(
    source: Source,
    plane: int,
    recipe: InferenceSettings,
    scratch: Scratch,
    on_band: OnBand | None,
    statistics: Sequence[Statistics],
) -> Segmented:
    first = segment_plane(
        source, plane, recipe, scratch, on_band, statistics=statistics
    )
    if recipe.added is None:
        return first
    further = replace(
        recipe, scale=recipe.added.scale, decode=recipe.added.decode, added=None
    )
    second = segment_plane(source, plane, further, scratch, statistics=statistics)
    large = first.areas > math.pi / 4 * recipe.added.large_px**2
    return _Both(first, second, large).segmented(scratch)


@dataclass(frozen=True)
class _Both:
    """Two ways in which one plane was seen."""

    first: Segmented
    second: Segmented
    large: npt.NDArray[np.bool_]
    """Which objects of the first are larger than any that the second is for."""

    def segmented(self, scratch: Scratch) -> Segmented:
        """Return the large objects of the first, and others from where they are best.

        Those of the second that touch none of the large ones; and of the first what
        is small and touches none of these.
        """
        second = self._apart(self.second, self.first, self.large)
        small = self._apart(self.first, self.second, second)
        first = self.large | small
        numbers = _numbers(first, 0), _numbers(second, int(first.sum()))
        sure = scratch.store()
        for y0, ours, theirs in self._bands():
            y1, width = y0 + len(ours), ours.shape[1]
            evidence = self.first.evidence(y0, y1)
            added = (numbers[0][ours] == 0) & (numbers[1][theirs] > 0)
            evidence[added] = self.second.evidence(y0, y1)[added]
            sure.put(y0, 0, evidence)
        areas = np.concatenate((self.first.areas[first], self.second.areas[second]))

        def bands() -> Iterator[npt.NDArray[np.uint32]]:
            for _, ours, theirs in self._bands():
                # No pixel has two numbers: what overlaps was left out.
                yield numbers[0][ours] + numbers[1][theirs]

        return replace(
            self.first,
            count=len(areas),
            areas=areas,
            bands=bands,
            evidence=lambda y0, y1: sure.read(y0, y1, 0, width),
        )

    def _apart(
        self, of: Segmented, others: Segmented, kept: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Return which objects share no pixel with the others that are kept."""
        shared = np.zeros(of.count + 1, np.int64)
        there = np.concatenate(([False], kept))
        for ours, theirs in zip(of.bands(), others.bands(), strict=True):
            shared += np.bincount(ours[there[theirs]], minlength=len(shared))
        apart: npt.NDArray[np.bool_] = shared[1:] == 0
        return apart

    def _bands(
        self,
    ) -> Iterator[tuple[int, npt.NDArray[np.uint32], npt.NDArray[np.uint32]]]:
        """Yield rows of both, from row y0 on; both are cut alike."""
        y0 = 0
        for first, second in zip(self.first.bands(), self.second.bands(), strict=True):
            yield y0, first, second
            y0 += len(first)


def _numbers(kept: npt.NDArray[np.bool_], after: int) -> npt.NDArray[np.uint32]:
    """Return a table of new numbers by label, 0 for what is not kept."""
    numbers = np.zeros(len(kept) + 1, np.uint32)
    numbers[1:][kept] = after + 1 + np.arange(int(kept.sum()))
    return numbers
