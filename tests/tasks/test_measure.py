"""Labels of any origin are measured as predict measures its own."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellunet.cli.app import main
from cellunet.command_config import PredictConfig
from cellunet.errors import BusyError, CellunetError, InputError
from cellunet.io.files import at_work
from cellunet.tasks import label_images
from cellunet.tasks import measure as module
from cellunet.tasks.measure import measure
from cellunet.tasks.predict.batch import predict
from tests.io.microscope_files import write_lif
from tests.io.zarr_stores import write_store

TABLE = PredictConfig(save=("table",))


def boxes(*numbers):
    labels = np.zeros((20, 40), np.uint16)
    for k, number in enumerate(numbers):
        labels[5:10, 3 + 10 * k : 8 + 10 * k] = number
    return labels


def write(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, **options)
    return path


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run(tmp_path, labels, *images, config=TABLE):
    found = measure(
        str(tmp_path / labels),
        [str(tmp_path / image) for image in images],
        tmp_path / "out",
        config=config,
    )
    table = tmp_path / "out" / "table.csv"
    return found, rows(table) if table.exists() else []


def test_what_labels_were_made_of_is_read_once(tmp_path, monkeypatch) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"labels/{name}_masks.tif", boxes(1))
        write(tmp_path / f"images/{name}.tif", boxes(9))
    read, names = label_images.read_provenance, []

    def counting(path):
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(label_images, "read_provenance", counting)
    found, _ = run(tmp_path, "labels", "images")
    assert [image.objects for image in found.images] == [1, 1]
    assert sorted(names) == ["a_masks.tif", "b_masks.tif"]


def test_each_label_image_finds_the_files_of_its_channels(tmp_path) -> None:
    for site, level in (("A01_s1", 100), ("A02_s1", 200)):
        write(tmp_path / f"labels/{site}_w1_masks.tif", boxes(7, 90_00))
        for k in (1, 2):
            image = np.full((20, 40), level + k, np.uint16)
            write(tmp_path / f"images/{site}_w{k}.tif", image)
    write(tmp_path / "images/B07_s1_w1.tif", boxes())
    found, table = run(tmp_path, "labels", "images")
    assert not found.failed
    assert [
        (r["id"], r["intensity_mean_w1"], r["intensity_mean_w2"]) for r in table
    ] == [
        *(("7", "101", "102"), ("9000", "101", "102")),
        *(("7", "201", "202"), ("9000", "201", "202")),
    ]
    assert "1 image of no label image (B07_s1_w1.tif)" in found.notes[0]


def test_without_images_shapes_are_measured(tmp_path) -> None:
    write(tmp_path / "a.tif", boxes(3))
    _, (row,) = run(tmp_path, "a.tif")
    assert (row["id"], row["area_px"], row["confidence"]) == ("3", "25", "")
    assert not any("intensity" in name for name in row)


def test_a_single_label_image_takes_images_of_any_name(tmp_path) -> None:
    labels, image = boxes(5).astype(np.float32), boxes(9) * 2
    labels[0, 0] = 5
    write(tmp_path / "corrected by hand.tif", labels)
    write(tmp_path / "other.tif", image)
    found, (row,) = run(tmp_path, "corrected by hand.tif", "other.tif")
    assert (row["id"], row["intensity_max"]) == ("5", "18")
    assert found.images[0].notes == ("1 object is in several pieces",)


def test_one_failure_leaves_the_others(tmp_path) -> None:
    write(tmp_path / "l/a.tif", boxes(1))
    write(tmp_path / "l/b.tif", boxes(1).astype(np.float32) / 2)
    write(tmp_path / "l/c.tif", boxes(1))
    write(tmp_path / "i/a.tif", boxes(1))
    write(tmp_path / "i/b.tif", boxes(1))
    write(tmp_path / "i/c.tif", boxes(1)[:10])
    found, table = run(tmp_path, "l", "i")
    assert [row["image"] for row in table] == ["a.tif"]
    assert ["fractions" in f.message for f in found.failed] == [True, False]
    assert "20 x 40 px" in found.failed[1].message


def test_what_is_there_is_skipped_and_replaced_only_if_asked_for(tmp_path) -> None:
    for name in "ab":
        write(tmp_path / f"l/{name}.tif", boxes(1))
    run(tmp_path, "l")
    (tmp_path / "out/b_table.csv").unlink()
    found, table = run(tmp_path, "l")
    assert [(i.skipped, i.objects) for i in found.images] == [(True, None), (False, 1)]
    assert "1 label image was measured before" in found.notes[0]
    assert not found.failed
    assert [row["image"] for row in table] == ["a.tif", "b.tif"]
    write(tmp_path / "l/a.tif", boxes(1, 2))
    found, table = run(tmp_path, "l", config=TABLE.replace(overwrite=True))
    assert [i.objects for i in found.images] == [2, 1]
    assert [row["image"] for row in table] == ["a.tif", "a.tif", "b.tif"]


def test_missing_files_are_added_and_those_that_are_there_stay(tmp_path) -> None:
    write(tmp_path / "l/a.tif", boxes(1))
    write(tmp_path / "l/b.tif", boxes(1))
    run(tmp_path, "l")
    table = tmp_path / "out/a_table.csv"
    before = table.stat().st_mtime_ns, table.stat().st_ino
    config = PredictConfig(save=("table", "coco", "report"))
    found, joined = run(tmp_path, "l", config=config)
    assert not found.failed
    assert found.images[0].files == (str(tmp_path / "out/a_coco.json"),)
    assert (table.stat().st_mtime_ns, table.stat().st_ino) == before
    assert [row["image"] for row in joined] == ["a.tif", "b.tif"]
    (tmp_path / "out/b_table.csv").unlink()
    found, joined = run(tmp_path, "l", config=config)
    assert [image.skipped for image in found.images] == [True, False]
    assert [row["image"] for row in joined] == ["a.tif", "b.tif"]


def test_linked_tables_are_left_as_they_are(tmp_path) -> None:
    stack(tmp_path, "a.tif", boxes(1, 2), boxes(2, 1))
    run(tmp_path, "a.tif")
    linked = TABLE.replace(link_planes=True)
    assert "exists" in run(tmp_path, "a.tif", config=linked)[0].failed[0].message
    run(tmp_path, "a.tif", config=linked.replace(overwrite=True))
    found, table = run(tmp_path, "a.tif", config=linked)
    assert (found.images[0].skipped, len(table)) == (True, 2)
    (failed,) = run(tmp_path, "a.tif")[0].failed
    assert "exists" in failed.message


def test_single_planes_go_on_where_planes_are_linked(tmp_path) -> None:
    for name in "ab":
        write(tmp_path / f"l/{name}.tif", boxes(1))
    linked = PredictConfig(save=("table", "coco"), link_planes=True)
    run(tmp_path, "l", config=linked)
    (tmp_path / "out/b_coco.json").unlink()
    found, table = run(tmp_path, "l", config=linked)
    assert [image.skipped for image in found.images] == [True, False]
    assert [row["image"] for row in table] == ["a.tif", "b.tif"]


def test_joined_files_hold_what_was_finished_before_and_nothing_of_other_calls(
    tmp_path,
) -> None:
    for name in ("l/a", "l/b", "k/d"):
        write(tmp_path / f"{name}.tif", boxes(1))
    config = PredictConfig(save=("table", "coco"))
    run(tmp_path, "l/a.tif", config=config)
    measure(str(tmp_path / "k"), [], tmp_path / "out/other", config=config)
    found, table = run(tmp_path, "l", config=config)
    assert [image.skipped for image in found.images] == [True, False]
    assert sorted(row["image"] for row in table) == ["a.tif", "b.tif"]
    joined = json.loads((tmp_path / "out/coco.json").read_text("ascii"))
    assert len(joined["images"]) == len(joined["annotations"]) == 2


def test_a_report_of_what_was_measured_before_shows_it(tmp_path) -> None:
    write(tmp_path / "a.tif", boxes(1, 2))
    config = PredictConfig(save=("table", "report"))
    run(tmp_path, "a.tif", config=config)
    found, _ = run(tmp_path, "a.tif", config=config)
    assert found.images[0].skipped
    assert "data:image/" in (tmp_path / "out/report.html").read_text("utf-8")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_result_never_replaces_an_image(tmp_path, overwrite) -> None:
    for name in ("masks/a.tif", "images/a.tif"):
        write(tmp_path / name, np.stack([boxes(1), boxes(1, 2)]))
    image = (tmp_path / "images/a.tif").read_bytes()
    config = TABLE.replace(link_planes=True, overwrite=overwrite)
    folders = str(tmp_path / "masks"), [str(tmp_path / "images")]
    with pytest.raises(InputError, match=r"would replace the input .*images.a\.tif"):
        measure(*folders, tmp_path / "images", config=config)
    assert (tmp_path / "images/a.tif").read_bytes() == image


def test_a_single_plane_is_not_called_linked(tmp_path) -> None:
    write(tmp_path / "a.tif", boxes(1))
    found, _ = run(tmp_path, "a.tif", config=TABLE.replace(link_planes=True))
    assert found.images[0].notes == ()


def test_what_is_left_out_of_the_folders_is_told(tmp_path) -> None:
    write(tmp_path / "l/a.tif", boxes(1))
    write(tmp_path / "i/a.tif", boxes(1))
    write(tmp_path / "i/a_thumb.jpg.tif", boxes(1))
    (tmp_path / "i/Thumbs").mkdir()
    write(tmp_path / "i/a_cp_masks.tif", boxes(1))
    found, _ = run(tmp_path, "l", "i")
    assert any(note.startswith("left out: ") for note in found.notes)


def test_labels_that_were_corrected_since_are_not_taken_for_measured(tmp_path) -> None:
    write(tmp_path / "l/a.tif", boxes(1))
    run(tmp_path, "l")
    corrected = tmp_path / "l/a.tif"
    write(corrected, boxes(1, 2))
    later = (tmp_path / "out/a_table.csv").stat().st_mtime + 10
    os.utime(corrected, (later, later))
    found, _ = run(tmp_path, "l")
    assert "changed after it was measured" in found.failed[0].message
    found, table = run(tmp_path, "l", config=TABLE.replace(overwrite=True))
    assert len(table) == 2


def test_results_may_lie_among_the_images(tmp_path) -> None:
    write(tmp_path / "labels/a_masks.tif", boxes(1, 2))
    write(tmp_path / "images/a.tif", boxes(1, 2))
    folders = str(tmp_path / "labels"), [str(tmp_path / "images")]
    for out in (tmp_path / "images", tmp_path):
        for overwrite in (False, True):
            config = PredictConfig(save=("table", "geojson"), overwrite=overwrite)
            (found,) = measure(*folders, out, config=config).images
            assert (found.message, found.objects) == ("", 2)
        assert float(rows(out / "table.csv")[0]["intensity_mean"]) == 1


def test_an_image_of_two_label_images_is_refused(tmp_path) -> None:
    write(tmp_path / "l/x/a.tif", boxes(1))
    write(tmp_path / "l/y/a.tif", boxes(1))
    write(tmp_path / "a.tif", boxes(1))
    with pytest.raises(CellunetError, match="might belong to 2"):
        run(tmp_path, "l", "a.tif")
    write(tmp_path / "i/x/a.tif", boxes(1))
    write(tmp_path / "i/y/a.tif", boxes(2))
    _, table = run(tmp_path, "l", "i")
    assert [r["intensity_mean"] for r in table] == ["1", "2"]


def stack(tmp_path, name, *planes):
    pixels = np.stack(planes)
    write(tmp_path / name, pixels, imagej=True, metadata={"axes": "ZYX"})


def test_one_number_in_several_planes_is_one_object_if_asked(tmp_path) -> None:
    stack(tmp_path, "a.tif", boxes(4, 2), boxes(4, 2), boxes(4))
    found, table = run(tmp_path, "a.tif")
    assert (len(table), found.images[0].objects) == (5, 5)
    assert "not linked" in found.images[0].notes[0]
    linked = TABLE.replace(link_planes=True, overwrite=True)
    found, table = run(tmp_path, "a.tif", config=linked)
    assert found.images[0].objects == 2
    assert {r["id"]: (r["planes"], r["volume_vx"]) for r in table} == {
        "4": ("3", "75"),
        "2": ("2", "50"),
    }


def test_planes_that_begin_anew_are_linked_by_overlap(tmp_path) -> None:
    stack(tmp_path, "a.tif", boxes(1, 2), boxes(2, 1), boxes(0, 1, 2))
    linked = TABLE.replace(link_planes=True)
    found, table = run(tmp_path, "a.tif", config=linked)
    assert found.images[0].objects == 3
    assert "linked by overlap" in found.images[0].notes[1]
    assert {r["id"]: (r["planes"], r["z_first"], r["volume_vx"]) for r in table} == {
        "1": ("2", "0", "50"),
        "2": ("3", "0", "75"),
        "3": ("1", "2", "25"),
    }
    # The numbers of the table are in a label image, named among what was written.
    written = tmp_path / "out" / "a.tif"
    assert str(written) in found.images[0].files
    expected = np.stack([boxes(1, 2), boxes(1, 2), boxes(0, 2, 3)])
    np.testing.assert_array_equal(tifffile.imread(written), expected)
    (tmp_path / "out/a_table.csv").unlink()
    assert "exists" in run(tmp_path, "a.tif", config=linked)[0].failed[0].message


@pytest.mark.parametrize(
    "planes",
    [
        # Numbers that go on overlap; that two objects lie on each other joins nothing.
        (boxes(4, 2), boxes(4, 9), boxes(4, 9)),
        # Nothing lies on anything.
        (boxes(4), boxes(0, 2), boxes(0, 0, 5)),
    ],
)
def test_numbers_that_go_on_stay_as_they_are(tmp_path, planes) -> None:
    stack(tmp_path, "a.tif", *planes)
    found, table = run(tmp_path, "a.tif", config=TABLE.replace(link_planes=True))
    assert {int(r["id"]) for r in table} == set(np.unique(planes)) - {0}
    assert "by the numbers of the labels" in found.images[0].notes[1]
    assert not (tmp_path / "out" / "a.tif").exists()


def test_planes_numbered_through_are_linked_by_overlap(tmp_path) -> None:
    stack(tmp_path, "a.tif", boxes(1, 2), boxes(3, 4))
    _, table = run(tmp_path, "a.tif", config=TABLE.replace(link_planes=True))
    assert [(r["id"], r["planes"]) for r in table] == [("1", "2"), ("2", "2")]


def write_volume(path, axes, lengths, value):
    """Write a stack whose planes are `value(t, z)` in the order that `axes` says."""
    pixels = np.zeros((*lengths, 20, 40), np.uint16)
    for place in np.ndindex(*lengths):
        at = dict(zip(axes, place, strict=True))
        pixels[place] = value(at["T"], at["Z"])
    return write(path, pixels, ome=True, metadata={"axes": f"{axes}YX"})


@pytest.mark.parametrize(("axes", "lengths"), [("TZ", (2, 3)), ("ZT", (3, 2))])
def test_a_linked_object_has_one_row_a_time_in_any_order_of_axes(
    tmp_path, axes, lengths
) -> None:
    write_volume(tmp_path / "a.ome.tif", axes, lengths, lambda t, z: boxes(4 + t))
    _, table = run(tmp_path, "a.ome.tif", config=TABLE.replace(link_planes=True))
    assert [(r["t"], r["id"], r["planes"], r["volume_vx"]) for r in table] == [
        ("0", "4", "3", "75"),
        ("1", "5", "3", "75"),
    ]


def test_planes_of_axes_in_another_order_are_measured_by_letter(tmp_path) -> None:
    write_volume(tmp_path / "l.ome.tif", "TZ", (2, 3), lambda t, z: boxes(1 + t))
    write_volume(tmp_path / "i.ome.tif", "ZT", (3, 2), lambda t, z: 10 * t + z)
    _, table = run(tmp_path, "l.ome.tif", "i.ome.tif")
    found = {(r["id"], int(r["z"]), r["intensity_mean"]) for r in table}
    assert found == {(f"{1 + t}", z, f"{10 * t + z}") for t, z in np.ndindex(2, 3)}


@pytest.mark.parametrize("lengths", [(2, 3), (2, 2)])
def test_planes_whose_axes_a_file_does_not_name_are_taken_in_their_order(
    tmp_path, lengths
) -> None:
    labels = np.stack([boxes(k + 1) for k in range(np.prod(lengths))])
    pixels = labels.reshape(*lengths, 20, 40)
    write(tmp_path / "l.tif", pixels, photometric="minisblack")
    values = iter(range(10, 90, 10))
    write_volume(tmp_path / "i.ome.tif", "ZT", lengths, lambda t, z: next(values))
    _, table = run(tmp_path, "l.tif", "i.ome.tif")
    found = {(int(r["id"]), int(r["intensity_mean"])) for r in table}
    assert found == {(k + 1, 10 * (k + 1)) for k in range(len(labels))}


def test_labels_of_an_ome_zarr_are_linked_over_an_image_of_another_format(
    tmp_path,
) -> None:
    pytest.importorskip("zarr")
    planes = np.stack([boxes(1, 2), boxes(2, 1)])
    write_store(tmp_path / "a.zarr", planes, "zyx")
    write_volume(tmp_path / "a.ome.tif", "TZ", (1, 2), lambda t, z: 5)
    linked = TABLE.replace(link_planes=True)
    found, table = run(tmp_path, "a.zarr", "a.ome.tif", config=linked)
    assert found.failed == ()
    assert [(r["id"], r["planes"]) for r in table] == [("1", "2"), ("2", "2")]
    assert (tmp_path / "out" / "a.zarr").is_dir()


def test_planes_of_other_lengths_are_refused_with_their_axes(tmp_path) -> None:
    write_volume(tmp_path / "l.ome.tif", "TZ", (2, 3), lambda t, z: boxes(1))
    write_volume(tmp_path / "i.ome.tif", "ZT", (2, 3), lambda t, z: t + z)
    found, _ = run(tmp_path, "l.ome.tif", "i.ome.tif")
    message = found.failed[0].message
    assert "l.ome.tif is 2 x 3 x 20 x 40 px (TZYX)" in message
    assert "i.ome.tif is 2 x 3 x 20 x 40 px (ZTYX)" in message


def test_files_of_channels_in_another_order_of_axes_are_refused(tmp_path) -> None:
    for name, axes in (("a_w1", "TZ"), ("a_w2", "ZT")):
        write_volume(tmp_path / f"i/{name}.ome.tif", axes, (2, 2), lambda t, z: t + z)
    write_volume(tmp_path / "l/a.ome.tif", "TZ", (2, 2), lambda t, z: boxes(1))
    found, _ = run(tmp_path, "l", "i")
    assert "(ZTYX)" in found.failed[0].message


def test_lost_parts_are_named_and_the_exit_code_says_so(tmp_path, capsys) -> None:
    write(tmp_path / "a_masks.tif", boxes(1, 2))
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, boxes(9, 8), rowsperstrip=5, compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[0].dataoffsets[1]
    content = bytearray(path.read_bytes())
    content[place : place + 8] = b"rubbish!"
    path.write_bytes(content)
    labels, out = str(tmp_path / "a_masks.tif"), str(tmp_path / "out")
    words = ["measure", labels, str(path), "--out", out, "--keep-going"]
    assert main([*words, "--save", "table", "--save", "report"]) == 3
    told = " ".join(capsys.readouterr().err.split())
    assert "warning: " in told
    assert "strip at x 0 to 39, y 5 to 9 of plane 0" in told
    assert "could not be read" in (tmp_path / "out/report.html").read_text("utf-8")
    assert main(["--json", *words, "--overwrite"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["type"] == "InputsDamaged"
    assert "Images of 1 of 1 label image are damaged" in document["error"]["message"]
    (image,) = document["result"]["images"]
    assert [(d["y0"], d["y1"]) for d in image["damaged"]] == [(5, 10)]


def test_another_command_at_work_in_the_folder_is_named(tmp_path) -> None:
    write(tmp_path / "a.tif", boxes(1))
    with at_work(tmp_path / "out"), pytest.raises(BusyError, match="being written"):
        run(tmp_path, "a.tif")


def test_all_channels_of_a_file_are_measured(tmp_path) -> None:
    pixels = np.stack([np.full((20, 40), n, np.uint16) for n in (3, 5)])
    options = {"ome": True, "metadata": {"axes": "CYX"}}
    options["metadata"]["Channel"] = {"Name": ["DAPI", "GFP"]}
    write(tmp_path / "i/a.ome.tif", pixels, **options)
    write(tmp_path / "l/a.tif", boxes(1))
    _, (row,) = run(tmp_path, "l", "i")
    assert (row["intensity_mean_DAPI"], row["intensity_mean_GFP"]) == ("3", "5")


def test_one_image_of_several_is_measured(tmp_path) -> None:
    path = tmp_path / "i/a.ome.tif"
    path.parent.mkdir()
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for value, name in ((3, "one"), (5, "two")):
            pixels = np.full((20, 40), value, np.uint16)
            tiff.write(pixels, metadata={"axes": "YX", "Name": name})
    write(tmp_path / "l/a.tif", boxes(1))
    for image, mean in (("1", "5"), ("one", "3")):
        config = TABLE.replace(image=image, overwrite=True)
        assert run(tmp_path, "l", "i", config=config)[1][0]["intensity_mean"] == mean
    with pytest.raises(CellunetError, match="not on all"):
        run(tmp_path, "l", "i", config=TABLE.replace(image="all"))


def test_labels_of_a_level_are_measured_on_it(
    tmp_path, tiny_model, nuclei_image
) -> None:
    pixels = np.kron(nuclei_image((80, 100), 12, 5)[0], np.ones((2, 2), np.uint16))
    path = tmp_path / "i/a.tif"
    path.parent.mkdir()
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(pixels, subifds=1)
        tiff.write(pixels[::2, ::2], subfiletype=1)
    model, config = str(tiny_model.folder), TABLE.replace(level=1)
    predict([str(path)], tmp_path / "l", model=model, config=config, threads=1)
    found, measured = run(tmp_path, "l/a.tif", "i")
    assert not found.failed, found.failed
    expected = rows(tmp_path / "l" / "table.csv")
    assert len(expected) > 3
    for name in ("area_px", "intensity_mean"):
        assert [r[name] for r in measured] == [r[name] for r in expected]
    tifffile.imwrite(tmp_path / "b.tif", pixels)
    anew = TABLE.replace(overwrite=True)
    (failed,) = run(tmp_path, "l/a.tif", "b.tif", config=anew)[0].failed
    assert "of a smaller level of it: --level N." in failed.message


def test_a_report_shows_what_was_measured_and_what_failed(tmp_path) -> None:
    write(tmp_path / "l/a.tif", boxes(1, 2))
    write(tmp_path / "l/b.tif", boxes(1).astype(np.float32) / 2)
    for name in ("a", "b"):
        write(tmp_path / f"i/{name}.tif", boxes(9, 9))
    found, _ = run(tmp_path, "l", "i", config=PredictConfig(save=("report",)))
    assert found.report == str(tmp_path / "out" / "report.html")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Measurement report" in page
    assert "2 objects in 1 image" in page
    assert page.count("data:image/webp") == 1
    assert "fractions" in page
    # No model made them, and nothing is said of one.
    body = page.partition("<body>")[2].partition("<script>")[0]
    assert not re.search("confidence|<h3>Model", body, re.IGNORECASE)


def test_outlines_are_shown_without_an_image(tmp_path) -> None:
    write(tmp_path / "a.tif", boxes(1, 2))
    run(tmp_path, "a.tif", config=PredictConfig(save=("report",)))
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Outlines of 2 objects" in page


def test_a_coco_file_has_all_objects(tmp_path) -> None:
    write(tmp_path / "l/a.tif", boxes(7))
    write(tmp_path / "l/b.tif", boxes(1, 90))
    found, _ = run(tmp_path, "l", config=PredictConfig(save=("coco",)))
    assert found.coco == str(tmp_path / "out" / "coco.json")
    made = json.loads((tmp_path / "out" / "coco.json").read_bytes())
    assert [(a["image_id"], a["label"]) for a in made["annotations"]] == [
        *((1, 7), (2, 1), (2, 90)),
    ]


def test_all_is_measured_with_a_frame_for_trackers(tmp_path) -> None:
    pixels = np.stack([boxes(1), boxes(1, 2)])
    write(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": "TYX"})
    write(tmp_path / "i.tif", pixels, imagej=True, metadata={"axes": "TYX"})
    every = TABLE.replace(measure="all")
    _, table = run(tmp_path, "a.tif", "i.tif", config=every)
    assert [(r["frame"], r["id"]) for r in table] == [
        ("0", "1"),
        ("1", "1"),
        ("1", "2"),
    ]
    assert [r["intensity_median"] for r in table] == ["1", "1", "2"]
    assert {r["background"] for r in table} == {"0"}


def test_images_beside_marked_labels_are_not_taken_for_labels(tmp_path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"data/{name}.tif", boxes(9))
        write(tmp_path / f"data/{name}_masks.tif", boxes(3))
    write(tmp_path / "data/c.tif", boxes(9))
    for images in ((), ("data",)):
        found, table = run(tmp_path, "data", *images)
        assert [row["id"] for row in table] == ["3", "3"]
        assert any("marked label images" in note for note in found.notes)


def test_intensities_are_told_and_classes_of_many_objects_are_not(tmp_path) -> None:
    picture = np.random.default_rng(0).integers(100, 160, (64, 64), dtype=np.uint16)
    write(tmp_path / "l/picture.tif", picture)
    classes = np.zeros((64, 64), np.uint8)
    classes[::3, ::3] = 1 + (np.arange(22) % 2)
    write(tmp_path / "l/classes.tif", classes)
    found, _ = run(tmp_path, "l")
    told = ["looks like an intensity image" in str(i.notes) for i in found.images]
    assert told == [False, True]


def means(table):
    """Return the mean intensities of each image by channel."""
    start = "intensity_mean"
    return {
        row["image"]: {
            k[len(start) :]: v for k, v in row.items() if k.startswith(start)
        }
        for row in table
    }


def test_images_in_folders_of_other_plates_are_no_channels(tmp_path) -> None:
    for plate, value in (("P1", 1), ("P2", 2)):
        for name in "ab":
            write(tmp_path / f"i/{plate}/{name}.tif", np.full((20, 40), value))
    (tmp_path / "i/P1/b.tif").unlink()
    for name in "ab":
        write(tmp_path / f"l/P1/{name}.tif", boxes(1))
    for labels, plate in (("l", "P1/"), ("l/P1", "")):
        found, table = run(tmp_path, labels, "i", config=TABLE.replace(overwrite=True))
        assert means(table) == {f"{plate}a.tif": {"": "1"}}
        assert "No image belongs to" in found.failed[0].message
        assert "2 images of no label image" in found.notes[0]
    (failed,) = run(tmp_path, "l/P1/b.tif", "i")[0].failed
    assert "No image belongs to" in failed.message


def test_folders_of_times_and_of_plates_are_no_channels(tmp_path) -> None:
    for folder in ("TimePoint_1", "TimePoint_2", "x", "y"):
        write(tmp_path / f"i/{folder}/p_A01_s1.tif", boxes(1))
    write(tmp_path / "l/p_A01_s1.tif", boxes(1))
    with pytest.raises(InputError, match="are no channels of one place"):
        run(tmp_path, "l", "i")
    for time in (1, 2):
        (tmp_path / f"i/TimePoint_{time}/p_A01_s1.tif").unlink()
    assert means(run(tmp_path, "l", "i")[1])["p_A01_s1.tif"] == {"_x": "1", "_y": "1"}
    plates = TABLE.replace(plate_pattern=r"(?P<plate>\w)/p_(?P<well>A01)")
    with pytest.raises(InputError, match="are no channels of one place"):
        run(tmp_path, "l", "i", config=plates)


def test_folders_of_channels_name_the_columns(tmp_path) -> None:
    for channel, value in (("DAPI", 1), ("GFP", 2)):
        for name in ("a", "b_w1", "b_w2"):
            image = np.full((20, 40), value, np.uint16)
            write(tmp_path / f"i/{channel}/{name}.tif", image)
    for name in ("a", "b"):
        write(tmp_path / f"l/{name}_masks.tif", boxes(1))
    known = means(run(tmp_path, "l", "i")[1])
    assert {k: v for k, v in known["a_masks.tif"].items() if v} == {
        "_DAPI": "1",
        "_GFP": "2",
    }
    assert {k: v for k, v in known["b_masks.tif"].items() if v} == {
        **{"_DAPI_w1": "1", "_DAPI_w2": "1"},
        **{"_GFP_w1": "2", "_GFP_w2": "2"},
    }


def test_folders_are_known_however_they_are_named(tmp_path, monkeypatch) -> None:
    for channel, value in (("DAPI", 1), ("GFP", 2)):
        write(tmp_path / channel / "a.tif", np.full((20, 40), value, np.uint16))
    write(tmp_path / "l/a.tif", boxes(1))
    monkeypatch.chdir(tmp_path / "DAPI")
    for images in ((".", "../GFP"), (".", str(tmp_path / "GFP"))):
        measure("../l", images, tmp_path / "out", config=TABLE.replace(overwrite=True))
        known = means(rows(tmp_path / "out/table.csv"))
        assert known == {"a.tif": {"_DAPI": "1", "_GFP": "2"}}


def test_folders_of_channels_are_known_by_the_pattern(tmp_path) -> None:
    for plate in ("P1", "P2"):
        write(tmp_path / f"l/{plate}/DAPI/A01.tif", boxes(1))
        for channel, value in (("DAPI", 1), ("GFP", 2)):
            image = np.full((20, 40), value, np.uint16)
            write(tmp_path / f"i/{plate}/{channel}/A01.tif", image)
    pattern = r"(?P<plate>P\d)/(?P<channel>\w+)/(?P<well>[A-H]\d\d)"
    _, table = run(tmp_path, "l", "i", config=TABLE.replace(plate_pattern=pattern))
    expected = {"_DAPI": "1", "_GFP": "2"}
    assert means(table) == {f"{plate}/DAPI/A01.tif": expected for plate in ("P1", "P2")}
    assert [row["plate"] for row in table] == ["P1", "P2"]


def test_labels_of_scenes_are_known_by_their_names_and_folders(tmp_path) -> None:
    pytest.importorskip("liffile")
    for folder, value in (("x", 10), ("y", 20)):
        (tmp_path / "i" / folder).mkdir(parents=True)
        scenes = {
            name: np.full((20, 40), value + k, np.uint16)
            for k, name in enumerate(("Left", "Right"))
        }
        write_lif(tmp_path / "i" / folder / "a.lif", scenes)
        for k, name in enumerate(scenes):
            write(tmp_path / f"l/{folder}/a_{k}_{name}_masks.tif", boxes(1))
    found, table = run(tmp_path, "l", "i")
    assert not found.failed
    assert [row["intensity_mean"] for row in table] == ["10", "11", "20", "21"]
    anew = TABLE.replace(overwrite=True)
    one = "l/y/a_1_Right_masks.tif", "i/y/a.lif"
    assert run(tmp_path, *one, config=anew)[1][0]["intensity_mean"] == "21"
    write(tmp_path / "corrected.tif", boxes(1))
    (failed,) = run(tmp_path, "corrected.tif", "i/x/a.lif")[0].failed
    assert "holds 2 scenes, and nothing tells of which" in failed.message


def test_label_images_are_not_measured_on_those_beside_them(tmp_path, capsys) -> None:
    picture = np.random.default_rng(0).integers(0, 9000, (64, 64), dtype=np.uint16)
    labels = np.kron(boxes(1, 2, 3), np.ones((4, 4), np.uint16))[:64, :64]
    for name in ("a", "b"):
        write(tmp_path / f"l/{name}.tif", labels)
        write(tmp_path / f"i/{name}.tif", picture)
    files, out = sorted(map(str, (tmp_path / "l").iterdir())), str(tmp_path / "out")
    for images in ([], [str(tmp_path / "i")]):
        assert main(["measure", *files, *images, "--out", out]) == 1
        told = " ".join(capsys.readouterr().err.split())
        assert "b.tif is a label image, but is given as an image of" in told
        assert "in quotes, as in cellunet measure '" in told
    write(tmp_path / "l/ch1.tif", picture)
    found, _ = run(tmp_path, "l/a.tif", "l/ch1.tif")
    assert found.images[0].objects == 2


def test_pages_without_a_name_are_linked_as_z_if_asked(tmp_path) -> None:
    for name in ("a", "i/a"):
        pages = np.stack([boxes(1, 2), boxes(2, 1)])
        write(tmp_path / f"{name}.tif", pages, photometric="minisblack")
    linked = TABLE.replace(link_planes=True, overwrite=True)
    for images in ((), ("i",)):
        (image,) = run(tmp_path, "a.tif", *images, config=linked)[0].images
        assert "none linked: its 2 planes are times, not Z (--pages z" in image.notes[0]
        table = run(tmp_path, "a.tif", *images, config=linked.replace(pages="z"))[1]
        assert [(r["id"], r["planes"]) for r in table] == [("1", "2"), ("2", "2")]


def test_an_image_too_large_for_memory_leaves_the_others(tmp_path, monkeypatch) -> None:
    for name in "ab":
        write(tmp_path / f"l/{name}.tif", boxes(1))
    planes = module.label_planes

    def full(source):
        if source.path.name == "a.tif":
            raise MemoryError
        return planes(source)

    monkeypatch.setattr(module, "label_planes", full)
    found, table = run(tmp_path, "l")
    assert "does not fit into memory" in found.failed[0].message
    assert not found.bugs
    assert [row["image"] for row in table] == ["b.tif"]


@pytest.mark.parametrize("color", ["RGB", "P"])
def test_labels_in_color_are_refused_with_what_makes_labels(
    tmp_path, color, capsys
) -> None:
    pixels = Image.fromarray(boxes(1, 2).astype(np.uint8), "P")
    pixels.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    pixels.convert(color).save(tmp_path / "a.png")
    (failed,) = run(tmp_path, "a.png")[0].failed
    assert "has the channels red, green, blue; a label image has one" in failed.message
    line = failed.message.partition(": cellunet ")[2].removesuffix(".")
    words = shlex.split(line.replace("DIR", str(tmp_path / "made")))
    assert main(words) == 0
    (image,) = run(tmp_path, "made/labels")[0].images
    assert image.objects == 2


def test_labels_of_several_channels_are_refused_with_what_helps(tmp_path) -> None:
    options = {"imagej": True, "metadata": {"axes": "CYX"}}
    write(tmp_path / "a.tif", np.stack([boxes(1), boxes(2)]), **options)
    (failed,) = run(tmp_path, "a.tif")[0].failed
    assert "Save each channel of labels as a file of its own" in failed.message


def test_quiet_leaves_notes_out(tmp_path, capsys) -> None:
    stack(tmp_path, "a.tif", boxes(1), boxes(1))
    words = ["measure", str(tmp_path / "a.tif"), "--out", str(tmp_path / "out")]
    told = []
    for quiet in ([], ["--quiet"]):
        assert main([*words, "--overwrite", *quiet]) == 0
        told.append("note: " in capsys.readouterr().out)
    assert told == [True, False]
