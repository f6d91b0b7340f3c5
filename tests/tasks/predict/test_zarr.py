"""OME-Zarr in and out: the labels of the TIFF of the same pixels, nothing half done."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet.command_config import PredictConfig
from cellunet.errors import ConfigError, OutputError
from cellunet.io import label_tiff, label_zarr
from cellunet.io.files import is_locked
from cellunet.io.images import open_image
from cellunet.io.label_tiff import ImageSpec, read_provenance
from cellunet.io.label_zarr import ZarrSink, alone_in, held_bytes
from cellunet.io.source import StoredGrid
from cellunet.tasks.measure import measure
from cellunet.tasks.predict import image as image_module
from cellunet.tasks.predict import settings
from cellunet.tasks.predict.batch import predict

zarr = pytest.importorskip("zarr", "3")

from tests.io.zarr_stores import labels_in, write_store

UM = {"scale": {"y": 0.5, "x": 0.5}, "units": {"y": "micrometer", "x": "micrometer"}}


@pytest.fixture
def run(tiny_model, tmp_path):
    def call(*inputs: object, out: Path | None = None, **options):
        return predict(
            [str(text) for text in inputs],
            out or tmp_path / "out",
            model=str(tiny_model.folder),
            threads=1,
            config=PredictConfig(**options),
        )

    return call


@pytest.fixture
def pixels(nuclei_image):
    """Two channels of nuclei, CYX."""
    return np.stack([nuclei_image((150, 300), 40, k)[0] for k in range(2)])


def store(path: Path, pixels, axes: str = "cyx", **options) -> Path:
    names = ("DAPI", "GFP") if "c" in axes else ()
    known = {"chunks": (1,) * (len(axes) - 2) + (64, 64), "channels": names}
    return write_store(path, pixels, axes, **UM, **(known | options))


def files(folder: Path) -> dict[str, bytes]:
    """Return all that lies in a folder."""
    found = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


@pytest.mark.parametrize("tile", [64, 1024])
@pytest.mark.parametrize(
    ("axes", "version"), [("yx", "0.4"), ("tzyx", "0.5"), ("cyx", "0.5")]
)
def test_labels_are_those_of_the_tiff_of_the_same_pixels(
    run, tmp_path, pixels, axes, version, tile
) -> None:
    image = {"yx": pixels[0], "tzyx": pixels[None], "cyx": pixels}[axes]
    options = {"channel": "GFP"} if axes == "cyx" else {}
    description = {"axes": axes.upper(), "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    if axes == "cyx":
        description["Channel"] = {"Name": ["DAPI", "GFP"]}
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "t.tif", image, ome=True, metadata=description)
    store(tmp_path / "in" / "z.zarr", image, axes, version=version)
    found = run(tmp_path / "in", tile_px=tile, save=("table",), **options)
    assert [i.status for i in found.images] == ["done", "done"], found.failed
    tiff = tifffile.imread(tmp_path / "out" / "t.tif")
    made = labels_in(tmp_path / "out" / "z.zarr")
    assert made.dtype == np.uint32
    assert made.max() > 5
    assert made.tobytes() == tiff.astype(np.uint32).tobytes()
    tables = []
    for name in ("t_table.csv", "z_table.csv"):
        with (tmp_path / "out" / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
        drop = ("image", "pixel_size_from")
        tables.append([{k: v for k, v in r.items() if k not in drop} for r in rows])
    assert tables[0] == tables[1]


def test_labels_do_without_an_axis_that_is_not_understood(
    run, tmp_path, pixels
) -> None:
    path = store(tmp_path / "a.zarr", pixels[:1], "ayx")
    found = run(path)
    assert [i.status for i in found.images] == ["done"], found.failed
    group = zarr.open_group(tmp_path / "out" / "a.zarr", mode="r")
    (multiscale,) = dict(group.attrs)["ome"]["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["y", "x"]
    assert group["0"].shape == (150, 300)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_are_a_store_of_their_own_of_the_images_version(
    run, tmp_path, pixels, version
) -> None:
    path = store(tmp_path / "a.zarr", pixels, version=version, levels=2)
    before = files(path)
    found = run(path, channel="DAPI")
    assert files(path) == before, "nothing is written into an image unasked"
    out = tmp_path / "out" / "a.zarr"
    assert found.images[0].output == str(out)
    group = zarr.open_group(out, mode="r")
    ome = dict(group.attrs).get("ome", dict(group.attrs))
    assert group.metadata.zarr_format == {"0.4": 2, "0.5": 3}[version]
    multiscale = ome["multiscales"][0]
    assert [a["name"] for a in multiscale["axes"]] == ["y", "x"]
    scales = [
        d["coordinateTransformations"][0]["scale"] for d in multiscale["datasets"]
    ]
    assert scales == [[0.5, 0.5], [1.0, 1.0]], "as many levels as the image"
    full = labels_in(out)
    assert (labels_in(out, 1) == full[::2, ::2]).all(), "labels are never averaged"
    label = ome["image-label"]
    assert label["source"] == {"image": "../../a.zarr"}
    assert [c["label-value"] for c in label["colors"]] == [*range(1, full.max() + 1)]
    assert read_provenance(out)["input"]["name"] == "a.zarr"
    assert run(path, channel="DAPI").images[0].status == "skipped"


def test_labels_go_into_the_image_where_that_is_asked_for(
    run, tmp_path, pixels
) -> None:
    path = store(tmp_path / "a.zarr", pixels, consolidated=True, levels=2)
    before = files(path)
    write_store(path / "labels" / "drawn", np.ones((150, 300), np.uint32))
    (path / "labels" / "zarr.json").write_text(
        json.dumps(
            {
                "zarr_format": 3,
                "node_type": "group",
                "attributes": {"ome": {"labels": ["drawn"]}, "mine": 1},
            }
        )
    )
    found = run(path, channel="DAPI", into_source="nuclei", save=("table", "report"))
    assert found.images[0].output == str(path / "labels" / "nuclei")
    assert not (tmp_path / "out" / "a.zarr").exists()
    assert (tmp_path / "out" / "a_table.csv").is_file()
    listed = json.loads((path / "labels" / "zarr.json").read_text())["attributes"]
    assert listed == {
        "ome": {"labels": ["drawn", "nuclei"], "version": "0.5"},
        "mine": 1,
    }
    after = files(path)
    assert {k: after[k] for k in before if k != "zarr.json"} == {
        k: v for k, v in before.items() if k != "zarr.json"
    }
    assert not [name for name in after if "partial" in name or "lock" in name]
    group = zarr.open_group(path, mode="r", use_consolidated=True)
    assert "labels/nuclei/0" in dict(group.members(max_depth=None))
    attributes = dict(group["labels/nuclei"].attrs)
    assert attributes["ome"]["image-label"]["source"] == {"image": "../../"}
    again = run(path, channel="DAPI", into_source="nuclei", save=("table", "report"))
    assert again.images[0].status == "skipped"
    assert len(again.skipped) == 1


def test_metadata_of_a_store_are_utf8_whatever_the_locale(tmp_path) -> None:
    path = write_store(tmp_path / "a.zarr", np.ones((8, 8), np.uint8))
    document = json.loads((path / "zarr.json").read_text("utf-8"))
    document["attributes"]["µ"] = "ä"
    text = json.dumps(document, ensure_ascii=False)
    (path / "zarr.json").write_text(text, "utf-8")
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    code = "import sys, pathlib; from cellunet.io.label_zarr import consolidate; "
    subprocess.run(
        [sys.executable, "-c", f"{code} consolidate(pathlib.Path(sys.argv[1]))", path],
        env=os.environ | locale,
        check=True,
    )


def test_labels_that_were_finished_and_not_listed_are_listed(
    run, tmp_path, pixels
) -> None:
    path = store(tmp_path / "a.zarr", pixels, version="0.4")
    run(path, channel="DAPI", into_source="nuclei")
    (path / "labels" / ".zattrs").unlink()
    (path / "labels" / ".nuclei.1-a.partial").mkdir()
    assert run(path, channel="DAPI", into_source="nuclei").skipped
    listed = json.loads((path / "labels" / ".zattrs").read_text())
    assert listed == {"labels": ["nuclei"]}
    assert not (path / "labels" / ".nuclei.1-a.partial").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_labels_of_others_are_never_replaced_and_the_batch_goes_on(
    run, tmp_path, pixels, overwrite
) -> None:
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "t.tif", pixels[0])
    store(tmp_path / "in" / "free.zarr", pixels[0], "yx")
    path = store(tmp_path / "in" / "taken.zarr", pixels[0], "yx")
    write_store(path / "labels" / "nuclei", np.ones((150, 300), np.uint32))
    before = files(path)
    found = run(tmp_path / "in", into_source="nuclei", overwrite=overwrite)
    told = {Path(i.input).name: i.message for i in found.images}
    assert told["free.zarr"] == ""
    assert "has labels 'nuclei' already" in told["taken.zarr"]
    assert "t.tif is no OME-Zarr" in told["t.tif"]
    assert files(path) == before


def test_earlier_labels_of_cellunet_are_replaced_if_asked(
    run, tmp_path, pixels
) -> None:
    path = store(tmp_path / "a.zarr", pixels)
    run(path, channel="DAPI")
    refused = run(path, channel="GFP").images[0]
    assert "was made with channel DAPI (now GFP)" in refused.message
    assert run(path, channel="GFP", overwrite=True).done
    settings = read_provenance(tmp_path / "out" / "a.zarr")["settings"]
    assert settings["channel"] == "GFP"
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.zarr"]


def test_another_programs_folder_in_the_way_stays(run, tmp_path, pixels) -> None:
    path = store(tmp_path / "a.zarr", pixels[0], "yx")
    other = tmp_path / "out" / "a.zarr" / "mine.txt"
    other.parent.mkdir(parents=True)
    other.write_text("kept")
    found = run(path, overwrite=True)
    assert "exists and is no label image of cellunet" in found.images[0].message
    assert other.read_text() == "kept"


def test_a_store_in_which_another_run_writes_is_left_alone(
    run, tmp_path, pixels
) -> None:
    path = store(tmp_path / "a.zarr", pixels[0], "yx")
    with alone_in(path / "labels" / "nuclei"):
        found = run(path, into_source="other")
    assert "Labels are being written into" in found.images[0].message
    assert not (path / "labels").exists()


def test_a_store_that_cannot_be_written_is_one_line(run, tmp_path, pixels) -> None:
    path = store(tmp_path / "a.zarr", pixels[0], "yx")
    (path / "labels").write_text("in the way")
    message = run(path, into_source="nuclei").images[0].message
    assert "cannot be written" in message
    assert "\n" not in message


def test_what_is_given_up_leaves_nothing(tmp_path, pixels) -> None:
    path = store(tmp_path / "a.zarr", pixels[0], "yx")
    before = files(path)
    with open_image(path) as source:
        spec = ImageSpec.like(source, np.uint16)
        with ZarrSink(path / "labels" / "nuclei", spec) as sink:
            sink.write(0, 0, np.ones((70, 300), np.uint16))
    assert files(path) == before


def test_a_projection_has_no_z_in_its_labels(run, tmp_path, pixels) -> None:
    path = store(tmp_path / "a.zarr", pixels, "zyx")
    run(path, z="max")
    group = zarr.open_group(tmp_path / "out" / "a.zarr", mode="r")
    assert group["0"].shape == (150, 300)
    assert len(group.attrs["ome"]["multiscales"][0]["axes"]) == 2


def test_axes_of_length_one_stay_in_the_labels(run, tmp_path, pixels) -> None:
    path = store(tmp_path / "a.zarr", pixels[None, :, None], "tczyx")
    run(path, channel="DAPI")
    group = zarr.open_group(tmp_path / "out" / "a.zarr", mode="r")
    assert group["0"].shape == (1, 1, 150, 300)


def test_shards_are_as_high_as_chunks(run, tmp_path, nuclei_image) -> None:
    path = store(tmp_path / "a.zarr", nuclei_image((700, 1300), 60, 0)[0], "yx")
    run(path)
    group = zarr.open_group(tmp_path / "out" / "a.zarr", mode="r")
    assert (group["0"].chunks, group["0"].shards) == ((512, 512), (512, 1536))
    assert (group["1"].chunks, group["1"].shards) == ((350, 650), None)
    assert "2" not in group


def test_labels_of_a_small_plane_are_one_chunk(run, tmp_path, pixels) -> None:
    path = store(tmp_path / "a.zarr", pixels[0], "yx")
    run(path)
    group = zarr.open_group(tmp_path / "out" / "a.zarr", mode="r")
    assert (group["0"].chunks, group["0"].shards) == ((150, 300), None)
    assert "1" not in group


def plain(shape: tuple[int, ...], number: int = 3) -> ImageSpec:
    """Return what labels of an image without smaller levels are."""
    axes = tuple({"name": name, "type": "space"} for name in "yx")
    grid = StoredGrid("", number, "YX", shape, axes, (1.0, 1.0), (0.0, 0.0), None)
    return ImageSpec(shape=shape, dtype=np.dtype(np.uint32), grid=grid)


def test_labels_of_other_images_are_no_store(tmp_path) -> None:
    spec = ImageSpec(shape=(4, 5), dtype=np.dtype(np.uint32))
    with pytest.raises(ValueError, match=r"of no OME-Zarr"):
        ZarrSink(tmp_path / "a.zarr", spec)
    assert not list(tmp_path.iterdir())


def test_chunks_of_wide_planes_are_low(tmp_path) -> None:
    rows = np.arange(700 * 9000, dtype=np.uint32).reshape(700, 9000)
    with ZarrSink(tmp_path / "a.zarr", plain(rows.shape)) as sink:
        for y0 in (0, 250, 500):
            sink.write(0, y0, rows[y0 : y0 + 250])
        sink.commit()
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert (group["0"].chunks, group["0"].shards) == ((256, 1024), (256, 4096))
    assert (group["1"].chunks, group["1"].shards) == ((350, 512), (350, 4096))
    for level in range(5):
        step = 2**level
        np.testing.assert_array_equal(group[str(level)], rows[::step, ::step])
    assert "5" not in group


@pytest.mark.parametrize(
    ("width", "number"), [(500, 3), (2048, 3), (8192, 3), (8192, 2), (65_536, 3)]
)
def test_writing_holds_no_more_than_max_memory_sets_aside(
    tmp_path, width, number
) -> None:
    shape = 512 if width > 60_000 else 1024, width
    rows = np.arange(width, dtype=np.uint32)[np.newaxis].repeat(128, 0) // 16
    spec = plain(shape, number)
    tracemalloc.start()
    try:
        with ZarrSink(tmp_path / "a.zarr", spec) as sink:
            for y0 in range(0, shape[0], len(rows)):
                sink.write(0, y0, rows)
            sink.commit()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.5 < peak / held_bytes(shape) < 1


@pytest.mark.parametrize(
    ("name", "writer"), [("a.zarr", label_zarr), ("a.tif", label_tiff)]
)
def test_max_memory_counts_what_the_writer_holds(
    name, writer, run, tmp_path, pixels, monkeypatch
) -> None:
    path, given = tmp_path / name, []
    if name == "a.tif":
        tifffile.imwrite(path, pixels[0])
    else:
        store(path, pixels[0], "yx")
    memory_for = settings.memory_for

    def counted(*what):
        # Without a bound nothing is counted yet.
        if what[0] is not None:
            given.append(what[4])
        return memory_for(*what)

    monkeypatch.setattr(settings, "memory_for", counted)
    assert not run(path, max_memory_mb=2000, overwrite=True).failed
    assert {*given} == {writer.held_bytes(pixels.shape[-2:])}


@pytest.mark.parametrize("into", [None, "nuclei"])
def test_the_table_lies_in_the_store_of_the_labels(run, tmp_path, pixels, into) -> None:
    path = store(tmp_path / "a.zarr", pixels)
    kinds = {"save": ("table", "zarr-table"), "into_source": into}
    run(path, channel="DAPI", **kinds)
    root = path if into else tmp_path / "out" / "a.zarr"
    name = into or "objects"
    table = root / "tables" / name
    own = (table / "table.csv").read_text().splitlines()
    other = (tmp_path / "out" / "a_table.csv").read_text().splitlines()
    assert own[0] == other[0].replace('"id"', '"label"')
    assert own[1:] == other[1:]
    listed = json.loads((root / "tables" / "zarr.json").read_text())["attributes"]
    assert listed == {"tables": [name]}
    added = run(
        path, channel="DAPI", save=("table", "zarr-table", "rois"), into_source=into
    )
    assert added.images[0].added == ("rois",)
    assert (table / "table.csv").is_file(), "rois are added, the table stays"


@pytest.mark.parametrize("into", [None, "nuclei"])
def test_a_table_in_the_store_stays_when_more_is_saved_of_the_same_labels(
    run, tmp_path, pixels, into
) -> None:
    path = store(tmp_path / "a.zarr", pixels[0], "yx")
    run(path, save=("zarr-table",), into_source=into)
    tables = (path if into else tmp_path / "out" / "a.zarr") / "tables"
    before = files(tables)
    # Confidences are in no label image, so it is segmented again.
    assert run(path, save=("coco",), into_source=into).done
    assert files(tables) == before
    assert run(path, save=("zarr-table",), into_source=into).skipped
    run(path, save=("coco",), into_source=into, min_area_px=60, overwrite=True)
    assert not [name for name in files(tables) if name.endswith("table.csv")]
    if into:
        group = json.loads((tables / "zarr.json").read_text("utf-8"))
        assert group["attributes"] == {"tables": []}


def test_the_table_in_the_store_holds_all_that_can_be_measured(
    run, tmp_path, pixels
) -> None:
    path = store(tmp_path / "a.zarr", pixels[0], "yx")
    assert not run(path, save=("zarr-table",), measure="all").failed
    table = tmp_path / "out" / "a.zarr" / "tables" / "objects" / "table.csv"
    columns = table.read_text(encoding="utf-8").partition("\n")[0]
    assert '"intensity_median"' in columns
    other = run(path, save=("zarr-table",)).images[0]
    assert "measure all (now basic)" in other.message


def test_a_table_of_another_program_is_refused_before_work(
    run, tmp_path, pixels, monkeypatch
) -> None:
    path = store(tmp_path / "a.zarr", pixels)
    group = zarr.open_group(path).create_group("tables/nuclei")
    group.update_attributes({"type": "feature_table"})
    before = files(path)

    def segment(*_: object, **__: object) -> None:
        pytest.fail("the image was segmented")

    monkeypatch.setattr(image_module, "segment", segment)
    kinds = {"save": ("zarr-table",), "into_source": "nuclei", "overwrite": True}
    found = run(path, channel="DAPI", **kinds)
    assert "exists and is no table of cellunet" in found.images[0].message
    assert files(path) == before


def test_files_of_other_labels_of_the_image_stay_when_labels_are_replaced(
    run, tmp_path, pixels
) -> None:
    path = store(tmp_path / "a.zarr", pixels[0], "yx")
    run(path, into_source="nuclei", save=("table",), out=tmp_path / "other")
    run(path, into_source="cells", save=("table",))
    tables = [tmp_path / "out" / name for name in ("a_table.csv", "table.csv")]
    before = [table.read_bytes() for table in tables]
    changed = {"into_source": "nuclei", "min_area_px": 60.0, "overwrite": True}
    assert not run(path, **changed).failed
    assert [table.read_bytes() for table in tables] == before


def test_a_tiff_has_no_store_for_a_table(run, tmp_path, pixels) -> None:
    tifffile.imwrite(tmp_path / "t.tif", pixels[0])
    found = run(tmp_path / "t.tif", save=("zarr-table",))
    assert "is no OME-Zarr, so it holds no table" in found.images[0].message
    assert "with --like, --save table replaces it" in found.images[0].message


def test_measure_and_label_images_are_read_from_zarr(run, tmp_path, pixels) -> None:
    path = store(tmp_path / "a.zarr", pixels)
    run(path, channel="DAPI", save=("table",))
    found = measure(
        str(tmp_path / "out" / "a.zarr"),
        [str(path)],
        tmp_path / "measured",
        config=PredictConfig(save=("table",)),
    )
    assert not found.failed
    with (tmp_path / "measured" / "a_table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "out" / "a_table.csv").open(newline="") as file:
        made = list(csv.DictReader(file))
    assert [r["intensity_mean_GFP"] for r in rows] == [
        r["intensity_mean_GFP"] for r in made
    ]


def test_label_images_in_a_folder_are_known_as_such(run, tmp_path, pixels) -> None:
    store(tmp_path / "in" / "a.zarr", pixels[0], "yx")
    run(tmp_path / "in", out=tmp_path / "in" / "masks")
    found = run(tmp_path / "in", out=tmp_path / "second")
    assert [Path(i.input).name for i in found.images] == ["a.zarr"]
    assert "1 label image" in found.notes[0]


@pytest.fixture
def plate(tmp_path, nuclei_image) -> Path:
    """Return a plate of two wells of two fields, and one that was never taken."""
    path = tmp_path / "plate.zarr"
    wells = [{"path": name} for name in ("A/1", "B/12", "C/3")]
    group = zarr.create_group(path, zarr_format=3)
    group.update_attributes({"ome": {"version": "0.5", "plate": {"wells": wells}}})
    for number, well in enumerate(("A/1", "B/12")):
        images = [{"path": "0"}, {"path": "1"}]
        own = group.create_group(well)
        own.update_attributes({"ome": {"version": "0.5", "well": {"images": images}}})
        for field in range(2):
            pixels = nuclei_image((64, 80), 6, 2 * number + field)[0]
            store(path / well / str(field), pixels, "yx")
    return path


def test_each_field_of_a_plate_is_an_image_with_its_well_in_the_table(
    run, tmp_path, plate
) -> None:
    found = run(plate, save=("table",))
    assert [i.status for i in found.images] == ["done"] * 4
    with (tmp_path / "out" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [*dict.fromkeys((r["image"], r["well"], r["field"]) for r in rows)] == [
        ("plate.zarr#A/1/0", "A01", "0"),
        ("plate.zarr#A/1/1", "A01", "1"),
        ("plate.zarr#B/12/0", "B12", "0"),
        ("plate.zarr#B/12/1", "B12", "1"),
    ]
    assert (tmp_path / "out" / "plate_3_B-12-1.zarr").is_dir()
    again = run(plate, save=("table",))
    assert len(again.skipped) == 4
    one = run(plate, image="B/12/0", out=tmp_path / "one")
    assert one.images[0].position == "B/12/0"


def test_labels_go_into_the_fields_of_a_plate(run, tmp_path, plate) -> None:
    found = run(plate, into_source="nuclei")
    assert [Path(i.output).relative_to(plate).as_posix() for i in found.images] == [
        f"{well}/{field}/labels/nuclei" for well in ("A/1", "B/12") for field in (0, 1)
    ]
    assert len(run(plate, into_source="nuclei").skipped) == 4
    with open_image(plate / "A" / "1" / "0" / "labels" / "nuclei") as source:
        assert source.shape == (64, 80)


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_processes_list_labels_in_a_plate_one_after_another(
    run, plate, monkeypatch
) -> None:
    consolidate = label_zarr.consolidate
    held = []

    def seen(at: Path) -> None:
        held.extend(is_locked(lock) for lock in at.glob(".*.lock"))
        consolidate(at)

    monkeypatch.setattr(label_zarr, "consolidate", seen)
    zarr.consolidate_metadata(plate)
    run(plate, into_source="nuclei", save=("zarr-table",))
    # Once of all: it takes as long as the plate is large.
    assert held == [True]
    whole = json.loads((plate / "zarr.json").read_text("utf-8"))
    listed = whole["consolidated_metadata"]["metadata"]
    for field in ("A/1/0", "A/1/1", "B/12/0", "B/12/1"):
        assert listed[f"{field}/labels"]["attributes"]["ome"]["labels"] == ["nuclei"]
        assert f"{field}/labels/nuclei" in listed
    assert not list(plate.rglob("*.lock"))


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_what_a_killed_run_did_not_consolidate_the_next_one_does(
    run, plate, monkeypatch
) -> None:
    zarr.consolidate_metadata(plate)

    def fail(_: Path) -> None:
        raise OutputError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(label_zarr, "consolidate", fail)
        with pytest.raises(OutputError, match="killed"):
            run(plate, into_source="nuclei")
    assert len(run(plate, into_source="nuclei").skipped) == 4
    group = zarr.open_group(plate, mode="r", use_consolidated=True)
    assert "B/12/1/labels/nuclei" in group
    assert not list(plate.glob(".cellunet*"))


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", ""])
def test_a_name_that_leads_elsewhere_is_refused(name) -> None:
    with pytest.raises(ConfigError, match="can name no group"):
        PredictConfig(into_source=name)


def test_a_table_that_is_replaced_is_one_of_the_new_labels(
    run, tmp_path, pixels
) -> None:
    path = store(tmp_path / "a.zarr", pixels[0], "yx")
    kinds = {"save": ("zarr-table",)}
    assert run(path, **kinds).done
    out = tmp_path / "out" / "a.zarr"
    first = (out / "tables" / "objects" / "table.csv").read_text().splitlines()
    found = run(path, overwrite=True, min_area_px=100, **kinds)
    assert not found.failed, found.images[0].message
    rows = (out / "tables" / "objects" / "table.csv").read_text().splitlines()[1:]
    assert len(rows) == labels_in(out).max() < len(first) - 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.zarr"]
    assert run(path, overwrite=True).done
    assert not (out / "tables").exists(), "no table of earlier labels stays"


def test_results_in_a_folder_called_labels_stay_there(run, tmp_path, pixels) -> None:
    path = store(tmp_path / "a.zarr", pixels[0], "yx")
    out = tmp_path / "study" / "labels"
    assert run(path, out=out, save=("zarr-table",)).done
    assert (out / "a.zarr" / "tables" / "objects" / "table.csv").is_file()
    assert [p.name for p in (tmp_path / "study").iterdir()] == ["labels"]


def test_a_tiff_in_a_folder_called_zarr_is_a_tiff(run, tmp_path, nuclei_image) -> None:
    path = tmp_path / "exp.zarr" / "y.tif"
    path.parent.mkdir()
    out = tmp_path / "out.zarr"
    tifffile.imwrite(path, nuclei_image((64, 80), 6, 0)[0])
    assert run(path, out=out).done
    assert len(run(path, out=out).skipped) == 1
    tifffile.imwrite(path, nuclei_image((70, 80), 6, 1)[0])
    assert "y.tif exists and was made from" in run(path, out=out).images[0].message
    refused = run(path, out=tmp_path / "t.zarr", save=("zarr-table",)).images[0]
    assert "is no OME-Zarr, so it holds no table" in refused.message


def test_labels_in_a_series_change_no_image(run, tmp_path, pixels) -> None:
    path = tmp_path / "s.zarr"
    layout = {"ome": {"version": "0.5", "bioformats2raw.layout": 3}}
    zarr.create_group(path, zarr_format=3).update_attributes(layout)
    store(path / "0", pixels[0], "yx")
    kinds = {"into_source": "nuclei", "save": ("zarr-table",)}
    assert run(path, **kinds).done
    again = run(path, **kinds)
    assert len(again.skipped) == 1, again.images[0].message


def test_what_a_killed_run_left_in_an_image_is_removed(run, tmp_path, pixels) -> None:
    path = store(tmp_path / "a.zarr", pixels[0], "yx")
    assert run(path, into_source="nuclei").done
    left = path / ".t.1-a.partial"
    left.mkdir()
    (left / "table.csv").write_text("image,label")
    again = run(path, into_source="nuclei")
    assert len(again.skipped) == 1, again.images[0].message
    assert not left.exists()


@pytest.mark.parametrize("into", [None, "nuclei"])
def test_a_store_whose_metadata_are_no_object_is_one_line(
    run, tmp_path, pixels, into
) -> None:
    store(tmp_path / "in" / "good.zarr", pixels[0], "yx")
    bad = store(tmp_path / "in" / "bad.zarr", pixels[0], "yx")
    (bad / "zarr.json").write_text("[]")
    found = run(tmp_path / "in", into_source=into)
    told = {Path(i.input).name: i.message for i in found.images}
    assert told["good.zarr"] == ""
    assert "bad.zarr cannot be read" in told["bad.zarr"]


@pytest.mark.parametrize("text", ["[]", "{"])
def test_a_damaged_list_of_labels_is_told_as_damage(
    run, tmp_path, pixels, text
) -> None:
    path = store(tmp_path / "a.zarr", pixels[0], "yx")
    (path / "labels").mkdir()
    (path / "labels" / "zarr.json").write_text(text)
    message = run(path, into_source="nuclei").images[0].message
    assert "zarr.json cannot be read; it is damaged" in message
    assert (path / "labels" / "zarr.json").read_text() == text


@pytest.mark.parametrize("kept", [False, True])
def test_earlier_labels_stay_if_new_ones_cannot_take_their_place(
    run, tmp_path, pixels, monkeypatch, kept
) -> None:
    path = store(tmp_path / "a.zarr", pixels[0], "yx")
    run(path, save=("zarr-table",))
    out = tmp_path / "out" / "a.zarr"
    before = files(out)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial") and target == out:
            if self.name in seen:
                return rename(self, target)
            raise PermissionError(13, "Permission denied")
        seen.add(target.name)
        return rename(self, target)

    seen: set[str] = set()
    monkeypatch.setattr(Path, "rename", refuse)
    options = {"save": ("zarr-table", "rois")} if kept else {"overwrite": True}
    found = run(path, **options)
    assert "a.zarr" in found.images[0].message
    assert files(out) == before
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("old", "new"), [('"DAPI"', '"GFP1"'), ("0.5,", "0.7,")], ids=["channel", "size"]
)
def test_an_image_whose_metadata_were_mended_is_another(
    run, tmp_path, pixels, version, old, new
) -> None:
    path = store(tmp_path / "a.zarr", pixels, version=version)
    run(path, channel="0", into_source="nuclei")
    assert run(path, channel="0").images[0].status == "done"
    assert run(path, channel="0").images[0].status == "skipped"
    file = path / {"0.4": ".zattrs", "0.5": "zarr.json"}[version]
    text = file.read_text()
    assert old in text
    file.write_text(text + "\n")
    assert run(path, channel="0").images[0].status == "skipped", "nothing is new"
    file.write_text(text.replace(old, new))
    (changed,) = run(path, channel="0").images
    assert "was made from a.zarr before that was last modified" in changed.message
    assert run(path, channel="0", overwrite=True).images[0].status == "done"
