"""``cellunet make-labels`` and ``check``: options, results, and what is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from cellunet.command_config import AnnotationConfig
from cellunet.config import EncodingConfig, WeightConfig
from cellunet.tasks import make_labels as task
from cellunet.tasks.make_labels import MadeImage, MadeLabels

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def _made(out: Path, *, count: int = 1, failed: int = 0) -> MadeLabels:
    images = tuple(
        MadeImage(
            name=f"a{i} [1]",
            kind="labels",
            height_px=520,
            width_px=1696,
            objects=1000,
            median_area_px=None if i else 612.4,
            overlap_px=0,
            hidden=0,
        )
        for i in range(count)
    )
    failures = tuple((f"bad{i}", "It is empty. Draw.") for i in range(failed))
    return MadeLabels(
        out=out, layout="files", images=images, failures=failures, notes=("3 skipped.",)
    )


class FakeMaking:
    """Stands in for the task."""

    def __init__(self) -> None:
        self.calls: list[tuple[Path, Path, dict[str, Any]]] = []
        self.count, self.failed = 1, 0

    def __call__(self, source: Path, out: Path, **options: Any) -> MadeLabels:
        self.calls.append((source, out, options))
        assert list(options["track"]([1], "Making labels")) == [1]
        return _made(out, count=self.count, failed=self.failed)


@pytest.fixture
def making(monkeypatch: pytest.MonkeyPatch) -> FakeMaking:
    fake = FakeMaking()
    monkeypatch.setattr(task, "make_labels", fake)
    return fake


def test_without_options_no_weight_map_is_written(run: Run, making: FakeMaking) -> None:
    assert run("make-labels", "src [ä]", "--out", "o").code == 0
    ((source, out, options),) = making.calls
    assert (source, out) == (Path("src [ä]"), Path("o"))
    assert options["encoding"] == EncodingConfig()
    assert options["weights"] is None
    assert options["annotations"] == AnnotationConfig()
    assert not {"overwrite", "threads"} & set(options)


def test_options_and_a_file_become_configurations(
    run: Run, making: FakeMaking, toml
) -> None:
    settings = toml(
        "epochs = 3\n[encoding]\ntarget = 'boundary'\nboundary_px = 4\n[weights]\n"
        "class_weights = [1, 5]\nborder_weight = 3\nborder_sigma_px = 2\n"
        "[annotations]\nkind = 'rois'\nthrough_centers = true"
    )
    words = (
        "make-labels s --out o --kind coco --ignore-value -1 --weight-map --overwrite "
        "--threads 2 --config"
    )
    assert run(*words.split(), settings).code == 0
    ((_, _, options),) = making.calls
    assert options["encoding"] == EncodingConfig(target="boundary", boundary_px=4)
    assert options["weights"] == WeightConfig(
        class_weights=(1.0, 5.0), border_weight=3.0, border_sigma_px=2.0
    )
    assert options["annotations"] == AnnotationConfig(
        kind="coco", ignore_value=-1, through_centers=True
    )
    assert (options["threads"], options["overwrite"]) == (2, True)


def test_the_summary_tells_what_was_found(run: Run, making: FakeMaking) -> None:
    making.count = 22
    ran = run("make-labels", "s", "--out", "o")
    assert ran.err == ""
    assert "a0 [1]        1,000       612 px  520 x 1,696  labels" in ran.out
    assert "a20 [1]" not in ran.out
    assert "and 2 more\n" in ran.out
    assert "22,000 objects in 22 annotations (files): o\n" in ran.out
    assert "3 skipped.\n" in ran.out


def test_what_cannot_be_decoded_is_named_and_exits_3(
    run: Run, making: FakeMaking
) -> None:
    making.failed = 2
    ran = run("make-labels", "s", "--out", "o", "--json")
    assert ran.code == 3
    assert ran.err.endswith(
        "2 failed:\n  bad0: It is empty. Draw.\n  bad1: It is empty. Draw.\n"
    )
    document = ran.document
    assert document["error"]["type"] == "InputsFailed"
    assert "2 of 3 annotations failed" in document["error"]["message"]
    assert document["result"] == _made(Path("o"), failed=2).to_dict()


def test_real_annotations_become_files(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "ä 😀 [1]"
    source.mkdir()
    labels = np.zeros((12, 16), np.uint16)
    labels[2:6, 2:6], labels[7:11, 8:14] = 1, 2
    tifffile.imwrite(source / "one.tif", labels)
    out = tmp_path / "out"
    result = run("make-labels", source, "--out", out, "--json").document["result"]
    assert result["objects"] == 2
    assert (out / "labels" / "one.tif").is_file()
    again = run("make-labels", source, "--out", out)
    assert again.code == 1
    assert "Try: --overwrite" in again.err
    unknown = run("make-labels", source, "--out", out, "--kind", "drawn")
    assert unknown.code == 1
    assert "Unknown kind of annotation 'drawn'" in unknown.err


def test_overlaps_and_what_is_odd_are_told(run: Run, tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / name, np.zeros((20, 30), np.uint8))
    rings = [
        [[0, 0], [9, 0], [9, 9], [0, 9]],
        [[5, 5], [12, 5], [12, 9], [5, 9]],
        [[20, 0], [28, 8], [28, 0], [20, 8]],
        [[90, 0], [98, 0], [98, 8]],
        [[1.1, 1.1], [1.2, 1.1], [1.2, 1.2]],
    ]
    features: list[dict[str, Any]] = [
        {"type": "Polygon", "coordinates": [ring]} for ring in rings
    ]
    (tmp_path / "a.geojson").write_text(json.dumps(features))
    box = {"type": "Polygon", "coordinates": [rings[0]]}
    ignored = {
        "type": "Feature",
        "geometry": box,
        "properties": {"classification": {"name": "Ignore*"}},
    }
    (tmp_path / "b.geojson").write_text(json.dumps(ignored))
    ran = run("make-labels", tmp_path, "--out", tmp_path / "out", "--json")
    assert ran.code == 0
    assert "16 px were claimed by several objects; the smallest got them.\n" in ran.err
    assert "1 object without a pixel of their own.\n" in ran.err
    assert "1 image annotated in part" in ran.err
    assert "a: 1 of 5 objects lie outside the image" in ran.err
    assert "a: Outlines that cross themselves (1)" in ran.err
    one, other = ran.document["result"]["images"]
    assert (one["outside"], one["overlap_px"], one["hidden"]) == (1, 16, 1)
    assert len(one["notes"]) == 2
    assert other["annotated_share"] == pytest.approx(1 - 81 / 600)


def test_a_check_exits_4_when_a_person_is_needed(run: Run, tmp_path: Path) -> None:
    source, out = tmp_path / "labels", tmp_path / "out"
    source.mkdir()
    labels = np.zeros((40, 60), np.uint16)
    labels[5:15, 5:15], labels[20:30, 5:15] = 1, 2
    tifffile.imwrite(source / "one.tif", labels)
    fine = run("check", source, "--out", out, "--json")
    assert fine.code == 0
    assert fine.document["result"]["needs_person"] is False
    labels[20:30, 40:50] = 1
    tifffile.imwrite(source / "two [2].tif", labels)
    odd = run("check", source, "--out", out, "--json")
    assert odd.code == 4
    assert odd.document["error"]["type"] == "NeedsPerson"
    assert odd.document["result"]["counts"] == {"pieces": 1}
    assert "two [2]: 1 object in two or more pieces under one number: 1.\n" in odd.err
    assert "pieces: 1 image\n" in odd.err
    # Wide enough for a whole path, wherever a line may break.
    assert f"Look at {out / 'check-1.png'} and" in odd.err.replace("\n", " ")
    assert not (out / "labels").exists()


def test_a_check_is_of_the_channel_and_limits_that_are_asked_for(
    run: Run, tmp_path: Path, toml
) -> None:
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    labels = np.zeros((64, 64), np.uint8)
    labels[8:28, 8:28], labels[36:56, 36:56] = 1, 2
    noise = np.random.default_rng(0).normal(100, 9, (2, 64, 64)).astype(np.float32)
    noise += np.array([4, 900])[:, None, None] * (labels > 0)
    tifffile.imwrite(
        tmp_path / "data/images/a.ome.tif", noise, metadata={"axes": "CYX"}
    )
    tifffile.imwrite(tmp_path / "data/labels/a.tif", labels)
    words = ("check", tmp_path / "data", "--out", tmp_path / "out", "--json")
    first = run(*words, "--channel", "0").document["result"]["images"][0]
    assert [f["kind"] for f in first["findings"]] == ["misfit"]
    assert run(*words, "--channel", "1").code == 0
    limit = toml("[check]\nleast_correlation = 0.0")
    assert run(*words, "--channel", "0", "--config", limit).code == 0
