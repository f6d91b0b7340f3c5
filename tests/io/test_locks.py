"""Locks belong to processes: who holds one is told, and a killed one leaves none."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cellunet.errors import BusyError
from cellunet.io import files as locks
from cellunet.io.files import Held, lock_new, locked, remove_abandoned, working_on

HOLD = """
import contextlib, sys
from pathlib import Path
from cellunet.io.files import Held, lock_new, working_on
kind, path, *results = sys.argv[1:]
hold = {"held": Held, "new": lock_new}
held = hold[kind](Path(path)) if kind in hold else None
with working_on(Path(path), results) if kind == "run" else contextlib.nullcontext():
    print("held", flush=True)
    sys.stdin.readline()
"""
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")


def holder(kind: str, path: Path, *results: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, kind, str(path), *results],
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


def test_a_lock_says_which_process_holds_it(tmp_path) -> None:
    process = holder("held", tmp_path / "lock")
    told = f"Training 'a' is going on by process {process.pid} on "
    with (
        pytest.raises(BusyError, match=told),
        locked(tmp_path / "lock", "Training 'a' is going on", "Wait."),
    ):
        pass
    kill(process)


def test_a_killed_process_leaves_no_lock(tmp_path) -> None:
    kill(holder("held", tmp_path / "lock"))
    assert (tmp_path / "lock").exists()
    with locked(tmp_path / "lock", "x", ""):
        pass
    assert not (tmp_path / "lock").exists()


def test_two_openings_in_one_process_exclude_each_other(tmp_path) -> None:
    first = Held(tmp_path / "lock")
    with pytest.raises(BlockingIOError):
        Held(tmp_path / "lock")
    first.release()
    Held(tmp_path / "lock").release()


def test_the_same_result_twice_is_refused_and_other_results_are_not(tmp_path) -> None:
    process = holder("run", tmp_path, "a.tif", "b.tif")
    told = rf"b\.tif is being written by process {process.pid} on .*--part"
    with (
        pytest.raises(BusyError, match=told),
        working_on(tmp_path, ["b.tif", "c.tif"]),
    ):
        pass
    with working_on(tmp_path, ["c.tif"]):
        pass
    process.communicate("\n")
    with working_on(tmp_path, ["b.tif"]):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_signed_on_for_is_free_again(tmp_path) -> None:
    kill(holder("run", tmp_path, "a.tif"))
    assert list(tmp_path.iterdir())
    with working_on(tmp_path, ["a.tif"]):
        pass
    assert list(tmp_path.iterdir()) == []


def test_only_files_of_processes_that_are_gone_are_removed(tmp_path) -> None:
    kill(holder("new", tmp_path / ".gone.partial"))
    living = holder("new", tmp_path / ".living.partial")
    own = lock_new(tmp_path / ".own.partial")
    (tmp_path / "a.tif").touch()
    folders = [tmp_path, tmp_path / "not there"]
    assert remove_abandoned(folders, ".*.partial") == 1
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".living.partial", ".own.partial", "a.tif"]
    assert own is not None
    os.close(own)
    kill(living)


def test_a_file_system_without_locks_is_told_of_and_nothing_there_is_removed(
    tmp_path, monkeypatch, caplog
) -> None:
    def refuse(descriptor: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "try_lock", refuse)
    with caplog.at_level(logging.WARNING), working_on(tmp_path, ["a.tif"]):
        assert "cannot be locked (No locks available)" in caplog.text
    assert lock_new(tmp_path / ".a.partial") is None
    assert remove_abandoned([tmp_path], ".*.partial") == 0
    assert (tmp_path / ".a.partial").exists()


def test_a_folder_that_permits_no_writing_needs_no_lock(tmp_path, monkeypatch) -> None:
    def refuse(path: Path, results: object = ()) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(locks, "Held", refuse)
    with working_on(tmp_path, ["a.tif"]):
        pass


def test_waiting_for_another_to_sign_on_ends(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE_S", 0.05)
    process = holder("held", tmp_path / locks.MUTEX)
    with (
        pytest.raises(BusyError, match=f"locked by process {process.pid}"),
        working_on(tmp_path, ["a.tif"]),
    ):
        pass
    kill(process)


def test_a_lock_whose_content_says_nothing_is_another_process(tmp_path) -> None:
    held = Held(tmp_path / "lock")
    (tmp_path / "lock").write_text("{")
    with (
        pytest.raises(BusyError, match="by another process"),
        locked(tmp_path / "lock", "It is held", ""),
    ):
        pass
    held.release()
