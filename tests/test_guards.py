"""What must not creep up, measured in ways that no busy machine changes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet import store
from cellunet.config import MODEL
from cellunet.engine.cost import operations_per_pixel

FIELD = Path(__file__).parents[1] / "examples" / "images" / "u2os_N12_s7.tif"
MOST_FLOP_PER_PX = 50_000
MOST_MEGABYTES = 700
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


def test_the_shipped_network_costs_no_more_per_pixel() -> None:
    network = store.find_model(MODEL).card.config.network
    assert operations_per_pixel(network) <= MOST_FLOP_PER_PX


@pytest.mark.skipif(sys.platform != "linux", reason="counts kilobytes as Linux does")
def test_a_field_seven_times_larger_takes_little_more_memory(tmp_path) -> None:
    one = tifffile.imread(FIELD)
    peaks = []
    for copies in (3, 10):
        path = tmp_path / f"{copies}.tif"
        # 1.1 and 7.2 Mpx.
        field = np.tile(one, (copies, 2 if copies == 10 else 1))
        tifffile.imwrite(path, field, tile=(256, 256), compression="zlib")
        done = subprocess.run(
            [
                *(sys.executable, "-c", WATCHED, "predict", str(path), "--json"),
                *("--out", str(tmp_path / "out"), "--threads", "1"),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        last = json.loads(done.stdout.splitlines()[-1])
        assert last["code"] == 0
        peaks.append(last["peak"] / 1e6)
    small, large = peaks
    assert large < MOST_MEGABYTES
    # What waits in memory fills up to its limit; the rest is on the disk.
    assert large < small + 200
