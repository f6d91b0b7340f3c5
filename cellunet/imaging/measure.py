"""Measure objects while their labels pass by in bands of rows.

Lengths count in pixels and, where the size of a pixel is known, in micrometres too;
coordinates are those of outlines: the pixel in row 0 and column 0 covers (0, 0) to
(1, 1). How they are computed is in `cellunet.imaging.measure`.

The confidence of an object is the mean, over its pixels, of the probability of the
likeliest class there. Inside a clear nucleus that is near 1, at its rim lower; a dim
object, one that the network half sees, or two that it cannot part have many pixels of
which it is not sure. It works alike for every target. Among simple definitions it told
right from wrong objects best (``python benchmarks/confidence.py``, figures in
``docs/outputs.md``). It ranks objects; it is not calibrated to be a probability.

Per pixel one byte is kept until the labels are known.

For those who need it of every object at once, in the order of their labels; a table of
objects gets it from `cellunet.imaging.measure`. What it is: see
`cellunet.imaging.measure`.

Sums are added up band by band, in raster order and in whole numbers wherever pixels
are whole numbers, so they do not depend on how the plane was cut. What follows from
them is computed once an object is complete.

An object is complete once all of its pixels have been seen and the rows below it have
begun, which is known because decoding counts the pixels of every object before the
labels are written. Complete objects come out in the order of their labels.

Memory: one band of labels and of each channel; of every object some 140 bytes of sums;
of objects that are not out yet their edges (16 bytes a pixel edge), then their outline.
Objects wait for those of lower number, so a large object holds back the smaller ones
beside it. No pixels of an earlier band are kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.imaging.outlines import Tracer, outlines
from cellunet.io.scratch import pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cellunet.imaging.outlines import Outline

Table = dict[str, "npt.NDArray[Any]"]
"""Name of a column to its values, one an object."""


@dataclass(frozen=True)
class Column:
    """One thing that is measured of an object."""

    name: str
    meaning: str
    power: int = 0
    """1 for a length and 2 for an area, which have one column in pixels and one in
    micrometres; 0 for what has no unit."""


COLUMNS = (
    Column("area", "pixels of the object", 2),
    Column("x", "centre of mass, from the left edge of the image", 1),
    Column("y", "centre of mass, from the upper edge of the image", 1),
    Column("left", "left edge of the bounding box", 1),
    Column("top", "upper edge of the bounding box", 1),
    Column("right", "right edge of the bounding box", 1),
    Column("bottom", "lower edge of the bounding box", 1),
    Column("major_axis", "longer axis of the ellipse with its second moments", 1),
    Column("minor_axis", "shorter axis of that ellipse", 1),
    Column("perimeter", "length of its smooth outline, holes included", 1),
    Column("eccentricity", "of that ellipse: 0 for a circle, near 1 for a line"),
    Column("solidity", "area in its outline over area in the outline's convex hull"),
    Column("touches_border", "1 if it touches the edge of the image, else 0"),
)
"""Measured of the shape; `column_names` has all names in order."""

INTENSITIES = (
    Column("intensity_mean", "mean of the image's values inside"),
    Column("intensity_min", "least value inside"),
    Column("intensity_max", "greatest value inside"),
    Column("intensity_sum", "sum of the values inside"),
)
"""Measured in each channel of the image; with several, ``_NAME`` is appended."""

CONFIDENCE = Column(
    "confidence", "mean over its pixels of the probability of the likeliest class"
)

WHOLE = ("area_px", "left_px", "top_px", "right_px", "bottom_px", "touches_border")
"""Columns of whole numbers; all others are float64."""

UNITS = {0: ("",), 1: ("_px", "_um"), 2: ("_px", "_um2")}
"""Power to what is appended for pixels and for micrometres."""

EVIDENCE_TOP = 255
"""Value of the evidence (`cellunet.imaging.measure`) that means certainty."""


def column_names(channels: Sequence[str] = ("",)) -> list[str]:
    """Return the names of all columns of a table, in order, ids and places aside.

    Parameters
    ----------
    channels
        Names of the image's channels. One channel needs no name; names that occur
        twice are told apart by their number.

    Examples
    --------
    >>> column_names(["DAPI", "GFP"])[-5:]  # doctest: +NORMALIZE_WHITESPACE
    ['intensity_mean_GFP', 'intensity_min_GFP', 'intensity_max_GFP',
     'intensity_sum_GFP', 'confidence']
    """
    names = [c.name + UNITS[c.power][0] for c in COLUMNS if c.power]
    names += [c.name + UNITS[c.power][1] for c in COLUMNS if c.power]
    names += [c.name for c in COLUMNS if not c.power]
    for suffix in channel_suffixes(channels):
        names += [c.name + suffix for c in INTENSITIES]
    return [*names, CONFIDENCE.name]


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
    top = probabilities.max(axis=0)
    kept: npt.NDArray[np.uint8] = np.rint(top * EVIDENCE_TOP).astype(np.uint8)
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


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cellunet.imaging.outlines import Outline, Ring

    Point = tuple[float, float]


@dataclass(frozen=True)
class Shapes:
    """Of several objects, float64, one value an object."""

    lengths: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    """Lengths of all rings of their outlines in pixels and in micrometres, which are
    NaN where the pixel size is not known."""
    solidity: npt.NDArray[np.float64]
    """Area inside the outline over the area of its convex hull."""


def shapes_of(
    found: Sequence[Outline], pixel_size_um: tuple[float, float] | None
) -> Shapes:
    """Return what follows from the outlines of objects.

    Parameters
    ----------
    found
        One outline an object.
    pixel_size_um
        Height and width of a pixel.
    """
    sizes = ((1.0, 1.0), pixel_size_um or (math.nan, math.nan))
    lengths = np.zeros((2, len(found)))
    solidity = np.zeros(len(found))
    for place, outline in enumerate(found):
        steps = [_steps(ring) for polygon in outline for ring in polygon]
        for unit, (py, px) in enumerate(sizes):
            lengths[unit, place] = sum(
                float(np.hypot(s[:, 0] * px, s[:, 1] * py).sum()) for s in steps
            )
        area = sum(ring_area(ring) for polygon in outline for ring in polygon)
        outer = [point for polygon in outline for point in _convex(polygon[0])]
        solidity[place] = area / ring_area(np.array(convex_hull(outer)))
    return Shapes((lengths[0], lengths[1]), solidity)


def _steps(ring: Ring) -> npt.NDArray[np.float64]:
    steps = np.empty_like(ring)
    steps[:-1] = ring[1:] - ring[:-1]
    steps[-1] = ring[0] - ring[-1]
    return steps


def _convex(ring: Ring) -> list[list[float]]:
    """Return the corners at which an outer ring turns outwards, as its hull's do."""
    goes = _steps(ring)
    came = np.concatenate((goes[-1:], goes[:-1]))
    turns = came[:, 0] * goes[:, 1] - came[:, 1] * goes[:, 0]
    corners: list[list[float]] = ring[turns > 0].tolist()
    return corners


def ring_area(ring: Ring) -> float:
    """Return the signed area of a ring by the shoelace formula: holes are negative."""
    x, y = (ring - ring[0]).T
    return float(x[:-1] @ y[1:] - y[:-1] @ x[1:]) / 2


def convex_hull(points: Sequence[Sequence[float]]) -> list[Point]:
    """Return the corners of the convex hull, in the order of outer rings.

    The monotone chain of Andrew, Information Processing Letters 9 (1979) 216-219.

    Examples
    --------
    >>> convex_hull([(0, 0), (1, 1), (2, 0), (2, 2), (0, 2)])
    [(0, 0), (2, 0), (2, 2), (0, 2)]
    """
    ordered = sorted({(x, y) for x, y in points})
    return [*_half_hull(ordered), *_half_hull(ordered[::-1])]


def _half_hull(ordered: Sequence[Point]) -> list[Point]:
    """Return one half of the hull, its last corner left out."""
    half: list[Point] = []
    for x, y in ordered:
        while len(half) >= 2:
            (ax, ay), (bx, by) = half[-2], half[-1]
            if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                break
            half.pop()
        half.append((x, y))
    return half[:-1]


class Sums:
    """Sums over the pixels of every object of a plane, rows from top to bottom.

    Parameters
    ----------
    count
        Objects: labels are 1 to `count`.
    shape
        Height and width of the plane.
    channels
        Names of the channels of intensity, none if there is no image.
    """

    def __init__(
        self, count: int, shape: tuple[int, int], channels: Sequence[str] = ()
    ) -> None:
        self._shape = shape
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
        self._totals = [np.zeros(size, np.float64) for _ in channels]
        self._least = [np.full(size, np.inf) for _ in channels]
        self._greatest = [np.full(size, -np.inf) for _ in channels]

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
            YX uint8, as `cellunet.imaging.measure.pixel_confidence` makes it.
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
        y, x = np.nonzero(labels)
        if not len(y):
            return
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
            self._evidence[here] += _whole_sums(local, evidence[y, x], size)
        for channel, image in enumerate(images):
            self._add_intensities(channel, image[y, x], ids)

    def _add_intensities(
        self,
        channel: int,
        values: npt.NDArray[Any],
        ids: npt.NDArray[np.int64],
    ) -> None:
        exact = values.astype(np.float64)
        # One pixel after the other, on top of the sum so far: in the same order however
        # the plane is cut, since the rounding of fractions depends on the order.
        np.add.at(self._totals[channel], ids, exact)
        np.minimum.at(self._least[channel], ids, exact)
        np.maximum.at(self._greatest[channel], ids, exact)

    def table(
        self,
        ids: npt.NDArray[np.int64],
        shapes: Shapes,
        pixel_size_um: tuple[float, float] | None,
    ) -> Table:
        """Return what was measured of complete objects.

        Parameters
        ----------
        ids
            Their labels.
        shapes
            What follows from their outlines, in the same order.
        pixel_size_um
            Height and width of a pixel; None leaves micrometres NaN.

        Returns
        -------
        dict
            The columns of `column_names`.
        """
        found: Table = {}
        for unit, size in enumerate(((1.0, 1.0), pixel_size_um)):
            for name, values in self._lengths(ids, shapes, size, unit).items():
                power = next(c.power for c in COLUMNS if c.name == name)
                found[name + UNITS[power][unit]] = values
        # Of what the object really looks like, if pixels are known not to be square.
        found["eccentricity"] = eccentricity(
            self._moments(ids, pixel_size_um or (1.0, 1.0))
        )
        found["solidity"] = shapes.solidity
        found["touches_border"] = self._at_border(ids)
        area = self.areas[ids]
        for k, suffix in enumerate(channel_suffixes(self._channels or ("",))):
            nothing = np.full(len(ids), np.nan)
            total = self._totals[k][ids] if self._channels else nothing
            least = self._least[k][ids] if self._channels else nothing
            most = self._greatest[k][ids] if self._channels else nothing
            for column, values in zip(
                INTENSITIES, (total / area, least, most, total), strict=True
            ):
                found[column.name + suffix] = values
        found[CONFIDENCE.name] = self._evidence[ids] / (EVIDENCE_TOP * area)
        for name in WHOLE:
            found[name] = found[name].astype(np.int64)
        return {name: found[name] for name in column_names(self._channels or ("",))}

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
        centre = self._origin[:, ids] + self._first[:, ids] / area + 0.5
        longer, shorter = _axes(self._moments(ids, (py, px)))
        return {
            "area": area * (py * px),
            "x": centre[1] * px,
            "y": centre[0] * py,
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

        Of the pixels' centres. Squares in their place would add 1/12 of a pixel; but
        the centres inside a shape estimate its own moments without bias.
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
        Pixels of each object, those of label 1 first.
    channels
        Names of the channels of intensity.
    pixel_size_um
        Height and width of a pixel, if known.
    """

    def __init__(
        self,
        plane: int,
        shape: tuple[int, int],
        areas: npt.NDArray[np.int64],
        *,
        channels: Sequence[str] = (),
        pixel_size_um: tuple[float, float] | None = None,
    ) -> None:
        self._plane, self._height = plane, shape[0]
        self._pixel_size_um = pixel_size_um
        self._areas = np.concatenate(([-1], areas))
        self._sums = Sums(len(areas), shape, channels)
        self._tracer = Tracer(shape[1])
        self._waiting: dict[int, Outline] = {}
        self._next = 1
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
        ready = self._sums.areas == self._areas
        if self._y0 < self._height:
            # Their lower edges are not known before the next row.
            ready[labels[-1]] = False
        else:
            self._tracer.end()
        self._waiting |= self._tracer.take(ready)
        return self._out()

    def _out(self) -> ObjectBatch:
        first = self._next
        found = []
        while self._next in self._waiting:
            found.append(self._waiting.pop(self._next))
            self._next += 1
        ids = np.arange(first, self._next, dtype=np.int64)
        shapes = shapes_of(found, self._pixel_size_um)
        table = self._sums.table(ids, shapes, self._pixel_size_um)
        return ObjectBatch(self._plane, ids, table, found)


def measure_labels(
    labels: npt.NDArray[Any],
    images: Sequence[npt.NDArray[Any]] = (),
    *,
    channels: Sequence[str] = ("",),
    pixel_size_um: tuple[float, float] | None = None,
    evidence: npt.NDArray[np.uint8] | None = None,
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
    ids = np.unique(labels[labels > 0]).astype(np.int64)
    sums = Sums(
        int(ids.max(initial=0)),
        (labels.shape[0], labels.shape[1]),
        tuple(channels) if images else (),
    )
    sums.add(0, labels, images, evidence)
    rings = list(outlines(labels).values())
    table = sums.table(ids, shapes_of(rings, pixel_size_um), pixel_size_um)
    if evidence is None:
        table[CONFIDENCE.name] = np.full(len(ids), np.nan)
    return {"id": ids, **table}
