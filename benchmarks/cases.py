"""Run valid inputs on which an earlier build went wrong, with one build or more.

    python benchmarks/cases.py CASES --cellunet OLD/bin/cellunet NEW/bin/cellunet

CASES holds a folder for each case, called as in `cases.toml`: files of public reports,
which are not kept here. `cases.toml` says of each case what to call in a copy of its
folder, and what has to come of it. The table says of each build: right; wrong (it went
on, and something else came out, silently or nearly so); refused; unclear (the right
thing was done, and what has to be said is missing). The exit code is 0 if all is right
with the last build.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from rich.console import Console
from rich.table import Table

Case = dict[str, Any]


def sizes(path: Path) -> list[int]:
    """Return the pixels of each object of a label image."""
    labels = tifffile.imread(path)
    return np.unique(labels[labels > 0], return_counts=True)[1].tolist()


def column(path: Path, name: str) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def largest_between(path: Path, expected: list[Any]) -> bool:
    """Return whether the largest number of a column of a table lies between two."""
    name, low, high = expected
    return low <= max(map(float, column(path, name))) <= high


def pixels_off(path: Path, expected: list[Any]) -> bool:
    """Return whether an image covers what a drawn one does, but for some pixels."""
    drawn = next(p for p in path.parents if (p / expected[0]).is_file()) / expected[0]
    covers, should = (tifffile.imread(p) > 0 for p in (path, drawn))
    return int(np.count_nonzero(covers != should)) <= expected[1]


def is_tiled(path: Path) -> bool:
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages[0].is_tiled


CHECKS = {
    "objects": lambda path, expected: len(sizes(path)) == expected,
    "median": lambda path, expected: int(np.median(sizes(path))) == expected,
    "rows": lambda path, expected: (
        len(path.read_text("utf-8").splitlines()) == expected + 1
    ),
    "largest": largest_between,
    "empty": lambda path, expected: not any(column(path, expected)),
    "off": pixels_off,
    "tiled": lambda path, expected: is_tiled(path) == expected,
    "holds": lambda path, expected: (
        re.search(expected, path.read_text("utf-8")) is not None
    ),
    "lacks": lambda path, expected: expected.encode() not in path.read_bytes(),
}
"""What can be asked of one file, by the key of `cases.toml`."""

USAGE = 2
"""Exit code of a command that does not know an option."""


def made(case: Case, folder: Path) -> bool:
    """Return whether a case's files are what they should be."""
    counts = case.get("files", {}).items()
    return all(len([*folder.glob(name)]) == count for name, count in counts) and all(
        (folder / name).is_file() and check(folder / name, expected)
        for key, check in CHECKS.items()
        for name, expected in case.get(key, {}).items()
    )


def called(
    commands: list[str], cellunet: Path, folder: Path, home: str
) -> tuple[int, str]:
    """Return the largest exit code of some commands, and all that they print."""
    code, output = 0, ""
    for command in commands:
        done = subprocess.run(
            [cellunet, *command.split()],
            cwd=folder,
            env=os.environ | {"CELLUNET_HOME": home, "COLUMNS": "300"},
            capture_output=True,
            text=True,
        )
        code = max(code, done.returncode)
        output += f"$ cellunet {command}\n{done.stdout}{done.stderr}"
    return code, output


def outcome(case: Case, cellunet: Path, cases: Path) -> tuple[str, str]:
    """Run a case in a copy of its folder; return what came of it, and the output."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, home = Path(scratch, "case"), f"{scratch}/home"
        shutil.copytree(cases / case["folder"], folder)
        for copy, original in case.get("copy", {}).items():
            shutil.copytree(folder / original, folder / copy)
        for name in case.get("remove", []):
            (folder / name).unlink()
        code, output = called(case["run"], cellunet, folder, home)
        if code == USAGE and "older" in case:
            code, output = called(case["older"], cellunet, folder, home)
        is_made = code == case.get("exit", 0) and made(case, folder)

        def printed(key: str) -> list[bool]:
            return [bool(re.search(word, output)) for word in case.get(key, [])]

        if not (is_made and all(printed("result"))) or any(printed("never")):
            return ("refused" if code else "wrong"), output
        return ("right" if all(printed("says")) else "unclear"), output


def main() -> int:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=Path, metavar="CASES")
    parser.add_argument("--cellunet", type=Path, nargs="+", required=True)
    parser.add_argument("--only", default="", help="part of the names of cases to run")
    parser.add_argument("--show", action="store_true", help="print what was said")
    asked = parser.parse_args()
    listed = Path(__file__).with_name("cases.toml").read_text("utf-8")
    builds = [path.absolute().parts[-3] for path in asked.cellunet]
    counts: list[Counter[str]] = [Counter() for _ in builds]
    table = Table("case", "expected", *builds)
    for case in tomllib.loads(listed)["case"]:
        if asked.only not in case["folder"]:
            continue
        found = [outcome(case, path.absolute(), asked.cases) for path in asked.cellunet]
        for count, (word, output) in zip(counts, found, strict=True):
            count[word] += 1
            if asked.show:
                print(output)
        table.add_row(case["folder"], case["expected"], *(word for word, _ in found))
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    for build, count in zip(builds, counts, strict=True):
        print(f"{build}: {', '.join(f'{n} {word}' for word, n in count.most_common())}")
    return int(counts[-1]["right"] < counts[-1].total())


if __name__ == "__main__":
    sys.exit(main())
