"""Locks belong to processes: who holds one is told, and a killed one leaves none."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pytest

from cellunet.errors import BusyError, OutputError
from cellunet.io import files
from cellunet.io.files import at_work, locked

HOLD = """
import contextlib, sys
from pathlib import Path
from cellunet.io.files import at_work, locked, partial_path
path, *part = sys.argv[1:]
path = Path(path)
if path.is_dir():
    lock = at_work(path, part=tuple(map(int, part)) or None)
else:
    lock = locked(path, "x", "")
with lock:
    if path.is_dir():
        partial_path(path / "a.tif").touch()
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(path: Path, *part: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *map(str, part)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_lock_says_which_process_holds_it_and_since_when(tmp_path) -> None:
    process = holder(tmp_path / "lock")
    told = rf"Training 'a' is going on by process {process.pid} on .+ since \d{{4}}-"
    # Told again to the next one: whoever is refused leaves the words as they are.
    for _ in range(2):
        with (
            pytest.raises(BusyError, match=told),
            locked(tmp_path / "lock", "Training 'a' is going on", "Wait."),
        ):
            pass
    kill(process)


def test_a_killed_process_leaves_no_lock(tmp_path) -> None:
    kill(holder(tmp_path / "lock"))
    assert (tmp_path / "lock").exists()
    with locked(tmp_path / "lock", "x", "") as known:
        assert known
    assert not (tmp_path / "lock").exists()


def test_two_locks_in_one_process_exclude_each_other(tmp_path) -> None:
    with (
        locked(tmp_path / "lock", "x", ""),
        pytest.raises(BusyError),
        locked(tmp_path / "lock", "x", ""),
    ):
        pass
    with locked(tmp_path / "lock", "x", ""):
        pass


def test_locks_of_many_threads_are_held_one_after_another(tmp_path) -> None:
    held, together = [], []

    def hold() -> None:
        for _ in range(20):
            with locked(tmp_path / "lock", "x", "", wait_s=60):
                held.append(1)
                together.append(len(held))
                held.pop()

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [1] * 80
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_into_a_folder_is_refused_until_the_first_one_ends(
    tmp_path,
) -> None:
    process = holder(tmp_path)
    told = rf"{tmp_path.name} is being written by process {process.pid} on .*--part"
    for part in (None, (1, 2)):
        with pytest.raises(BusyError, match=told), at_work(tmp_path, part=part):
            pass
    process.communicate("\n")
    with at_work(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_parts_share_a_folder_and_the_same_part_does_not(tmp_path) -> None:
    process = holder(tmp_path, 1, 2)
    for part in (None, (1, 2)):
        with (
            pytest.raises(BusyError, match=f"by process {process.pid} "),
            at_work(tmp_path, part=part),
        ):
            pass
    with at_work(tmp_path, part=(2, 2)):
        assert len(list(tmp_path.glob(".a.tif.*.partial"))) == 1
    process.communicate("\n")
    with at_work(tmp_path, part=(2, 2)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_parts_that_start_together_all_begin(tmp_path, monkeypatch) -> None:
    # Each has the gate for a moment, longer on slow disks, and many wait for it.
    monkeypatch.setattr(files, "PATIENCE_S", 0.2)
    monkeypatch.setattr(files, "clear_leftovers", lambda _: time.sleep(0.5))
    begun = threading.Barrier(3, timeout=20)

    def work(number: int) -> None:
        with at_work(tmp_path, part=(number, 3)):
            begun.wait()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(work, (1, 2, 3))) == [None] * 3


@pytest.mark.parametrize("part", [(), (1, 2)])
def test_a_killed_run_blocks_nobody_and_what_it_left_is_removed(tmp_path, part) -> None:
    kill(holder(tmp_path, *part))
    folder = tmp_path / "plate"
    folder.mkdir()
    for name in (".b.tif.1-2.partial", "b.tif", ".c.tif"):
        (folder / name).touch()
    with at_work(tmp_path, [folder, tmp_path / "not there"]):
        assert not list(tmp_path.glob(".a.tif.*"))
        assert sorted(p.name for p in folder.iterdir()) == [".c.tif", "b.tif"]
    assert [p.name for p in tmp_path.iterdir()] == ["plate"]


def test_what_a_run_into_a_folder_above_or_below_writes_stays(tmp_path) -> None:
    inner = tmp_path / "masks" / "p1"
    (inner / "x").mkdir(parents=True)
    (inner / "x" / ".b.tif.1-2.partial").touch()
    for outer, one in [(tmp_path / "masks", inner), (inner, tmp_path / "masks")]:
        process = holder(one)
        with at_work(outer, [inner, inner / "x"]):
            assert len(list(one.glob(".a.tif.*.partial"))) == 1
            assert len(list((inner / "x").iterdir())) == 1
        process.communicate("\n")
    with at_work(tmp_path / "masks", [inner, inner / "x"]):
        assert [p.name for p in inner.iterdir()] == ["x"]
        assert list((inner / "x").iterdir()) == []


@pytest.fixture
def refuse(monkeypatch) -> Callable[[int], None]:
    """``refuse(ENOSPC)``: no file can be locked from now on, for that reason."""

    def refuse(number: int) -> None:
        def fail(lock: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(filelock.FileLock, "_acquire", fail)

    return refuse


def test_where_files_cannot_be_locked_a_warning_says_so_and_leftovers_stay(
    tmp_path, refuse, caplog
) -> None:
    refuse(errno.ENOLCK)
    (tmp_path / ".a.partial").touch()
    with caplog.at_level(logging.WARNING), at_work(tmp_path):
        told = f"cannot be locked ({os.strerror(errno.ENOLCK)})"
        assert caplog.text.count(told) == 1
    with locked(tmp_path / "lock", "x", "") as known:
        assert not known
    assert (tmp_path / ".a.partial").exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_permits_no_writing_needs_no_lock(
    tmp_path, refuse, number
) -> None:
    refuse(number)
    with at_work(tmp_path):
        pass


def test_a_disk_without_room_for_a_lock_is_said_to_be_full(tmp_path, refuse) -> None:
    refuse(errno.ENOSPC)
    with pytest.raises(OutputError, match="no room"), at_work(tmp_path):
        pass


def test_a_lock_whose_content_says_nothing_is_another_process(tmp_path) -> None:
    with locked(tmp_path / "lock", "x", ""):
        (tmp_path / "lock").write_text("{")
        with (
            pytest.raises(BusyError, match="by another process"),
            locked(tmp_path / "lock", "It is held", ""),
        ):
            pass
