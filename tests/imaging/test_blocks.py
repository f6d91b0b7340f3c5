"""The plan of blocks: arithmetic that everything large stands on."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cellunet.imaging.blocks import plan

STRIDES = st.sampled_from([1, 2, 4, 8, 16])


@st.composite
def plans(draw):
    stride = draw(STRIDES)
    halo = draw(st.integers(0, 5 * stride))
    room = 2 * (-(-halo // stride) * stride) + stride
    largest = draw(st.integers(room, room + 12 * stride))
    # At most 30 blocks on the longer axis, or the tests take too long.
    long, short = 30 * stride + 3, 9 * stride + 1
    shape = draw(st.tuples(st.integers(1, long), st.integers(1, short)))
    made = plan(shape, stride_px=stride, halo_px=halo, largest_px=largest)
    return made, stride, halo, largest


@settings(max_examples=80)
@given(plans())
def test_cores_tile_the_plane_exactly_once(drawn) -> None:
    made, *_ = drawn
    times = np.zeros(made.shape, int)
    for block in made.blocks:
        y, x = block.y, block.x
        assert 0 <= y.core_start < y.core_stop <= made.shape[0]
        assert 0 <= x.core_start < x.core_stop <= made.shape[1]
        times[block.core] += 1
    assert (times == 1).all()


@settings(max_examples=80)
@given(plans())
def test_windows_have_one_shape_on_the_grid_of_the_stride(drawn) -> None:
    made, stride, _, largest = drawn
    for block in made.blocks:
        for axis, (span, length) in enumerate(
            zip((block.y, block.x), made.shape, strict=True)
        ):
            assert span.start % stride == 0
            assert span.start >= 0
            assert span.stop - span.start == made.block_shape[axis]
            assert made.block_shape[axis] % stride == 0
            assert made.block_shape[axis] <= largest
            assert span.start < length
            assert span.stop < length + stride


@settings(max_examples=80)
@given(plans())
def test_cores_keep_the_halo_but_at_the_padded_edge(drawn) -> None:
    made, stride, halo, _ = drawn
    for block in made.blocks:
        for span, length in zip((block.y, block.x), made.shape, strict=True):
            padded = -(-length // stride) * stride
            assert span.start == 0 or span.core_start - span.start >= halo
            assert span.stop == padded or span.stop - span.core_stop >= halo


@settings(max_examples=25)
@given(plans())
def test_blocks_come_in_raster_order(drawn) -> None:
    made, *_ = drawn
    places = [(b.row, b.column) for b in made.blocks]
    assert places == [(i, j) for i in range(made.rows) for j in range(made.columns)]
    for block in made.blocks:
        assert made.at(block.row, block.column) is block


def test_a_plane_that_fits_is_one_block_padded_to_the_stride() -> None:
    made = plan((13, 16), stride_px=8, halo_px=40, largest_px=16)
    assert made.block_shape == (16, 16)
    (block,) = made.blocks
    assert (block.y.stop, block.y.core_start, block.y.core_stop) == (16, 0, 13)


def test_a_worked_axis() -> None:
    # 100 is padded to 104. Windows of 64 with halos of 8 advance by at most 48.
    made = plan((100, 8), stride_px=8, halo_px=8, largest_px=64)
    spans = [(b.y.start, b.y.core_start, b.y.core_stop) for b in made.blocks]
    assert made.block_shape == (64, 8)
    assert spans == [(0, 0, 52), (40, 52, 100)]
