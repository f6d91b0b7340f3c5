"""The share of each part of a prediction, of a training step, and of preparation.

    python benchmarks/parts.py                 # all, writes results-parts.json
    python benchmarks/parts.py --only prediction

Processor time on one thread, medians of many calls, on the example field
`examples/images/u2os_N12_s7.tif` (520 x 696 pixels, 194 nuclei): the parts one by one,
and the whole, of which what no part explains is the rest. Each call replaces its
sections of `benchmarks/results-parts.json` and of docs/performance.md, there between
marks.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from parts_of_training import networks, preparation, training
from tables import HERE, PERFORMANCE, cpu_milliseconds, machine, rewrite, table

from cellunet import store
from cellunet.config import PredictConfig
from cellunet.engine.base import plane_probabilities
from cellunet.imaging.blocks import Area, network_plan
from cellunet.imaging.decode import (
    OPEN_PART,
    Seeds,
    decode_plane,
    find_holes,
    seed_and_foreground_mask,
    seed_block,
)
from cellunet.imaging.growth import grow
from cellunet.imaging.measure import pixel_confidence
from cellunet.imaging.normalize import channels, measure, rescale_intensity
from cellunet.imaging.quality import sharpness
from cellunet.imaging.targets import correct
from cellunet.io.images import create_labels, open_image
from cellunet.io.scratch import Scratch
from cellunet.io.source import Region
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.image import QualityRecorder
from cellunet.tasks.predict.plane import InferenceSettings, segment_plane
from cellunet.tasks.predict.session import settings_for

RESULTS = HERE / "results-parts.json"
FIELD = HERE.parent / "examples" / "images" / "u2os_N12_s7.tif"
COPIES = 8
"""Fields in the run that the whole is taken from."""
Parts = dict[str, float]


class Field(NamedTuple):
    """The example field at each stage of its prediction."""

    pixels: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray


def read(path: Path) -> np.ndarray:
    with open_image(path) as source:
        height, width = source.shape
        return source.read(Region(0, 0, height, 0, width))[0]


def write(path: Path, labels: np.ndarray) -> None:
    with create_labels(
        path,
        shape=labels.shape,
        plane_axes="",
        plane_shape=(),
        dtype=np.uint16,
        pixel_size_um=None,
        provenance={},
    ) as sink:
        sink.write(0, 0, labels.astype(np.uint16))
        sink.commit()


def stages(recipe: InferenceSettings) -> Field:
    config, pixels = recipe.config, read(FIELD)
    known = measure(lambda: [pixels], config.normalization)
    values = channels(
        rescale_intensity(pixels, known, config.normalization), config.normalization
    )
    plan = network_plan(pixels.shape, config.network)
    found = plane_probabilities(recipe.engine, values, plan, config.network.classes)
    labels = decode_plane(found, config.encoding, recipe.decode)
    return Field(pixels, found, labels)


def prediction() -> dict[str, Any]:
    """Return the parts of one field's prediction, and parts of these."""
    recipe = settings_for(store.find_model("nuclei"), PredictConfig(), "auto", "cpu", 1)
    field = stages(recipe)
    config, normal = recipe.config, recipe.config.normalization
    known = measure(lambda: [field.pixels], normal)
    scaled = rescale_intensity(field.pixels, known, normal)
    plan = network_plan(field.pixels.shape, config.network)
    values = channels(scaled, normal)
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        parts = {
            "open and read": lambda: read(FIELD),
            "statistics": lambda: measure(lambda: [field.pixels], normal),
            "scale": lambda: rescale_intensity(field.pixels, known, normal),
            "channels": lambda: channels(scaled, normal),
            "network": lambda: plane_probabilities(recipe.engine, values, plan, 3),
            "decode": lambda: decode_plane(
                field.probabilities, config.encoding, recipe.decode
            ),
            "watching": watching(recipe, field),
            "write, flushed": lambda: write(out / "labels.tif", field.labels),
        }
        whole = one_more(out)
        measured = {name: cpu_milliseconds(call) for name, call in parts.items()}
    return {
        "parts": measured,
        "whole": whole,
        "inner": {
            "decode": inner_decode(recipe, field),
            "watching": {
                "steepness of edges": cpu_milliseconds(
                    lambda: sharpness(lambda: [field.pixels], known)
                )
            },
        },
    }


def one_more(folder: Path) -> float:
    """Return what one more field takes in a run, when all is open and warm."""
    images = folder / "images"
    images.mkdir()
    for number in range(COPIES):
        shutil.copy(FIELD, images / f"{number}.tif")

    def run(count: int) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            files = sorted(str(path) for path in images.iterdir())[:count]
            predict(files, Path(out), threads=1)

    one, all_of_them = (
        cpu_milliseconds(lambda n=n: run(n), 7)  # type: ignore[misc]
        for n in (1, COPIES)
    )
    return (all_of_them - one) / (COPIES - 1)


def watching(recipe: InferenceSettings, field: Field) -> Callable[[], object]:
    """Return a call that sees what the warnings need of a finished prediction."""
    corrected = correct(field.probabilities, recipe.decode.class_odds)
    with open_image(FIELD) as source, Scratch() as scratch:
        segmented = segment_plane(source, 0, recipe, scratch)

    def call() -> None:
        sure = pixel_confidence(corrected)
        seen = replace(segmented, evidence=lambda y0, y1: sure[y0:y1])
        with open_image(FIELD) as source:
            observer = QualityRecorder(source, recipe)
            observer.segmented([seen])
            observer.on_labels(0, 0, field.labels)
            observer.finish()

    return call


def inner_decode(recipe: InferenceSettings, field: Field) -> Parts:
    config, decode = recipe.config, recipe.decode
    area = Area.whole(field.pixels.shape)

    def seeded() -> Seeds:
        corrected = correct(field.probabilities, decode.class_odds)
        return seed_block(
            seed_and_foreground_mask(corrected, config.encoding, decode), area
        )

    parts = seeded().parts
    components, allowed = np.maximum(parts, 0), parts == OPEN_PART
    objects = grow(components, allowed, decode.growth_px)
    calls = {
        "correct": lambda: correct(field.probabilities, decode.class_odds),
        "seeds, with correct": seeded,
        "growth": lambda: grow(components, allowed, decode.growth_px),
        "holes": lambda: find_holes(objects, area, decode.max_hole_px),
    }
    return {name: cpu_milliseconds(call) for name, call in calls.items()}


def shares(section: dict[str, Any]) -> str:
    """Return the table of a whole and its parts."""
    whole = section["whole"]
    parts = section["parts"]
    rows = []
    for name, value in (*parts.items(), ("rest", whole - sum(parts.values()))):
        rows.append((name, f"{value:.1f}", f"{value / whole:.1%}"))
        for inner, of_it in section.get("inner", {}).get(name, {}).items():
            rows.append(
                (f"&nbsp;&nbsp;{inner}", f"{of_it:.1f}", f"{of_it / whole:.1%}")
            )
    rows.append(("**whole**", f"{whole:.1f}", "100 %"))
    return table(("part", "ms", "share"), rows).replace("%", " %").replace("  %", " %")


def plain(section: Parts) -> str:
    rows = ((name, f"{value:.1f}") for name, value in section.items())
    return table(("part", "ms"), rows)


def on(about: dict[str, Any]) -> str:
    """Return the line that says where figures come from."""
    without = "" if about["native_bfloat16"] else "out"
    return f"\n\nOn: {about['processor']}, with{without} native bfloat16."


SECTIONS = {
    "prediction": (prediction, shares),
    "training": (training, shares),
    "networks": (networks, plain),
    "preparation": (preparation, plain),
}
"""Name of a section to what measures it and what makes its table."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", choices=list(SECTIONS), default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in options.only or SECTIONS:
        results[name] = {"machine": machine(), "ms": SECTIONS[name][0]()}
        text = SECTIONS[name][1](results[name]["ms"]) + on(results[name]["machine"])
        rewrite(PERFORMANCE, f"parts of {name}", text)
        print(f"{name}\n{text}\n")
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
