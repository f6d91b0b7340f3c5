"""Tables: what stands in a cell, what no spreadsheet computes, and one of many."""

from __future__ import annotations

import csv
import tracemalloc

import numpy as np
import pyarrow.parquet
import pytest

from cellunet import errors as optional_module
from cellunet.errors import ConfigError, OutputError
from cellunet.imaging.measure import column_names, measure_labels
from cellunet.outputs.tables import (
    FORMULA,
    FROM,
    PLACES,
    TABLES,
    is_ours,
    join,
    mean_intensities,
    refresh,
    safe_path,
)

NAMES = ["a.tif", "=1+1.tif", "+a.tif", "-a.tif", "@a.tif", '"x",\n;=1.tif', "ä😀.tif"]


def write(path, image="a.tif", *, channels=("",), place=None) -> dict:
    labels = np.array([[1, 1, 0], [0, 0, 2]])
    images = [np.array([[1, 2, 9], [9, 9, 0.125]]) for _ in channels]
    table = measure_labels(labels, images, channels=channels)
    ids = table.pop("id")
    sink = TABLES[path.suffix[1:]](path, column_names(channels))
    sink.add(image, place or {}, ids, table)
    assert not path.exists()
    sink.commit()
    return table


def rows(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def test_a_csv_holds_numbers_short_and_nothing_for_what_is_not_known(tmp_path) -> None:
    write(tmp_path / "t.csv", place={"z": 3})
    first, second = rows(tmp_path / "t.csv")
    assert list(first) == [*PLACES, *column_names()]
    assert (first["image"], first["t"], first["z"], first["id"]) == (
        "a.tif",
        "",
        "3",
        "1",
    )
    assert (first["area_px"], first["x_px"], first["area_um2"]) == ("2", "1", "")
    assert (first["intensity_mean"], second["intensity_mean"]) == ("1.5", "0.125")
    assert float(first["major_axis_px"]) == 2
    text = (tmp_path / "t.csv").read_text(encoding="utf-8")
    assert text.splitlines()[1].startswith('"a.tif",,3,1,2,1,')
    assert "\r" not in text


@pytest.mark.usefixtures("windows_lines")
def test_lines_end_alike_on_all_systems(tmp_path) -> None:
    parts = [tmp_path / "a.csv", tmp_path / "b.csv"]
    write(parts[0])
    write(parts[1], channels=("a", "b"))
    refresh(parts[0], {"well": "B2"})
    for paths in (parts[:1], parts):
        join(paths, tmp_path / "all.csv")
        written = [path.read_bytes() for path in (*parts, tmp_path / "all.csv")]
        assert [text.count(b"\r") for text in written] == [0, 0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_becomes_a_formula_and_each_is_read_back(name, tmp_path) -> None:
    write(tmp_path / "t.csv", name)
    (cell, _) = (row["image"] for row in rows(tmp_path / "t.csv"))
    assert cell.removeprefix("./") == name
    assert not cell.startswith(FORMULA)
    write(tmp_path / "t.parquet", name)
    read = pyarrow.parquet.read_table(tmp_path / "t.parquet")
    assert read["image"].to_pylist() == [name, name]


def test_a_name_that_is_not_unicode_stops_no_table(tmp_path) -> None:
    write(tmp_path / "t.csv", "\udcff.tif")
    assert rows(tmp_path / "t.csv")[0]["image"] == "\\udcff.tif"
    with pytest.raises(OutputError, match=r"not UTF-8.*--table-format csv"):
        TABLES["parquet"](tmp_path / "\udcff_table.parquet", column_names())
    path = tmp_path / "t.parquet"
    sink = TABLES["parquet"](path, [FROM, "plate"], ["plate"])
    columns = {FROM: np.array([""]), "plate": np.array(["\udcff"])}
    sink.add("a.tif", {}, np.array([1]), columns)
    sink.commit()
    refresh(path, {"plate": "\udcff"})
    assert pyarrow.parquet.read_table(path)["plate"].to_pylist() == ["\\udcff"]


def test_headers_of_joined_tables_are_held_once(tmp_path) -> None:
    channels = [f"channel {n}" for n in range(40)]
    write(tmp_path / "a.csv", channels=channels)
    write(tmp_path / "b.csv", channels=channels[:1])
    tracemalloc.start()
    held = []
    for count in (10, 210):
        parts = [tmp_path / "a.csv", tmp_path / "b.csv"] * count
        tracemalloc.reset_peak()
        join(parts, tmp_path / "joined.csv")
        held.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert held[1] - held[0] < 400 * 500


def test_only_names_that_need_it_are_changed() -> None:
    assert safe_path("a=b.tif") == "a=b.tif"
    assert safe_path("＝a.tif") == "./＝a.tif"  # noqa: RUF001


def test_parquet_holds_the_same(tmp_path) -> None:
    table = write(tmp_path / "t.parquet", place={"t": 1, "z": 2})
    read = pyarrow.parquet.read_table(tmp_path / "t.parquet")
    assert read.column_names == [*PLACES, *column_names()]
    assert read["t"].to_pylist() == [1, 1]
    assert read["area_um2"].null_count == 2
    for name in ("area_px", "solidity", "intensity_sum"):
        assert read[name].to_pylist() == table[name].tolist()
    types = {read.schema.field(n).type for n in ("id", "area_px", "touches_border")}
    assert types == {pyarrow.int64()}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_are_joined_row_by_row(kind, tmp_path) -> None:
    parts = [tmp_path / f"{n}.{kind}" for n in "ab"]
    write(parts[0], "=a.tif")
    write(parts[1], "b.tif", channels=("DAPI", "GFP"))
    join(parts, tmp_path / f"all.{kind}")
    if kind == "csv":
        found = rows(tmp_path / "all.csv")
        # Quoted text and bare numbers, as in its parts.
        text = (tmp_path / "all.csv").read_text(encoding="utf-8")
        assert text.splitlines()[1].startswith('"./=a.tif",,,1,2,1,')
    else:
        found = pyarrow.parquet.read_table(tmp_path / "all.parquet").to_pylist()
        found = [{k: "" if v is None else v for k, v in row.items()} for row in found]
    assert [row["image"].lstrip("./=") for row in found] == ["a.tif"] * 2 + [
        "b.tif"
    ] * 2
    assert {row["intensity_mean_GFP"] for row in found[:2]} == {""}
    assert {row["intensity_mean"] for row in found[2:]} == {""}
    assert [float(row["area_px"]) for row in found] == [2, 1, 2, 1]


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_told_from_other_files(kind, tmp_path) -> None:
    write(tmp_path / f"t.{kind}")
    assert is_ours(tmp_path / f"t.{kind}")
    other = tmp_path / f"other.{kind}"
    for content in (b"", b"name,value\n1,2\n", b"\xff\xfe\0"):
        other.write_bytes(content)
        assert not is_ours(other)


@pytest.mark.parametrize("kind", TABLES)
def test_a_part_that_cannot_be_read_is_named_and_nothing_is_left(
    kind, tmp_path
) -> None:
    part = tmp_path / f"t.{kind}"
    part.write_bytes(b'"image\xff')
    with pytest.raises(OutputError, match=f"t.{kind} cannot be joined") as caught:
        join([part], tmp_path / f"all.{kind}")
    assert "Delete it" in caught.value.hint
    assert list(tmp_path.iterdir()) == [part]


@pytest.mark.parametrize("kind", TABLES)
def test_an_aborted_table_leaves_nothing(kind, tmp_path) -> None:
    sink = TABLES[kind](tmp_path / f"t.{kind}", column_names())
    sink.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_of_no_object_has_its_columns(kind, tmp_path) -> None:
    path = tmp_path / f"t.{kind}"
    table = measure_labels(np.zeros((2, 2), int))
    sink = TABLES[kind](path, column_names())
    sink.add("a", {}, table.pop("id"), table)
    sink.commit()
    join([path], tmp_path / f"all.{kind}")
    assert is_ours(tmp_path / f"all.{kind}")


def test_a_missing_column_is_a_bug(tmp_path) -> None:
    sink = TABLES["csv"](tmp_path / "t.csv", ["area_px", "other"])
    with pytest.raises(ValueError, match="expected"):
        sink.add("a", {}, np.array([1]), {"area_px": np.array([1])})
    sink.abort()


def test_without_the_library_the_line_that_installs_it_is_told(
    tmp_path, monkeypatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(optional_module.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match="needs the package pyarrow") as caught:
        TABLES["parquet"](tmp_path / "t.parquet", [])
    assert caught.value.hint == 'Try: pip install "cellunet-torch[parquet]".'


def known(path, columns: dict, *, rows_of: int = 2, channels=("",)) -> None:
    """Write a table whose rows say what is known of the whole image."""
    texts = [name for name, value in columns.items() if isinstance(value, str)]
    measured = [f"intensity_mean{f'_{c}' if c else ''}" for c in channels]
    names = [*measured, FROM, *columns, "frame"]
    sink = TABLES[path.suffix[1:]](path, names, texts)
    ids = np.arange(1, rows_of + 1)
    table = dict.fromkeys(measured, ids * 1.5) | {"frame": ids * 0}
    same = {FROM: "", **columns}
    table |= {name: np.full(rows_of, value) for name, value in same.items()}
    sink.add("a.tif", {}, ids, table)
    sink.commit()


BEFORE = {"well": "A01", "field": "1", "drug": "x"}
NOW = {"well": "A01", "batch": "007", "drug": 'a, "b"', "dose": 0.0, "none": np.nan}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("count", [0, 2])
def test_a_table_is_refreshed_to_what_is_known_now(tmp_path, kind, count) -> None:
    path, other = tmp_path / f"t.{kind}", tmp_path / f"other.{kind}"
    known(path, BEFORE, rows_of=count)
    known(other, NOW, rows_of=count)
    refresh(path, NOW)
    if kind == "csv":
        assert path.read_bytes() == other.read_bytes()
    else:
        assert pyarrow.parquet.read_table(path).equals(
            pyarrow.parquet.read_table(other)
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == [other.name, path.name]


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_that_says_it_already_is_not_touched(tmp_path, kind) -> None:
    path = tmp_path / f"t.{kind}"
    known(path, NOW)
    before = path.stat()
    refresh(path, NOW)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )


@pytest.mark.parametrize("columns", [NOW, {}])
def test_of_a_table_that_says_it_already_other_columns_are_not_read(
    tmp_path, monkeypatch, columns
) -> None:
    path, wanted = tmp_path / "t.parquet", []
    known(path, columns)
    read = pyarrow.parquet.read_table

    def reading(path, columns=None):
        wanted.append(columns)
        return read(path, columns=columns)

    monkeypatch.setattr(pyarrow.parquet, "read_table", reading)
    refresh(path, columns)
    assert wanted == ([list(columns)] if columns else [])


@pytest.mark.parametrize("kind", TABLES)
def test_a_number_that_was_text_before_is_refreshed(tmp_path, kind) -> None:
    path, other = tmp_path / f"t.{kind}", tmp_path / f"other.{kind}"
    known(path, {"dose": "1"})
    known(other, {"dose": 1.0})
    refresh(path, {"dose": 1.0})
    if kind == "csv":
        assert path.read_bytes() == other.read_bytes()
    else:
        assert str(pyarrow.parquet.read_schema(path).field("dose").type) == "double"


@pytest.mark.parametrize("kind", TABLES)
def test_tables_with_other_columns_of_samples_are_joined(tmp_path, kind) -> None:
    parts = [tmp_path / f"{n}.{kind}" for n in "ab"]
    known(parts[0], BEFORE)
    known(parts[1], NOW)
    path = tmp_path / f"all.{kind}"
    join(parts, path)
    if kind == "csv":
        found = [tuple(r[n] for n in ("field", "drug", "dose")) for r in rows(path)]
        assert found[0] == ("1", "x", "")
        assert found[2] == ("", 'a, "b"', "0")
    else:
        told = pyarrow.parquet.read_table(path).to_pylist()
        assert (told[0]["field"], told[0]["dose"]) == ("1", None)
        assert (told[2]["field"], told[2]["dose"]) == (None, 0.0)


def test_joined_text_stays_text_where_channels_differ(tmp_path) -> None:
    texts = {"batch": "12", "none": "", "drug": 'a, "b"\nc'}
    parts = [tmp_path / f"{name}.csv" for name in "ab"]
    known(parts[0], texts | {"dose": 7.0})
    known(parts[1], texts | {"dose": np.nan}, channels=("DAPI",))
    join(parts, tmp_path / "all.csv")
    text = (tmp_path / "all.csv").read_text(encoding="utf-8")
    assert text.count(',"","12","","a, ""b""\nc",7,0\n') == 2
    assert text.count(',"","12","","a, ""b""\nc",,0\n') == 2


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("kind", TABLES)
def test_columns_are_in_order_whichever_version_wrote_which_table(
    tmp_path, kind, first
) -> None:
    everything = column_names(("DAPI",), detail=True)
    later = ("left_px", "feret_min_um", "intensity_std_DAPI", "background_DAPI")
    earlier = [name for name in everything if name not in later]
    for name, columns in (("a", everything), ("b", earlier)):
        TABLES[kind](tmp_path / f"{name}.{kind}", columns).commit()
    parts = [tmp_path / f"{name}.{kind}" for name in ("ab", "ba")[first]]
    path = tmp_path / f"all.{kind}"
    join(parts, path)
    if kind == "csv":
        names = next(csv.reader(path.read_text().splitlines()))
    else:
        names = pyarrow.parquet.read_schema(path).names
    assert names == [*PLACES, *everything]


def test_columns_that_two_tables_lack_in_turn_are_in_order(tmp_path) -> None:
    for name, columns in (("a", ("y_px", "frame")), ("b", ("x_px", "solidity"))):
        TABLES["csv"](tmp_path / f"{name}.csv", columns).commit()
    join([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "all.csv")
    head = '"image","t","z","id","x_px","y_px","solidity","frame"\n'
    assert (tmp_path / "all.csv").read_text() == head


@pytest.mark.parametrize("kind", TABLES)
def test_mean_intensities_are_added_up_by_channel(tmp_path, kind) -> None:
    path = tmp_path / f"t.{kind}"
    known(path, BEFORE, channels=("DAPI", "GFP"))
    assert mean_intensities(path) == {"DAPI": (4.5, 2), "GFP": (4.5, 2)}
    known(path, BEFORE, rows_of=0)
    assert mean_intensities(path) == {"": (0, 0)}
