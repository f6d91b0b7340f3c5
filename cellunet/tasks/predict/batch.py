"""Images in, one label image per input out."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cellunet.command_config import DEVICE, ENGINE, MODEL, THREADS, PredictConfig
from cellunet.errors import CellunetError
from cellunet.io.file_names import marker_of, refuse_several_channels, sites_of
from cellunet.io.files import at_work
from cellunet.io.label_zarr import consolidated_at_end
from cellunet.io.paths import find_inputs, note_on, output_paths
from cellunet.io.scratch import check_folder
from cellunet.progress import silent_track
from cellunet.store import find_model
from cellunet.tasks.predict import outputs, parts
from cellunet.tasks.predict.estimate import estimate
from cellunet.tasks.predict.image import ImageJob
from cellunet.tasks.predict.inputs import (
    ImageResult,
    ImageTarget,
    Predictions,
    few_images,
    find_targets,
    open_as,
    or_lost,
)
from cellunet.tasks.predict.places import PlacedImage, Placing
from cellunet.tasks.predict.plane import PredictionStopped
from cellunet.tasks.predict.sizes import MOST_IMAGES
from cellunet.tasks.predict.workers import connected
from cellunet.tasks.scheduling import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TextIO

    from cellunet.io.file_names import ChannelSite, PlatePattern
    from cellunet.io.paths import Inputs
    from cellunet.progress import Track
    from cellunet.tasks.predict.places import Places

__all__ = ["ImageResult", "Predictions", "predict"]


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
    keep_columns: bool = False,
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
    keep_columns
        Leave what tables that are finished say of plates and samples as it is.
    stdin
        Where a list is read from.
    track, on_image
        Progress over images, and over the rows of a large one beside it, in another
        thread; and each result as it comes.
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
    _check(config)
    placing = Placing(config)
    found = find_inputs(inputs, stdin, exclude=out, include=config.include)
    found, sites = _of_channel(found, config, placing.pattern)
    named = output_paths(found.files, found.base, out)
    outputs.refuse_clashes(found, named, out, config)
    outputs.joined_paths(out, config)
    opened = find_model(model)
    reporter = outputs.reporter_for(out, config)
    first, every = config.part or (1, 1)
    mine, whole = slice(first - 1, None, every), slice(None)
    # Where parts would have no file, the images in all of them are divided.
    of_files, of_images = (mine, whole) if len(found.files) >= every else (whole, mine)
    own = {*found.files[of_files]}
    targets, places = _placed(find_targets(found, named, config, sites, own), placing)
    wanted = [target for target in targets if target.path in own][of_images]
    few = few_images(found, MOST_IMAGES) if config.diameter_px == "batch" else ()
    try:
        job = ImageJob(
            opened,
            engine,
            device,
            threads,
            config,
            should_stop,
            reporter,
            out=out,
            images=len(wanted),
            dry_run=dry_run,
            batch=few,
            track=track,
        )
    except PredictionStopped:
        # While the size of all was looked for: nothing is begun.
        return Predictions(
            model={"name": opened.name, "sha256": opened.sha256},
            engine=engine,
            settings=config.recorded(),
            images=(),
            seconds=time.perf_counter() - begin,
            stopped=True,
        )
    made = parts.made_with(
        found.files,
        {target.name: target.columns for target in targets},
        model=job.model,
        engine=job.recipe.engine.name,
        settings=job.settings,
    )
    missing = [
        ImageResult(input=what, output=None, status="failed", message=why)
        for what, why in found.missing
        # One part is enough to tell.
        if first == 1
    ]
    for result in missing:
        on_image(result)
    results = list(missing)
    stop = threading.Event()
    own_labels = _OwnLabels(found)
    by_labels = _by_labels(wanted)
    # What an earlier call finished takes no time, so it is no part of the progress from
    # which the time left follows.
    looked = map(job.finished, wanted)
    before = list(itertools.takewhile(lambda result: result is not None, looked))
    todo = itertools.filterfalse(
        own_labels,
        itertools.takewhile(lambda _: not stop.is_set(), wanted[len(before) :]),
    )
    with contextlib.ExitStack() as stack:
        if not dry_run:
            folders = _folders(out, [target.output for target in wanted])
            stack.enter_context(at_work(out, folders, config.part))
            stack.enter_context(consolidated_at_end())
            columns = {labels: t.columns for labels, t in by_labels.items()}
            parts.begin(out, config.part, made, columns)
            if config.dask is not None and len(before) < len(wanted):
                cluster = connected(config.dask, should_stop)
                job.cluster = stack.enter_context(cluster)
        image = _until_stopped(job, should_stop, stop)
        done = stack.enter_context(
            contextlib.closing(in_order(image, todo, job.at_once))
        )
        shown = track(done, "Segmenting", len(wanted) - len(before))
        for finished in filter(None, itertools.chain(before, shown)):
            results.append(finished)
            on_image(finished)
        results = [or_lost(result) for result in results]
        predictions = Predictions(
            model=job.model,
            engine=job.recipe.engine.name,
            settings=job.settings,
            images=tuple(results),
            seconds=time.perf_counter() - begin,
            stopped=stop.is_set(),
            notes=(*own_labels.notes(), *_on_parts(targets, config), *places.notes),
            warnings=(*found.warnings, *places.warnings),
        )
        if not dry_run:
            if not keep_columns:
                _refresh_tables(by_labels, results, config)
            beside, run = _beside(by_labels, results), None
            if reporter is not None:
                run = reporter.run(
                    opened,
                    job.recipe,
                    job.settings,
                    results,
                    predictions.seconds,
                    stopped=predictions.stopped,
                )
            if config.part is None:
                return parts.finish(out, config, predictions, beside, run)
            made |= {"config": config.to_dict(), "run": run and asdict(run)}
            parts.keep(config.part, out, made, targets, predictions, beside)
            return predictions
    return _with_estimate(predictions, job, by_labels, out)


def _on_parts(targets: Sequence[ImageTarget], config: PredictConfig) -> tuple[str, ...]:
    """Return what to know of parts that have no image, if there are some."""
    _, every = config.part or (1, 1)
    if not 0 < len(targets) < every:
        return ()
    images = "1 image" if len(targets) == 1 else f"{len(targets):,} images"
    return (
        f"{every:,} parts of {images}: parts from {len(targets) + 1:,} on have nothing "
        "to do; all planes of an image are of one part",
    )


def _check(config: PredictConfig) -> None:
    """Refuse what cannot be done, before anything is read.

    Raises
    ------
    CellunetError
        If a package is missing or the folder of temporary files cannot be used.
    """
    outputs.check_installed(config.save, config.table_format)
    if config.scratch is not None:
        check_folder(Path(config.scratch))


def _until_stopped(
    job: ImageJob, should_stop: Callable[[], bool], stop: threading.Event
) -> Callable[[ImageTarget], ImageResult | None]:
    """Return what segments an image, or sets `stop` and returns None once asked to."""

    def image(target: ImageTarget) -> ImageResult | None:
        if stop.is_set() or should_stop():
            stop.set()
            return None
        try:
            return job.image(target)
        except PredictionStopped:
            stop.set()
            return None

    return image


def _by_labels(targets: Sequence[ImageTarget]) -> dict[str, ImageTarget]:
    """Return targets by their label images, as results name them."""
    found = {}
    for target in targets:
        # What has no labels failed, and has told why.
        with contextlib.suppress(CellunetError):
            found[str(target.labels)] = target
    return found


def _with_estimate(
    predictions: Predictions, job: ImageJob, of: Mapping[str, ImageTarget], out: Path
) -> Predictions:
    """Return a dry run with what its planned images would take, if there are any."""
    planned = [
        (of[str(r.output)], r)
        for r in predictions.images
        if r.status == "planned" and r.output
    ]
    if not planned or predictions.stopped:
        return predictions
    try:
        found, failures = estimate(job, planned, out)
    except PredictionStopped:
        return replace(predictions, stopped=True)
    warnings = (
        *predictions.warnings,
        *(f"An image cannot be measured: {why}" for why in failures),
        *(found.warnings if found else ()),
    )
    return replace(predictions, estimate=found, warnings=warnings)


def _refresh_tables(
    of: Mapping[str, ImageTarget], results: Sequence[ImageResult], config: PredictConfig
) -> None:
    """Have the tables of images that were finished before say what is known now."""
    for result in results:
        own = of.get(str(result.output))
        if own is not None and result.status == "skipped":
            outputs.refresh_tables(own.output, own.labels, config, own.columns)


def _placed(
    targets: list[ImageTarget], placing: Placing
) -> tuple[list[ImageTarget], Places]:
    """Return targets with the columns of their images, and what to tell of these."""
    places = placing.columns_of(
        [
            PlacedImage(t.path, t.name, t.image, tuple(f.path for f in t.others))
            for t in targets
        ]
    )
    columns = zip(targets, places.columns, strict=True)
    return [replace(target, columns=own) for target, own in columns], places


def _of_channel(
    found: Inputs, config: PredictConfig, pattern: PlatePattern | None
) -> tuple[Inputs, dict[Path, ChannelSite]]:
    """Return the inputs that are to be segmented, and the files that belong to each."""
    if config.segment_channel is None:
        if pattern is not None:
            refuse_several_channels(pattern, found.files)
        return found, {}

    def names_in(path: Path) -> tuple[str, ...]:
        with open_as(path, config) as source:
            return source.file_channels

    mark = marker_of(pattern)
    chosen = sites_of(found.files, config.segment_channel, names_in, mark)
    lost = [(str(path), why) for path, why in chosen.lost.items()]
    files = [path for path in found.files if path in chosen.sites]
    return replace(found, files=files, missing=found.missing + lost), chosen.sites


class _OwnLabels:
    """Says of images about to be opened whether cellunet wrote them as labels."""

    def __init__(self, found: Inputs) -> None:
        self._found = found
        self._labels: list[Path] = []

    def __call__(self, target: ImageTarget) -> bool:
        missed = self._found.is_missed(target.path)
        self._labels += [target.path] * missed
        return missed

    def notes(self) -> tuple[str, ...]:
        """Return the line that counts what was left out, if anything was."""
        out = self._found.without(self._labels).left_out
        return (note_on(out),) if out else ()


def _beside(
    of: Mapping[str, ImageTarget], results: Sequence[ImageResult]
) -> list[ImageResult]:
    """Return results by what their files in `out` are named after.

    Labels in the store of an image are not there themselves.
    """
    named = {labels: str(target.output) for labels, target in of.items()}
    return [replace(r, output=named.get(str(r.output), r.output)) for r in results]


def _folders(out: Path, results: Sequence[Path]) -> set[Path]:
    """Return the folders of results and of their records."""
    parents = {path.parent for path in results}
    return parents | {out / outputs.RECORDS / path.relative_to(out) for path in parents}
