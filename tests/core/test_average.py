"""The mean of several networks."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")


from cellunet.config import UNetConfig
from cellunet.core.unet import UNet, initialize, mean_network


def drawn(seed: int) -> UNet:
    network = UNet(UNetConfig(channels=(4, 8)))
    initialize(network, seed)
    return network


def test_every_weight_is_the_mean_and_the_parts_stay() -> None:
    first, second = drawn(0), drawn(1)
    with torch.no_grad():
        second.stem[1].running_mean.fill_(3.0)
    before = second.head.weight.clone()
    mean = mean_network([first, second])
    assert torch.equal(mean.head.weight, (first.head.weight + second.head.weight) / 2)
    assert mean.stem[1].running_mean.tolist() == [1.5] * 4
    assert torch.equal(second.head.weight, before)


def test_the_mean_of_one_is_itself() -> None:
    network = drawn(2)
    states = network.state_dict(), mean_network([network]).state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
