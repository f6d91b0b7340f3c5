"""Pictures: outlines, thumbnails, previews."""

from __future__ import annotations

import weakref
from itertools import pairwise
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from imagecodecs import png_decode

from cellunet.config import NormalizationConfig
from cellunet.errors import ConfigError
from cellunet.imaging.normalize import measure
from cellunet.io.source import Statistics
from cellunet.outputs import pictures
from cellunet.outputs.pictures import (
    AGREEMENT,
    GAP_PX,
    PAPER,
    PREDICTION,
    SIDE_PX,
    TRUTH,
    OutlinePicture,
    PngRows,
    Thumbnail,
    color_objects,
    contact_sheet,
    draw_outlines,
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
    # The 1st percentile is 0, the 99.8th 1.
    image = np.array([[0.0] * 499 + [0.5] + [1.0] * 500])
    # 255 * 0.5 ** 0.7 = 156.97
    assert np.unique(stretch(image)).tolist() == [0, 157, 255]


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
    drawn = draw_outlines(np.zeros((6, 6)), labels, other=other)
    assert (drawn.dtype, drawn.shape) == (np.uint8, (96, 96, 3))
    # One pixel is 16: rows 16 to 79 and columns 16 to 79 (truth) or 63 (prediction).
    assert tuple(drawn[40, 16]) == AGREEMENT
    assert tuple(drawn[40, 79]) == TRUTH
    assert tuple(drawn[40, 63]) == PREDICTION
    assert tuple(drawn[40, 17]) == (0, 0, 0)
    assert tuple(drawn[40, 15]) == (0, 0, 0)


def test_one_labeling_alone_has_lines_of_its_own_color_over_a_dimmed_image():
    image = np.array([[0, 1, 1, 1]])
    drawn = draw_outlines(image, np.array([[0, 0, 5, 5]]), color=(1, 2, 3))
    line = (drawn == (1, 2, 3)).all(axis=2)
    # Enlarged 16 times, the line is the first of 16 columns of pixel 2.
    np.testing.assert_array_equal(np.flatnonzero(line[0]), [32])
    assert drawn[0, 20, 0] == round(0.65 * 255)


@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3)])
def test_outlines_of_another_shape_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ConfigError, match=r"shapes .*\(4, 3\)") as caught:
        draw_outlines(np.zeros((4, 3)), np.zeros(shape, int))
    assert "labels of its shape" in caught.value.hint


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


def test_panels_stand_in_equal_cells():
    small = np.full((1, 1, 3), 7, np.uint8)
    large = np.full((3, 3, 3), 9, np.uint8)
    sheet = contact_sheet([large, small, small], 2)
    assert sheet.shape == (3 + GAP_PX + 3, 3 + GAP_PX + 3, 3)
    assert (sheet[:3, :3] == 9).all()
    assert sheet[0, 3 + GAP_PX, 0] == sheet[3 + GAP_PX, 0, 0] == 7
    assert (sheet != PAPER).any(axis=2).sum() == 9 + 1 + 1


def known(image) -> Statistics:
    return measure(lambda: [image], NormalizationConfig())


def made(image, labels, cuts=()) -> tuple[bytes, tuple[int, int]]:
    thumbnail = Thumbnail(image.shape, known(image), NormalizationConfig())
    for rows, ids in zip(np.split(image, cuts), np.split(labels, cuts), strict=True):
        if len(rows):
            thumbnail.add(rows, ids)
    return thumbnail.encode()


@pytest.mark.parametrize("shape", [(60, 50), (300, 700), (1, 9), (9, 1), (3, 3000)])
def test_the_bands_heights_change_no_byte(shape, rng) -> None:
    image = rng.integers(0, 4000, shape).astype(np.uint16)
    labels = (rng.integers(0, 3, shape) * (image > 1000)).astype(np.uint32)
    whole = made(image, labels)
    every = range(1, shape[0])
    for cuts in (every, every[::3], every[4::7]):
        assert made(image, labels, list(cuts)) == whole


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((520, 696), (232, 174)),
        ((256, 256), (256, 256)),
        ((257, 100), (50, 129)),
        ((64, 48), (192, 256)),
        ((5000, 10), (1, 250)),
    ],
)
def test_the_longest_side_fits_and_small_images_are_enlarged(shape, size) -> None:
    image = np.zeros(shape, np.uint8)
    encoded, found = made(image, image)
    assert found == size
    assert max(found) <= SIDE_PX
    assert imagecodecs.webp_decode(encoded).shape[:2] == size[::-1]


def test_outlines_are_colored_where_the_object_ends() -> None:
    image = np.zeros((256, 256), np.uint8)
    image[60:120, 80:200] = 200
    encoded, _ = made(image, (image > 0).astype(np.uint32))
    picture = imagecodecs.webp_decode(encoded)[..., :3].astype(int)
    redder = picture[..., 0] - picture[..., 2] > 60
    ys, xs = np.nonzero(redder)
    assert (ys.min(), ys.max()) == pytest.approx((60, 119), abs=2)
    assert (xs.min(), xs.max()) == pytest.approx((80, 199), abs=2)
    assert not redder[70:110, 90:190].any()
    assert PREDICTION[0] > PREDICTION[2]


def test_an_empty_field_looks_empty(rng) -> None:
    image = rng.normal(500, 5, (200, 200)).astype(np.float32)
    encoded, _ = made(image, np.zeros((200, 200), np.uint32))
    assert imagecodecs.webp_decode(encoded)[..., :3].std() < 25


def test_pixels_that_are_not_finite_are_black() -> None:
    image = np.linspace(0, 1, 900, dtype=np.float32).reshape(30, 30)
    image[:3] = [[np.nan], [np.inf], [-np.inf]]
    encoded, _ = made(image, np.zeros((30, 30), np.uint32))
    assert imagecodecs.webp_decode(encoded)[:20, :, :3].mean() < 10


def test_rows_are_read_back(tmp_path, rng) -> None:
    pixels = rng.integers(0, 256, (70, 33, 3)).astype(np.uint8)
    png = PngRows(tmp_path / "a.png", (70, 33))
    for y0 in (0, 1, 40):
        png.write(pixels[y0 : {0: 1, 1: 40, 40: 70}[y0]])
    png.commit()
    np.testing.assert_array_equal(png_decode((tmp_path / "a.png").read_bytes()), pixels)


def test_missing_rows_are_a_bug(tmp_path) -> None:
    png = PngRows(tmp_path / "a.png", (2, 2))
    with pytest.raises(ValueError, match="0 of 2 rows"):
        png.commit()
    png.abort()
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=30)
@given(cuts=st.sets(st.integers(1, 49)))
def test_bands_of_any_height_draw_what_the_whole_plane_shows(
    cuts, tmp_path_factory
) -> None:
    from tests.conftest import draw_nuclei

    image, labels = draw_nuclei((50, 40), 6, 2)
    limits = tuple(np.percentile(image, (1.0, 99.8)))
    path = tmp_path_factory.mktemp("picture") / "a.png"
    with pytest.MonkeyPatch.context() as patch:
        # As if the plane were too large to be enlarged.
        patch.setattr(pictures, "LINES_PX", 40)
        picture = OutlinePicture(path, (50, 40), limits)
        edges = [0, *sorted(cuts), 50]
        for y0, y1 in pairwise(edges):
            picture.write(image[y0:y1], labels[y0:y1])
        picture.commit()
        expected = draw_outlines(image, labels)
    found = png_decode(path.read_bytes())
    np.testing.assert_array_equal(found, expected)
    assert (found == TRUTH).all(axis=2).any()


def test_a_small_plane_is_enlarged(tmp_path, nuclei_image) -> None:
    image, labels = nuclei_image((50, 40), 6, 2)
    picture = OutlinePicture(tmp_path / "a.png", (50, 40), (0, 1))
    for y0 in (0, 20):
        picture.write(image[y0 : y0 + 20 or None], labels[y0 : y0 + 20 or None])
    picture.write(image[40:], labels[40:])
    picture.commit()
    found = png_decode((tmp_path / "a.png").read_bytes())
    np.testing.assert_array_equal(found, draw_outlines(image, labels))
    picture.abort()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="files cannot be counted")
@pytest.mark.parametrize("shape", [(5, 5), (3, 1500)])
def test_a_complete_picture_waits_without_an_open_file_or_its_rows(
    tmp_path, shape
) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    waiting = []
    for number in range(3):
        picture = OutlinePicture(tmp_path / f"{number}.png", shape, (0, 1))
        labels = np.zeros(shape, int)
        row = weakref.ref(labels)
        picture.write(np.zeros(shape), labels)
        del labels
        waiting.append(picture)
        assert row() is None
    assert len(list(Path("/dev/fd").iterdir())) == before
    assert list(tmp_path.glob("*.png")) == []
    for picture in waiting:
        picture.commit()
    assert len(list(tmp_path.iterdir())) == 3


def test_an_aborted_picture_leaves_nothing(tmp_path) -> None:
    for shape in ((5, 5), (1, 3000)):
        picture = OutlinePicture(tmp_path / "a.png", shape, (0, 1))
        picture.write(np.zeros(shape), np.zeros(shape, int))
        picture.abort()
    assert list(tmp_path.iterdir()) == []
