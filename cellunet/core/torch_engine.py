"""The torch engine: CUDA, Apple MPS and CPU."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

from cellunet.core.device import autocast_dtype

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cellunet.core.unet import UNet


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
        self._low = autocast_dtype(device, precision)
        self.name = f"torch {torch.__version__} {device.type}"
        if self._low is not None:
            self.name += f" {precision}"
        network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = network.eval()

    def __call__(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return class probabilities, NKYX float32, of NCYX float32 windows."""
        # On CUDA convolutions would otherwise round their inputs to ten bits (TF32).
        exact = torch.backends.cudnn.flags(allow_tf32=False)
        with torch.inference_mode(), exact:
            batch = self._sent(image).contiguous(memory_format=torch.channels_last)
            with self._mixed_precision():
                logits = self._network(batch)
            return self._received(torch.softmax(logits.float(), dim=1))

    def _mixed_precision(self) -> contextlib.AbstractContextManager[object]:
        # Not an autocast that is switched off: not every torch has one for MPS.
        if self._low is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self._low)

    def _sent(self, image: npt.NDArray[np.float32]) -> torch.Tensor:
        """Return an image on the device."""
        host = torch.from_numpy(image)
        if self.device.type != "cuda":
            return host.to(self.device)
        # torch keeps the pinned copy from being used again before it has been read.
        return host.pin_memory().to(self.device, non_blocking=True)

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
