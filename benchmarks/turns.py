"""Time `cellunet predict` of one large field, versions of the package taking turns.

    python benchmarks/turns.py FOLDER_OF_IMAGES --trees BEFORE AFTER
        [--size 4160x5568] [--rounds 6] [--quiet 0.2] [-- MORE OPTIONS OF PREDICT]

A field is made as by `benchmarks/memory.py`, or with `--size 0` the folder's images are
predicted as they are. Each tree is a checkout of the project, taken by PYTHONPATH; each
run is a process of its own. Besides the time on the clock and that of the processor it
tells how many cores other programs kept busy meanwhile, since what runs beside the
network gains little where nothing is idle. With `--quiet`, a run during which they took
more is left out, and the round repeated with all trees, for an hour at most. Linux
only.
Adds a line per tree to `results-turns.jsonl`.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from memory import pixels, save
from tables import busy_seconds

from cellunet.io.paths import find_inputs

RESULTS = Path(__file__).with_name("results-turns.jsonl")
PATIENCE_SECONDS = 3600


def own_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(tree: str, command: list[str]) -> dict[str, float]:
    """Run a command with a tree's package; return its times in seconds."""
    with tempfile.TemporaryDirectory() as out:
        environment = os.environ | {"PYTHONPATH": str(Path(tree).absolute())}
        busy, own, begin = busy_seconds(), own_seconds(), time.perf_counter()
        # Not where this was called from: Python looks there first for the package.
        subprocess.run(
            [*command, "--out", out],
            env=environment,
            cwd=out,
            check=True,
            capture_output=True,
        )
        seconds = time.perf_counter() - begin
        processor = own_seconds() - own
        others = (busy_seconds() - busy - processor) / seconds
    return {
        "seconds": round(seconds, 2),
        "processor": round(processor, 2),
        "others": round(max(others, 0.0), 2),
    }


def turns(trees: list[str], command: list[str], quiet: float) -> list[dict[str, float]]:
    """Return a run of each tree, repeated together until the machine is quiet."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        runs = [timed(tree, command) for tree in trees]
        loudest = max(run["others"] for run in runs)
        if loudest <= quiet:
            return runs
        if time.monotonic() > end:
            raise SystemExit(f"others kept {loudest:.2f} cores busy; see --quiet")
        time.sleep(5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trees", nargs="+", required=True)
    parser.add_argument("--size", default="4160x5568")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--quiet", type=float, default=float("inf"))
    # A list that follows other options is more than argparse can tell from them.
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, more = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    with tempfile.TemporaryDirectory() as temporary:
        path = args.folder.absolute()
        if args.size != "0":
            height, width = map(int, args.size.split("x"))
            images = [pixels(p) for p in find_inputs([str(args.folder)]).files]
            images = [image for image in images if image.shape == images[0].shape]
            path = Path(temporary, "field.tif")
            save(path, images, (height, width))
        command = [sys.executable, "-m", "cellunet", "predict", str(path), *more]
        rounds = []
        for _ in range(args.rounds):
            rounds.append(turns(args.trees, command, args.quiet))
            print(*rounds[-1], flush=True)
    for tree, runs in zip(args.trees, zip(*rounds, strict=True), strict=True):
        found = {
            "tree": Path(tree).resolve().name,
            "size": args.size,
            "options": more,
            **{
                key: statistics.median(run[key] for run in runs)
                for key in ("seconds", "processor", "others")
            },
            "fastest": min(run["seconds"] for run in runs),
            "runs": list(runs),
        }
        print({key: value for key, value in found.items() if key != "runs"})
        with RESULTS.open("a") as file:
            file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
