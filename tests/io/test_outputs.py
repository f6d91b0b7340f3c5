"""Where results go, and clashes found before any work."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from cellunet.errors import InputError
from cellunet.io.paths import output_paths, output_stem


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
