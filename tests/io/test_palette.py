"""Palettes that display intensities, and palettes that make colors."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from cellunet.errors import ImageReadError
from cellunet.io.images import open_image
from cellunet.io.tiff import is_ramp
from tests.io.pixels import read, whole

PIXELS = np.arange(20, dtype=np.uint16).reshape(4, 5) * 3000
OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/'
    '2016-06"><Image ID="Image:0"><Pixels DimensionOrder="XYCZT" Type="uint16" '
    'SizeX="5" SizeY="4" SizeC="2" SizeZ="1" SizeT="1"><Channel Name="DAPI" '
    'SamplesPerPixel="1"/><Channel Name="GFP" SamplesPerPixel="1"/><TiffData/>'
    "</Pixels></Image></OME>"
)


def ramp(hue, values=65536):
    line = np.arange(values) * (65535 // (values - 1))
    return np.array([line * share for share in hue]).astype(np.uint16)


def colors(values=65536):
    return np.random.default_rng(0).integers(0, 65536, (3, values)).astype(np.uint16)


def save(path, pixels, colormap, **options):
    with tifffile.TiffWriter(path) as tiff:
        for page in pixels if pixels.ndim == 3 else [pixels]:
            tiff.write(page, photometric="palette", colormap=colormap, **options)
            options.pop("description", None)
    return path


@pytest.mark.parametrize("hue", [(1, 0, 0), (1, 1, 1), (0, 0.5, 1)])
@pytest.mark.parametrize("values", [256, 65536])
def test_a_ramp_of_one_hue_is_told_in_any_depth(hue, values):
    assert is_ramp(ramp(hue, values))
    assert is_ramp(ramp(hue, values) >> 8 << 8)


def test_other_palettes_are_no_ramps():
    assert not is_ramp(colors(256))
    assert not is_ramp(np.zeros((3, 256)))
    assert not is_ramp(np.sqrt(ramp((1, 0, 0), 256)))
    two_hues = ramp((1, 0, 0), 256)
    two_hues[2] = two_hues[0][::-1]
    assert not is_ramp(two_hues)


@pytest.mark.parametrize(("dtype", "values"), [("u1", 256), ("u2", 65536)])
def test_the_index_of_a_ramp_is_the_intensity_at_its_full_depth(
    tmp_path, dtype, values
):
    pixels = PIXELS.astype(dtype)
    path = save(tmp_path / "a.tif", pixels, ramp((0, 0, 1), values), metadata=None)
    with open_image(path) as source:
        assert source.dtype == dtype
        np.testing.assert_array_equal(whole(source), pixels)


def test_several_channels_with_a_color_each_are_gray(tmp_path):
    pixels = np.stack([PIXELS, PIXELS + 7])
    path = save(
        tmp_path / "a.ome.tif",
        pixels,
        ramp((0, 1, 0)),
        metadata=None,
        description=OME,
    )
    with open_image(path, channel="gfp") as source:
        assert source.file_channels == ("DAPI", "GFP")
        np.testing.assert_array_equal(whole(source), pixels[1])


def test_any_palette_is_display_where_ome_tells_of_one_sample(tmp_path):
    pixels = np.stack([PIXELS, PIXELS + 7])
    path = save(
        tmp_path / "a.ome.tif", pixels, colors(), metadata=None, description=OME
    )
    np.testing.assert_array_equal(read(path, channel="DAPI"), PIXELS)


def test_palettes_of_eight_bits_have_the_colors_of_those_of_sixteen(tmp_path):
    pixels = PIXELS.astype(np.uint8)
    table = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
    for name, colormap in {"8": table, "16": table * 257}.items():
        path = save(tmp_path / f"{name}.tif", pixels, colormap, metadata=None)
        np.testing.assert_array_equal(read(path, channel="green"), table[1][pixels])


@pytest.mark.parametrize(
    "options",
    [
        {"metadata": None},
        {"metadata": None, "description": "ImageJ=1.53t\n8bitcolor=true\n"},
    ],
)
def test_indexed_color_is_refused_and_says_what_it_is(tmp_path, options):
    path = save(tmp_path / "a.tif", PIXELS.astype(np.uint8), colors(256), **options)
    with pytest.raises(ImageReadError, match=r"indexed color.*--gray"):
        open_image(path)
