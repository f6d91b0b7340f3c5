"""Prediction of levels, at a pixel size, around damage, of other formats and shapes."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import roifile
import tifffile

from cellunet.command_config import PredictConfig
from cellunet.errors import ConfigError, OutputError
from cellunet.imaging.measure import IN_UNITS, measure_labels
from cellunet.io.images import open_image
from cellunet.io.label_tiff import read_provenance
from cellunet.io.tiff import TiffSource
from cellunet.tasks.predict import settings as recipes
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.inputs import Predictions
from cellunet.tasks.predict.outputs import read_through, table_in_full
from cellunet.tasks.predict.session import load_model
from cellunet.tasks.predict.settings import Memory

Run = Callable[..., Predictions]


@pytest.fixture
def run(tiny_model, tmp_path) -> Run:
    def call(*given: Path, **options: Any) -> Predictions:
        return predict(
            [str(path) for path in given],
            tmp_path / "out",
            model=str(tiny_model.folder),
            threads=1,
            config=PredictConfig(**options),
        )

    return call


@pytest.fixture
def image(nuclei_image) -> np.ndarray:
    return nuclei_image((96, 80), 14, 40)[0].astype(np.uint16)


def only(found: Predictions):
    (result,) = found.images
    return result


def pyramid(path: Path, image: np.ndarray) -> Path:
    meta = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        options = {"photometric": "minisblack", "tile": (16, 16)}
        tiff.write(image, subifds=1, metadata=meta, **options)
        tiff.write(image[::2, ::2], subfiletype=1, **options)
    return path


# --- levels ---


def test_a_level_gives_the_labels_of_its_pixels(run, image, tmp_path) -> None:
    path = pyramid(tmp_path / "a.ome.tif", image)
    tifffile.imwrite(tmp_path / "small.tif", image[::2, ::2])
    found = run(path, tmp_path / "small.tif", level=0)
    assert [i.shape for i in found.images] == [(96, 80), (48, 40)]
    small = tifffile.imread(tmp_path / "out" / "small.tif")
    found = run(path, level=1, overwrite=True)
    assert only(found).shape == (48, 40)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/a.tif"), small)
    with open_image(tmp_path / "out" / "a.tif") as labels:
        assert labels.pixel_size_um == (1.0, 1.0)
    assert found.settings["level"] == 1


def test_outlines_of_a_level_count_pixels_of_full_resolution(
    run, image, tmp_path
) -> None:
    path = pyramid(tmp_path / "a.ome.tif", image)
    tifffile.imwrite(tmp_path / "small.tif", image[::2, ::2])
    out = tmp_path / "out"
    save = ("geojson", "rois", "table")
    run(tmp_path / "small.tif", save=save)
    found = run(path, level=1, save=save)
    (note,) = only(found).notes
    assert "is 2 x 2 pixels of full resolution" in note
    small, level = (
        json.loads((out / f"{name}.geojson").read_bytes())["features"]
        for name in ("small", "a")
    )
    assert len(small) == len(level) > 0
    for own, doubled in zip(small, level, strict=True):
        rings = own["geometry"]["coordinates"], doubled["geometry"]["coordinates"]
        np.testing.assert_array_equal(2 * np.array(rings[0]), np.array(rings[1]))
    sets = (roifile.roiread(out / f"{name}_rois.zip") for name in ("small", "a"))
    for one, other in zip(*sets, strict=True):
        np.testing.assert_array_equal(2 * one.coordinates(), other.coordinates())
    tables = ((out / f"{name}_table.csv").read_text() for name in ("small", "a"))
    rows, theirs = (list(csv.DictReader(text.splitlines())) for text in tables)
    for row, other in zip(rows, theirs, strict=True):
        for name in ("x_px", "bottom_px", "major_axis_px", "perimeter_px"):
            assert float(other[name]) == pytest.approx(2 * float(row[name]))
        assert int(other["area_px"]) == 4 * int(row["area_px"])
    measured = level[0]["properties"]["measurements"]
    assert measured["area_px"] == int(theirs[0]["area_px"])


def test_the_columns_of_pixels_that_are_not_square_in_full_resolution() -> None:
    ids = np.array([4, 10])
    table = {"area_px": ids, "left_px": ids, "y_px": ids / 4, "perimeter_px": ids * 1.0}
    found = table_in_full(table, 2.5, 3)
    assert [found[name].tolist() for name in ("area_px", "left_px", "y_px")] == [
        [30, 75],
        [12, 30],
        [2.5, 6.25],
    ]
    assert np.isnan(found["perimeter_px"]).all()


def test_every_column_in_pixels_is_that_of_full_resolution_or_not_known() -> None:
    labels = np.zeros((12, 14), np.uint8)
    labels[3:9, 2:12] = 1
    labels[5, 10:] = 0
    full, level = (
        measure_labels(labels.repeat(ny, 0).repeat(nx, 1), detail=True)
        for ny, nx in ((2, 3), (1, 1))
    )
    found = table_in_full(level, 2, 3)
    pixels = {name for name, _ in IN_UNITS.values()}
    unknown = {name for name in pixels if np.isnan(found[name]).any()}
    axes, feret = ("major_axis_px", "minor_axis_px"), ("feret_max_px", "feret_min_px")
    assert unknown == {"perimeter_px", *axes, *feret}
    for name in pixels - unknown:
        assert found[name] == pytest.approx(full[name]), name


def test_lengths_and_areas_of_nearly_square_pixels_go_together() -> None:
    table = {"area_px": np.array([10**8]), "perimeter_px": np.array([1e4])}
    found = table_in_full(table, 2, 2.001)
    assert found["area_px"].tolist() == [400_200_000]
    assert found["perimeter_px"] ** 2 == pytest.approx(400_200_000)


def test_voxels_are_those_of_full_resolution() -> None:
    table = {"area_px": np.array([7]), "volume_vx": np.array([21])}
    found = table_in_full(table, 2, 2)
    assert (found["area_px"].tolist(), found["volume_vx"].tolist()) == ([28], [84])


def test_a_level_that_is_missing_fails_its_image_alone(run, image, tmp_path) -> None:
    path = pyramid(tmp_path / "a.ome.tif", image)
    tifffile.imwrite(tmp_path / "flat.tif", image)
    found = run(path, tmp_path / "flat.tif", level=1)
    assert [i.status for i in found.images] == ["done", "failed"]
    assert "it has 1 level" in found.failed[0].message


# --- pixel sizes ---


def sized(path: Path, image: np.ndarray, y: float, x: float | None = None) -> Path:
    meta = {"axes": "YX", "PhysicalSizeX": x or y, "PhysicalSizeY": y}
    tifffile.imwrite(path, image, metadata=meta, ome=True)
    return path


def test_a_pixel_size_is_a_scale_of_each_image_with_one_engine(
    run, image, tmp_path, monkeypatch
) -> None:
    loaded = []
    load = recipes.load_engine

    def count(*args, **options):
        loaded.append(options)
        return load(*args, **options)

    monkeypatch.setattr(recipes, "load_engine", count)
    monkeypatch.setattr(recipes, "MOST_AT_ONCE", 1)
    same = sized(tmp_path / "same.ome.tif", image, 0.65)
    finer = sized(tmp_path / "finer.ome.tif", image.repeat(2, 0).repeat(2, 1), 0.325)
    found = run(same, finer, pixel_size_um=0.65)
    assert not found.failed
    assert len(loaded) == 1
    assert found.images[1].shape == (192, 160)
    scales = {}
    for name in ("same", "finer"):
        provenance = read_provenance(tmp_path / "out" / f"{name}.tif")
        assert provenance is not None
        scales[name] = provenance["settings"]["scale"]
        assert provenance["settings"]["pixel_size_um"] == 0.65
    assert scales == {"same": 1.0, "finer": 0.5}
    labels = {n: tifffile.imread(tmp_path / "out" / f"{n}.tif") for n in scales}
    run(finer, scale=0.5, overwrite=True)
    again = tifffile.imread(tmp_path / "out" / "finer.tif")
    np.testing.assert_array_equal(again, labels["finer"])
    run(same, overwrite=True)
    again = tifffile.imread(tmp_path / "out" / "same.tif")
    np.testing.assert_array_equal(again, labels["same"])


def test_a_rerun_at_a_pixel_size_skips_what_is_finished(run, image, tmp_path) -> None:
    path = sized(tmp_path / "a.ome.tif", image, 0.325)
    assert only(run(path, pixel_size_um=0.65)).status == "done"
    assert only(run(path, pixel_size_um=0.65)).status == "skipped"
    assert only(run(path, pixel_size_um=0.7)).status == "failed"


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (None, "does not say how large its pixels are.*--diameter"),
        ((0.5, 0.65), "which are not square"),
        ((50.0, 50.0), "too far from the 0.65"),
    ],
)
def test_images_that_cannot_be_rescaled_are_refused_by_name(
    run, image, tmp_path, size, message
) -> None:
    path = tmp_path / "a.tif"
    if size is None:
        tifffile.imwrite(path, image)
    else:
        path = sized(tmp_path / "a.ome.tif", image, *size)
    failed = only(run(path, pixel_size_um=0.65))
    assert failed.status == "failed"
    assert path.name in failed.message
    assert re.search(message, failed.message)


def test_only_one_of_scale_diameter_and_pixel_size_is_given() -> None:
    with pytest.raises(ConfigError, match="Both scale and pixel size"):
        PredictConfig(scale=2, pixel_size_um=0.5)
    with pytest.raises(ConfigError, match="All of scale and diameter and pixel size"):
        PredictConfig(scale=2, diameter_px=3, pixel_size_um=0.5)


def test_arrays_are_rescaled_by_the_size_given_with_them(tiny_model, image) -> None:
    def model(**options: Any):
        config = PredictConfig(**options)
        return load_model(str(tiny_model.folder), threads=1, config=config)

    at_size = model(pixel_size_um=0.65).segment(image, pixel_size_um=0.325).labels
    at_scale = model(scale=0.5).segment(image).labels
    np.testing.assert_array_equal(at_size, at_scale)
    with pytest.raises(ConfigError, match="does not say how large"):
        model(pixel_size_um=0.65).segment(image)


# --- damage ---


@pytest.fixture
def broken(image, tmp_path) -> Path:
    """A tile at x 32 to 63, y 32 to 63 holds rubbish."""
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, image, tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[0].dataoffsets[4]
    content = bytearray(path.read_bytes())
    content[place : place + 12] = b"rubbish here"
    path.write_bytes(content)
    return path


def test_a_broken_tile_fails_its_image_with_its_place(run, broken) -> None:
    failed = only(run(broken))
    assert "scan.tif is damaged: its tile at x 32 to 63, y 32 to 63" in failed.message
    assert "--keep-going" in failed.message


def test_keeping_on_takes_zeros_and_says_so_everywhere(
    run, broken, image, tmp_path
) -> None:
    zeroed = image.copy()
    zeroed[32:64, 32:64] = 0
    tifffile.imwrite(tmp_path / "zeroed.tif", zeroed)
    found = run(broken, tmp_path / "zeroed.tif", keep_going=True, save=("report",))
    damaged, clean = found.images
    assert [i.status for i in found.images] == ["done", "done"]
    assert found.damaged == (damaged,)
    assert clean.damaged == ()
    labels = [tifffile.imread(i.output) for i in found.images]
    np.testing.assert_array_equal(labels[0], labels[1])
    assert damaged.warnings[0].startswith("1 part of the image could not be read")
    assert "x 32 to 63, y 32 to 63" in damaged.warnings[0]
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "could not be read, and zeros were taken" in page
    (listed,) = found.to_dict()["images"][0]["damaged"]
    assert [listed[k] for k in ("y0", "y1", "x0", "x1")] == [32, 64, 32, 64]
    provenance = read_provenance(tmp_path / "out" / "scan.tif")
    assert provenance is not None
    assert provenance["damaged"] == [listed]
    assert provenance["settings"]["keep_going"] is True
    other = read_provenance(tmp_path / "out" / "zeroed.tif")
    assert other is not None
    assert "damaged" not in other


def test_a_rerun_still_says_what_was_damaged(run, broken) -> None:
    first = only(run(broken, keep_going=True))
    again = only(run(broken, keep_going=True))
    assert (again.status, again.damaged) == ("skipped", first.damaged)
    assert again.warnings[0] == first.warnings[0]


def test_damage_in_another_channel_that_is_measured_is_said(
    run, image, tmp_path
) -> None:
    path = tmp_path / "two.ome.tif"
    stack = np.stack([image, image])
    tifffile.imwrite(
        path, stack, metadata={"axes": "CYX"}, tile=(32, 32), compression="zlib"
    )
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[1].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[place : place + 12] = b"rubbish here"
    path.write_bytes(content)
    assert only(run(path, channel="0", keep_going=True)).damaged == ()
    kept = {"channel": "0", "keep_going": True, "save": ("table",)}
    found = run(path, **kept, overwrite=True)
    (damage,) = only(found).damaged
    assert damage.plane == 1
    again = only(run(path, **kept))
    assert (again.status, again.damaged) == ("skipped", (damage,))
    assert again.warnings == only(found).warnings


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small tmpfs")
def test_a_disk_that_fills_leaves_one_clear_error_and_nothing_else(
    run, image, tmp_path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(out)]
    tried = subprocess.run(mount, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no tmpfs may be mounted here ({tried.stderr.strip()})")
    try:
        # Enough for what is kept of probabilities or the labels, not for both.
        (out / "other").write_bytes(bytes(48 * 1024))
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, np.tile(image, (6, 6)))
        failed = only(run(path, save=("probabilities",)))
        assert failed.status == "failed"
        assert "there is no room in" in failed.message
        assert [p.name for p in out.iterdir()] == ["other"]
    finally:
        subprocess.run(["umount", str(out)], check=True)


# --- formats and shapes ---


@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1)])
def test_an_image_of_one_line_is_read_predicted_and_written(
    run, tmp_path, shape
) -> None:
    line = np.random.default_rng(0).poisson(100, shape).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", line, photometric="minisblack")
    done = only(run(tmp_path / "a.tif"))
    assert (done.status, done.shape) == ("done", shape)
    assert tifffile.imread(tmp_path / "out" / "a.tif").size == 20_000


# --- temporary files ---


def test_temporary_files_lie_where_they_are_wanted(
    run, image, tmp_path, monkeypatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image)
    run(tmp_path / "a.tif")
    folder, made = tmp_path / "scratch", []
    folder.mkdir()
    temporary = tempfile.TemporaryFile

    def noted(**options: Any):
        made.append(options["dir"])
        return temporary(**options)

    monkeypatch.setattr("tempfile.TemporaryFile", noted)
    # So that all that waits goes to the disk.
    monkeypatch.setattr(recipes, "memory_for", lambda *_: Memory(scratch_bytes=0))
    # It is no setting that a result depends on: the finished one is skipped.
    assert only(run(tmp_path / "a.tif", scratch=str(folder))).status == "skipped"
    run(tmp_path / "a.tif", scratch=str(folder), overwrite=True, min_area_px=1)
    assert only(run(tmp_path / "a.tif", min_area_px=1)).status == "skipped"
    # Tried once a call, and used once.
    assert made == [folder] * 3
    assert list(folder.iterdir()) == []


def test_a_folder_for_temporary_files_that_is_missing_is_refused(run, image, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", image)
    with pytest.raises(OutputError, match="no folder"):
        run(tmp_path / "a.tif", scratch=str(tmp_path / "missing"))
    assert not (tmp_path / "out").exists()


# --- a bound on memory ---


def test_what_the_reader_holds_counts_within_the_bound(
    run, image, tmp_path, monkeypatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image)
    assert only(run(tmp_path / "a.tif", max_memory_mb=700)).status == "done"
    monkeypatch.setattr(TiffSource, "held_bytes", lambda *_: 900_000_000)
    again: dict[str, Any] = {"overwrite": True, "flips": True}
    failed = only(run(tmp_path / "a.tif", max_memory_mb=700, **again))
    assert "too little" in failed.message
    least = int(re.findall(r"--max-memory (\d+)", failed.message)[0])
    assert least > 1000
    done = run(tmp_path / "a.tif", max_memory_mb=least, **again)
    assert only(done).status == "done"


def test_every_measured_channel_is_read_by_itself() -> None:
    three = SimpleNamespace(file_channels=("a", "b", "c"))
    one = SimpleNamespace(file_channels=("a",))
    table = PredictConfig(save=("table",))
    assert [read_through(s, table) for s in (one, three)] == [1, 4]
    assert read_through(three, PredictConfig(save=("outlines",))) == 1
    assert read_through(three, PredictConfig(save=("table",), gray=True)) == 1
