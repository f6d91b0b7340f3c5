"""``--save report``: one page of all images, of finished ones and failed ones too."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellunet.command_config import PredictConfig
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.inputs import Predictions

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def run(tiny_model, tmp_path):
    """``run(inputs)``: predict into ``tmp_path / "out"`` with a report."""

    def call(*inputs: object, out: str = "out", **options: Any) -> Predictions:
        other = {k: options.pop(k) for k in ("dry_run", "should_stop") if k in options}
        options = {"save": ("report",), **options}
        return predict(
            [str(i) for i in inputs],
            tmp_path / out,
            model=str(tiny_model.folder),
            threads=1,
            config=PredictConfig(**options),
            **other,
        )

    return call


@pytest.fixture
def three(tmp_path, nuclei_image) -> Path:
    folder = tmp_path / "three"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a", "b", "sub/c")):
        image = nuclei_image((64, 64), 8, number)[0]
        tifffile.imwrite(folder / f"{name}.tif", image)
    return folder


def page(tmp_path: Path) -> str:
    return (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def rows(tmp_path: Path) -> list[str]:
    return re.findall(r'<tr id="i\d+".*?</tr>', page(tmp_path), re.DOTALL)


def test_the_page_shows_each_image_and_what_made_it(run, three, tmp_path) -> None:
    found = run(three)
    assert found.report == str(tmp_path / "out" / "report.html")
    assert found.to_dict()["report"] == found.report
    shown = rows(tmp_path)
    assert len(shown) == 3
    for image, row in zip(found.images, shown, strict=True):
        name = Path(image.input).relative_to(three)
        assert f"<bdi>{name}</bdi>" in row
        assert f"<td>{image.objects}</td>" in row
        assert "data:image/webp;base64," in row
    for words in (found.model["sha256"], found.engine, "tiny", "Magnification"):
        assert words in page(tmp_path)


def test_without_asking_there_is_neither_page_nor_record(run, three, tmp_path) -> None:
    assert run(three, save=()).report is None
    assert not (tmp_path / "out" / "report.html").exists()
    assert not (tmp_path / "out" / "report-data").exists()
    assert run(three, dry_run=True, out="dry").report is None
    assert not (tmp_path / "dry").exists()


def test_a_rerun_shows_finished_images_as_the_first_run_did(
    run, three, tmp_path
) -> None:
    run(three)
    first = rows(tmp_path)
    (tmp_path / "out" / "b.tif").unlink()
    found = run(three)
    assert [i.status for i in found.images] == ["skipped", "done", "skipped"]
    assert "2 of them finished by an earlier run" in page(tmp_path)
    pictures = [re.findall(r"base64,[^\"]*", row) for row in rows(tmp_path)]
    assert pictures == [re.findall(r"base64,[^\"]*", row) for row in first]


def test_asking_later_makes_records_without_overwriting_by_force(
    run, three, tmp_path
) -> None:
    run(three, save=())
    labels = (tmp_path / "out" / "a.tif").read_bytes()
    assert [i.status for i in run(three).images] == ["done"] * 3
    assert (tmp_path / "out" / "a.tif").read_bytes() == labels
    assert [i.status for i in run(three).images] == ["skipped"] * 3
    assert [i.status for i in run(three, save=()).images] == ["skipped"] * 3


def test_a_dry_run_knows_which_images_the_report_has_segmented_again(
    run, three, tmp_path
) -> None:
    run(three, save=())
    before = sorted((tmp_path / "out").rglob("*"))
    planned = run(three, dry_run=True)
    assert [i.status for i in planned.images] == ["planned"] * 3
    assert planned.report is None
    assert sorted((tmp_path / "out").rglob("*")) == before
    run(three)
    assert [i.status for i in run(three, dry_run=True).images] == ["skipped"] * 3


@pytest.mark.parametrize("harm", ["gone", "cut", "other"])
def test_a_record_that_is_not_of_these_labels_is_made_again(
    harm, run, three, tmp_path
) -> None:
    run(three)
    record = tmp_path / "out" / "report-data" / "sub" / "c.tif.json"
    content = record.read_text(encoding="ascii")
    if harm == "gone":
        record.unlink()
    elif harm == "cut":
        record.write_text(content[:100], encoding="ascii")
    else:
        values = json.loads(content)
        record.write_text(json.dumps(values | {"of": "x"}), encoding="ascii")
    found = run(three)
    assert [i.status for i in found.images] == ["skipped", "skipped", "done"]
    again, before = json.loads(record.read_text()), json.loads(content)
    assert again | {"seconds": 0} == before | {"seconds": 0}


def test_images_that_failed_are_in_the_page_with_their_line(
    run, three, tmp_path
) -> None:
    (three / "cut.tif").write_bytes((three / "a.tif").read_bytes()[:-500])
    found = run(three, tmp_path / "gone.tif")
    assert len(found.failed) == 2
    shown = page(tmp_path)
    assert shown.count('data-k="failed"') == 2
    assert "truncated" in shown
    assert "5 images" in shown


def test_images_of_one_file_are_told_apart(run, tmp_path, nuclei_image) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        for seed in range(2):
            pixels = nuclei_image((64, 64), 8, seed)[0]
            file.write(pixels, metadata={"axes": "YX"})
        # Which of its channels is not said, so the third one fails.
        file.write(np.stack([pixels, pixels]), metadata={"axes": "CYX"})
    for status in ("done", "skipped"):
        found = run(tmp_path / "a.ome.tif", image="all")
        assert [i.status for i in found.images] == [status, status, "failed"]
        names = re.findall(r"<bdi>(a\.ome\.tif[^<]*)</bdi>", "".join(rows(tmp_path)))
        assert [*dict.fromkeys(names)] == [f"a.ome.tif ({n})" for n in range(3)]


def test_a_stopped_run_has_a_page_of_what_is_finished(run, three, tmp_path) -> None:
    calls = iter(range(100))
    found = run(three, should_stop=lambda: next(calls) >= 6, diameter_px="model")
    assert found.stopped
    assert len(rows(tmp_path)) == 1
    assert "Stopped before the end" in page(tmp_path)


def test_a_stack_shows_the_plane_with_most_objects(run, tmp_path, nuclei_image) -> None:
    few, many = nuclei_image((64, 64), 2, 1)[0], nuclei_image((64, 64), 9, 2)[0]
    tifffile.imwrite(
        tmp_path / "s.ome.tif", np.stack([few, many, few]), metadata={"axes": "ZYX"}
    )
    run(tmp_path / "s.ome.tif")
    assert "plane 2 of 3" in page(tmp_path)


def test_a_large_picture_is_linked_if_there_is_one(run, three, tmp_path) -> None:
    run(three, save=("report", "outlines"))
    links = re.findall(r'<a href="(\./[^"]+)" title', page(tmp_path))
    assert "./sub/c_outlines.png" in links
    assert all((tmp_path / "out" / link).is_file() for link in links)


def test_the_records_in_the_folder_hold_one_image_each(run, three, tmp_path) -> None:
    run(three)
    folder = tmp_path / "out" / "report-data"
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.json"))
    assert names == ["a.tif.json", "b.tif.json", "sub/c.tif.json"]
