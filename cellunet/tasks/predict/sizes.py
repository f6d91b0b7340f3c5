"""How large the objects of an image are, and at which magnification it is seen.

A coarse look at the plane reduced four times says whether the objects are too large for
the model; looks at a few windows, at the model's own magnification and at another, say
which of the two shows more. Windows lie on a fixed grid, or follow from the looks
before: none depends on tiles, threads or the bound on memory, and there are never more
pixels in them than `COARSE_PX` and `COMPARED_PX` say, however large a plane is.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.config import FOREGROUND
from cellunet.errors import CellunetError
from cellunet.imaging.empty import Rectangle
from cellunet.imaging.sizes import (
    FEWEST,
    apart,
    best_scale,
    better,
    look_of,
    tells_size,
    together,
    too_large,
    too_small,
)
from cellunet.io.scratch import Scratch
from cellunet.io.source import Region, array_source
from cellunet.tasks.predict.inputs import evenly, open_as
from cellunet.tasks.predict.plane import (
    as_labels,
    band_rows,
    segment_plane,
    statistics_for,
)
from cellunet.tasks.predict.settings import SecondPass, at_scale, decode_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.command_config import PredictConfig
    from cellunet.imaging.sizes import ObjectSizes
    from cellunet.io.source import Source, Statistics
    from cellunet.store import ModelCard
    from cellunet.tasks.predict.settings import InferenceSettings

COARSE_PX = 2**24
"""Larger planes are looked at in windows that hold as much together."""

GRID, GRID_PX = 4, 1024
"""Windows along each axis of such a plane, and their side."""

REDUCED = (4, 16)
"""How many pixels one of a coarse look is wide; the next if that shows giants still."""

COMPARED_PX = 2**20
"""Pixels that are looked at at two magnifications."""

WIDE = 4
"""Such windows are as many diameters wide, within `SIDES`."""

SIDES = (512, 1024)

LEAST_SHARE, LEAST_SIDE = 0.1, 160
"""Of a plane that shows no large objects as much is looked at for small ones."""

MOST_PLANES = 5
"""Planes of a stack that are looked at."""

MOST_IMAGES = 20
"""Images of a batch that are looked at, evenly spread, for one size of all."""

MIXED = 0.1
"""Where a tenth of the objects is of another size, both sizes are looked for."""

LITTLE = 0.6
"""Reduced by less than this, small objects are seen as well."""

LEAST_COARSE_PX = 16
"""Shorter sides of a coarse look show nothing."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the objects of an image are, and how it is seen."""

    diameter_px: float | None
    """Half of what objects cover lies in larger ones; None: too few were seen."""
    confidence: float
    """Of those objects, as in the table of objects."""
    scale: float
    """Magnification before the network."""
    added_scale: float | None = None
    """Magnification of a further look, for objects of another size."""
    sure: bool = True
    """False where objects look too large for the model, but not clearly."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, rounded as they are told."""
        diameter = self.diameter_px
        return vars(self) | {
            "diameter_px": None if diameter is None else round(diameter, 1),
            "confidence": round(self.confidence, 2),
        }


def size_warnings(size: Size | None, others: Sequence[str]) -> tuple[str, ...]:
    """Return what to warn of, unless other warnings name the same way out."""
    if size is None or size.sure or any("--diameter" in line for line in others):
        return ()
    return (
        f"The objects may be larger than the model knows, about "
        f"{size.diameter_px:.0f} px, but this is not sure: they were seen as they are. "
        "If they look wrong, measure a few and try: --diameter PIXELS.",
    )


def batch_size(
    files: Sequence[Path],
    recipe: InferenceSettings,
    config: PredictConfig,
    card: ModelCard,
) -> Size | None:
    """Return one size for all images of a batch; None if none is asked for.

    Images that cannot be read are left to those who segment them.

    Raises
    ------
    PredictionStopped
        If ``recipe.should_stop()`` came true.
    """
    if config.diameter_px != "batch" or not finds_size(config, card):
        return None
    sizes = []
    for path in evenly(files, MOST_IMAGES):
        with (
            contextlib.suppress(CellunetError, MemoryError),
            open_as(path, config, known=card.channels) as source,
        ):
            sizes.append(find_size(source, recipe, card))
    unknown = Size(diameter_px=None, confidence=0.0, scale=recipe.scale)
    return common_size(sizes or [unknown])


def finds_size(config: PredictConfig, card: ModelCard) -> bool:
    """Return whether sizes are to be found: nothing else tells the magnification."""
    return config.finds_size and card.diameter_px[1] > 0


def size_settings(
    config: PredictConfig, card: ModelCard, size: Size | None
) -> dict[str, Any]:
    """Return the settings of how sizes are found; nothing where they are not.

    So results from before this was possible are still recognized as finished.
    """
    if not finds_size(config, card):
        return {}
    if size is None:
        # Each image has a scale of its own, which is in its provenance.
        return {"diameter": config.diameter_px, "scale": None}
    return {"diameter": config.diameter_px, "added_scale": size.added_scale}


def with_size(
    recipe: InferenceSettings, config: PredictConfig, card: ModelCard, size: Size
) -> InferenceSettings:
    """Return the recipe by which an image is seen."""
    decode = decode_at(recipe.config.decode, config, size.scale)
    added: SecondPass | None = None
    if size.added_scale is not None:
        added = SecondPass(
            scale=size.added_scale,
            decode=decode_at(recipe.config.decode, config, size.added_scale),
            large_px=card.diameter_px[2] / size.added_scale,
        )
    return replace(recipe, scale=size.scale, decode=decode, added=added)


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """How an image is to be seen, and what was found out about that."""

    recipe: InferenceSettings
    size: Size | None = None
    """None where something else tells the magnification."""
    statistics: dict[int, tuple[Statistics, ...]] = field(default_factory=dict)
    """Of the planes that were looked at."""


def settings_by_size(
    source: Source,
    recipe: InferenceSettings,
    config: PredictConfig,
    card: ModelCard,
    size: Size | None = None,
) -> ImageSettings:
    """Return how an image is to be seen, after a look at its objects if it takes one.

    Parameters
    ----------
    source
        The image.
    recipe
        How the model is applied at its own magnification, or at the one asked for.
    config
        What is asked for.
    card
        Of the model.
    size
        That of the stack which the image is a plane of; None: to be found.
    """
    if not finds_size(config, card) or config.diameter_px == "batch":
        return ImageSettings(recipe=recipe)
    known: dict[int, tuple[Statistics, ...]] = {}
    size = size or find_size(source, recipe, card, known)
    return ImageSettings(
        recipe=with_size(recipe, config, card, size), size=size, statistics=known
    )


def find_size(
    source: Source,
    recipe: InferenceSettings,
    card: ModelCard,
    known: dict[int, tuple[Statistics, ...]] | None = None,
) -> Size:
    """Return how large the objects of an image are; one size for all its planes.

    Parameters
    ----------
    source
        The image.
    recipe
        How the model is applied at its own magnification.
    card
        Of the model.
    known
        Takes the statistics of the planes that are looked at.

    Raises
    ------
    ImageReadError
        If it cannot be read.
    PredictionStopped
        If ``recipe.should_stop()`` came true.
    """
    # A few windows are looked at here, wherever the planes are worked on.
    plain = replace(
        recipe,
        min_area_px=None,
        min_foreground=FOREGROUND,
        skip=False,
        elsewhere=None,
    )
    looker = _SizeFinder(source, plain, card)
    sizes = [looker.size(plane) for plane in planes_to_look_at(source.plane_shape)]
    if known is not None:
        known |= looker.statistics
    return common_size(sizes)


def planes_to_look_at(shape: tuple[int, ...]) -> list[int]:
    """Return the numbers of the planes of a stack that tell the size of its objects.

    Evenly spread along every axis at once, so that a stack over time is not looked at
    in its first section alone.

    Examples
    --------
    >>> planes_to_look_at((10,)), planes_to_look_at((2, 2))
    ([0, 2, 4, 6, 8], [0, 1, 2, 3])
    >>> [divmod(plane, 7) for plane in planes_to_look_at((50, 7))]
    [(0, 0), (10, 2), (20, 3), (30, 4), (40, 6)]
    """
    total = math.prod(shape)
    if total <= MOST_PLANES:
        return list(range(total))
    longest = shape.index(max(shape))
    along = range(shape[longest])[:: -(-shape[longest] // MOST_PLANES)]
    count = len(along)
    places = [[(2 * i + 1) * n // (2 * count) for i in range(count)] for n in shape]
    places[longest] = list(along)
    return [int(number) for number in np.ravel_multi_index(places, shape)]


def common_size(sizes: Sequence[Size]) -> Size:
    """Return one size for several planes or images: the median of the sure ones."""
    known = [s for s in sizes if s.sure and s.diameter_px is not None]
    if not known:
        return next((s for s in sizes if not s.sure), sizes[0])
    scale = sorted(s.scale for s in known)[len(known) // 2]
    same = [s for s in known if s.scale == scale]
    added = Counter(s.added_scale for s in same).most_common(1)[0][0]
    return Size(
        diameter_px=float(np.median([s.diameter_px for s in known])),
        confidence=float(np.mean([s.confidence for s in known])),
        scale=scale,
        added_scale=added,
    )


@dataclass(frozen=True)
class _WindowObjects:
    """A window and what a look found there."""

    window: Rectangle
    look: ObjectSizes
    labels: npt.NDArray[np.uint32]
    by: int = 1
    """How many pixels of the window one of the labels is wide."""


class _SizeFinder:
    """Looks at the planes of an image in several ways."""

    def __init__(
        self, source: Source, recipe: InferenceSettings, card: ModelCard
    ) -> None:
        self._source, self._recipe = source, recipe
        self._learned, self._own = card.diameter_px, recipe.scale
        self.statistics: dict[int, tuple[Statistics, ...]] = {}

    def size(self, plane: int) -> Size:
        """Return how large the objects of one plane are."""
        statistics = statistics_for(self._source, plane, self._recipe)
        self.statistics[plane] = statistics
        coarse = self._coarse(plane, statistics)
        look = together([one.look for one in coarse]) if coarse else None
        if look is not None and too_large(look, self._learned, self._own):
            side = min(max(round(WIDE * look.diameter), SIDES[0]), SIDES[1])
            windows = _fullest(coarse, side, COMPARED_PX)
            scale = best_scale(look, self._learned, self._own)
            return self._compared(plane, statistics, windows, scale, look)
        if look is not None and len(look) >= FEWEST and self._resolved(look, coarse):
            return self._usual(look)
        windows = self._small_windows(coarse)
        near = together([s.look for s in self._at(plane, statistics, windows)])
        if not too_small(near, self._learned, self._own):
            return self._usual(near)
        scale = best_scale(near, self._learned, self._own)
        return self._compared(plane, statistics, windows, scale, near)

    def _resolved(self, look: ObjectSizes, coarse: Sequence[_WindowObjects]) -> bool:
        """Return whether a coarse look shows objects, not clumps of smaller ones.

        It cannot tell objects apart that are smaller in it than the model's own.
        """
        return look.diameter * self._own >= self._learned[0] * coarse[0].by

    def _usual(self, look: ObjectSizes) -> Size:
        return Size(
            diameter_px=look.diameter if len(look) else None,
            confidence=look.confidence,
            scale=self._own,
        )

    def _compared(
        self,
        plane: int,
        statistics: Sequence[Statistics],
        windows: Sequence[Rectangle],
        scale: float,
        first: ObjectSizes,
    ) -> Size:
        """Return the better of two ways to see objects that a look found first."""
        usual = self._at(plane, statistics, windows)
        other = self._at(plane, statistics, windows, scale)
        as_usual = together([one.look for one in usual])
        as_other = together([one.look for one in other])
        magnified = scale > self._own
        if not better(as_other, as_usual, magnified=magnified):
            return self._usual(as_usual)
        found = replace(self._usual(as_other), scale=scale)
        if magnified:
            return found
        if not tells_size(first):
            return replace(self._usual(first), sure=False)
        if scale > LITTLE * self._own:
            return found
        limit = self._learned[2] / self._own
        lost = sum(
            apart(one.look, one.labels, _only_large(two, limit), limit)
            for one, two in zip(usual, other, strict=True)
        )
        large = int((as_other.diameters > limit).sum())
        mixed = lost >= max(MIXED * (lost + large), FEWEST)
        return replace(found, added_scale=self._own if mixed else None)

    def _coarse(
        self, plane: int, statistics: Sequence[Statistics]
    ) -> list[_WindowObjects]:
        """Return what is seen of the plane reduced, further if it holds giants."""
        seen: list[_WindowObjects] = []
        for reduced in REDUCED:
            windows = _coarse_windows(self._source.shape)
            if min(self._source.shape) < LEAST_COARSE_PX * reduced:
                break
            latest = [
                self._seen(window, self._reduced(plane, window, reduced), statistics)
                for window in windows
            ]
            latest = [_enlarged(one, reduced) for one in latest]
            look = together([one.look for one in latest])
            if seen and not tells_size(look):
                break
            seen = latest
            if not too_large(look, self._learned, self._own / reduced):
                break
        return seen

    def _at(
        self,
        plane: int,
        statistics: Sequence[Statistics],
        windows: Sequence[Rectangle],
        scale: float | None = None,
    ) -> list[_WindowObjects]:
        """Return what is seen of windows, at the model's own scale or another."""
        return [
            self._seen(window, self._read(plane, window), statistics, scale)
            for window in windows
        ]

    def _seen(
        self,
        window: Rectangle,
        pixels: npt.NDArray[Any],
        statistics: Sequence[Statistics],
        scale: float | None = None,
    ) -> _WindowObjects:
        scale = scale or self._own
        decode = at_scale(self._recipe.config.decode, scale)
        recipe = replace(self._recipe, scale=scale, decode=decode)
        with Scratch() as scratch:
            found = segment_plane(
                array_source(pixels), 0, recipe, scratch, statistics=statistics
            )
            labels = as_labels(found.bands())
            evidence = found.evidence(0, len(labels))
        return _WindowObjects(window, look_of(labels, evidence), labels)

    def _read(self, plane: int, window: Rectangle) -> npt.NDArray[Any]:
        region = Region(plane, window.y0, window.y1, window.x0, window.x1)
        pixels = self._source.read(region)
        return pixels[: self._recipe.config.image_channels]

    def _reduced(
        self, plane: int, window: Rectangle, by: int
    ) -> npt.NDArray[np.float32]:
        """Return means over squares of so many pixels, those at the edges cut off."""
        rows = band_rows(window.x1 - window.x0, self._recipe.memory) // by * by
        bands = []
        for y0 in range(window.y0, window.y1 - by + 1, rows):
            y1 = y0 + min(rows, (window.y1 - y0) // by * by)
            x1 = window.x0 + (window.x1 - window.x0) // by * by
            pixels = self._read(plane, Rectangle(y0, y1, window.x0, x1))
            count, height, width = pixels.shape
            squares = pixels.reshape(count, height // by, by, width // by, by)
            # Huge pixels; means that are not finite are dark to the network.
            with np.errstate(over="ignore", invalid="ignore"):
                bands.append(squares.mean((2, 4), dtype=np.float32))
        return np.concatenate(bands, 1)

    def _small_windows(self, coarse: Sequence[_WindowObjects]) -> list[Rectangle]:
        """Return where to look for small objects: in the middle of the plane.

        Where the coarse look found anything, there.
        """
        height, width = self._source.shape
        share = math.sqrt(LEAST_SHARE * height * width)
        side = min(max(round(share), LEAST_SIDE), SIDES[0])
        found = _fullest(coarse, side, side**2) if coarse else []
        if found:
            return found
        y0, x0 = max(height - side, 0) // 2, max(width - side, 0) // 2
        return [Rectangle(y0, min(y0 + side, height), x0, min(x0 + side, width))]


def _coarse_windows(shape: tuple[int, int]) -> list[Rectangle]:
    """Return the parts of a plane that are looked at reduced: all, or a grid."""
    height, width = shape
    if height * width <= COARSE_PX:
        return [Rectangle(0, height, 0, width)]
    rows, columns = (_grid(length) for length in shape)
    return [Rectangle(*y, *x) for y in rows for x in columns]


def _grid(length: int) -> list[tuple[int, int]]:
    """Return evenly spread parts of an axis."""
    side = min(GRID_PX, length // GRID)
    places = ((length - side) * i // (GRID - 1) for i in range(GRID))
    return [(place, place + side) for place in places]


def _only_large(seen: _WindowObjects, limit_px: float) -> npt.NDArray[np.bool_]:
    """Return where objects of more than this diameter lie."""
    large = np.concatenate(([False], seen.look.diameters > limit_px))
    there: npt.NDArray[np.bool_] = large[seen.labels]
    return there


def _enlarged(seen: _WindowObjects, by: int) -> _WindowObjects:
    """Return a coarse look in the plane's own pixels; its labels stay as they are."""
    look = seen.look
    own = replace(look, diameters=look.diameters * by, pixels=look.pixels * by**2)
    return replace(seen, look=own, by=by)


def _fullest(
    coarse: Sequence[_WindowObjects], side: int, most_px: int
) -> list[Rectangle]:
    """Return windows where a coarse look found objects, fullest and less full ones.

    Parameters
    ----------
    coarse
        What was found.
    side
        Of a window.
    most_px
        Pixels in all windows.
    """
    if len(coarse) == 1 and coarse[0].window.pixels <= most_px:
        return [coarse[0].window]
    cells = sorted(_cells(coarse, side), key=lambda cell: (-cell[0], cell[1:]))
    full = [Rectangle(*cell[1:]) for cell in cells if cell[0] > 0]
    wanted = max(most_px // side**2, 1)
    return full[:: max(len(full) // wanted, 1)][:wanted]


def _cells(
    coarse: Sequence[_WindowObjects], side: int
) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield windows of one size with how much objects cover there."""
    for seen in coarse:
        top, by = seen.window, seen.by
        for y in _starts(top.y1 - top.y0, side):
            for x in _starts(top.x1 - top.x0, side):
                part = seen.labels[
                    y // by : (y + side) // by, x // by : (x + side) // by
                ]
                y0, x0 = top.y0 + y, top.x0 + x
                y1, x1 = min(y0 + side, top.y1), min(x0 + side, top.x1)
                yield int(np.count_nonzero(part)), y0, y1, x0, x1


def _starts(length: int, side: int) -> list[int]:
    """Return where parts of an axis begin that cover it, the last one at its end."""
    last = max(length - side, 0)
    return [*range(0, last, side), last]
