"""What cellunet costs beside its network, and what a screen costs on a cluster.

    python benchmarks/cluster.py [--images 1000] [--names 100000]

A network of one feature a level on images of 32 x 32 pixels computes next to nothing:
what is left is the overhead of a task and of an image. Processes are started, images
listed, opened, locked and written as in any batch. All times are processor seconds,
user and system, of the processes: they depend less on what else the machine does than
the clock. Bytes are those of the files. Writes `benchmarks/results-cluster.json`.
Needs torch, which makes the network. Not on Windows.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from tables import HERE, machine

from cellunet import store
from cellunet.config import TrainConfig, UNetConfig
from cellunet.core.checkpoint import export_weights
from cellunet.core.unet import UNet, initialize

RESULTS = HERE / "results-cluster.json"
SIDE_PX = 32
PARTS = 4
FEWER = 4
"""The overhead is measured of this share of the images too: it must not grow."""
FIELD = (2160, 2160)
"""Pixels of one field of a screening microscope's camera."""
WELLS, FIELDS_A_WELL, PLATES = 384, 4, 1_000_000


def seconds_of(*words: str | Path, home: Path) -> tuple[float, dict[str, Any]]:
    """Return the processor seconds of a call of cellunet, and its document."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "cellunet", *map(str, words), "--json"],
        env=os.environ | {"CELLUNET_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{spent:8.2f} s", *(word for word in words if not isinstance(word, Path)))
    return spent, json.loads(done.stdout)["result"]


def free_model(home: Path) -> None:
    """Write the model ``free``, whose network has one feature a level."""
    network = UNet(UNetConfig(channels=(1, 1)))
    initialize(network, 0)
    card = store.ModelCard(
        name="free",
        config=TrainConfig(network=network.config),
        diameter_px=(5.0, 10.0, 20.0),
    )
    folder = home / "models" / "free"
    folder.mkdir(parents=True)
    export_weights(folder / store.WEIGHTS_FILE, network, card)


def tiny_images(folder: Path, count: int) -> Path:
    """Write so many small images."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        pixels = rng.integers(0, 4000, (SIDE_PX, SIDE_PX), dtype=np.uint16)
        tifffile.imwrite(folder / f"i{number:06d}.tif", pixels)
    return folder


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def overhead(work: Path, count: int) -> dict[str, float]:
    """Return what so many images cost beside the network, in processor seconds."""
    home, model = work / "home", "free"
    images, out = tiny_images(work / f"images-{count}", count), work / f"out-{count}"
    free = ("--model", model, "--threads", "1", "--engine", "onnxruntime")
    free += ("--diameter", "model", "--save", "table")
    found: dict[str, float] = {"images": count}
    one = ("predict", images / "i000000.tif", "--out", work / f"one-{count}")
    found["task_s"], _ = seconds_of(*one, *free, home=home)
    spent = 0.0
    for part in range(1, PARTS + 1):
        words = ("predict", images, "--out", out, *free, "--part", f"{part}/{PARTS}")
        spent += seconds_of(*words, home=home)[0]
    found["parts_s"] = spent
    found["record_bytes_an_image"] = bytes_in(out / "parts-data") / count
    found["files_an_image"] = len(list(out.glob("i*"))) / count
    found["join_s"], _ = seconds_of("join", out, home=home)
    found["again_s"], result = seconds_of(
        "predict", images, "--out", out, *free, home=home
    )
    if {image["status"] for image in result["images"]} != {"skipped"}:
        sys.exit("Not all images were found finished.")
    return found


def an_image(few: dict[str, float], many: dict[str, float]) -> dict[str, float]:
    """Return what one more image costs, by what fewer and more of them took."""
    more = many["images"] - few["images"]
    names = ("parts_s", "join_s", "again_s")
    return {name: (many[name] - few[name]) / more for name in names}


def listing(work: Path, count: int) -> dict[str, float]:
    """Return what a part costs that has no image of its own among so many names."""
    home, images = work / "home", work / "many"
    images.mkdir()
    content = next(work.glob("images-*/*")).read_bytes()
    for number in range(count):
        (images / f"{number:06d}.tif").write_bytes(content)
    words = ("predict", images, "--out", work / "listed", "--model", "free")
    words += ("--part", f"{count + 1}/{count + 1}")
    spent, _ = seconds_of(*words, home=home)
    shutil.rmtree(images)
    return {"names": count, "listed_s": spent}


def field(work: Path, task_s: float) -> dict[str, float]:
    """Return what a field of a plate costs with the model that ships.

    Beside the start of the process, which many fields share.
    """
    folder = work / "field"
    folder.mkdir()
    real = tifffile.imread(HERE.parent / "examples" / "images" / "u2os_N12_s7.tif")
    shape = [(0, side - have) for side, have in zip(FIELD, real.shape, strict=True)]
    tifffile.imwrite(folder / "field.tif", np.pad(real, shape, "symmetric"))
    out = work / "fields"
    words = ("predict", folder, "--out", out, "--threads", "1", "--save", "table")
    spent, result = seconds_of(*words, "--engine", "onnxruntime", home=work / "home")
    return {
        "field_s": spent - task_s,
        "mpx_a_core_second": math.prod(FIELD) / 1e6 / (spent - task_s),
        "objects": float(result["images"][0]["objects"]),
        "read_bytes": float(bytes_in(folder)),
        "written_bytes": float(
            sum(p.stat().st_size for p in out.iterdir() if p.name != "table.csv")
        ),
    }


def screen(of_field: dict[str, float]) -> dict[str, float]:
    """Return what all plates cost."""
    fields = WELLS * FIELDS_A_WELL * PLATES
    return {
        "plates": PLATES,
        "fields": fields,
        "core_years": fields * of_field["field_s"] / (365.25 * 24 * 3600),
        "read_pb": fields * of_field["read_bytes"] / 1e15,
        "written_pb": fields * of_field["written_bytes"] / 1e15,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--names", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        free_model(work / "home")
        counts = (given.images // FEWER, given.images)
        found: dict[str, Any] = {
            "machine": machine(),
            "overhead": (both := [overhead(work, count) for count in counts]),
            "an_image": an_image(*both),
            "listing": listing(work, given.names),
            "field": field(work, both[-1]["task_s"]),
        }
    found["screen"] = screen(found["field"])
    text = json.dumps(found, indent=1)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
