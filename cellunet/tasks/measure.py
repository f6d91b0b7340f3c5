"""Measure the objects of label images of any origin, on any images of their size."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet.bugs import telling_bugs
from cellunet.errors import AnnotationError, BugError, CellunetError, InputError
from cellunet.io.channel_files import ChannelFile, channel_file
from cellunet.io.files import writing
from cellunet.io.images import open_image
from cellunet.io.paths import (
    below,
    find_inputs,
    output_paths,
    output_stem,
    shared_stem,
    without_results,
)
from cellunet.io.scratch import MEMORY_BYTES, Scratch
from cellunet.io.source import Region
from cellunet.outputs.tables import join
from cellunet.progress import silent_track
from cellunet.tasks.linking import frames_of, overlaps
from cellunet.tasks.predict.inputs import open_as
from cellunet.tasks.predict.outputs import (
    OptionalOutputs,
    check_installed,
    note_on_planes,
    optional_output_paths,
    table_path,
)
from cellunet.tasks.predict.plane import band_rows
from cellunet.tasks.predict.settings import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.config import PredictConfig
    from cellunet.io.paths import Inputs
    from cellunet.io.source import Source
    from cellunet.progress import Track

MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class MeasuredLabels:
    """What became of one label image."""

    labels: str
    """As it was named or found."""
    images: tuple[str, ...] = ()
    """The files whose intensities were measured."""
    objects: int | None = None
    """Objects in all planes; None if it failed."""
    message: str = ""
    """Why it failed."""
    bug: bool = False
    """Whether it failed by a fault of cellunet's or of a library."""
    notes: tuple[str, ...] = ()
    """What to know of the objects, in sentences."""
    files: tuple[str, ...] = ()
    """What was written."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What became of all label images."""

    images: tuple[MeasuredLabels, ...]
    """In the order of the labels."""
    seconds: float
    """Time that the call took."""
    table: str | None = None
    """Table of the objects of all, if tables are saved."""
    notes: tuple[str, ...] = ()
    """What was found and left out, in sentences."""

    @property
    def failed(self) -> tuple[MeasuredLabels, ...]:
        """Those that could not be measured, each with its message."""
        return tuple(i for i in self.images if i.objects is None)

    @property
    def bugs(self) -> int:
        """How many failed by a fault that is not theirs."""
        return sum(i.bug for i in self.images)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        plain = dict(vars(self)) | {"notes": list(self.notes)}
        plain["images"] = [
            {k: list(v) if isinstance(v, tuple) else v for k, v in vars(i).items()}
            for i in self.images
        ]
        return plain


@dataclass(frozen=True)
class LabelPlane:
    """One plane of a label image, its objects numbered from 1 without gaps."""

    ids: npt.NDArray[np.int64]
    """The number of each object in the file; 0 first, for the background."""
    areas: npt.NDArray[np.int64]
    """Pixels of objects 1, 2, ..."""
    bands: Callable[[], Iterator[npt.NDArray[np.uint32]]]
    """Full-width rows of labels, top to bottom."""
    statistics: None = None
    evidence: None = None


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
    found = find_inputs([labels], include=("thumbs", "projections", "labels"))
    files = without_results(found.files)
    given = find_inputs(images, exclude=out) if images else None
    belong, left = _pairs(found, files, given)
    outputs = output_paths(files, found.base, out)
    joined = table_path(out, config)
    results = [
        MeasuredLabels(labels=what, message=why)
        for what, why in (*found.missing, *(given.missing if given else ()))
    ]
    tables = []
    for path in track(files, "Measuring", len(files)):
        target = _Target(path, below(path, found.base).as_posix(), outputs[path])
        result = _measured(target, belong.get(path), config, needs=given is not None)
        results.append(result)
        if result.objects is not None:
            paths = optional_output_paths(target.output, config)
            tables += [paths["table"]] if "table" in paths else []
    if joined is not None and tables:
        join(tables, joined)
    return Measured(
        images=tuple(results),
        seconds=time.perf_counter() - begin,
        table=str(joined) if joined is not None and tables else None,
        notes=_on_left(left),
    )


@dataclass(frozen=True)
class _Target:
    path: Path
    name: str
    output: Path


def _measured(
    target: _Target,
    images: list[ChannelFile] | None,
    config: PredictConfig,
    *,
    needs: bool,
) -> MeasuredLabels:
    """Measure one label image, or say why not."""
    named = tuple(str(image.path) for image in images or ())
    try:
        with telling_bugs(target.path), contextlib.ExitStack() as stack:
            if needs and not images:
                raise InputError(
                    f"No image belongs to {target.path}.",
                    hint="Names tell: a.tif and a_masks.tif, or A01_w1.tif and "
                    "A01_w2.tif. A single label image takes all images.",
                )
            count, notes = _write(target, images or [], config, stack)
    except CellunetError as error:
        return MeasuredLabels(
            labels=str(target.path),
            images=named,
            message=str(error),
            bug=isinstance(error, BugError),
        )
    files = tuple(map(str, optional_output_paths(target.output, config).values()))
    return MeasuredLabels(
        labels=str(target.path), images=named, objects=count, notes=notes, files=files
    )


def _write(
    target: _Target,
    images: list[ChannelFile],
    config: PredictConfig,
    stack: contextlib.ExitStack,
) -> tuple[int, tuple[str, ...]]:
    """Write what is measured; return the objects, and what to know of them."""
    labels = stack.enter_context(open_image(target.path))
    source = labels
    if images:
        source = stack.enter_context(open_as(images[0].path, config))
        _refuse_misfit(labels, source)
    _refuse_existing(target, config)
    planes = [_plane(labels, n) for n in range(math.prod(labels.plane_shape))]
    frames = frames_of(source)
    if config.link_planes:
        _refuse_unlinked(target.path, planes, frames)
    with writing(target.output):
        target.output.parent.mkdir(parents=True, exist_ok=True)
    scratch = stack.enter_context(Scratch(target.output, MEMORY_BYTES))
    outputs = stack.enter_context(
        OptionalOutputs(
            target.output,
            source,
            target.name,
            config,
            (),
            mark=images[0].name or images[0].mark if images else "",
            others=images[1:],
            scratch=scratch,
            intensities=bool(images),
        )
    )
    for number, plane in enumerate(planes):
        for _ in outputs.labels(number, plane, plane.ids):
            pass
    outputs.commit()
    every = [np.concatenate([planes[n].ids[1:] for n in frame]) for frame in frames]
    if config.link_planes:
        every = [np.unique(ids) for ids in every]
    notes = note_on_planes(source, config)
    if outputs.in_pieces:
        count = outputs.in_pieces
        objects = "1 object is" if count == 1 else f"{count:,} objects are"
        notes += (f"{objects} in several pieces",)
    return sum(map(len, every)), notes


def _plane(source: Source, number: int) -> LabelPlane:
    """Count the pixels of all objects of a plane."""
    rows = band_rows(source.shape[1], Memory())

    def read() -> Iterator[npt.NDArray[Any]]:
        for y0 in range(0, source.shape[0], rows):
            y1 = min(y0 + rows, source.shape[0])
            yield source.read(Region(number, y0, y1, 0, source.shape[1]))[0]

    parts = []
    for band in read():
        _refuse_no_labels(source.path, band)
        parts.append(np.stack(np.unique(band.astype(np.int64), return_counts=True)))
    every, counts = np.concatenate(parts, axis=1)
    ids, place = np.unique(np.append(0, every), return_inverse=True)
    areas = np.bincount(place[1:], counts, minlength=len(ids)).astype(np.int64)

    def bands() -> Iterator[npt.NDArray[np.uint32]]:
        for band in read():
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


def _refuse_misfit(labels: Source, image: Source) -> None:
    sizes = [(*s.plane_shape, *s.shape) for s in (labels, image)]
    if sizes[0] != sizes[1]:
        told = [" x ".join(map(str, size)) for size in sizes]
        raise InputError(
            f"{labels.path} is {told[0]} px, {image.path} is {told[1]} px.",
            hint="Labels are of the image's own planes; of its maximum projection: "
            "--z max.",
        )


def _refuse_existing(target: _Target, config: PredictConfig) -> None:
    paths = optional_output_paths(target.output, config).values()
    there = [path for path in paths if path.exists()]
    if there and not config.overwrite:
        raise InputError(
            f"{there[0]} exists.",
            hint="Choose another --out, or replace it with --overwrite.",
        )


def _refuse_unlinked(
    path: Path, planes: Sequence[LabelPlane], frames: Sequence[Sequence[int]]
) -> None:
    """Refuse planes each of which numbers its objects anew."""
    alike = over = 0
    for frame in frames:
        for lower, upper in pairwise(frame):
            first, second = planes[lower], planes[upper]
            alike += len(np.intersect1d(first.ids[1:], second.ids[1:]))
            a, b, _ = overlaps(first, second)
            over += int(np.count_nonzero(first.ids[a] == second.ids[b]))
    if 2 * over < alike:
        raise InputError(
            f"{path}: of {alike:,} numbers that neighboring planes share, {over:,} "
            "overlap; each plane seems to begin anew.",
            hint="Here one number is one object of the stack. To join planes by "
            "overlap: cellunet predict --link-planes.",
        )


def _pairs(
    found: Inputs, files: Sequence[Path], given: Inputs | None
) -> tuple[dict[Path, list[ChannelFile]], list[Path]]:
    """Return the images of each label image, and those that belong to none.

    Raises
    ------
    InputError
        If an image might belong to several.
    """
    if given is None:
        return {}, []
    own = {os.path.realpath(path) for path in files}
    images = [path for path in given.files if os.path.realpath(path) not in own]
    keys: dict[object, list[Path]] = defaultdict(list)
    for path in files:
        for key in _keys(path, below(path, found.base).parent):
            keys[key].append(path)
    belong: dict[Path, list[ChannelFile]] = defaultdict(list)
    left = []
    for path in images:
        folder = below(path, given.base).parent
        hits = [keys[k] for k in _keys(path, folder) if k in keys]
        if not hits:
            left.append(path)
            continue
        if len(hits[0]) > 1:
            named = ", ".join(map(str, hits[0][:MOST_NAMED]))
            raise InputError(
                f"{path} might belong to {len(hits[0])} label images: {named}.",
                hint="Measure one folder at a time.",
            )
        belong[hits[0][0]].append(_channel(path))
    if not belong and len(files) == 1:
        return {files[0]: [_channel(path) for path in images]}, []
    return belong, left


def _keys(path: Path, folder: Path) -> list[object]:
    """Return what a label image and its images have in common, the surest first."""
    stem = shared_stem(path.name)
    names: list[object] = [stem]
    found = channel_file(path.with_name(stem + ".tif"))
    if found is not None:
        _, front, back = found.site
        names += [(front, back), (front + back).rstrip(" _-.")]
    else:
        names.append(output_stem(path))
    return list(dict.fromkeys([(folder, name) for name in names] + names))


def _channel(path: Path) -> ChannelFile:
    named = output_stem(path)
    return channel_file(path) or ChannelFile(path, (path.parent, named, ""), named)


def _on_left(left: Sequence[Path]) -> tuple[str, ...]:
    if not left:
        return ()
    some = ", ".join(path.name for path in left[:MOST_NAMED])
    more = ", ..." if len(left) > MOST_NAMED else ""
    return (
        f"{len(left):,} image{'s'[: len(left) > 1]} of no label image ({some}{more})",
    )
