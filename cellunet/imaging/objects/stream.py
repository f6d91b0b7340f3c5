"""Objects of a plane, one after the other, while its labels pass by in bands of rows.

An object is complete once all of its pixels have been seen and the rows below it have
begun, which is known because decoding counts the pixels of every object before the
labels are written. Complete objects come out in the order of their labels.

Memory: one band of labels and of each channel; of every object some 140 bytes of sums;
of objects that are not out yet their edges (16 bytes a pixel edge), then their outline.
Objects wait for those of lower number, so a large object holds back the smaller ones
beside it. No pixels of an earlier band are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.imaging.measure import CONFIDENCE
from cellunet.imaging.objects.outlines import Tracer, outlines
from cellunet.imaging.objects.shapes import shapes_of
from cellunet.imaging.objects.sums import Sums

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cellunet.imaging.measure import Table
    from cellunet.imaging.objects.rings import Outline


@dataclass(frozen=True)
class Batch:
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
    ) -> Batch:
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

    def _out(self) -> Batch:
        first = self._next
        found = []
        while self._next in self._waiting:
            found.append(self._waiting.pop(self._next))
            self._next += 1
        ids = np.arange(first, self._next, dtype=np.int64)
        shapes = shapes_of(found, self._pixel_size_um)
        table = self._sums.table(ids, shapes, self._pixel_size_um)
        return Batch(self._plane, ids, table, found)


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
        YX uint8 from `cellunet.imaging.objects.evidence.evidence`; without it the
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
