"""Crops: with what they remember of their image."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet.config import NormalizationConfig
from cellunet.errors import ConfigError, ImageReadError
from cellunet.io.crops import CropChannel, CropMetadata
from cellunet.io.images import open_image
from cellunet.io.label_tiff import write_crop
from cellunet.io.source import Region, Statistics

FIELD = Statistics(
    low=101.5,
    high=9000.0,
    mean=400.25,
    std=33.0,
    noise=4.5,
    count=10**9,
    foreground=7000.0,
)
NEGATIVE = replace(FIELD, low=100.0, high=8000.5)
CUT = CropMetadata(
    image="ä plate.ome.tif",
    plane=3,
    y=512,
    x=128,
    percentiles=(1.0, 99.8),
    channels=(CropChannel(channel="DAPI", statistics=FIELD, negative=NEGATIVE),),
    planes=7,
)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32"])
def test_a_crop_keeps_pixels_type_size_channel_and_field(tmp_path, rng, dtype) -> None:
    pixels = rng.integers(0, 100, (40, 50)).astype(dtype)
    path = tmp_path / "crop.tif"
    write_crop(path, pixels, CUT, (0.5, 0.25))
    with open_image(path) as source:
        assert source.cut_from == CUT
        assert source.dtype == np.dtype(dtype)
        assert source.channel_names == ("DAPI",)
        assert source.pixel_size_um == pytest.approx((0.5, 0.25))
        np.testing.assert_array_equal(source.read(Region(0, 0, 40, 0, 50))[0], pixels)
        assert pickle.loads(pickle.dumps(source)).cut_from == CUT
    with open_image(path, channel="dapi") as source:
        assert source.shape == (40, 50)
    assert [p.name for p in tmp_path.iterdir()] == ["crop.tif"]


def test_the_same_crop_gives_the_same_bytes(tmp_path) -> None:
    pixels = np.arange(600, dtype=np.uint16).reshape(20, 30)
    for name in ("a.tif", "b.tif"):
        write_crop(tmp_path / name, pixels, CUT, None)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_an_image_saved_by_others_was_cut_from_nothing(tmp_path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.uint16))
    with open_image(tmp_path / "a.tif") as source:
        assert source.cut_from is None
    assert CropMetadata.from_text("ImageJ=1.54f\n", tmp_path) is None
    assert CropMetadata.from_text('{"shape": [8, 8]}', tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [
        {"statistics": {}},
        {"statistics": {"low": 1.0}},
        {"negative": None},
        {"percentiles": [1.0]},
        {"y": "here"},
        {"statistics": vars(FIELD) | {"high": "1e999"}},
    ],
)
def test_a_damaged_record_is_refused_not_forgotten(tmp_path, change) -> None:
    values = json.loads(CUT.to_text())
    values["cellunet_crop"] |= change
    with pytest.raises(ImageReadError, match="record of where is damaged"):
        CropMetadata.from_text(json.dumps(values), tmp_path / "a.tif")
    with pytest.raises(ImageReadError, match=r"a\.tif"):
        CropMetadata.from_text(CUT.to_text()[:-1], tmp_path / "a.tif")


def test_a_model_that_scales_by_other_percentiles_is_refused() -> None:
    assert CUT.by_channel(NormalizationConfig()) == (FIELD,)
    assert CUT.by_channel(NormalizationConfig(kind="standard")) == (FIELD,)
    assert CUT.by_channel(NormalizationConfig(invert=True)) == (NEGATIVE,)
    with pytest.raises(ConfigError, match=r"holds percentiles \(1.0, 99.8\)"):
        CUT.by_channel(NormalizationConfig(high_percentile=99.0))


def test_a_crop_without_the_foreground_that_a_model_asks_for_is_refused() -> None:
    values = json.loads(CUT.to_text())
    for which in ("statistics", "negative"):
        del values["cellunet_crop"][which]["foreground"]
    old = CropMetadata.from_text(json.dumps(values), Path("a.tif"))
    unlimited = NormalizationConfig(foreground_limit=0.0)
    assert old.by_channel(unlimited) == (replace(FIELD, foreground=None),)
    with pytest.raises(ConfigError, match="did not measure the foreground"):
        old.by_channel(NormalizationConfig())


TWO = replace(
    CUT,
    channels=(
        *CUT.channels,
        CropChannel(channel="GFP", statistics=NEGATIVE, negative=FIELD),
    ),
)


def test_a_crop_of_several_channels_keeps_each_with_its_field(tmp_path, rng) -> None:
    pixels = rng.integers(0, 100, (2, 40, 50)).astype(np.uint16)
    path = tmp_path / "crop.tif"
    write_crop(path, pixels, TWO, (0.5, 0.5))
    region = Region(0, 0, 40, 0, 50)
    for wanted, order in (("DAPI,GFP", [0, 1]), ("GFP,DAPI", [1, 0]), ("GFP", [1])):
        with open_image(path, channel=wanted) as source:
            np.testing.assert_array_equal(source.read(region), pixels[order])
            found = source.cut_from.by_channel(NormalizationConfig())
            assert found == tuple([FIELD, NEGATIVE][k] for k in order)
            inverted = source.cut_from.by_channel(NormalizationConfig(invert=True))
            assert inverted == tuple([NEGATIVE, FIELD][k] for k in order)
    with open_image(path, known=("DAPI", "GFP")) as source:
        assert source.cut_from == TWO


def renamed(first: str, second: str) -> CropMetadata:
    one, two = TWO.channels
    channels = replace(one, channel=first), replace(two, channel=second)
    return replace(TWO, channels=channels)


def test_a_crop_of_channels_asked_for_by_number_keeps_their_numbers(tmp_path) -> None:
    path = tmp_path / "crop.tif"
    write_crop(
        path, np.arange(128, dtype="u2").reshape(2, 8, 8), renamed("1", "0"), None
    )
    region = Region(0, 0, 1, 0, 1)
    for wanted, first in (("1", [0]), ("0", [64]), ("0,1", [64, 0]), ("1,0", [0, 64])):
        with open_image(path, channel=wanted) as source:
            assert source.read(region)[:, 0, 0].tolist() == first
    with pytest.raises(ImageReadError) as told:
        open_image(path)
    assert "--channel 1" in told.value.hint


def test_channels_of_one_name_keep_their_own_statistics(tmp_path) -> None:
    path = tmp_path / "crop.tif"
    write_crop(path, np.zeros((2, 8, 8), "u2"), renamed("DAPI", "DAPI"), None)
    for wanted, field in (
        ("0", [FIELD]),
        ("1", [NEGATIVE]),
        ("0,1", [FIELD, NEGATIVE]),
    ):
        with open_image(path, channel=wanted) as source:
            found = source.cut_from.by_channel(NormalizationConfig())
            assert list(found) == field


def test_a_crop_that_lost_a_page_is_refused(tmp_path) -> None:
    write_crop(tmp_path / "a.tif", np.zeros((8, 8), np.uint16), TWO, None)
    with pytest.raises(ImageReadError, match="does not hold a page of each"):
        open_image(tmp_path / "a.tif", channel="DAPI,GFP")


def test_a_record_of_one_channel_is_as_it_was() -> None:
    (record,) = json.loads(replace(CUT, planes=1).to_text()).values()
    assert set(record) == {
        *("image", "plane", "y", "x"),
        *("channel", "percentiles", "statistics", "negative"),
    }
