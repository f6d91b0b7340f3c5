"""One pass of an engine over a plane, block by block."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from cellunet.config import MOST_LEVELS, UNetConfig
from cellunet.core.device import TorchEngine
from cellunet.engine.runtimes import (
    FlippingEngine,
    plane_probabilities,
    window_of,
)
from cellunet.errors import ConfigError
from cellunet.imaging.blocks import network_plan, plan

CPU = torch.device("cpu")


class PixelEngine:
    """Returns its input, and remembers the shapes that it was given."""

    name = "pixels"

    def __init__(self):
        self.shapes = []

    def __call__(self, image):
        self.shapes.append(image.shape)
        assert image.flags.c_contiguous
        return image


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (64, 64), (97, 53), (15, 200)])
def test_stitch_of_cut_returns_the_image(rng, shape) -> None:
    image = rng.random((3, *shape)).astype(np.float32)
    for largest in (40, 48, 1024):
        engine = PixelEngine()
        blocks = plan(shape, stride_px=8, halo_px=13, largest_px=largest)
        assert np.array_equal(plane_probabilities(engine, image, blocks, 3), image)
        # The network sees one shape only.
        assert set(engine.shapes) == {(1, 3, *blocks.block_shape)}


def test_a_window_beyond_the_plane_is_mirrored_and_reads_pixels_of_the_plane_only():
    image = np.arange(5 * 3, dtype=np.float32).reshape(1, 5, 3)
    blocks = plan((5, 3), stride_px=4, halo_px=4, largest_px=64)
    asked = []

    def read(y0, y1, x0, x1):
        asked.append((y0, y1, x0, x1))
        return image[:, y0:y1, x0:x1]

    (window,) = window_of(blocks.blocks[0], blocks, read)[0]
    assert asked == [(0, 5, 0, 3)]
    assert window.shape == (8, 4)
    assert window[:, 0].tolist() == [0, 3, 6, 9, 12, 12, 9, 6]
    assert window[0].tolist() == [0, 1, 2, 2]


CONFIGS = [
    (UNetConfig(in_channels=2, channels=(4, 8)), (0, 4, 28)),
    (UNetConfig(in_channels=1, classes=2, channels=(4, 8), stem_stride=1), (2, 26)),
    (UNetConfig(in_channels=2, channels=(4, 6, 8)), (8, 56)),
    (UNetConfig(in_channels=1, channels=(3, 4, 5, 6), stem_stride=1), (48,)),
]


@pytest.mark.parametrize(("config", "extra"), CONFIGS)
def test_blocks_compute_what_one_pass_over_the_whole_plane_does(
    make_network, rng, config, extra
) -> None:
    stride, halo = config.stride_px, config.halo_px
    engine = TorchEngine(make_network(config, 3), CPU)
    shape = (3 * halo + 31, 2 * halo + stride + 5)
    image = rng.normal(0, 1.5, (config.in_channels, *shape)).astype(np.float32)
    short = [(0, -n % stride) for n in shape]
    padded = np.pad(image, ((0, 0), *short), "symmetric")
    whole = engine(padded[np.newaxis])[0, :, : shape[0], : shape[1]]
    # The comparison is of something: classes vary from pixel to pixel.
    assert whole.std(axis=(1, 2)).min() > 0.02
    for more in extra:
        largest = 2 * halo + stride + more
        blocks = plan(shape, stride_px=stride, halo_px=halo, largest_px=largest)
        assert len(blocks.blocks) > 1
        found = plane_probabilities(engine, image, blocks, config.classes)
        assert np.abs(found - whole).max() <= 1e-4
    once = plane_probabilities(
        engine, image, network_plan(shape, config), config.classes
    )
    assert np.array_equal(once, whole)


def test_flips_are_averaged_and_do_not_show_the_blocks(make_network, rng) -> None:
    config = UNetConfig(in_channels=1, channels=(4, 8))
    plain = TorchEngine(make_network(config, 3), CPU)
    engine = FlippingEngine(plain)
    assert engine.name == f"{plain.name}, 4 flips"
    image = rng.normal(0, 1.5, (1, 1, 96, 104)).astype(np.float32)
    whole = engine(image)
    turned = [
        np.flip(plain(np.ascontiguousarray(np.flip(image, axes))), axes)
        for axes in ((), (2,), (3,), (2, 3))
    ]
    assert np.allclose(whole, np.mean(turned, axis=0), atol=1e-6)
    assert np.abs(whole - turned[0]).max() > 0.01
    # Mirroring the image mirrors the answer.
    mirrored = engine(np.ascontiguousarray(image[:, :, ::-1]))
    assert np.allclose(mirrored[:, :, ::-1], whole, atol=1e-6)
    blocks = plan((96, 104), stride_px=4, halo_px=config.halo_px, largest_px=60)
    assert len(blocks.blocks) > 1
    found = plane_probabilities(engine, image[0], blocks, 3)
    assert np.abs(found - whole[0]).max() <= 1e-4


def test_a_halo_that_is_too_small_would_be_noticed(make_network, rng) -> None:
    config = UNetConfig(in_channels=1, channels=(4, 8))
    engine = TorchEngine(make_network(config, 3), CPU)
    image = rng.normal(0, 1.5, (1, 80, 80)).astype(np.float32)
    whole = engine(image[np.newaxis])[0]
    blocks = plan((80, 80), stride_px=4, halo_px=4, largest_px=40)
    found = plane_probabilities(engine, image, blocks, 3)
    assert np.abs(found - whole).max() > 1e-4


def test_a_network_always_has_a_plan_and_a_smaller_window_is_refused() -> None:
    deep = UNetConfig(channels=(1,) * MOST_LEVELS)
    assert deep.halo_px > 1024
    blocks = network_plan((20_000, 40), deep)
    assert blocks.rows > 1
    with pytest.raises(ConfigError, match="no core"):
        plan(
            (20_000, 40),
            stride_px=deep.stride_px,
            halo_px=deep.halo_px,
            largest_px=1024,
        )
