"""How many processor cores there are for this process, and so how many threads.

A core too many is not idle: its threads take turns with the others', and under a quota
the whole process stands still until its next period begins.
"""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CGROUPS = Path("/sys/fs/cgroup")

OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Return how many cores this process may use, at least 1.

    The least of: the cores that it may run on (on Linux; elsewhere those that there
    are), the quotas of its control groups (containers, cluster jobs; rounded up), and
    the first number in the environment variable ``OMP_NUM_THREADS``.
    """
    # Not on Windows and macOS.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min([cores, *_quotas(), *_asked_for()]))


def threads_for(wish: int) -> int:
    """Return how many threads compute, at least 1.

    Parameters
    ----------
    wish
        Threads asked for, or 0 for all usable cores. There are never more than the
        machine has cores: they would gain nothing, and very many would leave nobody
        on the machine a process to start.
    """
    return min(wish, os.cpu_count() or 1) if wish > 0 else usable_cores()


def _asked_for() -> Iterator[int]:
    """Yield the limit in the environment, if there is one."""
    # "4,2" is for threads that start threads; the first level counts.
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        yield int(first)


def _quotas() -> Iterator[int]:
    """Yield the cores that each control group of this process allows, where it does."""
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, own = rest.partition(":")
        # Version 2 has one tree and names no controllers, version 1 has a tree for
        # each. A container may see its own group as the root under its outer name.
        root = CGROUPS / "cpu" if "cpu" in controllers.split(",") else CGROUPS
        if controllers and root == CGROUPS:
            continue
        inner = PurePosixPath(own.lstrip("/"))
        for group in (inner, *inner.parents):
            yield from _quota(root / group, old=bool(controllers))


def _quota(group: Path, *, old: bool) -> Iterator[int]:
    try:
        if old:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        else:
            quota, period = (group / "cpu.max").read_text().split()
        # "max" and -1 stand for no limit.
        if quota.strip() != "max" and int(quota) > 0:
            yield math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return
