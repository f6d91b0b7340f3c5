"""Predict large fields in a process of its own, and watch its memory.

    python benchmarks/memory.py FOLDER_OF_IMAGES [--sizes 8320x11136 32000x32000]
        [--sparse] [--as tif zarr] [--model NAME] [-- MORE OPTIONS OF PREDICT]

A field is made of the images of the folder (all of one size), set side by side in a
random order and cut off at the size asked for, and saved as a tiled, deflated TIFF, or
as OME-Zarr.
Of a sparse field three of four images are replaced by their background and noise.
The peak is the sum over the process tree of what each process owns of the memory (PSS,
/proc/PID/smaps_rollup), sampled every 20 ms. Linux only. Results are added to
`benchmarks/results-memory.json`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import tifffile
from tables import cores_of_others, machine

from cellunet.io.images import open_image
from cellunet.io.paths import find_inputs
from cellunet.io.source import Region

RESULTS = Path(__file__).with_name("results-memory.json")
EVERY_SECONDS = 0.02
TILE_PX = 512


def pixels(path: Path) -> np.ndarray:
    with open_image(path) as source:
        height, width = source.shape
        return source.read(Region(0, 0, height, 0, width))[0]


def images_of(folder: Path) -> list[np.ndarray]:
    """Return the images of a folder that have the size of its last one."""
    found = [pixels(path) for path in find_inputs([str(folder)]).files]
    return [image for image in found if image.shape == found[-1].shape]


def emptied(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the background of an image and its noise."""
    steps = np.abs(np.diff(image.astype(np.float64), axis=1))
    level, noise = np.percentile(image, 10), np.median(steps) / 0.954
    values = np.rint(rng.normal(level, noise, image.shape))
    return np.clip(values, 0, np.iinfo(image.dtype).max).astype(image.dtype)


def field(images: list[np.ndarray], shape: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield the tiles of a field in raster order."""
    height, width = images[0].shape
    across = -(-shape[1] // width) + 1
    rng = np.random.default_rng(0)
    order = rng.integers(len(images), size=(-(-shape[0] // height) + 1, across))

    def rows(y: int) -> np.ndarray:
        picked = [images[i][y % height] for i in order[y // height]]
        return np.concatenate(picked)

    for y0 in range(0, shape[0], TILE_PX):
        band = np.zeros((TILE_PX, -(-shape[1] // TILE_PX) * TILE_PX), images[0].dtype)
        for y in range(y0, min(y0 + TILE_PX, shape[0])):
            band[y - y0, : shape[1]] = rows(y)[: shape[1]]
        for x0 in range(0, band.shape[1], TILE_PX):
            yield band[:, x0 : x0 + TILE_PX]


def sparse(images: list[np.ndarray]) -> list[np.ndarray]:
    """Return images of which, picked at random, three of four are empty."""
    rng = np.random.default_rng(1)
    empty = [emptied(image, rng) for image in images for _ in range(3)]
    return images + empty


def save(path: Path, images: list[np.ndarray], shape: tuple[int, int]) -> None:
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(
            field(images, shape),
            shape=shape,
            dtype=images[0].dtype,
            tile=(TILE_PX, TILE_PX),
            compression="zlib",
            compressionargs={"level": 1},
            photometric="minisblack",
        )


def save_zarr(path: Path, images: list[np.ndarray], shape: tuple[int, int]) -> None:
    """Write a large image as OME-Zarr 0.5, in chunks as large as the TIFF's tiles."""
    import zarr

    group = zarr.create_group(path)
    array = group.create_array(
        "0", shape=shape, chunks=(TILE_PX, TILE_PX), dtype=images[0].dtype
    )
    across = -(-shape[1] // TILE_PX)
    for number, tile in enumerate(field(images, shape)):
        y0, x0 = (TILE_PX * n for n in divmod(number, across))
        y1, x1 = min(y0 + TILE_PX, shape[0]), min(x0 + TILE_PX, shape[1])
        array[y0:y1, x0:x1] = tile[: y1 - y0, : x1 - x0]
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    axes = [{"name": name, "type": "space"} for name in "yx"]
    levels = [{"path": "0", "coordinateTransformations": scale}]
    multiscales = [{"name": "field", "axes": axes, "datasets": levels}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}


SAVE = {"tif": save, "zarr": save_zarr}


def tree(root: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [root]
    for pid in found:
        try:
            text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        except OSError:
            continue
        found += [int(child) for child in text.split()]
    return found


def owned(pid: int) -> int:
    """Return the proportional set size of a process in bytes; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(li.split()[1]) for li in lines if li.startswith("Pss:")) * 1024


def watched(command: list[str]) -> tuple[float, float, int]:
    """Run a command; return seconds, the peak in bytes and the samples taken."""
    begin = time.perf_counter()
    peak = samples = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(owned, tree(process.pid))))
            samples += 1
            time.sleep(EVERY_SECONDS)
        if process.returncode:
            raise SystemExit(process.returncode)
    return time.perf_counter() - begin, peak, samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", nargs="*", default=["8320x11136", "32000x32000"])
    parser.add_argument("--sparse", action="store_true")
    parser.add_argument("--as", dest="kinds", nargs="*", choices=SAVE, default=["tif"])
    parser.add_argument("--model", default="nuclei")
    # A list that follows other options is more than argparse can tell from them.
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, more = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    images = images_of(args.folder)
    images = sparse(images) if args.sparse else images
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for size, kind in product(args.sizes, args.kinds):
        height, width = map(int, size.split("x"))
        with tempfile.TemporaryDirectory() as temporary:
            path, out = Path(temporary, f"field.{kind}"), Path(temporary, "out")
            SAVE[kind](path, images, (height, width))
            command = [sys.executable, "-m", "cellunet", "predict", str(path)]
            command += ["--out", str(out), "--model", args.model, *more]
            others = cores_of_others()
            seconds, peak, samples = watched(command)
            with open_image(out / path.name) as labels:
                dtype = labels.dtype
        kinds = ["sparse"] * args.sparse + [kind] * (kind != "tif")
        key = " ".join([size, args.model, *kinds, *more])
        results[key] = {
            "megapixels": height * width / 1e6,
            "seconds": round(seconds, 1),
            "megapixels_per_second": round(height * width / 1e6 / seconds, 2),
            "peak_mb": round(peak / 1e6),
            "samples": samples,
            "labels": str(dtype),
            "others": round(others, 1),
            "machine": machine(),
        }
        print(key, results[key], flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
