"""Sums over the pixels of objects, and what is measured from them.

Sums are added up band by band, in raster order and in whole numbers wherever pixels
are whole numbers, so they do not depend on how the plane was cut. What follows from
them is computed once an object is complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.imaging.measure import (
    COLUMNS,
    CONFIDENCE,
    EVIDENCE_TOP,
    INTENSITIES,
    UNITS,
    WHOLE,
    channel_suffixes,
    column_names,
)
from cellunet.imaging.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cellunet.imaging.measure import Table
    from cellunet.imaging.objects.shapes import Shapes


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
            YX uint8, as `cellunet.imaging.objects.evidence.evidence` makes it.
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
