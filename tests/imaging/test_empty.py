"""What is left out of a plane holds nothing, and what is seen is seen whole."""

from __future__ import annotations

import numpy as np
import pytest

from cellunet.config import NormalizationConfig, UNetConfig
from cellunet.imaging.blocks import plan
from cellunet.imaging.empty import (
    CELL_PX,
    WindowSelection,
    can_be_told,
    occupied,
    rectangles,
)

NOISE = 0.04


def noisy(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.normal(0.1, NOISE, (1, *shape)).astype(np.float32)


def disc(shape: tuple[int, int], y: int, x: int, radius: float) -> np.ndarray:
    rows, columns = np.indices(shape)
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def test_noise_alone_is_empty(rng) -> None:
    assert not occupied(noisy(rng, (512, 512)), [NOISE]).any()


@pytest.mark.parametrize(
    ("radius", "sigmas"), [(4, 2.0), (8, 1.0), (16, 0.75), (32, 0.75)]
)
def test_a_dim_object_is_seen_with_what_is_around_it(radius, sigmas, rng) -> None:
    image = noisy(rng, (256, 320))
    there = disc((256, 320), 130, 165, radius)
    image[0][there] += sigmas * NOISE
    found = occupied(image, [NOISE])
    cells = there.reshape(16, CELL_PX, 20, CELL_PX).any((1, 3))
    assert found[cells].all()
    # Far from it there is nothing still.
    assert not found[:3].any()
    assert not found[:, :3].any()


def test_an_object_in_any_channel_counts(rng) -> None:
    image = np.concatenate([noisy(rng, (128, 128)), noisy(rng, (128, 128))])
    image[1, 60:70, 60:70] += 0.5
    assert occupied(image, [NOISE, NOISE])[4, 4]
    assert not occupied(image[:1], [NOISE]).any()


def test_an_even_slope_is_empty() -> None:
    slope = np.linspace(0, 0.15, 512, dtype=np.float32)
    image = np.broadcast_to(slope, (1, 256, 512))
    # At the ends it bends where the image is mirrored: 0.15 over 512 px is too little.
    assert not occupied(image, [0.001]).any()


def test_the_inside_of_a_giant_is_seen(rng) -> None:
    image = noisy(rng, (256, 256)) + np.float32(0.5)
    assert occupied(image, [NOISE]).all()


def test_a_trace_of_the_range_is_empty_without_any_noise() -> None:
    image = np.zeros((1, 128, 128), np.float32)
    image[0, 50:60, 50:60] = 0.005
    assert not occupied(image, [0.0]).any()
    image[0, 50:60, 50:60] = 0.05
    assert occupied(image, [0.0])[3, 3]


def test_cells_at_the_lower_right_reach_beyond_the_window(rng) -> None:
    image = noisy(rng, (40, 24))
    image[0, 36:, 20:] += 1
    found = occupied(image, [NOISE])
    assert found.shape == (3, 2)
    assert found[2, 1]


def test_only_where_background_is_dark_to_the_network_it_is_known() -> None:
    assert can_be_told(NormalizationConfig())
    assert can_be_told(NormalizationConfig(invert=True))
    assert not can_be_told(NormalizationConfig(kind="standard"))
    assert not can_be_told(NormalizationConfig(curve="square-root"))


@pytest.mark.parametrize("value", [1e35, -1e35, 3e38])
def test_a_huge_pixel_hides_no_object_beside_it(value, rng) -> None:
    image = noisy(rng, (256, 320))
    there = disc((256, 320), 130, 165, 16)
    image[0][there] += 1
    image[0, 100:104, 100:104] = value
    found = occupied(image, [NOISE])
    assert found[there.reshape(16, CELL_PX, 20, CELL_PX).any((1, 3))].all()
    assert not found[-3:].any()


def test_what_is_not_a_number_is_not_known_to_be_empty() -> None:
    assert occupied(np.full((1, 64, 64), np.nan, np.float32), [NOISE]).all()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.9])
def test_rectangles_hold_every_cell_that_is_set_and_lie_apart(share, rng) -> None:
    cells = rng.random((23, 31)) < share
    covered = np.zeros(cells.shape, int)
    cost = 0.0
    for found in rectangles(cells, 2):
        covered[found.slices] += 1
        cost += found.cost(2)
    assert covered.max(initial=0) <= 1
    assert covered[cells].all()
    assert cost <= (23 + 4) * (31 + 4)


def selection(network: UNetConfig, *, any_window: bool) -> WindowSelection:
    return WindowSelection(
        network=network, margin_px=0, noise=(NOISE,), any_window=any_window
    )


def test_a_window_holds_all_that_the_network_sees_around_what_it_is_for(rng) -> None:
    network = UNetConfig(channels=(8, 16))
    blocks = plan((500, 400), stride_px=4, halo_px=network.halo_px, largest_px=200)
    image = noisy(rng, (500, 400))
    image[0, 210:220, 190:200] += 1
    chosen = selection(network, any_window=True)
    seen, asked_px, seen_px = np.zeros((500, 400), bool), 0, 0
    for block in blocks.blocks:
        part = image[:, *block.window]
        shape = part.shape[1:]
        cells = chosen.cells(block)
        pairs = list(chosen.seen(block, cells, part))
        asked_px += chosen.pixels(block, cells)
        seen_px += chosen.pixels(block, cells, [wanted for wanted, _ in pairs])
        for wanted, window in pairs:
            halo, stride = network.halo_px, network.stride_px
            assert window.y0 == 0 or wanted.y0 - window.y0 >= halo
            assert window.x0 == 0 or wanted.x0 - window.x0 >= halo
            assert window.y1 == shape[0] or window.y1 - wanted.y1 >= halo
            assert window.x1 == shape[1] or window.x1 - wanted.x1 >= halo
            assert not any(
                n % stride for n in (window.y0, window.y1, window.x0, window.x1)
            )
            rows, columns = wanted.slices
            own = seen[block.window]
            assert not own[rows, columns].any()
            own[rows, columns] = True
    assert seen[190:240, 170:220].all()
    assert asked_px == seen.size
    assert 0.01 * asked_px < seen_px < 0.5 * asked_px
    assert seen_px == np.count_nonzero(seen)


def test_where_size_matters_a_block_is_seen_whole_or_not_at_all(rng) -> None:
    network = UNetConfig(channels=(8, 16))
    blocks = plan((500, 400), stride_px=4, halo_px=network.halo_px, largest_px=200)
    image = noisy(rng, (500, 400))
    image[0, 60:70, 60:70] += 1
    chosen = selection(network, any_window=False)
    found = []
    for block in blocks.blocks:
        part = image[:, *block.window]
        found.append(list(chosen.seen(block, chosen.cells(block), part)))
    assert sum(map(bool, found)) == 1
    [(wanted, window)] = found[0]
    assert (window.y1, window.x1) == blocks.block_shape
    assert (wanted.y1, wanted.x1) == (
        blocks.blocks[0].y.core_stop,
        blocks.blocks[0].x.core_stop,
    )
