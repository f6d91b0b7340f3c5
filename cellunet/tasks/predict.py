"""Images in, one label image per input out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellunet import __version__, store
from cellunet.config import PredictConfig
from cellunet.engine.choice import choose_engine, load_engine
from cellunet.errors import CellunetError, ConfigError, OutputError
from cellunet.imaging.atomic import writing
from cellunet.imaging.files import create_labels, open_image, read_provenance
from cellunet.imaging.inputs import find_inputs, output_paths
from cellunet.progress import silent_track
from cellunet.tasks.extras import Extras
from cellunet.tasks.segment import Recipe, Segmented, Stopped, at_scale, segment_plane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import TextIO

    from cellunet.config import DecodeConfig
    from cellunet.imaging.files import Source
    from cellunet.progress import Track
    from cellunet.store import Model

Status = Literal["done", "skipped", "failed", "planned"]
MOST_UINT16 = 65_535


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """What became of one input."""

    input: str
    output: str | None
    status: Status
    objects: int | None = None
    seconds: float = 0.0
    message: str = ""
    warnings: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What became of all inputs, and with what."""

    model: dict[str, str]
    engine: str
    settings: dict[str, Any]
    images: tuple[ImageResult, ...]
    seconds: float
    stopped: bool = False

    @property
    def done(self) -> tuple[ImageResult, ...]:
        """Inputs segmented in this call."""
        return tuple(i for i in self.images if i.status == "done")

    @property
    def skipped(self) -> tuple[ImageResult, ...]:
        """Inputs whose result was there already."""
        return tuple(i for i in self.images if i.status == "skipped")

    @property
    def failed(self) -> tuple[ImageResult, ...]:
        """Inputs that could not be segmented, each with its message."""
        return tuple(i for i in self.images if i.status == "failed")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        plain = dict(vars(self))
        plain["images"] = [
            vars(i) | {"warnings": list(i.warnings), "shape": i.shape and list(i.shape)}
            for i in self.images
        ]
        return plain


def predict(  # noqa: PLR0913
    inputs: Sequence[str],
    out: Path,
    *,
    model: str = "nuclei",
    engine: str = "auto",
    device: str = "auto",
    threads: int = 0,
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
    found = find_inputs(inputs, stdin)
    outputs = output_paths(found.files, found.base, out)
    opened = store.find_model(model)
    missing = [
        ImageResult(input=what, output=None, status="failed", message=why)
        for what, why in found.missing
    ]
    for result in missing:
        on_image(result)
    if not dry_run:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
    job = _Job(opened, engine, device, threads, config, should_stop, dry_run=dry_run)
    results = list(missing)
    stopped = False
    for path in track(found.files, "Segmenting", len(found.files)):
        if should_stop():
            stopped = True
            break
        try:
            result = job.image(path, outputs[path])
        except Stopped:
            stopped = True
            break
        results.append(result)
        on_image(result)
    return Predictions(
        model={"name": opened.name, "sha256": opened.sha256},
        engine=job.recipe.engine.name,
        settings=job.settings,
        images=tuple(results),
        seconds=time.perf_counter() - begin,
        stopped=stopped,
    )


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
        *,
        dry_run: bool,
    ) -> None:
        self.config, self.card, self.dry_run = config, model.card, dry_run
        self.recipe = recipe = recipe_for(
            model, config, engine, device, threads, should_stop
        )
        self.settings = {
            "decode": recipe.decode.to_dict(),
            "scale": recipe.scale,
            "channel": config.channel,
            "gray": config.gray,
            "z": config.z,
            "exclude_border": config.exclude_border,
            "save": sorted(config.save),
        }
        self.model = {"name": model.name, "sha256": model.sha256}

    def image(self, path: Path, output: Path) -> ImageResult:
        """Segment one image, or say why not."""
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
                objects, warnings = self._write(source, output, provenance)
                shape = (*source.plane_shape, *source.shape)
        except CellunetError as error:
            return ImageResult(
                input=str(path),
                output=None,
                status="failed",
                message=str(error),
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
        if not output.exists():
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
        extras = Extras(output, self.config.save)
        if same and extras.all_there():
            return True
        if self.config.overwrite or (same and not extras.any_there()):
            return False
        raise OutputError(
            f"{output} exists and was made from another input, by another model or "
            "with other settings.",
            hint="Choose another --out, or replace it with --overwrite.",
        )

    def _write(
        self, source: Source, output: Path, provenance: dict[str, Any]
    ) -> tuple[int, tuple[str, ...]]:
        planes = int(np.prod(source.plane_shape, dtype=int))
        extras = Extras(output, self.config.save, source)
        segmented: list[Segmented] = []
        for plane in range(planes):
            extras.begin(plane)
            segmented.append(segment_plane(source, plane, self.recipe, extras.on_band))
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
                for rows in extras.labels(plane, result.bands()):
                    sink.write(plane, y0, rows.astype(dtype))
                    y0 += rows.shape[0]
            extras.commit()
            sink.commit()
        return sum(counts), self._warnings(segmented)

    def _warnings(self, segmented: Sequence[Segmented]) -> tuple[str, ...]:
        found = [s.median_diameter_px for s in segmented if s.count]
        if not found:
            return ()
        median = float(np.median(found))
        low, _, high = (d / self.recipe.scale for d in self.card.diameter_px)
        if high == 0 or low <= median <= high:
            return ()
        return (
            f"The objects found are {median:.0f} px wide (median); the model learned "
            f"{low:.0f} to {high:.0f}. If they look wrong, measure a few and "
            "try: --diameter PIXELS.",
        )


def recipe_for(  # noqa: PLR0913
    model: Model,
    config: PredictConfig,
    engine: str,
    device: str,
    threads: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Recipe:
    """Return how a model is applied: its engine, and constants at the scale asked for.

    Raises
    ------
    CellunetError
        If the engine or the model's files cannot be used.
    """
    card = model.card
    scale = _scale(config, model)
    runs_onnx = choose_engine(engine, device) == "onnxruntime"
    onnx = store.checked_onnx(model) if runs_onnx else model.onnx
    return Recipe(
        engine=load_engine(
            onnx=onnx,
            safetensors=model.weights,
            config=card.config.network,
            engine=engine,
            device=device,
            threads=threads,
        ),
        config=card.config,
        decode=at_scale(_decode(config, card.config.decode), scale),
        scale=scale,
        exclude_border=config.exclude_border,
        tile_px=config.tile_px,
        should_stop=should_stop,
    )


def _scale(config: PredictConfig, model: Model) -> float:
    if config.diameter_px is None:
        return config.scale or 1.0
    median = model.card.diameter_px[1]
    if median <= 0:
        raise ConfigError(
            f"Model {model.name!r} does not know its objects' diameter.",
            hint="Give --scale instead.",
        )
    return median / config.diameter_px


def _decode(config: PredictConfig, trained: DecodeConfig) -> DecodeConfig:
    if config.seed_threshold is not None:
        trained = trained.replace(seed_threshold=config.seed_threshold)
    if config.min_area_px is None:
        return trained
    # The user counts the image's pixels, not those that the network sees.
    scale = config.scale or 1.0
    return trained.replace(min_area_px=round(config.min_area_px * scale**2))
