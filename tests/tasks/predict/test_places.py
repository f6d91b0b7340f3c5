"""Plates in folders of files, and sheets of samples: columns, resumed runs, reports."""

from __future__ import annotations

import csv
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet.command_config import PredictConfig
from cellunet.errors import CellunetError, ConfigError
from cellunet.tasks.measure import measure
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.parts import join
from cellunet.tasks.predict.places import PlacedImage, Placing

WELLS = ("A01", "B02", "P24")


@pytest.fixture
def run(tiny_model, tmp_path):
    def call(*inputs: object, out: str = "out", **options):
        dry = options.pop("dry_run", False)
        return predict(
            [str(text) for text in inputs],
            tmp_path / out,
            model=str(tiny_model.folder),
            threads=1,
            config=PredictConfig(**options),
            dry_run=dry,
        )

    return call


@pytest.fixture
def plate(tmp_path, nuclei_image):
    """Three wells of a plate of 384, two fields each, two channels in files."""
    folder = tmp_path / "P1" / "TimePoint_1"
    folder.mkdir(parents=True)
    for number, well in enumerate(WELLS):
        for site in (1, 2):
            image = nuclei_image((96, 96), 12 - 4 * number, 2 * number + site)[0]
            for mark, plus in (("w1", 0), ("w2", 1000 * number)):
                name = f"P1_{well}_s{site}_{mark}.TIF"
                tifffile.imwrite(folder / name, image + np.uint16(plus))
    return folder


@pytest.fixture
def sheet(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "sheet.csv"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def rows(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files(folder) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*.csv")}


PATTERN = {"plate_pattern": "imagexpress", "segment_channel": "w1"}
TREATED = "well,treatment,dose\nA1,DMSO,0\nb02,drug,0.5\nC3,drug,1\n"


def test_wells_fields_and_samples_are_columns_of_the_table(
    run, plate, sheet, tmp_path
) -> None:
    found = run(plate, save=("table",), samples=sheet(TREATED), **PATTERN)
    assert [i.status for i in found.images] == ["done"] * 6
    table = rows(tmp_path / "out" / "table.csv")
    wanted = ("plate", "well", "field", "treatment", "dose")
    places = [*dict.fromkeys(tuple(row[n] for n in wanted) for row in table)]
    assert places == [
        ("P1", "A01", "1", "DMSO", "0"),
        ("P1", "A01", "2", "DMSO", "0"),
        ("P1", "B02", "1", "drug", "0.5"),
        ("P1", "B02", "2", "drug", "0.5"),
        ("P1", "P24", "1", "", ""),
        ("P1", "P24", "2", "", ""),
    ]
    assert float(table[-1]["intensity_mean_w2"]) == pytest.approx(
        float(table[-1]["intensity_mean_w1"]) + 2000
    )
    (warning,) = found.warnings
    assert "2 of 6 images have no row" in warning
    assert "P1_P24_s1_w1.TIF" in warning
    assert found.notes == (
        f"1 row belongs to no image in {tmp_path / 'sheet.csv'}; the first: line 4, "
        "well C03",
    )


def test_a_finished_run_gets_columns_later_and_loses_them_again(
    run, plate, sheet, tmp_path
) -> None:
    bare = {"save": ("table", "report"), "segment_channel": "w1"}
    known = bare | PATTERN | {"samples": sheet(TREATED)}
    run(plate, out="once", **known)
    run(plate, **bare)
    before = files(tmp_path / "out")
    labels = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.tif")}
    again = run(plate, **known)
    assert len(again.skipped) == 6
    assert files(tmp_path / "out") == files(tmp_path / "once")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Objects per well" in page
    assert "By <bdi>treatment</bdi>" in page
    assert "Mean intensity, w2" in page
    run(plate, **bare)
    assert files(tmp_path / "out") == before
    assert labels == {p: p.stat().st_mtime_ns for p in labels}


def test_parts_of_a_run_and_the_run_after_them_have_the_columns(
    run, plate, sheet, tmp_path
) -> None:
    known = {"save": ("table",), "samples": sheet(TREATED), **PATTERN}
    once = run(plate, out="once", **known)
    for part in ((1, 2), (2, 2)):
        found = run(plate, **known, part=part)
        assert (found.notes, found.warnings) == (once.notes, once.warnings)
        assert not (tmp_path / "out" / "table.csv").exists()
    joined = join(tmp_path / "out")
    assert (joined.notes, joined.warnings) == (once.notes, once.warnings)
    assert files(tmp_path / "out") == files(tmp_path / "once")
    assert len(run(plate, **known).skipped) == 6
    assert files(tmp_path / "out") == files(tmp_path / "once")


@pytest.fixture
def fields(tmp_path, nuclei_image):
    """Five images: of two wells, one with a time, one of no well, one of a folder."""
    folder = tmp_path / "fields"
    (folder / "inner").mkdir(parents=True)
    names = ("A01_f1", "A02_f1", "A02_f1_t3", "blank", "inner/blank")
    for number, name in enumerate(names):
        tifffile.imwrite(folder / f"{name}.tif", nuclei_image((64, 64), 6, number)[0])
    return folder


OPTIONAL = r"(?P<well>[A-P]\d+)_f(?P<field>\d)(?:_t(?P<time>\d))?"


def test_parts_have_all_columns_in_the_order_of_the_whole(
    run, fields, sheet, tmp_path
) -> None:
    text = "file,batch,dose\nA01_f1,12,1\nA02_f1,b,\nA02_f1_t3,,3\n"
    known = {"save": ("table",), "plate_pattern": OPTIONAL, "samples": sheet(text)}
    run(fields, out="once", **known)
    # The last two have no image, those before no well or no time.
    for number in range(1, 8):
        run(fields, **known, part=(number, 7))
    join(tmp_path / "out")
    assert files(tmp_path / "out") == files(tmp_path / "once")


@pytest.mark.parametrize(
    ("pattern", "text", "said"),
    [
        (OPTIONAL, "file,drug\nblank,x\n", "blank may be"),
        (OPTIONAL, "well,drug\nC5,x\n", "No row of"),
        (r"(?P<well>Q\d+)", "file,drug\nA01_f1,x\n", "fits none of 5 images"),
        (None, "well,drug\nA1,x\n", "no image is known to be of one"),
    ],
)
def test_a_part_is_refused_where_the_whole_is(
    run, fields, sheet, pattern, text, said
) -> None:
    known = {"save": ("table",), "plate_pattern": pattern, "samples": sheet(text)}
    for number in (1, 5):
        with pytest.raises(CellunetError, match=said):
            run(fields, **known, part=(number, 5))


def test_a_part_tells_what_another_part_has_in_common_with_it(run, fields) -> None:
    pattern = r"(?P<well>[A-P]\d+)_f(?P<field>\d)"
    found = run(fields, plate_pattern=pattern, save=("table",), part=(3, 3))
    assert [warning[:45] for warning in found.warnings] == [
        f"--plate-pattern {pattern} does not fit 2 of 5"[:45],
        "1 image is of the same plate, well and field ",
    ]


def test_parquet_has_numbers_and_nothing_where_nothing_is_known(
    run, plate, sheet, tmp_path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    options = {"save": ("table",), "table_format": "parquet", **PATTERN}
    run(plate, **options)
    run(plate, **options, samples=sheet(TREATED))
    run(plate, out="once", **options, samples=sheet(TREATED))
    one, two = (
        parquet.read_table(tmp_path / n / "table.parquet") for n in ("out", "once")
    )
    assert one.equals(two)
    types = {field.name: str(field.type) for field in one.schema}
    assert [types[n] for n in ("well", "treatment", "dose")] == [
        "string",
        "string",
        "double",
    ]
    last = one.slice(len(one) - 1).to_pylist()[0]
    assert (last["well"], last["treatment"], last["dose"]) == ("P24", None, None)


def test_measured_labels_have_the_same_columns(run, plate, sheet, tmp_path) -> None:
    run(plate, **PATTERN)
    known = {"plate_pattern": "imagexpress", "samples": sheet(TREATED)}
    config = PredictConfig(save=("table", "report"), **known)
    for images, out in (([str(plate)], "both"), ([], "shapes")):
        found = measure(str(tmp_path / "out"), images, tmp_path / out, config=config)
        assert not found.failed
        table = rows(tmp_path / out / "table.csv")
        assert (table[0]["well"], table[0]["treatment"]) == ("A01", "DMSO")
        assert (table[-1]["well"], table[-1]["dose"]) == ("P24", "")
        page = (tmp_path / out / "report.html").read_text(encoding="utf-8")
        assert "Objects per well" in page
        assert ("Mean intensity, w2" in page) == bool(images)


def test_an_ome_zarr_plate_has_its_own_wells(run, sheet, tmp_path) -> None:
    zarr = pytest.importorskip("zarr", "3")
    from tests.io.zarr_stores import write_store

    path = tmp_path / "plate.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3)
    wells = [{"path": name} for name in ("A/1", "B/2")]
    group.update_attributes({"ome": {"version": "0.5", "plate": {"wells": wells}}})
    for well in ("A/1", "B/2"):
        own = group.create_group(well)
        images = {"images": [{"path": "0"}]}
        own.update_attributes({"ome": {"version": "0.5", "well": images}})
        pixels = np.full((64, 64), 200, np.uint16)
        pixels[20:40, 20:40] = 2000
        write_store(path / well / "0", pixels, "yx", chunks=(64, 64))
    options = {"into_source": "nuclei", "save": ("zarr-table", "table")}
    run(path, out="shown", into_source="nuclei", save=("zarr-table", "report"))
    page = (tmp_path / "shown" / "report.html").read_text("utf-8")
    assert "Mean intensity" in page, "the table is in the store of the image"
    run(path, **options)
    found = run(path, **options, samples=sheet("plate,well,drug\nplate,B2,x\n"))
    assert len(found.skipped) == 2
    for table in (
        path / "B" / "2" / "0" / "tables" / "nuclei" / "table.csv",
        tmp_path / "out" / "table.csv",
    ):
        (*_, row) = rows(table)
        told = tuple(row[n] for n in ("plate", "well", "field", "drug"))
        assert told == ("plate", "B02", "0", "x")
    one = run(path, out="one", image="1", save=("table",))
    assert one.images[0].columns["well"] == "B02"


def test_a_plate_that_nobody_asked_for_is_told_and_changes_nothing(
    run, plate, tmp_path
) -> None:
    found = run(plate, save=("table",), segment_channel="w1")
    (note,) = found.notes
    assert "--plate-pattern imagexpress adds plate, well and field" in note
    assert "well" not in rows(tmp_path / "out" / "table.csv")[0]
    assert run(plate, segment_channel="w1", dry_run=True).notes == ()


def test_images_that_the_pattern_does_not_fit_are_told(run, plate, tmp_path) -> None:
    pattern = {"plate_pattern": r"(?P<well>[AB]\d+)_s(?P<field>\d)_(?P<channel>w\d)"}
    options = {"segment_channel": "w1", "save": ("table",)}
    found = run(plate, **pattern, **options)
    (warning,) = found.warnings
    assert "does not fit 2 of 6 images" in warning
    assert rows(tmp_path / "out" / "table.csv")[-1]["well"] == ""
    with pytest.raises(CellunetError, match="fits none of 6 images") as told:
        run(plate, plate_pattern=r"(?P<well>Q\d+)", **options)
    assert "--plate-pattern imagexpress" in told.value.hint


def test_fields_that_a_pattern_does_not_tell_apart_are_told(run, plate) -> None:
    pattern = r"(?P<well>[A-P]\d+)_s"
    found = run(plate, plate_pattern=pattern, segment_channel="w1", dry_run=True)
    (warning,) = found.warnings
    assert "3 images are of the same plate, well and field as another" in warning


def test_channels_have_to_be_named_where_names_tell_several(run, plate) -> None:
    with pytest.raises(ConfigError, match=r"of 2 channels \(w1, w2\)"):
        run(plate, plate_pattern="imagexpress")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("well,area_px\nA1,1\n", "a column 'area_px', which is one of the table's"),
        ("well,intensity_mean_w2\nA1,1\n", "a column 'intensity_mean_w2'"),
        ("well,field\nA1,1\n", "a column 'field', which the images' own paths"),
        ("well,drug\nC5,x\n", "its first is of well C05, the first image is A01 of"),
        ("file,drug\nx.tif,x\n", "No row of"),
        ("plate,well,drug\nP2,A1,x\n", "its first is of well A01 of plate P2"),
    ],
)
def test_a_sheet_that_does_not_fit_is_refused(run, plate, sheet, text, said) -> None:
    with pytest.raises(CellunetError) as told:
        run(plate, save=("table",), samples=sheet(text), **PATTERN)
    assert said in told.value.message
    assert told.value.hint


def test_wells_of_a_sheet_need_wells_of_images(run, plate, sheet) -> None:
    with pytest.raises(ConfigError, match="no image is known to be of one") as told:
        run(
            plate,
            save=("table",),
            samples=sheet("well,drug\nA1,x\n"),
            segment_channel="w1",
        )
    assert "--plate-pattern" in told.value.hint


def test_a_sheet_that_nothing_would_show_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing is saved that shows it"):
        PredictConfig(samples="s.csv", save=("rois",))


IMAGES = [
    PlacedImage(
        Path("in") / p, p.as_posix(), others=tuple(Path("in") / o for o in others)
    )
    for p, *others in [
        map(Path, names)
        for names in (
            ("a#1/x_w1.tif", "a#1/x_w2.tif"),
            ("b/x_w1.tif",),
            ("b/y.ome.tif",),
        )
    ]
]


def matched(sheet, text: str) -> list[object]:
    config = PredictConfig(samples=sheet(text), save=("table",))
    return [own["drug"] for own in Placing(config).columns_of(IMAGES).columns]


@pytest.mark.parametrize(
    ("key", "row"),
    [
        ("a#1/x_w1.tif", ["d", "", ""]),
        ("./a#1/x_w1.tif", ["d", "", ""]),
        ("a#1\\x_w1.tif", ["d", "", ""]),
        ("in/b/x_w1.tif", ["", "d", ""]),
        ("a#1/x_w2.tif", ["d", "", ""]),
        ("y.ome.tif", ["", "", "d"]),
        ("y", ["", "", "d"]),
    ],
)
def test_a_row_is_of_a_file_by_path_or_name(sheet, key, row) -> None:
    assert matched(sheet, f"file,drug\n{key},d\n") == row


SCENES = [
    PlacedImage(Path("../in/a.lif"), "a.lif#0", "0"),
    PlacedImage(Path("../in/a.lif"), "a.lif#1", "1"),
    PlacedImage(Path("../in/b/a.lif"), "b/a.lif", None),
    PlacedImage(Path("../in/p.zarr"), "p.zarr#A/1/0", "A/1/0"),
]


@pytest.mark.parametrize(
    ("key", "row"),
    [
        ("a.lif#1", ["", "d", "", ""]),
        ("a#1", ["", "d", "", ""]),
        ("../in/a.lif#0", ["d", "", "", ""]),
        ("a.lif", ["d", "d", "", ""]),
        ("b/a.lif", ["", "", "d", ""]),
        (str(Path("../in/b/a.lif").resolve()), ["", "", "d", ""]),
        ("p.zarr#A/1/0", ["", "", "", "d"]),
    ],
)
def test_a_row_is_of_an_image_in_a_file_or_of_the_file_at_that_very_path(
    sheet, key, row
) -> None:
    config = PredictConfig(samples=sheet(f"file,drug\n{key},d\n"), save=("table",))
    places = Placing(config).columns_of(SCENES)
    assert [own["drug"] for own in places.columns] == row


@pytest.mark.parametrize("key", ["a.tif", "a", "b.lif#1"])
def test_a_row_of_an_image_is_one_of_the_labels_that_are_measured(sheet, key) -> None:
    images = [
        PlacedImage(Path("i/a.tif"), "a.tif", others=(Path("o/a.tif"),)),
        PlacedImage(Path("i/b.lif"), "b_1.tif", "1", (Path("o/b_1.tif"),)),
    ]
    config = PredictConfig(samples=sheet(f"file,drug\n{key},d\n"), save=("table",))
    found = [own["drug"] for own in Placing(config).columns_of(images).columns]
    assert found == (["", "d"] if "#" in key else ["d", ""])


def test_plates_of_one_name_are_told_with_what_helps() -> None:
    stores = [
        PlacedImage(Path(f"{k}/p.zarr"), f"{k}/p.zarr#A/1/0", "A/1/0") for k in "ab"
    ]
    (warning,) = Placing(PredictConfig(save=("table",))).columns_of(stores).warnings
    assert "b/p.zarr#A/1/0 and a/p.zarr#A/1/0" in warning
    assert "Rename one of the plates, a/p.zarr or b/p.zarr" in warning
    assert "--plate-pattern" not in warning


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_of_files_and_plates_match_however_they_are_stored(
    sheet, forms
) -> None:
    name, told = (unicodedata.normalize(form, "Zellkörper") for form in forms)
    image = PlacedImage(Path(f"in/{name}_A01.tif"), f"{name}_A01.tif")
    known = {"save": ("table",), "plate_pattern": r"(?P<plate>[^_/]+)_(?P<well>A\d+)"}
    for text in (f"file,drug\n{told}_A01,d\n", f"plate,well,drug\n{told},A1,d\n"):
        placing = Placing(PredictConfig(samples=sheet(text), **known))
        assert placing.columns_of([image]).columns[0]["drug"] == "d"


def test_an_image_of_unknown_plate_is_of_no_plate_of_several(sheet) -> None:
    text = "".join(f"P{k},A1,d{k}\n" for k in range(9))
    pattern = r"(?:(?P<plate>P\d)_)?(?P<well>A\d+)"
    config = PredictConfig(
        samples=sheet(f"plate,well,drug\n{text}"),
        plate_pattern=pattern,
        save=("table",),
    )
    names = [*(f"P{k}_A01.tif" for k in range(9)), "A01.tif"]
    images = [PlacedImage(Path(name), name) for name in names]
    drugs = [own["drug"] for own in Placing(config).columns_of(images).columns]
    assert drugs == [*(f"d{k}" for k in range(9)), ""]


def test_a_name_of_several_files_is_refused(sheet) -> None:
    with pytest.raises(CellunetError, match=r"line 2: x_w1\.tif may be"):
        matched(sheet, "file,drug\nx_w1.tif,d\n")


def test_two_rows_of_one_field_are_refused_if_they_differ(sheet) -> None:
    text = "file,drug\na#1/x_w1.tif,d\na#1/x_w2.tif,{}\n"
    assert matched(sheet, text.format("d")) == ["d", "", ""]
    with pytest.raises(CellunetError, match=r"lines 2 and 3 are both of a#1/x_w1\.tif"):
        matched(sheet, text.format("e"))


def test_a_sheet_of_files_may_tell_their_wells(run, plate, sheet, tmp_path) -> None:
    text = "file,well\n" + "".join(f"P1_{w}_s1_w1,{w[0]}1\n" for w in WELLS)
    found = run(
        plate, save=("table", "report"), segment_channel="w1", samples=sheet(text)
    )
    assert [i.columns["well"] for i in found.images] == [
        "A01",
        "",
        "B01",
        "",
        "P01",
        "",
    ]
    assert "Objects per well" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_a_well_of_which_all_images_failed_is_no_empty_one(
    run, plate, tmp_path
) -> None:
    path = plate / "P1_A01_s1_w1.TIF"
    path.write_bytes(b"")
    shutil.copy(path, plate / "P1_A01_s2_w1.TIF")
    found = run(plate, save=("report",), **PATTERN)
    assert len(found.failed) == 2
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "a cross is one whose images failed" in page
    assert "Objects per well, 2 of 384 wells: from" in page


def test_images_of_one_file_are_fields_of_its_well(tmp_path) -> None:
    config = PredictConfig(plate_pattern=r"(?P<well>[A-P]\d+)", save=("table",))
    images = [PlacedImage(Path("B3.nd2"), f"B3.nd2#{n}", str(n)) for n in (0, 1)]
    found = Placing(config).columns_of(images)
    assert found.columns == (
        {"well": "B03", "field": "0"},
        {"well": "B03", "field": "1"},
    )
    assert found.warnings == ()
