"""Tables, ROIs and detections of whole runs, and what a second run does with them."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import zipfile

import numpy as np
import pyarrow.parquet
import pytest
import roifile
import tifffile

from cellunet.command_config import PredictConfig
from cellunet.errors import ConfigError, OutputError
from cellunet.tasks.predict import outputs
from cellunet.tasks.predict import settings as recipe
from cellunet.tasks.predict.batch import predict
from tests.imaging.test_outlines import fill

SAVE = ("rois", "geojson", "coco", "table")


@pytest.fixture
def run(tiny_model, tmp_path):
    def call(*inputs: object, out=None, stdin=None, stop=None, dry=False, **options):
        options = {"save": SAVE} | options
        return predict(
            [str(text) for text in inputs],
            out or tmp_path / "out",
            model=str(tiny_model.folder),
            threads=1,
            config=PredictConfig(**options),
            stdin=stdin,
            dry_run=dry,
            should_stop=stop or (lambda: False),
        )

    return call


@pytest.fixture
def folder(tmp_path, nuclei_image):
    images = tmp_path / "in"
    (images / "b").mkdir(parents=True)
    for number, name in enumerate(("=a.tif", "b/x.tif", "c.tif")):
        tifffile.imwrite(images / name, nuclei_image((64, 72), 8, number)[0])
    return images


def rows(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_tables_rois_and_detections(run, folder, tmp_path) -> None:
    found = run(folder)
    out = tmp_path / "out"
    assert found.table == str(out / "table.csv")
    assert {i.status for i in found.images} == {"done"}
    for name in ("=a", "b/x", "c"):
        labels = tifffile.imread(out / f"{name}.tif")
        table = rows(out / f"{name}_table.csv")
        assert [int(row["id"]) for row in table] == list(range(1, labels.max() + 1))
        areas = np.bincount(labels.ravel())[1:]
        assert [int(row["area_px"]) for row in table] == areas.tolist()
        rois = roifile.roiread(out / f"{name}_rois.zip")
        features = json.loads((out / f"{name}.geojson").read_bytes())["features"]
        assert len(rois) == len(features) == labels.max()
        for number, (roi, feature) in enumerate(zip(rois, features, strict=True), 1):
            assert int(roi.name) == int(feature["properties"]["name"]) == number
            rings = [ring.astype(float) for ring in roi.coordinates(multi=True)]
            np.testing.assert_array_equal(fill([rings], labels.shape), labels == number)
            measured = feature["properties"]["measurements"]
            row = table[number - 1]
            assert measured["area_px"] == int(row["area_px"])
            assert measured["confidence"] == float(row["confidence"])


def test_the_table_of_a_run_names_images_by_their_path(run, folder, tmp_path) -> None:
    found = run(folder)
    joined = rows(tmp_path / "out" / "table.csv")
    counts = [i.objects for i in found.images]
    names = ["./=a.tif"] * counts[0] + ["b/x.tif"] * counts[1] + ["c.tif"] * counts[2]
    assert [row["image"] for row in joined] == names
    parts = [
        row
        for part in ("=a", "b/x", "c")
        for row in rows(tmp_path / "out" / f"{part}_table.csv")
    ]
    assert joined == parts


def test_a_rerun_completes_what_is_missing_and_joins_all(run, folder, tmp_path) -> None:
    run(folder)
    out = tmp_path / "out"
    whole = (out / "table.csv").read_bytes()
    (out / "table.csv").unlink()
    (out / "c_rois.zip").unlink()
    found = run(folder)
    assert [i.added for i in found.images] == [(), (), ("rois",)]
    assert (out / "table.csv").read_bytes() == whole
    assert (out / "c_rois.zip").exists()
    (out / "c_table.csv").unlink()
    found = run(folder)
    assert [i.status for i in found.images] == ["skipped", "skipped", "done"]
    assert "--save table" in found.done[0].notes[0]


@pytest.mark.parametrize("linked", [False, True])
def test_files_that_follow_from_labels_are_added_as_the_first_run_writes_them(
    linked, run, tmp_path, nuclei_image, monkeypatch
) -> None:
    stack = np.stack([nuclei_image((64, 72), 8, number)[0] for number in range(2)])
    tifffile.imwrite(tmp_path / "s.ome.tif", stack, metadata={"axes": "ZYX"})
    kinds = ("outlines", "rois")
    once = tmp_path / "once"
    run(tmp_path / "s.ome.tif", save=kinds, link_planes=linked, out=once)
    run(tmp_path / "s.ome.tif", save=(), link_planes=linked)

    def computed(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("cellunet.tasks.predict.image.segment", computed)
    found = run(tmp_path / "s.ome.tif", save=kinds, link_planes=linked)
    assert [(i.status, i.added) for i in found.images] == [("skipped", kinds)]
    names = sorted(path.name for path in once.iterdir())
    assert names == ["s.tif", "s_outlines.png", "s_outlines_1.png", "s_rois.zip"]
    added = tmp_path / "out"
    for name in names[:3]:
        assert (added / name).read_bytes() == (once / name).read_bytes()
    with (
        zipfile.ZipFile(added / "s_rois.zip") as one,
        zipfile.ZipFile(once / "s_rois.zip") as other,
    ):
        # In the order of the numbers, which linked planes do not begin at 1.
        assert {n: one.read(n) for n in one.namelist()} == {
            n: other.read(n) for n in other.namelist()
        }
    # Less that is asked for is there, too.
    assert run(tmp_path / "s.ome.tif", save=(), link_planes=linked).skipped


def test_files_beside_labels_made_again_are_still_known(run, folder, tmp_path) -> None:
    run(folder / "c.tif", save=("rois", "table"), measure="all")
    run(folder / "c.tif", save=(), overwrite=True)
    kinds = {"save": ("rois", "table"), "measure": "all"}
    assert run(folder / "c.tif", **kinds).skipped, "both are of the same labels"
    run(folder / "c.tif", save=(), min_area_px=60, overwrite=True)
    assert [p.name for p in (tmp_path / "out").glob("c*")] == ["c.tif"]


def test_no_file_of_a_whole_run_tells_of_replaced_labels(run, folder, tmp_path) -> None:
    out = tmp_path / "out"
    joined = ("coco.json", "report.html", "table.csv")

    def left() -> tuple[str, ...]:
        return tuple(name for name in joined if (out / name).exists())

    run(folder, save=("coco", "report", "table"))
    run(folder, save=(), overwrite=True)
    assert left() == joined, "they are of the same labels"
    run(folder, save=(), min_area_px=60, overwrite=True)
    assert left() == ()
    (out / "table.csv").write_text("mine", encoding="utf-8")
    run(folder, save=("coco",), min_area_px=61, overwrite=True)
    run(folder, save=(), min_area_px=62, overwrite=True)
    assert left() == ("table.csv",)


@pytest.mark.parametrize("kept", ["samples", "table_format", "measure"])
def test_rois_are_added_beside_a_table_of_any_settings(
    kept, run, folder, tmp_path
) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("file,dose\nc.tif,2\n", encoding="utf-8")
    values = {"samples": str(sheet), "table_format": "parquet", "measure": "all"}
    asked = {kept: values[kept]}
    run(folder / "c.tif", save=("table",), **asked)
    (added,) = run(folder / "c.tif", save=("table", "rois"), **asked).images
    assert (added.status, added.added, added.message) == ("skipped", ("rois",), "")
    assert (tmp_path / "out" / "c_rois.zip").exists()


def test_a_file_of_other_labels_is_not_taken_for_one_of_these(run, folder, tmp_path):
    rois = tmp_path / "out" / "c_rois.zip"
    run(folder / "c.tif", save=())
    rois.write_bytes(b"mine")
    (failed,) = run(folder / "c.tif", save=("rois",)).failed
    assert "c_rois.zip exists, but was not made with the c.tif" in failed.message
    run(folder / "c.tif", save=(), min_area_px=60, overwrite=True)
    assert rois.read_bytes() == b"mine"
    again = {"save": ("rois",), "min_area_px": 60}
    (image,) = run(folder / "c.tif", overwrite=True, **again).images
    assert (image.status, image.added) == ("done", ())
    labels = tifffile.imread(tmp_path / "out" / "c.tif")
    assert len(roifile.roiread(rois)) == labels.max()


def test_files_of_replaced_labels_are_not_taken_for_those_of_the_new_ones(
    run, folder, tmp_path, monkeypatch
) -> None:
    save = ("rois", "table", "geojson", "coco", "classes")
    (first,) = run(folder / "c.tif", save=save).images
    areas = np.bincount(tifffile.imread(tmp_path / "out" / "c.tif").ravel())[1:]
    options = {"save": save, "min_area_px": int(np.median(areas))}

    def fail(*_: object) -> None:
        raise OutputError("No room.")

    with monkeypatch.context() as patch:
        patch.setattr(outputs.OptionalOutputs, "commit", fail)
        assert run(folder / "c.tif", **options, overwrite=True).failed
    # The labels are the new ones, and nothing of the earlier ones is beside them.
    left = sorted(p.name for p in (tmp_path / "out").glob("c*"))
    assert left == ["c.tif"]
    (image,) = run(folder / "c.tif", **options).images
    assert image.status == "done"
    assert 0 < image.objects < first.objects
    assert len(roifile.roiread(tmp_path / "out" / "c_rois.zip")) == image.objects
    assert len(rows(tmp_path / "out" / "c_table.csv")) == image.objects


def test_pictures_of_replaced_labels_go_and_are_not_linked(
    run, tmp_path, nuclei_image
) -> None:
    stack = np.stack([nuclei_image((64, 72), 8, number)[0] for number in range(3)])
    tifffile.imwrite(tmp_path / "s.ome.tif", stack, metadata={"axes": "ZYX"})
    kinds = ("outlines", "report")
    report = tmp_path / "out" / "report.html"
    run(tmp_path / "s.ome.tif", save=kinds)
    run(tmp_path / "s.ome.tif", save=("report",))
    assert "s_outlines.png" in report.read_text("utf-8")
    mine = tmp_path / "out" / "s_outlines_3.png"
    mine.write_bytes(b"mine")
    run(tmp_path / "s.ome.tif", save=kinds, z="max", overwrite=True)
    pictures = sorted(p.name for p in mine.parent.glob("*.png"))
    assert pictures == ["s_outlines.png", "s_outlines_3.png"]
    run(tmp_path / "s.ome.tif", save=("report",), overwrite=True)
    assert [p.name for p in mine.parent.glob("*.png")] == ["s_outlines_3.png"]
    (mine.parent / "s_outlines.png").write_bytes(b"mine")
    run(tmp_path / "s.ome.tif", save=("report",))
    assert "s_outlines.png" not in report.read_text("utf-8")


def test_what_is_measured_otherwise_is_refused_only_where_it_was_measured(
    run, folder
) -> None:
    run(folder / "c.tif", save=("rois",))
    everything = {"save": ("table",), "measure": "all"}
    assert run(folder / "c.tif", **everything).done
    assert run(folder / "c.tif", save=("rois",)).skipped
    (failed,) = run(folder / "c.tif", save=("table",)).failed
    assert "was made with measure all (now basic)" in failed.message


def test_a_batch_has_one_coco_file_of_all_its_images(run, folder, tmp_path) -> None:
    found = run(folder, save=("coco",))
    out = tmp_path / "out"
    assert found.coco == str(out / "coco.json")
    whole = json.loads((out / "coco.json").read_bytes())
    names = [image["file_name"] for image in whole["images"]]
    assert names == ["=a.tif", "b/x.tif", "c.tif"]
    assert len(whole["annotations"]) == sum(i.objects for i in found.done)
    assert all(0 < one["score"] < 1 for one in whole["annotations"])
    (out / "c_coco.json").unlink()
    assert [i.status for i in run(folder, save=("coco",)).images][-1] == "done"
    assert json.loads((out / "coco.json").read_bytes()) == whole
    (out / "coco.json").write_text("{}", encoding="ascii")
    with pytest.raises(OutputError, match="no COCO file of cellunet"):
        run(folder, save=("coco",))


def test_the_tile_changes_no_file(run, folder, tmp_path) -> None:
    run(folder / "c.tif", save=(*SAVE, "classes", "probabilities", "outlines"))
    small = tmp_path / "small"
    everything = (*SAVE, "classes", "probabilities", "outlines")
    run(folder / "c.tif", save=everything, tile_px=64, out=small)
    for path in small.iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes(), path


def test_parquet_tables_hold_the_same(run, folder, tmp_path) -> None:
    run(folder, save=("table",))
    other = tmp_path / "parquet"
    found = run(folder, save=("table",), table_format="parquet", out=other)
    assert found.table == str(other / "table.parquet")
    assert found.settings["table_format"] == "parquet"
    table = pyarrow.parquet.read_table(other / "table.parquet")
    texts = rows(tmp_path / "out" / "table.csv")
    assert table["image"].to_pylist()[0] == "=a.tif"
    for name in ("id", "area_px", "x_px", "solidity", "confidence"):
        values = [float(row[name]) for row in texts]
        assert table[name].to_pylist() == pytest.approx(values, rel=1e-8)


def test_a_format_without_a_table_is_refused() -> None:
    with pytest.raises(ConfigError, match="no table is saved") as caught:
        PredictConfig(table_format="parquet")
    assert caught.value.hint == "Add: --save table."


def test_a_table_of_another_format_lies_beside_the_first(run, folder, tmp_path) -> None:
    run(folder / "c.tif", save=("table",))
    whole = (tmp_path / "out" / "c_table.csv").read_bytes()
    again = {"save": ("table",), "table_format": "parquet"}
    assert run(folder / "c.tif", **again).done
    assert run(folder / "c.tif", **again).skipped
    assert (tmp_path / "out" / "c_table.parquet").exists()
    assert (tmp_path / "out" / "c_table.csv").read_bytes() == whole
    run(folder / "c.tif", save=(), min_area_px=60, overwrite=True)
    assert not [*(tmp_path / "out").glob("c_table.*")], "both are of earlier labels"


def test_a_file_of_others_in_the_tables_place_is_kept(run, folder, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "table.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="no table of cellunet"):
        run(folder)
    assert [p.name for p in out.iterdir()] == ["table.csv"]
    run(folder, overwrite=True)
    assert len(rows(out / "table.csv")) > 10


def test_a_dry_run_writes_no_table(run, folder, tmp_path) -> None:
    assert run(folder, dry=True).table is None
    assert not (tmp_path / "out").exists()
    run(folder)
    (tmp_path / "out" / "table.csv").unlink()
    found = run(folder, dry=True)
    assert len(found.skipped) == 3
    assert found.table is None
    assert not (tmp_path / "out" / "table.csv").exists()


def test_a_stop_joins_what_is_finished_and_leaves_no_parts(
    run, folder, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(recipe, "MOST_AT_ONCE", 1)
    calls = iter(range(99))
    found = run(folder, stop=lambda: next(calls) >= 7, diameter_px="model")
    assert found.stopped
    assert len(found.done) == 1
    names = sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file())
    own = ["=a.geojson", "=a.tif", "=a_coco.json", "=a_rois.zip", "=a_table.csv"]
    assert names == [*own, "coco.json", "table.csv"]


def test_a_bad_image_costs_only_its_own_rows(run, folder, tmp_path) -> None:
    (folder / "bad.tif").write_bytes(b"no image")
    found = run(folder)
    assert len(found.failed) == 1
    images = {row["image"] for row in rows(tmp_path / "out" / "table.csv")}
    assert images == {"./=a.tif", "b/x.tif", "c.tif"}
    assert run(folder / "bad.tif", out=tmp_path / "other").table is None


def test_a_full_disk_leaves_complete_files_only(
    run, folder, tmp_path, monkeypatch
) -> None:
    sync, calls = os.fsync, iter(range(99))

    def fill_up(file: int) -> None:
        if next(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    monkeypatch.setattr(os, "fsync", fill_up)
    (image,) = run(folder / "c.tif").images
    assert "no room" in image.message
    left = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert left == ["c.tif", "c_rois.zip"]
    # The labels are there, but not everything that was asked for.
    assert run(folder / "c.tif").done


def test_planes_of_a_stack_are_told_apart(run, tmp_path, nuclei_image) -> None:
    stack = np.stack([nuclei_image((64, 72), 8, seed)[0] for seed in range(3)])
    tifffile.imwrite(tmp_path / "s.ome.tif", stack, metadata={"axes": "ZYX"})
    run(tmp_path / "s.ome.tif")
    labels = tifffile.imread(tmp_path / "out" / "s.tif")
    found = rows(tmp_path / "out" / "table.csv")
    for z in range(3):
        here = [row for row in found if row["z"] == str(z)]
        assert len(here) == labels[z].max()
        assert {row["t"] for row in here} == {""}
    rois = roifile.roiread(tmp_path / "out" / "s_rois.zip")
    assert len({roi.name for roi in rois}) == len(rois) == len(found)
    assert {roi.position for roi in rois} == {1, 2, 3}
    features = json.loads((tmp_path / "out" / "s.geojson").read_bytes())["features"]
    assert {f["geometry"]["plane"]["z"] for f in features} == {0, 1, 2}


@pytest.mark.parametrize("suffix", [".ome.tif", ".zarr"])
def test_rois_of_projections_stand_on_the_frames_of_the_image(
    suffix, run, tmp_path, nuclei_image
) -> None:
    stack = np.stack([nuclei_image((64, 72), 8, seed)[0] for seed in range(6)])
    stack = stack.reshape(2, 3, 64, 72)
    path = tmp_path / f"s{suffix}"
    if suffix == ".zarr":
        pytest.importorskip("zarr", "3")
        from tests.io.zarr_stores import write_store

        write_store(path, stack, "tzyx")
    else:
        tifffile.imwrite(path, stack, metadata={"axes": "TZYX"})
    run(path, save=("rois",), z="max")
    rois = roifile.roiread(tmp_path / "out" / "s_rois.zip")
    places = {(roi.position, roi.z_position, roi.t_position) for roi in rois}
    assert places == {(0, 0, 1), (0, 0, 2)}


def test_the_pixel_size_makes_micrometres(run, tmp_path, nuclei_image) -> None:
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "axes": "YX"}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", nuclei_image((64, 72), 8)[0], metadata=size
    )
    run(tmp_path / "a.ome.tif")
    for row in rows(tmp_path / "out" / "table.csv"):
        assert float(row["area_um2"]) == int(row["area_px"]) / 4


def test_a_list_may_be_separated_by_nul(run, folder) -> None:
    text = "\0".join(str(folder / name) for name in ("=a.tif", "c.tif")) + "\0"
    assert len(run("-", stdin=io.StringIO(text)).done) == 2
