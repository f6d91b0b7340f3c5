"""Networks whose weights and batch-norm statistics are random."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cellunet.config import UNetConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from cellunet.core.unet import UNet

SMALL = UNetConfig(in_channels=2, classes=3, channels=(4, 6), stem_stride=2)


def random_network(config: UNetConfig, seed: int = 0) -> UNet:
    torch = pytest.importorskip("torch")
    from torch import nn

    from cellunet.core.unet import UNet, initialize

    network = UNet(config)
    initialize(network, seed)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.3, 3.0, generator=generator)
        elif getattr(module, "bias", None) is not None:
            module.bias.data.normal_(0, 0.3, generator=generator)
    return network.eval()


def state(network: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    return {k: v.numpy() for k, v in network.state_dict().items()}


@pytest.fixture(scope="session")
def make_network() -> Callable[..., UNet]:
    """``make_network(config, seed)``: a network in evaluation mode."""
    return random_network


@pytest.fixture
def small_weights() -> dict[str, npt.NDArray[np.float32]]:
    """The state dict of a two-level network of shape `small_config`."""
    return state(random_network(SMALL))


@pytest.fixture(scope="session")
def small_config() -> UNetConfig:
    """Two levels, 2 channels in, 3 classes out, stride 4."""
    return SMALL
