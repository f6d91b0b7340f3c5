"""From what a user names to image files."""

from __future__ import annotations

import io
import os

import pytest

from cellunet.errors import InputError
from cellunet.io.paths import find_inputs, natural_key


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
