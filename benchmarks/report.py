"""Time the report of a batch: building it, its size, and how soon a browser shows it.

    python -m benchmarks.report [--images 200 5000] [--runs 5] [--json FILE]
    python -m benchmarks.report --pictures DATA...

Images are drawn: 60 different fields of 520 x 696 pixels with 20 to 200 nuclei, with
their true labels as what was found, repeated under other names. "record" is what
`predict --save report` spends on an image (picture, sums, record on the disk); "build"
is the page from the records. The browser is a headless Chromium; first paint and
"loaded" (its script has run, the table can be sorted) count from the start of the
navigation, by its own Performance API. Without Chromium these are left out.

With --pictures: bytes of the thumbnails of annotated images (every tenth of each
folder) at several sizes and qualities instead.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from cellunet.annotations.pairs import find_pairs
from cellunet.config import NormalizationConfig
from cellunet.imaging.normalize import measure
from cellunet.outputs import pictures as thumbnail_module
from cellunet.outputs.pictures import Thumbnail
from cellunet.outputs.report import (
    CONFIDENCE_STEP,
    DIAMETER_STEP_PX,
    Histogram,
    ImageSummary,
    RunSummary,
    from_json,
    to_json,
    write_report,
)
from cellunet.tasks.train.data import ChannelChoice, read_sample
from tests.browser import Page, browser, find
from tests.conftest import draw_nuclei

FIELDS = 60
SHAPE = (520, 696)
PAINT = """performance.getEntriesByName("first-contentful-paint")[0]?.startTime"""
READY = """
performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd
"""
SORT = """
new Promise((done) => {
  const start = performance.now();
  document.querySelector('[data-sort="n"] button').click();
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})
"""


def drawn(seed: int) -> tuple[ImageSummary, float]:
    """Return an image as the report sees it, and the seconds that this took."""
    rng = np.random.default_rng(seed)
    image, labels = draw_nuclei(SHAPE, int(rng.integers(20, 200)), seed)
    begin = time.perf_counter()
    config = NormalizationConfig()
    known = measure(lambda: [image], config)
    thumbnail = Thumbnail(SHAPE, known, config)
    thumbnail.add(image, labels)
    picture, size = thumbnail.encode()
    areas = np.bincount(labels.ravel())[1:]
    confidences = rng.beta(20, 1.5, len(areas))
    warned = seed % 12 == 0
    summary = ImageSummary(
        name=f"field {seed}",
        status="done",
        thumbnail=picture,
        thumbnail_size=size,
        objects=len(areas),
        diameters=Histogram.of(2 * np.sqrt(areas / np.pi), DIAMETER_STEP_PX),
        confidences=Histogram.of(confidences, CONFIDENCE_STEP, top=1.0),
        seconds=0.1,
        warnings=("Soft edges (0.48; training images 0.54 or more).",) * warned,
    )
    return summary, time.perf_counter() - begin


def picture_sizes(folders: list[Path]) -> None:
    """Print the median bytes of thumbnails of real fields, by side and quality."""
    fields = []
    for folder in folders:
        for pair in find_pairs(folder).pairs[::10]:
            sample = read_sample(pair, ChannelChoice())
            fields.append((sample.image[0], sample.labels))
    config = NormalizationConfig()
    print(f"{len(fields)} fields, median kB\nside  quality 40, 50, 75")
    for side in (176, 256, 352):
        thumbnail_module.SIDE_PX = side
        row = []
        for quality in (40, 50, 75):
            thumbnail_module.QUALITY = quality
            sizes = []
            for image, labels in fields:
                known = measure(lambda image=image: [image], config)
                thumbnail = Thumbnail(image.shape, known, config)
                thumbnail.add(image, labels)
                sizes.append(len(thumbnail.encode()[0]))
            row.append(statistics.median(sizes) / 1e3)
        print(f"{side:4d}", *(f"{size:.1f}" for size in row))


def built(folder: Path, records: list[str], count: int) -> dict[str, float]:
    """Build a page of `count` images from records on the disk."""
    for i in range(count):
        (folder / f"{i}.json").write_text(records[i % len(records)], encoding="ascii")

    def images() -> Iterator[ImageSummary]:
        for i in range(count):
            name = f"plate {i // 384:03}/well {i % 384:03}.tif"
            yield from_json((folder / f"{i}.json").read_bytes(), name)[0]

    run = RunSummary(created="now", folder="plates", results="masks")
    page = folder / "report.html"
    begin = time.perf_counter()
    write_report(page, run, images)
    seconds = time.perf_counter() - begin
    tracemalloc.start()
    write_report(page, run, images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "images": count,
        "build_seconds": seconds,
        "build_peak_mb": peak / 1e6,
        "page_mb": page.stat().st_size / 1e6,
    }


def first_paint(page: Page) -> float:
    """Return when the first content was painted, in ms, as soon as it is known."""
    for _ in range(600):
        found = page.run(PAINT)
        if found is not None:
            return float(found)
        time.sleep(0.1)
    raise TimeoutError("nothing was painted")


def opened(page_file: Path, runs: int) -> dict[str, float]:
    """Return medians of what a browser says of the page, each run in a new one."""
    found: dict[str, list[float]] = {"first_paint_ms": [], "loaded_ms": []}
    found |= {"sort_ms": [], "heap_mb": []}
    for _ in range(runs):
        with browser() as page:
            page.size(1280, 900)
            page.open(page_file)
            found["first_paint_ms"].append(first_paint(page))
            found["loaded_ms"].append(page.run(READY))
            found["sort_ms"].append(page.run(SORT))
            heap = page.call("Runtime.getHeapUsage")["usedSize"]
            found["heap_mb"].append(heap / 1e6)
    return {name: statistics.median(values) for name, values in found.items()}


def without_script(page_file: Path) -> float:
    """Return first paint in ms where scripts are switched off."""
    with browser() as page:
        page.call("Emulation.setScriptExecutionDisabled", value=True)
        page.size(1280, 900)
        page.open(page_file)
        return first_paint(page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[200, 5000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path, nargs="+")
    options = parser.parse_args()
    if options.pictures:
        picture_sizes(options.pictures)
        return
    fields = [drawn(seed) for seed in range(FIELDS)]
    records = [to_json(replace(one, name=""), "x") for one, _ in fields]
    record = statistics.median(seconds for _, seconds in fields)
    size = statistics.median(len(one.thumbnail) for one, _ in fields)
    print(f"record {1e3 * record:.0f} ms, picture {size / 1e3:.1f} kB (medians)")
    results = []
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            row = built(Path(folder), records, count)
            if find():
                page = Path(folder) / "report.html"
                row |= opened(page, options.runs)
                row["no_script_first_paint_ms"] = without_script(page)
        results.append(row)
        print(*(f"{name} {value:,.4g}" for name, value in row.items()), sep="  ")
    if options.json:
        about = {"cores": os.cpu_count(), "platform": platform.platform()}
        figures = {
            "machine": about,
            "record_ms": 1e3 * record,
            "picture_kb": size / 1e3,
            "results": results,
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
