from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode

from cellunet.config import UNetConfig
from cellunet.core.unet import UNet
from cellunet.engine.base import layers, operations_per_pixel
from cellunet.presets import classic_preset

SHAPES = [
    UNetConfig(),
    UNetConfig(channels=(3, 5), stem_stride=1, in_channels=1, classes=2),
    UNetConfig(channels=(4, 6, 7, 9), stem_stride=2, classes=5),
]


def test_the_operations_of_the_smallest_network_are_those_counted_by_hand():
    # Per image pixel, two operations a product. Stem: (9 + 9) at full size; down:
    # (9 + 9) at a quarter; up: 1; merge: 9 * 2 + 9; head: 2 classes.
    config = UNetConfig(in_channels=1, classes=2, channels=(1, 1), stem_stride=1)
    assert operations_per_pixel(config) == 2 * (18 + 18 / 4 + 1 + 27 + 2)


@pytest.mark.parametrize("config", SHAPES)
def test_operations_are_those_that_torch_counts(config):
    side = 2 * config.stride_px
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        UNet(config)(torch.zeros(1, config.in_channels, side, side))
    assert operations_per_pixel(config) == counter.get_total_flops() / side**2


@pytest.mark.parametrize("config", SHAPES)
def test_layers_have_the_names_and_shapes_of_the_state_dict(config):
    state = UNet(config).state_dict()
    expected = {
        k: tuple(v.shape)
        for k, v in state.items()
        if not k.endswith("num_batches_tracked")
    }
    shapes = {}
    for layer in layers(config).values():
        shapes |= layer.shapes
    assert shapes == expected


def test_the_classic_network_has_the_published_number_of_parameters():
    shapes = {}
    for layer in layers(classic_preset().network).values():
        shapes |= layer.shapes
    count = sum(
        torch.Size(shape).numel()
        for name, shape in shapes.items()
        if "running" not in name
    )
    assert count == 31_036_611
