"""How many threads compute: what limits this process, never more than there are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cellunet.engine import threads
from cellunet.engine.threads import threads_for, usable_cores

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch, tmp_path) -> None:
    """Run on eight cores without any limit."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "CGROUPS", tmp_path)
    monkeypatch.setattr(threads, "OWN_CGROUPS", tmp_path / "own")


def group(root: Path, own: str, **files: str) -> None:
    """Write the control groups of this process, and the limits of one of them."""
    (root / "own").write_text(own)
    for name, text in files.items():
        file = root / name.replace("__", ".").replace("_in_", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_all_cores_where_nothing_limits() -> None:
    assert usable_cores() == 8
    assert threads_for(0) == 8


def test_only_cores_that_the_process_may_run_on(monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores() == 8


@pytest.mark.parametrize(
    ("value", "count"),
    [("3", 3), ("4,2", 4), (" 2 ", 2), ("20", 8), ("0", 8), ("-1", 8), ("many", 8)],
)
def test_the_environment_may_ask_for_fewer(monkeypatch, value, count) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert usable_cores() == count


@pytest.mark.parametrize(
    ("limit", "count"),
    [("200000 100000\n", 2), ("150000 100000\n", 2), ("max 100000\n", 8), ("1 0", 8)],
)
def test_the_quota_of_a_container(tmp_path, limit, count) -> None:
    group(tmp_path, "0::/\n", cpu__max=limit)
    assert usable_cores() == count


def test_the_quota_of_an_outer_group_holds_inside(tmp_path) -> None:
    group(tmp_path, "0::/job/step\n", job_in_cpu__max="300000 100000")
    assert usable_cores() == 3


def test_the_quota_of_groups_of_the_first_version(tmp_path) -> None:
    own = "4:memory:/job\n3:cpu,cpuacct:/job\n0::/\n"
    files = {
        "cpu_in_job_in_cpu__cfs_quota_us": "400000\n",
        "cpu_in_job_in_cpu__cfs_period_us": "100000\n",
        "cpu_in_cpu__cfs_quota_us": "-1\n",
        "cpu_in_cpu__cfs_period_us": "100000\n",
    }
    group(tmp_path, own, **files)
    assert usable_cores() == 4


@pytest.mark.parametrize("own", ["", "nonsense\n", "0::/../../..\n"])
def test_odd_groups_limit_nothing(tmp_path, own) -> None:
    group(tmp_path, own)
    assert usable_cores() == 8


def test_never_more_threads_than_cores() -> None:
    assert threads_for(5) == 5
    assert threads_for(100_000) == 8
