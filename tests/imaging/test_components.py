"""Components by runs: their pixels, numbers, areas, against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from cellunet.imaging.components import components, least_members


def test_corners_do_not_join_and_numbers_follow_the_first_pixels() -> None:
    mask = np.array([[0, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]], bool)
    found = components(mask)
    assert found.labels().tolist() == [[0, 1, 0, 2], [2, 0, 0, 2], [2, 2, 2, 2]]
    assert found.labels().dtype == np.int32
    assert found.areas.tolist() == [0, 1, 7]


def test_the_last_pixel_of_a_row_does_not_touch_the_first_of_the_next() -> None:
    assert components(np.array([[0, 1], [1, 0]], bool)).count == 2


def test_pixels_of_chosen_components_come_in_raster_order() -> None:
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 1], [1, 0, 0, 1]], bool)
    pixels, whose = components(mask).pixels(np.array([False, False, True, True]))
    assert pixels.tolist() == [3, 7, 8, 11]
    assert whose.tolist() == [2, 2, 3, 2]


@given(
    arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)),
)
@settings(max_examples=200)
def test_any_mask_has_the_components_of_scipy(mask) -> None:
    found, (labels, count) = components(mask), ndimage.label(mask)
    assert found.count == count
    np.testing.assert_array_equal(found.labels(), labels)
    np.testing.assert_array_equal(
        found.areas[1:], np.bincount(labels.ravel(), minlength=count + 1)[1:]
    )


@pytest.mark.parametrize("transposed", [False, True])
def test_a_path_that_winds_is_one(transposed) -> None:
    snake = np.zeros((41, 41), bool)
    snake[::2] = True
    snake[1::4, -1] = snake[3::4, 0] = True
    mask = snake.T if transposed else snake
    assert components(mask).count == 1
    assert components(~mask).count == ndimage.label(~mask)[1]


@given(share=st.floats(0.3, 0.7), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_noise_has_the_components_of_scipy(share, seed) -> None:
    mask = np.random.default_rng(seed).random((60, 70)) < share
    np.testing.assert_array_equal(components(mask).labels(), ndimage.label(mask)[0])


def test_equal_values_are_connected_and_others_are_not() -> None:
    values = np.array([[7, 7, 2, 2], [0, 2, 2, 7], [5, 0, 7, 7]], np.uint16)
    assert components(values).labels().tolist() == [
        [1, 1, 2, 2],
        [0, 2, 2, 3],
        [4, 0, 3, 3],
    ]
    assert components(values).count == 4


def test_across_corners_the_ends_of_rows_do_not_meet() -> None:
    values = np.array([[1, 0, 0, 3], [0, 1, 0, 0], [1, 0, 2, 1], [0, 0, 0, 2]])
    assert components(values, across_corners=True).labels().tolist() == [
        [1, 0, 0, 2],
        [0, 1, 0, 0],
        [1, 0, 3, 4],
        [0, 0, 0, 3],
    ]


@given(
    arrays(
        np.int8,
        array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=16),
        elements=st.integers(-1, 2),
    ),
    st.booleans(),
)
@settings(max_examples=100)
def test_any_values_have_the_components_of_each_value(values, corners) -> None:
    near = np.ones((3, 3)) if corners else None
    found = components(values, across_corners=corners).labels()
    assert ((found > 0) == (values != 0)).all()
    pieces = [ndimage.label(values == v, near)[0] for v in (-1, 1, 2)]
    masks = [p == n for p in pieces for n in range(1, p.max() + 1)]
    masks.sort(key=lambda mask: mask.ravel().argmax())
    for number, mask in enumerate(masks, 1):
        np.testing.assert_array_equal(found == number, mask)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30),
    st.randoms(use_true_random=False),
)
def test_sets_are_the_connected_components_in_any_order(pairs, random) -> None:
    joins = np.array(pairs, np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(joins)), joins.T), (20, 20))
    _, component = connected_components(graph, directed=False)
    expected = [int(np.flatnonzero(component == c)[0]) for c in component]
    assert least_members(20, *joins.T).tolist() == expected
    shuffled = joins[random.sample(range(len(joins)), len(joins)), ::-1]
    assert least_members(20, *shuffled.T).tolist() == expected


def test_no_numbers_have_no_sets() -> None:
    assert least_members(0, *np.zeros((2, 0), np.int64)).tolist() == []
