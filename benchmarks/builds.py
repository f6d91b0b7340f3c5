"""Time `predict` of this build and of an earlier one in turns, as whole processes.

    python benchmarks/builds.py PYTHON MODEL IMAGES [--pairs 5] [-- MORE OPTIONS]

PYTHON is the interpreter of an environment in which the earlier build is installed, and
MODEL the model that it ships: this build segments with it and `--diameter model`, and
once more with its own model and options ("default"). Printed are the medians of the
ratios of this build to the earlier one, seconds and processor seconds, their range, and
whether the labels are the same. Processes run in a folder of their own: ``python -m``
would take the cellunet of the folder that it is started in for the one installed.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile


def timed(python: str, words: list[str], out: Path) -> tuple[float, float]:
    """Return seconds, and seconds of the processor."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [python, "-m", "cellunet", "predict", *words, "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True, cwd=out.parent)
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return seconds, user + system


def same_labels(one: Path, other: Path) -> bool:
    paths = sorted(one.glob("*.tif"))
    return bool(paths) and all(
        np.array_equal(tifffile.imread(p), tifffile.imread(other / p.name))
        for p in paths
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("python")
    parser.add_argument("model")
    parser.add_argument("images", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, more = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    # Python then caches what it compiles, as it does for users.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    path = str(args.images.resolve())
    model = str(Path(args.model).resolve())
    ways = {
        "before": (args.python, [path, *more]),
        "now": (sys.executable, [path, *more, "--model", model, "--diameter", "model"]),
        "default": (sys.executable, [path, *more]),
    }
    rounds = []
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(args.pairs):
            outs = {way: Path(temporary, f"{way}{number}") for way in ways}
            rounds.append({w: timed(*ways[w], outs[w]) for w in ways})
        same = same_labels(outs["before"], outs["now"])
    print("before:", [round(r["before"][0], 2) for r in rounds], "s")
    for way in ("now", "default"):
        for column, name in enumerate(("seconds", "processor")):
            ratios = [r[way][column] / r["before"][column] for r in rounds]
            low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
            print(f"{way}, {name}: {middle:.3f} ({low:.3f} to {high:.3f})")
    print("labels", "the same" if same else "differ")


if __name__ == "__main__":
    main()
