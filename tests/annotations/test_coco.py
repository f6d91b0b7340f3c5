"""COCO: one file, many images, polygons and run-length encodings."""

from __future__ import annotations

import itertools
import json
import os

import numpy as np
import pytest
import roifile
import tifffile

from cellunet.annotations.coco import is_coco, note_on_lost, read_coco
from cellunet.annotations.json_files import read_json
from cellunet.annotations.pairs import find_annotations
from cellunet.annotations.read import read_annotation
from cellunet.cli.app import main
from cellunet.errors import AnnotationError, InputError

CATEGORIES = [
    {"id": 1, "name": "nucleus", "supercategory": ""},
    {"id": 2, "name": "ignore", "supercategory": ""},
    {"id": 3, "name": "region", "supercategory": ""},
]


def image(number, name, height=6, width=8):
    return {"id": number, "file_name": name, "height": height, "width": width}


def annotation(number, segmentation, image_id=1, category=1, crowd=0):
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "segmentation": segmentation,
        "area": 1.0,
        "bbox": [0, 0, 1, 1],
        "iscrowd": crowd,
    }


SQUARE = [1, 1, 4, 1, 4, 4, 1, 4]
# Rows 0 and 1 of column 5: 5 * 6 outside, 2 inside, 16 outside. 30 is 11110 in bits,
# with more to follow 48 + 30 + 32 = 110 'n', then '0'; 2 is '2'; 16 is 10000, which
# alone would be negative: 48 + 16 + 32 = 96 '`', then '0'.
RLE = {"size": [6, 8], "counts": [30, 2, 16]}
PACKED = {"size": [6, 8], "counts": "n02`0"}


ONE_IMAGE = (image(1, "a.tif"),)


@pytest.fixture
def write(tmp_path):
    times = itertools.count(1)

    def write(*annotations, images=ONE_IMAGE, name="instances.json"):
        document = {
            "info": {},
            "licenses": [],
            "images": list(images),
            "annotations": list(annotations),
            "categories": CATEGORIES,
        }
        path = tmp_path / name
        path.write_text(json.dumps(document), encoding="utf-8")
        # A file may be written again within the resolution of its time.
        os.utime(path, (0, next(times)))
        return path

    return write


def test_polygons_and_both_run_lengths_are_objects(write):
    path = write(
        annotation(1, [SQUARE]),
        annotation(2, RLE, crowd=1),
        annotation(3, [[6, 3, 8, 3, 8, 5, 6, 5], [6, 5, 7, 5, 7, 6, 6, 6]]),
    )
    found = read_annotation(path)
    assert found.kind == "coco"
    assert found.labels.astype(int).tolist() == [
        [0, 0, 0, 0, 0, 2, 0, 0],
        [0, 1, 1, 1, 0, 2, 0, 0],
        [0, 1, 1, 1, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 3, 3],
        [0, 0, 0, 0, 0, 0, 3, 3],
        [0, 0, 0, 0, 0, 0, 3, 0],
    ]
    assert found.notes[0].startswith("Annotations marked as crowds (iscrowd): 1.")
    packed = read_annotation(write(annotation(1, PACKED)))
    assert np.array_equal(packed.labels == 1, found.labels == 2)


def test_each_image_has_its_own_annotations(write):
    images = (
        image(7, "images/default/a.tif"),
        image(9, "b.png", 3, 4),
        image(4, "c.tif"),
    )
    path = write(
        annotation(1, [SQUARE], image_id=7),
        annotation(2, [[0, 0, 2, 0, 2, 2, 0, 2]], image_id=9),
        annotation(3, [[2, 2, 4, 2, 4, 3, 2, 3]], image_id=9),
        images=images,
    )
    assert list(read_coco(path).images) == ["a.tif", "b.png", "c.tif"]
    assert read_annotation(path, member="a.tif").labels.max() == 1
    found = read_annotation(path, member="b.png").labels
    assert found.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 2]]
    # Listed and without annotations: an image without objects.
    assert not read_annotation(path, member="c.tif").labels.any()
    with pytest.raises(AnnotationError, match=r"annotates 3 images .*, but not d\.tif"):
        read_annotation(path, member="d.tif")
    with pytest.raises(AnnotationError, match="but not one"):
        read_annotation(path)


def test_several_files_are_read_once_each_for_all_their_images(write, monkeypatch):
    parsed = []

    def reading(path):
        parsed.append(path.name)
        return read_json(path)

    monkeypatch.setattr("cellunet.annotations.coco.read_json", reading)
    monkeypatch.setattr("cellunet.annotations.read.read_json", reading)
    images = [image(1, "a.tif"), image(2, "b.tif")]
    files = [
        write(annotation(1, [SQUARE]), images=images, name=f"{k}.json")
        for k in range(4)
    ]
    for member in ("a.tif", "b.tif"):
        for path in files:
            read_annotation(path, member=member)
    assert parsed == ["0.json", "1.json", "2.json", "3.json"]


def test_categories_say_what_does_not_count(write):
    found = read_annotation(
        write(
            annotation(1, [SQUARE]),
            annotation(2, [[0, 0, 2, 0, 2, 6, 0, 6]], category=2),
            annotation(3, [[0, 0, 6, 0, 6, 6, 0, 6]], category=3),
        )
    )
    assert found.annotated.tolist() == [[False] * 2 + [True] * 4 + [False] * 2] * 6
    assert found.labels.max() == 1


def test_annotations_of_images_that_are_not_listed_are_left_out(write):
    path = write(annotation(1, [SQUARE]), annotation(2, [SQUARE], image_id=99))
    assert read_annotation(path).labels.max() == 1
    assert "does not list: 1 (2 (image 99))" in note_on_lost(path)


@pytest.mark.parametrize("image_id", [1, "1", 1.0])
def test_an_id_is_the_same_as_a_number_and_as_text(write, image_id):
    path = write(annotation(1, [SQUARE], image_id=image_id))
    assert read_annotation(path).labels.max() == 1


def test_a_file_that_changed_is_read_again(write):
    assert read_annotation(write(annotation(1, [SQUARE]))).labels.max() == 1
    path = write(annotation(1, [SQUARE]), annotation(2, RLE))
    assert read_annotation(path).labels.max() == 2


@pytest.mark.parametrize(
    ("annotations", "images", "message"),
    [
        (
            [
                annotation(5, [SQUARE], image_id=99),
                annotation(6, [SQUARE], image_id=[]),
            ],
            [image(1, "a.tif")],
            r"2 annotations belong to an image that is not listed: 5 \(image 99\), 6",
        ),
        ([], [image(1, "a.tif"), image(1, "b.tif")], "the same id"),
        ([], [image(1, "x/a.tif"), image(2, "./x/a.tif")], "the same file name: x/a"),
        ([], [image(1, "../..")], "Image 1 has no file_name"),
        ([], [image(1, "")], "Image 1 has no file_name"),
        ([], [image(None, "a.tif")], "has the id None"),
        ([], [image(1, "a.tif", -2)], "height of image 1 is -2"),
        ([], [3], "An image is 3"),
        ([3], [image(1, "a.tif")], "An annotation is 3"),
        ([annotation(5, [])], [image(1, "a.tif")], "annotation 5 .no outline, a box"),
        ([annotation(5, None)], [image(1, "a.tif")], "annotation 5 .no outline, a box"),
        ([annotation(5, [[1, 2, 3]])], [image(1, "a.tif")], r"5 \(1.5 points\)"),
        ([annotation(5, [[1, 2, 3, 4]])], [image(1, "a.tif")], r"5 \(2 points\)"),
        ([annotation(5, [[1, 2, 3, 4, None, 6]])], [image(1, "a.tif")], "no finite"),
        ([annotation(5, 4)], [image(1, "a.tif")], "segmentation of annotation 5 is 4"),
        (
            [annotation(5, {"size": [6, 9], "counts": "n02`0"})],
            [image(1, "a.tif")],
            r"mask of annotation 5 is \[6, 9\], its image \[6, 8\]",
        ),
        (
            [annotation(5, {"size": [6, 8], "counts": [1, 2]})],
            [image(1, "a.tif")],
            "annotation 5: The runs of the mask add up to 3",
        ),
        (
            [annotation(5, {"size": [6, 8], "counts": [1, 2.5]})],
            [image(1, "a.tif")],
            "count of annotation 5 is 2.5",
        ),
        (
            [],
            [image(1, "a.tif", 10**6, 10**6)],
            "1,000,000 x 1,000,000 pixels; up to",
        ),
    ],
)
def test_what_is_wrong_is_named_in_one_line(write, annotations, images, message):
    path = write(*annotations, images=images)
    with pytest.raises(AnnotationError, match=message) as caught:
        read_annotation(path, member=read_coco(path).images and "a.tif")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cut_off_coco_file_is_refused_and_other_json_is_not_coco(write, tmp_path):
    path = write(annotation(1, [SQUARE]))
    assert is_coco(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(AnnotationError, match=r"instances\.json is no JSON"):
        is_coco(path)
    other = tmp_path / "settings.json"
    other.write_text("// not even JSON")
    assert not is_coco(other)
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_coco(tmp_path / "none.json")


def tree(folder, *names):
    """Write images of one gray each, 1, 2, ..., below a folder."""
    for gray, name in enumerate(names, 1):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.full((6, 8), gray, np.uint8))


def listed(write, *names):
    """Write a COCO file with one square on each image."""
    squares = [annotation(k, [SQUARE], image_id=k) for k in range(len(names))]
    return write(*squares, images=[image(k, name) for k, name in enumerate(names)])


def pairs_of(folder):
    found = find_annotations(folder).drawn
    return {
        one.name: one.image and one.image.relative_to(folder).as_posix()
        for one in found
    }


@pytest.mark.parametrize(
    "name",
    [
        *("../../server/media/upload/1/ab12cd34-a.tif", "C:\\media\\ab12cd34-a.tif"),
        *("..\\media\\ab12cd34-a.tif", "/data/local-files/?d=x/ab12cd34-a.tif"),
    ],
)
def test_where_an_image_lay_on_a_server_does_not_matter(write, tmp_path, name):
    listed(write, name)
    tree(tmp_path, "images/ab12cd34-a.tif")
    assert pairs_of(tmp_path) == {"ab12cd34-a": "images/ab12cd34-a.tif"}
    (tmp_path / "images/ab12cd34-a.tif").rename(tmp_path / "images/a.tif")
    assert pairs_of(tmp_path) == {"ab12cd34-a": "images/a.tif"}


def test_scribbles_beside_a_file_add_to_its_outlines(write, tmp_path):
    path = listed(write, "a.tif")
    tree(tmp_path, "images/a.tif")
    tree(tmp_path, "scribbles/a.tif")
    (one,) = find_annotations(tmp_path).drawn
    assert (one.annotation, one.scribbles) == (path, tmp_path / "scribbles/a.tif")
    # An image that the file does not list has its scribbles, or what is drawn inside.
    tree(tmp_path, "images/b.tif")
    tree(tmp_path, "scribbles/b.tif")
    square = roifile.ImagejRoi.frompoints([[1, 1], [5, 1], [5, 4], [1, 4]])
    tifffile.imwrite(
        tmp_path / "images/c.tif",
        np.random.default_rng(0).integers(100, 4000, (200, 220)).astype(np.uint16),
        imagej=True,
        metadata={"Overlays": [square.tobytes()]},
    )
    assert [(p.name, p.annotation) for p in find_annotations(tmp_path).drawn] == [
        ("a", path),
        ("b", tmp_path / "scribbles/b.tif"),
        ("c", tmp_path / "images/c.tif"),
    ]


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.JPEG", "x/a.png", "a.webp", "a_tif.rf.0a1b2c3d4e5f.jpg"]
)
def test_an_image_that_was_annotated_as_a_picture_is_found_by_its_stem(
    write, tmp_path, name
):
    listed(write, name)
    tree(tmp_path, "images/a.tif")
    assert list(pairs_of(tmp_path).values()) == ["images/a.tif"]


def test_images_of_one_name_are_told_apart_by_their_folders(write, tmp_path):
    path = listed(write, "well1/img.png", "well2/img.png", "sub/field2.png")
    tree(
        tmp_path,
        *("images/default/well2/img.tif", "images/default/well1/img.tif"),
        *("images/default/sub/field2.tif", "images/default/field2.tif"),
    )
    expected = {
        "well1_img": "images/default/well1/img.tif",
        "well2_img": "images/default/well2/img.tif",
        "field2": "images/default/sub/field2.tif",
    }
    assert find_annotations(path).drawn[0].image is not None
    # An image that the file does not name is nobody's: that is told, as ever.
    with pytest.raises(InputError, match="default_field2"):
        pairs_of(tmp_path)
    (tmp_path / "images/default/field2.tif").unlink()
    assert pairs_of(tmp_path) == expected


@pytest.mark.parametrize(
    ("names", "files", "told"),
    [
        (["a/i.png", "b/i.png"], ["images/i.tif"], "i.tif might belong to 2: a/i.png"),
        (["i.png"], ["images/a/i.tif", "images/b/i.tif"], "i.png might belong to 2"),
    ],
)
def test_what_might_belong_to_several_is_named(write, tmp_path, names, files, told):
    listed(write, *names)
    tree(tmp_path, *files)
    with pytest.raises(InputError, match=told):
        pairs_of(tmp_path)


def test_an_export_without_an_object_is_a_fault_unless_it_is_asked_for(
    write, tmp_path, capsys
):
    write(images=[image(1, "a.tif"), image(2, "b.tif")])
    tree(tmp_path, "images/a.tif", "images/b.tif")
    words = ["make-labels", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    assert "lists 2 images and not one object" in capsys.readouterr().err
    assert main([*words, "--allow-empty"]) == 0


@pytest.mark.parametrize("bad", [None, [], [[]], [[1, 2, 3, 4]], [[1, 2, 3]]], ids=repr)
def test_one_annotation_without_outline_is_left_out_by_name(write, bad):
    found = read_annotation(write(annotation(1, [SQUARE]), annotation(9, bad)))
    assert np.array_equal(
        found.labels, read_annotation(write(annotation(1, [SQUARE]))).labels
    )
    assert "1 of 2 shapes enclose nothing" in found.notes[0]
    assert "annotation 9" in found.notes[0]


def test_a_flat_list_of_coordinates_is_one_polygon(write):
    # As VGG Image Annotator 2 exports it, ids as text.
    flat = read_annotation(write(annotation(1, SQUARE, image_id="1")))
    listed = read_annotation(write(annotation(1, [SQUARE])))
    assert np.array_equal(flat.labels, listed.labels)


def test_categories_with_ids_as_text_say_what_does_not_count(write, tmp_path):
    path = write(annotation(1, [SQUARE]), annotation(2, [SQUARE], category="9"))
    document = json.loads(path.read_text())
    document["categories"] = [{"id": "9", "name": "ignore"}]
    path.write_text(json.dumps(document))
    assert not read_annotation(path).annotated.all()


def test_a_file_that_does_not_know_the_size_takes_that_of_the_image(write):
    path = write(
        annotation(1, [SQUARE]), images=[{"id": 1, "file_name": "a", "height": 0}]
    )
    assert read_annotation(path, shape=(9, 11)).labels.shape == (9, 11)
    with pytest.raises(AnnotationError, match="does not hold the size"):
        read_annotation(path)


def test_a_number_as_text_is_the_same_image(write):
    path = write(annotation(1, [SQUARE], image_id="7"), images=[image(7, "a.tif")])
    assert read_annotation(path).labels.max() == 1
