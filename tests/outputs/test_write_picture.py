"""Pictures of outlines: of small planes as drawn whole, of large ones row by row."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagecodecs import png_decode

from cellunet.outputs import pictures as overlay
from cellunet.outputs import pictures as write_picture
from cellunet.outputs.pictures import TRUTH, OutlinePicture, PngRows, draw


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
        patch.setattr(overlay, "LINES_PX", 40)
        patch.setattr(write_picture, "LINES_PX", 40)
        picture = OutlinePicture(path, (50, 40), limits)
        edges = [0, *sorted(cuts), 50]
        for y0, y1 in pairwise(edges):
            picture.write(image[y0:y1], labels[y0:y1])
        picture.commit()
        expected = draw(image, labels)
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
    np.testing.assert_array_equal(found, draw(image, labels))
    picture.abort()


def test_an_aborted_picture_leaves_nothing(tmp_path) -> None:
    for shape in ((5, 5), (1, 3000)):
        picture = OutlinePicture(tmp_path / "a.png", shape, (0, 1))
        picture.write(np.zeros(shape), np.zeros(shape, int))
        picture.abort()
    assert list(tmp_path.iterdir()) == []
