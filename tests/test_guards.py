"""What must not creep up, measured in ways that no busy machine changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from benchmarks.operations import operations_per_pixel
from cellunet import store
from cellunet.command_config import MODEL

ROOT = Path(__file__).parents[1]
FIELD = ROOT / "examples" / "images" / "u2os_N12_s7.tif"
MOST_OF_A_FILE = 1_500_000
MOST_FLOP_PER_PX = 28_500
MOST_MEGABYTES = 700
MOST_BYTES_OF_A_ROW = 100
LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="counts kilobytes as Linux does"
)
WATCHED = """
import json, sys
from pathlib import Path
from cellunet.cli.app import main
code = main(sys.argv[1:])
# Not getrusage, which begins with the memory of the process that started this one.
lines = Path("/proc/self/status").read_text().splitlines()
peak = next(int(li.split()[1]) for li in lines if li.startswith("VmHWM:"))
print(json.dumps({"code": code, "peak": peak * 1024}))
"""


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone")
def test_no_file_of_the_repository_is_large() -> None:
    named = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    files = [ROOT / name for name in named.stdout.split("\0") if name]
    assert len(files) > 500
    large = [f.name for f in files if f.is_file() and f.stat().st_size > MOST_OF_A_FILE]
    assert not large


def test_the_shipped_network_costs_no_more_per_pixel() -> None:
    network = store.find_model(MODEL).card.config.network
    assert operations_per_pixel(network) <= MOST_FLOP_PER_PX


def peak_megabytes(path: Path, out: Path, *options: str) -> float:
    """Return the largest memory of a process that segments an image."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", WATCHED, "predict", str(path), "--json"),
            *("--out", str(out), "--threads", "1", *options),
        ],
        capture_output=True,
        text=True,
        check=True,
        # What is let go of goes back at once, whatever the number of cores: the peak
        # is of what is needed, not of what the allocator keeps.
        env=os.environ | {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["code"] == 0
    return last["peak"] / 1e6


@pytest.mark.slow
@LINUX
def test_a_field_seven_times_larger_takes_little_more_memory(tmp_path) -> None:
    one = tifffile.imread(FIELD)
    peaks = []
    for copies in (3, 10):
        path = tmp_path / f"{copies}.tif"
        # 1.1 and 7.2 Mpx.
        field = np.tile(one, (copies, 2 if copies == 10 else 1))
        tifffile.imwrite(path, field, tile=(256, 256), compression="zlib")
        peaks.append(peak_megabytes(path, tmp_path / "out"))
    small, large = peaks
    assert large < MOST_MEGABYTES
    # What waits in memory fills up to its limit; the rest is on the disk.
    assert large < small + 200


@pytest.mark.slow
@LINUX
def test_an_image_of_one_row_takes_few_bytes_a_pixel(tiny_model, tmp_path) -> None:
    peaks = []
    # Both long enough for all that is of one size whatever the image.
    for width in (1_000_000, 2_000_000):
        bright = np.arange(width) % 90 < 40
        line = np.where(bright, 1000, 100).astype(np.uint16)[np.newaxis]
        path = tmp_path / f"{width}.tif"
        tifffile.imwrite(path, line, tile=(16, 256), compression="zlib")
        model = "--model", str(tiny_model.folder)
        peaks.append(peak_megabytes(path, tmp_path / "out", *model))
    short, long = peaks
    assert long - short < MOST_BYTES_OF_A_ROW
