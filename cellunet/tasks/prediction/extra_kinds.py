"""The kinds of files beside a label image: one row in `KINDS` each.

A kind is told what passes by (bands of probabilities, rows of labels, complete objects)
and writes its file on the way; none waits for a whole plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cellunet.imaging.measure import column_names
from cellunet.imaging.optional import optional
from cellunet.imaging.provenance import ImageSpec
from cellunet.imaging.results.write_geojson import GeoJson
from cellunet.imaging.results.write_picture import OutlinePicture
from cellunet.imaging.results.write_rois import Place, RoiSet
from cellunet.imaging.results.write_tables import TABLES
from cellunet.imaging.sink import TiffSink
from cellunet.registry import choose

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.imaging.files import Source
    from cellunet.imaging.intensities import Statistics
    from cellunet.imaging.objects.stream import Batch


FROM = "pixel_size_from"
"""Column of a table that says where the size of a pixel stands."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a file beside a label image is made of, the pixels aside."""

    path: Path
    """Where it is to appear."""
    image: str
    """Path of the image below the common folder of the run, with ``/``."""
    source: Source
    """The image."""
    classes: tuple[str, ...]
    """Names of the model's classes."""
    channels: tuple[str, ...]
    """Names of the channels whose intensities are measured."""
    table_format: str
    """Name in `cellunet.imaging.results.write_tables.TABLES`."""

    def image_file(
        self, name: str, dtype: npt.DTypeLike, channels: tuple[str, ...] = ()
    ) -> TiffSink:
        """Return the file as one of the planes that the image has."""
        source = self.source
        spec = ImageSpec(
            name=name,
            shape=source.shape,
            plane_axes=source.plane_axes,
            plane_shape=source.plane_shape,
            channels=channels,
            dtype=np.dtype(dtype),
            pixel_size_um=source.pixel_size_um,
            z_step_um=source.z_step_um,
            time_step_s=source.time_step_s,
        )
        return TiffSink(self.path, spec)

    def place(self, plane: int) -> dict[str, int]:
        """Return the numbers of a plane along ``t`` and ``z``, as far as it has them.

        Examples
        --------
        Plane 4 of 2 times of 3 planes each is at t 1, z 1.
        """
        if not self.source.plane_shape:
            return {}
        numbers = np.unravel_index(plane, self.source.plane_shape)
        axes = self.source.plane_axes.lower()
        return dict(zip(axes, map(int, numbers), strict=True))


class Written(Protocol):
    """A file being written."""

    def commit(self) -> None:
        """Make the complete file appear."""
        ...

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        ...


class Extra:
    """A kind of file beside a label image, while it is written.

    Parameters
    ----------
    context
        What it is made of.
    """

    wants_probabilities = False
    wants_rows = False
    wants_objects = False

    def __init__(self, context: Context) -> None:
        self.context = context
        self.files: list[Written] = []

    def on_band(
        self, plane: int, y0: int, probabilities: npt.NDArray[np.float32]
    ) -> None:
        """Take the next rows of corrected class probabilities, KYX."""

    def on_plane(self, plane: int, statistics: Statistics) -> None:
        """Take note that the rows of a plane follow, and of its intensities."""

    def on_rows(
        self, image: npt.NDArray[np.generic], labels: npt.NDArray[np.uint32]
    ) -> None:
        """Take the next rows of the channel that was segmented, and of the labels."""

    def on_objects(self, batch: Batch) -> None:
        """Take objects that are complete."""

    def commit(self) -> None:
        """Make the file appear; of several, the one that stands for all last."""
        for file in reversed(self.files):
            file.commit()

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        for file in self.files:
            file.abort()


class Probabilities(Extra):
    """Class probabilities: one channel a class."""

    wants_probabilities = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pages = context.image_file("probabilities", np.float32, context.classes)
        self.files.append(self._pages)

    def on_band(
        self, plane: int, y0: int, probabilities: npt.NDArray[np.float32]
    ) -> None:
        """Write a band of each class."""
        for number, rows in enumerate(probabilities):
            self._pages.write(plane * len(self.context.classes) + number, y0, rows)


class Classes(Extra):
    """The likeliest class of each pixel."""

    wants_probabilities = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pages = context.image_file("classes", np.uint8)
        self.files.append(self._pages)

    def on_band(
        self, plane: int, y0: int, probabilities: npt.NDArray[np.float32]
    ) -> None:
        """Write a band."""
        self._pages.write(plane, y0, probabilities.argmax(axis=0).astype(np.uint8))


class Outlines(Extra):
    """A picture a plane; the first one stands for all of a stack."""

    wants_rows = True

    def on_plane(self, plane: int, statistics: Statistics) -> None:
        """Begin the picture of a plane."""
        path = self.context.path
        if plane:
            path = path.with_name(f"{path.stem}_{plane}{path.suffix}")
        limits = statistics.low, statistics.high
        self._picture = OutlinePicture(path, self.context.source.shape, limits)
        self.files.append(self._picture)

    def on_rows(
        self, image: npt.NDArray[np.generic], labels: npt.NDArray[np.uint32]
    ) -> None:
        """Draw rows."""
        self._picture.write(image, labels)


class Rois(Extra):
    """Outlines for Fiji."""

    wants_objects = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._set = RoiSet(context.path)
        self.files.append(self._set)

    def on_objects(self, batch: Batch) -> None:
        """Write objects."""
        channels = len(self.context.source.file_channels)
        self._set.add(Place.of(self.context.place(batch.plane), channels), batch)


class Detections(Extra):
    """Outlines and measurements for QuPath."""

    wants_objects = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._file = GeoJson(context.path, context.image)
        self.files.append(self._file)

    def on_objects(self, batch: Batch) -> None:
        """Write objects."""
        self._file.add(self.context.place(batch.plane), batch)


class Rows(Extra):
    """What is measured of every object."""

    wants_objects = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        writer = choose(TABLES, context.table_format, "format of tables")
        columns = (*column_names(context.channels), FROM)
        self._table = writer(context.path, columns)
        self.files.append(self._table)

    def on_objects(self, batch: Batch) -> None:
        """Write rows."""
        place = self.context.place(batch.plane)
        place_of_size = self.context.source.origin.pixel_size_from
        table = batch.table | {FROM: np.full(len(batch.ids), place_of_size)}
        self._table.add(self.context.image, place, batch.ids, table)


@dataclass(frozen=True)
class Kind:
    """What may be saved beside a label image."""

    suffix: str
    """End of its file name beside ``STEM.tif``; ``{format}``: that of tables."""
    make: type[Extra]


KINDS = {
    "classes": Kind("_classes.tif", Classes),
    "probabilities": Kind("_probabilities.tif", Probabilities),
    "outlines": Kind("_outlines.png", Outlines),
    "rois": Kind("_rois.zip", Rois),
    "geojson": Kind(".geojson", Detections),
    "table": Kind("_table.{format}", Rows),
}
"""Name for ``--save`` to kind."""


def check_installed(save: tuple[str, ...], table_format: str) -> None:
    """Refuse what needs a library that is not there, before any work is done.

    Raises
    ------
    ConfigError
        With the line that installs it.
    """
    if "table" in save and table_format == "parquet":
        optional("pyarrow.parquet", "parquet", "A Parquet table")
