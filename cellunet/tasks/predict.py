"""Images in, one label image per input out."""

from __future__ import annotations

import glob
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellunet import __version__, store
from cellunet.config import DEVICE, ENGINE, MODEL, THREADS, PredictConfig
from cellunet.errors import CellunetError, OutputError
from cellunet.imaging.atomic import writing
from cellunet.imaging.files import create_labels, open_image, read_provenance
from cellunet.imaging.inputs import find_inputs, output_paths
from cellunet.imaging.outputs import below
from cellunet.progress import silent_track
from cellunet.tasks.extra_kinds import check_installed
from cellunet.tasks.extras import Extras, beside, extra_paths, refuse_clashes
from cellunet.tasks.observe import Observer, warnings_of
from cellunet.tasks.predictions import ImageResult, Predictions
from cellunet.tasks.recipe import recipe_for
from cellunet.tasks.report import Reporter, summary_of
from cellunet.tasks.report_run import run_summary
from cellunet.tasks.run_table import table_path, write_table
from cellunet.tasks.segment import Stopped, segment_plane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

    import numpy.typing as npt

    from cellunet.imaging.files import Source
    from cellunet.progress import Track
    from cellunet.store import Model
    from cellunet.tasks.segment import OnBand

__all__ = ["ImageResult", "Predictions", "predict"]

MOST_UINT16 = 65_535
"""Most objects that a plane of uint16 labels can tell apart."""


def predict(  # noqa: PLR0913
    inputs: Sequence[str],
    out: Path,
    *,
    model: str = MODEL,
    engine: str = ENGINE,
    device: str = DEVICE,
    threads: int = THREADS,
    config: PredictConfig | None = None,
    dry_run: bool = False,
    stdin: TextIO | None = None,
    track: Track = silent_track,
    on_image: Callable[[ImageResult], None] = lambda result: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Predictions:
    """Segment images.

    Parameters
    ----------
    inputs
        Files, folders, patterns, or ``-`` for a list on `stdin`.
    out
        Folder of the label images; the tree below it mirrors the inputs'.
    model
        Name or path of the model.
    engine, device, threads
        What computes, as for the command line.
    config
        How the model is applied.
    dry_run
        Say what would be done, and write nothing.
    stdin
        Where a list is read from.
    track, on_image
        Progress over images, and each result as it comes.
    should_stop
        Asked between blocks; true ends the call, and finished images stay.

    Raises
    ------
    CellunetError
        If nothing can be done at all: no input, no model, two inputs of one output.
        What concerns one image is in its result instead.
    """
    begin = time.perf_counter()
    config = config or PredictConfig()
    check_installed(config.save, config.table_format)
    found = find_inputs(inputs, stdin, exclude=_apart(inputs, out))
    outputs = output_paths(found.files, found.base, out)
    refuse_clashes(found, outputs, out, config)
    joined = table_path(out, config)
    opened = store.find_model(model)
    reporter = Reporter(out, wanted="report" in config.save and not dry_run)
    job = _Job(
        opened, engine, device, threads, config, should_stop, reporter, dry_run=dry_run
    )
    names = {path: below(path, found.base).as_posix() for path in found.files}
    missing = [
        ImageResult(input=what, output=None, status="failed", message=why)
        for what, why in found.missing
    ]
    for result in missing:
        on_image(result)
    if not dry_run:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
    results = list(missing)
    stopped = False
    for path in track(found.files, "Segmenting", len(found.files)):
        if should_stop():
            stopped = True
            break
        try:
            result = job.image(path, names[path], outputs[path])
        except Stopped:
            stopped = True
            break
        results.append(result)
        on_image(result)
    seconds = time.perf_counter() - begin
    run = run_summary(
        opened, job.recipe, job.settings, results, out, seconds, stopped=stopped
    )
    return Predictions(
        model=job.model,
        engine=job.recipe.engine.name,
        settings=job.settings,
        images=tuple(results),
        seconds=seconds,
        stopped=stopped,
        table=None if dry_run else write_table(joined, results, config),
        report=reporter.write(run, results),
    )


def _apart(inputs: Sequence[str], out: Path) -> Path | None:
    """Return `out` if the search for images is to leave it out.

    So that a second run does not take the first one's results for images; unless the
    images themselves are searched for in it.
    """
    results = os.path.realpath(out)
    for text in inputs:
        parts = Path(text).parts
        fixed = [i for i, part in enumerate(parts) if glob.has_magic(part)]
        # Of os.path, because a name that is too long is no error there.
        literal = os.path.exists(text) or not fixed  # noqa: PTH110
        root = os.path.realpath(text if literal else Path(*parts[: fixed[0]]))
        if os.path.isdir(root) and _lies_in(root, results):  # noqa: PTH112
            return None
    return out


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


class _Job:
    """A model loaded once and applied to one image after another."""

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
        dry_run: bool,
    ) -> None:
        self.config, self.card, self.dry_run = config, model.card, dry_run
        self.reporter = reporter
        self.recipe = recipe = recipe_for(
            model, config, engine, device, threads, should_stop
        )
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
        self.model = {"name": model.name, "sha256": model.sha256}

    def image(self, path: Path, name: str, output: Path) -> ImageResult:
        """Segment one image, known by `name` in tables, or say why not."""
        begin = time.perf_counter()
        try:
            provenance = self._provenance(path)
            if self._is_done(output, provenance):
                return ImageResult(
                    input=str(path), output=str(output), status="skipped"
                )
            if self.dry_run:
                return ImageResult(
                    input=str(path), output=str(output), status="planned"
                )
            with open_image(
                path,
                channel=self.config.channel,
                gray=self.config.gray,
                z=self.config.z,
            ) as source:
                objects, warnings = self._write(source, name, output, provenance)
                shape = (*source.plane_shape, *source.shape)
        except (CellunetError, MemoryError) as error:
            message = str(error)
            if isinstance(error, MemoryError):
                message = f"{path} does not fit into memory. Try: a smaller --tile."
            return ImageResult(
                input=str(path),
                output=None,
                status="failed",
                message=message,
                seconds=time.perf_counter() - begin,
            )
        return ImageResult(
            input=str(path),
            output=str(output),
            status="done",
            objects=objects,
            seconds=time.perf_counter() - begin,
            warnings=warnings,
            shape=shape,
        )

    def _provenance(self, path: Path) -> dict[str, Any]:
        try:
            stat = path.stat()
        except OSError as error:
            raise CellunetError(f"{path} cannot be read ({error}).") from error
        return {
            "cellunet": __version__,
            "model": self.model,
            "engine": self.recipe.engine.name,
            "settings": self.settings,
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
            same = read_provenance(output) == provenance
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
        self, source: Source, name: str, output: Path, provenance: dict[str, Any]
    ) -> tuple[int, tuple[str, ...]]:
        begin = time.perf_counter()
        with writing(output):
            output.parent.mkdir(parents=True, exist_ok=True)
        observer = Observer(
            source, self.recipe, output.parent, picture=self.reporter.wanted
        )
        try:
            count = self._segment(source, name, output, provenance, observer)
            observed = observer.finish()
        finally:
            observer.close()
        warnings = warnings_of(observed.appearance, self.card, self.recipe.scale)
        seconds = time.perf_counter() - begin
        self.reporter.keep(
            output, provenance, summary_of(observed, source, seconds, warnings)
        )
        return count, warnings

    def _segment(
        self,
        source: Source,
        name: str,
        output: Path,
        provenance: dict[str, Any],
        observer: Observer,
    ) -> int:
        """Write the labels of all planes and what lies beside; return the objects."""
        planes = int(np.prod(source.plane_shape, dtype=int))
        classes = self.recipe.config.network.classes
        with Extras(output, source, name, self.config, classes) as extras:
            segmented = [
                segment_plane(
                    source,
                    plane,
                    self.recipe,
                    _both(observer.on_band, extras.on_band(plane)),
                )
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
                provenance=provenance,
            ) as sink:
                for plane, result in enumerate(segmented):
                    y0 = 0
                    for rows in extras.labels(plane, result):
                        observer.on_labels(plane, y0, rows)
                        sink.write(plane, y0, rows.astype(dtype))
                        y0 += rows.shape[0]
                sink.commit()
            extras.commit()
        return sum(counts)


def _both(*told: OnBand | None) -> OnBand:
    """Return one that tells each of those that are to be told of probabilities."""

    def on_band(y0: int, probabilities: npt.NDArray[np.float32]) -> None:
        for one in told:
            if one is not None:
                one(y0, probabilities)

    return on_band
