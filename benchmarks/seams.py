"""Compare blocks of the network with one plain pass, and say what their halos cost.

    python benchmarks/seams.py FOLDER_OF_IMAGES [--shape 2080x2784] [--model NAME]

A field is made of the images of the folder, as in `benchmarks/memory.py`. Its class
probabilities and labels from one plain pass over the whole are compared with those from
windows of several sizes, each in a process of its own.
Results are written to `benchmarks/results-seams.json`.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from memory import TILE_PX, field, pixels

from cellunet import store
from cellunet.config import PredictConfig
from cellunet.engine.base import plane_probabilities
from cellunet.imaging import blocks
from cellunet.imaging.decode import decode_plane
from cellunet.imaging.normalize import measure, normalize
from cellunet.io.paths import find_inputs
from cellunet.tasks.predict.session import settings_for

RESULTS = Path(__file__).with_name("results-seams.json")
WINDOWS_PX = (512, 768, 1024, 1536, 2048)


def mosaic(folder: Path, shape: tuple[int, int]) -> np.ndarray:
    images = [pixels(path) for path in find_inputs([str(folder)]).files]
    images = [image for image in images if image.shape == images[0].shape]
    whole = np.zeros([-(-n // TILE_PX) * TILE_PX for n in shape], images[0].dtype)
    places = np.ndindex(whole.shape[0] // TILE_PX, whole.shape[1] // TILE_PX)
    for (row, column), tile in zip(places, field(images, shape), strict=True):
        y, x = row * TILE_PX, column * TILE_PX
        whole[y : y + TILE_PX, x : x + TILE_PX] = tile
    return whole[: shape[0], : shape[1]]


def by_windows(image: np.ndarray, model: str, window_px: int) -> dict[str, object]:
    """Return probabilities and labels by windows of a size, their time and memory."""
    recipe = settings_for(store.find_model(model), PredictConfig(), "auto", "auto", 0)
    config = recipe.config
    known = measure(lambda: [image], config.normalization)
    scaled = normalize(image, known, config.normalization)
    blocks.LARGEST_PX = window_px
    plan = blocks.network_plan(image.shape, config.network)
    size = plan.block_shape[0] * plan.block_shape[1]
    begin = time.perf_counter()
    probabilities = plane_probabilities(
        recipe.engine, scaled, plan, config.network.classes
    )
    seconds = time.perf_counter() - begin
    return {
        "probabilities": probabilities,
        "labels": decode_plane(probabilities, config.encoding, recipe.decode),
        "window": list(plan.block_shape),
        "computed_over_useful": round(size * len(plan.blocks) / image.size, 3),
        "seconds": round(seconds, 2),
    }


def apart(function: Callable[..., dict[str, object]], *args: object) -> dict:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", default="2080x2784")
    parser.add_argument("--model", default="nuclei")
    args = parser.parse_args()
    height, width = map(int, args.shape.split("x"))
    image = mosaic(args.folder, (height, width))
    whole = apart(by_windows, image, args.model, 100_000)
    rows = []
    for window_px in WINDOWS_PX:
        found = apart(by_windows, image, args.model, window_px)
        probabilities, labels = found.pop("probabilities"), found.pop("labels")
        found["largest_difference"] = float(
            np.abs(probabilities - whole["probabilities"]).max()
        )
        found["label_pixels_that_differ"] = int((labels != whole["labels"]).sum())
        rows.append(found)
        print(found, flush=True)
    result = {"shape": [height, width], "model": args.model, "windows": rows}
    result["objects"] = int(np.asarray(whole["labels"]).max())
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
