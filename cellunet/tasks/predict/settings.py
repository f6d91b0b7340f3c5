"""How a model is applied: its engine, its scale and constants, and what may be held.

On a CPU onnxruntime is faster than torch and loads in a tenth of a second where torch
takes seconds, so torch is imported only where a GPU may be.

The network's window is fixed, since results depend on it in their last bits; what a
bound on memory leaves is shared out between the tiles of decoding, the bands of rows
that are handed on, and what waits in the scratch before it goes to the disk. None of
these changes a label.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import shutil
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cellunet import bugs
from cellunet.command_config import PredictConfig
from cellunet.config import FOREGROUND
from cellunet.engine.runtimes import FlippingEngine
from cellunet.engine.threads import usable_cores
from cellunet.errors import ConfigError, DeviceError, choose
from cellunet.imaging.blocks import network_plan
from cellunet.io.scratch import MEMORY_BYTES
from cellunet.tasks.scheduling import SerialExecutor, executor_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellunet.annotations.regions import RegionMask
    from cellunet.config import DecodeConfig, TrainConfig, UNetConfig
    from cellunet.engine.runtimes import Engine
    from cellunet.io.source import Source
    from cellunet.store import Model, ModelCard
    from cellunet.tasks.predict.blocks import Backend
    from cellunet.tasks.scheduling import Executor

AUTO = "auto"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineKind:
    """One row of `ENGINES`."""

    load: Callable[[Model, str, int], Engine]
    """Takes the model, the device and the threads, as `load_engine`."""
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
    loaded = ENGINES[chosen].load(model, device, threads)
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

    False only where it certainly finds none: torch is not there, or no Apple silicon,
    and torch a build for CPUs alone (as its version says), every device hidden by
    ``CUDA_VISIBLE_DEVICES``, or no sign of a driver.
    """
    torch = bugs.installed("torch")
    if torch is None:
        return False
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    if torch.endswith("+cpu"):
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


def _load_onnxruntime(model: Model, device: str, threads: int) -> Engine:
    del device
    from cellunet.engine.onnx import build, read_weights
    from cellunet.engine.runtimes import OnnxRuntimeEngine

    network, source = model.card.config.network, str(model.weights)
    graph = build(read_weights(model.weights, network), network)
    return OnnxRuntimeEngine(graph, network, source=source, threads=threads)


def _load_openvino(
    model: Model, device: str, threads: int, *, int8: bool = False
) -> Engine:
    del device
    from cellunet.engine.int8 import ranges_of
    from cellunet.engine.onnx import build, build_int8, read_weights
    from cellunet.engine.runtimes import OpenVinoEngine

    network, source = model.card.config.network, str(model.weights)
    ranges = ranges_of(model) if int8 else {}
    weights = read_weights(model.weights, network)
    graph = build_int8(weights, network, ranges) if int8 else build(weights, network)
    return OpenVinoEngine(graph, network, source=source, threads=threads, int8=int8)


def _load_torch(
    model: Model, device: str, threads: int, *, precision: str = "float32"
) -> Engine:
    from cellunet.core.checkpoint import load_network
    from cellunet.core.device import TorchEngine, choose_device, use_threads

    where = choose_device(device)
    use_threads(threads)
    return TorchEngine(load_network(model.weights), where, precision)


ENGINES = {
    "onnxruntime": EngineKind(_load_onnxruntime),
    "torch": EngineKind(_load_torch, only_cpu=False),
    "torch-bfloat16": EngineKind(
        partial(_load_torch, precision="bfloat16"), only_cpu=False
    ),
    "openvino": EngineKind(_load_openvino),
    "openvino-int8": EngineKind(partial(_load_openvino, int8=True)),
}

MEGABYTE = 1_000_000

PROGRAM_BYTES = 150 * MEGABYTE
"""The interpreter, its libraries and the weights of a small network."""

TENSORS = 9
"""Feature maps of the finest level that ONNX Runtime holds at once, measured: 8.3 with
16 and with 32 channels at 1024 x 1024, 9 at 512 x 512."""

FURTHER_MAPS = 9
"""Planes of a window's size that each channel after the first takes, besides the two
that the network is given: its pixels, scaled, as input apart and together, and of the
next window. Measured: 10.7 in all of four channels at 832 x 992."""

TILE_BYTES = 48
"""Of decoding, per pixel of a tile."""

BAND_BYTES = 16
"""Of labels, evidence and pixels, per pixel of a band."""

FURTHER_BAND_BYTES = 8
"""The same of each channel after the first: its pixels, of 64 bits at most."""

WAITING_TILE_BYTES = 8
"""Of a decoded tile, per pixel, until it is its turn; `run.executor` lets as many wait
as are in work."""

LEAST_TILE_PX = 128


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What may be held at once."""

    tile_px: int = PredictConfig.tile_px
    """Longest side of a decoding tile."""
    workers: int = 1
    """Tiles in work at once."""
    band_pixels: int = 4 * 2**20
    """Pixels of a band of full-width rows."""
    scratch_bytes: int = MEMORY_BYTES
    """Of arrays that wait in memory."""


def window_bytes(shape: tuple[int, int], network: UNetConfig, channels: int = 1) -> int:
    """Return what the network needs for its windows of a plane of this shape.

    Parameters
    ----------
    shape
        Height and width of the plane.
    network
        Its shape.
    channels
        Channels of the image that it looks at.

    Examples
    --------
    >>> from cellunet.config import UNetConfig
    >>> window_bytes((1024, 1024), UNetConfig()) // MEGABYTE
    322
    """
    height, width = network_plan(shape, network).block_shape
    finest = TENSORS * network.channels[0] / network.stem_stride**2
    own = finest + network.in_channels + network.classes
    return int(4 * height * width * (own + FURTHER_MAPS * (channels - 1)))


def memory_for(  # noqa: PLR0913
    limit_mb: int | None,
    shape: tuple[int, int],
    window: int,
    held: int,
    label_bytes: int,
    workers: int = 1,
    channels: int = 1,
) -> Memory:
    """Return what may be held at once for a plane.

    Parameters
    ----------
    limit_mb
        Bound on the memory of the process in megabytes; None: the defaults.
    shape
        Height and width of the plane.
    window
        Bytes of the network's windows, from `window_bytes`.
    held
        Bytes that reading holds, from `Source.held_bytes`.
    label_bytes
        Bytes that the writer of labels holds.
    workers
        Tiles that are to be in work at once. They share what one would take.
    channels
        Channels of the image that are read. Bands are so much lower that those of
        several fit as well.

    Raises
    ------
    ConfigError
        If not even the least fits.
    """
    band = BAND_BYTES + FURTHER_BAND_BYTES * (channels - 1)
    most = Memory.band_pixels * BAND_BYTES
    if limit_mb is None:
        memory = Memory(band_pixels=most // band)
        return _shared(memory, Memory.tile_px**2 * TILE_BYTES, workers)
    fixed = PROGRAM_BYTES + held + window + label_bytes
    least = 3 * TILE_BYTES * LEAST_TILE_PX**2 + 16 * band * shape[1]
    left = limit_mb * MEGABYTE - fixed
    if left < least:
        raise ConfigError(
            f"{limit_mb} MB are too little for an image of {shape[0]} x {shape[1]} "
            "pixels with this model.",
            hint=f"--max-memory {-(-(fixed + least) // MEGABYTE)} or more.",
        )
    share = left // 3
    memory = Memory(
        band_pixels=min(share, most) // band,
        scratch_bytes=min(share, Memory.scratch_bytes),
    )
    return _shared(memory, min(share, Memory.tile_px**2 * TILE_BYTES), workers)


def _shared(memory: Memory, tiles: int, workers: int) -> Memory:
    """Return it with so many bytes shared out between the tiles in work at once."""
    of_one = TILE_BYTES + (WAITING_TILE_BYTES if workers > 1 else 0)
    workers = max(min(workers, tiles // (of_one * LEAST_TILE_PX**2)), 1)
    tile = int((tiles / of_one / workers) ** 0.5) // 64 * 64
    return replace(memory, tile_px=max(tile, LEAST_TILE_PX), workers=workers)


@dataclass(frozen=True, kw_only=True)
class SecondPass:
    """How a plane is seen once more, where it holds objects of two sizes."""

    scale: float
    decode: DecodeConfig
    large_px: float
    """Diameter above which objects are those of the first look."""


@dataclass(frozen=True, kw_only=True)
class InferenceSettings:
    """Everything that a plane's labels depend on, the pixels aside."""

    engine: Engine
    config: TrainConfig
    decode: DecodeConfig
    scale: float = 1.0
    added: SecondPass | None = None
    """A second look, for objects of another size; see `plane.segment`."""
    exclude_border: bool = False
    min_area_px: int | None = None
    """Of an object where its outline ends up; None: as the decode constants say."""
    max_area_px: int | None = None
    min_foreground: float = FOREGROUND
    skip: bool = False
    """Leave out what holds no object (`cellunet.imaging.empty`)."""
    within: RegionMask | None = None
    """Objects whose center lies there count; None: all."""
    memory: Memory = Memory()
    executor: Executor = SerialExecutor()  # noqa: RUF009
    elsewhere: Backend | None = None
    """Where blocks are worked on, if not here."""
    should_stop: Callable[[], bool] = lambda: False
    on_rows: Callable[[int], None] = lambda rows: None
    """Told how many more rows of a plane the network has seen."""


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
        What computes, as in `load_engine`.
    should_stop
        Asked between blocks.

    Raises
    ------
    CellunetError
        If the engine, the scale or the model's files cannot be used.
    """
    card = model.card
    if card.config.encoding.target == "boundary" and (
        config.min_foreground != FOREGROUND
    ):
        raise ConfigError(
            f"Model {model.name!r} knows boundaries alone, no foreground that a "
            "threshold could be set for.",
            hint="Leave out --min-foreground.",
        )
    scale = scale_of(config, model)
    memory = memory_for(None, (0, 0), 0, 0, 0, tiles_at_once(threads))
    return InferenceSettings(
        engine=engine_for(model, config, engine, device, threads),
        config=card.config,
        decode=decode_at(card.config.decode, config, scale),
        scale=scale,
        exclude_border=config.exclude_border,
        min_area_px=config.min_area_px,
        max_area_px=config.max_area_px,
        min_foreground=config.min_foreground,
        skip=_may_skip(config, card),
        memory=replace(memory, tile_px=min(memory.tile_px, config.tile_px)),
        executor=executor_of(memory.workers),
        should_stop=should_stop,
    )


def _may_skip(config: PredictConfig, card: ModelCard) -> bool:
    """Return whether to skip what is empty: not where more is asked for than usual."""
    seed, trained = config.seed_threshold, card.config.decode.seed_threshold
    lowered = config.min_foreground < FOREGROUND or (
        seed is not None and seed < trained
    )
    return not (config.no_skip or lowered)


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
            hint="Give --diameter instead, or save the pixel size in it.",
        )
    if max(own) > SQUARE * min(own):
        raise ConfigError(
            f"{source.path} has pixels of {own[0]:g} x {own[1]:g} micrometers, which "
            "are not square; --pixel-size cannot rescale it.",
            hint="Resample it to square pixels, or give --diameter.",
        )
    scale = math.sqrt(own[0] * own[1]) / wanted
    # Metadata are rounded: a scale of 1.0003 would only cost time and sharpness.
    scale = 1.0 if abs(scale - 1) < SAME_SCALE else scale
    if not SCALES[0] <= scale <= SCALES[1]:
        raise ConfigError(
            f"{source.path} has pixels of {own[0]:g} micrometers, too far from the "
            f"{wanted:g} that --pixel-size asks for.",
            hint=f"From {own[0] / SCALES[1]:.3g} to {own[0] / SCALES[0]:.3g} are "
            "possible for it.",
        )
    decode = decode_at(recipe.config.decode, config, scale)
    return replace(recipe, scale=scale, decode=decode)


CONSTANTS = ("seed_threshold", "edge", "min_area_px", "min_confidence")
"""Constants of decoding that can be asked for."""


def decode_at(
    trained: DecodeConfig, config: PredictConfig, scale: float
) -> DecodeConfig:
    """Return the decode constants for a scale, and what is asked for instead."""
    # An area asked for counts the image's own pixels, which are those of decoding.
    asked = {n: getattr(config, n) for n in CONSTANTS}
    given = {name: value for name, value in asked.items() if value is not None}
    return at_scale(trained, scale).replace(**given)


def scale_of(config: PredictConfig, model: Model) -> float:
    """Return by how much images are magnified before the network.

    Raises
    ------
    ConfigError
        If a diameter is given and the model does not know its objects', if they are
        too far apart, or if the scale is too far from 1.
    """
    diameter = config.diameter_px
    if isinstance(diameter, str):
        return _possible(model.card.config.scale * (config.scale or 1.0), model)
    median = model.card.diameter_px[1]
    if median <= 0:
        raise ConfigError(
            f"Model {model.name!r} does not know its objects' diameter.",
            hint="Give --scale instead.",
        )
    scale = median / diameter
    if not SCALES[0] <= scale <= SCALES[1]:
        raise ConfigError(
            f"A diameter of {diameter:g} px is too far from the {median:.0f} "
            f"px that model {model.name!r} knows.",
            hint=f"From {median / SCALES[1]:.1f} to {median / SCALES[0]:.0f} px are "
            "possible.",
        )
    return scale


def _possible(scale: float, model: Model) -> float:
    own = model.card.config.scale
    if not SCALES[0] <= scale <= SCALES[1]:
        raise ConfigError(
            f"Model {model.name!r} already magnifies images by {own:g}; "
            f"{scale:g} in all is too far from 1.",
            hint=f"A scale from {SCALES[0] / own:.3g} to {SCALES[1] / own:.3g} is "
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
