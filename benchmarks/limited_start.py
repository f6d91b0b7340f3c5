"""A start that scales by the foreground, out of one trained before that was measured.

The weights are the same; training then goes on with a range that bright dirt does not
set (`cellunet.imaging.normalize`).
"""

import changed_start

from cellunet.config import TrainConfig
from cellunet.core.unet import UNet


def write(start: str, limit: float) -> str:
    """Write a model with another `foreground_limit` to the store; return its name."""

    def change(network: UNet, config: TrainConfig) -> tuple[UNet, TrainConfig]:
        scaling = config.normalization.replace(foreground_limit=limit)
        return network, config.replace(normalization=scaling)

    name = f"{start}-limited"
    changed_start.write(name, start, change)
    return name
