"""What it costs `cellunet predict` to decode images in a process of its own.

    python benchmarks/isolation.py [--images 50] [--rounds 5] [--kinds png lzw ...]
    python benchmarks/isolation.py --reading

Saves fields of BBBC039 in several ways, and runs the whole command over each folder
with decoders in their own process and in that of the command, in turn. Told are the
seconds of the processor, of both processes together, and of the clock: the median of
the rounds, and of the ratios of a round's two runs. With `--reading` the images are
read and nothing else. Writes `benchmarks/results-isolation.json`, or
`results-isolation-reading.json`. Linux alone.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imagecodecs
import tifffile
from tables import HERE, machine

from cellunet.io.decoding import SHARED
from cellunet.io.images import open_image
from cellunet.io.source import Region

RESULTS = HERE / "results-isolation.json"
READING = HERE / "results-isolation-reading.json"
DATA = Path(os.environ.get("CELLUNET_DATA", HERE.parent.parent / "shared" / "data"))
KINDS = {
    "uncompressed": {},
    "deflate": {"compression": "zlib", "predictor": True},
    "lzw": {"compression": "lzw", "predictor": True},
    "lzw, strips of 8 rows": {
        "compression": "lzw",
        "predictor": True,
        "rowsperstrip": 8,
    },
    "lzw, tiles of 64": {"compression": "lzw", "predictor": True, "tile": (64, 64)},
    "png": None,
}
"""Name to what `tifffile.imwrite` is told; None is PNG."""
WITHIN = """
import sys
from cellunet.io.decoder_process import DECODERS
from cellunet.io.decoding import SHARED
def within(codec, decoder, calls, size):
    return [DECODERS[decoder](*call) for call in calls]
SHARED.decode = within
"""
"""Decodes in the process of the command."""
MAIN = "from cellunet.cli.app import main; raise SystemExit(main(None))"


def save(folder: Path, kind: str, count: int) -> None:
    """Write so many fields in one way."""
    folder.mkdir()
    options = KINDS[kind]
    for path in sorted((DATA / "bbbc039" / "images").glob("*.tif"))[:count]:
        pixels = tifffile.imread(path)
        if options is None:
            target = folder / f"{path.stem}.png"
            target.write_bytes(imagecodecs.png_encode(pixels))
        else:
            tifffile.imwrite(folder / path.name, pixels, **options)


def run(folder: Path, *, isolated: bool) -> tuple[float, float]:
    """Predict a folder; return seconds of the processor and of the clock."""
    out = folder.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    code = MAIN if isolated else WITHIN + MAIN
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = ["predict", str(folder), "--out", str(out), "--json"]
    subprocess.run(
        [sys.executable, "-c", code, *words], check=True, capture_output=True
    )
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, seconds


def compare(folder: Path, rounds: int) -> dict[str, float]:
    """Return medians of both ways, and of their ratio."""
    ways: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    run(folder, isolated=True)
    for number in range(rounds):
        for isolated in (True, False) if number % 2 else (False, True):
            ways[isolated].append(run(folder, isolated=isolated))
    found = {}
    for index, name in enumerate(("processor", "clock")):
        own, within = ([pair[index] for pair in ways[way]] for way in (True, False))
        ratios = [a / b for a, b in zip(own, within, strict=True)]
        found[f"{name}, own process, s"] = round(statistics.median(own), 2)
        found[f"{name}, within, s"] = round(statistics.median(within), 2)
        found[f"{name}, ratio"] = round(statistics.median(ratios), 3)
    return found


def processor_ms() -> float:
    """Return what this process and the one that decodes have used so far."""
    total = 0
    for pid in {os.getpid(), SHARED.pid} - {None}:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e6


def read_all(paths: list[Path]) -> float:
    """Read images; return milliseconds of the processor for each."""
    before = processor_ms()
    for path in paths:
        with open_image(path) as source:
            height, width = source.shape
            source.read(Region(0, 0, height, 0, width))
    return (processor_ms() - before) / len(paths)


def compare_reading(folder: Path, rounds: int) -> dict[str, float]:
    """Return medians of both ways of reading alone."""
    paths = sorted(folder.iterdir())
    ways: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * rounds + 2):
        if number % 2:
            exec(WITHIN, {})
        elapsed = read_all(paths)
        vars(SHARED).pop("decode", None)
        # The first of each way warms up.
        if number > 1:
            ways[not number % 2].append(elapsed)
    return {
        "own process, ms of the processor": round(statistics.median(ways[True]), 2),
        "within, ms of the processor": round(statistics.median(ways[False]), 2),
    }


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--reading", action="store_true", help="reading alone")
    asked = parser.parse_args()
    measure = compare_reading if asked.reading else compare
    figures = {}
    for kind in asked.kinds:
        with tempfile.TemporaryDirectory() as scratch:
            save(Path(scratch) / "in", kind, asked.images)
            figures[kind] = measure(Path(scratch) / "in", asked.rounds)
        print(kind, figures[kind], flush=True)
    about = {
        "command": f"python benchmarks/isolation.py {' '.join(sys.argv[1:])}",
        "machine": machine(),
        "figures": figures,
    }
    target = READING if asked.reading else RESULTS
    target.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
