"""Measure objects while their labels pass by in bands of rows.

Lengths count in pixels and, where the size of a pixel is known, in micrometers too;
coordinates are those of outlines: the pixel in row 0 and column 0 covers (0, 0) to
(1, 1). ``docs/measurements.md`` has the formula of each column.

Sums are added up band by band, in raster order and in whole numbers wherever pixels
are whole numbers, so they do not depend on how the plane was cut. What follows from
them is computed once an object is complete: once all of its pixels have been seen and
the rows below it have begun, which is known because decoding counts the pixels of every
object before the labels are written. Complete objects come out in the order of their
labels.

The confidence of an object is the mean, over its pixels, of the probability of the
likeliest class there. Among simple definitions it told right from wrong objects best
(``python benchmarks/confidence.py``, figures in ``docs/outputs.md``). It ranks objects;
it is not calibrated to be a probability. Per pixel one byte is kept until the labels
are known.

Memory: one band of labels and of each channel; of every object some 140 bytes of sums;
of objects that are not out yet their edges (16 bytes a pixel edge), then their outline.
Objects wait for those of lower number, so a large object holds back the smaller ones
beside it. Of earlier bands the values of open objects are kept where medians are wanted
(`cellunet.imaging.medians`), else no pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.imaging.medians import Medians, Rings
from cellunet.imaging.outlines import (
    Tracer,
    feret_diameters,
    hulls,
    pixel_corners,
    shapes_of,
)
from cellunet.imaging.pieces import CACHED_PX, pieces
from cellunet.io.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from cellunet.imaging.outlines import Outline, RingEdges, Shapes

    OnValues = Callable[[int, npt.NDArray[np.int64], npt.NDArray[Any]], None]

Table = dict[str, "npt.NDArray[Any]"]
"""Name of a column to its values, one an object."""


@dataclass(frozen=True)
class Column:
    """One thing that is measured of an object; docs/measurements.md says how."""

    name: str
    power: int = 0
    """1 for a length and 2 for an area, which have one column in pixels and one in
    micrometers; 0 for what has no unit."""
    along: int | None = None
    """Axis of the image that a length is measured along, 0 for y; None: in any
    direction."""
    detail: bool = False
    """Whether it is measured only where all is asked for."""


COLUMNS = (
    Column("area", 2),
    Column("x", 1, along=1),
    Column("y", 1, along=0),
    Column("left", 1, along=1),
    Column("top", 1, along=0),
    Column("right", 1, along=1),
    Column("bottom", 1, along=0),
    Column("major_axis", 1),
    Column("minor_axis", 1),
    Column("perimeter", 1),
    Column("feret_max", 1, detail=True),
    Column("feret_min", 1, detail=True),
    Column("eccentricity"),
    Column("solidity"),
    Column("touches_border"),
    Column("circularity", detail=True),
    Column("orientation", detail=True),
)
"""Measured of the shape; `column_names` has all names in order."""

INTENSITIES = (
    Column("intensity_mean"),
    Column("intensity_min"),
    Column("intensity_max"),
    Column("intensity_sum"),
    Column("intensity_std", detail=True),
    Column("intensity_median", detail=True),
    Column("background", detail=True),
)
"""Measured in each channel of the image; with several, ``_NAME`` is appended."""

LEAST_ROUND_PX = 10
"""Pixels of the smallest object that has a circularity: an outline of fewer says
nothing about roundness."""

ISOTROPIC = 1e-9
"""An ellipse whose moments differ by less, relative to their mean, has no longer axis
but by the rounding of sums."""

CONFIDENCE = "confidence"

WHOLE = ("area_px", "left_px", "top_px", "right_px", "bottom_px", "touches_border")
"""Columns of whole numbers; all others are float64."""

IN_UNITS = {
    c.name: (f"{c.name}_px", f"{c.name}_um" if c.power == 1 else f"{c.name}_um2")
    for c in COLUMNS
    if c.power
}
"""Lengths and areas to their columns in pixels and in micrometers."""

EVIDENCE_TOP = 255
"""Value of the evidence (`cellunet.imaging.measure`) that means certainty."""


def column_names(channels: Sequence[str] = ("",), *, detail: bool = False) -> list[str]:
    """Return the names of all columns of a table, in order, ids and places aside.

    Parameters
    ----------
    channels
        Names of the image's channels. One channel needs no name; names that occur
        twice are told apart by their number.
    detail
        Whether all is measured.

    Examples
    --------
    >>> column_names(["DAPI", "GFP"])[-5:]  # doctest: +NORMALIZE_WHITESPACE
    ['intensity_mean_GFP', 'intensity_min_GFP', 'intensity_max_GFP',
     'intensity_sum_GFP', 'confidence']
    """
    shapes = [c for c in COLUMNS if detail or not c.detail]
    names = [IN_UNITS[c.name][unit] for unit in (0, 1) for c in shapes if c.power]
    names += [c.name for c in shapes if not c.power]
    for suffix in channel_suffixes(channels):
        names += [c.name + suffix for c in INTENSITIES if detail or not c.detail]
    return [*names, CONFIDENCE]


def equivalent_diameters(areas: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the diameters of the circles of these areas.

    Examples
    --------
    >>> equivalent_diameters([0, 9 * np.pi]).tolist()
    [0.0, 6.0]
    """
    diameters: npt.NDArray[np.float64] = 2 * np.sqrt(np.asarray(areas) / np.pi)
    return diameters


def channel_suffixes(channels: Sequence[str]) -> list[str]:
    """Return what is appended to the names of intensities, for each channel."""
    if len(channels) == 1:
        return [""]
    twice = {name for name in channels if list(channels).count(name) > 1}
    return [f"_{n}_{k}" if n in twice else f"_{n}" for k, n in enumerate(channels)]


def pixel_confidence(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return the probability of the likeliest class of each pixel in 255ths.

    Parameters
    ----------
    probabilities
        KYX float32, corrected for the odds of a weighted loss.

    Returns
    -------
    ndarray
        YX uint8.
    """
    kept = np.empty(probabilities.shape[1:], np.uint8)
    for piece in pieces(probabilities.shape[1:], CACHED_PX):
        top = probabilities[:, *piece].max(axis=0)
        kept[piece] = np.rint(top * EVIDENCE_TOP)
    return kept


class Confidences:
    """Adds up the confidence of one plane's objects, band by band.

    Parameters
    ----------
    areas
        Pixels of objects 1, 2, ...
    """

    def __init__(self, areas: npt.NDArray[np.integer]) -> None:
        self._sums = np.zeros(len(areas) + 1)
        self._areas = areas

    def add(self, labels: npt.NDArray[Any], evidence: npt.NDArray[np.uint8]) -> None:
        """Take rows of labels and of evidence, YX both."""
        for piece in pieces(labels.shape):
            # Most pixels are background, which has no confidence.
            there, sure = labels[piece], evidence[piece]
            inside = np.flatnonzero(there)
            self._sums += np.bincount(
                there.take(inside), sure.take(inside), minlength=len(self._sums)
            )

    def means(self) -> npt.NDArray[np.float64]:
        """Return the confidence of objects 1, 2, ..., from 0 to 1."""
        means: npt.NDArray[np.float64] = self._sums[1:] / self._areas / EVIDENCE_TOP
        return means


class ObjectSums:
    """Sums over the pixels of every object of a plane, rows from top to bottom.

    Parameters
    ----------
    count
        Objects: labels are 1 to `count`.
    shape
        Height and width of the plane.
    channels
        Names of the channels of intensity, none if there is no image.
    on_values
        Called with the number of a channel, and with the object and the value of each
        pixel; then standard deviations are measured too.
    """

    def __init__(
        self,
        count: int,
        shape: tuple[int, int],
        channels: Sequence[str] = (),
        on_values: OnValues | None = None,
    ) -> None:
        self._shape, self._detail = shape, on_values is not None
        self._on_values = on_values
        self._channels = tuple(channels)
        size = count + 1
        # Relative to each object's first pixel, so that products of coordinates stay
        # small on planes of any size.
        self._origin = np.full((2, size), -1, np.int64)
        self.areas = np.zeros(size, np.int64)
        self._first = np.zeros((2, size), np.int64)
        self._second = np.zeros((3, size), np.int64)
        self._low = np.full((2, size), np.iinfo(np.int64).max)
        self._high = np.full((2, size), -1, np.int64)
        self._evidence = np.zeros(size, np.int64)
        self._sure = False
        self._totals = [np.zeros(size, np.float64) for _ in channels]
        self._least = [np.full(size, np.inf) for _ in channels]
        self._greatest = [np.full(size, -np.inf) for _ in channels]
        # Of the distance to each object's first value, and of its square.
        spreads = channels if self._detail else ()
        self._base = [np.zeros(size) for _ in spreads]
        self._distance = [np.zeros((2, size)) for _ in spreads]

    def add(
        self,
        y0: int,
        labels: npt.NDArray[Any],
        images: Sequence[npt.NDArray[Any]] = (),
        evidence: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        """Take rows of labels, YX, from row `y0` on, and what lies below them.

        Parameters
        ----------
        y0
            First row.
        labels
            YX, integer.
        images
            One YX array of any real type a channel.
        evidence
            YX uint8, as `cellunet.imaging.measure.pixel_confidence` makes it; without
            it the confidence is NaN.
        """
        for rows, columns in pieces(labels.shape):
            self._add(
                (y0 + rows.start, columns.start),
                labels[rows, columns],
                [image[rows, columns] for image in images],
                None if evidence is None else evidence[rows, columns],
            )

    def _add(
        self,
        corner: tuple[int, int],
        labels: npt.NDArray[Any],
        images: Sequence[npt.NDArray[Any]],
        evidence: npt.NDArray[np.uint8] | None,
    ) -> None:
        """Take a piece of the rows whose first pixel lies at `corner`."""
        # Of a flat mask: numpy counts these fastest.
        places = np.flatnonzero((labels != 0).reshape(-1))
        if not len(places):
            return
        y, x = np.divmod(places, labels.shape[1])
        ids = labels[y, x].astype(np.int64)
        row, column = y + corner[0], x + corner[1]
        # A band holds a narrow range of numbers: tables of that range alone.
        base = int(ids.min())
        local = ids - base
        size = int(local.max()) + 1
        here = slice(base, base + size)
        first = np.full(size, -1)
        first[local[::-1]] = np.arange(len(local))[::-1]
        new = (first >= 0) & (self._origin[0, here] < 0)
        self._origin[:, here][:, new] = row[first[new]], column[first[new]]
        dy, dx = row - self._origin[0, ids], column - self._origin[1, ids]
        whole = zip(
            (*self._first, *self._second),
            (dy, dx, dy * dy, dx * dx, dy * dx),
            strict=True,
        )
        self.areas[here] += np.bincount(local, minlength=size)
        for sums, values in whole:
            sums[here] += _whole_sums(local, values, size)
        for axis, values in enumerate((row, column)):
            np.minimum.at(self._low[axis], ids, values)
            np.maximum.at(self._high[axis], ids, values)
        if evidence is not None:
            self._sure = True
            self._evidence[here] += _whole_sums(local, evidence[y, x], size)
        fresh = first[new], base + np.flatnonzero(new)
        # What is no number in an image is none in its sums either.
        with np.errstate(invalid="ignore"):
            for channel, image in enumerate(images):
                stored = image[y, x]
                values = stored.astype(np.float64)
                self._add_intensities(channel, values, ids)
                if self._on_values is not None:
                    self._on_values(channel, ids, stored)
                    self._base[channel][fresh[1]] = values[fresh[0]]
                    self._add_spread(channel, values, ids)

    def _add_intensities(
        self,
        channel: int,
        values: npt.NDArray[np.float64],
        ids: npt.NDArray[np.int64],
    ) -> None:
        # One pixel after the other, on top of the sum so far: in the same order however
        # the plane is cut, since the rounding of fractions depends on the order.
        np.add.at(self._totals[channel], ids, values)
        np.minimum.at(self._least[channel], ids, values)
        np.maximum.at(self._greatest[channel], ids, values)

    def _add_spread(
        self,
        channel: int,
        values: npt.NDArray[np.float64],
        ids: npt.NDArray[np.int64],
    ) -> None:
        away = values - self._base[channel][ids]
        np.add.at(self._distance[channel][0], ids, away)
        np.add.at(self._distance[channel][1], ids, away * away)

    def table(
        self,
        ids: npt.NDArray[np.int64],
        shapes: Shapes,
        pixel_size_um: tuple[float, float] | None,
        more: Table,
    ) -> Table:
        """Return what was measured of complete objects.

        Parameters
        ----------
        ids
            Their labels.
        shapes
            What follows from their outlines, in the same order.
        pixel_size_um
            Height and width of a pixel; None leaves micrometers NaN.
        more
            Columns that do not follow from sums or outlines.

        Returns
        -------
        dict
            The columns of `column_names`.
        """
        found: Table = dict(more)
        for unit, size in enumerate(((1.0, 1.0), pixel_size_um)):
            for name, values in self._lengths(ids, shapes, size, unit).items():
                found[IN_UNITS[name][unit]] = values
        # Of what the object really looks like, if pixels are known not to be square.
        moments = self._moments(ids, pixel_size_um or (1.0, 1.0))
        found["eccentricity"] = eccentricity(moments)
        found["solidity"] = shapes.solidity
        found["touches_border"] = self._at_border(ids)
        if self._detail:
            found["circularity"] = self._circularity(ids, shapes, pixel_size_um)
            found["orientation"] = orientation(moments)
        area = self.areas[ids]
        for k, suffix in enumerate(channel_suffixes(self._channels or ("",))):
            for name, values in self._intensities(ids, k).items():
                found[name + suffix] = values
        sure = self._evidence[ids] / (EVIDENCE_TOP * area)
        found[CONFIDENCE] = sure if self._sure else np.full(len(ids), np.nan)
        for name in WHOLE:
            found[name] = found[name].astype(np.int64)
        names = column_names(self._channels or ("",), detail=self._detail)
        return {name: found[name] for name in names}

    def _intensities(self, ids: npt.NDArray[np.int64], channel: int) -> Table:
        """Return the sums of a channel's values by column, NaN without an image."""
        if not self._channels:
            nothing = np.full(len(ids), np.nan)
            return {
                c.name: nothing for c in INTENSITIES if self._detail or not c.detail
            }
        area, total = self.areas[ids], self._totals[channel][ids]
        found = {
            "intensity_mean": total / area,
            "intensity_min": self._least[channel][ids],
            "intensity_max": self._greatest[channel][ids],
            "intensity_sum": total,
        }
        if self._detail:
            first, second = self._distance[channel][:, ids]
            with np.errstate(invalid="ignore"):
                spread = np.maximum(second - first * first / area, 0)
            several = area > 1
            found["intensity_std"] = np.full(len(ids), np.nan)
            found["intensity_std"][several] = np.sqrt(
                spread[several] / (area[several] - 1)
            )
        return found

    def _circularity(
        self,
        ids: npt.NDArray[np.int64],
        shapes: Shapes,
        pixel_size_um: tuple[float, float] | None,
    ) -> npt.NDArray[np.float64]:
        area = self.areas[ids] * math.prod(pixel_size_um or (1.0, 1.0))
        found = 4 * math.pi * area / shapes.lengths[pixel_size_um is not None] ** 2
        found[self.areas[ids] < LEAST_ROUND_PX] = np.nan
        return found

    def _lengths(
        self,
        ids: npt.NDArray[np.int64],
        shapes: Shapes,
        size: tuple[float, float] | None,
        unit: int,
    ) -> Table:
        """Return the columns with a unit, by their names without it."""
        py, px = size or (np.nan, np.nan)
        area = self.areas[ids]
        center = self._origin[:, ids] + self._first[:, ids] / area + 0.5
        longer, shorter = _axes(self._moments(ids, (py, px)))
        return {
            "area": area * (py * px),
            "x": center[1] * px,
            "y": center[0] * py,
            "left": self._low[1, ids] * px,
            "top": self._low[0, ids] * py,
            "right": (self._high[1, ids] + 1) * px,
            "bottom": (self._high[0, ids] + 1) * py,
            "major_axis": longer,
            "minor_axis": shorter,
            "perimeter": shapes.lengths[unit],
        }

    def _moments(
        self, ids: npt.NDArray[np.int64], size: tuple[float, float]
    ) -> npt.NDArray[np.float64]:
        """Return rows of central second moments xx, yy, xy over the area.

        Of the pixels' centers. Squares in their place would add 1/12 of a pixel; but
        the centers inside a shape estimate its own moments without bias.
        """
        area = self.areas[ids]
        my, mx = self._first[:, ids] / area
        yy, xx, xy = self._second[:, ids] / area
        py, px = size
        return np.stack(
            (
                (xx - mx * mx) * px * px,
                (yy - my * my) * py * py,
                (xy - mx * my) * px * py,
            ),
            1,
        )

    def _at_border(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        height, width = self._shape
        first = (self._low[:, ids] == 0).any(axis=0)
        last = (self._high[0, ids] == height - 1) | (self._high[1, ids] == width - 1)
        at_border: npt.NDArray[np.bool_] = first | last
        return at_border


def _whole_sums(
    ids: npt.NDArray[np.int64], values: npt.NDArray[Any], size: int
) -> npt.NDArray[np.int64]:
    """Return the sum of whole numbers by id; exact below 2**53."""
    sums = np.bincount(ids, values, minlength=size)
    return sums.astype(np.int64)


def _axes(
    moments: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the axes of the ellipses with these moments (rows of xx, yy, xy).

    A full ellipse has moments of a quarter of its half axes squared.
    """
    xx, yy, xy = moments.T
    middle = (xx + yy) / 2
    half = np.hypot((xx - yy) / 2, xy)
    longer = 4 * np.sqrt(np.maximum(middle + half, 0))
    return longer, 4 * np.sqrt(np.maximum(middle - half, 0))


def eccentricity(moments: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the eccentricity of the ellipses with these moments.

    Parameters
    ----------
    moments
        Rows of central second moments xx, yy, xy.
    """
    longer, shorter = _axes(moments)
    # A single pixel has no longer axis.
    ratio = np.divide(shorter, longer, out=np.ones_like(longer), where=longer > 0)
    found: npt.NDArray[np.float64] = np.sqrt(1 - ratio**2)
    return found


def orientation(moments: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the angle from the x axis to the longer axis, as ImageJ counts it.

    Counterclockwise as the image is seen, from 0 to below 180 degrees; NaN where both
    axes are as long.

    Parameters
    ----------
    moments
        Rows of central second moments xx, yy, xy, y downwards.
    """
    xx, yy, xy = moments.T
    found: npt.NDArray[np.float64] = np.degrees(np.arctan2(-2 * xy, xx - yy)) / 2
    found %= 180
    # Of a tiny angle below 0 the remainder is 180 itself.
    found[found >= 180] = 0
    round_ = np.hypot(xx - yy, 2 * xy) <= ISOTROPIC * (xx + yy)
    found[round_] = np.nan
    return found


@dataclass(frozen=True)
class ObjectBatch:
    """Some objects of one plane, complete, by ascending label."""

    plane: int
    """Number of the plane."""
    ids: npt.NDArray[np.int64]
    """Their labels."""
    table: Table
    """What was measured of them: the columns of `measure.column_names`."""
    outlines: list[Outline]
    """Their outlines in the default form."""


class Objects:
    """The objects of one plane.

    Parameters
    ----------
    plane
        Number of the plane.
    shape
        Height and width.
    areas
        Pixels of each object, those of label 1 first; 0 for a number that is not used.
    channels
        Names of the channels of intensity.
    pixel_size_um
        Height and width of a pixel, if known.
    detail
        Measure all, with room in this scratch for the values of large objects; None:
        the columns without `Column.detail`.
    """

    def __init__(
        self,
        plane: int,
        shape: tuple[int, int],
        areas: npt.NDArray[np.int64],
        *,
        channels: Sequence[str] = (),
        pixel_size_um: tuple[float, float] | None = None,
        detail: Scratch | None = None,
    ) -> None:
        self._plane, self._height = plane, shape[0]
        self._pixel_size_um = pixel_size_um
        self._areas = np.concatenate(([-1], areas))
        self._details = on_values = on_walk = None
        if detail is not None:
            self._details = DetailedMeasures(
                self._areas, channels, pixel_size_um, detail
            )
            on_values, on_walk = self._details.on_values, self._details.on_walk
        self._sums = ObjectSums(len(areas), shape, channels, on_values)
        self._tracer = Tracer(shape[1], on_walk=on_walk)
        self._waiting: dict[int, Outline] = {}
        self._order = np.flatnonzero(self._areas > 0)
        self._out_of = 0
        self._y0 = 0

    def add(
        self,
        labels: npt.NDArray[Any],
        images: Sequence[npt.NDArray[Any]] = (),
        evidence: npt.NDArray[np.uint8] | None = None,
    ) -> ObjectBatch:
        """Take the next rows; return the objects that come out.

        Parameters
        ----------
        labels
            YX, integer, full width.
        images
            The same rows of each channel, YX.
        evidence
            The same rows of the evidence for the confidence, YX uint8.
        """
        self._sums.add(self._y0, labels, images, evidence)
        self._tracer.add(labels)
        self._y0 += len(labels)
        last = self._y0 >= self._height
        ready = self._sums.areas == self._areas
        if last:
            self._tracer.end()
        else:
            # Their lower edges are not known before the next row.
            ready[labels[-1]] = False
        if self._details is not None:
            self._details.add(labels, images, ready, last=last)
        self._waiting |= self._tracer.take(ready)
        return self._out()

    def _out(self) -> ObjectBatch:
        first = self._out_of
        found = []
        for number in self._order[first:].tolist():
            if number not in self._waiting:
                break
            found.append(self._waiting.pop(number))
        self._out_of += len(found)
        ids = self._order[first : self._out_of]
        shapes = shapes_of(found, self._pixel_size_um)
        more = self._details.columns(ids) if self._details is not None else {}
        table = self._sums.table(ids, shapes, self._pixel_size_um, more)
        return ObjectBatch(self._plane, ids, table, found)


class DetailedMeasures:
    """What is measured where all is asked for and is no sum.

    Parameters
    ----------
    areas
        Pixels of each object, by its number from 0.
    channels
        Names of the channels of intensity.
    pixel_size_um
        Height and width of a pixel, if known.
    scratch
        Room for the values of large objects.
    """

    def __init__(
        self,
        areas: npt.NDArray[np.int64],
        channels: Sequence[str],
        pixel_size_um: tuple[float, float] | None,
        scratch: Scratch,
    ) -> None:
        self._names = channel_suffixes(channels or ("",))
        self._size_um = pixel_size_um
        self._feret = np.full((4, len(areas)), np.nan)
        self._inside = [Medians(areas, scratch) for _ in channels]
        self._around = [Medians(areas, scratch) for _ in channels]
        self._rings = Rings(self._on_ring)
        self._unknown = np.full(len(areas), np.nan)

    def add(
        self,
        labels: npt.NDArray[Any],
        images: Sequence[npt.NDArray[Any]],
        ready: npt.NDArray[np.bool_],
        *,
        last: bool,
    ) -> None:
        """Take the next rows; objects that are not known yet are not `ready` after."""
        if not self._inside:
            return
        self._rings.add(labels, images, last=last)
        if not last:
            ready[self._rings.open_ids()] = False
        for medians in (*self._inside, *self._around):
            medians.finish(ready)

    def on_values(
        self, channel: int, ids: npt.NDArray[np.int64], values: npt.NDArray[Any]
    ) -> None:
        """Take the pixels inside of objects."""
        self._inside[channel].add(ids, values)

    def on_walk(self, edges: RingEdges) -> None:
        """Take the pixel edges of complete objects."""
        points, owner = pixel_corners(edges)
        around = hulls(points, owner)
        ids = np.unique(owner)
        for place, size in ((0, (1.0, 1.0)), (2, self._size_um)):
            if size is not None:
                self._feret[place : place + 2, ids] = feret_diameters(around, size)

    def columns(self, ids: npt.NDArray[np.int64]) -> Table:
        """Return the columns of objects that are out."""
        ferets = ("feret_max", "feret_min")
        names = (IN_UNITS[name][unit] for unit in (0, 1) for name in ferets)
        found: Table = dict(zip(names, self._feret[:, ids], strict=True))
        for k, suffix in enumerate(self._names):
            for name, channels in (
                ("intensity_median", self._inside),
                ("background", self._around),
            ):
                values = channels[k].values if channels else self._unknown
                found[name + suffix] = values[ids]
        return found

    def _on_ring(
        self, ids: npt.NDArray[np.int64], values: list[npt.NDArray[Any]]
    ) -> None:
        for medians, own in zip(self._around, values, strict=True):
            medians.add(ids, own)


def measure_labels(
    labels: npt.NDArray[Any],
    images: Sequence[npt.NDArray[Any]] = (),
    *,
    channels: Sequence[str] = ("",),
    pixel_size_um: tuple[float, float] | None = None,
    evidence: npt.NDArray[np.uint8] | None = None,
    detail: bool = False,
) -> Table:
    """Return the table of a whole plane of labels.

    Parameters
    ----------
    labels
        YX, integer, 0 background.
    images
        One YX array a channel; none leaves intensities NaN.
    channels
        Their names.
    pixel_size_um
        Height and width of a pixel.
    evidence
        YX uint8 from `cellunet.imaging.measure.pixel_confidence`; without it the
        confidence is NaN.
    detail
        Whether all is measured.

    Returns
    -------
    dict
        ``id``, then the columns of `column_names`.

    Examples
    --------
    >>> table = measure_labels(np.array([[0, 0, 0], [0, 3, 3]]))
    >>> [table[name].tolist() for name in ("id", "area_px", "x_px", "y_px")]
    [[3], [2], [2.0], [1.5]]
    """
    ids, dense = np.unique(labels[labels > 0], return_inverse=True)
    numbered = np.zeros(labels.shape, np.int64)
    numbered[labels > 0] = dense.ravel() + 1
    with Scratch() as scratch:
        objects = Objects(
            0,
            (labels.shape[0], labels.shape[1]),
            np.bincount(numbered.ravel(), minlength=len(ids) + 1)[1:],
            channels=tuple(channels) if images else (),
            pixel_size_um=pixel_size_um,
            detail=scratch if detail else None,
        )
        table = objects.add(numbered, images, evidence).table
    return {"id": ids.astype(np.int64), **table}
