"""One file per channel: what names say of the site and of the channel."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellunet.errors import ConfigError
from cellunet.io.channel_files import channel_file, sites_of

GUID = "0A1B2C3D-0011-2233-4455-66778899AABB"


@pytest.mark.parametrize(
    ("name", "mark", "site"),
    [
        ("A01_s1_w2.tif", "w2", ("A01_s1_", "")),
        (f"p_A01_s1_w1{GUID}.TIF", "w1", ("p_A01_s1_", "")),
        ("exp_w1DAPI_s2_t1.TIF", "w1", ("exp_", "_s2_t1")),
        ("r01c02f03p01-ch2sk1fk1fl1.tiff", "ch2", ("r01c02f03p01-", "sk1fk1fl1")),
        ("img_ch00.tif", "ch00", ("img_", "")),
        ("a_c1.ome.tif", "c1", ("a_", "")),
        ("C2-a.tif", "C2", ("", "-a")),
        ("X_T0001F001L01A01Z01C02.tif", "C02", ("X_T0001F001L01A01Z01", "")),
        ("MFGTMP_A01f00d1.TIF", "d1", ("MFGTMP_A01f00", "")),
        ("A - 1(fld 1 wv DAPI).tif", "DAPI", ("A - 1(fld 1 wv ", ")")),
    ],
)
def test_names_of_makers_tell_channel_and_site(name, mark, site) -> None:
    found = channel_file(Path("in") / name)
    assert found is not None
    assert (found.mark, found.site) == (mark, (Path("in"), *site))


@pytest.mark.parametrize(
    "name", ["plate_C02.tif", "week1.tif", "img_003.tif", "t1.tif", "r01c02f03.tif"]
)
def test_wells_and_numbers_are_no_channels(name) -> None:
    assert channel_file(Path(name)) is None


def chosen(names, channel, inside=lambda path: ("0",)):
    found = sites_of([Path(n) for n in names], channel, inside)
    return {
        str(p): [(str(f.path), f.mark) for f in site.others]
        for p, site in found.sites.items()
    }, [str(p) for p in found.lost]


def test_one_channel_is_segmented_and_the_others_belong_to_it() -> None:
    names = ["A_w1.tif", "A_w2.tif", "A_w3.tif", "B_w1.tif", "B_w2.tif", "C_w2.tif"]
    sites, lost = chosen(names, "W1")
    assert sites == {
        "A_w1.tif": [("A_w2.tif", "w2"), ("A_w3.tif", "w3")],
        "B_w1.tif": [("B_w2.tif", "w2")],
    }
    assert lost == ["C_w2.tif"]


def test_a_channel_is_found_by_name_in_the_file_or_in_its_name() -> None:
    assert chosen(["a_w1DAPI.tif", "a_w2GFP.tif"], "GFP")[0] == {
        "a_w2GFP.tif": [("a_w1DAPI.tif", "w1")]
    }
    inside = {"a-ch1.tif": ("Hoechst",), "a-ch2.tif": ("Alexa",)}
    assert chosen(list(inside), "hoechst", lambda p: inside[str(p)])[0] == {
        "a-ch1.tif": [("a-ch2.tif", "ch2")]
    }
    assert chosen(["x_DAPI_1.tif", "x_GFP_1.tif", "x_GFP_2.tif"], "DAPI") == (
        {"x_DAPI_1.tif": [("x_GFP_1.tif", "GFP")]},
        ["x_GFP_2.tif"],
    )


def test_a_channel_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="of w1, w2") as told:
        chosen(["a_w1.tif", "a_w2.tif"], "w3")
    assert "--channel" in str(told.value)


def test_two_files_of_one_channel_and_site_are_refused() -> None:
    with pytest.raises(ConfigError, match="both of channel"):
        chosen([f"a_w1{GUID}.tif", "a_w1.tif"], "w1")
