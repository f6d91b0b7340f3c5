"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cellunet.errors import ImageReadError, OutputError
from cellunet.io.files import PendingFile, partial_path, write_atomically


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "ü 😀.txt"
    with write_atomically(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "new"
    assert len(list(path.parent.iterdir())) == 1


def test_an_exception_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with write_atomically(path) as temporary:
            temporary.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_pipe_a_device_and_standard_output_are_not_replaced(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "stdout"
    os.mkfifo(pipe)
    link.symlink_to("/proc/self/fd/1")
    for path in (pipe, link):
        with pytest.raises(OutputError, match="a device or a pipe is there"):
            PendingFile(path, "--out")
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_by_its_shortest_name_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="a folder of that name") as caught:
        PendingFile(Path(), "--out")
    assert "--out" in caught.value.hint


def test_partial_names_are_hidden_unique_and_never_too_long(tmp_path):
    path = tmp_path / ("ü😀" * 40 + ".tif")
    names = {partial_path(path).name for _ in range(5)}
    assert len(names) == 5
    assert all(n.startswith(".") and n.endswith(".partial") for n in names)
    assert all(len(n.encode()) < 255 for n in names)


@pytest.mark.parametrize(
    ("number", "match"),
    [
        (errno.ENOSPC, r"no room in .*Free space"),
        (errno.EACCES, r"permits no writing.*--out"),
        (errno.EROFS, r"permits no writing.*--out"),
        (errno.EIO, r"cannot be written in .*Input/output|cannot be written in"),
    ],
)
def test_a_refusal_of_the_system_is_an_output_error(tmp_path, number, match):
    path = tmp_path / "a.txt"
    with pytest.raises(OutputError, match=match), write_atomically(path):
        raise OSError(number, os.strerror(number))
    assert not list(tmp_path.iterdir())


def test_errors_of_cellunet_pass_unchanged(tmp_path):
    with pytest.raises(ImageReadError), write_atomically(tmp_path / "a.txt"):
        raise ImageReadError("a.tif is empty.")


def test_a_file_in_the_place_of_the_folder_is_an_output_error(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        PendingFile(tmp_path / "out" / "a.tif")


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write")
def test_an_unwritable_folder_is_found_at_once(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="permits no writing"):
        PendingFile(tmp_path / "a.tif")
    tmp_path.chmod(0o700)
