"""A dry run says what a batch would take, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest
import tifffile

from cellunet.cli.app import main
from cellunet.command_config import PredictConfig
from cellunet.errors import OutputError
from cellunet.tasks.predict import estimate as module
from cellunet.tasks.predict import image as predict_image
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.plane import PredictionStopped


@pytest.fixture
def run(tiny_model, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    def call(*, dry_run: bool = True, **options):
        return predict(
            [str(tmp_path / "in")],
            tmp_path / "out" / "deep",
            model=str(tiny_model.folder),
            threads=1,
            config=PredictConfig(**options),
            dry_run=dry_run,
        )

    return call


@pytest.fixture
def images(tmp_path, nuclei_image):
    """Six images: four alike, one of four times the pixels, one that is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        tifffile.imwrite(
            folder / f"a{number}.tif", nuclei_image((96, 96), 10, number)[0]
        )
    tifffile.imwrite(folder / "large.tif", nuclei_image((192, 192), 40, 9)[0])
    (folder / "bad.tif").write_bytes(b"")
    return folder


ALL = ("table", "report", "outlines", "rois", "coco", "probabilities")


def there(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if "in" not in p.parts]


def test_bytes_are_those_of_the_run_and_nothing_is_left(run, images, tmp_path) -> None:
    before = sorted(tmp_path.rglob("*"))
    about = run(save=ALL).estimate
    assert sorted(tmp_path.rglob("*")) == before
    assert (about.images, about.measured) == (5, 3)
    assert about.seconds > 0
    assert about.free_bytes > 0
    assert list(about.bytes) == ["labels", *(k for k in ALL if k != "report"), "report"]
    found = run(save=ALL, dry_run=False)
    assert len(found.done) == 5
    out = tmp_path / "out" / "deep"
    sizes = {
        "probabilities": [*out.glob("*_probabilities.tif")],
        "table": [*out.glob("*table.csv")],
        "outlines": [*out.glob("*_outlines.png")],
        "coco": [*out.glob("*coco.json")],
    }
    for kind, paths in sizes.items():
        real = sum(path.stat().st_size for path in paths)
        # Drawn fields hold other nuclei; they do not weigh half or twice as much.
        assert real / 2 < about.bytes[kind] < real * 2, kind


def test_what_does_not_fit_on_the_disk_is_told(run, images, monkeypatch) -> None:
    full = shutil.disk_usage(images)._replace(free=1)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: full)
    (warning,) = run().warnings
    assert " about 1 MB more than the disk of --out has free" in warning


def test_why_an_image_cannot_be_measured_is_told(run, images, monkeypatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise OutputError("No room.")

    monkeypatch.setattr(predict_image, "segment", broken)
    found = run()
    assert found.estimate is None
    assert set(found.warnings) == {"An image cannot be measured: No room."}


@pytest.mark.usefixtures("images")
def test_a_stop_while_images_are_measured_stops_the_dry_run(run, monkeypatch) -> None:
    def stopping(*arguments: object, **options: object) -> None:
        raise PredictionStopped

    monkeypatch.setattr(predict_image, "segment", stopping)
    found = run()
    assert found.stopped
    assert [i.status for i in found.images].count("planned") == 5
    assert found.estimate is None


def test_what_is_finished_is_no_part_of_it(run, images) -> None:
    run(dry_run=False)
    assert run().estimate is None
    (images / "a9.tif").write_bytes((images / "a0.tif").read_bytes())
    about = run().estimate
    assert (about.images, about.measured) == (1, 1)


def test_large_images_are_not_measured_but_counted(run, images, monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_PX", 96 * 96)
    about = run().estimate
    assert about.images == 5
    assert about.bytes["labels"] > 0
    monkeypatch.setattr(module, "MOST_PX", 95 * 96)
    assert run().estimate is None


def test_a_plate_of_stores_is_measured_too(run, images, tmp_path) -> None:
    zarr = pytest.importorskip("zarr", "3")
    from tests.io.zarr_stores import write_store

    pixels = tifffile.imread(images / "a0.tif")
    for path in images.iterdir():
        path.unlink()
    write_store(images / "z.zarr", pixels, "yx", chunks=(64, 64))
    before = sorted(images.rglob("*"))
    about = run(into_source="nuclei", save=("zarr-table",)).estimate
    assert sorted(images.rglob("*")) == before
    assert set(about.bytes) == {"labels", "zarr-table"}
    assert min(about.bytes.values()) > 0
    assert zarr.open_group(images / "z.zarr", mode="r")


def test_the_command_line_says_that_it_is_an_estimate(
    tiny_home, images, tmp_path, capsys
) -> None:
    words = ["predict", str(images), "--out", str(tmp_path / "o"), "--model", "tiny"]
    assert main([*words, "--dry-run", "--save", "table"]) == 3
    out = capsys.readouterr().out
    assert "Estimate: about " in out
    assert "3 images, segmented now and thrown away" in out
    assert main([*words, "--dry-run", "--json"]) == 3
    about = json.loads(capsys.readouterr().out)["result"]["estimate"]
    assert (about["images"], about["measured"]) == (5, 3)
    assert set(about["bytes"]) == {"labels"}
