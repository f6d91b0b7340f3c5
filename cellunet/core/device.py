"""Which device computes, and in which precision."""

from __future__ import annotations

import torch

from cellunet.engine.cores import threads_for
from cellunet.errors import DeviceError


def available() -> list[str]:
    """Return the devices of this machine, fastest kind first."""
    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if found:
        found.insert(0, "cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def choose_device(wish: str) -> torch.device:
    """Return the device asked for, or refuse.

    Parameters
    ----------
    wish
        ``auto`` (CUDA, else MPS, else CPU), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises
    ------
    DeviceError
        If the device is not there; the message lists those that are.
    """
    there = available()
    if wish == "auto":
        return torch.device(there[0])
    if wish in there:
        return torch.device(wish)
    raise DeviceError(
        f"Device {wish!r} is not available here.",
        hint=f"Available: {', '.join(there)}. Try: --device {there[0]}.",
    )


def use_threads(threads: int) -> int:
    """Compute with this many CPU threads, 0 for all usable cores; return how many."""
    torch.set_num_threads(threads_for(threads))
    return torch.get_num_threads()


def torch_version() -> str:
    """Return torch's version, build included."""
    return str(torch.__version__)


def autocast_dtype(device: torch.device, precision: str) -> torch.dtype | None:
    """Return the type that convolutions compute in, or None for float32.

    ``auto`` is bfloat16 where the hardware multiplies it natively: CUDA from Ampere
    on, and processors with AVX-512 BF16 or AMX (measured there: 1.6 times the steps
    per second). Elsewhere it would be slower, not faster.
    """
    if precision == "float32":
        return None
    if precision == "bfloat16" or _native_bfloat16(device):
        return torch.bfloat16
    return None


def _native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        has = torch.cpu.get_capabilities()
        return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
    return False
