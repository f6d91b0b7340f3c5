"""Time whole `cellunet` processes: start-up, one image cold, many images.

    python benchmarks/speed.py FOLDER_OF_IMAGES [--engine NAME] [--runs 5] [--json FILE]

Each figure is the median of several runs after one that is not counted, wall clock of
the whole process, with the largest resident memory that any of the runs reached.
Linux and macOS (it reads the operating system's account of finished processes).
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cellunet.imaging.files import open_image
from cellunet.imaging.inputs import find_inputs


def timed(command: list[str]) -> tuple[float, float]:
    """Return wall seconds and peak resident megabytes of one process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        # A fresh parent each time: the account of children only ever grows.
        return pool.apply(run, (command,))


def run(command: list[str]) -> tuple[float, float]:
    """Run a command to its end; it must succeed."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - begin
    unit = 1 if platform.system() == "Darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return seconds, peak / 1e6


def measure(command: list[str], out: Path, runs: int) -> dict[str, float]:
    """Return the median time of a command and its peak memory."""
    found = []
    for _ in range(runs + 1):
        shutil.rmtree(out, ignore_errors=True)
        found.append(timed(command))
    counted = found[1:]
    return {
        "seconds": statistics.median(s for s, _ in counted),
        "seconds_least": min(s for s, _ in counted),
        "seconds_most": max(s for s, _ in counted),
        "peak_mb": max(m for _, m in counted),
    }


def megapixels(folder: Path) -> tuple[int, float]:
    """Return the number of images in a folder and their pixels in millions."""
    files = find_inputs([str(folder)]).files
    pixels = 0
    for file in files:
        with open_image(file) as source:
            pixels += source.shape[0] * source.shape[1]
    return len(files), pixels / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    program = [sys.executable, "-m", "cellunet"]
    count, size = megapixels(options.folder)
    one = find_inputs([str(options.folder)]).files[0]
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "out"
        predict = [*program, "predict", "--out", str(out), "--engine", options.engine]
        results = {
            "help": measure([*program, "--help"], out, options.runs),
            "one image, cold": measure([*predict, str(one)], out, options.runs),
            f"{count} images": measure(
                [*predict, str(options.folder)], out, options.runs
            ),
        }
    many = results[f"{count} images"]
    many["megapixels_per_second"] = size / many["seconds"]
    for name, figures in results.items():
        print(name, *(f"{k} {v:.2f}" for k, v in figures.items()), sep="  ")
    if options.json:
        about = {"cores": os.cpu_count(), "platform": platform.platform()}
        figures = {"machine": about, "results": results}
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
