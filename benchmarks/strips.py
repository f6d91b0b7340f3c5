"""Label images in strips and in tiles: bytes, and the time to read a window.

    python benchmarks/strips.py OUT

The labels of the example images are repeated over planes of several sizes and written
both ways into the folder OUT. From each file 20 windows of 512 x 512 pixels are read,
at places drawn by seed 0 and each as if it were the first. The figures are in
docs/outputs.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
import tifffile

from cellunet.io import label_tiff as sink
from cellunet.io.images import create_labels, open_image
from cellunet.io.label_tiff import ImageSpec
from cellunet.io.source import Region

LABELS = Path(__file__).parents[1] / "examples" / "annotated" / "labels"
SIDES = (2048, 4096, 8192, 16_384, 32_768)
WINDOW = 512


def write(path: Path, side: int) -> None:
    """Write the example labels again and again, each with numbers of its own."""
    fields = [tifffile.imread(p).astype(np.uint32) for p in sorted(LABELS.glob("*"))]
    row = np.concatenate([fields[k % len(fields)] for k in range(side // 256)], axis=1)
    spec = ImageSpec(shape=(side, side), dtype=np.dtype(np.uint32), provenance={})
    with create_labels(path, spec) as target:
        for y0 in range(0, side, 256):
            target.write(0, y0, np.where(row > 0, row + y0 * 100, 0).astype(np.uint32))
        target.commit()


def window_ms(path: Path, side: int) -> float:
    """Return the median time of reading a window."""
    rng = np.random.default_rng(0)
    times = []
    for y, x in rng.integers(0, side - WINDOW, (20, 2)):
        with open_image(path) as source:
            begin = time.perf_counter()
            source.read(Region(0, int(y), int(y) + WINDOW, int(x), int(x) + WINDOW))
            times.append(time.perf_counter() - begin)
    return 1000 * median(times)


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for side in SIDES:
        for name, pixels in (("strips", side * side), ("tiles", 0)):
            sink.STRIPS_PIXELS = pixels
            path = out / f"{side}-{name}.tif"
            begin = time.perf_counter()
            write(path, side)
            seconds = time.perf_counter() - begin
            print(
                f"{side} {name}: written in {seconds:.1f} s, {path.stat().st_size:,} "
                f"bytes, a window in {window_ms(path, side):.0f} ms",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    main(parser.parse_args().out)
