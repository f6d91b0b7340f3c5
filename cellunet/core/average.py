"""The mean of several networks."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellunet.core.unet import UNet


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
