"""Sheets of samples: read as spreadsheets write them, and refused in words."""

from __future__ import annotations

import math

import pytest

from cellunet.errors import InputError
from cellunet.io.samples import read_samples


@pytest.fixture
def sheet(tmp_path):
    def read(content: str | bytes, encoding: str = "utf-8"):
        path = tmp_path / "s.csv"
        whole = content if isinstance(content, bytes) else content.encode(encoding)
        path.write_bytes(whole)
        return read_samples(path)

    return read


def test_wells_are_the_key_and_all_else_is_known_of_them(sheet) -> None:
    found = sheet("Well,treatment,dose\na1,DMSO,0\nB012,drug,1.5\n\n,,\n")
    assert found.columns == ("treatment", "dose")
    assert [(r.line, r.well, r.file, dict(r.values)) for r in found.rows] == [
        (2, "A01", "", {"treatment": "DMSO", "dose": 0.0}),
        (3, "B12", "", {"treatment": "drug", "dose": 1.5}),
    ]
    assert not found.by_plate


def test_files_come_before_wells_as_the_key(sheet) -> None:
    found = sheet("file_name,well\na.tif,A1\n".replace("file_name", "File"))
    (row,) = found.rows
    assert (row.file, row.well, row.values) == ("a.tif", "", {"well": "A1"})


def test_a_plate_may_be_part_of_the_key(sheet) -> None:
    found = sheet("plate,well,drug\n1,A1,x\n2,A1,y\n")
    assert [(r.plate, r.well, r.values["drug"]) for r in found.rows] == [
        ("1", "A01", "x"),
        ("2", "A01", "y"),
    ]
    assert found.by_plate


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_excel_writes_is_read(sheet, separator, encoding, end) -> None:
    lines = [("well", "treatment", "dose"), ("A1", "2 µM Ä", "1"), ("A2", "-", "")]
    found = sheet("".join(separator.join(n) + end for n in lines), encoding)
    one, two = (row.values for row in found.rows)
    assert one == {"treatment": "2 µM Ä", "dose": 1.0}
    assert two["treatment"] == "-"
    assert math.isnan(two["dose"])


@pytest.mark.parametrize("separator", [";", "\t"])
def test_numbers_may_have_decimal_commas_where_no_comma_divides_cells(
    sheet, separator
) -> None:
    lines = ("well;dose;pair;mixed;field", "A1;0,5;1,2 and 3;0,5;1,5",
             "A2;-10;1,4;1.5;2,5", "A3;;2,4;1;1", "A4;-1,5E-3;1,4;;1")  # fmt: skip
    found = sheet("\n".join(lines).replace(";", separator))
    assert found.rows[0].values["dose"] == 0.5
    assert found.rows[1].values["dose"] == -10
    assert math.isnan(found.rows[2].values["dose"])
    assert found.rows[3].values["dose"] == -0.0015
    texts = [found.rows[0].values[name] for name in ("pair", "mixed", "field")]
    assert texts == ["1,2 and 3", "0,5", "1,5"]
    assert sheet('well,dose\nA1,"0,5"\n').rows[0].values["dose"] == "0,5"


@pytest.mark.parametrize(("separator", "dose"), [(";", 1.0), ("\t", "1,000")])
def test_what_may_be_thousands_is_no_decimal_comma_between_tabs(
    sheet, separator, dose
) -> None:
    lines = "well;dose;part\nA1;1,000;1,000\nA2;500;0,500\n"
    found = sheet(lines.replace(";", separator)).rows[0].values
    assert (found["dose"], found["part"]) == (dose, 1.0)


def test_names_that_look_like_numbers_stay_as_they_are(sheet) -> None:
    found = sheet("well,batch,dose,mixed,empty\nA1,007,1e-3,1,\nA2,012,-2,x,\n")
    one, two = (row.values for row in found.rows)
    assert (one["batch"], one["dose"], one["mixed"]) == ("007", 0.001, "1")
    assert (two["batch"], two["dose"], two["mixed"]) == ("012", -2.0, "x")
    assert found.missing["empty"] == ""
    assert math.isnan(found.missing["dose"])


def test_columns_without_name_and_cells_are_those_of_a_spreadsheet(sheet) -> None:
    assert sheet("well,a,,\nA1,x,,\nA2,y\n").columns == ("a",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "s.csv is empty"),
        ("well,a\n", "has a header and no row"),
        ("well\nA1\n", "no column beside well"),
        ("wells,a\nA1,x\n", "no column file or well; its columns are wells, a"),
        ("well,a\nA1,x\na01,y\n", "lines 2 and 3 are both of well A01"),
        ("file,a\nx.tif,1\nx.tif,1\n", "lines 2 and 3 are both of x.tif"),
        ("plate,well,a\nä,A1,x\na\u0308,A1,y\n", "lines 2 and 3 are both of well A01"),
        ("well,a\nX99,x\n", "line 2: 'X99' is no well"),
        ("well,a\n,x\n", "line 2 names no well"),
        ("well,a\nA1,x,y\n", "line 2 has 3 cells, but the header 2"),
        ("well,a,A\nA1,x,y\n", "column 'A' is there twice"),
        ("well,,a\nA1,x,y\n", "column 2 has no name"),
        ("well,=a\nA1,x\n", "would compute the name '=a'"),
        ("well,a\nA1,=1+1\n", "line 2: a spreadsheet would compute a '=1+1'"),
        ("well,a\nA1,+cmd|' /C calc'!A0\n", "line 2: a spreadsheet would compute"),
        (b"well,a\nA1,2 \xb5M\n", "line 2: a character is not in UTF-8"),
        (b"PK\x03\x04\x14\x00", "is a workbook, and no CSV file"),
        ('well,a\nA1,"x\n', "line 2: unexpected end of data"),
    ],
)
def test_a_sheet_that_is_none_is_refused_with_its_line(sheet, content, said) -> None:
    with pytest.raises(InputError) as told:
        sheet(content)
    assert said in told.value.message
    assert told.value.hint


def test_a_sheet_that_is_not_there_is_told(tmp_path) -> None:
    with pytest.raises(InputError, match=r"no\.csv cannot be read"):
        read_samples(tmp_path / "no.csv")


@pytest.mark.parametrize(
    "cell", ["-2+3", "+A1*5", "+B12", "=1", "@x", "-1e5*2", "+(1)"]
)
def test_cells_that_a_spreadsheet_computes_are_refused(sheet, cell) -> None:
    with pytest.raises(InputError, match="line 2: a spreadsheet would compute dose"):
        sheet(f"well,dose\nA1,{cell}\n")


@pytest.mark.parametrize(
    "cell",
    ["+/-", "-/-", "+", "-", "-5", "-1.5e-3", "+drug", "+ drug", "-5 mM", "-10%"],
)
def test_signs_that_compute_nothing_are_kept(sheet, cell) -> None:
    (row,) = sheet(f"well,dose\nA1,{cell}\n").rows
    assert row.values["dose"] in (cell, float(cell) if cell[-1].isdigit() else cell)


def test_control_characters_are_refused(sheet) -> None:
    with pytest.raises(InputError, match="line 2: a control character is in dose"):
        sheet("well,dose\nA1,a\0b\n")


def test_numbers_that_tables_would_change_are_names(sheet) -> None:
    names = ("12345678901234567890", "9007199254740993", "1e999", "1234567891")
    for name in names:
        (row, _) = sheet(f"well,code\nA1,{name}\nA2,5\n").rows
        assert row.values["code"] == name
    (row,) = sheet("well,code\nA1,123456789\n").rows
    assert row.values["code"] == 123456789.0


def test_where_an_image_lies_is_named_in_any_case(sheet) -> None:
    found = sheet("file,Well,PLATE,Drug\na.tif,A01,p1,x\n")
    assert found.columns == ("well", "plate", "Drug")
