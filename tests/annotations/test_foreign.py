"""Annotations of formats that are not read are named, with the export to choose."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from cellunet.annotations.foreign import FORMATS, foreign_format
from cellunet.annotations.label_pairs import pair_folders
from cellunet.annotations.pairs import find_annotations, find_pairs
from cellunet.annotations.read import read_annotation
from cellunet.errors import AnnotationError, InputError

VIA = "#filename,file_size,file_attributes\n"

FILES = {
    "project.json": ('{"project": {"pid": "x"}}', "VGG Image Annotator 3", "as COCO"),
    "via.csv": (VIA, "VGG Image Annotator", "as json"),
    "annotations.xml": (
        '<?xml version="1.0"?>\n<annotations>\n  <version>1.1</version>',
        "XML of CVAT",
        "COCO 1.0",
    ),
    "a.xml": ("<annotation><folder>x</folder>", "Pascal VOC", "polygons"),
    "a.txt": ("0 0.5 0.25 0.1 0.0625\n", "YOLO", "COCO"),
    "a.npz": ("PK\3\4", "NumPy", "TIFF"),
}


@pytest.fixture
def image(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.arange(4000, dtype=np.uint16).reshape(50, 80)
    )
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_what_is_not_read_is_named_with_the_way_out(image, name):
    text, what, instead = FILES[name]
    (image / name).write_text(text)
    for find in (find_pairs, find_annotations):
        with pytest.raises(InputError, match=f"not read: .*{what}.*{name}") as caught:
            find(image)
        assert instead in caught.value.hint


def test_it_is_found_in_the_folder_of_annotations_too(image):
    (image / "images").mkdir()
    (image / "a.tif").rename(image / "images/a.tif")
    (image / "labels").mkdir()
    (image / "labels/a.csv").write_text(VIA)
    with pytest.raises(InputError, match=r"VGG Image Annotator \(labels/a\.csv\)"):
        find_pairs(image)
    with pytest.raises(InputError, match="VGG Image Annotator"):
        pair_folders(image / "images", image / "labels")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_named_is_refused_by_what_it_is(tmp_path, name):
    text, what, instead = FILES[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(AnnotationError, match=f"{what}.*, which is not read") as caught:
        read_annotation(tmp_path / name)
    assert instead in caught.value.hint


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "label,area\n1,20\n"),
        ("a.txt", "These are my nuclei.\n"),
        ("notes.txt", "12 34\n"),
        ("a.xml", "<html>"),
        ("a.json", '{"fps": 3}'),
        ("a.tif", VIA),
    ],
)
def test_other_files_are_none_of_them(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert foreign_format(tmp_path / name) is None


def test_every_format_is_tried():
    assert len({what for _, what, _ in FILES.values()}) >= len(FORMATS)
