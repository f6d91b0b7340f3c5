"""The torch engine: CUDA, Apple MPS and CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cellunet.core.unet import UNet


class TorchEngine:
    """Runs a U-Net in torch, in float32.

    Parameters
    ----------
    network
        Its weights; moved to `device` and set to evaluation.
    device
        Where it computes.
    """

    def __init__(self, network: UNet, device: torch.device) -> None:
        self.device = device
        self.name = f"torch {torch.__version__} {device.type}"
        network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = network.eval()

    def __call__(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return class probabilities, NKYX float32, of NCYX float32 windows."""
        # On CUDA convolutions would otherwise round their inputs to ten bits (TF32).
        exact = torch.backends.cudnn.flags(allow_tf32=False)
        with torch.inference_mode(), exact:
            batch = torch.from_numpy(image).to(
                self.device, memory_format=torch.channels_last
            )
            probabilities = torch.softmax(self._network(batch).float(), dim=1)
        result: npt.NDArray[np.float32] = probabilities.cpu().contiguous().numpy()
        return result
