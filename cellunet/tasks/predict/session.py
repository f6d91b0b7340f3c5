"""A model ready to predict: its engine, its settings, arrays in and labels out.

On a CPU onnxruntime is faster than torch and loads in a tenth of a second where torch
takes seconds, so torch is imported only where a GPU may be.
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
import os
import platform
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np

from cellunet import store
from cellunet.config import DEVICE, ENGINE, MODEL, THREADS, PredictConfig
from cellunet.engine.base import FlippingEngine
from cellunet.engine.cores import usable_cores
from cellunet.errors import (
    CheckpointError,
    ConfigError,
    DeviceError,
    ImageReadError,
    choose,
)
from cellunet.imaging.measure import measure_labels
from cellunet.io.scratch import Scratch
from cellunet.io.source import ArraySource
from cellunet.tasks.predict.memory import memory_for
from cellunet.tasks.predict.plane import InferenceSettings, as_labels, segment_plane
from cellunet.tasks.scheduling import executor_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    import numpy.typing as npt

    from cellunet.config import DecodeConfig, UNetConfig
    from cellunet.engine.base import Engine
    from cellunet.imaging.measure import Table
    from cellunet.io.source import Source
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
        Where the weights are; only the chosen engine's file is read.
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
    from cellunet.engine.runtimes import OnnxRuntimeEngine

    onnx = store.checked_onnx(model)
    engine = OnnxRuntimeEngine(onnx, source=str(model.onnx), threads=threads)
    _check_shape(model.onnx, engine.config, model)
    return engine


def _load_openvino(model: Model, *, device: str, threads: int) -> Engine:
    del device
    from cellunet.engine.onnx_files import open_onnx
    from cellunet.engine.runtimes import OpenVinoEngine

    opened = open_onnx(store.checked_onnx(model), source=str(model.onnx))
    _check_shape(model.onnx, opened.config, model)
    return OpenVinoEngine(opened, threads=threads)


def _load_openvino_int8(model: Model, *, device: str, threads: int) -> Engine:
    del device
    from cellunet.engine.int8 import open_int8
    from cellunet.engine.runtimes import OpenVinoEngine

    opened = open_int8(model)
    _check_shape(model.int8, opened.config, model)
    return OpenVinoEngine(opened, threads=threads, int8=True)


def _check_shape(onnx: Path, found: UNetConfig, model: Model) -> None:
    expected = model.card.config.network
    if found != expected:
        raise CheckpointError(
            f"{onnx} is of another model: {found}, not {expected}.",
            hint="Train the model again, or: --engine torch.",
        )


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
            found = segment_plane(source, 0, recipe, scratch)
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
    opened = store.find_model(name)
    recipe = settings_for(opened, config, engine, device, threads)
    return LoadedModel(opened.name, opened.card, recipe, config)
