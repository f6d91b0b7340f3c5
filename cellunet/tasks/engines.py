"""Which engine runs a model, and loading it.

On a CPU onnxruntime is faster than torch and loads in a tenth of a second where torch
takes seconds, so torch is imported only where a GPU may be.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cellunet.errors import CheckpointError, DeviceError
from cellunet.registry import choose

if TYPE_CHECKING:
    from cellunet.config import UNetConfig
    from cellunet.engine.base import Engine
    from cellunet.engine.ort import OnnxRuntimeEngine

AUTO = "auto"


class Loader(Protocol):
    """Loads one kind of engine; arguments as in `load_engine`."""

    def __call__(
        self,
        *,
        onnx: Path,
        safetensors: Path,
        config: UNetConfig,
        device: str,
        threads: int,
    ) -> Engine:
        """Return the engine, or raise as `load_engine` says."""


def load_engine(
    *,
    onnx: Path,
    safetensors: Path,
    config: UNetConfig,
    engine: str,
    device: str,
    threads: int,
) -> Engine:
    """Return the engine asked for, with a model's weights in it.

    Parameters
    ----------
    onnx, safetensors
        The model's weights in both forms; only the chosen engine's are read.
    config
        Shape of the model's network.
    engine
        A name in `ENGINES`, or ``auto``.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    threads
        Threads on a CPU; 0 for as many as there are cores.

    Raises
    ------
    ConfigError
        If there is no such engine.
    DeviceError
        If the engine or the device is not available, or they do not go together.
    CheckpointError
        If the weights cannot be read or are not of this shape.
    """
    loader = ENGINES[choose_engine(engine, device)]
    return loader(
        onnx=onnx,
        safetensors=safetensors,
        config=config,
        device=device,
        threads=threads,
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
    if name == "onnxruntime" and device not in (AUTO, "cpu"):
        raise DeviceError(
            f"Engine onnxruntime runs on the CPU only, not on {device!r}.",
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


def _load_onnxruntime(
    *, onnx: Path, safetensors: Path, config: UNetConfig, device: str, threads: int
) -> OnnxRuntimeEngine:
    del safetensors, device
    from cellunet.engine.ort import OnnxRuntimeEngine

    engine = OnnxRuntimeEngine(onnx, threads=threads)
    if engine.config != config:
        raise CheckpointError(
            f"{onnx} is of another model: {engine.config}, not {config}.",
            hint="Train the model again, or: --engine torch.",
        )
    return engine


def _load_torch(
    *, onnx: Path, safetensors: Path, config: UNetConfig, device: str, threads: int
) -> Engine:
    del onnx, config
    from cellunet.core.checkpoint import load_network
    from cellunet.core.device import choose_device, use_threads
    from cellunet.core.torch_engine import TorchEngine

    where = choose_device(device)
    use_threads(threads)
    return TorchEngine(load_network(safetensors), where)


ENGINES: dict[str, Loader] = {"onnxruntime": _load_onnxruntime, "torch": _load_torch}
