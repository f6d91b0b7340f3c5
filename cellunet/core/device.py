"""Choose a device and its precision, and run the torch engine on it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

from cellunet.engine.threads import threads_for
from cellunet.errors import DeviceError
from cellunet.ranks import ALONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from cellunet.core.unet import UNet
    from cellunet.ranks import Ranks


OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""In errors of torch that have no type of their own."""


def available() -> list[str]:
    """Return the devices of this machine, fastest kind first."""
    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if found:
        found.insert(0, "cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def choose_device(wish: str, ranks: Ranks = ALONE) -> torch.device:
    """Return the device asked for, or refuse.

    Parameters
    ----------
    wish
        ``auto`` (CUDA, else MPS, else CPU), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    ranks
        Which process of a training this is: of several each takes a GPU of its own, or
        all the CPU.

    Raises
    ------
    DeviceError
        If the device is not there; the message lists those that are.
    """
    there = available()
    if not ranks.alone:
        return _one_each(wish, ranks, there)
    if wish == "auto":
        return torch.device(there[0])
    if wish in there:
        return torch.device(wish)
    raise DeviceError(
        f"Device {wish!r} is not available here.",
        hint=f"Available: {', '.join(there)}. Try: --device {there[0]}.",
    )


def _one_each(wish: str, ranks: Ranks, there: list[str]) -> torch.device:
    """Return the device of one process of several."""
    if wish == "cpu" or (wish == "auto" and "cuda" not in there):
        return torch.device("cpu")
    own = f"cuda:{ranks.local}"
    if wish in ("auto", "cuda") and own in there:
        return torch.device(own)
    gpus = sum(name.startswith("cuda:") for name in there)
    raise DeviceError(
        f"Process {ranks.local} of this machine has no GPU of its own: there "
        f"{'is' if gpus == 1 else 'are'} {gpus}, and {wish!r} was asked for.",
        hint="Start as many processes as there are GPUs, with --device cuda, or train "
        "with --device cpu.",
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


def sent(host: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor on a device; to CUDA through pinned memory, without waiting."""
    if device.type != "cuda":
        return host.to(device)
    # torch keeps the pinned copy from being used again before it has been read.
    return host.pin_memory().to(device, non_blocking=True)


@contextlib.contextmanager
def within_memory(device: torch.device, what: str, less: str) -> Iterator[None]:
    """Say what did not fit into the memory of a device, and what to try.

    Parameters
    ----------
    device
        Where it was computed.
    what
        What was computed, with its size.
    less
        How to need less, or to have more.

    Raises
    ------
    DeviceError
        If the memory of the device ran out.
    """
    try:
        yield
    except RuntimeError as error:
        # Only CUDA has a type of its own for it; MPS and the CPU have words.
        named = isinstance(error, torch.cuda.OutOfMemoryError)
        if not named and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        elsewhere = "" if device.type == "cpu" else ", or compute on --device cpu"
        raise DeviceError(
            f"{what} did not fit into {device}.", hint=f"{less}{elsewhere}."
        ) from error


def moved(network: UNet, device: torch.device) -> UNet:
    """Return a network on a device, channels last.

    Raises
    ------
    DeviceError
        If the memory of the device is full.
    """
    with within_memory(device, "The network", "Close what else uses its memory"):
        found: UNet = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return found


class TorchEngine:
    """Runs a U-Net in torch.

    On CUDA images and probabilities pass through pinned memory, so that the copies do
    not hold the CPU up; a call returns when its result is there, and other threads run
    meanwhile.

    Parameters
    ----------
    network
        Its weights; moved to `device` and set to evaluation.
    device
        Where it computes.
    precision
        Of the convolutions: ``float32`` or ``bfloat16``; the softmax is in float32.
    """

    def __init__(
        self, network: UNet, device: torch.device, precision: str = "float32"
    ) -> None:
        self.device = device
        # Elsewhere the way to convolve is chosen by the size.
        self.any_window = device.type == "cpu"
        self._low = autocast_dtype(device, precision)
        self.name = f"torch {torch.__version__} {device.type}"
        if self._low is not None:
            self.name += f" {precision}"
        self._network = moved(network, device).eval()

    def __call__(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return class probabilities, NKYX float32, of NCYX float32 windows.

        Raises
        ------
        DeviceError
            If they do not fit into the memory of the device.
        """
        cudnn = torch.backends.cudnn
        # On CUDA convolutions would otherwise round their inputs to ten bits (TF32).
        # What `flags` is not told it switches off, cuDNN itself too.
        exact = cudnn.flags(
            enabled=cudnn.enabled,
            deterministic=cudnn.deterministic,
            allow_tf32=False,
        )
        window = f"A window of {image.shape[-2]} x {image.shape[-1]} px"
        less = "Close what else uses its memory"
        with torch.inference_mode(), exact, within_memory(self.device, window, less):
            batch = sent(torch.from_numpy(image), self.device).contiguous(
                memory_format=torch.channels_last
            )
            with self._mixed_precision():
                logits = self._network(batch)
            return self._received(torch.softmax(logits.float(), dim=1))

    def _mixed_precision(self) -> contextlib.AbstractContextManager[object]:
        # Not an autocast that is switched off: not every torch has one for MPS.
        if self._low is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self._low)

    def _received(self, result: torch.Tensor) -> npt.NDArray[np.float32]:
        """Return a result as an array that nothing else writes to."""
        result = result.contiguous()
        if self.device.type == "cuda":
            host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
            host.copy_(result, non_blocking=True)
            torch.cuda.current_stream(self.device).synchronize()
        else:
            host = result.cpu()
        array: npt.NDArray[np.float32] = host.numpy()
        return array
