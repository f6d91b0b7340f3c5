"""Which engine runs a model, and loading it.

On a CPU onnxruntime is faster than torch and loads in a tenth of a second where torch
takes seconds, so torch is imported only where a GPU may be.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cellunet import store
from cellunet.errors import CheckpointError, DeviceError
from cellunet.registry import choose

if TYPE_CHECKING:
    from cellunet.config import UNetConfig
    from cellunet.engine.base import Engine
    from cellunet.store import Model

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
    from cellunet.engine.ov import installed

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
    from cellunet.engine.ort import OnnxRuntimeEngine

    onnx = store.checked_onnx(model)
    engine = OnnxRuntimeEngine(onnx, source=str(model.onnx), threads=threads)
    _check_shape(model.onnx, engine.config, model)
    return engine


def _load_openvino(model: Model, *, device: str, threads: int) -> Engine:
    del device
    from cellunet.engine.onnx_file import open_onnx
    from cellunet.engine.ov import OpenVinoEngine

    opened = open_onnx(store.checked_onnx(model), source=str(model.onnx))
    _check_shape(model.onnx, opened.config, model)
    return OpenVinoEngine(opened, threads=threads)


def _load_openvino_int8(model: Model, *, device: str, threads: int) -> Engine:
    del device
    from cellunet.engine.ov import OpenVinoEngine
    from cellunet.engine.twin import open_int8

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
    from cellunet.core.device import choose_device, use_threads
    from cellunet.core.torch_engine import TorchEngine

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
