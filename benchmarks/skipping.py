"""Check that what `cellunet.imaging.empty` leaves out holds no pixel of an object.

    python benchmarks/skipping.py DATA [--model NAME] [--every 10]

The network sees every image of the folders in `DATA`, as it is and made worse:
dimmed until it drowns in noise, on a slope, with hot pixels, with huge values, with
dirt, magnified and reduced. Each cell in which it marks a pixel must be one that is not
left out. The margin is by how much what stands out in such a cell exceeds the least at
which a cell is seen; below 1 an object would be lost. Then the images of each folder,
side by side in fields of several windows, are segmented with and without: the labels
must be equal.
Rows go to `benchmarks/results-skipping.json`, a row of figures per folder and kind.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from tables import machine

from cellunet.command_config import PredictConfig
from cellunet.imaging import decode, empty
from cellunet.imaging.normalize import (
    ROUNDING,
    measure_channels,
    network_input,
    percentile_span,
    rescale_intensity,
)
from cellunet.io.images import open_image
from cellunet.io.paths import find_inputs
from cellunet.io.scratch import Scratch
from cellunet.io.source import Region, array_source
from cellunet.store import Model, find_model
from cellunet.tasks.predict.plane import as_labels, segment
from cellunet.tasks.predict.settings import load_engine, settings_for

RESULTS = Path(__file__).with_name("results-skipping.json")
MOST_PX = 1200
"""Longest side of what is looked at of an image."""
FIELD_PX = 1800
"""Least side of a field."""
DIMMED = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Contrast of the foreground, in standard deviations of the noise."""
DARK = (0.01, 0.02, 0.04, 0.08)
"""Brightness of a half of the image; more bits than its camera had keep it whole."""
Pixels = np.ndarray[Any, Any]


def pixels(path: Path) -> Pixels:
    """Return the first channel of an image, or its upper left part."""
    with open_image(path) as source:
        height, width = (min(n, MOST_PX) for n in source.shape)
        return source.read(Region(0, 0, height, 0, width))[0]


def worse(image: Pixels, seed: int) -> Iterator[tuple[str, Pixels]]:
    """Yield an image as it is and made worse, with what was done."""
    rng = np.random.default_rng(seed)
    config = find_model("nuclei").card.config.normalization
    seen = measure_channels(lambda: [image[np.newaxis]], config)[0]
    contrast = max(seen.foreground or seen.high - seen.low, 1e-6)
    values = image.astype(np.float32)
    y, x = np.indices(image.shape, np.float32)
    yield "as it is", image
    for sigmas in DIMMED:
        # Smoothed, so that the noise is that which is added.
        dim = (ndimage.gaussian_filter(values, 1) - seen.low) * sigmas * 20 / contrast
        yield f"dimmed to {sigmas:g}", counts(dim + rng.normal(300, 20, image.shape))
    slope = 0.3 * x / image.shape[1] + 0.2 * y / image.shape[0]
    yield "on a slope", counts(values + slope * contrast)
    hot = values.copy()
    hot[rng.random(image.shape) < 1 / 5000] += 3 * contrast
    yield "hot pixels", counts(hot)
    huge = values.copy()
    huge[rng.random(image.shape) < 1 / 5000] = 1e36
    yield "huge values", huge
    dirty = values.copy()
    for _ in range(12):
        cy, cx = rng.random(2) * image.shape
        size, height = rng.uniform(2, 12), rng.uniform(0.02, 1) * contrast
        dirty += height * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * size**2))
    yield "dirt", counts(dirty)
    for share in DARK:
        half = values.copy()
        right = half[:, image.shape[1] // 2 :]
        right[...] = seen.low + (right - seen.low) * share
        yield f"a half at {share:.0%}", half
    yield "three times as large", counts(ndimage.zoom(values[:400, :400], 3, order=1))
    yield "half as large", counts(ndimage.zoom(values, 0.5, order=1))


def counts(values: Pixels) -> Pixels:
    """Return values as those of a camera."""
    return np.clip(np.rint(values), 0, 65535).astype(np.uint16)


class Network:
    """Sees images at once and tells what `cellunet.imaging.empty` makes of them."""

    def __init__(self, model: Model) -> None:
        self._config = model.card.config
        self._engine = load_engine(model, engine="auto", device="cpu", threads=0)

    def look(self, image: Pixels) -> tuple[Pixels, Pixels]:
        """Return of each cell whether a pixel of it is marked, and its strength."""
        config, norm = self._config, self._config.normalization
        seen = measure_channels(lambda: [image[np.newaxis]], norm)[0]
        scaled = rescale_intensity(image, seen, norm)
        least = 0.0 if image.dtype.kind == "f" else ROUNDING
        noise = max(seen.noise, least) / (percentile_span(seen, norm) or 1.0)
        short = [(0, -n % empty.CELL_PX) for n in image.shape]
        padded = np.pad(scaled, short, "symmetric")
        found = self._engine(network_input(padded[np.newaxis], norm)[np.newaxis])[0]
        marks = decode.seed_and_foreground_mask(
            decode.correct(found, config.decode.class_odds),
            config.encoding,
            config.decode,
        )
        side = empty.CELL_PX
        rows, columns = (n // side for n in marks.shape)
        marked = (marks > 0).reshape(rows, side, columns, side).any((1, 3))
        return marked, empty.strength(padded[np.newaxis], [noise])


def look_through(network: Network, files: list[Path]) -> dict[str, dict[str, float]]:
    """Return for each kind of image what was found in all of them."""
    found: dict[str, list[tuple[Pixels, Pixels]]] = {}
    for number, path in enumerate(files):
        for kind, image in worse(pixels(path), number):
            found.setdefault(kind, []).append(network.look(image))
    return {kind: summary(looks) for kind, looks in found.items()}


def summary(looks: list[tuple[Pixels, Pixels]]) -> dict[str, float]:
    """Return the figures of images of one kind."""
    marked = np.concatenate([m.ravel() for m, _ in looks])
    strength = np.concatenate([s.ravel() for _, s in looks])
    margin = strength[marked].min(initial=np.inf)
    return {
        "images": len(looks),
        "cells": int(marked.size),
        "marked": int(marked.sum()),
        "lost": int((strength[marked] <= 1).sum()),
        "margin": round(float(margin), 2) if marked.any() else 0.0,
        "empty": round(float((strength <= 1).mean()), 3),
    }


def mosaic(images: list[Pixels]) -> Pixels:
    """Return images side by side, nine to a field of some 2,000 pixels."""
    side = 3
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    repeats = max(-(-FIELD_PX // (side * min(height, width))), 1)
    side *= repeats
    kind = np.result_type(*(image.dtype for image in images))
    field = np.zeros((side * height, side * width), kind)
    for place in range(side**2):
        image = images[place % len(images)]
        # Mirrored beyond its edge, so that there is no step that no microscope makes.
        short = [
            (0, n - own) for n, own in zip((height, width), image.shape, strict=True)
        ]
        y, x = place // side * height, place % side * width
        field[y : y + height, x : x + width] = np.pad(image, short, "symmetric")
    return field


def compared(model: Model, images: list[Pixels]) -> dict[str, float]:
    """Return what became of fields of so many images, with and without skipping."""
    recipe = settings_for(model, PredictConfig(diameter_px="model"), "auto", "cpu", 0)
    found = {"fields": 0, "objects": 0, "differ": 0, "skipped": 0.0}
    for first in range(0, len(images), 9):
        source = array_source(mosaic(images[first : first + 9])[np.newaxis])
        labels = []
        for skip in (False, True):
            with Scratch() as scratch:
                one = segment(source, 0, replace(recipe, skip=skip), scratch)
                labels.append(as_labels(one.bands()))
        found["fields"] += 1
        found["objects"] += one.count
        found["differ"] += int(np.count_nonzero(labels[0] != labels[1]))
        found["skipped"] += one.skipped
    found["skipped"] = round(found["skipped"] / found["fields"], 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    model = find_model(options.model)
    network = Network(model)
    rows: dict[str, Any] = {"machine": machine()}
    for folder in sorted(options.data.glob("**/images")):
        name = str(folder.parent.relative_to(options.data))
        files = find_inputs([str(folder)]).files[:: options.every]
        rows[name] = look_through(network, files)
        for kind, row in rows[name].items():
            print(name, kind, *(f"{k} {v}" for k, v in row.items()), flush=True)
        rows[name]["fields"] = compared(model, [pixels(path) for path in files])
        print(name, rows[name]["fields"], flush=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
