"""Read a large field window by window, from TIFFs of several layouts.

    python benchmarks/reading.py [WORK_FOLDER]

Makes a field of 8320 x 11136 pixels, 16 bits, of noise and blobs; for each layout a
process of its own reads it once in bands of 512 rows and once in windows of 1024 x 1024
that overlap by 128 pixels, in the order in which the network asks for them. Writes
``results-reading.json``: seconds of each pass, processor seconds of both, and the most
memory (VmHWM) above that of the process before it opened the file. Linux.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from cellunet.io.images import open_image
from cellunet.io.source import Region

SHAPE = (8320, 11136)
WINDOW, OVERLAP, BAND = 1024, 128, 512
LAYOUTS: dict[str, dict[str, object]] = {
    "raw": {},
    "tiles of 256, deflate": {"tile": (256, 256), "compression": "zlib"},
    "strips of 16 rows, deflate": {"rowsperstrip": 16, "compression": "zlib"},
    "strips of 16 rows, LZW, predictor": {
        "rowsperstrip": 16,
        "compression": "lzw",
        "predictor": True,
    },
    "one strip, deflate": {"rowsperstrip": SHAPE[0], "compression": "zlib"},
    "one strip, deflate, predictor": {
        "rowsperstrip": SHAPE[0],
        "compression": "zlib",
        "predictor": True,
    },
    "one strip, LZW": {"rowsperstrip": SHAPE[0], "compression": "lzw"},
    "one strip, Zstandard (decoded whole)": {
        "rowsperstrip": SHAPE[0],
        "compression": "zstd",
    },
}


def field() -> np.ndarray:
    rng = np.random.default_rng(0)
    patch = rng.poisson(300, (520, 696)).astype(np.uint16)
    y, x = np.mgrid[:520, :696]
    patch += (2000 * (np.sin(y / 20) * np.sin(x / 20) > 0.6)).astype(np.uint16)
    return np.tile(patch, (16, 16))


def peak_bytes() -> int:
    """Return the most memory so far; Linux's account, which starts with the program."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def read(path: Path) -> dict[str, float]:
    before, begin = peak_bytes(), time.perf_counter()
    height, width = SHAPE
    with open_image(path) as source:
        for y0 in range(0, height, BAND):
            source.read(Region(0, y0, min(y0 + BAND, height), 0, width))
        bands = time.perf_counter()
        for y0 in range(0, height, WINDOW - OVERLAP):
            for x0 in range(0, width, WINDOW - OVERLAP):
                y1, x1 = min(y0 + WINDOW, height), min(x0 + WINDOW, width)
                source.read(Region(0, y0, y1, x0, x1))
    end = time.perf_counter()
    return {
        "bands_s": round(bands - begin, 2),
        "windows_s": round(end - bands, 2),
        "processor_s": round(time.process_time(), 2),
        "memory_mib": round((peak_bytes() - before) / 2**20, 1),
    }


def main() -> None:
    if sys.argv[1:2] == ["--read"]:
        print(json.dumps(read(Path(sys.argv[2]))))
        return
    results = {}
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as at:
        pixels = field()
        for name, options in LAYOUTS.items():
            path = Path(at) / "field.tif"
            tifffile.imwrite(
                path, pixels, photometric="minisblack", metadata=None, **options
            )
            found = subprocess.run(
                [sys.executable, __file__, "--read", str(path)],
                capture_output=True,
                text=True,
                check=True,
            )
            results[name] = json.loads(found.stdout)
            print(f"{name:40}", results[name], flush=True)
    out = Path(__file__).with_name("results-reading.json")
    out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
