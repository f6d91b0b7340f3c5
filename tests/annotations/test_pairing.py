"""Images find their annotations, and whatever does not match is named."""

from __future__ import annotations

import json
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from cellunet.annotations.find import LAYOUTS, UNDERSTOOD
from cellunet.annotations.pairs import (
    Pair,
    Pairs,
    content_hash,
    find_pairs,
    fingerprint,
    is_known,
    listed,
    refuse_shared,
    split,
)
from cellunet.errors import AnnotationError, ConfigError, InputError
from cellunet.io.paths import (
    ARRAY_SUFFIX,
    NAPARI_SUFFIX,
    SHAPES_SUFFIXES,
    bare_stem,
    stem,
)


def touch(folder: Path, *names: str) -> Path:
    """Create empty files: pairing looks at names only."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def named(*names: str) -> Pairs:
    pairs = tuple(Pair(Path(f"{n}.tif"), Path(f"{n}.png"), n) for n in sorted(names))
    return Pairs(pairs, "folders")


def test_the_listed_of_many_thousand_images_are_found_at_once() -> None:
    names = [f"i{k:05}" for k in range(20_000)]
    pairs = replace(named(*names), train=tuple(names[::2]))
    begin = time.perf_counter()
    assert len(listed(pairs)) == 10_000
    # One look at the list for each image took over 20 s.
    assert time.perf_counter() - begin < 5


def found(folder: Path) -> list[tuple[str, str, str]]:
    return [
        (p.name, p.image.name, p.annotation.relative_to(folder).as_posix())
        for p in find_pairs(folder).pairs
    ]


@pytest.mark.parametrize(
    ("name", "whole", "bare"),
    [
        ("a.tif", "a", "a"),
        ("a.b.OME.TIF", "a.b", "a.b"),
        ("a_masks.ome.tiff", "a_masks", "a"),
        ("a_seg.png", "a_seg", "a"),
        ("a_cp_masks.png", "a_cp_masks", "a"),
        ("_masks.png", "_masks", "_masks"),
        (".tif", ".tif", ".tif"),
        ("a", "a", "a"),
        ("a.v2", "a.v2", "a.v2"),
    ],
)
def test_stems_lose_image_and_annotation_suffixes_only(name, whole, bare):
    assert (stem(name), bare_stem(name)) == (whole, bare)


@pytest.mark.parametrize("annotations", ["labels", "masks"])
def test_images_are_paired_with_the_folder_beside_them(tmp_path, annotations):
    touch(tmp_path, "images/b.tif", "images/a 1.ome.tif", "images/ü_🔬.png")
    touch(tmp_path / annotations, "b.png", "a 1_masks.tif", "ü_🔬.tiff")
    assert found(tmp_path) == [
        ("a 1", "a 1.ome.tif", f"{annotations}/a 1_masks.tif"),
        ("b", "b.tif", f"{annotations}/b.png"),
        ("ü_🔬", "ü_🔬.png", f"{annotations}/ü_🔬.tiff"),
    ]
    assert find_pairs(tmp_path).layout == "folders"


def test_an_image_whose_own_name_ends_like_an_annotation_is_paired(tmp_path):
    touch(tmp_path, "images/a_seg.tif", "labels/a_seg.tif")
    assert [p.name for p in find_pairs(tmp_path).pairs] == ["a_seg"]


@pytest.mark.parametrize("suffix", ["_masks", "_labels", "_label", "_seg"])
def test_a_flat_folder_is_paired_by_suffix(tmp_path, suffix):
    touch(tmp_path, "a.tif", f"a{suffix}.png", "b.tif", f"b{suffix}.tif")
    touch(tmp_path, "notes.txt", ".DS_Store", "._a.tif")
    assert found(tmp_path) == [
        ("a", "a.tif", f"a{suffix}.png"),
        ("b", "b.tif", f"b{suffix}.tif"),
    ]
    pairs = find_pairs(tmp_path)
    assert pairs.layout == "flat"
    assert "other files in" in pairs.notes[0]
    assert ".txt" in pairs.notes[0]


def test_composed_and_decomposed_accents_are_one_name(tmp_path):
    touch(tmp_path, "images/" + unicodedata.normalize("NFD", "ü.tif"), "labels/ü.tif")
    assert [p.name for p in find_pairs(tmp_path).pairs] == ["ü"]


def test_dsb2018_is_paired_per_folder(tmp_path):
    for name in ("n1", "n2"):
        touch(tmp_path / name, f"images/{name}.png", "masks/x.png", "masks/y.png")
    assert found(tmp_path) == [
        ("n1", "n1.png", "n1/masks"),
        ("n2", "n2.png", "n2/masks"),
    ]
    assert find_pairs(tmp_path).layout == "dsb2018"


def bbbc039(folder: Path, **lists: str) -> Path:
    for name in "abcd":
        touch(folder, f"images/{name}.tif", f"masks/{name}.png")
    (folder / "metadata").mkdir()
    for side, text in lists.items():
        (folder / "metadata" / f"{side}.txt").write_text(text, encoding="utf-8")
    return folder


def test_published_lists_are_honoured_and_the_rest_is_left_out(tmp_path):
    # As published: names with .png, a byte order mark, blank lines, CRLF.
    folder = bbbc039(
        tmp_path, training="\ufeffc.png\r\na.png\r\n\r\n", validation="b\n", test="d\n"
    )
    pairs = find_pairs(folder)
    assert pairs.layout == "bbbc039"
    assert (pairs.train, pairs.validation) == (("a", "c"), ("b",))
    assert [p.name for p in pairs.pairs] == ["a", "b", "c"]
    assert pairs.notes == (
        "Left out, because neither training.txt nor validation.txt names them: "
        "1 of 4 images (d).",
    )
    train, validation = split(pairs, validation_fraction=0.5, seed=0)
    assert [p.name for p in train] == ["a", "c"]
    assert [p.name for p in validation] == ["b"]


def test_what_is_not_listed_needs_no_partner(tmp_path):
    folder = bbbc039(tmp_path, training="a", validation="b")
    (folder / "masks" / "d.png").unlink()
    assert [p.name for p in find_pairs(folder).pairs] == ["a", "b"]


def test_a_validation_list_alone_leaves_the_rest_to_training(tmp_path):
    pairs = find_pairs(bbbc039(tmp_path, validation="b"))
    train, validation = split(pairs, validation_fraction=0.5, seed=0)
    assert [p.name for p in train] == ["a", "c", "d"]
    assert [p.name for p in validation] == ["b"]


def test_a_training_list_alone_is_what_validation_is_drawn_from(tmp_path):
    pairs = find_pairs(bbbc039(tmp_path, training="a\nb\nc"))
    train, validation = split(pairs, validation_fraction=0.34, seed=0)
    assert len(train) == 2
    assert {p.name for p in train + validation} == {"a", "b", "c"}


def test_lists_that_contradict_or_name_what_is_missing_are_refused(tmp_path):
    folder = bbbc039(tmp_path, training="a\nb\nz", validation="b")
    with pytest.raises(InputError, match="not there z; in both lists b") as caught:
        find_pairs(folder)
    assert "do not match" in caught.value.message


def test_a_list_that_is_not_text_is_refused(tmp_path):
    folder = bbbc039(tmp_path)
    (folder / "metadata" / "training.txt").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(InputError, match=r"training\.txt cannot be read as a list"):
        find_pairs(folder)


def test_an_empty_list_is_refused(tmp_path):
    with pytest.raises(InputError, match="name no image"):
        find_pairs(bbbc039(tmp_path, training="\n"))


def test_missing_extra_and_doubled_partners_are_named_in_one_message(tmp_path):
    touch(tmp_path, "images/ok.tif", "labels/ok.tif")
    touch(tmp_path, "images/bare.tif", "labels/lost.png")
    touch(tmp_path, "images/twice.tif", "images/twice.png", "labels/twice.tif")
    touch(tmp_path, "images/two.tif", "labels/two.tif", "labels/two_masks.tif")
    with pytest.raises(InputError) as caught:
        find_pairs(tmp_path)
    assert caught.value.message == (
        f"The images and annotations in {tmp_path} do not match: "
        "no annotation for the image bare; no image for the annotation lost; "
        "several images called twice; several annotations for two."
    )


def test_a_partner_of_a_format_that_is_not_read_is_told(tmp_path):
    touch(tmp_path, "images/a.tif", "labels/a.tif", "images/b.bmp", "labels/b.png")
    with pytest.raises(
        InputError, match=r"annotation b; left out: 1 \.bmp\."
    ) as caught:
        find_pairs(tmp_path)
    assert "TIFF or PNG" in caught.value.hint


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "nd2", "czi", "lif", "dv", "lsm"])
def test_pictures_and_files_of_microscopes_are_images_to_annotate(tmp_path, suffix):
    touch(tmp_path, f"images/a.{suffix}", "labels/a_masks.tif")
    touch(tmp_path, f"flat/b.{suffix}", "flat/b_masks.png")
    for folder in (tmp_path, tmp_path / "flat"):
        found = find_pairs(folder)
        assert [p.image.suffix for p in found.pairs] == [f".{suffix}"]
        told = [note for note in found.notes if "altered the intensities" in note]
        assert len(told) == suffix.lower().startswith("jp")


def test_what_a_program_exported_goes_before_the_file_that_it_came_from(tmp_path):
    touch(tmp_path, "images/a.nd2", "images/a.tif", "images/a.jpg", "labels/a.tif")
    (pair,) = find_pairs(tmp_path).pairs
    assert pair.image.name == "a.tif"


def test_at_most_ten_names_are_listed(tmp_path):
    touch(tmp_path, "images/ok.tif", "labels/ok.tif")
    touch(tmp_path, *(f"images/n{i:02}.tif" for i in range(13)))
    with pytest.raises(InputError, match=r"n08, n09 and 3 more\."):
        find_pairs(tmp_path)


def test_an_image_folder_without_objects_is_named(tmp_path):
    touch(tmp_path, "n1/images/n1.png", "n1/masks/x.png", "n2/images/n2.png")
    with pytest.raises(InputError, match="no annotation for the image n2"):
        find_pairs(tmp_path)


@pytest.mark.parametrize(
    ("names", "message", "hint"),
    [
        ((), "is empty", "Understood: DATA/images"),
        (("a.tif", "b.tif"), "no annotation .images recognized: 2", "cellunet suggest"),
        (("images/a.tif",), "no annotation .images recognized: 1", "Understood"),
        (("a_masks.tif",), "recognized: 0, annotations: 1", "Understood"),
        (("labels/a.tif",), "recognized: 0, annotations: 1", "Understood"),
        (("images/a.tif", "labels/a.npz"), r"1; left out: 1 \.npz", "cellunet suggest"),
        (("images/a.tif", "b.npy"), "recognized: 1, annotations: 1", "Understood"),
        (
            ("train/_annotations.coco.json", "train/a_tif.rf.0a1b.webp"),
            r"left out: 1 \.webp",
            "Then name the set: ",
        ),
        (("a.txt",), r"annotations: 0; left out: 1 \.txt", "Understood"),
        (("images/a.tif", "labels/a.JPG"), r"left out: 1 \.jpg", "TIFF or PNG"),
        (("images/a.tif", "labels/a.tif", "masks/a.tif"), "both", "Keep one"),
    ],
)
def test_a_folder_without_pairs_says_what_it_holds(tmp_path, names, message, hint):
    touch(tmp_path, *names)
    with pytest.raises(InputError, match=message) as caught:
        find_pairs(tmp_path)
    assert hint in caught.value.hint
    assert str(tmp_path) in caught.value.message


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="There is no folder"):
        find_pairs(tmp_path / "nowhere")
    touch(tmp_path, "a.tif")
    with pytest.raises(InputError, match="is a file; a folder"):
        find_pairs(tmp_path / "a.tif")


def test_the_images_folder_itself_points_to_the_one_above(tmp_path):
    touch(tmp_path, "images/a.tif", "labels/a.tif")
    with pytest.raises(InputError, match="annotations are in labels") as caught:
        find_pairs(tmp_path / "images")
    assert str(tmp_path) in caught.value.hint


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setitem(LAYOUTS, "folders", refuse)
    with pytest.raises(InputError, match="cannot be listed"):
        find_pairs(tmp_path)


def test_a_split_depends_on_names_fraction_and_seed_alone():
    pairs = named(*"abcdefghij")
    train, validation = split(pairs, validation_fraction=0.2, seed=1)
    # Fixed here so that a change of the draw, which would move every benchmark, shows.
    assert [p.name for p in validation] == ["a", "c"]
    assert split(pairs, validation_fraction=0.2, seed=1) == (train, validation)
    assert split(pairs, validation_fraction=0.2, seed=2)[1] != validation


def test_every_kind_of_image_gives_its_share():
    pairs = named(*(f"{i:03d}" for i in range(100)))

    def stratum(pair):
        return (int(pair.name) % 10 == 0, int(pair.name) % 10 == 1)

    _, validation = split(pairs, validation_fraction=0.2, seed=3, stratum=stratum)
    drawn = [stratum(pair) for pair in validation]
    assert [drawn.count(s) for s in ((False, False), (True, False), (False, True))] == [
        16,
        2,
        2,
    ]


@given(
    st.integers(2, 60),
    st.floats(0, 1, exclude_min=True, exclude_max=True),
    st.integers(0, 99),
)
def test_a_split_divides_the_names(count, fraction, seed):
    pairs = named(*map(str, range(count)))
    train, validation = split(pairs, validation_fraction=fraction, seed=seed)
    assert sorted(train + validation, key=lambda p: p.name) == list(pairs.pairs)
    assert abs(len(validation) - fraction * count) <= 1


@pytest.mark.parametrize("seed", range(20))
def test_an_image_of_most_parts_is_not_all_of_validation(seed):
    pairs = named(*(f"{i:02d}" for i in range(12)))

    def origin(pair):
        return min(pair.name, "03")

    train, validation = split(pairs, validation_fraction=0.2, seed=seed, origin=origin)
    assert len(train) >= 9
    assert {*map(origin, train)}.isdisjoint(map(origin, validation))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(ConfigError, match=r"--val 0\.2"):
        split(named("a", "b"), validation_fraction=fraction, seed=0)


def test_one_pair_cannot_be_split():
    with pytest.raises(InputError, match="1 training and 0 validation") as caught:
        split(named("a"), validation_fraction=0.2, seed=0)
    assert "--val DIR" in caught.value.hint
    assert "--folds 2" in caught.value.hint


def test_fingerprints_see_values_shape_and_type_but_no_layout():
    image = np.arange(6, dtype="<u2").reshape(2, 3)
    assert fingerprint(image) == fingerprint(image.astype(">u2"))
    assert fingerprint(image) == fingerprint(np.asfortranarray(image))
    others = (image + 1, image.reshape(3, 2), image.astype(np.uint32))
    assert len({fingerprint(image), *map(fingerprint, others)}) == 4
    # sha256(b"(1,) |u1 \x07"), worked with another tool
    assert fingerprint(np.uint8([7])) == "83f2ee4a274eaa48"


def test_the_same_image_on_both_sides_is_refused_with_both_names():
    refuse_shared({"a": "1", "b": "2"}, {"c": "3"})
    with pytest.raises(InputError, match=r"b \(training\) = d \(validation\)"):
        refuse_shared({"a": "1", "b": "2"}, {"c": "3", "d": "2"})


@pytest.mark.data
def test_the_annotated_sets_are_found(data_dir):
    published = find_pairs(data_dir / "bbbc039")
    assert (published.layout, len(published.pairs)) == ("bbbc039", 150)
    assert (len(published.train), len(published.validation)) == (100, 50)
    assert published.notes == ()
    assert len(find_pairs(data_dir / "dsb2018-fluorescence").pairs) == 360


@pytest.mark.parametrize("place", ["labels", "masks", "annotations", "rois"])
@pytest.mark.parametrize(
    "name",
    [
        "a.zip",
        "a_RoiSet.zip",
        "a_rois.zip",
        "a.roi",
        "a.geojson",
        "a.geojson.gz",
        "a.json",
        "a.ome.tif.geojson",
        "a_annotations.json",
    ],
)
def test_drawn_files_are_paired_by_name(tmp_path, place, name):
    touch(tmp_path, "images/a.ome.tif", f"{place}/{name}")
    assert found(tmp_path) == [("a", "a.ome.tif", f"{place}/{name}")]


def test_drawn_files_beside_their_images_are_paired(tmp_path):
    touch(tmp_path, "a.png", "a.json", "b.tif", "b.zip", "c.tif", "c.roi")
    touch(tmp_path, "d.tif", "d_cp_masks.png", "other.zip", "settings.json")
    # What Cellpose adds is neither image nor labels.
    touch(tmp_path, "d_seg.npy", "d_outlines_cp_masks.png", "d_flows_cp_masks.tif")
    assert found(tmp_path) == [
        ("a", "a.png", "a.json"),
        ("b", "b.tif", "b.zip"),
        ("c", "c.tif", "c.roi"),
        ("d", "d.tif", "d_cp_masks.png"),
    ]
    assert "(.json, .npy, .zip)" in find_pairs(tmp_path).notes[0]


def test_the_only_image_has_the_roi_set_that_has_no_name(tmp_path):
    touch(tmp_path, "plate 1.tif", "RoiSet.zip")
    assert found(tmp_path) == [("plate 1", "plate 1.tif", "RoiSet.zip")]
    touch(tmp_path, "plate 2.tif")
    with pytest.raises(InputError, match="holds no pair"):
        find_pairs(tmp_path)


def test_a_pickle_of_cellpose_alone_is_an_annotation_to_be_refused(tmp_path):
    touch(tmp_path, "a.tif", "a_seg.npy")
    assert found(tmp_path) == [("a", "a.tif", "a_seg.npy")]


def test_drawn_files_without_an_image_are_named(tmp_path):
    touch(tmp_path, "images/a.tif", "rois/a.zip", "rois/lost.zip", "rois/notes.json")
    with pytest.raises(InputError, match="no image for the annotation lost"):
        find_pairs(tmp_path)


def coco(path: Path, *names: str) -> Path:
    images = [
        {"id": i, "file_name": name, "height": 4, "width": 4}
        for i, name in enumerate(names)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": []}))
    return path


@pytest.mark.parametrize("place", ["annotations/instances.json", "labels.json"])
@pytest.mark.parametrize("images", ["", "images/", "images/default/"])
def test_a_coco_file_annotates_all_its_images(tmp_path, place, images):
    touch(tmp_path, f"{images}a.tif", f"{images}b.tif", "settings.json")
    coco(tmp_path / place, "default/b.tif", "a.tif")
    pairs = find_pairs(tmp_path)
    assert pairs.layout == "coco"
    assert [(p.name, p.member) for p in pairs.pairs] == [("a", "a.tif"), ("b", "b.tif")]
    assert {p.annotation for p in pairs.pairs} == {tmp_path / place}
    assert [p.image.name for p in pairs.pairs] == ["a.tif", "b.tif"]


def test_images_that_a_coco_file_misses_or_has_too_many_of_are_named(tmp_path):
    touch(tmp_path, "images/a.tif", "images/b.tif")
    coco(tmp_path / "annotations.json", "a.tif", "c.tif")
    with pytest.raises(InputError, match=r"for the image b; no image for the .* c"):
        find_pairs(tmp_path)


def test_a_cut_off_coco_file_is_named(tmp_path):
    touch(tmp_path, "images/a.tif")
    path = coco(tmp_path / "annotations" / "instances.json", "a.tif")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(AnnotationError, match=r"instances\.json is no JSON"):
        find_pairs(tmp_path)


def test_files_of_the_annotated_part_are_found_with_their_images(tmp_path):
    touch(tmp_path / "x", "images/a.tif", "labels/a_masks.png", "annotated/a.png")
    touch(tmp_path / "y", "a.tif", "a_masks.png", "a_annotated.tif", "b.tif", "b.zip")
    (one,) = find_pairs(tmp_path / "x").pairs
    assert one.annotated == tmp_path / "x" / "annotated" / "a.png"
    a, b = find_pairs(tmp_path / "y").pairs
    assert (a.annotated, b.annotated) == (tmp_path / "y" / "a_annotated.tif", None)


def test_an_image_is_known_by_the_channels_that_a_model_has_seen(rng):
    dapi, gfp, rfp = rng.integers(0, 99, (3, 8, 9)).astype(np.uint16)
    print_ = {
        name: content_hash(np.stack(planes))
        for name, planes in {
            "d": [dapi],
            "dg": [dapi, gfp],
            "gd": [gfp, dapi],
            "rg": [rfp, gfp],
        }.items()
    }
    assert print_["d"] == fingerprint(dapi[np.newaxis])
    assert len(set(print_.values())) == 4
    # A model of one channel has seen the image, one of another pair has not.
    assert is_known(print_["dg"], [print_["d"]])
    assert is_known(print_["dg"], [print_["gd"]])
    assert not is_known(print_["dg"], [print_["rg"]])
    assert not is_known(print_["d"], [print_["dg"]])
    assert is_known(print_["d"], [print_["d"]])


@pytest.mark.parametrize(
    ("image", "labels"), [("image.tif", "mask.tif"), ("img.png", "Label.PNG")]
)
def test_folders_of_an_image_and_a_mask_that_have_no_other_name(
    tmp_path, image, labels
):
    for sample in ("s1", "s2"):
        touch(tmp_path, f"{sample}/{image}", f"{sample}/{labels}", f"{sample}/x.txt")
    expected = [(n, image, f"{n}/{labels}") for n in ("s1", "s2")]
    assert found(tmp_path) == expected


def test_sets_are_known_by_a_word_of_their_name_and_samples_are_none(tmp_path):
    for name in ("stage1_train", "stage1_test"):
        touch(
            tmp_path / "sets", f"{name}/images/{name}.tif", f"{name}/masks/{name}.tif"
        )
    with pytest.raises(InputError) as caught:
        find_pairs(tmp_path / "sets")
    at = tmp_path / "sets"
    assert (
        f"train {at / 'stage1_train'} --val {at / 'stage1_test'}" in caught.value.hint
    )
    for name in ("test_1", "test_2"):
        touch(tmp_path / "samples", f"{name}/images/a.tif", f"{name}/masks/a.tif")
    assert [p.name for p in find_pairs(tmp_path / "samples").pairs] == [
        "test_1",
        "test_2",
    ]


@pytest.mark.parametrize(
    ("image", "annotation"),
    [
        ("a.ome.tif", "a.ome_cp_masks.tif"),
        ("a.tif", "a - Labels.tif"),
        ("a.tif", "a - Labels [1].tif"),
        ("a.tif", "a-labels.tif"),
        ("a.tif", "a.tif_mask.png"),
        ("a.tif", "a_Object Identities.tif"),
        ("raw/a.tif", "labels/a_Simple Segmentation.tif"),
        ("001_img.png", "001_masks.png"),
        ("A1_image.tif", "A1_label.tif"),
        ("img_01.tif", "mask_01.tif"),
        ("images/a.ome.tif", "masks/a.ome.png"),
        ("Images/a.tif", "Masks/a.tif"),
        ("image/a.tif", "mask/a.tif"),
        ("imgs/a_img.tif", "LABELS/a_mask.tif"),
    ],
)
def test_names_and_folders_that_programs_give_are_paired(tmp_path, image, annotation):
    (pair,) = find_pairs(touch(tmp_path, image, annotation)).pairs
    assert pair.image == tmp_path / image
    assert pair.annotation == tmp_path / annotation
    assert pair.name == stem(Path(image).name)


def test_two_images_that_share_a_name_but_for_marks_are_not_guessed(tmp_path):
    touch(tmp_path, "images/1_img.tif", "images/1_raw.tif", "labels/1_masks.tif")
    with pytest.raises(InputError, match="no annotation for the image 1_img, 1_raw"):
        find_pairs(tmp_path)


@pytest.mark.parametrize("end", ["flows", "outlines", "classes", "probabilities"])
def test_what_lies_beside_labels_is_no_image(tmp_path, end):
    touch(tmp_path, "a.tif", "a_masks.tif", f"a_{end}.tif")
    assert found(tmp_path) == [("a", "a.tif", "a_masks.tif")]


def test_an_image_may_be_called_like_a_result(tmp_path):
    touch(tmp_path, "a_flows.tif", "a_flows_masks.tif")
    assert found(tmp_path) == [("a_flows", "a_flows.tif", "a_flows_masks.tif")]


def test_a_folder_per_sample_holds_label_images(tmp_path):
    touch(tmp_path, "s1/images/a.tif", "s1/masks/a.tif")
    touch(tmp_path, "s2/images/a.tif", "s2/masks/a.tif")
    touch(tmp_path, "s3/images/b.tif", "s3/masks/b.tif")
    touch(tmp_path, "s3/images/c.tif", "s3/masks/c.tif")
    touch(tmp_path, "dsb/images/x.png", "dsb/masks/1.png", "dsb/masks/2.png")
    assert found(tmp_path) == [
        ("dsb", "x.png", "dsb/masks"),
        ("s1", "a.tif", "s1/masks/a.tif"),
        ("s2", "a.tif", "s2/masks/a.tif"),
        ("s3_b", "b.tif", "s3/masks/b.tif"),
        ("s3_c", "c.tif", "s3/masks/c.tif"),
    ]


def test_tracked_cells_are_paired_where_they_are_annotated(tmp_path):
    touch(tmp_path, "01/t000.tif", "01/t001.tif", "01_GT/SEG/man_seg001.tif")
    touch(tmp_path, "01_GT/TRA/man_track000.tif", "01_ST/SEG/man_seg000.tif")
    touch(tmp_path, "02/t000.tif", "02_ST/SEG/man_seg000.tif")
    pairs = find_pairs(tmp_path)
    assert pairs.layout == "tracking"
    assert found(tmp_path) == [
        ("01", "t001.tif", "01_GT/SEG/man_seg001.tif"),
        ("02", "t000.tif", "02_ST/SEG/man_seg000.tif"),
    ]
    assert "1 of 2 images" in pairs.notes[0]


def test_a_sequence_of_tracked_cells_points_to_the_folder_above(tmp_path):
    touch(tmp_path, "01/t000.tif", "01_GT/SEG/man_seg000.tif")
    with pytest.raises(InputError, match="01_GT/SEG next to it") as caught:
        find_pairs(tmp_path / "01")
    assert str(tmp_path) in (caught.value.hint or "")


def test_sets_to_train_and_to_test_on_are_named_with_the_command(tmp_path):
    touch(tmp_path, "Train/images/a.tif", "Train/masks/a.tif")
    touch(tmp_path, "test/1_img.png", "test/1_masks.png")
    with pytest.raises(InputError, match="in Train and test") as caught:
        find_pairs(tmp_path)
    command = f"cellunet train {tmp_path / 'Train'} --val {tmp_path / 'test'}"
    assert command in (caught.value.hint or "")


def test_images_and_labels_of_two_sides_are_lists(tmp_path):
    for side in ("train", "val"):
        touch(tmp_path, f"images/{side}/a.tif", f"labels/{side}/a.tif")
    pairs = find_pairs(tmp_path)
    assert pairs.train == ("train_a",)
    assert pairs.validation == ("val_a",)
    assert pairs.pairs[0].annotation == tmp_path / "labels/train/a.tif"


def test_pairs_that_lie_deeper_are_named(tmp_path):
    touch(tmp_path, "set A/x/a.tif", "set A/x/a_masks.tif", "set B/readme.txt")
    with pytest.raises(InputError, match="folders in it do: set A/x") as caught:
        find_pairs(tmp_path)
    assert caught.value.hint == f"Name that folder: {tmp_path / 'set A/x'}."


@pytest.mark.parametrize("suffix", [*SHAPES_SUFFIXES, NAPARI_SUFFIX, ARRAY_SUFFIX])
def test_the_hint_names_every_file_that_can_annotate(suffix) -> None:
    assert suffix.removesuffix(".gz") in UNDERSTOOD


def test_the_annotated_part_is_found_of_sides_and_in_any_case(tmp_path):
    for kind in ("images", "labels", "Annotated", "Scribbles"):
        touch(tmp_path / "x", f"{kind}/train/a.tif")
    touch(tmp_path / "y", "a.tif", "a_masks.tif", "a_Annotated.tif")
    (one,) = find_pairs(tmp_path / "x").pairs
    assert one.annotated == tmp_path / "x/Annotated/train/a.tif"
    assert one.scribbles == tmp_path / "x/Scribbles/train/a.tif"
    (one,) = find_pairs(tmp_path / "y").pairs
    assert one.annotated == tmp_path / "y/a_Annotated.tif"


def test_an_annotated_part_of_no_image_is_refused(tmp_path):
    touch(tmp_path, "images/a.tif", "labels/a.tif", "annotated/b.tif")
    with pytest.raises(InputError, match="no image for what is annotated of b"):
        find_pairs(tmp_path)


@pytest.mark.parametrize("kind", ["annotated", "scribbles"])
@pytest.mark.parametrize(
    ("image", "drawn", "part", "name"),
    [
        ("s1/images/a.tif", "s1/labels/a.tif", "s1/{}/a.tif", "s1"),
        ("s1/images/a.tif", "s1/labels/a.tif", "s1/{}.tif", "s1"),
        ("s1/images/a.tif", "s1/labels/a.tif", "{}/s1.tif", "s1"),
        ("s1/image.tif", "s1/mask.tif", "s1/{}.png", "s1"),
        ("s1/image.tif", "s1/mask.tif", "s1/image_{}.png", "s1"),
        ("s1/images/x.png", "s1/masks/1.png", "s1/{}/x.png", "s1"),
        ("s1/images/x.png", "s1/masks/1.png", "s1/{}.png", "s1"),
        ("s1/images/x.png", "s1/masks/1.png", "{}/s1.png", "s1"),
        ("01/t001.tif", "01_GT/SEG/man_seg001.tif", "01/{}/t001.tif", "01_t001"),
        ("01/t001.tif", "01_GT/SEG/man_seg001.tif", "01/t001_{}.tif", "01_t001"),
        ("01/t001.tif", "01_GT/SEG/man_seg001.tif", "01_GT/{}/001.tif", "01_t001"),
        ("01/t001.tif", "01_GT/SEG/man_seg001.tif", "{}/01_t001.tif", "01_t001"),
    ],
)
def test_the_annotated_part_is_found_of_samples_and_sequences(
    tmp_path, image, drawn, part, name, kind
):
    touch(tmp_path, image, drawn, part.format(kind))
    others = {"s1": ("s2/images/b.tif", "s2/labels/b.tif")}
    frames = "01/t002.tif", "01_GT/SEG/man_seg002.tif"
    touch(tmp_path, *others.get(name, frames))
    of = {pair.name: pair for pair in find_pairs(tmp_path).pairs}[name]
    assert of.annotation in {tmp_path / drawn, (tmp_path / drawn).parent}
    assert getattr(of, kind) == tmp_path / part.format(kind)


@pytest.mark.parametrize(
    ("image", "said", "others"),
    [
        ("s1/image.tif", "s1/scribbles.tif", ()),
        ("s1/images/x.tif", "s1/scribbles.tif", ()),
        (
            "01/t001.tif",
            "01/t001_scribbles.tif",
            ("01/t002.tif", "01_GT/SEG/man_seg002.tif"),
        ),
    ],
)
def test_scribbles_alone_annotate_samples_and_frames(tmp_path, image, said, others):
    touch(tmp_path, image, said, *others)
    first = find_pairs(tmp_path).pairs[0]
    assert first.annotation == first.scribbles == tmp_path / said


@pytest.mark.parametrize("part", ["s1/annotated/b.tif", "annotated/s3.tif"])
def test_an_annotated_part_of_no_sample_is_refused(tmp_path, part):
    touch(tmp_path, "s1/images/a.tif", "s1/labels/a.tif", part)
    with pytest.raises(InputError, match="no image for what is annotated of s"):
        find_pairs(tmp_path)


def test_samples_whose_images_get_one_name_are_refused(tmp_path):
    for sample, image in (("exp", "1_2"), ("exp", "3"), ("exp_1", "2"), ("exp_1", "4")):
        touch(tmp_path / sample, f"images/{image}.tif", f"labels/{image}.tif")
    with pytest.raises(InputError, match="several images called exp_1_2"):
        find_pairs(tmp_path)


def test_a_plane_and_an_image_of_one_name_are_refused(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        for name, planes in (("a", 2), ("a_z0", 1)):
            pixels = np.ones((planes, 8, 8), np.uint16)
            tifffile.imwrite(
                tmp_path / kind / f"{name}.tif", pixels, metadata={"axes": "ZYX"}
            )
    with pytest.raises(InputError, match=r"same name: a\.tif and a_z0\.tif"):
        find_pairs(tmp_path)
