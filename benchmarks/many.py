"""Watch the time of an image, open files and memory over many images.

    python benchmarks/many.py [--images 10000]

Cuts so many images of 256 x 256 pixels out of the example fields (pieces turned and
shifted), runs `cellunet.predict` over them on one thread, and looks at the process
after every image: processor time, open file handles, proportional share of memory
(PSS). Printed is the first tenth against the last. Writes
`benchmarks/results-many.json`. Linux only.
"""

import argparse
import json
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import tifffile
from tables import HERE, machine

from cellunet.io.images import open_image
from cellunet.io.source import Region
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.inputs import ImageResult

RESULTS = HERE / "results-many.json"
FIELDS = ("u2os_N12_s7.tif", "u2os_B24_s9.tif")
SIDE = 256
PSS_EVERY = 20
"""Images between two looks at the memory, which take a millisecond each."""


def make_images(folder: Path, count: int) -> None:
    """Write the images, uncompressed 16-bit TIFF."""
    fields = []
    for name in FIELDS:
        with open_image(HERE.parent / "examples" / "images" / name) as source:
            height, width = source.shape
            fields.append(source.read(Region(0, 0, height, 0, width))[0])
    rng = np.random.default_rng(0)
    for number in range(count):
        field = fields[number % len(fields)]
        y, x = (int(rng.integers(n - SIDE + 1)) for n in field.shape)
        piece = np.rot90(field[y : y + SIDE, x : x + SIDE], number % 4)
        piece = piece.astype(np.uint16) + np.uint16(number % 50)
        tifffile.imwrite(folder / f"{number:06}.tif", piece)


def pss_mb() -> float:
    text = Path("/proc/self/smaps_rollup").read_text()
    lines = dict(line.split(":", 1) for line in text.splitlines()[1:])
    return int(lines["Pss"].split()[0]) / 1e3


class Watch:
    """Looks at this process after every image."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []
        self.handles: list[int] = []
        self.memory: list[float] = []
        self._before = time.process_time()

    def look(self, result: ImageResult) -> None:
        """Take note of how the process is after an image."""
        if result.status != "done":
            raise SystemExit(f"{result.input}: {result.message or result.status}")
        self.milliseconds.append(1e3 * (time.process_time() - self._before))
        self.handles.append(len(list(Path("/proc/self/fd").iterdir())))
        if len(self.milliseconds) % PSS_EVERY == 0:
            self.memory.append(pss_mb())
        self._before = time.process_time()


def tenths(values: list[float] | list[int]) -> list[float]:
    """Return the medians of each tenth of a series."""
    edges = np.linspace(0, len(values), 11).astype(int)
    return [round(statistics.median(values[a:b]), 3) for a, b in pairwise(edges)]


def one_by_one(count: int) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as temporary:
        images, out = Path(temporary) / "images", Path(temporary) / "out"
        images.mkdir()
        make_images(images, count)
        watch = Watch()
        predict([str(images)], out, threads=1, on_image=watch.look)
    return {
        "cpu_ms_per_image": tenths(watch.milliseconds),
        "open_files": tenths(watch.handles),
        "pss_mb": tenths(watch.memory),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    options = parser.parse_args()
    tens = one_by_one(options.images)
    results = {
        "run": {
            "machine": machine(),
            "images": options.images,
            "medians_of_tenths": tens,
        }
    }
    for name, values in tens.items():
        change = values[-1] / values[0] - 1
        print(f"{name}: {values[0]:.1f} -> {values[-1]:.1f} ({change:+.1%})")
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
