"""One image of a batch: segmented, with all outputs that are asked for."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellunet import __version__
from cellunet.bugs import telling_bugs
from cellunet.errors import BugError, CellunetError, OutputError
from cellunet.imaging.blocks import LARGEST_PX
from cellunet.imaging.sizes import target_length
from cellunet.io import label_tiff, label_zarr
from cellunet.io.files import writing
from cellunet.io.images import TIFFS, create_labels, open_image, suffix_of
from cellunet.io.label_tiff import ImageSpec, read_provenance
from cellunet.io.label_zarr import alone_in, refuse_foreign
from cellunet.io.metadata import find_in_index
from cellunet.io.ome_zarr import metadata_sha256
from cellunet.io.scratch import Scratch, check_room
from cellunet.io.source import Region
from cellunet.io.zarr_store import address, is_zarr, size_and_time
from cellunet.progress import silent_track
from cellunet.tasks.linking import frames_of, link_planes
from cellunet.tasks.predict import inputs, outputs, settings
from cellunet.tasks.predict.appearance import (
    Band,
    ImageQuality,
    QualityRecorder,
    quality_warnings,
)
from cellunet.tasks.predict.plane import (
    PredictionStopped,
    band_rows,
    plane_statistics,
    segment,
)
from cellunet.tasks.predict.sizes import (
    batch_size,
    settings_by_size,
    size_settings,
    size_warnings,
    with_size,
)
from cellunet.tasks.predict.workers import (
    EngineOnWorkers,
    folder_of,
    refuse_other_devices,
)
from cellunet.tasks.scheduling import ConcurrencyGate, executor_of, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from cellunet.annotations.regions import RegionFiles, RegionMask
    from cellunet.command_config import PredictConfig
    from cellunet.io.source import Damage, Source
    from cellunet.progress import Track
    from cellunet.store import Model, ModelCard
    from cellunet.tasks.predict.plane import Segmented
    from cellunet.tasks.predict.report import Reporter
    from cellunet.tasks.predict.sizes import ImageSettings, Size
    from cellunet.tasks.predict.workers import Cluster


@dataclass(frozen=True, kw_only=True)
class WrittenImage:
    """What is known of an image whose files are written."""

    quality: ImageQuality
    objects: int
    dropped: str
    """How many objects the options that were given have dropped, if any."""
    warnings: tuple[str, ...]
    damaged: tuple[Damage, ...]
    """What was lost."""


SMALL_PX = 2**20
"""Images of more pixels are worked on alone, so that memory does not add up."""


class ImageScheduler:
    """How many images are in hand at once, and what each of them is given.

    Small images side by side, each on one thread, keep the cores busier than one after
    the other on all; which it was changes no label.

    Parameters
    ----------
    model, config, engine, device, threads
        As for `cellunet.tasks.predict.settings.settings_for`.
    recipe
        What that returned.
    images
        In the batch.
    """

    def __init__(  # noqa: PLR0913
        self,
        model: Model,
        config: PredictConfig,
        engine: str,
        device: str,
        threads: int,
        *,
        recipe: settings.InferenceSettings,
        images: int,
    ) -> None:
        kind = settings.ENGINES[settings.choose_engine(engine, device)]
        if config.max_memory_mb is not None or config.dask or not kind.only_cpu:
            images = 1
        self._config = config
        # A worker has one tile at a time in work.
        self._here = settings.tiles_at_once(threads)
        self._tiles = 1 if config.dask else self._here
        self.at_once = min(max(images, 1), self._tiles)
        self._gate = ConcurrencyGate(self.at_once)
        self._small = recipe.engine
        if self.at_once > 1:
            self._small = settings.engine_for(model, config, engine, device, 1)

    @contextlib.contextmanager
    def passing(
        self,
        source: Source,
        recipe: settings.InferenceSettings,
        card: ModelCard,
        channels: int = 1,
        size: Size | None = None,
    ) -> Iterator[ImageSettings]:
        """Wait for the image's turn; yields how it is seen, with what it may hold.

        Parameters
        ----------
        source
            The image.
        recipe
            How it is seen (`settings_for_image`), if its
            objects are not to be measured first.
        card
            Of the model.
        channels
            Channels that are read, each of which holds memory.
        size
            Of the objects, if it is known.

        Raises
        ------
        ConfigError
            If not even the least fits into ``--max-memory``.
        """
        large = math.prod(source.shape) > SMALL_PX
        with self._gate.passing(large=large):
            engine = recipe.engine if large else self._small
            own = self._within_memory(source, recipe, channels, large=large)
            chosen = settings_by_size(
                source, replace(own, engine=engine), self._config, card, size
            )
            fits = self._within_memory(source, chosen.recipe, channels, large=large)
            yield replace(chosen, recipe=fits)

    def _within_memory(
        self,
        source: Source,
        recipe: settings.InferenceSettings,
        channels: int,
        *,
        large: bool,
    ) -> settings.InferenceSettings:
        """Return a recipe with what may be held at its magnifications."""
        scales = [recipe.scale, *([recipe.added.scale] if recipe.added else [])]
        sizes = [[target_length(n, scale) for n in source.shape] for scale in scales]
        rows = math.ceil(LARGEST_PX / min(*scales, 1.0))
        labels = label_zarr if source.origin.grid else label_tiff
        memory = settings.memory_for(
            self._config.max_memory_mb,
            source.shape,
            max(
                settings.window_bytes(
                    (height, width), recipe.config.network, recipe.config.image_channels
                )
                for height, width in sizes
            ),
            source.held_bytes(rows) * channels,
            labels.held_bytes(source.shape),
            # Beside a small image there is another one: its tiles are decoded there.
            self._tiles if large else 1,
            source.channels,
        )
        memory = replace(memory, tile_px=min(memory.tile_px, self._config.tile_px))
        workers = self._here if self._config.dask else memory.workers
        return replace(recipe, memory=memory, executor=executor_of(workers))


MOST_UINT16 = 65_535
"""Most objects that a plane of uint16 labels can tell apart."""


TOLD_PX = 2**24
"""From so many pixels on, about ten seconds, the rows of an image are counted."""

PAGES_NOTE = (
    "the file does not say what its pages are (--pages channels, time or z does)"
)


class ImageJob:
    """A model loaded once and applied to so many images, small ones side by side."""

    def __init__(  # noqa: PLR0913
        self,
        model: Model,
        engine: str,
        device: str,
        threads: int,
        config: PredictConfig,
        should_stop: Callable[[], bool],
        reporter: Reporter | None,
        *,
        out: Path,
        images: int,
        dry_run: bool,
        batch: Sequence[Path] = (),
        track: Track = silent_track,
    ) -> None:
        self._track, self._out = track, out
        self.config, self.card, self.dry_run = config, model.card, dry_run
        self.reporter = reporter
        self._folder = Path(config.scratch) if config.scratch else None
        self.cluster: Cluster | None = None
        if config.dask is not None:
            refuse_other_devices(engine, device)
            device = "cpu"
        self._regions = _region_files(config.within)
        recipe = settings.settings_for(
            model, config, engine, device, threads, should_stop
        )
        self.size = size = batch_size(batch, recipe, config, model.card)
        if size is not None:
            recipe = with_size(recipe, config, model.card, size)
        self.recipe = recipe
        self._beside = ImageScheduler(
            model,
            config,
            engine,
            device,
            threads,
            recipe=recipe,
            images=images,
        )
        self.at_once = self._beside.at_once
        self.settings = {
            "decode": recipe.decode.to_dict(),
            "scale": recipe.scale,
            **config.recorded(),
            "save": sorted(outputs.saved_kinds(config)),
        }
        if "table" in config.save:
            self.settings["table_format"] = config.table_format
        if config.pixel_size_um is not None:
            # Each image has a scale of its own, which is in its provenance.
            self.settings |= {"pixel_size_um": config.pixel_size_um, "scale": None}
        self.settings |= size_settings(config, model.card, size)
        if config.segment_channel is not None:
            self.settings["segment_channel"] = config.segment_channel
        if self.settings["scale"] is None and config.min_area_px is not None:
            # Areas as trained follow the scale of each image, one asked for does not.
            self.settings["fixed_min_area_px"] = config.min_area_px
        self.model = {"name": model.name, "sha256": model.sha256}
        self._engine = EngineOnWorkers(
            model=model,
            config=config,
            engine=engine,
            threads=threads,
            name=recipe.engine.name,
            any_window=recipe.engine.any_window,
        )

    def for_measuring(self, reporter: Reporter | None) -> Self:
        """Return the same job of a dry run that segments, with records elsewhere."""
        job = copy.copy(self)
        job.dry_run, job.reporter = False, reporter
        return job

    def image(self, target: inputs.ImageTarget) -> inputs.ImageResult:
        """Segment one image, or say why not."""
        begin = time.perf_counter()
        try:
            with (
                telling_bugs(target.path, PredictionStopped),
                contextlib.ExitStack() as stack,
            ):
                return self._image(target, stack)
        except (CellunetError, MemoryError) as error:
            message = str(error)
            if isinstance(error, MemoryError):
                message = (
                    f"{target.path} does not fit into memory. Try: --max-memory MB."
                )
            return inputs.ImageResult(
                input=address(target.path) or str(target.path),
                output=None,
                status="failed",
                message=message,
                columns=target.columns,
                bug=isinstance(error, BugError),
                image=target.image or "",
                seconds=time.perf_counter() - begin,
            )

    def finished(self, target: inputs.ImageTarget) -> inputs.ImageResult | None:
        """Return the result of an image that is finished, if that takes no look at it.

        What stands in the way of it is told where the image has its turn.
        """
        # A store is looked through for its size, which is done once, in its turn; but
        # no workers are waited for where all is finished.
        large = is_zarr(target.path) and self.config.dask is None
        if large or self.config.pixel_size_um is not None or self.config.overwrite:
            return None
        with contextlib.suppress(CellunetError):
            if self._missing(target, self._provenance(target)) == ():
                return _skipped(target)
        return None

    def _image(
        self, target: inputs.ImageTarget, stack: contextlib.ExitStack
    ) -> inputs.ImageResult:
        begin = time.perf_counter()
        output = target.labels
        provenance, recipe = self._provenance(target), self.recipe
        # What is finished is skipped without a look at the image, unless its scale
        # follows from its own pixel size.
        source: Source | None = None
        if self.config.pixel_size_um is not None:
            source = stack.enter_context(self._opened(target))
            recipe = settings.settings_for_image(recipe, self.config, source)
            provenance["settings"] |= {
                "scale": recipe.scale,
                "decode": recipe.decode.to_dict(),
            }
        stack.enter_context(self._alone(target))
        missing = self._missing(target, provenance)
        if missing == ():
            return _skipped(target)
        if source is None:
            source = stack.enter_context(self._opened(target))
        if self.dry_run:
            mask = self._within(source, target)
            planes = math.prod(source.plane_shape)
            return _result(
                source,
                target,
                self._notes(source),
                status="planned",
                shape=(*source.plane_shape, *source.shape),
                warnings=mask.warnings(planes) if mask else (),
                within=mask and mask.to_dict(),
            )
        recomputed: tuple[str, ...] = ()
        made = inputs.read_made(output)
        if made is not None and not inputs.difference(made, provenance):
            both = outputs.saved_together(made["settings"], provenance["settings"])
            provenance["settings"] = both
            if missing and outputs.are_of_labels(missing):
                self._add(source, target, {**made, "settings": both}, missing)
                return replace(_skipped(target), added=missing)
        if missing:
            recomputed = (outputs.note_on_recomputing(missing),)
        channels = outputs.read_through(source, self.config) + len(target.others)
        with self._beside.passing(source, recipe, self.card, channels) as chosen:
            if self.size is not None:
                chosen = replace(chosen, size=self.size)
            recipe = replace(chosen.recipe, within=self._within(source, target))
            written = self._write(
                source, target, provenance, replace(chosen, recipe=recipe)
            )
        return _result(
            source,
            target,
            status="done",
            objects=written.objects,
            seconds=time.perf_counter() - begin,
            warnings=written.warnings,
            shape=(*source.plane_shape, *source.shape),
            damaged=written.damaged,
            size=chosen.size.to_dict() if chosen.size else None,
            skipped_share=written.quality.skipped,
            within=recipe.within and recipe.within.to_dict(),
            notes=self._notes(source, written.dropped) + recomputed,
        )

    def _notes(self, source: Source, dropped: str = "") -> tuple[str, ...]:
        """Return what to know of how the planes of an image were read and counted."""
        guessed = bool(source.origin.pages) and self.config.pages is None
        counted = () if self.dry_run else outputs.note_on_planes(source, self.config)
        told = [dropped] if dropped else []
        return (*[PAGES_NOTE] * guessed, *counted, *told)

    def _dropped(self, source: Source, planes: Sequence[Segmented]) -> str:
        """Return how many objects the options that were given have dropped, if any."""
        found = {
            "--max-area": sum(plane.too_large for plane in planes),
            # What the model's own confidence drops is as little news as its seeds are.
            "--min-confidence": sum(len(plane.unsure[0]) for plane in planes)
            if self.config.min_confidence is not None
            else 0,
        }
        count = sum(found.values())
        every = count + sum(plane.count for plane in planes)
        linked = self.config.link_planes and "Z" in source.plane_axes
        what = "sections, before they were linked" if linked else "objects"
        by = ", ".join(option for option in found if found[option])
        return f"dropped {count:,} of {every:,} {what} ({by})" if count else ""

    def _opened(self, target: inputs.ImageTarget) -> Source:
        source = inputs.open_as(
            target.path, self.config, known=self.card.channels, image=target.image
        )
        inputs.refuse_misfit(source, self.model["name"], self.card, self.config.channel)
        return source

    def _provenance(self, target: inputs.ImageTarget) -> dict[str, Any]:
        path = target.path
        image = {} if target.image is None else {"image": target.image}
        others = [_file(other.path) for other in target.others]
        within = {}
        if self._regions is not None:
            regions = self._regions.of(path)
            within = {"within": {"file": regions.path.name, "sha256": regions.sha256}}
        return (
            within
            | {
                "cellunet": __version__,
                "model": self.model,
                "engine": self.recipe.engine.name,
                "settings": self.settings | image,
                "input": _file(path, target.image),
            }
            | ({"measured": others} if others else {})
        )

    def _within(self, source: Source, target: inputs.ImageTarget) -> RegionMask | None:
        """Return where objects of an image are looked for; None: everywhere."""
        if self._regions is None:
            return None
        regions = self._regions.of(target.path)
        return regions.mask(source.shape, source.origin.full_px)

    def _missing(
        self, target: inputs.ImageTarget, provenance: dict[str, Any]
    ) -> tuple[str, ...] | None:
        """Return which files are not there beside the very labels.

        None: nor are they, or all is to be computed anew.

        Raises
        ------
        OutputError
            If other results are there and may not be replaced.
        """
        output = target.labels
        paths = outputs.optional_output_paths(target.output, self.config, output)
        there = {kind for kind, path in paths.items() if path.exists()}
        if not output.exists():
            self._refuse_to_replace(
                [
                    f"{paths[kind]} exists, but not the {output.name} that it would "
                    "belong to"
                    for kind in paths
                    if kind in there
                ]
            )
            return None
        if is_zarr(output):
            refuse_foreign(output)
        elif output.is_dir():
            raise OutputError(
                f"{output} is a folder; the labels cannot be written there.",
                hint="Choose another --out.",
            )
        if self.config.overwrite:
            return None
        made = inputs.read_made(output)
        other = inputs.difference(made, provenance)
        if other:
            self._refuse_to_replace([f"{output} exists and {other}"])
            return None
        # Labels are written first: what was to lie beside them may be missing. What is
        # there and was not made with them may be of other labels.
        own = outputs.saved(made, self.config.table_format)
        self._refuse_to_replace(
            [
                f"{paths[kind]} exists, but was not made with the {output.name} that "
                "is there"
                for kind in paths
                if kind in there - own
            ]
        )
        missing = [kind for kind in paths if kind not in there & own]
        if self.reporter is not None and not self.reporter.has(
            target.output, provenance
        ):
            missing.append("report")
        return tuple(missing)

    def _alone(
        self, target: inputs.ImageTarget
    ) -> contextlib.AbstractContextManager[None]:
        """Have the store to oneself that labels are written into, if any is."""
        if target.into is None or self.dry_run:
            return contextlib.nullcontext()
        return alone_in(target.labels)

    def _refuse_to_replace(self, found: Sequence[str]) -> None:
        """Refuse what is there, each told in words, unless it may be replaced."""
        if found and not self.config.overwrite:
            other = "--into-source NAME" if self.config.into_source else "--out"
            raise OutputError(
                f"{found[0]}.",
                hint=f"Choose another {other}, or replace it with --overwrite.",
            )

    def _add(
        self,
        source: Source,
        target: inputs.ImageTarget,
        provenance: dict[str, Any],
        kinds: tuple[str, ...],
    ) -> None:
        """Write files that follow from the label image, which then names them, too."""
        rows = band_rows(source.shape[1], self.recipe.memory)
        norm = self.recipe.config.normalization
        # What is asked of tables alone goes with none of these.
        config = self.config.replace(
            save=kinds, measure="basic", samples=None, table_format="csv"
        )
        with contextlib.ExitStack() as stack:
            # The labels are closed before the file is replaced: Windows asks for that.
            labels = open_image(target.labels)
            stack.callback(labels.close)
            spec = ImageSpec.like(
                source, labels.dtype, provenance=provenance, same_labels=True
            )
            sink = stack.enter_context(create_labels(target.labels, spec))
            extras = stack.enter_context(
                outputs.OptionalOutputs(
                    target.output,
                    source,
                    target.name,
                    config,
                    self.recipe.config.encoding.classes,
                    labels=target.labels,
                    intensities=False,
                    columns=target.columns,
                )
            )
            for number, plane in enumerate(outputs.label_planes(labels)):
                seen = plane_statistics(source, number, rows, norm, channels=1)
                own = replace(plane, statistics=seen[0])
                y0 = 0
                for band in extras.labels(number, own, plane.ids):
                    sink.write(number, y0, plane.ids[band].astype(labels.dtype))
                    y0 += len(band)
            labels.close()
            sink.commit()
            extras.commit()

    def _write(
        self,
        source: Source,
        target: inputs.ImageTarget,
        provenance: dict[str, Any],
        chosen: ImageSettings,
    ) -> WrittenImage:
        """Write all files."""
        begin, output, recipe = time.perf_counter(), target.output, chosen.recipe
        with writing(output):
            output.parent.mkdir(parents=True, exist_ok=True)
        pixels = math.prod((*source.plane_shape, *source.shape))
        waiting = recipe.memory.scratch_bytes
        check_room(output, pixels, 0 if self.cluster else waiting, self._folder)
        with (
            self._elsewhere(target, provenance, chosen) as chosen,
            Scratch(output, waiting, self._folder) as scratch,
        ):
            written = self._segment(source, target, provenance, chosen, scratch)
        if self.reporter is not None:
            seconds = time.perf_counter() - begin
            size = inputs.said(chosen.size.to_dict() if chosen.size else None)
            seen = written.quality
            within = None if recipe.within is None else recipe.within.to_dict()
            parts = inputs.said_of_parts(seen.skipped, within)
            size = ", ".join(filter(None, (size, parts)))
            self.reporter.keep(
                output,
                provenance,
                self.reporter.summary(
                    seen, source, seconds, written.warnings, size, written.objects
                ),
            )
        return written

    @contextlib.contextmanager
    def _elsewhere(
        self,
        target: inputs.ImageTarget,
        provenance: dict[str, Any],
        chosen: ImageSettings,
    ) -> Iterator[ImageSettings]:
        """Yield the settings with the backend of other processes, if there is one."""
        if self.cluster is None:
            yield chosen
            return
        path = target.path
        # Workers have working directories of their own.
        whole = path if address(path) else Path(os.path.abspath(path))  # noqa: PTH100
        folder = folder_of(
            target.labels, provenance, self._folder or target.output.parent
        )
        with (
            self._opened(replace(target, path=whole)) as source,
            self.cluster.backend(self._engine, source, folder) as backend,
        ):
            yield replace(chosen, recipe=replace(chosen.recipe, elsewhere=backend))

    def _segment(
        self,
        source: Source,
        target: inputs.ImageTarget,
        provenance: dict[str, Any],
        chosen: ImageSettings,
        scratch: Scratch,
    ) -> WrittenImage:
        """Write labels and what lies beside."""
        planes = int(np.prod(source.plane_shape, dtype=int))
        recipe, size = chosen.recipe, chosen.size
        observer = QualityRecorder(source, recipe, picture=self.reporter is not None)
        output, name = target.output, target.name
        classes = recipe.config.encoding.classes
        with outputs.OptionalOutputs(
            output,
            source,
            name,
            self.config,
            classes,
            labels=target.labels,
            mark=target.mark,
            others=target.others,
            scratch=scratch,
            columns=target.columns,
        ) as extras:
            with self._telling(source, name, recipe) as telling:
                segmented = [
                    segment(
                        source,
                        plane,
                        telling,
                        scratch,
                        extras.on_band(plane),
                        statistics=chosen.statistics.get(plane),
                    )
                    for plane in range(planes)
                ]
            observer.segmented(segmented)
            numbers, count = self._numbers(source, segmented)
            dropped = self._dropped(source, segmented)
            most = max(int(own.max(initial=0)) for own in numbers)
            dtype = np.uint16 if most <= MOST_UINT16 else np.uint32
            made = inputs.read_made(target.labels)
            same = not inputs.difference(made, provenance)
            spec = ImageSpec.like(
                source,
                dtype,
                provenance=provenance,
                same_labels=self._keeps(same=same),
            )
            linked = [n.astype(dtype) for n in numbers if self.config.link_planes]
            with create_labels(target.labels, spec) as sink:

                def write(band: Band) -> None:
                    observer.on_rows(band)
                    written = linked[band.plane][band.labels] if linked else band.labels
                    sink.write(band.plane, band.y0, written.astype(dtype, copy=False))

                def bands() -> Iterator[Band]:
                    for plane, result in enumerate(segmented):
                        y0 = 0
                        for labels in extras.labels(plane, result, numbers[plane]):
                            y1 = y0 + len(labels)
                            region = Region(plane, y0, y1, 0, source.shape[1])
                            yield Band(plane, y0, source.read(region)[0], labels)
                            y0 = y1

                # While rows are written the next are read and measured.
                deque(in_turn(recipe.executor).map(write, bands()), 0)
                observed, damaged = observer.finish(), extras.damaged
                warnings = inputs.file_warnings(source, damaged)
                # Not nothing was found where all of it was dropped; what was unsure
                # counts already.
                seen = observed.appearance
                too_large = sum(plane.too_large for plane in segmented)
                seen = replace(seen, objects=seen.objects + too_large)
                warnings += quality_warnings(seen, self.card, recipe.scale)
                warnings += size_warnings(size, warnings)
                if recipe.within is not None:
                    warnings += recipe.within.warnings(planes)
                if made is not None and not same:
                    outputs.remove_files_of(made, output, target.labels, self._out)
                sink.commit(
                    inputs.record(damaged)
                    | ({"warnings": warnings} if warnings else {})
                    | ({"size": size.to_dict()} if size else {})
                    | ({"skipped_share": observed.skipped} if observed.skipped else {})
                )
            extras.commit()
        return WrittenImage(
            quality=observed,
            objects=count,
            dropped=dropped,
            warnings=warnings,
            damaged=damaged,
        )

    def _keeps(self, *, same: bool) -> bool:
        """Return whether a table in the store of the labels stays as it is."""
        new = self.config.overwrite or outputs.IN_LABELS in self.config.save
        return same and not new

    @contextlib.contextmanager
    def _telling(
        self, source: Source, name: str, recipe: settings.InferenceSettings
    ) -> Iterator[settings.InferenceSettings]:
        """Yield a recipe that tells how far a large image is, in rows of its planes."""
        height, width = source.shape
        total = height * math.prod(source.plane_shape) * (2 if recipe.added else 1)
        if total * width < TOLD_PX:
            yield recipe
            return
        label = f"Rows of {Path(name).name}"
        rows = iter(self._track(range(total), label, total))

        def on_rows(count: int) -> None:
            for _ in range(count):
                next(rows, None)

        # The first is taken at once, so that the time left is that of all.
        on_rows(1)
        with contextlib.ExitStack() as stack:
            if isinstance(rows, Generator):
                stack.enter_context(contextlib.closing(rows))
            yield replace(recipe, on_rows=on_rows)

    def _numbers(
        self, source: Source, planes: Sequence[Segmented]
    ) -> tuple[list[npt.NDArray[np.int64]], int]:
        """Return the number of each object of each plane, and how many there are."""
        if not self.config.link_planes:
            own = [np.arange(plane.count + 1) for plane in planes]
            return own, sum(plane.count for plane in planes)
        frames = frames_of(source)
        numbers = link_planes(planes, frames)
        most = (max(int(numbers[n].max()) for n in frame) for frame in frames)
        return numbers, sum(most)


def _region_files(named: str | None) -> RegionFiles | None:
    """Return where the regions of images are, if there are some."""
    if named is None:
        return None
    # Here, because few predictions have regions.
    from cellunet.annotations.regions import RegionFiles

    return RegionFiles(named)


def _skipped(target: inputs.ImageTarget) -> inputs.ImageResult:
    """Return the result of an image whose labels are there."""
    made = read_provenance(target.labels)
    return inputs.ImageResult(
        input=address(target.path) or str(target.path),
        output=str(target.labels),
        status="skipped",
        warnings=inputs.recorded_warnings(made),
        damaged=inputs.recorded(made),
        size=(made or {}).get("size"),
        skipped_share=(made or {}).get("skipped_share", 0.0),
        image=target.image or "",
        columns=target.columns,
    )


def _file(path: Path, image: str | None = None) -> dict[str, Any]:
    """Return by what a file is known again, or one field of a plate."""
    known: dict[str, Any] = {}
    try:
        if is_zarr(path):
            field = image is not None and "/" in image
            group = path / str(image) if field else path
            size, modified = size_and_time(group)
            known = {"metadata_sha256": metadata_sha256(group)}
        else:
            stat = path.stat()
            size, modified = stat.st_size, stat.st_mtime_ns
            told = find_in_index(path) if suffix_of(path) in TIFFS else None
            if told is not None:
                pixel = told.pixel_size_um and [*told.pixel_size_um]
                known = {"index": [pixel, [*told.channel_names]]}
    except CellunetError:
        raise
    except OSError as error:
        raise CellunetError(f"{path} cannot be read ({error}).") from error
    return {"name": path.name, "bytes": size, "modified_ns": modified, **known}


def _result(
    source: Source,
    target: inputs.ImageTarget,
    notes: tuple[str, ...] = (),
    **what: Any,  # noqa: ANN401
) -> inputs.ImageResult:
    """Return the result of an image that was opened, with what its file tells."""
    origin = source.origin
    return inputs.ImageResult(
        input=address(source.path) or str(source.path),
        output=str(target.labels),
        columns=target.columns,
        notes=(*origin.notes, *notes),
        pixel_size_um=source.pixel_size_um,
        pixel_size_from=origin.pixel_size_from,
        image=origin.image,
        pages=origin.pages,
        channels=source.channel_names,
        position=origin.position,
        acquired=origin.acquired,
        **what,
    )
