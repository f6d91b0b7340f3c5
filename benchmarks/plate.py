"""Time a plate in OME-Zarr against the same plate as TIFF files.

    python benchmarks/plate.py [--wells 384] [--fields 4] [--rounds 3]

Cuts fields of 512 x 512 pixels out of the example fields of BBBC039 (turned and
shifted), writes them as an ImageXpress folder and as an OME-Zarr plate (0.5, one chunk
a field, Zstd), and runs `cellunet.predict` with a table over both in turn. Objects must
be the same. Printed are the medians of the rounds and their ratio; with a plate of 384
wells of 4 fields `benchmarks/results-plate.json` is written. Needs the extra `zarr`.
"""

import argparse
import csv
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import zarr
from memory import pixels
from tables import HERE, cores_of_others, machine

from cellunet.command_config import PredictConfig
from cellunet.io.file_names import row_letters
from cellunet.tasks.predict.batch import predict

RESULTS = HERE / "results-plate.json"
FIELDS = ("u2os_N12_s7.tif", "u2os_B24_s9.tif")
SIDE = 512
COLUMNS = 24
WHOLE = (384, 4)
PLACES = ("image", "plate", "time")
"""Columns that a plate of TIFF files and one in OME-Zarr do not share."""


def pieces(wells: int, fields: int) -> Iterator[tuple[int, int, npt.NDArray]]:
    """Yield the numbers of well and field, and the pixels."""
    whole = [pixels(HERE.parent / "examples" / "images" / name) for name in FIELDS]
    rng = np.random.default_rng(0)
    for number in range(wells * fields):
        field = whole[number % len(whole)]
        y, x = (int(rng.integers(n - SIDE + 1)) for n in field.shape)
        piece = np.rot90(field[y : y + SIDE, x : x + SIDE], number % 4)
        yield *divmod(number, fields), np.ascontiguousarray(piece, np.uint16)


def write_plates(folder: Path, wells: int, fields: int) -> tuple[Path, Path]:
    """Write both plates."""
    tiffs, store = folder / "P" / "TimePoint_1", folder / "plate.zarr"
    tiffs.mkdir(parents=True)
    group = zarr.create_group(store, zarr_format=3)
    names = [f"{row_letters(n // COLUMNS)}/{n % COLUMNS + 1:02}" for n in range(wells)]
    plate = {"wells": [{"path": name} for name in names]}
    group.update_attributes({"ome": {"version": "0.5", "plate": plate}})
    for well, field, piece in pieces(wells, fields):
        name = names[well]
        own = group.require_group(name)
        images = {"images": [{"path": str(n)} for n in range(fields)]}
        own.attrs["ome"] = {"version": "0.5", "well": images}
        image = own.create_group(str(field))
        multiscales: dict[str, Any] = {
            "axes": [{"name": a, "type": "space"} for a in "yx"],
            "datasets": [
                {
                    "path": "0",
                    "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}],
                }
            ],
        }
        image.attrs["ome"] = {"version": "0.5", "multiscales": [multiscales]}
        image.create_array("0", data=piece, chunks=piece.shape)
        path = tiffs / f"P_{name.replace('/', '')}_s{field}.TIF"
        tifffile.imwrite(path, piece, compression="zlib")
    return tiffs, store


def seconds_of(path: Path, out: Path) -> float:
    config = PredictConfig(
        save=("table",),
        plate_pattern=None if path.suffix == ".zarr" else "imagexpress",
    )
    begin = time.perf_counter()
    found = predict([str(path)], out, config=config)
    if found.failed:
        raise SystemExit(f"{found.failed[0].input}: {found.failed[0].message}")
    return time.perf_counter() - begin


def objects(out: Path) -> list[tuple[str, ...]]:
    """Return the rows of the table but for where the pixels lie."""
    with (out / "table.csv").open(encoding="utf-8", newline="") as file:
        return sorted(
            tuple(v for k, v in row.items() if k not in PLACES)
            for row in csv.DictReader(file)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wells", type=int, default=WHOLE[0])
    parser.add_argument("--fields", type=int, default=WHOLE[1])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    times: dict[str, list[float]] = {"tiff": [], "zarr": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plates = write_plates(folder, options.wells, options.fields)
        others = cores_of_others()
        for number in range(options.rounds):
            outs = [folder / f"{kind}{number}" for kind in times]
            for kind, plate, out in zip(times, plates, outs, strict=True):
                times[kind].append(round(seconds_of(plate, out), 2))
            if objects(outs[0]) != objects(outs[1]):
                raise SystemExit("The two plates do not have the same objects.")
            print(f"round {number + 1}: {times['tiff'][-1]} s, {times['zarr'][-1]} s")
    tiff, store = (statistics.median(values) for values in times.values())
    print(f"TIFF {tiff:.1f} s, OME-Zarr {store:.1f} s, {store / tiff:.3f} of it")
    if (options.wells, options.fields) == WHOLE:
        made = {"machine": machine(), "cores_of_others": round(others, 2)}
        content = {**made, "seconds": times, "ratio": round(store / tiff, 3)}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
