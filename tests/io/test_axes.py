"""Which planes of a stack are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cellunet.errors import ImageReadError
from cellunet.io.axes import PlaneLayout, Stack, combine, lay_out
from cellunet.io.source import Choice, ZMode

PLATE = Path("plate3.tif")


def plan(
    axes: str,
    shape: tuple[int, ...],
    channel: str | None = None,
    *,
    gray: bool = False,
    z: ZMode = "keep",
    colour: bool = False,
    alpha: bool = False,
    names: tuple[str, ...] = (),
) -> PlaneLayout:
    stack = Stack(PLATE, axes, shape, colour=colour, alpha=alpha, channel_names=names)
    return lay_out(stack, Choice(channel, gray, z))


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
        "(DAPI, GFP, RFP). Try: --channel 0."
    )


def test_channels_without_names_are_counted():
    with pytest.raises(ImageReadError, match=r"it has 3 channels\. Try: --channel 0"):
        plan("CYX", (3, 5, 7))


@pytest.mark.parametrize("channel", ["1", "GFP", "gfp"])
def test_a_channel_is_found_by_number_and_by_name(channel):
    layout = plan("CYX", (3, 5, 7), channel, names=("DAPI", "GFP", "RFP"))
    assert layout.parts == ((1, 0),)
    assert layout.channel_name == "GFP"


def test_a_number_that_is_a_name_is_a_name_only_beyond_the_channels():
    layout = plan("CYX", (2, 5, 7), "488", names=("405", "488"))
    assert layout.parts == ((1, 0),)
    assert plan("CYX", (2, 5, 7), "1", names=("1", "2")).parts == ((1, 0),)


def test_a_name_that_fits_two_channels_is_refused():
    with pytest.raises(ImageReadError, match=r"no channel 'dapi'.*0 \(Dapi\)"):
        plan("CYX", (2, 5, 7), "dapi", names=("Dapi", "DAPI"))


def test_an_unknown_channel_is_refused_with_the_known_ones():
    with pytest.raises(ImageReadError, match=r"'Cy5'.*0 \(DAPI\), 1 \(1\)"):
        plan("CYX", (2, 5, 7), "Cy5", names=("DAPI", ""))


@pytest.mark.parametrize("channel", ["0", "dapi"])
def test_the_only_channel_may_be_named(channel):
    assert plan("YX", (5, 7), channel, names=("DAPI",)).channel_name == "DAPI"


@pytest.mark.parametrize("axes", ["YX", "QYX"])
def test_a_second_channel_of_one_is_refused(axes):
    with pytest.raises(ImageReadError, match="one channel"):
        plan(axes, (3, 5, 7)[-len(axes) :], "1")


@pytest.mark.parametrize(
    ("channel", "parts"), [("0", ((0, 0),)), ("GREEN", ((0, 1),)), ("2", ((0, 2),))]
)
def test_a_colour_is_chosen_by_number_or_name(channel, parts):
    assert plan("YXS", (5, 7, 4), channel, colour=True).parts == parts


def test_luminance_takes_three_of_four_samples():
    layout = plan("YXS", (5, 7, 4), gray=True, colour=True)
    assert layout.gray
    assert layout.parts == ((0, 0), (0, 1), (0, 2))


def test_planar_colours_are_stored_planes():
    layout = plan("TSYX", (2, 3, 5, 7), gray=True, colour=True)
    assert layout.parts == ((0, 0), (1, 0), (2, 0))
    assert layout.stored(1) == [3]


def test_alpha_fourth_colour_is_no_channel():
    with pytest.raises(ImageReadError, match=r"no channel '3'.*2 \(blue\)"):
        plan("YXS", (5, 7, 4), "3", colour=True)


def test_colour_needs_a_choice():
    with pytest.raises(ImageReadError, match=r"in colour \(red, green, blue\).*--gray"):
        plan("YXS", (5, 7, 3), colour=True)


def test_gray_saved_as_colour_is_still_refused_but_recognised():
    stack = Stack(PLATE, "YXS", (5, 7, 3), colour=True)
    with pytest.raises(ImageReadError, match=r"saved as RGB\. Try: --gray\."):
        lay_out(stack, Choice(), lambda: [np.ones((2, 2))] * 3)


def test_gray_with_alpha_is_gray():
    assert plan("YXS", (5, 7, 2), alpha=True).parts == ((0, 0),)


def test_samples_that_are_no_colours_are_channels():
    with pytest.raises(ImageReadError, match="2 channels"):
        plan("YXS", (5, 7, 2))
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


def test_channels_and_colours_at_once_are_refused():
    with pytest.raises(ImageReadError, match="both channels and colours"):
        plan("CYXS", (2, 5, 7, 3), "0", colour=True)


def test_luminance_weighs_by_bt601():
    # 0.299 * 100 + 0.587 * 10 + 0.114 * 1000 = 149.77
    parts = [np.full((1, 1), v, np.uint16) for v in (100, 10, 1000)]
    result = combine(parts, gray=True)
    assert result.dtype == np.float32
    assert result[0, 0] == pytest.approx(149.77, rel=1e-6)
