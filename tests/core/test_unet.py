"""The network's shape, size, reach and initial weights."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from cellunet.config import UNetConfig
from cellunet.core.unet import UNet, initialize, mean_network, widened
from cellunet.presets import PRESETS


def _network(config, seed=0):
    network = UNet(config)
    initialize(network, seed)
    return network


@pytest.mark.parametrize("stem", [1, 2])
@pytest.mark.parametrize("channels", [(4, 8), (3, 5, 7), (2, 3, 4, 5)])
def test_logits_have_the_size_of_the_image(stem, channels) -> None:
    config = UNetConfig(in_channels=2, classes=4, channels=channels, stem_stride=stem)
    stride = config.stride_px
    assert stride == stem * 2 ** (len(channels) - 1)
    with torch.inference_mode():
        # Two groups at the coarsest level, or batch norm has a single value.
        logits = _network(config)(torch.zeros(2, 2, 3 * stride, 2 * stride))
    assert logits.shape == (2, 4, 3 * stride, 2 * stride)


def test_the_classic_preset_has_the_parameters_of_the_original() -> None:
    config = PRESETS["classic"].network
    with torch.device("meta"):
        network = UNet(config)
    assert sum(p.numel() for p in network.parameters()) == 31_036_611
    assert (config.in_channels, config.classes, config.stride_px) == (1, 3, 16)


def _measured_radius(config):
    """Return how far, at most, an input pixel lies from a logit that it changes.

    With positive weights, and means in place of maxima, no path cancels another.
    """
    network = _network(config).double().eval()
    network.pool = nn.AvgPool2d(2)
    for parameter in network.parameters():
        parameter.data.abs_()
    stride = config.stride_px
    size = 2 * config.halo_px + 6 * stride
    image = torch.ones(1, config.in_channels, size, 2 * stride, dtype=torch.double)
    image.requires_grad_()
    row = network(image)[0, 0, :, stride]  # Y
    first = size // 2 // stride * stride
    farthest = 0
    # The first pixel of a group of the coarsest level sees farthest to one side, the
    # last to the other.
    for y in (first, first + stride // 2, first + stride - 1):
        (gradient,) = torch.autograd.grad(row[y], image, retain_graph=True)
        touched = np.flatnonzero(gradient.abs().sum(dim=(0, 1, 3)).numpy())
        farthest = max(farthest, y - touched[0], touched[-1] - y)
    return farthest


@pytest.mark.parametrize("stem", [1, 2])
@pytest.mark.parametrize("channels", [(2, 2), (2, 3, 2), (2, 2, 2, 2)])
def test_the_halo_is_the_measured_reach_rounded_up_to_the_stride(
    stem, channels
) -> None:
    config = UNetConfig(in_channels=1, classes=2, channels=channels, stem_stride=stem)
    radius = _measured_radius(config)
    assert radius <= config.halo_px < radius + config.stride_px


@pytest.mark.parametrize("stem", [1, 2])
def test_initial_weights_are_normal_with_the_stated_deviation(stem) -> None:
    config = UNetConfig(in_channels=3, channels=(48, 64), stem_stride=stem)
    network = _network(config)
    checked = 0
    for module in network.modules():
        if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            continue
        # Each output of a transposed convolution sees one element of its kernel.
        area = math.prod(module.kernel_size) if isinstance(module, nn.Conv2d) else 1
        expected = math.sqrt(2 / (area * module.in_channels))
        weights = module.weight.detach()
        if weights.numel() > 1000:
            checked += 1
            assert weights.std().item() == pytest.approx(expected, rel=0.06)
            assert abs(weights.mean().item()) < 4 * expected / math.sqrt(
                weights.numel()
            )
        if module.bias is not None:
            assert not module.bias.any()
    assert checked >= 6


def test_three_by_three_kernels_start_as_in_the_original() -> None:
    weight = _network(UNetConfig(channels=(32, 64), stem_stride=1)).down[0][0].weight
    assert weight.shape == (64, 32, 3, 3)
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 32)), rel=0.02)


def test_initial_weights_follow_from_the_seed_alone() -> None:
    config = UNetConfig(channels=(4, 6))
    first = _network(config, 1)
    torch.manual_seed(99)
    second, other = _network(config, 1), _network(config, 2)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.stem[0].weight, other.stem[0].weight)


def test_initializing_does_not_touch_the_global_generator() -> None:
    network = UNet(UNetConfig(channels=(4, 6)))
    before = torch.get_rng_state()
    initialize(network, 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_signals_keep_their_size_through_the_initial_network() -> None:
    config = UNetConfig(in_channels=2, channels=(16, 32, 64))
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        logits = _network(config).train()(
            torch.randn(2, 2, 64, 64, generator=generator)
        )
    assert 0.2 < logits.std().item() < 5


@pytest.mark.parametrize("stem", [1, 2])
def test_a_widened_network_computes_what_it_did(stem, make_network) -> None:
    config = UNetConfig(in_channels=2, channels=(4, 6), stem_stride=stem)
    network = make_network(config)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    wide = widened(network, 6)
    assert (wide.config, wide.training) == (
        UNetConfig(in_channels=6, channels=(4, 6), stem_stride=stem),
        False,
    )
    image = torch.randn(2, 6, 24, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = network(image[:, :2]), wide(image)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    # What is new can be learned: nothing but its weights is nothing.
    assert not wide.stem[0].weight[:, 2:].any()
    wide.train()(image).square().mean().backward()
    assert wide.stem[0].weight.grad[:, 2:].abs().min() > 0
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_every_weight_is_the_mean_and_the_parts_stay() -> None:
    first, second = (_network(UNetConfig(channels=(4, 8)), seed) for seed in (0, 1))
    with torch.no_grad():
        second.stem[1].running_mean.fill_(3.0)
    before = second.head.weight.clone()
    mean = mean_network([first, second])
    assert torch.equal(mean.head.weight, (first.head.weight + second.head.weight) / 2)
    assert mean.stem[1].running_mean.tolist() == [1.5] * 4
    assert torch.equal(second.head.weight, before)


def test_the_mean_of_one_is_itself() -> None:
    network = _network(UNetConfig(channels=(4, 8)))
    states = network.state_dict(), mean_network([network]).state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
