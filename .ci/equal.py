"""Segment the examples with two Pythons, and say whether the results are equal.

    python .ci/equal.py MAIN_PYTHON OTHER_PYTHON

Labels, ROIs and GeoJSON have to be equal to the byte of what they hold. Numbers of
tables may differ by one part in a million, because numpy and scipy do not round the
last digits of a sum in the same way in all versions. Times, versions and what they are
packed with are no part of the comparison.
"""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

CHECKOUT = Path(__file__).resolve().parents[1]
RELATIVE = 1e-6


def results(python: str, folder: Path) -> Path:
    """Run the README's commands with one Python; return where the results are."""
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONSAFEPATH": "1"}
    kinds = [w for k in ("rois", "geojson", "table") for w in ("--save", k)]
    for words in (
        ["predict", "images", "--out", str(folder / "masks"), *kinds],
        ["make-labels", "annotated", "--out", str(folder / "labels")],
    ):
        subprocess.run(
            [python, "-m", "cellunet", *words],
            cwd=CHECKOUT / "examples",
            env=env,
            check=True,
            stderr=subprocess.DEVNULL,
        )
    return folder


def held(path: Path) -> object:
    """Return what a file holds, without times and versions."""
    if path.suffix == ".tif":
        pixels = tifffile.imread(path)
        return pixels.dtype.str, pixels.shape, pixels.tobytes()
    if path.suffix == ".png":
        return imagecodecs.png_decode(path.read_bytes()).tobytes()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as packed:
            return {name: packed.read(name) for name in packed.namelist()}
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))
    if path.suffix in (".geojson", ".json"):
        return json.loads(path.read_text(encoding="utf-8"))
    return path.read_bytes()


def same(one: object, other: object) -> bool:
    """Return whether two contents are equal, numbers within the tolerance."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if one == other:
        return True
    try:
        return math.isclose(float(one), float(other), rel_tol=RELATIVE)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def main() -> int:
    """Compare, print what differs, and return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        main_, other = (
            results(python, Path(folder) / str(i))
            for i, python in enumerate(sys.argv[1:3])
        )
        names = [
            {p.relative_to(root) for p in root.rglob("*") if p.is_file()}
            for root in (main_, other)
        ]
        differ = sorted(map(str, names[0] ^ names[1]))
        for name in sorted(names[0] & names[1]):
            if not same(held(main_ / name), held(other / name)):
                differ.append(str(name))
        files = len(names[0])
        objects = sum(
            int(np.max(tifffile.imread(p))) for p in main_.glob("masks/*.tif")
        )
    print(f"{files} files of {objects} nuclei compared, {len(differ)} differ")
    for name in differ:
        print(f"  {name}")
    return bool(differ) or not objects


if __name__ == "__main__":
    sys.exit(main())
