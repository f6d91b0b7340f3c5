"""What predict writes beside the labels: files of each image, one table of all.

A kind is told what passes by (bands of probabilities, rows of labels, complete objects)
and writes its file on the way; none waits for a whole plane.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from cellunet.command_config import MEASURED
from cellunet.errors import (
    AnnotationError,
    ConfigError,
    InputError,
    OutputError,
    choose,
    optional,
)
from cellunet.imaging.measure import COLUMNS, IN_UNITS, Objects, column_names
from cellunet.io.axes import axes_by_name, matching_planes
from cellunet.io.files import writing
from cellunet.io.images import FOLDERS, open_image, suffix_of
from cellunet.io.label_tiff import ImageSpec, TiffSink
from cellunet.io.label_zarr import is_within
from cellunet.io.paths import folded, output_paths
from cellunet.io.source import Region
from cellunet.io.zarr_store import zarr_module
from cellunet.outputs.coco import CocoJson, is_coco_of_ours, join_coco
from cellunet.outputs.pictures import OutlinePicture
from cellunet.outputs.shapes import GeoJson, RoiSet, StackPosition
from cellunet.outputs.tables import (
    FROM,
    TABLES,
    VOLUME_COLUMNS,
    columns_of_image,
    is_ours,
    join,
    mean_intensities,
    refresh,
)
from cellunet.outputs.zarr_table import ROWS, ZarrTable, remove_table, table_path
from cellunet.tasks.linking import VolumeRows
from cellunet.tasks.predict.inputs import first_channel, open_as
from cellunet.tasks.predict.plane import band_rows, channel_bands
from cellunet.tasks.predict.settings import Memory

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

    from cellunet.command_config import PredictConfig
    from cellunet.imaging.measure import ObjectBatch, Table
    from cellunet.io.file_names import ChannelFile
    from cellunet.io.paths import Inputs
    from cellunet.io.scratch import Scratch
    from cellunet.io.source import Damage, Source, Statistics
    from cellunet.outputs.tables import TableSink
    from cellunet.tasks.predict.places import ImageColumns
    from cellunet.tasks.predict.plane import OnBand, Segmented
    from cellunet.tasks.predict.report import Reporter

IN_LABELS = "zarr-table"
"""Kind of table that lies in the store of the labels."""


@dataclass(frozen=True, kw_only=True)
class OutputContext:
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
    config: PredictConfig
    """What is to be saved."""
    columns: ImageColumns = field(default_factory=dict)
    """What a table says of the whole image."""

    def image_file(
        self, name: str, dtype: npt.DTypeLike, channels: tuple[str, ...] = ()
    ) -> TiffSink:
        """Return the file as one of the planes that the image has."""
        spec = ImageSpec.like(self.source, dtype, name=name, channels=channels)
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

    def in_full(self, batch: ObjectBatch) -> ObjectBatch:
        """Return objects with outlines and columns in pixels of full resolution."""
        height, width = self.source.origin.full_px
        if (height, width) == (1, 1):
            return batch
        factor = np.array((width, height))
        outlines = [
            [[ring * factor for ring in polygon] for polygon in outline]
            for outline in batch.outlines
        ]
        return replace(
            batch, outlines=outlines, table=table_in_full(batch.table, height, width)
        )


def table_in_full(table: Table, height: float, width: float) -> Table:
    """Return a table whose columns in pixels count those of full resolution.

    Parameters
    ----------
    table
        Of a pyramid's level.
    height, width
        Of its pixel, in pixels of full resolution. If they differ by more than
        rounded shapes of levels explain, lengths along no axis are not known.
    """
    square = math.isclose(height, width, rel_tol=1e-3)
    any_way = math.sqrt(height * width) if square else math.nan
    found = dict(table)
    for column in COLUMNS:
        name, _ = IN_UNITS.get(column.name, ("", ""))
        if name not in found:
            continue
        factor = height * width if column.power == 2 else any_way
        if column.along is not None:
            factor = (height, width)[column.along]
        scaled = found[name] * factor
        whole = found[name].dtype.kind == "i"
        found[name] = np.rint(scaled).astype(np.int64) if whole else scaled
    if "volume_vx" in found:
        voxels = found["volume_vx"] * (height * width)
        found["volume_vx"] = np.rint(voxels).astype(np.int64)
    return found


class OutputFile(Protocol):
    """A file being written."""

    def commit(self) -> None:
        """Make the complete file appear."""
        ...

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        ...


class OptionalOutput:
    """A kind of file beside a label image, while it is written.

    Parameters
    ----------
    context
        What it is made of.
    """

    wants_probabilities = False
    wants_rows = False
    wants_objects = False
    of_labels = False
    """Whether all that it holds is in the label image and the image."""

    def __init__(self, context: OutputContext) -> None:
        self.context = context
        self.files: list[OutputFile] = []

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

    def on_objects(self, batch: ObjectBatch) -> None:
        """Take objects that are complete."""

    def commit(self) -> None:
        """Make the file appear; of several, the one that stands for all last."""
        for file in reversed(self.files):
            file.commit()

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        for file in self.files:
            file.abort()


class Probabilities(OptionalOutput):
    """Class probabilities: one channel a class."""

    wants_probabilities = True

    def __init__(self, context: OutputContext) -> None:
        super().__init__(context)
        self._pages = context.image_file("probabilities", np.float32, context.classes)
        self.files.append(self._pages)

    def on_band(
        self, plane: int, y0: int, probabilities: npt.NDArray[np.float32]
    ) -> None:
        """Write a band of each class."""
        for number, rows in enumerate(probabilities):
            self._pages.write(plane * len(self.context.classes) + number, y0, rows)


class Classes(OptionalOutput):
    """The likeliest class of each pixel."""

    wants_probabilities = True

    def __init__(self, context: OutputContext) -> None:
        super().__init__(context)
        self._pages = context.image_file("classes", np.uint8)
        self.files.append(self._pages)

    def on_band(
        self, plane: int, y0: int, probabilities: npt.NDArray[np.float32]
    ) -> None:
        """Write a band."""
        self._pages.write(plane, y0, probabilities.argmax(axis=0).astype(np.uint8))


class Outlines(OptionalOutput):
    """A picture a plane; the first one stands for all of a stack."""

    wants_rows = True
    of_labels = True

    def on_plane(self, plane: int, statistics: Statistics) -> None:
        """Begin the picture of a plane."""
        path = picture_path(self.context.path, plane)
        limits = statistics.low, statistics.high
        self._picture = OutlinePicture(path, self.context.source.shape, limits)
        self.files.append(self._picture)

    def on_rows(
        self, image: npt.NDArray[np.generic], labels: npt.NDArray[np.uint32]
    ) -> None:
        """Draw rows."""
        self._picture.write(image, labels)


def picture_path(first: Path, plane: int) -> Path:
    """Return where the picture of a plane is, by where that of the first one is."""
    return first.with_name(f"{first.stem}_{plane}{first.suffix}") if plane else first


class Rois(OptionalOutput):
    """Outlines for Fiji."""

    wants_objects = True
    of_labels = True

    def __init__(self, context: OutputContext) -> None:
        super().__init__(context)
        self._set = RoiSet(context.path)
        self.files.append(self._set)

    def on_objects(self, batch: ObjectBatch) -> None:
        """Write objects."""
        source = self.context.source
        place = StackPosition.of(
            self.context.place(batch.plane),
            len(source.file_channels),
            source.origin.projected,
        )
        self._set.add(place, self.context.in_full(batch))


class Detections(OptionalOutput):
    """Outlines and measurements for QuPath."""

    wants_objects = True

    def __init__(self, context: OutputContext) -> None:
        super().__init__(context)
        self._file = GeoJson(context.path, context.image)
        self.files.append(self._file)

    def on_objects(self, batch: ObjectBatch) -> None:
        """Write objects."""
        self._file.add(self.context.place(batch.plane), self.context.in_full(batch))


class Masks(OptionalOutput):
    """Masks and scores for programs that read COCO."""

    wants_objects = True

    def __init__(self, context: OutputContext) -> None:
        super().__init__(context)
        source = context.source
        places = [context.place(n) for n in range(math.prod(source.plane_shape))]
        self._file = CocoJson(context.path, context.image, source.shape, places)
        self.files.append(self._file)

    def on_objects(self, batch: ObjectBatch) -> None:
        """Write objects."""
        self._file.add(batch)


class TableRows(OptionalOutput):
    """What is measured of every object."""

    wants_objects = True

    def writer(self) -> Callable[..., TableSink]:
        """Return what writes the table."""
        return choose(TABLES, self.context.config.table_format, "format of tables")

    def __init__(self, context: OutputContext) -> None:
        super().__init__(context)
        config, source = context.config, context.source
        self._detail = config.measure == "all"
        columns = [*column_names(context.channels, detail=self._detail), FROM]
        columns += context.columns
        self._linked = config.link_planes and "Z" in source.plane_axes
        self._stacks: dict[int | None, VolumeRows] = {}
        """By time, those of which planes have come and further ones may."""
        voxel = (*(source.pixel_size_um or (math.nan,)), source.z_step_um)
        self._voxel_um3 = math.prod(math.nan if n is None else n for n in voxel)
        columns += VOLUME_COLUMNS if self._linked else ()
        columns += ["frame"] * self._detail
        texts = [k for k, v in context.columns.items() if isinstance(v, str)]
        self._table = self.writer()(context.path, columns, texts)
        self.files.append(self._table)

    def on_objects(self, batch: ObjectBatch) -> None:
        """Write rows, those of linked planes when their stack is complete."""
        place = self.context.place(batch.plane)
        if not self._linked:
            self._add(place, batch.ids, batch.table)
            return
        time = place.get("t")
        # Where times run faster than Z, all stacks are open at once.
        if self.context.source.plane_axes.endswith("Z") and time not in self._stacks:
            self._end_stacks()
        rows = VolumeRows(self.context.channels, self._voxel_um3)
        self._stacks.setdefault(time, rows).add(place["z"], batch.ids, batch.table)

    def _end_stacks(self) -> None:
        for time, stack in self._stacks.items():
            ids, z, table = stack.joined()
            place = {} if time is None else {"t": time}
            # A row tells its own plane, so rows of each plane are written together.
            for plane in np.unique(z).tolist():
                own = z == plane
                rows = {name: values[own] for name, values in table.items()}
                self._add(place | {"z": plane}, ids[own], rows)
        self._stacks.clear()

    def _add(
        self, place: dict[str, int], ids: npt.NDArray[np.int64], table: Table
    ) -> None:
        origin = self.context.source.origin
        if origin.full_px != (1, 1):
            table = table_in_full(table, *origin.full_px)
        same = {FROM: origin.pixel_size_from, **self.context.columns}
        table = table | {k: np.full(len(ids), v) for k, v in same.items()}
        if self._detail:
            table["frame"] = np.full(len(ids), place.get("t", 0))
        self._table.add(self.context.image, place, ids, table)

    def commit(self) -> None:
        """Write what is left, and make the file appear."""
        self._end_stacks()
        super().commit()


class ZarrRows(TableRows):
    """The same rows in the OME-Zarr of the labels."""

    def writer(self) -> Callable[..., TableSink]:
        """Return what writes the table."""
        return ZarrTable


@dataclass(frozen=True)
class Join:
    """How the files of all images become one of the run."""

    name: str
    """Of that file; ``{format}``: that of tables."""
    what: str
    """What it is, in words."""
    is_ours: Callable[[Path], bool]
    """Whether a file with that name may be replaced."""
    join: Callable[[Sequence[Path], Path], None]


@dataclass(frozen=True)
class OutputKind:
    """What may be saved beside a label image."""

    suffix: str
    """End of its file name beside ``STEM.tif``; ``{format}``: that of tables."""
    make: type[OptionalOutput]
    join: Join | None = None
    """What makes one file of those of all images."""


OUTPUT_KINDS = {
    "classes": OutputKind("_classes.tif", Classes),
    "probabilities": OutputKind("_probabilities.tif", Probabilities),
    "outlines": OutputKind("_outlines.png", Outlines),
    "rois": OutputKind("_rois.zip", Rois),
    "geojson": OutputKind(".geojson", Detections),
    "coco": OutputKind(
        "_coco.json", Masks, Join("coco.json", "COCO file", is_coco_of_ours, join_coco)
    ),
    "table": OutputKind(
        "_table.{format}", TableRows, Join("table.{format}", "table", is_ours, join)
    ),
    IN_LABELS: OutputKind("", ZarrRows),
}
"""Name for ``--save`` to kind."""


def check_installed(save: tuple[str, ...], table_format: str) -> None:
    """Refuse what needs a library that is not there, before any work is done.

    Raises
    ------
    ConfigError
        With the line that installs it.
    """
    if IN_LABELS in save:
        zarr_module()
    if "table" in save and table_format == "parquet":
        optional("pyarrow.parquet", "parquet", "A Parquet table")


def suffix(kind: str, config: PredictConfig) -> str:
    """Return the end of the name of a kind of file beside ``STEM.tif``."""
    return OUTPUT_KINDS[kind].suffix.format(format=config.table_format)


def saved_kinds(config: PredictConfig) -> tuple[str, ...]:
    """Return the kinds of files beside each label image: all but the one report."""
    return tuple(kind for kind in config.save if kind in OUTPUT_KINDS)


def are_of_labels(kinds: Sequence[str]) -> bool:
    """Return whether all these kinds of files follow from labels and image alone."""
    return all(k in OUTPUT_KINDS and OUTPUT_KINDS[k].make.of_labels for k in kinds)


def note_on_recomputing(kinds: Sequence[str]) -> str:
    """Return why an image whose labels are there was segmented again."""
    named = ", ".join(kind for kind in kinds if not are_of_labels([kind]))
    return (
        f"segmented again: --save {named} tells what a label image does not hold "
        "(probabilities, confidence, or what the report shows)"
    )


def saved(made: Mapping[str, Any] | None, table_format: str) -> set[str]:
    """Return the kinds of files that were written with labels of this provenance."""
    settings = (made or {}).get("settings") or {}
    kinds = set(settings.get("save", ()))
    # A table of the other format is another file.
    same = settings.get("table_format") == table_format
    return kinds if same else kinds - {"table"}


def saved_together(made: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a result that gets further files: they name them all."""
    together = {**made, **asked, "save": sorted({*made["save"], *asked["save"]})}
    if not MEASURED & set(asked["save"]):
        together["measure"] = made["measure"]
    return together


def read_through(source: Source, config: PredictConfig) -> int:
    """Return through how many sources an image is read at once.

    That is itself, and each of its channels if there are some and they are measured.
    """
    measured = any(
        OUTPUT_KINDS[kind].make.wants_objects for kind in saved_kinds(config)
    )
    channels = len(source.file_channels)
    return 1 + channels if measured and not config.gray and channels > 1 else 1


def optional_output_paths(
    output: Path, config: PredictConfig, labels: Path | None = None
) -> dict[str, Path]:
    """Return the path of each file that is to lie beside a label image.

    Parameters
    ----------
    output
        The label image, or what files are named after in its place.
    config
        What is to be saved.
    labels
        The label image, if it lies elsewhere.
    """
    paths = {
        kind: output.with_name(output.stem + suffix(kind, config))
        for kind in saved_kinds(config)
    }
    if IN_LABELS in paths:
        if suffix_of(labels or output) not in FOLDERS:
            raise ConfigError(
                f"{output} is no OME-Zarr, so it holds no table.",
                hint="Save the table in a file of its own: --save table, without "
                f"{IN_LABELS}; with --like, --save table replaces it.",
            )
        paths[IN_LABELS] = table_path(labels or output)
    return paths


def remove_files_of(
    made: Mapping[str, Any], output: Path, labels: Path, out: Path
) -> None:
    """Remove what was written with labels that others are about to replace.

    That is also what was joined of them and of other images, and the report.

    A run that ends in between leaves files missing, which the next one writes; files of
    the earlier labels would be taken for those of the new ones.

    Parameters
    ----------
    made
        The provenance of the labels, which names the kinds of files.
    output
        What they are named after.
    labels
        The label image, which is still there.
    out
        Folder of the run.

    Raises
    ------
    OutputError
        If one cannot be removed.
    """
    if not is_within(labels):
        _remove(_joined_of(made, output, out))
    settings = made.get("settings") or {}
    written = settings.get("table_format", "csv")
    for name in settings.get("save", ()):
        if is_within(labels):
            # Their other files are in the --out of that call, wherever it was.
            if name == IN_LABELS:
                remove_table(table_path(labels))
            continue
        kind = OUTPUT_KINDS.get(name)
        if kind is None or not kind.suffix:
            continue
        first = output.with_name(output.stem + kind.suffix.format(format=written))
        planes = _planes(labels) if kind.make is Outlines else 1
        paths = [picture_path(first, plane) for plane in range(planes)]
        if kind.make is TableRows:
            # One of the other format may be of these labels, too: the last is named.
            others = (first.with_suffix(f".{other}") for other in TABLES)
            paths += [p for p in others if p != first and p.exists() and is_ours(p)]
        _remove(paths)


def _joined_of(made: Mapping[str, Any], output: Path, out: Path) -> Iterator[Path]:
    """Yield the files of a whole run that tell of labels of this provenance."""
    record = record_path(out, output)
    if record.exists():
        yield from (out / PAGE, record)
    for name in (made.get("settings") or {}).get("save", ()):
        join = OUTPUT_KINDS[name].join if name in OUTPUT_KINDS else None
        if join is not None:
            paths = {out / join.name.format(format=ending) for ending in TABLES}
            yield from (p for p in paths if p.exists() and join.is_ours(p))


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with writing(path):
            path.unlink(missing_ok=True)


def record_path(out: Path, output: Path) -> Path:
    """Return where what the report shows of a result is kept."""
    below = output.relative_to(out)
    return out / RECORDS / below.with_name(below.name + ".json")


def _planes(labels: Path) -> int:
    with open_image(labels) as source:
        return math.prod(source.plane_shape)


def refuse_clashes(
    found: Inputs, outputs: Mapping[Path, Path], out: Path, config: PredictConfig
) -> None:
    """Refuse inputs of which one's extra would be a file of another.

    Parameters
    ----------
    found
        The images.
    outputs
        Image to label image.
    out
        Folder of the results.
    config
        What is to be saved.

    Raises
    ------
    InputError
        If two images would write one file, or a file would replace an image.
    """
    taken = {folded(path): image for image, path in outputs.items()}
    for kind in saved_kinds(config):
        if kind == IN_LABELS:
            continue
        extras = output_paths(found.files, found.base, out, suffix(kind, config))
        for image, path in extras.items():
            other = taken.setdefault(folded(path), image)
            if other != image:
                raise InputError(
                    f"{other} and {image} would both write {path}.",
                    hint=f"Rename one, or leave out --save {kind}.",
                )


class OptionalOutputs:
    """The files of one image beside its labels, while they are written.

    As a context manager it leaves nothing half done behind.

    Parameters
    ----------
    output
        Path of the label image.
    source
        The image.
    image
        Its path below the common folder of the run, with ``/`` between folders.
    config
        What is to be saved.
    classes
        Classes of the model.
    labels
        The label image, if it is not at `output`.
    mark
        What the channel of the image's file is called, where others are files too.
    others
        Files of further channels, which are measured too.
    scratch
        Room for what all measurements need, if they are wanted.
    intensities
        Whether those of the image are measured.
    columns
        What tables say of the whole image.
    there
        Kinds of files that are there and stay as they are.
    """

    def __init__(  # noqa: PLR0913
        self,
        output: Path,
        source: Source,
        image: str,
        config: PredictConfig,
        classes: tuple[str, ...],
        *,
        labels: Path | None = None,
        mark: str = "",
        others: Sequence[ChannelFile] = (),
        scratch: Scratch | None = None,
        intensities: bool = True,
        columns: ImageColumns | None = None,
        there: Collection[str] = (),
    ) -> None:
        self._source, self._mark, self._others = source, mark, others
        self._detail = scratch if config.measure == "all" else None
        self._intensities = intensities
        self.in_pieces = 0
        """Objects so far that are in several pieces."""
        self._stack = contextlib.ExitStack()
        kinds = {
            kind: path
            for kind, path in optional_output_paths(output, config, labels).items()
            if kind not in there
        }
        self._measures = any(OUTPUT_KINDS[k].make.wants_objects for k in kinds)
        self._extras: list[OptionalOutput] = []
        with self._stack:
            self._names, self._channels = self._open_channels(config)
            for kind, path in kinds.items():
                context = OutputContext(
                    path=path,
                    image=image,
                    source=source,
                    classes=classes,
                    channels=self._names,
                    config=config,
                    columns=columns or {},
                )
                self._extras.append(OUTPUT_KINDS[kind].make(context))
                self._stack.callback(self._extras[-1].abort)
            # All went well: what was opened stays open until `__exit__`.
            self._stack = self._stack.pop_all()

    def _open_channels(
        self, config: PredictConfig
    ) -> tuple[tuple[str, ...], list[Source]]:
        """Return the name and a source of each channel that is measured."""
        if not self._measures or not self._intensities:
            return (), []
        opened = self._channels_of(self._source, config)
        marks = [self._mark] * len(opened)
        for file in self._others:
            other = self._stack.enter_context(
                open_as(file.path, config, first_channel(config))
            )
            _refuse_other_planes(self._source, other)
            further = self._channels_of(other, config)
            opened += further
            marks += [file.name or file.mark] * len(further)
        names = [source.channel_names[0] for source in opened]
        if self._others:
            # A number says nothing where each file begins at 0.
            names = [
                mark if mark and name.isdecimal() else name
                for name, mark in zip(names, marks, strict=True)
            ]
        return tuple(names), opened

    def _channels_of(self, source: Source, config: PredictConfig) -> list[Source]:
        """Return a source for each channel of a file."""
        if config.gray or len(source.file_channels) == 1:
            return [source]
        return [
            self._stack.enter_context(
                open_as(
                    source.path,
                    config,
                    channel=str(number),
                    image=source.origin.image or None,
                )
            )
            for number in range(len(source.file_channels))
        ]

    def on_band(self, plane: int) -> OnBand | None:
        """Return what takes the bands of probabilities of a plane, if any does."""
        takers = [e for e in self._extras if e.wants_probabilities]
        if not takers:
            return None

        def take(y0: int, probabilities: npt.NDArray[np.float32]) -> None:
            for extra in takers:
                extra.on_band(plane, y0, probabilities)

        return take

    def labels(
        self,
        plane: int,
        segmented: Segmented | LabelPlane,
        numbers: npt.NDArray[np.int64] | None = None,
    ) -> Iterator[npt.NDArray[np.uint32]]:
        """Pass the labels of a plane on, and write what follows from them.

        Planes come in the order of their bands of probabilities. What is written calls
        the objects by their `numbers`, if there are others than their labels.
        """
        if segmented.statistics is not None:
            for extra in self._extras:
                extra.on_plane(plane, segmented.statistics)
        objects = None
        if self._measures:
            objects = Objects(
                plane,
                self._source.shape,
                segmented.areas,
                channels=self._names,
                pixel_size_um=self._source.pixel_size_um,
                detail=self._detail,
            )
        y0 = 0
        for labels in segmented.bands():
            yield labels
            region = Region(plane, y0, y0 + len(labels), 0, self._source.shape[1])
            self._on_rows(region, labels)
            if objects is not None:
                sure = segmented.evidence
                evidence = None if sure is None else sure(region.y0, region.y1)
                images = [channel.read(region)[0] for channel in self._channels]
                batch = objects.add(labels, images, evidence)
                self.in_pieces += sum(len(o) > 1 for o in batch.outlines)
                if numbers is not None:
                    batch = replace(batch, ids=numbers[batch.ids])
                for extra in self._extras:
                    extra.on_objects(batch)
            y0 += len(labels)

    def _on_rows(self, region: Region, labels: npt.NDArray[np.uint32]) -> None:
        takers = [e for e in self._extras if e.wants_rows]
        if takers:
            image = self._source.read(region)[0]
            for extra in takers:
                extra.on_rows(image, labels)

    @property
    def damaged(self) -> tuple[Damage, ...]:
        """What could not be read of any channel so far."""
        sources = (self._source, *self._channels)
        return tuple(sorted({d for s in sources for d in s.damaged}))

    def commit(self) -> None:
        """Make the files appear, each only when it is complete."""
        for extra in self._extras:
            extra.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


@dataclass(frozen=True)
class LabelPlane:
    """One plane of a label image, its objects numbered from 1 without gaps."""

    ids: npt.NDArray[np.int64]
    """The number of each object in the file; 0 first, for the background."""
    areas: npt.NDArray[np.int64]
    """Pixels of objects 1, 2, ..."""
    bands: Callable[[], Iterator[npt.NDArray[np.uint32]]]
    """Full-width rows of labels, top to bottom."""
    statistics: Statistics | None = None
    evidence: None = None


def label_planes(source: Source) -> list[LabelPlane]:
    """Return the planes of a label image, the pixels of all objects counted.

    Raises
    ------
    AnnotationError
        If its values are no labels.
    """
    return [_label_plane(source, n) for n in range(math.prod(source.plane_shape))]


def _label_plane(source: Source, number: int) -> LabelPlane:
    """Count the pixels of all objects of a plane."""
    rows = band_rows(source.shape[1], Memory())

    parts = []
    for (band,) in channel_bands(source, number, rows):
        _refuse_no_labels(source.path, band)
        parts.append(np.stack(np.unique(band.astype(np.int64), return_counts=True)))
    every, counts = np.concatenate(parts, axis=1)
    ids, place = np.unique(np.append(0, every), return_inverse=True)
    areas = np.bincount(place[1:], counts, minlength=len(ids)).astype(np.int64)

    def bands() -> Iterator[npt.NDArray[np.uint32]]:
        for (band,) in channel_bands(source, number, rows):
            yield np.searchsorted(ids, band).astype(np.uint32)

    return LabelPlane(ids, areas[1:], bands)


def _refuse_no_labels(path: Path, band: npt.NDArray[Any]) -> None:
    fits = band.dtype.kind in "bui" or bool((band == np.rint(band)).all())
    if not fits or band.min() < 0:
        raise AnnotationError(
            f"{path} holds {'fractions' if not fits else 'values below 0'}: it is no "
            "label image.",
            hint="Drawings, masks and outlines become label images with make-labels.",
        )


def note_on_planes(source: Source, config: PredictConfig) -> tuple[str, ...]:
    """Return what to know of a count of several Z planes."""
    axes = source.plane_axes
    planes = source.plane_shape[axes.index("Z")] if "Z" in axes else 1
    if planes == 1:
        count = math.prod(source.plane_shape)
        if count == 1 or not config.link_planes:
            return ()
        how = (
            " (--pages z reads pages without a name as Z)"
            if source.origin.pages
            else ""
        )
        return (f"none linked: its {count} planes are times, not Z{how}",)
    if config.link_planes:
        return (f"counted in {planes} planes, linked",)
    return (
        f"counted in {planes} planes, not linked (--link-planes counts an object of "
        "several planes once)",
    )


def _refuse_other_planes(source: Source, other: Source) -> None:
    """Refuse a file of another size than the one whose objects are measured."""
    planes = [(axes_by_name(s), s.plane_shape) for s in (source, other)]
    order = matching_planes(*planes[0], *planes[1])
    alike = (source.shape, source.plane_shape) == (other.shape, other.plane_shape)
    if not alike or order != sorted(order or ()):
        sizes = [
            f"{' x '.join(map(str, (*s.plane_shape, *s.shape)))} px{axes_in_words(s)}"
            for s in (other, source)
        ]
        raise InputError(
            f"{other.path} is {sizes[0]}, but {source.path} is {sizes[1]}.",
            hint="Images that are measured together show the same field and planes.",
        )


def axes_in_words(source: Source) -> str:
    """Return the axes of several planes, for the message of an error."""
    return f" ({source.plane_axes}YX)" if len(source.plane_axes) > 1 else ""


def joined_paths(out: Path, config: PredictConfig) -> dict[str, Path]:
    """Return where the files of a whole run are to appear, by the kind that is saved.

    Raises
    ------
    OutputError
        If something else is there, unless it may be replaced.
    """
    found = {}
    for kind in saved_kinds(config):
        join = OUTPUT_KINDS[kind].join
        if join is None:
            continue
        path = out / join.name.format(format=config.table_format)
        if path.exists() and not config.overwrite and not join.is_ours(path):
            raise OutputError(
                f"{path} exists and is no {join.what} of cellunet.",
                hint="Choose another --out, or replace it with --overwrite.",
            )
        found[kind] = path
    return found


def _tables(output: Path, labels: Path, config: PredictConfig) -> list[Path]:
    """Return the files of rows of an image, of the kinds that are saved."""
    paths = optional_output_paths(output, config, labels)
    own = [paths["table"]] if "table" in paths else []
    return own + ([paths[IN_LABELS] / ROWS] if IN_LABELS in paths else [])


def columns_beside(labels: Path, config: PredictConfig) -> list[str]:
    """Return what a table beside labels says of the whole image, or one in them."""
    tables = [path for path in _tables(labels, labels, config) if path.exists()]
    return columns_of_image(tables[0]) if tables else []


def refresh_tables(
    output: Path, labels: Path, config: PredictConfig, columns: ImageColumns
) -> None:
    """Have the tables of a finished image say what is known of it now.

    Raises
    ------
    OutputError
        If one cannot be read or written.
    """
    for path in _tables(output, labels, config):
        refresh(path, columns)


def intensities_of(
    output: Path, labels: Path, config: PredictConfig
) -> dict[str, tuple[float, int]]:
    """Return sum and number of the objects' mean intensities, by channel.

    Nothing where no table is beside the labels, or in them.
    """
    tables = [path for path in _tables(output, labels, config) if path.exists()]
    return mean_intensities(tables[0]) if tables else {}


def write_joined(
    paths: Mapping[str, Path],
    outputs: Sequence[Path],
    config: PredictConfig,
) -> dict[str, str]:
    """Join the files of the images that are finished, those of earlier calls too.

    Parameters
    ----------
    paths
        From `joined_paths`.
    outputs
        Their label images.
    config
        What was saved.

    Returns
    -------
    dict
        Kind to the joined file; nothing if there is nothing to join.

    Raises
    ------
    OutputError
        If one cannot be written.
    """
    written = {}
    for kind, path in paths.items():
        join = OUTPUT_KINDS[kind].join
        if join is not None and outputs:
            parts = [optional_output_paths(o, config)[kind] for o in outputs]
            join.join(parts, path)
            written[kind] = str(path)
    return written


def reporter_for(out: Path, config: PredictConfig) -> Reporter | None:
    """Return what makes the report of a folder; None if none is asked for."""
    if "report" not in config.save:
        return None
    # Here, because most runs make no report, and it brings charts.
    from cellunet.tasks.predict.report import Reporter

    return Reporter(out, config)


PAGE = "report.html"
"""The report of a run, in the folder of its results."""

RECORDS = "report-data"
"""Folder of one record per image, beside the page. An image that a rerun finds finished
is shown from its record; without it the image is segmented again."""
