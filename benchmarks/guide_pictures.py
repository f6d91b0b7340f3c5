"""Draw the pictures of docs/nuclei-go-wrong.md and print what its tables hold.

Each picture: the annotation, what is found as it is, what is found with the option.

From the images in examples/ alone: ``python benchmarks/guide_pictures.py``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from PIL import Image
from skimage.transform import resize

from cellunet.command_config import PredictConfig
from cellunet.metrics.matching import score_image
from cellunet.outputs.pictures import color_objects
from cellunet.tasks.predict.session import load_model

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
SIDE_PX = 280


@dataclass(frozen=True)
class Case:
    """An image on which something goes wrong, and the option that helps."""

    image: Callable[[], tuple[np.ndarray, np.ndarray]]
    """Makes the image and its true labels."""
    view: tuple[slice, slice]
    """The part that is shown."""
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


def annotated(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a field that people annotated."""
    folder = EXAMPLES / "annotated"
    image = tifffile.imread(folder / "images" / f"field{number}.tif")
    return image, tifffile.imread(folder / "labels" / f"field{number}.tif")


def resized(name: str, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return an image of another size; its truth is what is found at its own."""
    image = tifffile.imread(EXAMPLES / "images" / f"{name}.tif")
    labels = load_model().segment(image).labels
    shape = tuple(round(factor * side) for side in image.shape)
    kept = {"preserve_range": True}
    order = 3 if factor > 1 else 1
    pixels = resize(image, shape, order=order, anti_aliasing=factor < 1, **kept)
    same = resize(labels, shape, order=0, anti_aliasing=False, **kept)
    return pixels.astype(np.uint16), same.astype(np.uint32)


CASES = {
    "merged": Case(
        partial(annotated, 6),
        np.s_[0:96, 64:160],
        after={"seed_threshold": 0.7},
    ),
    "split": Case(
        partial(resized, "u2os_B24_s9", 4),
        np.s_[1100:2000, 1800:2700],
        before={"diameter_px": "model"},
    ),
    "missed": Case(
        partial(resized, "u2os_N12_s7", 1 / 3),
        np.s_[73:173, 92:232],
        after={"diameter_px": 9.0},
    ),
    "invented": Case(
        partial(annotated, 2),
        np.s_[40:140, 140:240],
        after={"min_area_px": 60},
    ),
    "edge": Case(
        partial(annotated, 3),
        np.s_[128:, :128],
        after={"exclude_border": True},
    ),
    "outline": Case(
        partial(annotated, 6),
        np.s_[60:190, 60:190],
        after={"min_foreground": 0.3},
    ),
}


def main(out: Path) -> None:
    print("| case | settings | found | right | missed | invented | merged | split |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, case in CASES.items():
        image, truth = case.image()
        settings = (case.before, case.after)
        panels = [_found(name, case, image, truth, given) for given in settings]
        panels.insert(0, _panel(image[case.view], truth[case.view]))
        gap = np.full((len(panels[0]), 6, 3), 255, np.uint8)
        row = np.hstack([panels[0], gap, panels[1], gap, panels[2]])
        small = Image.fromarray(row).quantize(128)
        small.save(out / f"wrong-{name}.png", optimize=True)


def _found(
    name: str, case: Case, image: np.ndarray, truth: np.ndarray, given: dict[str, Any]
) -> np.ndarray:
    labels = load_model(config=PredictConfig(**given)).segment(image).labels
    score = score_image(truth, labels, name=name)["all"]
    right = score.tp[0]
    words = ", ".join(f"`{key}={value}`" for key, value in given.items()) or "as it is"
    counts = (
        *(labels.max(), right, score.true_objects - right, labels.max() - right),
        *(score.merges, score.splits),
    )
    print(f"| {name} | {words} | {' | '.join(map(str, counts))} |")
    return _panel(image[case.view], labels[case.view])


def _panel(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    drawn = color_objects(labels, image=image)
    height = round(SIDE_PX * drawn.shape[0] / drawn.shape[1])
    size = (SIDE_PX, height)
    return np.asarray(Image.fromarray(drawn).resize(size, Image.Resampling.LANCZOS))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "docs" / "pictures")
    main(parser.parse_args().out)
