"""COCO: the very pixels, a score an object, and files that join to one of the batch."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings

from cellunet.annotations.coco import decode_counts, read_coco, runs
from cellunet.errors import OutputError
from cellunet.imaging.measure import EVIDENCE_TOP, ObjectBatch, measure_labels
from cellunet.imaging.outlines import outlines
from cellunet.outputs.coco import CocoJson, is_coco_of_ours, join_coco, mask
from tests.imaging.test_outlines import LABELS

RING = np.array([[1, 1, 1, 0], [1, 0, 1, 7], [1, 1, 1, 0]])


def batch(labels, plane=0, sure=None) -> ObjectBatch:
    evidence = None if sure is None else np.full(labels.shape, sure, np.uint8)
    table = measure_labels(labels, evidence=evidence)
    return ObjectBatch(plane, table.pop("id"), table, list(outlines(labels).values()))


def write(path, image, *batches, planes=1, shape=(3, 4)):
    places = [{"t": t} for t in range(planes)] if planes > 1 else [{}]
    file = CocoJson(path, image, shape, places)
    for one in batches:
        file.add(one)
    assert not path.exists()
    file.commit()
    return path


def read(path) -> dict:
    text = path.read_bytes()
    assert text.isascii()
    return json.loads(text)


@settings(max_examples=100)
@given(labels=LABELS)
def test_a_mask_is_the_very_label(labels) -> None:
    for number, outline in outlines(labels).items():
        found = mask(outline, labels.shape)
        filled = runs(found["counts"], labels.shape).fill(labels.shape)
        image = np.zeros(labels.shape, bool)
        image[filled.window] = filled.inside
        np.testing.assert_array_equal(image, labels == number)


def test_an_annotation_has_what_readers_of_coco_ask_for(tmp_path) -> None:
    found = read(write(tmp_path / "a.json", "b/a.tif", batch(RING, sure=EVIDENCE_TOP)))
    assert found["images"] == [
        {"id": 1, "file_name": "b/a.tif", "width": 4, "height": 3}
    ]
    assert found["categories"] == [{"id": 1, "name": "nucleus", "supercategory": ""}]
    ring, dot = found["annotations"]
    # Column by column: three inside, one, a hole, one, three; then the last column.
    assert decode_counts(ring["segmentation"].pop("counts")) == [0, 4, 1, 4, 3]
    assert ring == {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "segmentation": {"size": [3, 4]},
        "area": 8,
        "bbox": [0, 0, 3, 3],
        "iscrowd": 0,
        "score": 1.0,
        "label": 1,
    }
    assert (dot["id"], dot["label"], dot["bbox"]) == (2, 7, [3, 1, 1, 1])


def test_what_has_no_confidence_has_no_score(tmp_path) -> None:
    found = read(write(tmp_path / "a.json", "a.tif", batch(RING)))
    assert not any("score" in one for one in found["annotations"])


def test_a_plane_is_an_image(tmp_path) -> None:
    path = write(tmp_path / "a.json", "a.tif", batch(RING, plane=1), planes=2)
    found = read(path)
    assert [(i["id"], i["t"], i["file_name"]) for i in found["images"]] == [
        (1, 0, "a.tif"),
        (2, 1, "a.tif"),
    ]
    assert {a["image_id"] for a in found["annotations"]} == {2}


def test_files_join_to_one_with_numbers_that_go_on(tmp_path) -> None:
    parts = [
        write(tmp_path / "a.json", "a.tif", batch(RING), batch(RING, 1), planes=2),
        write(tmp_path / "b.json", "b.tif"),
        write(tmp_path / "c.json", "c.tif", batch(RING)),
    ]
    join_coco(parts, tmp_path / "all.json")
    found = read(tmp_path / "all.json")
    names = ["a.tif", "a.tif", "b.tif", "c.tif"]
    assert [i["file_name"] for i in found["images"]] == names
    assert [i["id"] for i in found["images"]] == [1, 2, 3, 4]
    assert [(a["id"], a["image_id"], a["label"]) for a in found["annotations"]] == [
        *((1, 1, 1), (2, 1, 7), (3, 2, 1), (4, 2, 7)),
        *((5, 4, 1), (6, 4, 7)),
    ]
    whole = (tmp_path / "all.json").read_bytes()
    join_coco(parts, tmp_path / "all.json")
    assert (tmp_path / "all.json").read_bytes() == whole
    # A file of one image joins to itself.
    join_coco(parts[2:], tmp_path / "one.json")
    assert (tmp_path / "one.json").read_bytes() == parts[2].read_bytes()


@pytest.mark.usefixtures("windows_lines")
def test_lines_end_alike_on_all_systems(tmp_path) -> None:
    path = write(tmp_path / "a.json", "a.tif", batch(RING))
    join_coco([path], tmp_path / "all.json")
    assert b"\r" not in path.read_bytes() + (tmp_path / "all.json").read_bytes()


def test_it_is_read_back_as_annotations(tmp_path) -> None:
    path = write(tmp_path / "a.json", "a.tif", batch(RING))
    assert list(read_coco(path).images) == ["a.tif"]


@pytest.mark.parametrize("cut", [60, 250, 400])
def test_a_file_that_is_cut_off_is_named(tmp_path, cut) -> None:
    path = write(tmp_path / "a.json", "a.tif", batch(RING))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(OutputError, match=r"a\.json cannot be joined"):
        join_coco([path], tmp_path / "all.json")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_files_of_others_are_told_apart(tmp_path) -> None:
    assert is_coco_of_ours(write(tmp_path / "a.json", "a.tif"))
    (tmp_path / "b.json").write_text('{"images": []}', encoding="ascii")
    assert not is_coco_of_ours(tmp_path / "b.json")
    assert not is_coco_of_ours(tmp_path / "none.json")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_tools_of_coco_read_it(tmp_path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    path = write(tmp_path / "a.json", "a.tif", batch(RING, sure=200))
    opened = coco.COCO(path)
    for annotation in opened.loadAnns(opened.getAnnIds(1)):
        inside = opened.annToMask(annotation).astype(bool)
        np.testing.assert_array_equal(inside, annotation["label"] == RING)
    scores = opened.loadRes(read(path)["annotations"])
    assert [a["score"] for a in scores.anns.values()] == [0.784313725] * 2
