"""From what a user names to image files and results; what in folders is no image."""

from __future__ import annotations

import io
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet.errors import InputError
from cellunet.io import microscopes, paths
from cellunet.io.images import JPEGS, READERS, write_labels
from cellunet.io.paths import (
    IMAGE_SUFFIXES,
    bare_stem,
    find_inputs,
    is_image_file,
    is_unread,
    left_out,
    natural_key,
    note_on,
    output_paths,
    output_stem,
)


@pytest.fixture
def plate(tmp_path, monkeypatch):
    """A working folder with images, other files and hidden ones."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "plate/t10.tif",
        "plate/t2.TIF",
        "plate/deep/er/a.png",
        "plate/deep/ü 😀.ome.tiff",
        "plate/notes.txt",
        "plate/.hidden.tif",
        "plate/.cache/x.tif",
        "other/[1].tif",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(found):
    return [p.as_posix() for p in found.files]


def symlink(link, target, *, folder=False):
    try:
        link.symlink_to(target, target_is_directory=folder)
    except OSError:
        pytest.skip("no permission to make links")


def test_a_folder_gives_its_images_in_natural_order_at_any_depth(plate):
    found = find_inputs(["plate"])
    assert names(found) == [
        "plate/deep/er/a.png",
        "plate/deep/ü 😀.ome.tiff",
        "plate/t2.TIF",
        "plate/t10.tif",
    ]
    assert found.base == plate / "plate"
    assert found.missing == []


def test_files_come_in_the_order_named_and_their_folder_is_the_base(plate):
    found = find_inputs(["plate/t10.tif", "plate/deep/er/a.png"])
    assert names(found) == ["plate/t10.tif", "plate/deep/er/a.png"]
    assert found.base == plate / "plate"


def test_inputs_of_two_folders_have_the_folder_above_as_base(plate):
    assert find_inputs(["plate", "other/[1].tif"]).base == plate


def test_a_folder_stays_the_base_if_all_its_images_lie_deeper(plate):
    (plate / "plate/t2.TIF").unlink()
    (plate / "plate/t10.tif").unlink()
    assert find_inputs(["plate"]).base == plate / "plate"


def test_a_file_named_twice_counts_once(plate):
    found = find_inputs(["plate/t2.TIF", "plate", str(plate / "plate" / "t2.TIF")])
    assert names(found)[0] == "plate/t2.TIF"
    assert len(found.files) == 4


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("plate/*.tif", ["plate/t10.tif"]),
        ("plate/t?.TIF", ["plate/t2.TIF"]),
        ("plate/*", ["deep/er/a.png", "deep/ü 😀.ome.tiff", "t2.TIF", "t10.tif"]),
        ("**/*.png", ["plate/deep/er/a.png"]),
        ("plate/**/a.png", ["plate/deep/er/a.png"]),
        ("plate/**/er/**", ["plate/deep/er/a.png"]),
        ("plate/*/**/*.png", ["plate/deep/er/a.png"]),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="patterns ignore case on Windows")
def test_patterns_that_the_shell_left(plate, pattern, expected):
    found = names(find_inputs([pattern]))
    assert found == [n if n.startswith("plate") else f"plate/{n}" for n in expected]


@pytest.mark.parametrize("pattern", ["*/w/[1].tif", "**/[1].tif", "p?"])
def test_the_tree_of_a_pattern_is_the_same_when_folders_are_added(tmp_path, pattern):
    (tmp_path / "p1" / "w").mkdir(parents=True)
    (tmp_path / "p1" / "w" / "1.tif").touch()
    asked = [str(tmp_path / pattern)]
    one = find_inputs(asked)
    (tmp_path / "p2" / "w").mkdir(parents=True)
    (tmp_path / "p2" / "w" / "1.tif").touch()
    assert one.base == find_inputs(asked).base == tmp_path


def test_every_image_by_two_stars(plate):
    assert len(find_inputs(["**"]).files) == 5
    assert len(find_inputs([str(plate / "**")]).files) == 5


def test_brackets_in_a_name_that_exists_are_no_pattern(plate):
    assert names(find_inputs(["other/[1].tif"])) == ["other/[1].tif"]


@pytest.mark.parametrize("form", ["{}\n{}\n", "{}\0{}\0", "\ufeff{}\r\n\n{}"])
def test_a_list_on_standard_input(plate, form):
    text = io.StringIO(form.format("plate/t2.TIF", "other"))
    assert names(find_inputs(["-"], text)) == ["plate/t2.TIF", "other/[1].tif"]


def test_a_list_without_standard_input_is_refused(plate):
    with pytest.raises(InputError, match=r"'-' is a list on standard input.*Try: ls"):
        find_inputs(["-"])


def test_missing_files_do_not_stop_the_others(plate):
    found = find_inputs(["gone.tif", "plate/t2.TIF", "no*.tif", "x" * 300])
    assert names(found) == ["plate/t2.TIF"]
    assert found.missing[:2] == [
        ("gone.tif", "no such file or folder"),
        ("no*.tif", "no image fits this pattern"),
    ]
    assert found.missing[2][0] == "x" * 300


def test_a_broken_link_is_called_that(plate):
    symlink(plate / "link.tif", plate / "nowhere.tif")
    found = find_inputs(["link.tif", "plate"])
    assert found.missing == [("link.tif", "a link to a file that does not exist")]


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        ([], "No input was named"),
        (["empty"], r"empty: a folder without an image \(\.tif"),
        (["*.czi"], r"\*\.czi: no image fits this pattern"),
        (["a.tif"], r"a\.tif: no such file or folder"),
        ([f"{k}.tif" for k in range(9)], r"4\.tif.*; and 4 more"),
    ],
)
def test_nothing_found_is_refused_by_name(plate, inputs, match):
    (plate / "empty").mkdir()
    with pytest.raises(InputError, match=match):
        find_inputs(inputs)


def test_an_explicit_file_of_another_kind_is_kept_for_the_reader_to_refuse(plate):
    assert names(find_inputs(["plate/notes.txt"])) == ["plate/notes.txt"]


def test_links_in_a_circle_end(plate):
    symlink(plate / "plate" / "loop", plate / "plate", folder=True)
    symlink(plate / "plate" / "deep" / "up", plate, folder=True)
    assert len(find_inputs(["plate"]).files) == 5
    assert len(find_inputs(["plate/**"]).files) == 5


def test_a_linked_folder_is_followed(plate):
    symlink(plate / "other" / "more", plate / "plate" / "deep", folder=True)
    assert names(find_inputs(["other"])) == [
        "other/[1].tif",
        "other/more/er/a.png",
        "other/more/ü 😀.ome.tiff",
    ]


def test_results_inside_the_inputs_are_left_out(plate):
    out = plate / "plate" / "deep"
    kept = ["plate/t2.TIF", "plate/t10.tif"]
    assert names(find_inputs(["plate"], exclude=out)) == kept
    assert names(find_inputs(["plate/**"], exclude=out)) == kept
    explicit = find_inputs(["plate/deep/er/a.png"], exclude=out)
    assert names(explicit) == ["plate/deep/er/a.png"]


def test_what_is_searched_for_in_the_folder_of_results_is_found(plate):
    every = names(find_inputs(["plate"]))
    for search in ("plate", "plate/*", "plate/**"):
        for out in ("plate", "."):
            assert names(find_inputs([search], exclude=plate / out)) == every


def test_stores_among_the_results_are_left_out_of_patterns(tmp_path):
    for name in ("in/a.zarr", "out/a.zarr"):
        (tmp_path / name).mkdir(parents=True)
    found = find_inputs([f"{tmp_path}/*/*.zarr"], exclude=tmp_path / "out")
    assert found.files == [tmp_path / "in" / "a.zarr"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_neither_file_nor_folder(plate):
    os.mkfifo(plate / "pipe.tif")
    found = find_inputs(["pipe.tif", "plate"])
    assert found.missing == [("pipe.tif", "neither a file nor a folder")]


def test_an_unreadable_folder_is_listed(plate, monkeypatch):
    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied", "plate")

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_inputs(["plate", "other/[1].tif"])
    assert ("plate", "Permission denied") in found.missing
    assert all("without an image" not in why for _, why in found.missing)


def test_inputs_on_several_drives_are_refused(plate, monkeypatch):
    def several(_paths):
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr(os.path, "commonpath", several)
    with pytest.raises(InputError, match="several drives"):
        find_inputs(["plate"])


def test_numbers_sort_by_value_and_ties_have_one_order():
    texts = ["t10", "T2", "t02", "t2", "10", "é1", "e1"]
    ordered = ["10", "e1", "T2", "t02", "t2", "t10", "é1"]
    assert sorted(texts, key=natural_key) == ordered
    backwards = texts[::-1]
    assert sorted(backwards, key=natural_key) == ordered


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


@pytest.mark.parametrize("suffix", sorted({*READERS} - {*IMAGE_SUFFIXES, *JPEGS}))
def test_labels_are_known_beside_images_of_every_format(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(paths, "is_readable", lambda s: s in READERS)
    touch(tmp_path, f"a{suffix}", "a_labels.tif")
    assert listed(tmp_path) == [f"a{suffix}"]
    assert is_image_file(tmp_path / f"a{suffix}")
    assert bare_stem(f"a{suffix}.geojson") == "a"


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
        ("a.tif", "a_Object Identities.tif"),
    ],
)
def test_labels_of_pairs_are_left_out(tmp_path, image, label):
    touch(tmp_path, image, label)
    assert listed(tmp_path) == [image]


def test_what_make_labels_wrote_is_left_out(tmp_path):
    made = [f"X/{name}/a.tif" for name in ("classes", "weights", "annotated")]
    touch(tmp_path, "a.tif", "X/labels/a_mask.tif", "X/previews/a.png", *made)
    assert listed(tmp_path / ".") == ["a.tif", "X/labels/a_mask.tif"]
    touch(tmp_path, "annotated/images/b.tif")
    assert "annotated/images/b.tif" in listed(tmp_path)


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
    assert note.endswith("anyway: --include thumbs --include labels.")
    assert "\n" not in note


def test_a_folder_of_nothing_but_labels_says_how_to_take_them(tmp_path):
    touch(tmp_path, "a_cp_masks.tif")
    with pytest.raises(InputError, match=r"1 label image .*--include labels"):
        find_inputs([str(tmp_path)])


def test_formats_that_are_not_read_are_counted_with_the_way_out(tmp_path):
    touch(tmp_path, "x.tif", "a.ZVI", "deep/b.zvi", "y.bmp", ".z.bmp", "notes.txt")
    touch(tmp_path, "plate.n5/0/0.tif")
    (warning,) = find_inputs([str(tmp_path)]).warnings
    assert "4 files of formats that are not read (1 .bmp, 1 .n5, 2 .zvi)" in warning
    assert "OME-TIFF" in warning
    assert "export the originals as TIFF or PNG" in warning


def test_a_folder_of_formats_that_are_not_read_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(InputError, match=r"1 file of formats .*1 \.zvi") as caught:
        find_inputs([str(touch(tmp_path, "a.zvi"))])
    assert "bfconvert" in (caught.value.hint or "")


def test_a_pattern_warns_of_what_it_asks_for_alone(tmp_path):
    touch(tmp_path, "x.tif", "a.zvi")
    assert find_inputs([f"{tmp_path}/**/*.tif"]).warnings == ()
    assert len(find_inputs([f"{tmp_path}/*"]).warnings) == 1


def test_formats_that_are_read_are_no_others():
    assert not any(is_unread(f"a{suffix}") for suffix in READERS if suffix != ".oir")


@pytest.fixture
def without_readers(monkeypatch):
    """Let no library of the extra be there."""
    monkeypatch.setattr(microscopes.importlib.util, "find_spec", lambda _: None)
    paths.is_readable.cache_clear()
    yield
    paths.is_readable.cache_clear()


@pytest.mark.usefixtures("without_readers")
def test_who_lacks_the_extra_is_told_how_to_install_it(tmp_path):
    touch(tmp_path, "x.tif", "a.nd2", "b.ND2", "c.lif", "d.dv")
    found = find_inputs([str(tmp_path)])
    assert [p.name for p in found.files] == ["d.dv", "x.tif"]
    (warning,) = found.warnings
    assert warning == (
        "Left out: 3 files of formats that are not read (1 .lif, 2 .nd2). To read "
        '.lif, .nd2: pip install "cellunet-torch[formats]".'
    )


def test_jpegs_in_folders_are_left_out_but_named_ones_are_not(tmp_path):
    touch(tmp_path, "a.tif", "a.jpg", "b.JPEG")
    found = find_inputs([str(tmp_path)])
    assert [p.name for p in found.files] == ["a.tif"]
    assert "2 JPEG pictures" in note_on(found.left_out)
    assert len(find_inputs([str(tmp_path)], include=("jpegs",)).files) == 3
    assert len(find_inputs([str(tmp_path / "a.jpg")]).files) == 1


def test_an_export_beside_its_original_is_the_image(tmp_path):
    touch(tmp_path, "a.dv", "a.ome.tif", "b.dv", "sub/a.dv")
    found = find_inputs([str(tmp_path)])
    assert [p.name for p in found.files] == ["a.ome.tif", "b.dv", "a.dv"]
    assert note_on(found.left_out) == (
        "Left out: 1 microscope's file or Zarr beside an image of its name "
        f"({tmp_path.name}/a.dv). To segment one of these instead, name it."
    )
    assert len(find_inputs([str(tmp_path / "a.dv")]).files) == 1


def test_a_zarr_beside_a_tiff_of_its_name_is_left_out(tmp_path):
    touch(tmp_path, "x.tif", "y.png")
    for name in ("x.ome.zarr", "y.zarr", "z.zarr"):
        (tmp_path / name).mkdir()
    found = find_inputs([str(tmp_path)])
    assert [p.name for p in found.files] == ["x.tif", "y.png", "z.zarr"]
    assert note_on(found.left_out) == (
        "Left out: 2 microscopes' files or Zarrs beside images of their names "
        f"({tmp_path.name}/x.ome.zarr, {tmp_path.name}/y.zarr). "
        "To segment one of these instead, name it."
    )
    assert len(find_inputs([str(tmp_path / "x.ome.zarr")]).files) == 1


def test_the_planes_of_an_oif_are_no_images(tmp_path):
    touch(tmp_path, "a.oif", "a.oif.files/s_C001.tif", "a.oif.files/s_C002.tif")
    assert [p.name for p in find_inputs([str(tmp_path)]).files] == ["a.oif"]


def test_listing_many_files_opens_few_of_them(tmp_path, monkeypatch):
    files = [tmp_path / f"well{w}" / f"t{k}.tif" for w in range(3) for k in range(99)]
    opened = []

    def count(path, *args, **kwargs):
        opened.append(path)
        raise OSError

    monkeypatch.setattr(Path, "open", count)
    assert left_out(files, [], ()) == {}
    assert len(opened) == 3


def results(tmp_path, *names, out="out", suffix=".tif"):
    files = [tmp_path / "in" / n for n in names]
    found = output_paths(files, tmp_path / "in", tmp_path / out, suffix)
    assert list(found) == files
    return [p.relative_to(tmp_path).as_posix() for p in found.values()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.tif", "a"),
        ("a.OME.TIF", "a"),
        ("a.ome.tiff", "a"),
        ("a.v2.png", "a.v2"),
        ("a.ome.png", "a.ome"),
        (".ome.tif", ".ome"),
        ("well A1 ü😀.btf", "well A1 ü😀"),
        ("a.b.czi", "a.b"),
    ],
)
def test_a_stem_is_the_name_without_its_image_suffix(name, expected):
    assert output_stem(Path(name)) == expected


def test_the_tree_of_results_is_that_of_the_inputs(tmp_path):
    assert results(tmp_path, "a.ome.tif", "x/b.png", "x/y/c.TIFF") == [
        "out/a.tif",
        "out/x/b.tif",
        "out/x/y/c.tif",
    ]


def test_other_results_have_other_suffixes(tmp_path):
    assert results(tmp_path, "a.tif", suffix="_outlines.png") == ["out/a_outlines.png"]


def test_relative_names_are_below_an_absolute_base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = output_paths([Path("in/a.tif")], tmp_path / "in", Path("out"))
    assert found == {Path("in/a.tif"): Path("out/a.tif")}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.tif", "a.png"),
        ("a.tif", "A.png"),
        ("x/a.tif", "X/a.png"),
        ("ü.tif", unicodedata.normalize("NFD", "ü") + ".png"),
    ],
)
def test_two_images_of_one_result_are_refused_by_name(tmp_path, first, second):
    with pytest.raises(InputError, match="would both write") as refusal:
        results(tmp_path, first, second)
    assert first in str(refusal.value)
    assert second in str(refusal.value)


@pytest.mark.parametrize("name", ["a.tif", "A.TIF"])
def test_a_result_never_replaces_an_input(tmp_path, name):
    with pytest.raises(InputError, match=r"would replace the input"):
        results(tmp_path, name, out="in")


def test_a_result_may_lie_beside_its_input_under_another_name(tmp_path):
    assert results(tmp_path, "a.png", out="in") == ["in/a.tif"]


def test_a_folder_named_like_a_result_is_refused(tmp_path):
    (tmp_path / "out" / "a.tif").mkdir(parents=True)
    with pytest.raises(InputError, match=r"a\.tif, but that is a folder"):
        results(tmp_path, "a.tif")


@pytest.mark.parametrize("file", ["out/x", "out"])
def test_a_file_in_the_way_of_a_folder_is_refused(tmp_path, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    with pytest.raises(InputError, match="which is a file"):
        results(tmp_path, "x/y/a.tif")


def test_results_in_each_others_way_are_refused(tmp_path):
    # A folder may be called a.tif; its results would need out/a.tif/ to be one too.
    with pytest.raises(InputError, match="in each other's way"):
        results(tmp_path, "a.png", "a.tif/b.png")


def test_an_image_outside_the_base_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not lie below"):
        output_paths([tmp_path / "a.tif"], tmp_path / "in", tmp_path / "out")
