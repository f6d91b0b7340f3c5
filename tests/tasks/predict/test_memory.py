"""A bound on memory is shared out, or refused with the least that would do."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from cellunet.config import UNetConfig
from cellunet.errors import ConfigError
from cellunet.imaging.blocks import network_plan
from cellunet.tasks.predict.settings import (
    BAND_BYTES,
    FURTHER_BAND_BYTES,
    FURTHER_MAPS,
    LEAST_TILE_PX,
    MEGABYTE,
    TILE_BYTES,
    WAITING_TILE_BYTES,
    Memory,
    memory_for,
    window_bytes,
)

SHAPE = (30_000, 40_000)
WINDOW = window_bytes(SHAPE, UNetConfig())
HELD = 64 * 2**20


def test_without_a_bound_the_defaults_hold() -> None:
    assert memory_for(None, SHAPE, WINDOW, HELD) == Memory()


def test_with_room_enough_too() -> None:
    assert memory_for(10_000, SHAPE, WINDOW, HELD) == Memory()


def test_less_room_makes_smaller_parts() -> None:
    found = [memory_for(mb, SHAPE, WINDOW, HELD) for mb in (700, 750, 800, 1000)]
    for less, more in pairwise(found):
        assert less.tile_px <= more.tile_px
        assert less.band_pixels <= more.band_pixels
        assert less.scratch_bytes <= more.scratch_bytes
    assert LEAST_TILE_PX <= found[0].tile_px < found[-1].tile_px


def test_the_least_that_is_named_does() -> None:
    with pytest.raises(ConfigError, match="too little") as caught:
        memory_for(100, SHAPE, WINDOW, HELD)
    least = int(re.findall(r"--max-memory (\d+)", caught.value.hint)[0])
    memory_for(least, SHAPE, WINDOW, HELD)
    with pytest.raises(ConfigError):
        memory_for(least - 2, SHAPE, WINDOW, HELD)


def test_what_the_reader_holds_is_taken_off() -> None:
    less = memory_for(1000, SHAPE, WINDOW, HELD + 200 * MEGABYTE)
    assert less == memory_for(800, SHAPE, WINDOW, HELD)
    with pytest.raises(ConfigError, match="too little"):
        memory_for(1000, SHAPE, WINDOW, 900 * MEGABYTE)


@pytest.mark.parametrize("workers", [2, 3, 4, 64])
@pytest.mark.parametrize("limit", [None, 700, 10_000])
def test_tiles_at_once_share_what_one_would_take(limit, workers) -> None:
    one = memory_for(limit, SHAPE, WINDOW, HELD)
    found = memory_for(limit, SHAPE, WINDOW, HELD, workers)
    assert (found.band_pixels, found.scratch_bytes) == (
        one.band_pixels,
        one.scratch_bytes,
    )
    assert 1 < found.workers <= workers
    of_one = (TILE_BYTES + WAITING_TILE_BYTES) * found.tile_px**2
    share = one.tile_px if limit != 700 else one.tile_px + 64
    assert found.workers * of_one <= TILE_BYTES * share**2


def test_threads_change_nothing_of_what_fits() -> None:
    with pytest.raises(ConfigError, match="too little") as caught:
        memory_for(100, SHAPE, WINDOW, HELD, 4)
    least = int(re.findall(r"--max-memory (\d+)", caught.value.hint)[0])
    assert memory_for(least, SHAPE, WINDOW, HELD).workers == 1
    found = memory_for(least, SHAPE, WINDOW, HELD, 4)
    assert found.tile_px == LEAST_TILE_PX
    with pytest.raises(ConfigError):
        memory_for(least - 2, SHAPE, WINDOW, HELD, 4)


def test_each_further_channel_takes_room_for_its_windows() -> None:
    one, two, three = (
        window_bytes(SHAPE, UNetConfig(in_channels=2 * n), n) for n in (1, 2, 3)
    )
    assert one == WINDOW
    height, width = network_plan(SHAPE, UNetConfig()).block_shape
    assert two - one == three - two == 4 * (2 + FURTHER_MAPS) * height * width


@pytest.mark.parametrize("limit", [None, 800])
def test_bands_of_several_channels_are_lower(limit) -> None:
    memory = memory_for(limit, SHAPE, WINDOW, HELD)
    for channels in (2, 3):
        found = memory_for(limit, SHAPE, WINDOW, HELD, 1, channels)
        own = BAND_BYTES + (channels - 1) * FURTHER_BAND_BYTES
        assert found.band_pixels * own <= memory.band_pixels * BAND_BYTES
        assert found.band_pixels > memory.band_pixels // 3
        assert found == replace(memory, band_pixels=found.band_pixels)


def test_the_least_bound_holds_the_lowest_band_of_every_channel() -> None:
    least = []
    for channels in (1, 2, 3):
        with pytest.raises(ConfigError) as caught:
            memory_for(100, SHAPE, WINDOW, HELD, 1, channels)
        least.append(int(caught.value.hint.split()[1]))
    further = 16 * FURTHER_BAND_BYTES * SHAPE[1] / MEGABYTE
    assert [b - a for a, b in pairwise(least)] == [pytest.approx(further, abs=1)] * 2
