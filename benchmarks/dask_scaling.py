"""Predict one large image on workers of this machine, and compare time and labels.

    python benchmarks/dask_scaling.py [FOLDER_OF_IMAGES] [--size 8320x11136]
        [--workers 1 2] [-- MORE OPTIONS OF PREDICT]

An OME-Zarr is made of the images of the folder (by default those of the examples), set
side by side in a random order. It is segmented by one process of one thread, and with
``--dask "local[N]"``; the labels must be the same to the pixel. `image_seconds` is the
time of the image alone, `seconds` that of the command, which also starts the workers.
Two virtual cores need not be twice one: `cores_faster` is how much more processes of
one thread multiply side by side than one alone, just before and after.
Peaks are what a process owns of the memory (PSS), sampled every 20 ms. Linux only.
Results are added to `benchmarks/results-dask.json`.
"""

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import zarr
from memory import EVERY_SECONDS, images_of, owned, save_zarr
from tables import cores_of_others, machine

RESULTS = Path(__file__).with_name("results-dask.json")
EXAMPLES = Path(__file__).parents[1] / "examples" / "images"


def watched(command: list[str]) -> tuple[dict[str, object], float, dict[int, int]]:
    """Run a command; return its result, seconds, and the peak of each process."""
    begin, peaks = time.perf_counter(), {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            # Workers are children of another thread than the first.
            with contextlib.suppress(psutil.NoSuchProcess):
                own = psutil.Process(process.pid)
                for pid in [p.pid for p in (own, *own.children(recursive=True))]:
                    peaks[pid] = max(peaks.get(pid, 0), owned(pid))
            time.sleep(EVERY_SECONDS)
        text = process.communicate()[0]
    if process.returncode:
        raise SystemExit(text)
    seconds = time.perf_counter() - begin
    peaks[0] = peaks.pop(process.pid)
    return json.loads(text)["result"]["images"][0], seconds, peaks


MULTIPLY = """
import time, numpy
a = numpy.ones((1500, 1500), "f4")
a @ a
begin, count = time.perf_counter(), 0
while time.perf_counter() - begin < 3:
    a @ a
    count += 1
print(count)
"""


def products(processes: int) -> int:
    """Return how many matrix products so many processes of one thread do at once."""
    variables = os.environ | {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", MULTIPLY],
            stdout=subprocess.PIPE,
            text=True,
            env=variables,
        )
        for _ in range(processes)
    ]
    return sum(int(process.communicate()[0]) for process in begun)


def cores_faster(processes: int) -> float:
    """Return how many times more several processes multiply than one."""
    return round(products(processes) / products(1), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=EXAMPLES)
    parser.add_argument("--size", default="8320x11136")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, more = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    height, width = map(int, args.size.split("x"))
    ways = {"one process, one thread": ["--threads", "1"]}
    ways |= {f"local[{n}]": ["--dask", f"local[{n}]"] for n in args.workers}
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    rows, labels = {}, set()
    most = max(args.workers)
    faster = [cores_faster(most)]
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "field.zarr")
        save_zarr(path, images_of(args.folder), (height, width))
        for way, options in ways.items():
            out = Path(temporary, way.replace("[", "-").strip("]"))
            words = ["predict", str(path), "--out", str(out), "--json", *options, *more]
            others = cores_of_others()
            image, seconds, peaks = watched([sys.executable, "-m", "cellunet", *words])
            made = zarr.open_array(out / "field.zarr" / "0", mode="r")
            digest = hashlib.sha256()
            for y0 in range(0, height, 1024):
                digest.update(np.asarray(made[y0 : y0 + 1024]).tobytes())
            labels.add(digest.hexdigest())
            rows[way] = {
                "objects": image["objects"],
                "seconds": round(seconds, 1),
                "image_seconds": round(image["seconds"], 1),
                "command_mb": round(peaks.pop(0) / 1e6),
                "worker_mb": round(max(peaks.values(), default=0) / 1e6),
                "others": round(others, 1),
            }
            print(way, rows[way], flush=True)
    faster.append(cores_faster(most))
    print(f"{most} processes multiply {faster} times as much as one")
    first = rows.get(f"local[{args.workers[0]}]", {}).get("image_seconds", 0)
    for n in args.workers[1:]:
        row = rows[f"local[{n}]"]
        row["times_faster"] = round(first / row["image_seconds"], 2)
        print(f"local[{n}]: {row['times_faster']} times local[{args.workers[0]}]")
    print("labels", "the same" if len(labels) == 1 else "DIFFER")
    about = {"machine": machine(), "cores_faster": faster}
    results[" ".join([args.size, *more])] = about | rows
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(len(labels) != 1)


if __name__ == "__main__":
    main()
