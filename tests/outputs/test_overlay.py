"""Pictures show outlines exactly where they are, whatever the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellunet.outputs.pictures import (
    AGREEMENT,
    PAPER,
    PREDICTION,
    TRUTH,
    color_objects,
    contact_sheet,
    draw,
    enlargement,
    id_colors,
    outlines,
    preview,
    stretch,
)

LABELS = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
    elements=st.integers(0, 3),
)


def test_outlines_run_inside_objects_and_between_touching_ones():
    labels = np.array(
        [
            [0, 0, 0, 0, 0, 0],
            [0, 1, 1, 1, 2, 2],
            [0, 1, 1, 1, 2, 2],
            [0, 1, 1, 1, 2, 2],
            [0, 0, 0, 0, 0, 0],
        ]
    )
    expected = np.array(
        [
            [0, 0, 0, 0, 0, 0],
            [0, 1, 1, 1, 1, 1],
            [0, 1, 0, 1, 1, 0],
            [0, 1, 1, 1, 1, 1],
            [0, 0, 0, 0, 0, 0],
        ]
    )
    np.testing.assert_array_equal(outlines(labels), expected)


def test_an_object_that_fills_the_frame_has_no_outline():
    assert not outlines(np.ones((4, 4), np.uint16)).any()


@given(LABELS)
def test_outlines_are_object_pixels_with_another_label_beside_them(labels):
    expected = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            inside = 0 <= v < labels.shape[0] and 0 <= u < labels.shape[1]
            if inside and labels[v, u] != labels[y, x] and labels[y, x]:
                expected[y, x] = True
    np.testing.assert_array_equal(outlines(labels), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, bool])
def test_stretch_takes_any_type_to_black_and_white(dtype):
    image = np.array([[0, 0], [1, 1]], dtype)
    np.testing.assert_array_equal(stretch(image), [[0, 0], [255, 255]])


def test_stretch_lifts_the_middle_by_its_exponent():
    image = np.array([[0.0, 0.5, 1.0]])
    # 255 * 0.5 ** 0.7 = 156.97
    np.testing.assert_array_equal(stretch(image, low=0, high=100), [[0, 157, 255]])


def test_stretch_ignores_what_is_not_finite():
    image = np.array([[np.nan, 0.0, 1.0, np.inf, -np.inf]])
    np.testing.assert_array_equal(stretch(image), [[0, 0, 255, 0, 0]])
    assert not stretch(np.full((2, 2), np.nan)).any()


def test_a_constant_image_is_black_and_one_bright_pixel_is_seen():
    assert not stretch(np.full((3, 3), 700, np.uint16)).any()
    spot = np.zeros((100, 100), np.uint16)
    spot[5, 5] = 9
    assert stretch(spot)[5, 5] == 255


def test_images_are_enlarged_by_whole_factors():
    assert [enlargement(s, 512) for s in ((256, 256), (200, 100), (513, 4))] == [
        2,
        2,
        1,
    ]
    assert enlargement((1, 1), 512) == 16


def test_lines_have_the_color_of_whose_they_are():
    labels = np.zeros((6, 6), np.int32)
    labels[1:5, 1:5] = 1
    other = np.zeros((6, 6), np.int32)
    other[1:5, 1:4] = 1
    drawn = draw(np.zeros((6, 6)), labels, other=other)
    assert (drawn.dtype, drawn.shape) == (np.uint8, (96, 96, 3))
    # One pixel is 16: rows 16 to 79 and columns 16 to 79 (truth) or 63 (prediction).
    assert tuple(drawn[40, 16]) == AGREEMENT
    assert tuple(drawn[40, 79]) == TRUTH
    assert tuple(drawn[40, 63]) == PREDICTION
    assert tuple(drawn[40, 17]) == (0, 0, 0)
    assert tuple(drawn[40, 15]) == (0, 0, 0)


def test_one_labeling_alone_has_lines_of_its_own_color_over_a_dimmed_image():
    image = np.array([[0, 1, 1, 1]])
    drawn = draw(image, np.array([[0, 0, 5, 5]]), color=(1, 2, 3))
    line = (drawn == (1, 2, 3)).all(axis=2)
    # Enlarged 16 times, the line is the first of 16 columns of pixel 2.
    np.testing.assert_array_equal(np.flatnonzero(line[0]), [32])
    assert drawn[0, 20, 0] == round(0.65 * 255)


def test_neighboring_ids_have_clearly_different_colors():
    colors = id_colors(np.arange(1, 400)).astype(int)
    assert np.abs(np.diff(colors, axis=0)).sum(axis=1).min() > 100
    assert colors.max(axis=1).min() > 150


def test_a_color_follows_from_the_id_alone():
    np.testing.assert_array_equal(
        id_colors(np.array([[0, 5]]))[0, 1], id_colors(np.array([9, 2, 5]))[2]
    )
    assert not id_colors(np.array([[0]])).any()


def test_objects_are_colored_where_they_are():
    labels = np.zeros((700, 4), np.int32)
    labels[2:5, 1:4] = 3
    color = id_colors(np.array([3]))[0]
    alone = color_objects(labels)
    np.testing.assert_array_equal(alone[3, 2], color)
    np.testing.assert_array_equal(alone[2, 2], color // 2)
    assert not alone[labels == 0].any()
    over = color_objects(labels, image=np.zeros((700, 4)))
    np.testing.assert_array_equal(over[2, 2], color)
    np.testing.assert_array_equal(over[3, 2], np.rint(0.45 * color))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((520, 696), (520, 2 * 696 + 6, 3)),
        ((256, 256), (512, 2 * 512 + 6, 3)),
        ((15, 4000), (2 * 8 + 6, 2000, 3)),
        ((1, 1), (16, 2 * 16 + 6, 3)),
    ],
)
def test_a_preview_has_the_image_beside_its_objects(shape, expected):
    labels = np.ones(shape, np.int32)
    assert preview(np.zeros(shape, np.uint8), labels).shape == expected


def test_a_preview_without_image_shows_the_objects_alone(nuclei_image):
    _, labels = nuclei_image((64, 64), 3)
    assert preview(None, labels).shape == (640, 640, 3)


def test_panels_are_centered_in_equal_cells():
    small = np.full((1, 1, 3), 7, np.uint8)
    large = np.full((3, 3, 3), 9, np.uint8)
    sheet = contact_sheet([large, small, small], columns=2, gap_px=1)
    assert sheet.shape == (7, 7, 3)
    assert (sheet[:3, :3] == 9).all()
    assert sheet[1, 5, 0] == sheet[5, 1, 0] == 7
    assert (sheet != PAPER).any(axis=2).sum() == 9 + 1 + 1
    assert contact_sheet([small, small, small], gap_px=0).shape == (1, 3, 3)
