"""Stacks of label images are read with their images, plane by plane."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from cellunet.annotations.label_pairs import pair_folders
from cellunet.annotations.pairs import find_annotations, find_pairs, split
from cellunet.annotations.pixels import planes_with_objects
from cellunet.annotations.planes import ChosenPlanes, LabelStack, label_stack
from cellunet.annotations.read import read_annotation
from cellunet.cli.app import main
from cellunet.errors import AnnotationError, ConfigError, InputError
from cellunet.io.images import open_image
from cellunet.io.source import Region, one_plane

SHAPE = (4, 20, 30)


def movie():
    return np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)


def labels(*planes):
    """One object of 12 px on each of these planes, another on the last."""
    stack = np.zeros(SHAPE, np.uint16)
    for k in planes:
        stack[k, 2:5, 3 + k : 7 + k] = k + 1
    return stack


def write(path, stack, axes="TYX", **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    how = how or {"ome": True}
    tifffile.imwrite(
        path, stack, photometric="minisblack", metadata={"axes": axes}, **how
    )
    return path


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "images/a.ome.tif", movie())
    write(tmp_path / "labels/a.tif", labels(0, 1, 2, 3))
    return tmp_path


def names(found):
    return [pair.name for pair in found]


@pytest.mark.parametrize(
    ("axes", "shape", "how", "expected"),
    [
        ("TYX", SHAPE, {"ome": True}, LabelStack("T", (4,))),
        ("TZYX", (2, 3, 8, 9), {"ome": True}, LabelStack("TZ", (2, 3))),
        ("ZYX", SHAPE, {"imagej": True}, LabelStack("Z", (4,))),
        ("TZYX", (1, 3, 8, 9), {"ome": True}, LabelStack("Z", (3,))),
        ("CYX", (2, 8, 9), {"ome": True}, None),
        ("YX", (8, 9), {"ome": True}, None),
        ("ZYX", (1, 8, 9), {"ome": True}, None),
    ],
)
def test_planes_of_labels_are_those_along_time_and_depth(
    tmp_path, axes, shape, how, expected
):
    path = write(tmp_path / "a.tif", np.zeros(shape, np.uint16), axes, **how)
    assert label_stack(path) == expected


def test_a_stack_is_one_pair_a_plane_with_the_labels_of_that_plane(data):
    pairs = find_pairs(data).pairs
    assert names(pairs) == ["a_t0", "a_t1", "a_t2", "a_t3"]
    for k, pair in enumerate(pairs):
        found = read_annotation(pair.annotation, plane=pair.plane).labels
        np.testing.assert_array_equal(found, labels(0, 1, 2, 3)[k])


def test_planes_without_an_object_are_left_out_unless_they_are_named(data):
    write(data / "labels/a.tif", labels(1, 3))
    found = find_pairs(data)
    assert names(found.pairs) == ["a_t1", "a_t3"]
    assert "without an object: 2" in found.notes[-1]
    assert names(find_pairs(data, "0,3").pairs) == ["a_t0", "a_t3"]
    assert names(find_annotations(data).drawn) == ["a_t1", "a_t3"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", {0}), ("0,2-3", {0, 2, 3}), ("1-9:3", {1, 4, 7}), (" 5 , 5-5 ", {5})],
)
def test_planes_are_numbers_and_ranges(text, expected):
    assert ChosenPlanes(text).chosen == expected


@pytest.mark.parametrize("text", ["", "a", "3-", "-3", "1-5:0", "1;2", "1-2-3"])
def test_other_lists_of_planes_are_refused(text):
    with pytest.raises(ConfigError, match="numbers from 0 are expected"):
        ChosenPlanes(text)


def test_a_choice_that_takes_no_plane_is_refused(data):
    with pytest.raises(InputError, match="None of the planes of 1 stacks"):
        find_pairs(data, "9")
    write(data / "labels/a.tif", labels())
    with pytest.raises(InputError, match="None of the planes") as caught:
        find_pairs(data)
    assert "--planes 0-9" in caught.value.hint


def test_labels_of_another_number_of_planes_are_refused(data):
    write(data / "labels/a.tif", labels(0, 1)[:3])
    (pair,) = find_pairs(data).pairs
    assert pair.plane is None
    with pytest.raises(AnnotationError, match="more than one plane") as caught:
        read_annotation(pair.annotation)
    assert "NAME/masks" in caught.value.hint


def test_pages_without_a_name_are_planes_where_the_image_has_as_many(tmp_path):
    write(tmp_path / "images/a.tif", movie(), "ZYX", imagej=True)
    (tmp_path / "labels").mkdir()
    with tifffile.TiffWriter(tmp_path / "labels/a.tif") as tiff:
        for plane in labels(0, 1, 2, 3):
            tiff.write(plane, metadata=None, photometric="minisblack")
    assert len(find_pairs(tmp_path).pairs) == 4


def in_other_order(tmp_path):
    """Two times of three planes, in which t and z stand; labels TZ, the image ZT."""
    image = np.zeros((3, 2, 20, 30), np.uint16)
    drawn = np.zeros((2, 3, 20, 30), np.uint16)
    for t, z in np.ndindex(2, 3):
        image[z, t] = 10 * t + z
        drawn[t, z, 2:5, 3:7] = 1 + 10 * t + z
    write(tmp_path / "images/a.tif", image, "ZTYX")
    write(tmp_path / "labels/a.tif", drawn, "TZYX")


def test_planes_of_axes_in_another_order_match_by_letter(tmp_path):
    in_other_order(tmp_path)
    pairs = find_pairs(tmp_path).pairs
    assert names(pairs) == [f"a_t{t}_z{z}" for t in (0, 1) for z in (0, 1, 2)]
    for pair in pairs:
        drawn = read_annotation(pair.annotation, plane=pair.plane).labels
        with one_plane(open_image(pair.image), pair.other_plane) as source:
            image = source.read(Region(0, 0, 20, 0, 30))[0]
        assert drawn.max() == 1 + image.max()
    swapped = pair_folders(tmp_path / "images", tmp_path / "labels", planes="0-5")
    for pair in swapped:
        predicted = read_annotation(pair.predicted, plane=pair.other_plane).labels
        true = read_annotation(pair.labels, plane=pair.plane).labels
        assert true.max() == 1 + predicted.max()


def test_labels_of_other_lengths_of_time_and_depth_are_no_partner(tmp_path):
    in_other_order(tmp_path)
    write(tmp_path / "images/a.tif", np.zeros((2, 3, 20, 30), np.uint16), "ZTYX")
    (pair,) = find_pairs(tmp_path).pairs
    with pytest.raises(AnnotationError, match="TZYX 2 x 3 x 20 x 30"):
        read_annotation(pair.annotation, plane=pair.plane)


def test_what_part_is_annotated_may_be_one_plane_for_all_or_one_for_each(data):
    part = np.zeros(SHAPE[1:], np.uint8)
    part[:10] = 1
    write(data / "annotated/a.tif", part, "YX")
    pair = find_pairs(data).pairs[2]
    assert pair.annotated is not None

    def rows(k):
        found = read_annotation(
            pair.annotation, annotated=pair.annotated, plane=k
        ).annotated
        return int(found.any(axis=1).sum())

    assert [rows(0), rows(3)] == [10, 10]
    each = np.repeat(part[None], 4, axis=0)
    each[3, 5:] = 0
    write(data / "annotated/a.tif", each)
    assert [rows(0), rows(3)] == [10, 5]


def test_planes_without_a_scribble_are_planes_of_a_stack_of_scribbles(data):
    write(data / "labels/a.tif", labels(0, 1))
    said = np.zeros(SHAPE, np.uint8)
    said[1:3, 18] = 1
    write(data / "scribbles/a.tif", said)
    for planes in (None, "0-3"):
        found = find_pairs(data, planes)
        # The last holds neither an object nor a scribble.
        assert names(found.pairs) == ["a_t0", "a_t1", "a_t2"]
        assert "left out, without an object: 1" in found.notes[0]
    drawn = [
        read_annotation(p.annotation, scribbles=p.scribbles, plane=p.plane)
        for p in found.pairs
    ]
    assert [(one.scribbles == 1).any(axis=1)[18] for one in drawn] == [0, 1, 1]
    # Also where no scribble is, only the objects count and what is around them.
    assert [one.annotated.any() for one in drawn] == [1, 1, 0]
    assert not drawn[0].annotated.all()
    (data / "labels/a.tif").unlink()
    assert names(find_pairs(data).pairs) == ["a_t1", "a_t2"]
    assert names(find_pairs(data, "0-1").pairs) == ["a_t1"]


def test_one_plane_of_a_source_is_a_source(data):
    with one_plane(open_image(data / "images/a.ome.tif"), 2) as source:
        assert source.plane_shape == ()
        found = source.read(Region(0, 1, 20, 0, 30))
        np.testing.assert_array_equal(found[0], movie()[2, 1:])
    with open_image(data / "images/a.ome.tif") as whole:
        assert one_plane(whole, None) is whole


def test_predicted_stacks_are_paired_with_true_ones_by_plane(data, tmp_path):
    predicted = write(tmp_path / "pred/a.tif", labels(0, 1, 2, 3))
    write(data / "labels/a.tif", labels(0, 2))
    pairs = pair_folders(predicted.parent, data / "labels")
    assert [(p.name, p.plane) for p in pairs] == [("a_t0", 0), ("a_t2", 2)]
    every = pair_folders(predicted.parent, data / "labels", planes="0-3")
    assert [p.plane for p in every] == [0, 1, 2, 3]


def test_evaluate_scores_stacks_plane_by_plane(data, tmp_path, capsys):
    write(tmp_path / "pred/a.tif", labels(0, 1, 2, 3))
    words = ["evaluate", "--pred", str(tmp_path / "pred"), str(data / "labels")]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "true objects" in told
    assert told.split("images", 1)[1].split()[0] == "4"
    write(data / "labels/a.tif", labels(1))
    assert main(words) == 0
    told = capsys.readouterr()
    assert told.out.split("images", 1)[1].split()[0] == "1"
    assert "left out, without an object: 3" in told.err


def test_make_labels_writes_a_label_image_of_each_plane(data, tmp_path):
    assert main(["make-labels", str(data), "--out", str(tmp_path / "o")]) == 0
    found = sorted(p.name for p in (tmp_path / "o/labels").iterdir())
    assert found == ["a_t0.tif", "a_t1.tif", "a_t2.tif", "a_t3.tif"]
    pixels = tifffile.imread(tmp_path / "o/labels/a_t2.tif")
    np.testing.assert_array_equal(pixels, labels(2)[2])


def test_planes_of_a_stack_are_on_one_side_of_a_split(data):
    for name in ("b", "c"):
        write(data / f"images/{name}.ome.tif", movie() + 1)
        write(data / f"labels/{name}.tif", labels(0, 1, 2))
    train, validation = split(find_pairs(data), validation_fraction=0.34, seed=1)
    assert len({p.image for p in validation}) == 1
    assert not {p.image for p in validation} & {p.image for p in train}


def test_planes_of_the_only_stack_are_on_both_sides(data):
    train, validation = split(find_pairs(data), validation_fraction=0.25, seed=1)
    assert (len(train), len(validation)) == (3, 1)


def test_a_list_of_training_images_names_files_of_all_their_planes(data):
    write(data / "images/b.ome.tif", movie())
    write(data / "labels/b.tif", labels(0, 1))
    (data / "metadata").mkdir()
    (data / "metadata/training.txt").write_text("a.tif\n")
    (data / "metadata/validation.txt").write_text("b.tif\n")
    found = find_pairs(data)
    assert found.train == ("a_t0", "a_t1", "a_t2", "a_t3")
    assert found.validation == ("b_t0", "b_t1")


def test_a_single_plane_is_no_stack(tmp_path):
    write(tmp_path / "images/a.ome.tif", movie()[:1])
    write(tmp_path / "labels/a.tif", labels(0)[:1])
    (pair,) = find_pairs(tmp_path).pairs
    assert (pair.name, pair.plane) == ("a", None)


def test_a_stack_is_opened_as_often_whatever_its_planes(tmp_path, monkeypatch) -> None:
    opened, read = [], tifffile.TiffFile

    def counting(path, **options):
        opened.append(path)
        return read(path, **options)

    monkeypatch.setattr("cellunet.annotations.pixels.tifffile.TiffFile", counting)
    counts = []
    for planes in (2, 9):
        pixels = np.zeros((planes, 8, 8), np.uint16)
        pixels[1:] = 3
        path = tmp_path / f"{planes}.tif"
        tifffile.imwrite(path, pixels, metadata={"axes": "ZYX"})
        opened.clear()
        assert planes_with_objects(path, planes) == [*range(1, planes)]
        counts.append(len(opened))
    assert counts[0] == counts[1] > 0
