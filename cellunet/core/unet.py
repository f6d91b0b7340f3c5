"""Define the network, a U-Net, and the mean of several networks.

Ronneberger, Fischer and Brox (2015), "U-Net: Convolutional Networks for Biomedical
Image Segmentation", with padded convolutions and batch normalization.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellunet.config import UNetConfig

FIRST = "stem.0.weight"
"""The weights that look at the image: features, input channels, Y, X."""


class DoubleConv(nn.Sequential):
    """Twice: 3 x 3 convolution without bias, batch normalization, ReLU.

    With ``stride=2`` the first convolution is 6 x 6 over every second pixel: a 3 x 3
    convolution over groups of 2 x 2 pixels.
    """

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        size, padding = (3, 1) if stride == 1 else (6, 2)
        super().__init__(
            nn.Conv2d(c_in, c_out, size, stride, padding, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """U-Net whose depth and widths are `config.channels`.

    Parameters
    ----------
    config
        Shape of the network.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        finer_coarser = list(pairwise(widths))
        self.stem = DoubleConv(config.in_channels, widths[0], config.stem_stride)
        self.pool = nn.MaxPool2d(2)
        self.down = nn.ModuleList(DoubleConv(a, b) for a, b in finer_coarser)
        # Coarsest first, in the order in which they are used.
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(finer_coarser)
        )
        self.merge = nn.ModuleList(
            DoubleConv(2 * a, a) for a, _ in reversed(finer_coarser)
        )
        self.head: nn.Module
        if config.stem_stride == 1:
            self.head = nn.Conv2d(widths[0], config.classes, 1)
        else:
            self.head = nn.ConvTranspose2d(widths[0], config.classes, 2, stride=2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return class logits.

        Parameters
        ----------
        image
            NCYX float32; Y and X are multiples of ``config.stride_px``.

        Returns
        -------
        Tensor
            NKYX logits, K classes.
        """
        # N images, C input channels, K classes, W_i channels of level i, s stem stride
        features = self.stem(image)  # N W_0 Y/s X/s
        skips = []
        for down in self.down:
            skips.append(features)
            features = down(self.pool(features))  # N W_i Y/(s 2^i) X/(s 2^i)
        for up, merge in zip(self.up, self.merge, strict=True):
            finer = torch.cat((skips.pop(), up(features)), dim=1)  # N 2 W_i ...
            features = merge(finer)  # N W_i Y/(s 2^i) X/(s 2^i)
        logits: torch.Tensor = self.head(features)  # N K Y X
        return logits


def initialize(network: nn.Module, seed: int) -> None:
    """Draw the weights of all convolutions, in place, from `seed` alone.

    Normal with standard deviation sqrt(2 / (k k c_in)), k the side of the kernel (He
    et al. 2015, "Delving Deep into Rectifiers", eq. 10; sqrt(2 / (9 c_in)) for 3 x 3);
    biases are 0.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            # Each output pixel of a 2 x 2 transposed convolution of stride 2 sees one
            # element of the kernel.
            area = (
                1
                if isinstance(module, nn.ConvTranspose2d)
                else module.kernel_size[0] ** 2
            )
            std = math.sqrt(2.0 / (area * module.in_channels))
            drawn = torch.randn(module.weight.shape, generator=generator) * std
            module.weight.data.copy_(drawn)
            if module.bias is not None:
                module.bias.data.zero_()


def widened(network: UNet, in_channels: int) -> UNet:
    """Return a network that looks at more channels and computes the very same.

    What is new comes last and weighs nothing until it is trained.

    Parameters
    ----------
    network
        Is not changed.
    in_channels
        Of the network that is returned: as many as `network` has, or more.
    """
    wide = UNet(replace(network.config, in_channels=in_channels))
    weights = dict(network.state_dict())
    known = weights[FIRST]
    weights[FIRST] = known.new_zeros((len(known), in_channels, *known.shape[2:]))
    weights[FIRST][:, : known.shape[1]] = known
    wide.load_state_dict(weights)
    return wide.train(network.training)


def mean_network(networks: Sequence[UNet]) -> UNet:
    """Return a network whose weights are the means of those of several.

    Networks that were trained from the same weights for a short while lie in one basin
    of the loss, where their mean is as good as their ensemble at the cost of one
    (Wortsman et al. 2022, "Model soups", ICML).

    Parameters
    ----------
    networks
        Of one shape, on one device; one or more. They stay as they are.
    """
    mean = copy.deepcopy(networks[0])
    states = [network.state_dict() for network in networks]
    with torch.no_grad():
        for name, values in mean.state_dict().items():
            if values.is_floating_point():
                values.copy_(torch.stack([state[name] for state in states]).mean(0))
    return mean
