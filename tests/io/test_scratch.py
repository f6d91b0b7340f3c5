"""What is put aside comes back, from memory or from the disk."""

from __future__ import annotations

import os
import tempfile
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellunet.errors import OutputError
from cellunet.io.scratch import Scratch, SharedScratch, check_folder, check_room

MEMORY = pytest.mark.parametrize("memory", [0, 2_000, 2**20])


def put(store, plane, cuts_y, cuts_x) -> None:
    for y0, y1 in pairwise(cuts_y):
        for x0, x1 in pairwise(cuts_x):
            store.put(y0, x0, plane[y0:y1, x0:x1].copy())


@MEMORY
def test_every_part_of_a_plane_comes_back(memory, tmp_path, rng) -> None:
    plane = rng.integers(-5, 5, (40, 60)).astype(np.int32)
    with Scratch(tmp_path / "a.tif", memory) as scratch:
        store = scratch.store()
        put(store, plane, (0, 7, 30, 40), (0, 1, 25, 60))
        for _ in range(50):
            y0, y1 = sorted(rng.choice(41, 2, replace=False))
            x0, x1 = sorted(rng.choice(61, 2, replace=False))
            np.testing.assert_array_equal(
                store.read(y0, y1, x0, x1), plane[y0:y1, x0:x1]
            )
        assert (scratch.disk_bytes > 0) == (memory < plane.nbytes)
        assert list(tmp_path.iterdir()) == []


@settings(max_examples=30)
@given(data=st.data())
def test_any_cut_of_any_plane_comes_back(data, tmp_path_factory) -> None:
    height, width = (data.draw(st.integers(1, 30)) for _ in range(2))
    cuts = [
        sorted({0, n, *data.draw(st.lists(st.integers(0, n), max_size=4))})
        for n in (height, width)
    ]
    plane = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    with Scratch(tmp_path_factory.mktemp("scratch") / "a.tif", 100) as scratch:
        store = scratch.store()
        put(store, plane, *cuts)
        np.testing.assert_array_equal(store.read(0, height, 0, width), plane)


@MEMORY
def test_a_store_knows_what_it_holds(memory, tmp_path) -> None:
    plane = np.zeros((40, 60), np.uint8)
    cuts_y, cuts_x = (0, 7, 30, 40), (0, 1, 25, 60)
    with Scratch(tmp_path / "a.tif", memory) as scratch:
        store = scratch.store()
        put_so_far = np.zeros(plane.shape, bool)
        for y0, y1 in pairwise(cuts_y):
            for x0, x1 in pairwise(cuts_x):
                store.put(y0, x0, plane[y0:y1, x0:x1].copy())
                put_so_far[y0:y1, x0:x1] = True
                for bottom in (1, 6, 7, 8, 29, 30, 31, 40):
                    for right in (1, 2, 25, 26, 60):
                        there = put_so_far[:bottom, :right].all()
                        assert store.holds(bottom, right) == there


def test_memory_that_is_given_back_is_used_again(tmp_path) -> None:
    array = np.zeros((10, 10), np.uint8)
    with Scratch(tmp_path / "a.tif", array.nbytes) as scratch:
        for _ in range(3):
            store = scratch.store()
            store.put(0, 0, array)
            store.forget()
        assert scratch.disk_bytes == 0
        with pytest.raises(ValueError, match="nothing was put"):
            store.read(0, 1, 0, 1)


def test_room_is_checked_before_work(tmp_path, monkeypatch, caplog) -> None:
    usage = SimpleNamespace(free=5_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    output = tmp_path / "a.tif"
    check_room(output, 10**9, 2 * 10**10)
    with caplog.at_level("INFO"):
        check_room(output, 9 * 10**6, 0)
        assert "about 4 MB" in caplog.text
    with pytest.raises(OutputError, match="about 500 MB"):
        check_room(output, 10**9, 0)


def elsewhere(tmp_path) -> Path:
    """Return a folder on another disk than the tests' own."""
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no folder on another disk")
    return other


def test_room_of_two_disks_is_checked_apart(tmp_path, monkeypatch, caplog) -> None:
    other = elsewhere(tmp_path)
    free = {tmp_path: 10**9, other: 10**9}
    monkeypatch.setattr("shutil.disk_usage", lambda p: SimpleNamespace(free=free[p]))
    output = tmp_path / "a.tif"
    with caplog.at_level("INFO"):
        check_room(output, 10**9, 0, other)
    assert f"about 100 MB of {tmp_path} (" in caplog.text
    assert f"about 400 MB of {other} (" in caplog.text
    free[other] = 399_000_000
    with pytest.raises(OutputError, match="about 400 MB in /dev/shm") as caught:
        check_room(output, 10**9, 0, other)
    assert "scratch in --config" in caught.value.hint
    free[other], free[tmp_path] = 10**9, 99_000_000
    with pytest.raises(OutputError, match="about 100 MB"):
        check_room(output, 10**9, 0, other)


def test_room_of_one_disk_is_added_up(tmp_path, monkeypatch) -> None:
    (tmp_path / "scratch").mkdir()
    usage = SimpleNamespace(free=499_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=r"about 500 MB in .*scratch"):
        check_room(tmp_path / "a.tif", 10**9, 0, tmp_path / "scratch")


def test_the_file_lies_in_the_folder_that_was_chosen(tmp_path, monkeypatch) -> None:
    made = []
    temporary = tempfile.TemporaryFile

    def noted(**options):
        made.append(options["dir"])
        return temporary(**options)

    monkeypatch.setattr("tempfile.TemporaryFile", noted)
    folder = tmp_path / "scratch"
    folder.mkdir()
    with Scratch(tmp_path / "out" / "a.tif", 0, folder) as scratch:
        kept = scratch.keep(np.arange(5))
        np.testing.assert_array_equal(scratch.fetch(kept), np.arange(5))
    assert made == [folder]
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_none_is_refused(tmp_path) -> None:
    check_folder(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    for name in ("missing", "file"):
        with pytest.raises(OutputError, match="no folder") as caught:
            check_folder(tmp_path / name)
        assert "scratch in --config" in caught.value.hint


def test_a_full_disk_is_one_error(tmp_path, monkeypatch) -> None:
    class Full:
        def seek(self, offset: int) -> None:
            pass

        def write(self, packed: bytes) -> None:
            raise OSError(28, os.strerror(28))

        def close(self) -> None:
            pass

    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    with (
        Scratch(tmp_path / "a.tif", 0) as scratch,
        pytest.raises(OutputError, match="no room"),
    ):
        scratch.keep(np.zeros((5, 5)))


def test_a_shared_scratch_finds_what_is_finished(tmp_path) -> None:
    room, array = SharedScratch(tmp_path), np.arange(12, dtype=np.int32).reshape(3, 4)
    kept = room.keep(array, "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert room.find("a", (3, 4), np.int32) == kept
    np.testing.assert_array_equal(room.fetch(kept), array)
    (tmp_path / "b").touch()
    assert room.find("b", (3, 4), np.int32) is None, "a loss of power left it empty"
    assert room.find("c", (3, 4), np.int32) is None
    whole = (tmp_path / "a").read_bytes()
    for damaged in (whole[:-3], bytes(len(whole))):
        (tmp_path / "a").write_bytes(damaged)
        with pytest.raises(OutputError, match=r"a is damaged\. Remove it"):
            room.fetch(kept)
    (tmp_path / "a").unlink()
    with pytest.raises(OutputError, match="must see this folder by the same path"):
        room.fetch(kept)
