"""A check finds what is wrong with annotations, and leaves sound ones alone."""

from __future__ import annotations

import json
import shutil

import imagecodecs
import numpy as np
import pytest
import tifffile

from cellunet.command_config import AnnotationConfig
from cellunet.errors import BusyError, ConfigError, InputError
from cellunet.io.files import at_work
from cellunet.tasks.check_labels import PER_SHEET, check_labels


def labels_of(data, name):
    return tifffile.imread(data / "labels" / f"{name}.tif")


def put(data, name, labels, image=None):
    tifffile.imwrite(data / "labels" / f"{name}.tif", labels.astype(np.uint16))
    if image is not None:
        tifffile.imwrite(data / "images" / f"{name}.tif", image)


def kinds(checked, name):
    (image,) = [i for i in checked.images if i.name == name]
    return [f.kind for f in image.findings]


@pytest.fixture
def data(tmp_path, nuclei_image):
    """Four images of 120 x 140 px with whole nuclei, ``a0`` to ``a3``."""
    folder = tmp_path / "data"
    for side in ("images", "labels"):
        (folder / side).mkdir(parents=True)
    for seed in range(4):
        image, labels = nuclei_image((120, 140), 14, seed)
        put(folder, f"a{seed}", labels, image)
    return folder


def test_sound_annotations_need_nobody(data, tmp_path):
    checked = check_labels(data, tmp_path / "out")
    assert [i.name for i in checked.images] == ["a0", "a1", "a2", "a3"]
    assert not checked.needs_person
    assert checked.counts == {}
    first = labels_of(data, "a0")
    areas = np.bincount(first.ravel())[1:]
    assert checked.images[0].objects == first.max()
    assert checked.images[0].areas_px[0] == areas.min()
    assert checked.images[0].areas_px[2] == np.median(areas)
    assert checked.images[0].correlation > 0.8
    assert set(checked.areas_px) == {"0", "1", "5", "25", "50", "75", "95", "99", "100"}


def test_report_and_sheets_hold_what_was_found(data, tmp_path):
    checked = check_labels(data, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "check.json").read_text("utf-8"))
    assert written == json.loads(json.dumps(checked.to_dict()))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "check-1.png",
        "check.json",
    ]
    picture = imagecodecs.png_decode(checked.sheets[0].read_bytes())
    assert picture.ndim == 3
    assert checked.shown == ("a0", "a1", "a2", "a3")


def test_sheets_of_an_earlier_check_go_and_nothing_else_does(data, tmp_path):
    out = tmp_path / "out"
    check_labels(data, out)
    earlier = json.loads((out / "check.json").read_text("utf-8"))
    earlier["sheets"] += [r"D:\out\check-7.png", "check-8.png/../../mine.png"]
    (out / "check.json").write_text(json.dumps(earlier), "utf-8")
    for name in ("check-7.png", "check-8.png", "check-list.png", "mine.png"):
        (out / name).write_bytes(b"a picture")
    check_labels(data, out)
    assert sorted(p.name for p in out.iterdir()) == [
        "check-1.png",
        "check-8.png",
        "check-list.png",
        "check.json",
        "mine.png",
    ]


def test_no_sheet_lies_among_images_or_annotations(data, tmp_path):
    for end in ("images", "labels"):
        (data / end / "check-1.png").write_bytes(
            imagecodecs.png_encode(labels_of(data, "a0"))
        )
    before = {p: p.read_bytes() for p in data.rglob("*.png")}
    flat = tmp_path / "flat"
    flat.mkdir()
    shutil.copy(data / "images/a0.tif", flat)
    shutil.copy(data / "labels/a0.tif", flat / "a0_masks.tif")
    for source, out in (
        (data, data / "images"),
        (data, data / "labels"),
        (flat, flat),
        (flat / "a0_masks.tif", flat),
    ):
        with pytest.raises(InputError, match="would be images without an annotation"):
            check_labels(source, out)
    assert {p: p.read_bytes() for p in data.rglob("*.png")} == before
    assert len([*flat.iterdir()]) == 2
    # Nobody looks for images beside these folders.
    check_labels(data, data)
    assert not check_labels(data, data).needs_person


def test_an_annotation_called_like_the_report_is_not_replaced(data, tmp_path):
    (tmp_path / "out").mkdir()
    drawn = tmp_path / "out" / "check.json"
    drawn.write_text('{"shapes": []}', "utf-8")
    with pytest.raises(InputError, match=r"no earlier check wrote: .*check\.json"):
        check_labels(data, tmp_path / "out")
    assert drawn.read_text("utf-8") == '{"shapes": []}'


def test_another_command_at_work_in_the_folder_is_named(data, tmp_path):
    with at_work(tmp_path / "out"), pytest.raises(BusyError, match="being written"):
        check_labels(data, tmp_path / "out")


def test_what_is_wrong_is_found_where_it_is(data, tmp_path, nuclei_image):
    labels = labels_of(data, "a0")
    labels[labels == 2] = 1
    put(data, "a0", labels)
    put(data, "a1", np.roll(labels_of(data, "a1"), (6, -4), (0, 1)))
    holed = labels_of(data, "a2")
    y, x = map(int, np.argwhere(holed == 3).mean(axis=0))
    holed[y, x] = 0
    free = np.argwhere(holed == 0)
    far = max(free.tolist(), key=lambda p: min(p[0], p[1], 119 - p[0], 139 - p[1]))
    holed[tuple(far)] = 900
    put(data, "a2", holed)
    checked = check_labels(data, tmp_path / "out")
    assert kinds(checked, "a0")[0] == "pieces"
    # Objects that were moved across the frame are in pieces by now.
    assert kinds(checked, "a1")[-1] == "shifted"
    assert "-6 px down and 4 px" in checked.images[1].findings[-1].message
    assert {"fragments", "holes"} <= set(kinds(checked, "a2"))
    assert kinds(checked, "a3") == []
    assert checked.needs_person
    # Those that need a person come first on the sheet.
    assert checked.shown == ("a0", "a1", "a2", "a3")
    assert [i.needs_person for i in checked.images] == [True, True, True, False]


def test_swapped_labels_are_told_with_their_images(data, tmp_path):
    one, two = labels_of(data, "a1"), labels_of(data, "a3")
    put(data, "a1", two)
    put(data, "a3", one)
    checked = check_labels(data, tmp_path / "out")
    assert kinds(checked, "a1") == ["misfit", "other-image"]
    assert "fit the image a3" in checked.images[1].findings[1].message
    assert kinds(checked, "a3")[-1] == "other-image"


def test_an_image_on_both_sides_is_found(data, tmp_path):
    other = tmp_path / "held"
    shutil.copytree(data, other)
    for side in ("images", "labels"):
        for name in ("a1", "a2", "a3"):
            (other / side / f"{name}.tif").unlink()
        (other / side / "a0.tif").rename(other / side / "new.tif")
    checked = check_labels(data, tmp_path / "out", validation=other)
    assert [i.name for i in checked.images if i.needs_person] == ["a0", "val/new"]
    assert "val/new (validation)" in checked.images[0].findings[0].message


def test_of_many_equal_images_each_names_a_few(data, tmp_path):
    for name in ("a1", "a2", "a3", "a4", "a5"):
        for kind in ("images", "labels"):
            shutil.copy(data / kind / "a0.tif", data / kind / f"{name}.tif")
    (data / "metadata").mkdir()
    (data / "metadata" / "validation.txt").write_text("a5\n")
    checked = check_labels(data, tmp_path / "out")
    assert checked.images[1].findings[0].message == (
        "The same image as a5 (validation), a0 (training), a2 (training) and 2 more; "
        "this is a1 (training)."
    )


def test_sides_are_those_of_the_folders_own_lists(data, tmp_path):
    shutil.copy(data / "images" / "a0.tif", data / "images" / "a1.tif")
    shutil.copy(data / "labels" / "a0.tif", data / "labels" / "a1.tif")
    (data / "metadata").mkdir()
    (data / "metadata" / "training.txt").write_text("a0\na2\n")
    (data / "metadata" / "validation.txt").write_text("a1\n")
    checked = check_labels(data, tmp_path / "out")
    assert checked.images[0].findings[0].message == (
        "The same image as a1 (validation); this is a0 (training)."
    )


def test_what_cannot_be_read_is_a_finding_and_the_rest_is_checked(data, tmp_path):
    (data / "labels" / "a2.tif").write_bytes(b"")
    checked = check_labels(data, tmp_path / "out")
    assert kinds(checked, "a2") == ["unreadable"]
    assert "is empty" in checked.images[2].findings[0].message
    assert checked.shown == ("a0", "a1", "a3")


def test_hints_alone_need_nobody(data, tmp_path):
    put(data, "a0", np.zeros((120, 140)))
    checked = check_labels(data, tmp_path / "out")
    assert kinds(checked, "a0") == ["empty"]
    assert not checked.needs_person


def test_drawn_shapes_are_checked_for_what_they_alone_can_do(data, tmp_path):
    (data / "labels" / "a0.tif").unlink()
    boxes = [(5, 5, 25, 25), (20, 5, 45, 25), (60, 60, 80, 80), (900, 5, 920, 25)]
    features = [
        {
            "type": "Polygon",
            "coordinates": [[[a, b], [c, b], [c, d], [a, d], [a, b]]],
        }
        for a, b, c, d in boxes
    ]
    (data / "labels" / "a0.geojson").write_text(json.dumps(features))
    checked = check_labels(data, tmp_path / "out")
    assert kinds(checked, "a0")[:2] == ["outside", "overlap"]
    assert "note" not in kinds(checked, "a0")


def test_annotations_without_images_are_checked_as_far_as_they_go(data, tmp_path):
    checked = check_labels(data / "labels", tmp_path / "out")
    assert [i.correlation for i in checked.images] == [None] * 4
    assert not checked.needs_person
    assert checked.sheets


def test_many_images_fill_several_sheets(tmp_path):
    folder = tmp_path / "labels"
    folder.mkdir()
    # The first of two objects is in two pieces.
    labels = np.zeros((30, 30), np.uint16)
    labels[2:6, 2:6] = labels[20:24, 20:24] = 1
    labels[2:6, 20:24] = 2
    names = [f"a{number:02}" for number in range(PER_SHEET + 1)]
    for name in names:
        tifffile.imwrite(folder / f"{name}.tif", labels)
    checked = check_labels(folder, tmp_path / "out")
    assert [p.name for p in checked.sheets] == ["check-1.png", "check-2.png"]
    assert checked.shown == tuple(names)


def test_what_cannot_be_checked_is_refused(data, tmp_path):
    with pytest.raises(ConfigError, match="Unknown kind"):
        check_labels(
            data, tmp_path / "out", annotations=AnnotationConfig(kind="scribble")
        )
    with pytest.raises(InputError, match="There is no folder"):
        check_labels(tmp_path / "none", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.data
def test_published_annotations_lie_on_their_images(data_dir, tmp_path):
    for name, drawn in (("bbbc039", "masks"), ("dsb2018-fluorescence", "labels")):
        for side in ("images", drawn):
            (tmp_path / name / side).mkdir(parents=True)
            # Some of each, for time's sake; docs/annotations.md tells of all.
            for path in sorted((data_dir / name / side).iterdir())[::30]:
                (tmp_path / name / side / path.name).symlink_to(path)
        checked = check_labels(tmp_path / name, tmp_path / "out" / name)
        assert len(checked.images) >= 5
        assert set(checked.counts) <= {"fragments", "holes", "several", "empty"}
