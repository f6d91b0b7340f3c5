"""Pairs of label files of two folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellunet.annotations.label_pairs import pair_folders
from cellunet.errors import InputError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_files_pair_by_stem_whatever_their_type_and_marker(tmp_path: Path) -> None:
    found = touch(tmp_path / "p", "b.tif", "a_cp_masks.png", "c ü.ome.tif", "n.txt")
    true = touch(tmp_path / "t", "a_labels.tif", "b_seg.tif", "c ü.png", ".hidden.tif")
    pairs = pair_folders(found, true)
    assert [p.name for p in pairs] == ["a", "b", "c ü"]
    assert pairs[0].predicted == found / "a_cp_masks.png"
    assert pairs[0].labels == true / "a_labels.tif"


def test_folders_below_are_part_of_the_name(tmp_path: Path) -> None:
    found = touch(tmp_path / "p", "plate 1/a.tif", "plate 2/a.tif")
    true = touch(tmp_path / "t", "plate 1/a_masks.png", "plate 2/a_masks.png")
    assert [p.name for p in pair_folders(found, true)] == ["plate 1/a", "plate 2/a"]


def test_a_marker_that_both_folders_hold_belongs_to_the_name(tmp_path: Path) -> None:
    found = touch(tmp_path / "p", "cell.tif", "cell_seg.tif")
    true = touch(tmp_path / "t", "cell.tif", "cell_seg.tif")
    (true / "cell.tif").write_bytes(b"corrected")
    assert [p.name for p in pair_folders(found, true)] == ["cell", "cell_seg"]


def test_missing_extra_and_doubled_partners_are_named_in_one_message(
    tmp_path: Path,
) -> None:
    found = touch(tmp_path / "p", "a.tif", "b.tif", "b.png", "x.tif")
    true = touch(tmp_path / "t", "a.tif", "b.tif", "c.tif", "d_masks.tif", "d_seg.tif")
    with pytest.raises(InputError) as caught:
        pair_folders(found, true)
    said = caught.value.message
    assert "no prediction for c, d" in said
    assert "no true labels for x" in said
    assert "several predictions for b" in said
    assert "several true labels for d" in said


def test_long_lists_are_cut(tmp_path: Path) -> None:
    found = touch(tmp_path / "p", "a.tif")
    true = touch(tmp_path / "t", "a.tif", *(f"x{k:02}.tif" for k in range(12)))
    with pytest.raises(InputError, match="x09 and 2 more"):
        pair_folders(found, true)


def test_named_images_alone_need_partners(tmp_path: Path) -> None:
    found = touch(tmp_path / "p", "a.tif")
    true = touch(tmp_path / "t", "a.tif", "b.tif")
    assert [p.name for p in pair_folders(found, true, names=["a"])] == ["a"]
    with pytest.raises(InputError, match="in neither folder z; no prediction for b"):
        pair_folders(found, true, names=["a", "b", "z"])
    with pytest.raises(InputError, match="No image is named"):
        pair_folders(found, true, names=[])


def test_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    true = touch(tmp_path / "t", "a.tif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="does not exist"):
        pair_folders(tmp_path / "no", true)
    with pytest.raises(InputError, match="is a file"):
        pair_folders(true / "a.tif", true)
    with pytest.raises(InputError, match="holds no label file"):
        pair_folders(tmp_path / "empty", true)
    with pytest.raises(InputError, match="two folders are expected"):
        pair_folders(true, tmp_path / "empty" / ".." / "t")


def test_true_labels_may_be_drawn_and_annotated_in_part(tmp_path):
    for name in (
        "pred/a.tif",
        "pred/b.tif",
        "pred/a_outlines.png.txt",
        "data/labels/a.zip",
        "data/labels/b_masks.png",
        "data/annotated/b.tif",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    a, b = pair_folders(tmp_path / "pred", tmp_path / "data" / "labels")
    assert (a.labels.name, a.annotated) == ("a.zip", None)
    assert b.annotated == tmp_path / "data" / "annotated" / "b.tif"
    beside = tmp_path / "data" / "labels" / "a_annotated.png"
    beside.touch()
    a, _ = pair_folders(tmp_path / "pred", tmp_path / "data" / "labels")
    assert a.annotated == beside


def test_the_annotated_part_beside_a_folder_of_another_name_is_not_meant(tmp_path):
    for name in ("pred/a.tif", "truth/a.tif", "annotated/a.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (a,) = pair_folders(tmp_path / "pred", tmp_path / "truth")
    assert a.annotated is None


@pytest.mark.parametrize(
    "saved", ["a_classes.tif", "a_probabilities.tif", "a_outlines.png", "a_rois.zip"]
)
def test_what_predict_saves_beside_labels_is_no_prediction(tmp_path, saved):
    found = touch(tmp_path / "p", "a.tif", saved, "report-data/a.json", "table.csv")
    true = touch(tmp_path / "t", "a.tif")
    (pair,) = pair_folders(found, true)
    assert pair.predicted == found / "a.tif"


def test_masks_beside_their_images_are_the_predictions(tmp_path):
    found = touch(tmp_path / "p", "a.tif", "a_cp_masks.tif", "b.ome.tif")
    touch(found, "b.ome_cp_masks.png", "a_cp_outlines.png")
    true = touch(tmp_path / "t", "a.tif", "b.tif")
    predicted = [p.predicted.name for p in pair_folders(found, true)]
    assert predicted == ["a_cp_masks.tif", "b.ome_cp_masks.png"]


def test_images_beside_masks_in_both_folders_are_not_scored(tmp_path):
    found = touch(tmp_path / "p", "a.tif", "a_masks.tif")
    true = touch(tmp_path / "t", "a.tif", "a_masks.tif")
    (true / "a_masks.tif").write_bytes(b"corrected")
    (pair,) = pair_folders(found, true)
    assert pair.predicted == found / "a_masks.tif"
    assert pair.labels == true / "a_masks.tif"


@pytest.mark.parametrize(
    ("predicted", "true"),
    [
        ("t000.tif", "SEG/man_seg000.tif"),
        ("mask000.tif", "SEG/man_seg000.tif"),
        ("001_img.tif", "001_masks.png"),
        ("images/a.tif", "labels/a.tif"),
        ("a.tif", "Masks/a_mask.tif"),
    ],
)
def test_names_that_differ_in_marks_alone_are_paired(tmp_path, predicted, true):
    found = touch(tmp_path / "p", predicted)
    labels = touch(tmp_path / "t", true)
    (pair,) = pair_folders(found, labels)
    assert pair.predicted == found / predicted
    assert pair.labels == labels / true


def test_of_a_tracked_sequence_what_is_annotated_is_scored(tmp_path, caplog):
    found = touch(tmp_path / "p", "t000.tif", "t001.tif")
    true = touch(tmp_path / "01_GT", "SEG/man_seg001.tif", "TRA/man_track000.tif")
    (pair,) = pair_folders(found, true)
    assert pair.predicted == found / "t001.tif"
    assert "Not scored" in caplog.text


@pytest.mark.parametrize(
    ("labels", "part"),
    [
        ("t/s/a.tif", "t/s/a_annotated.tif"),
        ("t/a_cp_masks.tif", "t/a_annotated.tif"),
        ("t/a_cp_masks.tif", "t/a_cp_masks_annotated.tif"),
        ("t/a_masks.tif", "t/a_Annotated.tif"),
        ("labels/s/a.tif", "annotated/s/a.tif"),
        ("SEG/a.tif", "annotated/a.tif"),
        ("labels/a.tif", "Annotated/a.tif"),
    ],
)
def test_the_annotated_part_is_found_wherever_its_labels_are(tmp_path, labels, part):
    touch(tmp_path, labels, part)
    folder, _, name = labels.partition("/")
    touch(tmp_path / "p", name)
    (pair,) = pair_folders(tmp_path / "p", tmp_path / folder)
    assert pair.annotated == tmp_path / part


def test_scribbles_alone_and_what_lies_beside_the_folder_stop_nothing(tmp_path) -> None:
    touch(tmp_path, "p/a.tif", "labels/a.tif", "scribbles/c.tif", "plot_annotated.tif")
    (pair,) = pair_folders(tmp_path / "p", tmp_path / "labels")
    assert pair.name == "a"


def test_a_part_of_no_labels_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "p/a.tif", "t/a.tif", "t/b_annotated.tif")
    with pytest.raises(InputError, match=r"no true labels for .*b_annotated\.tif"):
        pair_folders(tmp_path / "p", tmp_path / "t")
