"""The share of each import in a cold `cellunet predict one.tif`.

    python benchmarks/startup.py [--runs 5]

`python -X importtime` times every import of a process, which makes them a little slower
than they are; the times are summed by package. Medians of several processes, after one
that fills the caches of the disk. Writes `benchmarks/results-startup.json` and the
table between the marks in docs/performance.md.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from tables import HERE, PERFORMANCE, machine, rewrite, table

RESULTS = HERE / "results-startup.json"
FIELD = HERE.parent / "examples" / "images" / "u2os_N12_s7.tif"
BY_ITSELF = 0.02
"""Packages of a smaller share are one row."""


def processor_seconds(command: list[str], cache: Path) -> tuple[float, str]:
    """Return the processor time of one process and what it wrote to standard error.

    Compiled modules are kept in `cache`, as an installation keeps them.
    """
    around = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    around["PYTHONPYCACHEPREFIX"] = str(cache)
    before = os.times()
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=around
    )
    after = os.times()
    used = after.children_user - before.children_user
    return used + after.children_system - before.children_system, done.stderr


def by_package(report: str) -> dict[str, float]:
    """Return milliseconds per package of what `-X importtime` wrote."""
    found: dict[str, float] = defaultdict(float)
    for line in report.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if not line.startswith("import time:") or not parts[0].strip().isdigit():
            continue
        package = parts[2].strip().partition(".")[0]
        if package in sys.stdlib_module_names or package.startswith("_"):
            package = "standard library"
        found[package] += int(parts[0]) / 1e3
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as temporary:
        cache, out = Path(temporary) / "cache", str(Path(temporary) / "out")
        tail = ["-m", "cellunet", "predict", str(FIELD), "--out", out]
        reports, whole = [], []
        for _ in range(runs + 1):
            for flags in (["-X", "importtime"], []):
                shutil.rmtree(out, ignore_errors=True)
                used = processor_seconds([sys.executable, *flags, *tail], cache)
                if flags:
                    reports.append(by_package(used[1]))
                else:
                    whole.append(used[0] * 1e3)
    counted = reports[1:]
    packages = {
        p: statistics.median(r.get(p, 0.0) for r in counted) for p in counted[-1]
    }
    found = {
        "machine": machine(),
        "imports_ms": dict(sorted(packages.items(), key=lambda item: -item[1])),
        "whole_process_cpu_ms": statistics.median(whole[1:]),
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = shares(found["imports_ms"])  # type: ignore[arg-type]
    text += (
        f"\n\nThe whole process takes {found['whole_process_cpu_ms']:.0f} ms of "
        "processor time, the imports, the network and the writing together."
    )
    rewrite(PERFORMANCE, "start-up", text)
    print(text)


def shares(imports: dict[str, float]) -> str:
    """Return the table, small packages joined."""
    whole = sum(imports.values())
    large = {p: ms for p, ms in imports.items() if ms / whole >= BY_ITSELF}
    rest = len(imports) - len(large)
    rows = [*large.items(), (f"{rest} others", whole - sum(large.values()))]
    cells = [(p, f"{ms:.0f}", f"{100 * ms / whole:.0f} %") for p, ms in rows]
    cells.append(("**all imports**", f"{whole:.0f}", "100 %"))
    return table(("package", "ms", "share"), cells)


if __name__ == "__main__":
    main()
