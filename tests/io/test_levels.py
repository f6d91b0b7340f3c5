"""Levels of pyramids, wherever a TIFF keeps them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import tifffile

from cellunet.errors import ImageReadError
from cellunet.io.axes import at_level
from cellunet.io.images import open_image
from cellunet.io.png_jpeg import write_png
from tests.io.pixels import whole

PIXELS = np.arange(2 * 65 * 80, dtype=np.uint16).reshape(2, 65, 80)


def pyramid(path, pixels, *, nested: bool, **options):
    options |= {"photometric": "minisblack", "tile": (16, 16)}
    with tifffile.TiffWriter(path, ome=path.name.endswith(".ome.tif")) as tiff:
        tiff.write(pixels, subifds=2 if nested else 0, **options)
        for k in (2, 4):
            small = pixels[..., : 64 * (k > 2) or None : k, ::k]
            tiff.write(small, subfiletype=1, **options)
    return path


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"metadata": None}])
def test_each_level_is_read_with_its_size(tmp_path, nested, options):
    path = pyramid(tmp_path / "a.tif", PIXELS[0], nested=nested, **options)
    expected = [PIXELS[0], PIXELS[0, ::2, ::2], PIXELS[0, :64:4, ::4]]
    for level, pixels in enumerate(expected):
        with open_image(path, level=level) as source:
            assert source.shape == pixels.shape
            np.testing.assert_array_equal(whole(source), pixels)
            with pickle.loads(pickle.dumps(source)) as sent:
                np.testing.assert_array_equal(whole(sent), pixels)


def test_levels_of_a_stack_of_channels_and_their_pixel_size(tmp_path):
    meta = {
        "axes": "CYX",
        "Channel": {"Name": ["DAPI", "GFP"]},
        "PhysicalSizeX": 0.5,
        "PhysicalSizeY": 0.25,
    }
    path = pyramid(tmp_path / "a.ome.tif", PIXELS, nested=True, metadata=meta)
    with open_image(path, channel="GFP", level=1) as source:
        np.testing.assert_array_equal(whole(source), PIXELS[1, ::2, ::2])
        # 65 rows become 33: pixels of twice the height, not 65 / 33 times.
        assert source.pixel_size_um == (0.5, 1.0)


def test_a_level_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    path = pyramid(tmp_path / "a.tif", PIXELS[0], nested=True)
    with pytest.raises(ImageReadError, match=r"a\.tif has no level 3; it has 3 levels"):
        open_image(path, level=3)
    write_png(tmp_path / "b.png", PIXELS[0])
    with pytest.raises(ImageReadError, match=r"it has 1 level: 0 \(65 x 80\)"):
        open_image(tmp_path / "b.png", level=1)


def test_a_factor_is_whole_where_one_fits():
    assert at_level((100, 101), (50, 50), (1, 1)) == (2, 2)
    assert at_level((100, 101), (50, 51), (1, 1)) == (2, 2)
    assert at_level((100, 100), (40, 100), (1, 3)) == (2.5, 3)
