"""A model ready to predict: its engine, its settings, arrays in and labels out.

On a CPU onnxruntime is faster than torch and loads in a tenth of a second where torch
takes seconds, so torch is imported only where a GPU may be.

A coarse look at the plane reduced four times says whether the objects are too large for
the model; looks at a few windows, at the model's own magnification and at another, say
which of the two shows more. Windows lie on a fixed grid, or follow from the looks
before: none depends on tiles, threads or the bound on memory, and there are never more
pixels in them than `COARSE_PX` and `COMPARED_PX` say, however large a plane is.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import math
import os
import platform
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from cellunet import store
from cellunet.config import DEVICE, ENGINE, MODEL, THREADS, PredictConfig
from cellunet.engine.cores import usable_cores
from cellunet.engine.runtimes import FlippingEngine
from cellunet.errors import (
    CellunetError,
    ConfigError,
    DeviceError,
    ImageReadError,
    choose,
)
from cellunet.imaging.measure import measure_labels
from cellunet.imaging.sizes import (
    FEWEST,
    apart,
    best_scale,
    better,
    look_of,
    tells_size,
    together,
    too_large,
    too_small,
)
from cellunet.io.scratch import Scratch
from cellunet.io.source import ArraySource, Region, array_source
from cellunet.tasks.predict.inputs import open_as
from cellunet.tasks.predict.memory import memory_for
from cellunet.tasks.predict.plane import (
    Further,
    InferenceSettings,
    as_labels,
    band_rows,
    plane_statistics,
    segment_plane,
)
from cellunet.tasks.predict.refine import segment
from cellunet.tasks.scheduling import executor_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from cellunet.config import DecodeConfig
    from cellunet.engine.runtimes import Engine
    from cellunet.imaging.measure import Table
    from cellunet.imaging.sizes import Look
    from cellunet.io.source import Source, Statistics
    from cellunet.store import Model, ModelCard

AUTO = "auto"

_log = logging.getLogger(__name__)


class Loader(Protocol):
    """Loads one kind of engine; arguments as in `load_engine`."""

    def __call__(self, model: Model, *, device: str, threads: int) -> Engine:
        """Return the engine, or raise as `load_engine` says."""


@dataclass(frozen=True, kw_only=True)
class EngineKind:
    """One row of `ENGINES`."""

    load: Loader
    only_cpu: bool = True
    """Whether it runs on the CPU alone."""


def load_engine(model: Model, *, engine: str, device: str, threads: int) -> Engine:
    """Return the engine asked for, with a model's weights in it.

    Parameters
    ----------
    model
        Where the weights are.
    engine
        A name in `ENGINES`, or ``auto``.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    threads
        Threads on a CPU; 0 for as many as this process may use cores.

    Raises
    ------
    ConfigError
        If there is no such engine, or what it needs is not installed.
    DeviceError
        If the engine or the device is not available, or they do not go together.
    CheckpointError
        If the weights are missing, cannot be read or are not of this model.
    """
    chosen = choose_engine(engine, device)
    if engine == AUTO and chosen == "onnxruntime":
        _tell_of_openvino()
    loaded = ENGINES[chosen].load(model, device=device, threads=threads)
    model.check_unchanged()
    return loaded


def _tell_of_openvino() -> None:
    """Log that there is a faster engine, which is never taken unasked."""
    from cellunet.engine.runtimes import installed

    if installed():
        _log.info(
            "openvino is installed: --engine openvino-int8 is faster on most "
            "processors; its labels differ in a few pixels."
        )


def choose_engine(name: str, device: str) -> str:
    """Return the name of the engine that is to run.

    ``auto`` is onnxruntime on a CPU and torch on CUDA and MPS. With ``auto`` for both,
    the device is what torch finds, but torch is asked only where `gpu_possible`.

    Parameters
    ----------
    name
        A name in `ENGINES`, or ``auto``.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises
    ------
    ConfigError
        If there is no such engine.
    DeviceError
        If the engine does not run on the device.
    """
    choose({AUTO: None, **ENGINES}, name, "engine")
    only_cpu = name != AUTO and ENGINES[name].only_cpu
    if only_cpu and device not in (AUTO, "cpu"):
        raise DeviceError(
            f"Engine {name} runs on the CPU only, not on {device!r}.",
            hint=f"Try: --engine torch --device {device}, or leave --device out.",
        )
    if name != AUTO:
        return name
    on_cpu = device == "cpu" or (device == AUTO and not _gpu_found())
    return "onnxruntime" if on_cpu else "torch"


def gpu_possible() -> bool:
    """Return whether torch might find a GPU, without importing torch.

    False only where it certainly finds none: no Apple silicon, and torch a build for
    CPUs alone (as its version says), every device hidden by ``CUDA_VISIBLE_DEVICES``,
    or no sign of a driver.
    """
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    try:
        if importlib.metadata.version("torch").endswith("+cpu"):
            return False
    except importlib.metadata.PackageNotFoundError:
        return False
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    return any(p.exists() for p in _driver_files()) or bool(shutil.which("nvidia-smi"))


def _driver_files() -> list[Path]:
    """Return files that a GPU's driver puts where torch looks for GPUs."""
    if platform.system() == "Windows":
        root = os.environ.get("SYSTEMROOT", r"C:\Windows")
        return [Path(root) / "System32" / "nvcuda.dll"]
    # NVIDIA, AMD (ROCm also answers as CUDA), and either within WSL.
    return [Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg")]


def _gpu_found() -> bool:
    if "torch" not in sys.modules and not gpu_possible():
        return False
    from cellunet.core.device import available

    return available() != ["cpu"]


def _load_onnxruntime(model: Model, *, device: str, threads: int) -> Engine:
    del device
    from cellunet.engine.onnx import build, read_weights
    from cellunet.engine.runtimes import OnnxRuntimeEngine

    network, source = model.card.config.network, str(model.weights)
    graph = build(read_weights(model.weights, network), network)
    return OnnxRuntimeEngine(graph, network, source=source, threads=threads)


def _load_openvino(model: Model, *, device: str, threads: int) -> Engine:
    del device
    from cellunet.engine.onnx import build, read_weights
    from cellunet.engine.runtimes import OpenVinoEngine

    network, source = model.card.config.network, str(model.weights)
    graph = build(read_weights(model.weights, network), network)
    return OpenVinoEngine(graph, network, source=source, threads=threads)


def _load_openvino_int8(model: Model, *, device: str, threads: int) -> Engine:
    del device
    from cellunet.engine.int8 import ranges_of
    from cellunet.engine.onnx import build_int8, read_weights
    from cellunet.engine.runtimes import OpenVinoEngine

    network, source = model.card.config.network, str(model.weights)
    ranges = ranges_of(model)
    graph = build_int8(read_weights(model.weights, network), network, ranges)
    return OpenVinoEngine(graph, network, source=source, threads=threads, int8=True)


def _load_torch(model: Model, *, device: str, threads: int) -> Engine:
    return _torch(model, device, threads, "float32")


def _load_torch_bfloat16(model: Model, *, device: str, threads: int) -> Engine:
    return _torch(model, device, threads, "bfloat16")


def _torch(model: Model, device: str, threads: int, precision: str) -> Engine:
    from cellunet.core.checkpoint import load_network
    from cellunet.core.device import TorchEngine, choose_device, use_threads

    where = choose_device(device)
    use_threads(threads)
    return TorchEngine(load_network(model.weights), where, precision)


ENGINES: dict[str, EngineKind] = {
    "onnxruntime": EngineKind(load=_load_onnxruntime),
    "torch": EngineKind(load=_load_torch, only_cpu=False),
    "torch-bfloat16": EngineKind(load=_load_torch_bfloat16, only_cpu=False),
    "openvino": EngineKind(load=_load_openvino),
    "openvino-int8": EngineKind(load=_load_openvino_int8),
}

MOST_AT_ONCE = 4
"""Tiles of a large image in work at once at most, or small images in hand."""

SCALES = (0.05, 20.0)
"""Smallest and largest scale that may follow from a diameter or a pixel size."""

SQUARE = 1.05
"""Pixels whose sides differ by up to this factor are square enough for one scale."""

SAME_SCALE = 0.005
"""Scales closer to 1 than this are 1."""


def settings_for(
    model: Model,
    config: PredictConfig,
    engine: str,
    device: str,
    threads: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> InferenceSettings:
    """Return how a model is applied.

    Parameters
    ----------
    model
        The model.
    config
        What is asked for.
    engine, device, threads
        What computes, as in `cellunet.tasks.predict.session.load_engine`.
    should_stop
        Asked between blocks.

    Raises
    ------
    CellunetError
        If the engine, the scale or the model's files cannot be used.
    """
    card = model.card
    scale = scale_of(config, model)
    memory = memory_for(None, (0, 0), 0, 0, tiles_at_once(threads))
    return InferenceSettings(
        engine=engine_for(model, config, engine, device, threads),
        config=card.config,
        decode=decode_at(card.config.decode, config, scale),
        scale=scale,
        exclude_border=config.exclude_border,
        memory=replace(memory, tile_px=min(memory.tile_px, config.tile_px)),
        executor=executor_of(memory.workers),
        should_stop=should_stop,
    )


def tiles_at_once(threads: int) -> int:
    """Return how many tiles are decoded at once; `threads` 0: as the cores allow."""
    return min(threads or usable_cores(), MOST_AT_ONCE)


def engine_for(
    model: Model, config: PredictConfig, engine: str, device: str, threads: int
) -> Engine:
    """Return what computes, as for `settings_for`."""
    loaded = load_engine(model, engine=engine, device=device, threads=threads)
    return FlippingEngine(loaded) if config.flips else loaded


def settings_for_image(
    recipe: InferenceSettings, config: PredictConfig, source: Source
) -> InferenceSettings:
    """Return how one image is seen: the same engine, and the scale of its pixels.

    Parameters
    ----------
    recipe
        How the model is applied.
    config
        What is asked for.
    source
        The image.

    Raises
    ------
    ConfigError
        If images are to be seen at a pixel size, and this one's is not known, not
        square or too far from it.
    """
    wanted, own = config.pixel_size_um, source.pixel_size_um
    if wanted is None:
        return recipe
    if own is None:
        raise ConfigError(
            f"{source.path} does not say how large its pixels are, so --pixel-size "
            "cannot rescale it.",
            hint="Give --scale or --diameter instead, or save the pixel size in it.",
        )
    if max(own) > SQUARE * min(own):
        raise ConfigError(
            f"{source.path} has pixels of {own[0]:g} x {own[1]:g} micrometres, which "
            "are not square; --pixel-size cannot rescale it.",
            hint="Resample it to square pixels, or give --scale.",
        )
    scale = math.sqrt(own[0] * own[1]) / wanted
    # Metadata are rounded: a scale of 1.0003 would only cost time and sharpness.
    scale = 1.0 if abs(scale - 1) < SAME_SCALE else scale
    if not SCALES[0] <= scale <= SCALES[1]:
        raise ConfigError(
            f"{source.path} has pixels of {own[0]:g} micrometres, too far from the "
            f"{wanted:g} that --pixel-size asks for.",
            hint=f"From {own[0] / SCALES[1]:.3g} to {own[0] / SCALES[0]:.3g} are "
            "possible for it.",
        )
    decode = decode_at(recipe.config.decode, config, scale)
    return replace(recipe, scale=scale, decode=decode)


def decode_at(
    trained: DecodeConfig, config: PredictConfig, scale: float
) -> DecodeConfig:
    """Return the decode constants for a scale, and what is asked for instead."""
    decode = at_scale(trained, scale)
    if config.seed_threshold is not None:
        decode = decode.replace(seed_threshold=config.seed_threshold)
    if config.edge is not None:
        decode = decode.replace(edge=config.edge)
    if config.min_area_px is not None:
        # In the image's own pixels, which are those that decoding sees.
        decode = decode.replace(min_area_px=config.min_area_px)
    return decode


def scale_of(config: PredictConfig, model: Model) -> float:
    """Return by how much images are magnified before the network.

    Raises
    ------
    ConfigError
        If a diameter is given and the model does not know its objects', if they are
        too far apart, or if the scale is too far from 1.
    """
    if config.diameter_px is None:
        return _possible(model.card.config.scale * (config.scale or 1.0), model)
    median = model.card.diameter_px[1]
    if median <= 0:
        raise ConfigError(
            f"Model {model.name!r} does not know its objects' diameter.",
            hint="Give --scale instead.",
        )
    scale = median / config.diameter_px
    if not SCALES[0] <= scale <= SCALES[1]:
        raise ConfigError(
            f"A diameter of {config.diameter_px:g} px is too far from the {median:.0f} "
            f"px that model {model.name!r} knows.",
            hint=f"From {median / SCALES[1]:.1f} to {median / SCALES[0]:.0f} px are "
            "possible.",
        )
    return scale


def _possible(scale: float, model: Model) -> float:
    own = model.card.config.scale
    if not SCALES[0] <= scale <= SCALES[1]:
        raise ConfigError(
            f"Model {model.name!r} sees images magnified by {own:g} as it is; "
            f"{scale:g} in all is too far from 1.",
            hint=f"--scale from {SCALES[0] / own:.3g} to {SCALES[1] / own:.3g} is "
            "possible for it.",
        )
    return scale


def at_scale(decode: DecodeConfig, scale: float) -> DecodeConfig:
    """Return decode constants for images that the network sees magnified by `scale`.

    They count the image's own pixels, at which labels are decoded whatever the scale.
    """
    if scale == 1.0:
        return decode
    return decode.replace(
        min_area_px=round(decode.min_area_px / scale**2),
        growth_px=min(math.ceil(decode.growth_px / scale), 64),
        max_hole_px=round(decode.max_hole_px / scale**2),
        max_core_px=max(round(decode.max_core_px / scale**2), 1),
    )


COARSE_PX = 2**24
"""Larger planes are looked at in windows that hold as much together."""

GRID, GRID_PX = 4, 1024
"""Windows along each axis of such a plane, and their side."""

REDUCED = (4, 16)
"""How many pixels one of a coarse look is wide; the next if that shows giants still."""

COMPARED_PX = 2**20
"""Pixels that are looked at at two magnifications."""

WIDE = 4
"""Such windows are as many diameters wide, within `SIDES`."""

SIDES = (512, 1024)

LEAST_SHARE, LEAST_SIDE = 0.1, 160
"""Of a plane that shows no large objects as much is looked at for small ones."""

MOST_PLANES = 5
"""Planes of a stack that are looked at, evenly spread."""

MOST_IMAGES = 20
"""Images of a batch that are looked at, evenly spread, for one size of all."""

MIXED = 0.1
"""Where a tenth of the objects is of another size, both sizes are looked for."""

LITTLE = 0.6
"""Reduced by less than this, small objects are seen as well."""

LEAST_COARSE_PX = 16
"""Shorter sides of a coarse look show nothing."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the objects of an image are, and how it is seen."""

    diameter_px: float | None
    """Half of what objects cover lies in larger ones; None: too few were seen."""
    confidence: float
    """Of those objects, as in the table of objects."""
    scale: float
    """Magnification before the network."""
    added_scale: float | None = None
    """Magnification of a further look, for objects of another size."""
    sure: bool = True
    """False where objects look too large for the model, but not clearly."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, rounded as they are told."""
        diameter = self.diameter_px
        return vars(self) | {
            "diameter_px": None if diameter is None else round(diameter, 1),
            "confidence": round(self.confidence, 2),
        }


def size_warnings(size: Size | None, others: Sequence[str]) -> tuple[str, ...]:
    """Return what to warn of, unless other warnings name the same way out."""
    if size is None or size.sure or any("--diameter" in line for line in others):
        return ()
    return (
        f"The objects may be larger than the model knows, about "
        f"{size.diameter_px:.0f} px, but this is not sure: they were seen as they are. "
        "If they look wrong, measure a few and try: --diameter PIXELS.",
    )


def batch_size(
    files: Sequence[Path],
    recipe: InferenceSettings,
    config: PredictConfig,
    card: ModelCard,
) -> Size | None:
    """Return one size for all images of a batch; None if none is asked for.

    Images that cannot be read are left to those who segment them.
    """
    if config.diameter != "batch" or not finds_size(config, card):
        return None
    sizes = []
    for path in files[:: -(-len(files) // MOST_IMAGES)]:
        with (
            contextlib.suppress(CellunetError),
            open_as(path, config, known=card.channels) as source,
        ):
            sizes.append(find_size(source, recipe, card))
    unknown = Size(diameter_px=None, confidence=0.0, scale=recipe.scale)
    return common_size(sizes or [unknown])


def finds_size(config: PredictConfig, card: ModelCard) -> bool:
    """Return whether sizes are to be found: nothing else tells the magnification."""
    return config.finds_size and card.diameter_px[1] > 0


def size_settings(
    config: PredictConfig, card: ModelCard, size: Size | None
) -> dict[str, Any]:
    """Return the settings of how sizes are found; nothing where they are not.

    So results from before this was possible are still recognised as finished.
    """
    if not finds_size(config, card):
        return {}
    if size is None:
        # Each image has a scale of its own, which is in its provenance.
        return {"diameter": config.diameter, "scale": None}
    return {"diameter": config.diameter, "added_scale": size.added_scale}


def with_size(
    recipe: InferenceSettings, config: PredictConfig, card: ModelCard, size: Size
) -> InferenceSettings:
    """Return the recipe by which an image is seen."""
    decode = decode_at(recipe.config.decode, config, size.scale)
    added: Further | None = None
    if size.added_scale is not None:
        added = Further(
            scale=size.added_scale,
            decode=decode_at(recipe.config.decode, config, size.added_scale),
            large_px=card.diameter_px[2] / size.added_scale,
        )
    return replace(recipe, scale=size.scale, decode=decode, added=added)


@dataclass(frozen=True, kw_only=True)
class Way:
    """How an image is to be seen, and what was found out about that."""

    recipe: InferenceSettings
    size: Size | None = None
    """None where something else tells the magnification."""
    statistics: dict[int, tuple[Statistics, ...]] = field(default_factory=dict)
    """Of the planes that were looked at."""


def way_for(
    source: Source, recipe: InferenceSettings, config: PredictConfig, card: ModelCard
) -> Way:
    """Return how an image is to be seen, after a look at its objects if it takes one.

    Parameters
    ----------
    source
        The image.
    recipe
        How the model is applied at its own magnification, or at the one asked for.
    config
        What is asked for.
    card
        Of the model.
    """
    if not finds_size(config, card) or config.diameter == "batch":
        return Way(recipe=recipe)
    known: dict[int, tuple[Statistics, ...]] = {}
    size = find_size(source, recipe, card, known)
    return Way(
        recipe=with_size(recipe, config, card, size), size=size, statistics=known
    )


def find_size(
    source: Source,
    recipe: InferenceSettings,
    card: ModelCard,
    known: dict[int, tuple[Statistics, ...]] | None = None,
) -> Size:
    """Return how large the objects of an image are; one size for all its planes.

    Parameters
    ----------
    source
        The image.
    recipe
        How the model is applied at its own magnification.
    card
        Of the model.
    known
        Takes the statistics of the planes that are looked at.

    Raises
    ------
    ImageReadError
        If it cannot be read.
    Stopped
        If ``recipe.should_stop()`` came true.
    """
    planes = range(math.prod(source.plane_shape))
    chosen = planes[:: -(-len(planes) // MOST_PLANES)]
    looker = _Looker(source, replace(recipe, exclude_border=False), card)
    sizes = [looker.size(plane) for plane in chosen]
    if known is not None:
        known |= looker.statistics
    return common_size(sizes)


def common_size(sizes: Sequence[Size]) -> Size:
    """Return one size for several planes or images: the median of the sure ones."""
    known = [s for s in sizes if s.sure and s.diameter_px is not None]
    if not known:
        return next((s for s in sizes if not s.sure), sizes[0])
    scale = sorted(s.scale for s in known)[len(known) // 2]
    same = [s for s in known if s.scale == scale]
    added = Counter(s.added_scale for s in same).most_common(1)[0][0]
    return Size(
        diameter_px=float(np.median([s.diameter_px for s in known])),
        confidence=float(np.mean([s.confidence for s in known])),
        scale=scale,
        added_scale=added,
    )


@dataclass(frozen=True)
class _Window:
    """Rows y0 <= y < y1 and columns x0 <= x < x1 of a plane."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def pixels(self) -> int:
        return (self.y1 - self.y0) * (self.x1 - self.x0)


@dataclass(frozen=True)
class _Seen:
    """A window and what a look found there."""

    window: _Window
    look: Look
    labels: npt.NDArray[np.uint32]


class _Looker:
    """Looks at the planes of an image in several ways."""

    def __init__(
        self, source: Source, recipe: InferenceSettings, card: ModelCard
    ) -> None:
        self._source, self._recipe = source, recipe
        self._learned, self._own = card.diameter_px, recipe.scale
        self.statistics: dict[int, tuple[Statistics, ...]] = {}

    def size(self, plane: int) -> Size:
        """Return how large the objects of one plane are."""
        norm, stop = self._recipe.config.normalization, self._recipe.should_stop
        rows = band_rows(self._source.shape[1], self._recipe.memory)
        seen = self._recipe.config.image_channels
        statistics = plane_statistics(self._source, plane, rows, norm, stop, seen)
        self.statistics[plane] = statistics
        coarse = self._coarse(plane, statistics)
        look = together([one.look for one in coarse]) if coarse else None
        if look is not None and too_large(look, self._learned, self._own):
            side = min(max(round(WIDE * look.diameter), SIDES[0]), SIDES[1])
            windows = _fullest(coarse, side, COMPARED_PX)
            scale = best_scale(look, self._learned, self._own)
            return self._compared(plane, statistics, windows, scale, look)
        if look is not None and len(look) >= FEWEST:
            return self._usual(look)
        windows = self._small_windows(coarse)
        near = together([s.look for s in self._at(plane, statistics, windows)])
        if not too_small(near, self._learned, self._own):
            return self._usual(near)
        scale = best_scale(near, self._learned, self._own)
        return self._compared(plane, statistics, windows, scale, near)

    def _usual(self, look: Look) -> Size:
        return Size(
            diameter_px=look.diameter if len(look) else None,
            confidence=look.confidence,
            scale=self._own,
        )

    def _compared(
        self,
        plane: int,
        statistics: Sequence[Statistics],
        windows: Sequence[_Window],
        scale: float,
        first: Look,
    ) -> Size:
        """Return the better of two ways to see objects that a look found first."""
        usual = self._at(plane, statistics, windows)
        other = self._at(plane, statistics, windows, scale)
        as_usual = together([one.look for one in usual])
        as_other = together([one.look for one in other])
        magnified = scale > self._own
        if not better(as_other, as_usual, magnified=magnified):
            return self._usual(as_usual)
        found = replace(self._usual(as_other), scale=scale)
        if magnified:
            return found
        if not tells_size(first):
            return replace(self._usual(first), sure=False)
        if scale > LITTLE * self._own:
            return found
        limit = self._learned[2] / self._own
        lost = sum(
            apart(one.look, one.labels, _only_large(two, limit), limit)
            for one, two in zip(usual, other, strict=True)
        )
        large = int((as_other.diameters > limit).sum())
        mixed = lost >= max(MIXED * (lost + large), FEWEST)
        return replace(found, added_scale=self._own if mixed else None)

    def _coarse(self, plane: int, statistics: Sequence[Statistics]) -> list[_Seen]:
        """Return what is seen of the plane reduced, further if it holds giants."""
        seen: list[_Seen] = []
        for reduced in REDUCED:
            windows = _coarse_windows(self._source.shape)
            if min(self._source.shape) < LEAST_COARSE_PX * reduced:
                break
            latest = [
                self._seen(window, self._reduced(plane, window, reduced), statistics)
                for window in windows
            ]
            latest = [_enlarged(one, reduced) for one in latest]
            look = together([one.look for one in latest])
            if seen and not tells_size(look):
                break
            seen = latest
            if not too_large(look, self._learned, self._own / reduced):
                break
        return seen

    def _at(
        self,
        plane: int,
        statistics: Sequence[Statistics],
        windows: Sequence[_Window],
        scale: float | None = None,
    ) -> list[_Seen]:
        """Return what is seen of windows, at the model's own scale or another."""
        return [
            self._seen(window, self._read(plane, window), statistics, scale)
            for window in windows
        ]

    def _seen(
        self,
        window: _Window,
        pixels: npt.NDArray[Any],
        statistics: Sequence[Statistics],
        scale: float | None = None,
    ) -> _Seen:
        scale = scale or self._own
        decode = at_scale(self._recipe.config.decode, scale)
        recipe = replace(self._recipe, scale=scale, decode=decode)
        with Scratch() as scratch:
            found = segment_plane(
                array_source(pixels), 0, recipe, scratch, statistics=statistics
            )
            labels = as_labels(found.bands())
            evidence = found.evidence(0, len(labels))
        return _Seen(window, look_of(labels, evidence), labels)

    def _read(self, plane: int, window: _Window) -> npt.NDArray[Any]:
        region = Region(plane, window.y0, window.y1, window.x0, window.x1)
        pixels = self._source.read(region)
        return pixels[: self._recipe.config.image_channels]

    def _reduced(self, plane: int, window: _Window, by: int) -> npt.NDArray[np.float32]:
        """Return means over squares of so many pixels, those at the edges cut off."""
        rows = band_rows(window.x1 - window.x0, self._recipe.memory) // by * by
        bands = []
        for y0 in range(window.y0, window.y1 - by + 1, rows):
            y1 = y0 + min(rows, (window.y1 - y0) // by * by)
            x1 = window.x0 + (window.x1 - window.x0) // by * by
            pixels = self._read(plane, _Window(y0, y1, window.x0, x1))
            count, height, width = pixels.shape
            squares = pixels.reshape(count, height // by, by, width // by, by)
            bands.append(squares.mean((2, 4), dtype=np.float32))
        return np.concatenate(bands, 1)

    def _small_windows(self, coarse: Sequence[_Seen]) -> list[_Window]:
        """Return where to look for small objects: in the middle of the plane.

        Where the coarse look found anything, there.
        """
        height, width = self._source.shape
        share = math.sqrt(LEAST_SHARE * height * width)
        side = min(max(round(share), LEAST_SIDE), SIDES[0])
        found = _fullest(coarse, side, side**2) if coarse else []
        if found:
            return found
        y0, x0 = max(height - side, 0) // 2, max(width - side, 0) // 2
        return [_Window(y0, min(y0 + side, height), x0, min(x0 + side, width))]


def _coarse_windows(shape: tuple[int, int]) -> list[_Window]:
    """Return the parts of a plane that are looked at reduced: all, or a grid."""
    height, width = shape
    if height * width <= COARSE_PX:
        return [_Window(0, height, 0, width)]
    rows, columns = (_grid(length) for length in shape)
    return [_Window(*y, *x) for y in rows for x in columns]


def _grid(length: int) -> list[tuple[int, int]]:
    """Return evenly spread parts of an axis."""
    side = min(GRID_PX, length // GRID)
    places = ((length - side) * i // (GRID - 1) for i in range(GRID))
    return [(place, place + side) for place in places]


def _only_large(seen: _Seen, limit_px: float) -> npt.NDArray[np.bool_]:
    """Return where objects of more than this diameter lie."""
    large = np.concatenate(([False], seen.look.diameters > limit_px))
    there: npt.NDArray[np.bool_] = large[seen.labels]
    return there


def _enlarged(seen: _Seen, by: int) -> _Seen:
    """Return a coarse look in the plane's own pixels; its labels stay as they are."""
    look = seen.look
    own = replace(look, diameters=look.diameters * by, pixels=look.pixels * by**2)
    return replace(seen, look=own)


def _fullest(coarse: Sequence[_Seen], side: int, most_px: int) -> list[_Window]:
    """Return windows where a coarse look found objects, fullest and less full ones.

    Parameters
    ----------
    coarse
        What was found.
    side
        Of a window.
    most_px
        Pixels in all windows.
    """
    if len(coarse) == 1 and coarse[0].window.pixels <= most_px:
        return [coarse[0].window]
    cells = sorted(_cells(coarse, side), key=lambda cell: (-cell[0], cell[1:]))
    full = [_Window(*cell[1:]) for cell in cells if cell[0] > 0]
    wanted = max(most_px // side**2, 1)
    return full[:: max(len(full) // wanted, 1)][:wanted]


def _cells(
    coarse: Sequence[_Seen], side: int
) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield windows of one size with how much objects cover there."""
    for seen in coarse:
        top = seen.window
        by = (top.y1 - top.y0) // len(seen.labels)
        for y in _starts(top.y1 - top.y0, side):
            for x in _starts(top.x1 - top.x0, side):
                part = seen.labels[
                    y // by : (y + side) // by, x // by : (x + side) // by
                ]
                y0, x0 = top.y0 + y, top.x0 + x
                y1, x1 = min(y0 + side, top.y1), min(x0 + side, top.x1)
                yield int(np.count_nonzero(part)), y0, y1, x0, x1


def _starts(length: int, side: int) -> list[int]:
    """Return where parts of an axis begin that cover it, the last one at its end."""
    last = max(length - side, 0)
    return [*range(0, last, side), last]


FOR_FILES = (
    "channel",
    "gray",
    "z",
    "level",
    "keep_going",
    "save",
    "table_format",
    "measure",
    "segment_channel",
    "link_planes",
    "overwrite",
)
"""Settings that concern files, and mean nothing for arrays."""


class Segmentation(NamedTuple):
    """What was found in one image."""

    labels: npt.NDArray[np.uint32]
    """YX: 0 background, objects from 1 without gaps."""
    table: Table
    """Name of a column to its values, one an object: ``id``, then the columns of
    `cellunet.imaging.measure`."""


class LoadedModel:
    """A model that is ready for arrays; made by `load_model`."""

    def __init__(
        self,
        name: str,
        card: ModelCard,
        recipe: InferenceSettings,
        config: PredictConfig,
    ) -> None:
        self.name = name
        self.card = card
        self._recipe = recipe
        self._config = config

    def __repr__(self) -> str:
        return f"<model {self.name}, {self._recipe.engine.name}>"

    def segment(
        self,
        image: npt.NDArray[Any],
        *,
        pixel_size_um: float | tuple[float, float] | None = None,
        others: Mapping[str, npt.NDArray[Any]] | None = None,
        measure: Literal["basic", "all"] = "basic",
    ) -> Segmentation:
        """Segment one plane.

        Parameters
        ----------
        image
            YX, any real type: the channel that shows the objects. For a model that
            looks at several channels CYX: these, in the order of its training.
        pixel_size_um
            Side of a pixel in micrometres, or its height and width; then the table has
            micrometres too. Needed if the configuration says at which pixel size the
            model is to see images.
        others
            Further channels of the same shape, by name. Their intensities are
            measured beside those of `image`, whose columns end in ``_0`` then, or in
            the number of its channel.
        measure
            Which columns the table has, as for ``--measure``.

        Returns
        -------
        Segmentation
            Labels and table, the same as ``cellunet predict`` writes.

        Raises
        ------
        ImageReadError
            If an array is no such plane.
        """
        size = _size(pixel_size_um)
        count = self.card.config.image_channels
        source = ArraySource(np.asarray(image), size, channels=count)
        planes = source.read_all().reshape(count, *source.shape)
        channels = dict(zip(source.channel_names, planes, strict=True))
        for name, other in (others or {}).items():
            channels[name] = ArraySource(np.asarray(other)).read_all()
            taken = name in source.channel_names
            if channels[name].shape != source.shape or taken:
                own = ", ".join(map(repr, source.channel_names))
                raise ImageReadError(
                    f"Channel {name!r} is of shape {channels[name].shape}; a name "
                    f"other than {own} and the image's shape {source.shape} are "
                    "expected."
                )
        recipe = settings_for_image(self._recipe, self._config, source)
        with Scratch() as scratch:
            way = way_for(source, recipe, self._config, self.card)
            found = segment(
                source, 0, way.recipe, scratch, statistics=way.statistics.get(0)
            )
            labels = as_labels(found.bands())
            evidence = found.evidence(0, labels.shape[0])
        table = measure_labels(
            labels,
            list(channels.values()),
            channels=list(channels),
            pixel_size_um=size,
            evidence=evidence,
            detail=measure == "all",
        )
        return Segmentation(labels, table)

    def size_of(
        self,
        image: npt.NDArray[Any],
        *,
        pixel_size_um: float | tuple[float, float] | None = None,
    ) -> Size | None:
        """Return how large the objects of a plane are and how `segment` sees it.

        None if that was told: by a scale, a diameter or a pixel size, or because it
        is to be seen as it is.
        """
        count = self.card.config.image_channels
        source = ArraySource(np.asarray(image), _size(pixel_size_um), channels=count)
        recipe = settings_for_image(self._recipe, self._config, source)
        return way_for(source, recipe, self._config, self.card).size


def _size(given: float | tuple[float, float] | None) -> tuple[float, float] | None:
    if given is None:
        return None
    height, width = given if isinstance(given, tuple) else (given, given)
    if not (0 < height < np.inf and 0 < width < np.inf):
        raise ConfigError(f"pixel_size_um is {given}; it must be above 0.")
    return float(height), float(width)


def load_model(
    name: str = MODEL,
    *,
    engine: str = ENGINE,
    device: str = DEVICE,
    threads: int = THREADS,
    config: PredictConfig | None = None,
) -> LoadedModel:
    """Return a model that segments arrays.

    Parameters
    ----------
    name
        Name or path of the model.
    engine, device, threads
        What computes, as for the command line.
    config
        How the model is applied; what concerns files must be left at its default.

    Raises
    ------
    CellunetError
        If the model or the engine cannot be used.

    Examples
    --------
    ::

        model = load_model()
        labels, table = model.segment(image)
    """
    config = config or PredictConfig()
    wrong = [n for n in FOR_FILES if getattr(config, n) != getattr(PredictConfig, n)]
    if wrong:
        raise ConfigError(
            f"{', '.join(wrong)} of the configuration concern files, not arrays.",
            hint="Leave them out, and give one plane of the channels that the model "
            "looks at.",
        )
    if config.diameter == "batch":
        raise ConfigError(
            "The diameter of a batch concerns files, not arrays.",
            hint="Find it with size_of() of some, and give diameter_px.",
        )
    opened = store.find_model(name)
    recipe = settings_for(opened, config, engine, device, threads)
    return LoadedModel(opened.name, opened.card, recipe, config)
