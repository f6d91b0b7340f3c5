"""Files in folders that are no images to segment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet.errors import InputError
from cellunet.io.images import READERS, write_labels
from cellunet.io.paths import find_inputs, is_unread, left_out, note_on

GUID = "0A1B2C3D-0001-4000-8000-00000000000"


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def listed(folder: Path, *include: str) -> list[str]:
    found = find_inputs([str(folder)], include=include)
    return [p.relative_to(folder).as_posix() for p in found.files]


def write(path: Path, value: int, description: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((4, 4), value, np.uint16)
    tifffile.imwrite(path, pixels, description=description, metadata=None)


def test_thumbnails_of_a_plate_are_left_out_unless_asked_for(tmp_path):
    image, thumb = f"B02_s1_w1{GUID}1.tif", f"B02_s1_w1_thumb{GUID}2.tif"
    touch(tmp_path, image, thumb, "one.tif", "one_thumb.tif", "a_w2_thumb.TIF")
    assert listed(tmp_path) == [image, "one.tif"]
    assert len(listed(tmp_path, "thumbs")) == 5


def test_a_lone_name_is_a_thumbnail_only_if_the_metadata_say_so(tmp_path):
    write(tmp_path / "left_thumb.tif", 1, "a finger")
    write(tmp_path / "b_thumb.tif", 1, '<prop id="image-name" value="HTSThumbHTS"/>')
    assert listed(tmp_path) == ["left_thumb.tif"]


@pytest.mark.parametrize("place", ["ZStep_0/", ""])
def test_a_projection_is_left_out_where_its_planes_are(tmp_path, place):
    for number, at in enumerate([place, "ZStep_1/", "ZStep_2/"]):
        write(tmp_path / f"{at}B02_w1{GUID}{number}.tif", number)
    planes = [f"ZStep_1/B02_w1{GUID}1.tif", f"ZStep_2/B02_w1{GUID}2.tif"]
    assert listed(tmp_path) == planes
    assert len(listed(tmp_path, "projections")) == 3


def test_a_projection_without_its_planes_is_an_image(tmp_path):
    write(tmp_path / "ZStep_0/B02_w1.tif", 1)
    assert listed(tmp_path) == ["ZStep_0/B02_w1.tif"]


def test_a_plane_that_is_stored_in_every_step_counts_once(tmp_path):
    for step in range(3):
        for well in ("B02", "B03"):
            at = tmp_path / f"ZStep_{step}"
            write(at / f"{well}_w1.tif", step)
            write(at / f"{well}_w2.tif", 7, f"step {step} of {'x' * step}")
    assert listed(tmp_path) == [
        "ZStep_1/B02_w1.tif",
        "ZStep_1/B02_w2.tif",
        "ZStep_1/B03_w1.tif",
        "ZStep_1/B03_w2.tif",
        "ZStep_2/B02_w1.tif",
        "ZStep_2/B03_w1.tif",
    ]


@pytest.mark.parametrize(
    "result",
    [
        "a_cp_masks.tif",
        "a_masks.png",
        "a_flows.tif",
        "a_flows_cp_masks.tif",
        "a_outlines.png",
        "a_outlines_1.png",
        "a_classes.tif",
        "a_probabilities.tif",
        "a - Labels.tif",
        "a_label.tif",
        "a_annotated.png",
    ],
)
def test_results_beside_an_image_are_left_out_unless_asked_for(tmp_path, result):
    touch(tmp_path, "a.tif", result)
    assert listed(tmp_path) == ["a.tif"]
    assert sorted(listed(tmp_path, "labels")) == sorted(["a.tif", result])


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/a.tif", "labels/a.tif"),
        ("Images/a.tif", "Masks/a.tif"),
        ("images/train/a.tif", "masks/train/a.tif"),
        ("n/images/n.png", "n/masks/1.png"),
        ("01/t000.tif", "01_GT/SEG/man_seg000.tif"),
        ("01/t000.tif", "01_GT/TRA/man_track000.tif"),
        ("img_01.tif", "mask_01.tif"),
        ("a_img.tif", "a_label.tif"),
    ],
)
def test_labels_of_pairs_are_left_out(tmp_path, image, label):
    touch(tmp_path, image, label)
    assert listed(tmp_path) == [image]


@pytest.mark.parametrize(
    "name", ["no_label.tif", "my_mask.tif", "mask_1.tif", "t0.tif"]
)
def test_a_name_alone_that_may_be_an_image_is_one(tmp_path, name):
    touch(tmp_path, name)
    assert listed(tmp_path) == [name]


def test_a_folder_of_masks_without_images_is_taken_as_it_is(tmp_path):
    touch(tmp_path, "masks/a.tif", "masks/b.tif")
    assert len(listed(tmp_path)) == 2


def test_label_images_of_cellunet_are_known_whatever_they_are_called(tmp_path):
    labels = np.ones((4, 4), np.uint16)
    write(tmp_path / "x.tif", 1)
    (tmp_path / "before").mkdir()
    for name in ("before/x.tif", "before/y.tif"):
        write_labels(tmp_path / name, labels, None, {"model": "nuclei"})
    # Of one name in one folder: the image and what was made of it.
    touch(tmp_path, "z.png")
    write_labels(tmp_path / "z.tif", labels, None, {"model": "nuclei"})
    assert listed(tmp_path) == ["x.tif", "z.png"]
    assert len(listed(tmp_path, "labels")) == 5


def test_what_is_named_is_taken_and_told(tmp_path):
    touch(tmp_path, "a.tif", "a_masks.tif")
    found = find_inputs([str(tmp_path / "a_masks.tif"), str(tmp_path)])
    assert [p.name for p in found.files] == ["a_masks.tif", "a.tif"]
    assert not found.left_out
    assert "1 label image" in found.warnings[0]


def test_one_line_counts_what_was_left_out(tmp_path):
    names = [f"a{k}_masks.tif" for k in range(4)]
    touch(tmp_path, *names, "a0.tif", "a0_thumb.tif")
    found = find_inputs([str(tmp_path)])
    note = note_on(found.left_out)
    assert "1 thumbnail (" in note
    assert "4 label images or pictures of results (" in note
    assert 'include = ["thumbs", "labels"] below [predict]' in note
    assert "\n" not in note


def test_a_folder_of_nothing_but_labels_says_how_to_take_them(tmp_path):
    touch(tmp_path, "a_cp_masks.tif")
    with pytest.raises(InputError, match=r"1 label image .*labels.* below"):
        find_inputs([str(tmp_path)])


def test_formats_that_are_not_read_are_counted_with_the_way_out(tmp_path):
    touch(tmp_path, "x.tif", "a.CZI", "deep/b.czi", "y.jpg", ".z.jpg", "notes.txt")
    touch(tmp_path, "plate.zarr/0/0.tif")
    (warning,) = find_inputs([str(tmp_path)]).warnings
    assert "4 files of formats that are not read (2 .czi, 1 .jpg, 1 .zarr)" in warning
    assert "OME-TIFF" in warning
    assert "JPEG" in warning


def test_a_folder_of_formats_that_are_not_read_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(InputError, match=r"1 file of formats .*1 \.nd2") as caught:
        find_inputs([str(touch(tmp_path, "a.nd2"))])
    assert "bfconvert" in (caught.value.hint or "")


def test_a_pattern_warns_of_what_it_asks_for_alone(tmp_path):
    touch(tmp_path, "x.tif", "a.czi")
    assert find_inputs([f"{tmp_path}/**/*.tif"]).warnings == ()
    assert len(find_inputs([f"{tmp_path}/*"]).warnings) == 1


def test_formats_that_are_read_are_no_others():
    assert not any(is_unread(f"a{suffix}") for suffix in READERS)


def test_listing_many_files_opens_few_of_them(tmp_path, monkeypatch):
    files = [tmp_path / f"well{w}" / f"t{k}.tif" for w in range(3) for k in range(99)]
    opened = []

    def count(path, *args, **kwargs):
        opened.append(path)
        raise OSError

    monkeypatch.setattr(Path, "open", count)
    assert left_out(files, [], ()) == {}
    assert len(opened) == 3
