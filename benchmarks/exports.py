"""Time and weigh what is written beside a label image, for 10,000 objects.

    python benchmarks/exports.py [--runs 5] [--json FILE]

A plane of 3,072 x 3,072 pixels is covered with drawn nuclei, a field of 512 x 512 again
and again. Each kind of file is written by itself, labels passing by in bands of 1,024
rows, in a process of its own: the median time of several runs, the size of the file and
how much the process grew while it was written (the largest resident memory of any run,
less that before). Times include the measuring and outlining that the kind needs, not
the segmentation. The first line is the label image alone. At last a plane ten times as
high, with ten times the objects, shows what memory follows from its height.

Linux only: growth is read from the kernel's account of the process.
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from cellunet.command_config import PredictConfig
from cellunet.imaging.measure import pixel_confidence
from cellunet.io.images import create_labels
from cellunet.io.label_tiff import ImageSpec
from cellunet.io.source import ArraySource, Region, Statistics
from cellunet.tasks.predict.outputs import OptionalOutputs
from cellunet.tasks.predict.plane import Segmented

FIELD, ACROSS, PER_FIELD, BAND = 512, 6, 278, 1024
WRITTEN = {
    "labels alone": {},
    "classes": {"save": ("classes",)},
    "probabilities": {"save": ("probabilities",)},
    "outlines": {"save": ("outlines",)},
    "rois": {"save": ("rois",)},
    "geojson": {"save": ("geojson",)},
    "coco": {"save": ("coco",)},
    "table, CSV": {"save": ("table",)},
    "table, Parquet": {"save": ("table",), "table_format": "parquet"},
    "rois, geojson, table": {"save": ("rois", "geojson", "table")},
}


def field() -> tuple[np.ndarray, np.ndarray]:
    """Return image and labels of a field of touching ellipses on a jittered grid."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:FIELD, :FIELD]
    labels = np.zeros((FIELD, FIELD), np.int64)
    places = np.stack(np.mgrid[15 : FIELD - 14 : 29, 15 : FIELD - 14 : 29], -1)
    places = places.reshape(-1, 2)[:PER_FIELD]
    for number, (cy, cx) in enumerate(places + rng.uniform(-3, 3, places.shape), 1):
        a, b, t = rng.uniform(8, 15), rng.uniform(7, 11), rng.uniform(0, np.pi)
        u = ((x - cx) * np.cos(t) + (y - cy) * np.sin(t)) / a
        v = ((y - cy) * np.cos(t) - (x - cx) * np.sin(t)) / b
        labels[(u * u + v * v <= 1) & (labels == 0)] = number
    image = ndimage.gaussian_filter(np.where(labels, 900.0, 200.0), 1)
    image += rng.normal(0, 12, image.shape)
    return np.rint(image).astype(np.uint16), labels


class Tiled(ArraySource):
    """The field again and again, as a plane that never is whole in memory."""

    def __init__(self, image: np.ndarray, down: int) -> None:
        super().__init__(image, (0.5, 0.5))
        self.shape = (down * FIELD, ACROSS * FIELD)

    def read(self, region: Region) -> np.ndarray:
        """Return a region of full width."""
        rows = np.arange(region.y0, region.y1) % FIELD
        return np.tile(self._plane[rows], ACROSS)[np.newaxis]


def bands(labels: np.ndarray, down: int) -> Iterator[np.ndarray]:
    """Yield the labels of the plane in bands of rows, numbered through."""
    count = int(labels.max())
    for y0 in range(0, down * FIELD, BAND):
        parts = []
        for y in range(y0, min(y0 + BAND, down * FIELD), FIELD):
            first = y // FIELD * ACROSS * count
            row = [
                np.where(labels, labels + first + k * count, 0) for k in range(ACROSS)
            ]
            parts.append(np.concatenate(row, axis=1))
        yield np.concatenate(parts).astype(np.uint32)


def probabilities(labels: np.ndarray) -> np.ndarray:
    inside = (labels > 0).astype(np.float32)
    rng = np.random.default_rng(0)
    noise = rng.random((3, *labels.shape), np.float32) * 0.1
    stack = np.stack((1 - inside, inside, 0.2 * inside)) + noise
    return stack / stack.sum(axis=0)


def write(folder: Path, settings: dict, down: int) -> tuple[float, int, float]:
    """Return seconds, bytes and megabytes of growth."""
    image, labels = field()
    source = Tiled(image, down)
    one = np.bincount(labels.ravel())[1:]
    areas = np.tile(one, ACROSS * down)
    likely = np.tile(probabilities(labels), (1, BAND // FIELD, ACROSS))
    sure = pixel_confidence(likely)
    found = Segmented(
        count=len(areas),
        bands=lambda: bands(labels, down),
        areas=areas,
        statistics=Statistics(
            low=150.0, high=950.0, mean=500.0, std=300.0, noise=12.0, count=1
        ),
        evidence=lambda y0, y1: sure[: y1 - y0],
    )
    config = PredictConfig(**settings)
    output = folder / "plane.tif"
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    begin = time.perf_counter()
    with OptionalOutputs(output, source, "plane.tif", config, 3) as extras:
        take = extras.on_band(0)
        for y0 in range(0, source.shape[0], BAND):
            if take is not None:
                take(y0, likely[:, : min(BAND, source.shape[0] - y0)])
        if config.save:
            for _ in extras.labels(0, found):
                pass
        else:
            write_labels(output, source, found)
        extras.commit()
    seconds = time.perf_counter() - begin
    size = sum(path.stat().st_size for path in folder.iterdir())
    return seconds, size, (resident("VmHWM") - before) / 1e6


def write_labels(output: Path, source: Tiled, found: Segmented) -> None:
    spec = ImageSpec(shape=source.shape, dtype=np.dtype(np.uint32), provenance={})
    with create_labels(output, spec) as sink:
        y0 = 0
        for rows in found.bands():
            sink.write(0, y0, rows)
            y0 += len(rows)
        sink.commit()


def resident(key: str) -> int:
    """Return a figure of the kernel's account of this process, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise ValueError(key)


def in_a_process(settings: dict, down: int) -> tuple[float, int, float]:
    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.get_context("spawn").Pool(1) as pool,
    ):
        return pool.apply(write, (Path(folder), settings, down))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {}
    jobs = [(name, ACROSS, options.runs) for name in WRITTEN]
    jobs.append(("rois, geojson, table", 10 * ACROSS, 1))
    for name, down, runs in jobs:
        found = [in_a_process(WRITTEN[name], down) for _ in range(runs)]
        count = ACROSS * down * int(field()[1].max())
        results[f"{name}, {count:,} objects"] = figures = {
            "seconds": statistics.median(s for s, _, _ in found),
            "bytes": found[0][1],
            "growth_mb": max(m for _, _, m in found),
        }
        print(f"{name}, {count:,} objects:", figures, flush=True)
    if options.json:
        text = json.dumps({"runs": options.runs, "results": results}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
