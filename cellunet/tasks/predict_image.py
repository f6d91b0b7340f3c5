"""One image of a batch: segmented, with all that is asked, unless that is there."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet import __version__
from cellunet.bugs import telling_bugs
from cellunet.errors import BugError, CellunetError, OutputError
from cellunet.imaging.atomic import writing
from cellunet.imaging.files import create_labels, read_provenance
from cellunet.imaging.room import check_room
from cellunet.imaging.scratch import Scratch
from cellunet.tasks.prediction.channels_seen import refuse_misfit
from cellunet.tasks.prediction.extras import Extras, beside, extra_paths, read_through
from cellunet.tasks.prediction.observe import Observer, warnings_of
from cellunet.tasks.prediction.read_notes import (
    damage_warnings,
    file_settings,
    file_warnings,
    open_as,
    record,
    recorded,
    without_damage,
)
from cellunet.tasks.prediction.report import summary_of
from cellunet.tasks.prediction.segment import Stopped, segment_plane
from cellunet.tasks.prediction.side_by_side import SideBySide
from cellunet.tasks.predictions import ImageResult
from cellunet.tasks.recipe import recipe_for, recipe_for_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellunet.config import PredictConfig
    from cellunet.imaging.damage import Damage
    from cellunet.imaging.files import Source
    from cellunet.store import Model
    from cellunet.tasks.prediction.report import Reporter
    from cellunet.tasks.prediction.segment import Recipe
    from cellunet.tasks.prediction.targets import Target

MOST_UINT16 = 65_535
"""Most objects that a plane of uint16 labels can tell apart."""


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
        reporter: Reporter,
        *,
        images: int,
        dry_run: bool,
    ) -> None:
        self.config, self.card, self.dry_run = config, model.card, dry_run
        self.reporter = reporter
        self._folder = Path(config.scratch) if config.scratch else None
        self.recipe = recipe = recipe_for(
            model, config, engine, device, threads, should_stop
        )
        self._beside = SideBySide(
            model,
            config,
            engine,
            device,
            threads,
            recipe=recipe,
            # Nothing is computed in a dry run.
            images=1 if dry_run else images,
        )
        self.at_once = self._beside.at_once
        self.settings = {
            "decode": recipe.decode.to_dict(),
            "scale": recipe.scale,
            "channel": config.channel,
            "gray": config.gray,
            "z": config.z,
            "flips": config.flips,
            "exclude_border": config.exclude_border,
            "save": sorted(beside(config)),
        }
        if "table" in config.save:
            self.settings["table_format"] = config.table_format
        self.settings |= file_settings(config)
        self.model = {"name": model.name, "sha256": model.sha256}

    def image(self, target: Target) -> ImageResult:
        """Segment one image, or say why not."""
        begin = time.perf_counter()
        try:
            with telling_bugs(target.path, Stopped), contextlib.ExitStack() as stack:
                return self._image(target, stack)
        except (CellunetError, MemoryError) as error:
            message = str(error)
            if isinstance(error, MemoryError):
                message = (
                    f"{target.path} does not fit into memory. Try: a smaller --tile."
                )
            return ImageResult(
                input=str(target.path),
                output=None,
                status="failed",
                message=message,
                bug=isinstance(error, BugError),
                seconds=time.perf_counter() - begin,
            )

    def _image(self, target: Target, stack: contextlib.ExitStack) -> ImageResult:
        begin = time.perf_counter()
        path, output = target.path, target.output
        provenance, recipe = self._provenance(target), self.recipe
        # What is finished is skipped without a look at the image, unless its scale
        # follows from its own pixel size.
        source: Source | None = None
        if self.config.pixel_size_um is not None:
            source = stack.enter_context(self._opened(target))
            recipe = recipe_for_image(recipe, self.config, source)
            provenance["settings"] |= {
                "scale": recipe.scale,
                "decode": recipe.decode.to_dict(),
            }
        if self._is_done(output, provenance):
            damaged = recorded(read_provenance(output))
            return ImageResult(
                input=str(path),
                output=str(output),
                status="skipped",
                warnings=damage_warnings(damaged),
                damaged=damaged,
            )
        if source is None:
            source = stack.enter_context(self._opened(target))
        if self.dry_run:
            return _result(source, output, status="planned")
        channels = read_through(source, self.config)
        with self._beside.passing(source, recipe, channels) as recipe:
            objects, warnings, damaged = self._write(
                source, target.name, output, provenance, recipe
            )
        return _result(
            source,
            output,
            status="done",
            objects=objects,
            seconds=time.perf_counter() - begin,
            warnings=warnings,
            shape=(*source.plane_shape, *source.shape),
            damaged=damaged,
        )

    def _opened(self, target: Target) -> Source:
        source = open_as(
            target.path, self.config, known=self.card.channels, image=target.image
        )
        refuse_misfit(source, self.model["name"], self.card, self.config.channel)
        return source

    def _provenance(self, target: Target) -> dict[str, Any]:
        path = target.path
        image = {} if target.image is None else {"image": target.image}
        try:
            stat = path.stat()
        except OSError as error:
            raise CellunetError(f"{path} cannot be read ({error}).") from error
        return {
            "cellunet": __version__,
            "model": self.model,
            "engine": self.recipe.engine.name,
            "settings": self.settings | image,
            "input": {
                "name": path.name,
                "bytes": stat.st_size,
                "modified_ns": stat.st_mtime_ns,
            },
        }

    def _is_done(self, output: Path, provenance: dict[str, Any]) -> bool:
        """Return whether the very result is there; refuse to replace another."""
        extras = extra_paths(output, self.config).values()
        there = [path for path in extras if path.exists()]
        if not output.exists():
            if there and not self.config.overwrite:
                raise OutputError(
                    f"{there[0]} exists, but not the {output.name} that it "
                    "would belong to.",
                    hint="Choose another --out, or replace it with --overwrite.",
                )
            return False
        if output.is_dir():
            raise OutputError(
                f"{output} is a folder; the labels cannot be written there.",
                hint="Choose another --out.",
            )
        try:
            same = without_damage(read_provenance(output)) == provenance
        except BugError:
            raise
        except CellunetError:
            # Cut off or of another program: not ours to skip or to replace unasked.
            same = False
        if same:
            # Labels are written first: what was to lie beside them may be missing.
            return len(there) == len(extras) and self.reporter.has(output, provenance)
        if self.config.overwrite:
            return False
        raise OutputError(
            f"{output} exists and was made from another input, by another model or "
            "with other settings.",
            hint="Choose another --out, or replace it with --overwrite.",
        )

    def _write(
        self,
        source: Source,
        name: str,
        output: Path,
        provenance: dict[str, Any],
        recipe: Recipe,
    ) -> tuple[int, tuple[str, ...], tuple[Damage, ...]]:
        begin = time.perf_counter()
        with writing(output):
            output.parent.mkdir(parents=True, exist_ok=True)
        observer = Observer(source, recipe, picture=self.reporter.wanted)
        pixels = math.prod((*source.plane_shape, *source.shape))
        waiting = recipe.memory.scratch_bytes
        check_room(output, pixels, waiting, self._folder)
        with Scratch(output, waiting, self._folder) as scratch:
            count, damaged = self._segment(
                source, name, output, provenance, observer, recipe, scratch
            )
            observed = observer.finish()
        warnings = file_warnings(source, damaged)
        warnings += warnings_of(observed.appearance, self.card, recipe.scale)
        seconds = time.perf_counter() - begin
        self.reporter.keep(
            output, provenance, summary_of(observed, source, seconds, warnings)
        )
        return count, warnings, damaged

    def _segment(  # noqa: PLR0913
        self,
        source: Source,
        name: str,
        output: Path,
        provenance: dict[str, Any],
        observer: Observer,
        recipe: Recipe,
        scratch: Scratch,
    ) -> tuple[int, tuple[Damage, ...]]:
        """Write labels and what lies beside; return the objects, and what is lost."""
        planes = int(np.prod(source.plane_shape, dtype=int))
        classes = recipe.config.encoding.classes
        with Extras(output, source, name, self.config, classes) as extras:
            segmented = [
                segment_plane(source, plane, recipe, scratch, extras.on_band(plane))
                for plane in range(planes)
            ]
            observer.segmented(segmented)
            counts = [s.count for s in segmented]
            dtype = np.uint16 if max(counts) <= MOST_UINT16 else np.uint32
            with create_labels(
                output,
                shape=source.shape,
                plane_axes=source.plane_axes,
                plane_shape=source.plane_shape,
                dtype=dtype,
                pixel_size_um=source.pixel_size_um,
                z_step_um=source.z_step_um,
                time_step_s=source.time_step_s,
                # All of the channel has been read by now.
                provenance=provenance | record(source.damaged),
            ) as sink:
                for plane, result in enumerate(segmented):
                    y0 = 0
                    for rows in extras.labels(plane, result):
                        observer.on_labels(plane, y0, rows)
                        sink.write(plane, y0, rows.astype(dtype, copy=False))
                        y0 += rows.shape[0]
                sink.commit()
            extras.commit()
            damaged = extras.damaged
        return sum(counts), damaged


def _result(source: Source, output: Path, **what: Any) -> ImageResult:  # noqa: ANN401
    """Return the result of an image that was opened, with what its file tells."""
    origin = source.origin
    return ImageResult(
        input=str(source.path),
        output=str(output),
        notes=origin.notes,
        pixel_size_um=source.pixel_size_um,
        pixel_size_from=origin.pixel_size_from,
        image=origin.image,
        channels=source.channel_names,
        position=origin.position,
        acquired=origin.acquired,
        **what,
    )
