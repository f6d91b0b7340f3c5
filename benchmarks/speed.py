"""Time whole `cellunet` processes, and write the table of speed in docs/performance.md.

    python benchmarks/speed.py FOLDER [--engine NAME] [--runs 5]   # any images
    python benchmarks/speed.py --data DATA [--engine NAME]         # with their accuracy
    python benchmarks/speed.py --table                            # the table alone

Start-up, one image cold, and all images of a folder; with `--data` the 50 validation
images of `DATA/bbbc039`, of whose very labels the mean AP is measured after the clock
has stopped. Each figure is the median of several runs after one that is not counted,
wall clock of the whole process and processor time of all its threads (which other
programs change less), with the largest resident memory that any of the runs
reached. A row replaces that of the same command, images and machine in
`benchmarks/results-speed.json`; the table is made of these rows and of those that
`benchmarks/memory.py` left. Linux and macOS (it reads the operating system's account of
finished processes).
"""

import argparse
import contextlib
import json
import multiprocessing
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tables import HERE, cores_of_others, machine, rewrite, table

from cellunet.annotations.pairs import Pair, find_pairs
from cellunet.annotations.read import read_annotation
from cellunet.io.images import open_image
from cellunet.io.paths import find_inputs
from cellunet.tasks.evaluate import Scorable, score_pairs
from cellunet.tasks.train.data import read_annotated

RESULTS = HERE / "results-speed.json"
MEMORY = HERE / "results-memory.json"
PAGE = HERE.parent / "docs" / "performance.md"
BUSY_CORES = 0.3
"""From so many cores on that others kept busy, a figure is said to be disturbed."""
Row = dict[str, Any]


def timed(command: list[str]) -> tuple[float, float, float]:
    """Return wall and processor seconds and peak resident megabytes of one process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        # A fresh parent each time: the account of children only ever grows.
        return pool.apply(run, (command,))


def run(command: list[str]) -> tuple[float, float, float]:
    """Run a command to its end; it must succeed."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - begin
    unit = 1 if platform.system() == "Darwin" else 1024
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * unit / 1e6


def measure(arguments: list[str], out: Path, runs: int) -> Row:
    """Return the median time of a `cellunet` command and its peak memory."""
    others = cores_of_others()
    found = []
    for _ in range(runs + 1):
        shutil.rmtree(out, ignore_errors=True)
        found.append(timed([sys.executable, "-m", "cellunet", *arguments]))
    counted = found[1:]
    return {
        "seconds": statistics.median(s for s, _, _ in counted),
        "seconds_least": min(s for s, _, _ in counted),
        "seconds_most": max(s for s, _, _ in counted),
        "processor_seconds": statistics.median(p for _, p, _ in counted),
        "peak_mb": max(m for _, _, m in counted),
        "runs": runs,
        "others": round(others, 1),
        "machine": machine(),
    }


def megapixels(files: list[Path]) -> float:
    """Return the pixels of images in millions."""
    pixels = 0
    for file in files:
        with open_image(file) as source:
            pixels += source.shape[0] * source.shape[1]
    return pixels / 1e6


def mean_ap(pairs: list[Pair], out: Path) -> float:
    """Return the mean AP of label images against their annotations."""
    scorables = [
        Scorable(
            name=pair.name,
            labels=read_annotated(pair).labels,
            predicted=read_annotation(
                out / f"{pair.image.stem}.tif", kind="labels"
            ).labels,
        )
        for pair in pairs
    ]
    score = score_pairs(scorables).unseen
    assert score is not None  # noqa: S101
    return round(score.summaries["all"].mean_ap.value, 4)


def validation(data: Path) -> list[Pair]:
    """Return the official validation images of BBBC039 with their annotations."""
    found = find_pairs(data / "bbbc039")
    official = set(found.validation or ())
    return [pair for pair in found.pairs if pair.name in official]


@contextlib.contextmanager
def images_of(folder: Path | None, pairs: list[Pair]) -> Iterator[Path]:
    """Yield a folder of images: the one given, or one of copies."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as copies:
        for pair in pairs:
            shutil.copy(pair.image, copies)
        yield Path(copies)


def rows_of(options: argparse.Namespace, pairs: list[Pair]) -> Iterator[Row]:
    """Measure what was asked for."""
    more = [] if options.engine == "auto" else ["--engine", options.engine]
    named = " ".join(["cellunet predict", "{}", *more])
    with (
        images_of(options.folder, pairs) as folder,
        tempfile.TemporaryDirectory() as temporary,
    ):
        out = Path(temporary) / "out"
        files = find_inputs([str(folder)]).files
        predict = ["predict", "--out", str(out), *more]
        if "help" in options.only:
            found = measure(["--help"], out, options.runs)
            yield {"command": "cellunet --help"} | found
        if "one" in options.only:
            found = measure([*predict, str(files[0])], out, options.runs)
            yield {"command": named.format("IMAGE"), "images": "one, cold"} | found
        if "many" in options.only:
            found = measure([*predict, str(folder)], out, options.runs)
            found["megapixels_per_second"] = megapixels(files) / found["seconds"]
            if pairs:
                found["mean_ap"] = mean_ap(pairs, out)
            what = f"{len(files)} of BBBC039" if pairs else f"{len(files)}"
            yield {"command": named.format("FOLDER"), "images": what} | found


def same(one: Row, other: Row) -> bool:
    """Say whether two rows are of one command, on one kind of machine."""
    keys = ("command", "images")
    machines = [row["machine"].get("processor") for row in (one, other)]
    return all(one.get(k) == other.get(k) for k in keys) and machines[0] == machines[1]


def where(row: Row) -> str:
    """Return on what a row was measured."""
    about = row["machine"]
    name = about.get("processor") or "unrecorded processor"
    others = row.get("others")
    if others is None:
        state = "unrecorded load"
    else:
        state = f"busy: {others:.1f} cores" if others >= BUSY_CORES else "quiet"
    return f"{about['cores']} cores, {name}, {state}"


def seconds(number: float | None) -> str:
    """Return a time in three digits or so."""
    if number is None:
        return ""
    return f"{number:.2f}" if number < 10 else f"{number:.0f}"


def line(row: Row) -> list[str]:
    """Return a row of the table."""
    rate, score = row.get("megapixels_per_second"), row.get("mean_ap")
    return [
        f"`{row['command']}`",
        row.get("images", ""),
        where(row),
        seconds(row["seconds"]),
        seconds(row.get("processor_seconds")),
        "" if rate is None else f"{rate:.1f}",
        f"{row['peak_mb']:.0f} MB",
        "" if score is None else f"{score:.3f}",
    ]


def fields() -> Iterator[Row]:
    """Yield what `benchmarks/memory.py` found, as rows."""
    for key, found in json.loads(MEMORY.read_text()).items():
        size, model, *more = key.split()
        named = [] if model == "nuclei" else ["--model", model]
        command = " ".join(["cellunet predict IMAGE", *named, *more])
        height, width = size.split("x")
        what = f"one of {height} x {width}, watched"
        yield found | {"command": command, "images": what}


def write_table(rows: list[Row]) -> None:
    """Put the table into docs/performance.md."""
    head = ["command", "images", "machine", "seconds", "of the processor", "Mpx/s"]
    head += ["memory", "mean AP"]
    rewrite(PAGE, "speed", table(head, map(line, [*rows, *fields()])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--engine", default="auto")
    kinds = ("help", "one", "many")
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    given = [options.folder, options.data, options.table or None]
    if sum(item is not None for item in given) != 1:
        parser.error("give FOLDER, --data or --table")
    rows: list[Row] = json.loads(RESULTS.read_text())["rows"]
    if not options.table:
        pairs = validation(options.data) if options.data else []
        for row in rows_of(options, pairs):
            print(*line(row), sep="  ", flush=True)
            rows = [old for old in rows if not same(old, row)] + [row]
            text = json.dumps({"rows": rows}, indent=1) + "\n"
            RESULTS.write_text(text, encoding="utf-8")
    write_table(rows)


if __name__ == "__main__":
    main()
