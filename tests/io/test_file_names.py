"""What names and paths tell: channels, wells, fields, by makers' names and patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellunet.errors import ConfigError, ImageReadError
from cellunet.io.file_names import (
    PRESETS,
    PlatePattern,
    channel_file,
    marker_of,
    plate_of_zarr,
    recognized,
    refuse_several_channels,
    row_letters,
    sites_of,
    well_name,
    well_place,
)

GUID = "BEDC2073-A983-4B98-95E9-84466707A25D"


def read(pattern: str, path: str):
    return PlatePattern(pattern).read(Path(path))


def known(pattern: str, path: str) -> dict[str, str]:
    return {k: v for k, v in read(pattern, path).columns.items() if v}


@pytest.mark.parametrize(
    ("maker", "path", "columns", "channel"),
    [
        (
            "imagexpress",
            f"/d/Week4_27481/G10_s1_w1{GUID}.tif",
            {"plate": "Week4_27481", "well": "G10", "field": "1"},
            "w1",
        ),
        (
            "imagexpress",
            "/d/any/HTS_A01_s12_w4194CE2FF-40C4-45F0-B9D7-AE81D0047EEA.tif",
            {"plate": "HTS", "well": "A01", "field": "12"},
            "w4",
        ),
        (
            "imagexpress",
            "/d/P1/TimePoint_3/ZStep_2/P1_AF48_s1_w1.TIF",
            {"plate": "P1", "well": "AF48", "field": "1", "time": "3", "plane": "2"},
            "w1",
        ),
        (
            "imagexpress",
            "/d/P1/TimePoint_3/A01_s1_w2.tif",
            {"plate": "P1", "well": "A01", "field": "1", "time": "3"},
            "w2",
        ),
        (
            "imagexpress",
            f"/d/my_plate_A01_s1_w1_thumb{GUID}.tif",
            {"plate": "my_plate", "well": "A01", "field": "1"},
            "w1",
        ),
        ("imagexpress", "/d/P1_B03.TIF", {"plate": "P1", "well": "B03"}, None),
        (
            "operetta",
            "/d/BR1__2020-11-08/Images/r01c02f03p04-ch1sk5fk1fl1.tiff",
            {
                "plate": "BR1__2020-11-08",
                "well": "A02",
                "field": "3",
                "time": "5",
                "plane": "4",
            },
            "ch1",
        ),
        # Rows beyond Z are those of plates of 1,536 wells.
        (
            "operetta",
            "/d/p/r27c48f100p01-ch2sk1fk1fl1.tiff",
            {"plate": "p", "well": "AA48", "field": "100", "time": "1", "plane": "1"},
            "ch2",
        ),
        (
            "micro-manager",
            "/d/run_1/A1-Site_0/img_channel001_position008_time000000002_z000.tif",
            {"plate": "run_1", "well": "A01", "field": "0", "time": "2", "plane": "0"},
            "channel001",
        ),
        (
            "Micro-Manager",
            "/d/run_1/H12-Site_3/img_000000004_DAPI_003.tif",
            {"plate": "run_1", "well": "H12", "field": "3", "time": "4", "plane": "3"},
            "DAPI",
        ),
        (
            "micro-manager",
            "/d/run_1/run_1_MMStack_A1-Site_0.ome.tif",
            {"plate": "run_1", "well": "A01", "field": "0"},
            None,
        ),
        (
            "cellvoyager",
            "/d/Plate_#78_B04_T0001F002L01A02Z03C02.tif",
            {
                "plate": "Plate_#78",
                "well": "B04",
                "field": "2",
                "time": "1",
                "plane": "3",
            },
            "C02",
        ),
        (
            "incell",
            "/d/pl/A - 01(fld 1 wv Green - dsRed z 3).tif",
            {"plate": "pl", "well": "A01", "field": "1", "plane": "3"},
            "Green",
        ),
    ],
)
def test_names_of_makers_tell_plate_well_field_and_channel(
    maker, path, columns, channel
) -> None:
    found = read(maker, path)
    assert {k: v for k, v in found.columns.items() if v} == columns
    assert (found.channel.mark if found.channel else None) == channel
    assert list(found.columns)[:3] == ["plate", "well", "field"]


def test_a_pattern_without_a_slash_sees_the_name_alone() -> None:
    pattern = r"(?P<well>[A-P]\d\d)_(?P<donor>d\d)"
    assert known(pattern, "/B07_d9/x/A02_d3.tif") == {"well": "A02", "donor": "d3"}
    assert read(pattern, "/B07_d9/x/other.tif") is None


def test_a_pattern_with_a_slash_sees_folders_and_ends_in_the_name() -> None:
    pattern = r"(?P<plate>[^/]+)/(?P<well>[A-P]\d+)_s(?P<field>\d+)"
    path = "/data/A01_s1 old/b3_s2/C2_s03_w1.tif"
    assert known(pattern, path) == {"plate": "b3_s2", "well": "C02", "field": "3"}


def test_rows_may_be_numbers_or_letters() -> None:
    pattern = r"(?P<row>\w+?)-(?P<column>\d+)\."
    assert known(pattern, "32-7.tif") == {"well": "AF07"}
    assert known(pattern, "b-012.tif") == {"well": "B12"}


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("imagexpres", "imagexpress, operetta, micro-manager"),
        ("(?P<wel>A1)", "its groups: wel"),
        ("(?P<row>A).", r"no group named well"),
        ("(?P<well>[A-", "unterminated character set at character 10"),
        (r"\d+", "its groups: none"),
    ],
)
def test_a_pattern_that_is_none_is_refused_in_words(pattern, said) -> None:
    with pytest.raises(ConfigError) as told:
        PlatePattern(pattern)
    assert said in str(told.value)
    assert told.value.hint


def test_what_is_no_well_is_refused_with_the_file() -> None:
    with pytest.raises(ConfigError, match=r"takes 'A99' for the well of .*A99\.tif"):
        read(r"(?P<well>A\d+)", "x/A99.tif")


def test_wells_have_one_name() -> None:
    assert [well_name(t) for t in ("a1", "A01", "A001", "A - 1", "af48")] == [
        *["A01"] * 4,
        "AF48",
    ]
    assert [well_name(t) for t in ("A0", "A49", "AG1", "AA", "12", "")] == [""] * 6
    assert well_place("P24") == (15, 23)
    assert [row_letters(n) for n in (0, 25, 26, 31)] == ["A", "Z", "AA", "AF"]


def test_a_field_of_an_ome_zarr_plate_tells_its_well() -> None:
    path = Path("in/plate 7.ome.zarr")
    assert plate_of_zarr(path, "B/2/0") == {
        "plate": "plate 7",
        "well": "B02",
        "field": "0",
    }
    assert plate_of_zarr(path, None) == plate_of_zarr(path, "0") == {}


def sites(pattern: str, names: list[str], channel: str):
    mark = marker_of(PlatePattern(pattern))
    found = sites_of([Path(n) for n in names], channel, lambda path: ("0",), mark)
    return {
        p.as_posix(): [(f.path.as_posix(), f.mark, f.name) for f in site.others]
        for p, site in found.sites.items()
    }


def test_channels_of_one_field_are_found_by_the_pattern() -> None:
    other = GUID.replace("A", "0")
    names = [f"p/A01_s1_w1{GUID}.tif", f"p/A01_s1_w2GFP{other}.tif", "p/A02_s1_w1.tif"]
    assert sites("imagexpress", names, "w1") == {
        names[0]: [(names[1], "w2", "GFP")],
        names[2]: [],
    }
    # The action differs between channels of CellVoyager, too.
    names = [f"p/P_B04_T0001F001L01A0{k}Z01C0{k}.tif" for k in (1, 2)]
    assert sites("cellvoyager", names, "C02") == {names[1]: [(names[0], "C01", "")]}
    names = [f"{c}/A0{k}.tif" for c in ("DAPI", "GFP") for k in (1, 2)]
    assert sites(r"(?P<channel>\w+)/(?P<well>A\d+)", names, "dapi") == {
        names[k]: [(names[k + 2], "GFP", "")] for k in (0, 1)
    }


def test_files_that_no_pattern_fits_keep_their_own_marks() -> None:
    names = ["p/A01_s1_w1.tif", "p/A01_s1_w2.tif"]
    expected = {names[0]: [(names[1], "w2", "")]}
    assert sites(r"(?P<well>B\d+)_(?P<channel>w\d)", names, "w1") == expected
    assert sites(r"(?P<well>A\d+)", names, "w1") == expected


def test_several_channels_are_not_counted_as_so_many_images() -> None:
    pattern = PlatePattern("operetta")
    names = [Path(f"p/r01c01f01p01-ch{k}sk1fk1fl1.tiff") for k in (1, 2)]
    refuse_several_channels(pattern, names[:1])
    with pytest.raises(ConfigError, match=r"of 2 channels \(ch1, ch2\)") as told:
        refuse_several_channels(pattern, names)
    assert "--segment-channel ch1" in told.value.hint


def test_a_maker_is_recognized_by_all_names_of_several_wells() -> None:
    names = {
        "imagexpress": "p/x_{}01_s1_w1.TIF",
        "operetta": "p/r{}c01f01p01-ch1sk1fk1fl1.tiff",
        "micro-manager": "p/{}1-Site_0/img_channel000_time000000000.tif",
        "cellvoyager": "p/p_{}01_T0001F001L01A01Z01C01.tif",
        "incell": "p/{} - 1(fld 1 wv DAPI - DAPI).tif",
    }
    assert list(names) == list(PRESETS)
    for maker, name in names.items():
        rows = ("1", "2") if maker == "operetta" else ("A", "B")
        files = [Path(name.format(row)) for row in rows]
        assert recognized(files) == maker
        assert recognized(files[:1] * 2) == ""
        assert recognized([*files, Path("p/other.tif")]) == ""
    # A well alone is in many names.
    assert recognized([Path("p/x_A01.tif"), Path("p/x_B01.tif")]) == ""


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


def test_each_folder_says_which_mark_is_a_channel() -> None:
    inside = {
        "p1/x_w1.tif": ("DAPI",),
        "p1/x_w2.tif": ("GFP",),
        "p2/x_w1.tif": ("GFP",),
        "p2/x_w2.tif": ("DAPI",),
    }
    assert chosen(list(inside), "DAPI", lambda p: inside[p.as_posix()])[0] == {
        "p1/x_w1.tif": [("p1/x_w2.tif", "w2")],
        "p2/x_w2.tif": [("p2/x_w1.tif", "w1")],
    }


def test_a_channel_is_found_though_a_file_of_the_first_site_is_damaged_or_lost() -> (
    None
):
    inside = {"w1": ("DAPI",), "w2": ("GFP",)}

    def names_in(path):
        if path.name == "b_w1.tif":
            raise ImageReadError("damaged")
        return inside[path.stem[-2:]]

    names = ["a_w2.tif", "b_w1.tif", "b_w2.tif", "c_w1.tif", "c_w2.tif"]
    assert chosen(names, "DAPI", names_in) == (
        {"b_w1.tif": [("b_w2.tif", "w2")], "c_w1.tif": [("c_w2.tif", "w2")]},
        ["a_w2.tif"],
    )


def test_a_word_is_the_mark_where_names_differ_in_it_alone() -> None:
    names = ["DAPI-GFP_001_DAPI.tif", "DAPI-GFP_001_GFP.tif"]
    alone = ["DAPI-GFP_002_DAPI.tif", "DAPI-GFP_003_GFP.tif", "c_001_GFP.tif"]
    assert chosen([*names, *alone], "DAPI") == (
        {names[0]: [(names[1], "GFP")], alone[0]: []},
        alone[1:],
    )
    # The place in front differs, too: two sets of stains.
    further = [name.replace("DAPI-", "Cy5-") for name in names]
    assert chosen([*names, *further], "DAPI")[0] == {
        names[0]: [(names[1], "GFP")],
        further[0]: [(further[1], "GFP")],
    }
    assert chosen(["a_DAPI.tif", "b_GFP.tif"], "DAPI") == (
        {"a_DAPI.tif": []},
        ["b_GFP.tif"],
    )


def test_a_folder_whose_second_channel_is_lost_has_its_word_where_others_have_it() -> (
    None
):
    pair = ["s1/DAPI.tif", "s1/GFP.tif"]
    assert chosen([*pair, "s2/DAPI.tif"], "DAPI") == (
        {pair[0]: [(pair[1], "GFP")], "s2/DAPI.tif": []},
        [],
    )
    pair = ["p1/a_DAPI.tif", "p1/a_GFP.tif"]
    alone = ["p2/a_DAPI.tif", "p2/b_DAPI.tif"]
    assert chosen([*pair, *alone], "DAPI")[0].keys() == {pair[0], *alone}


def test_channels_in_folders_of_their_own_are_told_apart_by_the_word() -> None:
    assert chosen(["dapi/a_DAPI.tif", "gfp/a_GFP.tif"], "DAPI") == (
        {"dapi/a_DAPI.tif": []},
        ["gfp/a_GFP.tif"],
    )


def test_a_word_that_all_names_have_is_no_channel() -> None:
    with pytest.raises(ConfigError, match="all images have the word 'DAPI'"):
        chosen(["DAPI_001_a.tif", "DAPI_001_b.tif"], "DAPI")


def test_a_channel_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="of w1, w2") as told:
        chosen(["a_w1.tif", "a_w2.tif"], "w3")
    assert "--channel" in str(told.value)


def test_two_files_of_one_channel_and_site_are_refused() -> None:
    with pytest.raises(ConfigError, match="both of channel"):
        chosen([f"a_w1{GUID}.tif", "a_w1.tif"], "w1")
