"""Annotations are found with their images, and without them where there are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cellunet.annotations import pairs
from cellunet.annotations.pairs import find_annotations
from cellunet.errors import InputError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("names", "layout", "drawn"),
    [
        (
            ("images/a.tif", "labels/a_masks.png"),
            "folders",
            [("a", "labels/a_masks.png", "images/a.tif")],
        ),
        (
            ("b.tif", "a_seg.png", "a.tif", "b_seg.png"),
            "flat",
            [("a", "a_seg.png", "a.tif"), ("b", "b_seg.png", "b.tif")],
        ),
        (
            ("n/images/n.png", "n/masks/1.png"),
            "dsb2018",
            [("n", "n/masks", "n/images/n.png")],
        ),
        (
            ("b.tif", "a.png"),
            "files",
            [("a", "a.png", None), ("b", "b.tif", None)],
        ),
        (("a_masks.tif",), "files", [("a", "a_masks.tif", None)]),
        (("labels/a.tif",), "files", [("a", "labels/a.tif", None)]),
        (("masks/a.png", "x.txt"), "files", [("a", "masks/a.png", None)]),
        (
            ("n/masks/1.png", "m/masks/1.png"),
            "objects",
            [("m", "m/masks", None), ("n", "n/masks", None)],
        ),
    ],
)
def test_every_arrangement_is_found(tmp_path, names, layout, drawn):
    found = find_annotations(touch(tmp_path, *names))
    assert found.layout == layout
    for one, (name, annotation, image) in zip(found.drawn, drawn, strict=True):
        assert one.name == name
        assert one.annotation == tmp_path / annotation
        assert one.image == (tmp_path / image if image else None)


def test_images_are_listed_once_for_all_files_of_shapes(tmp_path, monkeypatch):
    listed, listing = [], pairs.image_files

    def counting(folder):
        listed.append(folder)
        return listing(folder)

    monkeypatch.setattr(pairs, "image_files", counting)
    counts = []
    for many in (2, 9):
        folder = tmp_path / f"{many}"
        for k in range(many):
            touch(folder, f"images/{k}.tif", f"labels/{k}.geojson")
        listed.clear()
        found = find_annotations(folder / "labels").drawn
        assert [one.image.name for one in found] == [f"{k}.tif" for k in range(many)]
        counts.append(len(listed))
    assert counts[0] == counts[1] > 0


def test_one_file_is_one_annotation(tmp_path):
    touch(tmp_path, "ü 1_label.ome.tif")
    (one,) = find_annotations(tmp_path / "ü 1_label.ome.tif").drawn
    assert (one.name, one.image) == ("ü 1", None)


@pytest.mark.parametrize("place", ["n", "n/masks"])
def test_asked_for_objects_a_folder_of_files_is_one_image(tmp_path, place):
    touch(tmp_path / place, "1.png", "2.png")
    (one,) = find_annotations(tmp_path / place, kind="objects").drawn
    assert (one.name, one.annotation) == ("n", tmp_path / place)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "is empty"),
        (("a.txt", "sub/b.txt"), "holds no annotation"),
        (("a.png", "A.tif"), r"the same name: A\.tif and a\.png"),
        (("a_seg.png", "a_masks.png"), "the same name: a_masks.png and a_seg.png"),
        (("images/a.tif", "labels/b.tif"), "do not match"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        find_annotations(touch(tmp_path, *names))


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InputError, match="There is no folder"):
        find_annotations(tmp_path / "nowhere")


def test_a_drawn_file_is_found_with_the_image_beside_it(tmp_path):
    touch(tmp_path, "a_rois.zip", "a.tif", "rois/b.geojson", "images/b.png", "c.roi")
    for name, image in (
        ("a_rois.zip", "a.tif"),
        ("rois/b.geojson", "images/b.png"),
        ("c.roi", None),
    ):
        (one,) = find_annotations(tmp_path / name).drawn
        assert one.image == (tmp_path / image if image else None)


def test_a_coco_file_is_as_many_annotations_as_it_has_images(tmp_path):
    images = [
        {"id": i, "file_name": n, "height": 4, "width": 4}
        for i, n in enumerate(("x/b.tif", "a.png"))
    ]
    path = tmp_path / "annotations" / "all.json"
    touch(tmp_path, "annotations/all.json", "images/b.tif")
    path.write_text(json.dumps({"images": images, "annotations": []}))
    for source in (path, path.parent):
        a, b = find_annotations(source).drawn
        assert (a.name, a.member, a.image) == ("a", "a.png", None)
        assert (b.name, b.member, b.image) == ("b", "b.tif", tmp_path / "images/b.tif")


def test_the_annotated_part_is_found_without_images_too(tmp_path):
    touch(tmp_path, "labels/a.tif", "labels/b.tif", "annotated/b.tif")
    a, b = find_annotations(tmp_path).drawn
    assert (a.annotated, b.annotated) == (None, tmp_path / "annotated" / "b.tif")
