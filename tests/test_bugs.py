"""Faults of code are told as such, and never as damage of the user's file."""

from __future__ import annotations

import json
import types

import numpy as np
import pytest
import tifffile

from cellunet import bugs
from cellunet import bugs as versions
from cellunet.bugs import bug, is_bug, telling_bugs
from cellunet.cli.app import main
from cellunet.errors import BugError, CellunetError, ImageReadError, InputError
from cellunet.io import decoding
from cellunet.io import tiff as series
from cellunet.io.images import open_image


@pytest.fixture
def image(tmp_path):
    """A folder with one small TIFF, and another that is cut short."""
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    tifffile.imwrite(folder / "whole.tif", pixels, photometric="minisblack")
    content = (folder / "whole.tif").read_bytes()
    (folder / "cut.tif").write_bytes(content[:100])
    return folder / "whole.tif"


def caught(source: str, file: str = "library.py", **names: object) -> Exception:
    """Return what `source` raises in a frame of `file`."""
    try:
        exec(compile(source, file, "exec"), names)
    except Exception as error:  # noqa: BLE001
        return error
    raise AssertionError("nothing was raised")


OURS = bugs.PACKAGE + "some_module.py"


class Page:
    """An object of a library."""


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("module.no_such_name", "library.py"),
        ("Page.no_such_name", "library.py"),
        ("Page().no_such_name", OURS),
        ("no_such_name", "library.py"),
        ("from json import no_such_name", "library.py"),
        ("import no_such_module", OURS),
        ("(lambda a: a)(b=1)", "library.py"),
        ("(lambda a: a)()", OURS),
        ("(lambda a: a)(1, 2)", OURS),
        ("module()", OURS),
    ],
)
def test_a_name_that_is_lacking_or_a_call_that_does_not_fit_is_a_bug(source, file):
    module = types.ModuleType("library")
    assert is_bug(caught(source, file, module=module, Page=Page))


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("None.colormap", OURS),
        ("(1).name", OURS),
        ("b'II'.startswith_tag", OURS),
        ("array.lower()", OURS),
        ("Page().dtype", "library.py"),
        ("None >> 8", OURS),
        ("len(3)", OURS),
        ("(lambda a: a)(*(1, 2, 3))", "library.py"),
        ("{}[270]", OURS),
        ("()[0]", "library.py"),
        ("1 / 0", OURS),
        ("raise type('DelayedImportError', (ImportError,), {})('a codec')", OURS),
    ],
)
def test_what_damaged_bytes_surface_as_is_none(source, file):
    assert not is_bug(caught(source, file, Page=Page, array=np.zeros(2)))


def test_a_library_that_lacks_a_name_is_not_blamed_on_the_file(image, monkeypatch):
    monkeypatch.delattr(tifffile.TiffFile, "imagej_metadata")
    with pytest.raises(
        BugError, match=r"whole\.tif met a bug .*imagej_metadata"
    ) as met:
        open_image(image)
    assert not isinstance(met.value, ImageReadError)
    assert "damaged" not in str(met.value)
    assert "cellunet doctor" in met.value.hint


def test_a_file_that_is_cut_short_stays_damaged(image):
    with pytest.raises(ImageReadError, match=r"cut\.tif"):
        open_image(image.with_name("cut.tif"))


def test_a_batch_goes_on_and_ends_with_70(image, tmp_path, monkeypatch, capsys):
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    good = image.with_name("good.tif")
    tifffile.imwrite(good, pixels, photometric="minisblack", metadata=None)
    describe = series._describe

    def broken(opened, *others, **named):
        options = {"no_such_option": 1} if opened.path == image else {}
        return describe(opened, *others, **named, **options)

    monkeypatch.setattr(series, "_describe", broken)
    words = ["predict", str(image.parent), "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 70
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["type"] == "Bug"
    found = {i["input"].rpartition("/")[2]: i for i in document["result"]["images"]}
    assert {n: (i["status"], i["bug"]) for n, i in found.items()} == {
        "whole.tif": ("failed", True),
        "cut.tif": ("failed", False),
        "good.tif": ("done", False),
    }
    assert "no_such_option" in found["whole.tif"]["message"]


def test_a_decoder_that_the_library_lacks_is_told_by_its_process(monkeypatch):
    lacking = types.ModuleType("imagecodecs")
    monkeypatch.setattr(decoding, "imagecodecs", lacking)
    told, pixels = decoding.answer("PNG", b"\x89PNG")
    assert pixels == b""
    assert told["bug"]
    assert "png_decode" in told["error"]


def test_a_decoder_that_refuses_its_bytes_is_no_bug():
    told, _ = decoding.answer("png", b"no PNG")
    assert not told["bug"]


def test_versions_that_were_not_tested_are_named(monkeypatch):
    monkeypatch.setitem(versions.TESTED, "numpy", ("0.1", "0.2"))
    met = bug(caught("no_such_name", OURS), "a.tif")
    told = f"cellunet was tested with numpy 0.1 to 0.2; this is {np.__version__}."
    assert told in str(met)


def test_errors_of_ours_and_of_the_system_pass_and_others_become_bugs(tmp_path):
    for error in (InputError("Nothing."), OSError("full"), MemoryError()):
        with pytest.raises(type(error)), telling_bugs(tmp_path):
            raise error
    with pytest.raises(StopAsyncIteration), telling_bugs(tmp_path, StopAsyncIteration):
        raise StopAsyncIteration
    with pytest.raises(BugError, match="KeyError"), telling_bugs(tmp_path):
        raise KeyError("a")
    assert issubclass(BugError, CellunetError)
