"""Measure the objects of label images of any origin, on any images of their size."""

from __future__ import annotations

import contextlib
import functools
import math
import shlex
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet import __version__
from cellunet.annotations.pixels import refuse_picture
from cellunet.bugs import telling_bugs
from cellunet.command_config import ALL_IMAGES
from cellunet.config import NormalizationConfig
from cellunet.errors import (
    AnnotationError,
    BugError,
    CellunetError,
    ConfigError,
    ImageReadError,
    InputError,
    some,
)
from cellunet.imaging.measure import equivalent_diameters
from cellunet.imaging.normalize import measure_channels
from cellunet.io.axes import axes_by_name, matching_planes
from cellunet.io.files import at_work, writing
from cellunet.io.images import create_labels, names_of_images, open_image
from cellunet.io.label_tiff import ImageSpec
from cellunet.io.label_zarr import consolidated_at_end
from cellunet.io.microscopes import scene_paths
from cellunet.io.paths import (
    below,
    counted,
    file_key,
    find_inputs,
    output_paths,
)
from cellunet.io.scratch import MEMORY_BYTES, Scratch
from cellunet.io.source import Region, Statistics
from cellunet.io.zarr_store import is_zarr, size_and_time
from cellunet.outputs.pictures import Thumbnail
from cellunet.outputs.report import DIAMETER_STEP_PX, Histogram, ImageSummary
from cellunet.outputs.tables import is_linked
from cellunet.progress import silent_track
from cellunet.tasks.label_images import (
    images_of,
    label_files,
    made_of,
    refuse_more_labels,
)
from cellunet.tasks.linking import frames_of, link_planes, overlaps
from cellunet.tasks.predict.inputs import (
    ImageResult,
    damage_warnings,
    first_channel,
    open_as,
)
from cellunet.tasks.predict.outputs import (
    LabelPlane,
    OptionalOutputs,
    axes_in_words,
    check_installed,
    joined_paths,
    label_planes,
    note_on_planes,
    optional_output_paths,
    refresh_tables,
    reporter_for,
    write_joined,
)
from cellunet.tasks.predict.places import PlacedImage, Placing
from cellunet.tasks.predict.plane import band_rows, channel_bands
from cellunet.tasks.predict.settings import Memory

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from cellunet.command_config import PredictConfig
    from cellunet.io.file_names import ChannelFile
    from cellunet.io.paths import Inputs
    from cellunet.io.source import Damage, Sink, Source
    from cellunet.progress import Track
    from cellunet.tasks.label_images import Made
    from cellunet.tasks.predict.places import ImageColumns
    from cellunet.tasks.predict.report import Reporter

MOST_NAMED = 3

MANY_VALUES = 30
"""Fewer values may be classes or a mask, in as many pieces as a picture."""

DARK = Statistics(low=0.0, high=1.0, mean=0.0, std=0.0, noise=0.0, count=1)
"""Of a picture of outlines without an image behind them."""


@dataclass(frozen=True, kw_only=True)
class MeasuredLabels:
    """What became of one label image."""

    labels: str
    """As it was named or found."""
    images: tuple[str, ...] = ()
    """The files whose intensities were measured."""
    objects: int | None = None
    """Objects in all planes; None if it failed or was skipped."""
    message: str = ""
    """Why it failed."""
    bug: bool = False
    """Whether it failed by a fault of cellunet's or of a library."""
    skipped: bool = False
    """Whether all its files were there, and are left as they are."""
    notes: tuple[str, ...] = ()
    """What to know of the objects, in sentences."""
    files: tuple[str, ...] = ()
    """What was written."""
    damaged: tuple[Damage, ...] = ()
    """What could not be read of the images, and was taken as zeros."""
    warnings: tuple[str, ...] = ()
    """The same in words."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return vars(self) | {
            "images": list(self.images),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "files": list(self.files),
            "damaged": [vars(damage) for damage in self.damaged],
        }


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What became of all label images."""

    images: tuple[MeasuredLabels, ...]
    """In the order of the labels."""
    seconds: float
    """Time that the call took."""
    table: str | None = None
    """Table of the objects of all, if tables are saved."""
    coco: str | None = None
    """COCO file of the objects of all, if it is saved."""
    report: str | None = None
    """The page that shows it all, if one was asked for."""
    notes: tuple[str, ...] = ()
    """What was found and left out, in sentences."""

    @property
    def failed(self) -> tuple[MeasuredLabels, ...]:
        """Those that could not be measured, each with its message."""
        return tuple(i for i in self.images if i.message)

    @property
    def damaged(self) -> tuple[MeasuredLabels, ...]:
        """Those measured with zeros in place of what is lost."""
        return tuple(i for i in self.images if i.damaged)

    @property
    def bugs(self) -> int:
        """How many failed by a fault that is not theirs."""
        return sum(i.bug for i in self.images)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        plain = dict(vars(self)) | {"notes": list(self.notes)}
        plain["images"] = [image.to_dict() for image in self.images]
        return plain


def measure(
    labels: str,
    images: Sequence[str],
    out: Path,
    *,
    config: PredictConfig,
    track: Track = silent_track,
) -> Measured:
    """Measure the objects of label images.

    Parameters
    ----------
    labels
        A label image, a folder of them, or a pattern.
    images
        Files, folders or patterns of the images; of each file all channels are
        measured. None: shapes alone are.
    out
        Folder of the results.
    config
        How images are read, what is measured, and what is written.
    track
        Progress over label images.

    Raises
    ------
    CellunetError
        If nothing can be done at all. What concerns one label image is in its result.
    """
    begin = time.perf_counter()
    check_installed(config.save, config.table_format)
    if config.image == ALL_IMAGES:
        raise ConfigError(
            "A label image is measured on one image of each file, not on all.",
            hint="Choose one with --image N or NAME, and an --out for each.",
        )
    placing = Placing(config)
    found = find_inputs([labels], include=("thumbs", "projections", "labels"))
    files, beside = label_files(found)
    given = find_inputs(images, exclude=out) if images else None
    if given is not None:
        refuse_more_labels(files, given)
    made = {path: made_of(path) for path in files}
    belong, left = images_of(found, made, given, placing.pattern)
    outputs = output_paths(files, found.base, out)
    joined = joined_paths(out, config)
    reporter = reporter_for(out, config)
    job = _Job(config, reporter, needs=given is not None)
    results = [
        MeasuredLabels(labels=what, message=why)
        for what, why in (*found.missing, *(given.missing if given else ()))
    ]
    shown = [_shown(result) for result in results]
    names = [below(path, found.base).as_posix() for path in files]
    places = placing.columns_of(
        [
            _placed(path, name, belong.get(path, []), config, made[path])
            for path, name in zip(files, names, strict=True)
        ]
    )
    targets = [
        _Target(path, name, outputs[path], made[path], columns)
        for path, name, columns in zip(files, names, places.columns, strict=True)
    ]
    inputs = [*found.files, *(given.files if given else ())]
    _refuse_inputs(inputs, [*joined.values(), *_written(targets, config)])
    folders = {target.output.parent for target in targets}
    with at_work(out, folders), consolidated_at_end():
        for target in track(targets, "Measuring", len(files)):
            path = target.path
            start = time.perf_counter()
            results.append(job.measured(target, belong.get(path)))
            seconds = time.perf_counter() - start
            shown.append(_shown(results[-1], target, seconds))
        done = [r.output for r in shown if r.output is not None]
        written = write_joined(joined, list(map(Path, done)), config)
        seconds = time.perf_counter() - begin
        report = None
        if reporter is not None:
            run = reporter.measured_run(config, shown, seconds)
            report = reporter.write(run, shown)
    return Measured(
        images=tuple(results),
        seconds=seconds,
        table=written.get("table"),
        coco=written.get("coco"),
        report=report,
        notes=(
            *_on_left(left),
            *_on_beside(beside),
            *_on_skipped(results),
            *_on_found(found),
            *(_on_found(given) if given else ()),
            *places.notes,
            *places.warnings,
        ),
    )


def _placed(
    labels: Path,
    name: str,
    images: Sequence[ChannelFile],
    config: PredictConfig,
    made: Made,
) -> PlacedImage:
    """Return what columns are found by: paths of the images, or of the labels."""
    made_of, settings = made
    own = [image.path for image in images] or [labels.with_name(made_of or labels.name)]
    image = config.image
    if made_of == own[0].name:
        image = image or settings.get("image")
    return PlacedImage(own[0], name, image, (labels, *own[1:]))


def _shown(
    result: MeasuredLabels, target: _Target | None = None, seconds: float = 0.0
) -> ImageResult:
    """Return what a report is told of a label image."""
    done = not result.message
    return ImageResult(
        input=result.labels,
        output=str(target.output) if target and done else None,
        columns=target.columns if target else {},
        status="skipped" if result.skipped else "done" if done else "failed",
        objects=result.objects,
        seconds=seconds,
        message=result.message,
    )


@dataclass(frozen=True)
class _Target:
    path: Path
    name: str
    output: Path
    made: Made
    columns: ImageColumns


class _Job:
    """What is done with each label image.

    Parameters
    ----------
    config
        How images are read, what is measured, and what is written.
    reporter
        The report of all, if one is made.
    needs
        Whether each needs an image.
    """

    def __init__(
        self, config: PredictConfig, reporter: Reporter | None, *, needs: bool
    ) -> None:
        self._config, self._reporter, self._needs = config, reporter, needs

    def measured(
        self, target: _Target, images: list[ChannelFile] | None
    ) -> MeasuredLabels:
        """Measure one label image, or say why not."""
        try:
            with telling_bugs(target.path), contextlib.ExitStack() as stack:
                if self._needs and not images:
                    raise InputError(
                        f"No image belongs to {target.path}.",
                        hint="They are matched by name: a.tif and a_masks.tif, or "
                        "A01_w1.tif and A01_w2.tif. Folders whose names stand above "
                        "labels and above images are never mixed. A single label image "
                        "takes all images if its name is that of none.",
                    )
                there = self._there(target, images or ())
                if there and self._finished(target, there):
                    return MeasuredLabels(
                        labels=str(target.path),
                        skipped=True,
                    )
                return self._write(target, images or [], there, stack)
        except (CellunetError, MemoryError) as error:
            message = str(error)
            if isinstance(error, MemoryError):
                message = (
                    f"{target.path} does not fit into memory. Measure it on a machine "
                    "with more, or in parts."
                )
            return MeasuredLabels(
                labels=str(target.path),
                images=_paths(images or ()),
                message=message,
                bug=isinstance(error, BugError),
            )

    def _finished(self, target: _Target, there: Collection[str]) -> bool:
        """Return whether nothing is missing of what is to be saved."""
        reporter = self._reporter
        return len(there) == len(
            optional_output_paths(target.output, self._config)
        ) and (reporter is None or reporter.has(target.output, {}))

    def _there(self, target: _Target, images: Sequence[ChannelFile]) -> Collection[str]:
        """Return the kinds of files that are there and stay.

        What they say of samples is so afterwards.

        Raises
        ------
        InputError
            If labels or an image changed since.
        """
        config = self._config
        paths = optional_output_paths(target.output, config)
        there = {kind: path for kind, path in paths.items() if path.exists()}
        if config.overwrite or not there:
            return ()
        other = linked = "table" in there and is_linked(there["table"])
        if config.link_planes:
            # Whether and how they were linked, the other files do not tell.
            known = linked and len(there) == len(paths)
            other = not known and self._has_planes(target.path)
        if other:
            _refuse_existing([*there.values()], config)
        read = [target.path, *(image.path for image in images)]
        newest = max(map(_changed_ns, read))
        if newest > min(path.stat().st_mtime_ns for path in there.values()):
            raise InputError(
                f"{target.path}, or an image of it, changed after it was measured.",
                hint="Measure it anew: --overwrite.",
            )
        if "table" in there:
            refresh_tables(target.output, target.output, config, target.columns)
        return there

    def _write(
        self,
        target: _Target,
        images: list[ChannelFile],
        there: Collection[str],
        stack: contextlib.ExitStack,
    ) -> MeasuredLabels:
        """Write what is measured, but for the kinds of files that are there."""
        begin, config = time.perf_counter(), self._config
        labels = stack.enter_context(self._labels(target.path))
        source = labels
        if images:
            name, made = target.made
            image = config.image
            if name == images[0].path.name:
                # What is known of the file that was segmented says nothing of others.
                image = image or made.get("image")
                config = config.replace(level=config.level or made.get("level", 0))
            _refuse_unknown_scene(target.path, images[0].path, image)
            source = stack.enter_context(
                open_as(images[0].path, config, first_channel(config), image=image)
            )
        order = _planes_of(labels, source)
        counted = label_planes(labels)
        odd = _on_intensities(target.path, counted)
        planes = [counted[number] for number in order]
        numbers = _Numbers(planes, frames_of(source), linked=config.link_planes)
        kinds = optional_output_paths(target.output, config)
        paths = [path for kind, path in kinds.items() if kind not in there]
        paths += [target.output] * numbers.new
        _refuse_existing(paths, config)
        with writing(target.output):
            target.output.parent.mkdir(parents=True, exist_ok=True)
        picture = None
        if self._reporter is not None:
            picture = _Picture(source, planes, seen=bool(images))
        outputs = stack.enter_context(
            OptionalOutputs(
                target.output,
                source,
                target.name,
                config,
                (),
                mark=images[0].name or images[0].mark if images else "",
                others=images[1:],
                scratch=stack.enter_context(Scratch(target.output, MEMORY_BYTES)),
                intensities=bool(images),
                columns=target.columns,
                there=there,
            )
        )
        alone = numbers.new and _on_grid_of_labels(target.output, source, order)
        sink = stack.enter_context(numbers.sink(target, labels if alone else source))
        for number, plane in enumerate(planes):
            y0, own = 0, numbers.of[number]
            for rows in outputs.labels(number, plane, own):
                if sink is not None:
                    sink.write(number, y0, own[rows].astype(numbers.dtype))
                if picture is not None:
                    picture.add(number, y0, rows)
                y0 += len(rows)
        if sink is not None:
            sink.commit()
        outputs.commit()
        notes = note_on_planes(source, config) + numbers.notes(target.output)
        notes += odd + _on_pieces(outputs.in_pieces) + _on_folders(images)
        lost = damage_warnings(outputs.damaged)
        if picture is not None and self._reporter is not None:
            summary = picture.summary(numbers.count, time.perf_counter() - begin, notes)
            self._reporter.keep(target.output, {}, replace(summary, warnings=lost))
        return MeasuredLabels(
            labels=str(target.path),
            images=_paths(images),
            objects=numbers.count,
            notes=notes,
            warnings=lost,
            files=tuple(map(str, paths)),
            damaged=outputs.damaged,
        )

    def _has_planes(self, path: Path) -> bool:
        with self._labels(path) as source:
            return math.prod(source.plane_shape) > 1

    def _labels(self, path: Path) -> Source:
        """Open the labels, of a file of several images those of the one asked for."""
        image = self._config.image
        several = image is not None and len(names_of_images(path)) > 1
        pages = self._config.pages
        opened = functools.partial(
            open_image,
            path,
            image=image if several else None,
            pages=None if pages == "channels" else pages,
        )
        try:
            return opened()
        except ImageReadError:
            # Options that choose a channel are of the images.
            with contextlib.suppress(ImageReadError), opened(channel="0") as source:
                raise InputError(
                    f"{path} has the channels {', '.join(source.file_channels)}; a "
                    "label image has one.",
                    hint="Save each channel of labels as a file of its own. Drawings "
                    "in color are made into label images, in DIR/labels, by: cellunet "
                    f"make-labels {shlex.quote(str(path))} --out DIR.",
                ) from None
            raise


class _Numbers:
    """What each object is called, over the planes of each stack if they are linked.

    Parameters
    ----------
    planes
        All planes.
    frames
        Which of them are a stack, in order of Z.
    linked
        Whether objects go on over planes: those of one number, or, where planes number
        their objects anew, those that overlap.
    """

    def __init__(
        self,
        planes: Sequence[LabelPlane],
        frames: Sequence[Sequence[int]],
        *,
        linked: bool,
    ) -> None:
        self._linked = linked and any(len(frame) > 1 for frame in frames)
        self.new = linked and not _go_on(planes, frames)
        """Whether they are none of the label image's."""
        self.of = link_planes(planes, frames) if self.new else [p.ids for p in planes]
        """By plane and object from 1; 0 first, for the background."""
        named = [np.concatenate([self.of[n][1:] for n in frame]) for frame in frames]
        self.count = sum(len(np.unique(own) if linked else own) for own in named)
        most = max((int(own.max(initial=0)) for own in self.of), default=0)
        self.dtype = np.uint16 if most <= np.iinfo(np.uint16).max else np.uint32

    def sink(
        self, target: _Target, grid: Source
    ) -> contextlib.AbstractContextManager[Sink | None]:
        """Return where labels of these numbers are written, None if none are.

        They have the axes, and the size of a pixel, of `grid`.
        """
        if not self.new:
            return contextlib.nullcontext()
        provenance = {
            "cellunet": __version__,
            "settings": {"link_planes": True},
            "input": {"name": target.path.name},
        }
        spec = ImageSpec.like(grid, self.dtype, provenance=provenance)
        return create_labels(target.output, spec)

    def notes(self, output: Path) -> tuple[str, ...]:
        """Return how planes were linked, in a sentence, if they were."""
        if self.new:
            return (f"linked by overlap; the new numbers are those of {output}",)
        return ("linked by the numbers of the labels",) * self._linked


def _go_on(planes: Sequence[LabelPlane], frames: Sequence[Sequence[int]]) -> bool:
    """Return whether numbers go on over planes, and do not begin anew in each."""
    alike = over = apart = 0
    for frame in frames:
        for lower, upper in pairwise(frame):
            first, second = planes[lower], planes[upper]
            alike += len(np.intersect1d(first.ids[1:], second.ids[1:]))
            a, b, _ = overlaps(first, second)
            same = int(np.count_nonzero(first.ids[a] == second.ids[b]))
            over, apart = over + same, apart + len(a) - same
    return 2 * over >= alike if alike else not apart


class _Picture:
    """What a report shows of the plane with most objects, while its labels pass by.

    Parameters
    ----------
    source
        The image, or the labels where there is none.
    planes
        All planes.
    seen
        Whether there is an image.
    """

    def __init__(
        self, source: Source, planes: Sequence[LabelPlane], *, seen: bool
    ) -> None:
        self._source, self._seen = source, seen
        self._areas = np.concatenate([plane.areas for plane in planes])
        self._plane = max(range(len(planes)), key=lambda n: len(planes[n].areas))
        config, rows = NormalizationConfig(), band_rows(source.shape[1], Memory())
        statistics = DARK
        if seen:
            (statistics,) = measure_channels(
                lambda: (b[:1] for b in channel_bands(source, self._plane, rows)),
                config,
            )
        self._thumbnail = Thumbnail(source.shape, statistics, config)

    def add(self, plane: int, y0: int, rows: npt.NDArray[np.uint32]) -> None:
        """Take rows of labels, every plane top to bottom."""
        if plane != self._plane:
            return
        pixels: npt.NDArray[Any] = np.zeros(rows.shape, np.uint8)
        if self._seen:
            region = Region(plane, y0, y0 + len(rows), 0, rows.shape[1])
            pixels = self._source.read(region)[0]
        self._thumbnail.add(pixels, rows)

    def summary(
        self, objects: int, seconds: float, notes: tuple[str, ...]
    ) -> ImageSummary:
        """Return what the report shows."""
        source = self._source
        planes = math.prod(source.plane_shape)
        picture, size = self._thumbnail.encode()
        diameters = equivalent_diameters(self._areas)
        return ImageSummary(
            name=source.path.name,
            status="done",
            thumbnail=picture,
            thumbnail_size=size,
            plane=f"plane {self._plane + 1} of {planes}" if planes > 1 else "",
            objects=objects,
            diameters=Histogram.of(diameters.tolist(), DIAMETER_STEP_PX),
            pixel_size_um=source.pixel_size_um,
            pixel_size_from=source.origin.pixel_size_from,
            notes=source.origin.notes + notes,
            seconds=seconds,
        )


def _refuse_unknown_scene(labels: Path, path: Path, image: str | None) -> None:
    scenes = scene_paths(path) if image is None else []
    if scenes:
        raise InputError(
            f"{path} holds {len(scenes)} scenes, and nothing tells of which of them "
            f"{labels} is.",
            hint="Choose it with --image N or NAME, or name labels as predict does: "
            f"{scenes[0].name}.tif.",
        )


def _planes_of(labels: Source, image: Source) -> list[int]:
    """Return the number in the labels of each plane of an image.

    Raises
    ------
    InputError
        If the planes are not the same, or differ in size.
    """
    found = matching_planes(
        axes_by_name(image), image.plane_shape, axes_by_name(labels), labels.plane_shape
    )
    alike = sorted(labels.plane_shape) == sorted(image.plane_shape)
    if found is None or not alike or labels.shape != image.shape:
        told = [
            f"{' x '.join(map(str, (*s.plane_shape, *s.shape)))} px{axes_in_words(s)}"
            for s in (labels, image)
        ]
        raise InputError(
            f"{labels.path} is {told[0]}, {image.path} is {told[1]}.",
            hint="Labels are of the image's own planes; of its maximum projection: "
            "--z max; of a smaller level of it: --level N.",
        )
    return found


def _on_grid_of_labels(output: Path, image: Source, order: Sequence[int]) -> bool:
    """Return whether an OME-Zarr is written that has the grid of the labels alone.

    Raises
    ------
    InputError
        If its planes would be in another order than the image's.
    """
    if not is_zarr(output) or image.origin.grid is not None:
        return False
    if list(order) != sorted(order):
        raise InputError(
            f"{image.path} stores time and depth in another order than the labels.",
            hint="Convert the labels to TIFF, or the image to OME-Zarr, so that both "
            "are in one order.",
        )
    return True


def _written(targets: Sequence[_Target], config: PredictConfig) -> Iterator[Path]:
    """Yield the files that are written of each label image, or may be."""
    for target in targets:
        yield from optional_output_paths(target.output, config).values()
        if config.link_planes:
            yield target.output


def _refuse_inputs(inputs: Sequence[Path], written: Iterable[Path]) -> None:
    """Refuse to write a file in the place of one that is read."""
    given = {file_key(path): path for path in inputs}
    for path in written:
        replaced = given.get(file_key(path))
        if replaced is not None:
            raise InputError(
                f"The result {path} would replace the input {replaced}.",
                hint="Choose another folder with --out.",
            )


def _refuse_existing(paths: Sequence[Path], config: PredictConfig) -> None:
    there = [path for path in paths if path.exists()]
    if there and not config.overwrite:
        raise InputError(
            f"{there[0]} exists.",
            hint="Choose another --out, or replace it with --overwrite.",
        )


def _paths(images: Sequence[ChannelFile]) -> tuple[str, ...]:
    return tuple(str(image.path) for image in images)


def _on_pieces(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    objects = "1 object is" if count == 1 else f"{count:,} objects are"
    return (f"{objects} in several pieces",)


def _on_folders(images: Sequence[ChannelFile]) -> tuple[str, ...]:
    if len({image.path.parent for image in images}) < 2:
        return ()
    return (f"folders taken for channels: {some([i.name or i.mark for i in images])}",)


def _on_intensities(path: Path, planes: Sequence[LabelPlane]) -> tuple[str, ...]:
    """Say whether labels look like an image; objects of some programs do as well."""
    most = max(planes, key=lambda plane: len(plane.ids))
    try:
        refuse_picture(next(most.bands()), path, MANY_VALUES)
    except AnnotationError as error:
        return (error.message,)
    return ()


def _on_beside(beside: Sequence[Path]) -> tuple[str, ...]:
    if not beside:
        return ()
    names = some([path.name for path in beside], MOST_NAMED)
    return (f"left out, as they lie beside marked label images: {names}",)


def _on_left(left: Sequence[Path]) -> tuple[str, ...]:
    if not left:
        return ()
    some = ", ".join(path.name for path in left[:MOST_NAMED])
    more = ", ..." if len(left) > MOST_NAMED else ""
    return (
        f"{len(left):,} image{'s'[: len(left) > 1]} of no label image ({some}{more})",
    )


def _changed_ns(path: Path) -> int:
    if is_zarr(path):
        return size_and_time(path)[1]
    return path.stat().st_mtime_ns


def _on_skipped(results: Sequence[MeasuredLabels]) -> tuple[str, ...]:
    count = sum(result.skipped for result in results)
    if not count:
        return ()
    what = "1 label image was" if count == 1 else f"{count:,} label images were"
    return (f"{what} measured before and left as is (--overwrite measures anew)",)


def _on_found(found: Inputs) -> tuple[str, ...]:
    left = (f"left out: {counted(found.left_out)}",) if found.left_out else ()
    return (*left, *found.warnings)
