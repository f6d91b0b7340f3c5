"""Which channels are read: one, or several in the order in which they are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet.errors import ImageReadError
from cellunet.io.axes import PlaneLayout, Stack, lay_out
from cellunet.io.images import open_image
from cellunet.io.png import write_png
from cellunet.io.source import Choice, Region

NAMES = ("DAPI", "GFP", "Cy5, far")
SHAPE = (3, 40, 50)


def plan(
    channel: str | None, names: tuple[str, ...] = NAMES, known: tuple[str, ...] = ()
) -> PlaneLayout:
    stack = Stack(Path("plate.tif"), "CYX", (len(names), 5, 7), channel_names=names)
    return lay_out(stack, Choice(channel, known=known))


def pixels(path: Path, channel: str) -> np.ndarray:
    with open_image(path, channel=channel) as source:
        height, width = source.shape
        whole = source.read(Region(0, 0, height, 0, width))
        assert source.channels == len(source.channel_names) == len(whole)
        for y in range(0, height, 16):
            part = source.read(Region(0, y, min(y + 16, height), 3, 20))
            np.testing.assert_array_equal(part, whole[:, y : y + 16, 3:20])
    return whole


@pytest.mark.parametrize("wanted", ["GFP,DAPI", "1,0", "gfp, 0"])
def test_channels_come_in_the_order_of_their_names(wanted):
    layout = plan(wanted)
    assert layout.parts == ((1, 0), (0, 0))
    assert layout.channel_names == ("GFP", "DAPI")
    assert not layout.gray


def test_a_name_that_holds_a_comma_goes_first():
    assert plan("Cy5, far").channel_names == ("Cy5, far",)
    assert plan("DAPI,GFP", ("x", "DAPI,GFP")).channel_names == ("DAPI,GFP",)


def test_three_channels_are_no_luminance():
    layout = plan("0,1,2")
    assert (layout.channels, layout.gray) == (3, False)


def test_channels_that_were_cut_out_are_found_by_what_they_were_asked_for_by():
    assert plan("2,0", ("2", "0")).parts == ((0, 0), (1, 0))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("DAPI,RFP", "no channel 'RFP'"),
        ("DAPI,", "no channel ''"),
        ("0,7", "no channel '7'"),
        ("DAPI,0", r"channel 0 \(DAPI\) is asked for twice"),
    ],
)
def test_channels_that_are_not_there_or_come_twice_are_refused(wanted, message):
    with pytest.raises(ImageReadError, match=message):
        plan(wanted)


def test_known_channels_are_taken_by_name_alone():
    assert plan(None, known=("gfp", "DAPI")).channel_names == ("GFP", "DAPI")
    assert plan("0", known=("GFP", "DAPI")).channel_names == ("DAPI",)
    for names, known in [
        (NAMES, ("DAPI", "RFP")),
        (("", ""), ("0", "1")),
        (("0", "1"), ("0", "1")),
        (("DAPI", "GFP", "GFP"), ("DAPI", "GFP")),
    ]:
        with pytest.raises(ImageReadError, match="no channel was chosen") as caught:
            plan(None, names, known)
        assert "--channel 0,1" in caught.value.hint
        assert ",".join(known) in caught.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib", "tile": (16, 16)},
        {"compression": "zlib", "rowsperstrip": 7},
        {"compression": "zlib"},
    ],
    ids=["raw", "tiles", "strips", "one strip"],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_every_way_of_storing_channels_gives_the_same(tmp_path, rng, options, dtype):
    stored = rng.integers(0, 200, SHAPE).astype(dtype)
    path = tmp_path / "a.ome.tif"
    about = {"axes": "CYX", "Channel": {"Name": list(NAMES)}}
    tifffile.imwrite(path, stored, metadata=about, photometric="minisblack", **options)
    np.testing.assert_array_equal(pixels(path, "GFP,DAPI"), stored[[1, 0]])
    np.testing.assert_array_equal(pixels(path, "2,0,1"), stored[[2, 0, 1]])


def test_hyperstacks_and_colors_give_channels(tmp_path, rng):
    stored = rng.integers(0, 200, SHAPE).astype(np.uint8)
    imagej = {"axes": "CYX", "Labels": list(NAMES)}
    tifffile.imwrite(tmp_path / "i.tif", stored, imagej=True, metadata=imagej)
    np.testing.assert_array_equal(pixels(tmp_path / "i.tif", "GFP,0"), stored[[1, 0]])
    colors = np.ascontiguousarray(np.moveaxis(stored, 0, -1))
    tifffile.imwrite(tmp_path / "c.tif", colors, photometric="rgb")
    write_png(tmp_path / "c.png", colors)
    for name in ("c.tif", "c.png"):
        found = pixels(tmp_path / name, "red,blue")
        np.testing.assert_array_equal(found, stored[[0, 2]])
    planar = {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"}
    tifffile.imwrite(tmp_path / "p.tif", stored, **planar)
    found = pixels(tmp_path / "p.tif", "blue,green")
    np.testing.assert_array_equal(found, stored[[2, 1]])


def test_channels_of_stacks_and_projections(tmp_path, rng):
    stored = rng.integers(0, 200, (4, 2, 30, 33)).astype(np.uint16)
    path = tmp_path / "z.ome.tif"
    tifffile.imwrite(path, stored, metadata={"axes": "ZCYX"}, compression="zlib")
    with open_image(path, channel="1,0") as source:
        assert source.plane_shape == (4,)
        found = source.read(Region(2, 0, 30, 0, 33))
    np.testing.assert_array_equal(found, stored[2, ::-1])
    with open_image(path, channel="1,0", z="max") as source:
        found = source.read(Region(0, 5, 30, 0, 33))
    np.testing.assert_array_equal(found, stored[:, ::-1, 5:].max(axis=0))


@pytest.mark.parametrize("options", [{"rowsperstrip": 7}, {"tile": (16, 16)}])
def test_what_reading_holds_grows_with_the_channels(tmp_path, options):
    path = tmp_path / "a.ome.tif"
    stored = np.zeros((3, 2000, 40), np.uint16)
    about = {"axes": "CYX"}
    tifffile.imwrite(path, stored, metadata=about, compression="zlib", **options)
    held = []
    for channel in ("0", "0,1", "0,1,2"):
        with open_image(path, channel=channel) as source:
            held.append(source.held_bytes(1000))
    plane = 40 * (1024 if "rowsperstrip" in options else 2000) * 2
    assert held[1] - held[0] >= plane
    assert held[2] - held[1] == held[1] - held[0]


def test_several_channels_of_a_file_of_one_are_refused(tmp_path):
    write_png(tmp_path / "a.png", np.zeros((5, 7), np.uint8))
    with pytest.raises(ImageReadError, match="one channel") as caught:
        open_image(tmp_path / "a.png", channel="DAPI,GFP")
    assert "as one OME-TIFF" in caught.value.hint
