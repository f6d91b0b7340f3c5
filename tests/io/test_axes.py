"""Which planes of a stack are read, and which channels in which order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet.errors import ImageReadError
from cellunet.io.axes import PlaneLayout, Stack, combine, lay_out
from cellunet.io.images import open_image
from cellunet.io.png_jpeg import write_png
from cellunet.io.source import PlaneChoice, Region, ZMode

PLATE = Path("plate3.tif")


def plan(
    axes: str,
    shape: tuple[int, ...],
    channel: str | None = None,
    *,
    gray: bool = False,
    z: ZMode = "keep",
    color: bool = False,
    alpha: bool = False,
    names: tuple[str, ...] = (),
) -> PlaneLayout:
    stack = Stack(PLATE, axes, shape, color=color, alpha=alpha, channel_names=names)
    return lay_out(stack, PlaneChoice(channel, gray, z))


def test_a_plane_is_one_plane():
    layout = plan("YX", (5, 7))
    assert (layout.shape, layout.plane_axes, layout.plane_shape) == ((5, 7), "", ())
    assert layout.stored(0) == [0]
    assert layout.parts == ((0, 0),)


def test_axes_of_length_one_vanish_but_rows_and_columns_stay():
    layout = plan("TZCYXS", (1, 1, 1, 1, 1, 1))
    assert (layout.shape, layout.plane_axes) == ((1, 1), "")


def test_planes_of_a_hyperstack_skip_the_other_channels():
    # Stored planes of TZCYX (2, 3, 4): t * 12 + z * 4 + c.
    layout = plan("TZCYX", (2, 3, 4, 5, 7), "1")
    assert (layout.plane_axes, layout.plane_shape, layout.planes) == ("TZ", (2, 3), 6)
    assert [layout.stored(p) for p in range(6)] == [[0], [4], [8], [12], [16], [20]]
    assert layout.parts == ((1, 0),)


@pytest.mark.parametrize(
    ("axes", "pages", "kept", "channels", "told"),
    [
        ("QYX", None, "T", 1, "3 pages, read as T"),
        ("IYX", "time", "T", 1, "3 pages, read as T"),
        ("IYX", "z", "Z", 1, "3 pages, read as Z"),
        ("IYX", "channels", "", 3, "3 pages, read as C"),
        ("QQYX", "channels", "T", 2, "3 x 2 pages, read as T and C"),
        ("QQYX", "z", "ZT", 1, "3 x 2 pages, read as Z and T"),
        ("ZQYX", "channels", "Z", 2, "2 pages, read as C"),
        ("CYX", "z", "", 3, ""),
        ("TYX", "time", "T", 1, ""),
        ("YX", "channels", "", 1, ""),
    ],
)
def test_pages_without_a_name_are_read_as_asked(axes, pages, kept, channels, told):
    shape = (*(3, 2)[: len(axes) - 2], 5, 7)
    choice = PlaneChoice("0", pages=pages)
    layout = lay_out(Stack(PLATE, axes, shape), choice)
    assert (layout.plane_axes, len(layout.file_channels)) == (kept, channels)
    assert layout.pages == told


def test_pages_as_channels_are_stored_planes_and_the_rest_may_be_projected():
    choice = PlaneChoice("1", z="max", pages="channels")
    layout = lay_out(Stack(PLATE, "QQYX", (3, 2, 5, 7)), choice)
    assert (layout.parts, layout.plane_axes) == (((1, 0),), "")
    assert layout.stored(0) == [0, 2, 4]


def test_pages_that_have_a_name_are_not_renamed():
    with pytest.raises(ImageReadError, match=r"itself what its pages are \(T\)"):
        lay_out(Stack(PLATE, "TYX", (3, 5, 7)), PlaneChoice(pages="channels"))


@pytest.mark.parametrize("shape", [(5, 7, 1), (1, 5, 7, 1), (1, 1, 5, 7), (5, 7, 1, 1)])
def test_axes_of_length_one_around_a_plane_are_dropped(tmp_path, shape):
    pixels = np.arange(35, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels.reshape(shape))
    with open_image(tmp_path / "a.tif") as source:
        assert (source.shape, source.plane_axes) == ((5, 7), "")
        read = source.read(Region(0, 0, 5, 0, 7))
    assert read.tolist() == [pixels.reshape(5, 7).tolist()]


@pytest.mark.parametrize("behind", [(), (1,)])
def test_plain_pages_are_channels_if_they_are_said_to_be(tmp_path, behind):
    pixels = np.arange(70, dtype=np.uint16).reshape(2, 5, 7)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels.reshape(2, 5, 7, *behind), photometric="minisblack"
    )
    with open_image(tmp_path / "a.tif", channel="1,0", pages="channels") as source:
        assert source.origin.pages == "2 pages, read as C"
        read = source.read(Region(0, 0, 5, 0, 7))
    assert read.tolist() == pixels[::-1].tolist()


def test_the_maximum_over_z_reads_all_of_z():
    layout = plan("TZCYX", (2, 3, 4, 5, 7), "0", z="max")
    assert (layout.plane_axes, layout.plane_shape) == ("T", (2,))
    assert layout.stored(1) == [12, 16, 20]


def test_z_before_t_stays_z_before_t():
    assert plan("ZTYX", (2, 3, 5, 7)).plane_axes == "ZT"


@pytest.mark.parametrize(
    ("axes", "shape", "z", "expected"),
    [
        ("QYX", (3, 5, 7), "keep", "T"),
        ("IYX", (3, 5, 7), "keep", "T"),
        ("IYX", (3, 5, 7), "max", ""),
        ("QQYX", (2, 3, 5, 7), "keep", "TZ"),
        ("QQYX", (2, 3, 5, 7), "max", "T"),
        ("TQYX", (2, 3, 5, 7), "keep", "TZ"),
        ("TQYX", (2, 3, 5, 7), "max", "T"),
        ("ZQYX", (2, 3, 5, 7), "keep", "ZT"),
        ("ZQYX", (2, 3, 5, 7), "max", "T"),
    ],
)
def test_pages_without_an_axis_name_are_a_stack(axes, shape, z, expected):
    assert plan(axes, shape, z=z).plane_axes == expected


def test_z_max_of_a_plane_is_the_plane():
    assert plan("YX", (5, 7), z="max").stored(0) == [0]


def test_several_channels_need_a_choice():
    with pytest.raises(ImageReadError) as refusal:
        plan("TCYX", (2, 3, 5, 7), names=("DAPI", "GFP", "RFP"))
    assert str(refusal.value) == (
        "plate3.tif has 4 axes (TCYX) and no channel was chosen; it has 3 channels "
        "(DAPI, GFP, RFP). Try: --channel DAPI."
    )


RGB, RGBA = {"color": True}, {"color": True, "channel": "3"}
REFUSED = {
    "channels without names": ("CYX", {}, r"it has 3 channels\. Try: --channel 0"),
    "a name that fits two": (
        "CYX",
        {"channel": "dapi", "names": ("Dapi", "DAPI", "x")},
        r"no channel 'dapi'.*0 \(Dapi\)",
    ),
    "an unknown name": (
        "CYX",
        {"channel": "Cy5", "names": ("DAPI", "", "")},
        r"'Cy5'.*0 \(DAPI\), 1 \(1\)",
    ),
    "a second channel of one": ("YX", {"channel": "1"}, "one channel"),
    "a second channel of a stack of one": ("QYX", {"channel": "1"}, "one channel"),
    "colors": ("YXS", RGB, r"in color \(red, green, blue\).*--gray"),
    "opacity": ("YXS", RGBA, r"no channel '3'.*2 \(blue\)"),
    "samples that are no colors": ("YXS", {}, "4 channels"),
    "channels and colors": ("CYXS", RGB, "both channels and colors"),
}


@pytest.mark.parametrize(("axes", "options", "match"), REFUSED.values(), ids=REFUSED)
def test_what_needs_another_choice_is_refused_with_what_there_is(axes, options, match):
    lengths = {"C": 3, "Q": 3, "Y": 5, "X": 7, "S": 4}
    with pytest.raises(ImageReadError, match=match):
        plan(axes, tuple(lengths[a] for a in axes), **options)


@pytest.mark.parametrize("channel", ["1", "GFP", "gfp"])
def test_a_channel_is_found_by_number_and_by_name(channel):
    layout = plan("CYX", (3, 5, 7), channel, names=("DAPI", "GFP", "RFP"))
    assert layout.parts == ((1, 0),)
    assert layout.channel_names == ("GFP",)


def test_a_number_that_is_a_name_is_a_name_only_beyond_the_channels():
    layout = plan("CYX", (2, 5, 7), "488", names=("405", "488"))
    assert layout.parts == ((1, 0),)
    assert plan("CYX", (2, 5, 7), "1", names=("1", "2")).parts == ((1, 0),)


@pytest.mark.parametrize("channel", ["0", "dapi"])
def test_the_only_channel_may_be_named(channel):
    assert plan("YX", (5, 7), channel, names=("DAPI",)).channel_names == ("DAPI",)


@pytest.mark.parametrize(
    ("channel", "parts"), [("0", ((0, 0),)), ("GREEN", ((0, 1),)), ("2", ((0, 2),))]
)
def test_a_color_is_chosen_by_number_or_name(channel, parts):
    assert plan("YXS", (5, 7, 4), channel, color=True).parts == parts


def test_luminance_takes_three_of_four_samples():
    layout = plan("YXS", (5, 7, 4), gray=True, color=True)
    assert layout.gray
    assert layout.parts == ((0, 0), (0, 1), (0, 2))


def test_planar_colors_are_stored_planes():
    layout = plan("TSYX", (2, 3, 5, 7), gray=True, color=True)
    assert layout.parts == ((0, 0), (1, 0), (2, 0))
    assert layout.stored(1) == [3]


def test_gray_saved_as_color_is_gray():
    stack = Stack(PLATE, "YXS", (5, 7, 3), color=True)
    layout = lay_out(stack, PlaneChoice(), lambda: [np.eye(2)] * 3)
    assert (layout.gray, layout.file_channels) == (True, ("luminance",))
    assert layout.notes == ("a gray image that was saved as color, read as gray",)


def test_what_is_seen_of_colors_must_have_signal_to_be_gray():
    stack = Stack(PLATE, "YXS", (5, 7, 3), color=True)
    with pytest.raises(ImageReadError, match="no channel was chosen"):
        lay_out(stack, PlaneChoice(), lambda: [np.ones((2, 2))] * 3)


def test_gray_with_alpha_is_gray():
    assert plan("YXS", (5, 7, 2), alpha=True).parts == ((0, 0),)


def test_samples_that_are_no_colors_are_channels():
    assert plan("YXS", (5, 7, 2), "1").parts == ((0, 1),)


def test_gray_wanted_of_a_gray_image_changes_nothing():
    assert not plan("YX", (5, 7), gray=True).gray


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("HYX", (3, 5, 7)),
        ("RTYX", (3, 2, 5, 7)),
        ("QQQYX", (2, 2, 2, 5, 7)),
        ("TTYX", (2, 2, 5, 7)),
        ("YXC", (5, 7, 3)),
        ("XY", (7, 5)),
        ("YTX", (5, 2, 7)),
    ],
)
def test_unknown_axes_are_refused_with_what_was_found(axes, shape):
    with pytest.raises(ImageReadError, match=rf"plate3\.tif has \d axes \({axes}\)"):
        plan(axes, shape)


def test_luminance_weighs_by_bt601():
    # 0.299 * 100 + 0.587 * 10 + 0.114 * 1000 = 149.77
    parts = [np.full((1, 1), v, np.uint16) for v in (100, 10, 1000)]
    result = combine(parts, gray=True)
    assert result.dtype == np.float32
    assert result[0, 0] == pytest.approx(149.77, rel=1e-6)


NAMES = ("DAPI", "GFP", "Cy5, far")
SHAPE = (3, 40, 50)


def chosen(
    channel: str | None, names: tuple[str, ...] = NAMES, known: tuple[str, ...] = ()
) -> PlaneLayout:
    stack = Stack(Path("plate.tif"), "CYX", (len(names), 5, 7), channel_names=names)
    return lay_out(stack, PlaneChoice(channel, known=known))


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
    layout = chosen(wanted)
    assert layout.parts == ((1, 0), (0, 0))
    assert layout.channel_names == ("GFP", "DAPI")
    assert not layout.gray


def test_a_name_that_holds_a_comma_goes_first():
    assert chosen("Cy5, far").channel_names == ("Cy5, far",)
    assert chosen("DAPI,GFP", ("x", "DAPI,GFP")).channel_names == ("DAPI,GFP",)


def test_a_channel_called_luminance_is_one_of_several():
    layout = chosen("luminance", ("luminance", "DAPI"))
    assert (layout.gray, layout.notes) == (False, ())
    assert layout.file_channels == ("luminance", "DAPI")


def test_three_channels_are_no_luminance():
    layout = chosen("0,1,2")
    assert (layout.channels, layout.gray) == (3, False)


def test_channels_that_were_cut_out_are_found_by_what_they_were_asked_for_by():
    assert chosen("2,0", ("2", "0")).parts == ((0, 0), (1, 0))


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
        chosen(wanted)


def test_known_channels_are_taken_by_name_alone():
    assert chosen(None, known=("gfp", "DAPI")).channel_names == ("GFP", "DAPI")
    assert chosen("0", known=("GFP", "DAPI")).channel_names == ("DAPI",)
    for names, known, example in [
        (NAMES, ("DAPI", "RFP"), "DAPI,GFP"),
        (("", ""), ("0", "1"), "0,1"),
        (("0", "1"), ("0", "1"), "0,1"),
        (("GFP", "GFP", "DAPI"), ("DAPI", "GFP"), "0,1"),
        # As many as are looked for, but one of them twice and the other not at all.
        (("DAPI", "CD3", "CD8", "dapi"), ("DAPI", "membrane"), "DAPI,CD3"),
    ]:
        with pytest.raises(ImageReadError, match="no channel was chosen") as caught:
            chosen(None, names, known)
        assert f"--channel {example}." in caught.value.hint
        assert ",".join(known) in caught.value.hint
    with pytest.raises(ImageReadError, match="no channel was chosen") as caught:
        chosen(None, ("DAPI", "GFP"), ("DAPI", "GFP", "RFP"))
    assert "more than this image has" in caught.value.hint


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


def test_planes_stored_as_planar_color_are_what_pages_says(tmp_path, rng):
    stored = rng.integers(0, 200, (3, 30, 33)).astype(np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig="separate")
    with pytest.raises(ImageReadError, match="--pages channels, time or z"):
        open_image(path)
    with open_image(path, pages="z") as source:
        assert (source.plane_axes, source.plane_shape) == ("Z", (3,))
    with open_image(path, pages="channels", channel="1") as source:
        assert source.plane_shape == ()
        found = source.read(Region(0, 0, 30, 0, 33))[0]
        np.testing.assert_array_equal(found, stored[1])


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


def test_the_maximum_of_a_stack_is_that_of_its_finite_values(tmp_path):
    nan, inf = np.nan, np.inf
    stored = np.float32([[[1, nan, nan, inf, -inf]], [[nan, 2, nan, 3, inf]]])
    tifffile.imwrite(tmp_path / "z.ome.tif", stored, metadata={"axes": "ZYX"})
    with open_image(tmp_path / "z.ome.tif", z="max") as source:
        found = source.read(Region(0, 0, 1, 0, 5))
    np.testing.assert_array_equal(found, [[[1, 2, nan, 3, nan]]])


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
