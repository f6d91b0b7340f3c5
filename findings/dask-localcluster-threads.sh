#!/usr/bin/env bash
# A closed dask LocalCluster leaves numerical libraries limited to one thread.
#
# Versions: Python 3.11 and 3.13, distributed 2026.8.0, dask 2026.8.0.
# Expected: the caller's environment is after close() what it was before: the limit of one thread is meant for workers.
# Seen:     OMP_NUM_THREADS, MKL_NUM_THREADS and OPENBLAS_NUM_THREADS stay 1 in the process that made the cluster, so
#           every program that it starts later, and every library that it loads later, computes on one thread.
# Output seen:
#   before      {'OMP_NUM_THREADS': None, 'MKL_NUM_THREADS': None, 'OPENBLAS_NUM_THREADS': None}
#   after close {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'}
#   a child process sees OMP_NUM_THREADS = 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check distributed==2026.8.0 dask==2026.8.0
cd "$work"
unset OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS
cat > cluster.py <<'PY'
import os
import subprocess
import sys

from dask.distributed import LocalCluster

NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def limits():
    return {name: os.environ.get(name) for name in NAMES}


if __name__ == "__main__":
    before = limits()
    LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None).close()
    after = limits()
    code = "import os; print(os.environ.get('OMP_NUM_THREADS'))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    print("before     ", before)
    print("after close", after)
    print("a child process sees OMP_NUM_THREADS =", child)
    as_stated = set(before.values()) == {None} and set(after.values()) == {"1"} and child == "1"
    sys.exit(None if as_stated else "The behavior has changed.")
PY
timeout 120 venv/bin/python cluster.py
