"""Count how often images are said to be unlike the training images, right and wrong.

    python benchmarks/unlike.py MODEL DATA... [--json FILE]

Every image of the DATA folders that the weights of MODEL were not trained on (told by
the fingerprints in its card) is predicted as it is, where a warning is a false alarm,
and as images of another kind made from it, where a warning is a hit. Seeds are fixed.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cellunet import store
from cellunet.annotations.pairs import find_pairs, fingerprint
from cellunet.command_config import PredictConfig
from cellunet.core.dataset import Sample
from cellunet.tasks.predict.appearance import quality_warnings
from cellunet.tasks.predict.settings import settings_for
from cellunet.tasks.train.checks import appearance_of
from cellunet.tasks.train.data import ChannelChoice, read_sample

Image = npt.NDArray[np.float64]
STARTS = {
    "Hardly more": "noise",
    "Bright all over": "level",
    "Soft edges": "sharpness",
    "The objects found": "size",
    "The model is unsure": "unsure",
    "Nothing was found": "nothing",
}
"""How a warning begins, and its short name."""


def noise_of(image: Image) -> float:
    """Return the pixel noise, at least that of rounding to whole numbers."""
    steps = np.abs(np.diff(image, axis=1))
    return max(float(np.median(steps)) / 0.954, 0.5)


def span_of(image: Image) -> float:
    low, high = np.percentile(image, (1, 99.8))
    return float(high - low)


def inverted(image: Image, rng: np.random.Generator) -> Image:
    return image.max() + image.min() - image


def bright_field(image: Image, rng: np.random.Generator) -> Image:
    """Dark objects on a bright, uneven ground with texture of 2 px."""
    height, width = image.shape
    y, x = np.mgrid[:height, :width]
    away = (y / height - 0.5) ** 2 + (x / width - 0.5) ** 2
    texture = ndimage.gaussian_filter(rng.normal(size=image.shape), 2)
    texture *= 0.08 * span_of(image) / texture.std()
    return (image.max() - image) * (1 - 0.7 * away) + texture


def noise(image: Image, rng: np.random.Generator) -> Image:
    """Nothing but noise around the background's level."""
    sigma = noise_of(image)
    return rng.normal(np.percentile(image, 5) + 4 * sigma, sigma, image.shape)


def empty(image: Image, rng: np.random.Generator) -> Image:
    """Return a field without objects: the background's slow change, and its noise."""
    ground = ndimage.minimum_filter(ndimage.gaussian_filter(image, 2), 61)
    ground = ndimage.gaussian_filter(ground, 30)
    return ground + rng.normal(0, noise_of(image), image.shape)


def smaller(image: Image, rng: np.random.Generator) -> Image:
    soft = ndimage.gaussian_filter(image, 1)
    return ndimage.zoom(soft, 1 / 3, order=1)


def larger(image: Image, rng: np.random.Generator) -> Image:
    """Return the middle third, three times as large."""
    height, width = image.shape
    y, x = height // 3, width // 3
    return ndimage.zoom(image[y : 2 * y, x : 2 * x], 3, order=3)


def blurred(sigma: float) -> Callable[[Image, np.random.Generator], Image]:
    def out_of_focus(image: Image, rng: np.random.Generator) -> Image:
        soft = ndimage.gaussian_filter(image, sigma)
        return soft + rng.normal(0, noise_of(image), image.shape)

    return out_of_focus


KINDS = {
    "as it is": lambda image, rng: image,
    "inverted": inverted,
    "like bright field": bright_field,
    "pure noise": noise,
    "empty field": empty,
    "a third of the size": smaller,
    "three times the size": larger,
    "out of focus, sigma 4 px": blurred(4),
    "out of focus, sigma 8 px": blurred(8),
}


def kept_out(model: store.Model, folder: Path) -> list[Sample]:
    """Return the images of a folder that the weights have not seen."""
    trained = set(model.card.training.values())
    samples = [read_sample(p, ChannelChoice()) for p in find_pairs(folder).pairs]
    return [s for s in samples if fingerprint(s.image) not in trained]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = store.find_model(options.model)
    recipe = settings_for(model, PredictConfig(), "onnxruntime", "cpu", 0)
    results: dict[str, dict[str, dict[str, int]]] = {}
    for folder in options.data:
        counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for number, sample in enumerate(kept_out(model, folder)):
            pixels = sample.image[0]
            top = np.iinfo(pixels.dtype).max
            for kind, make in KINDS.items():
                rng = np.random.default_rng(number)
                made = make(pixels.astype(np.float64), rng)
                made = np.clip(np.rint(made), 0, top).astype(pixels.dtype)
                seen = appearance_of(made[np.newaxis], recipe)
                said = quality_warnings(seen, model.card, recipe.scale)
                row = counts[kind]
                row["images"] += 1
                row["warned"] += bool(said)
                for line in said:
                    row[next(n for s, n in STARTS.items() if line.startswith(s))] += 1
        results[folder.name] = {kind: dict(row) for kind, row in counts.items()}
        print(
            f"\n{folder.name}\n| kind | images | warned "
            f"| {' | '.join(STARTS.values())} |"
        )
        print("| --- " * (3 + len(STARTS)) + "|")
        for kind, row in counts.items():
            cells = [row[n] for n in ("images", "warned", *STARTS.values())]
            print(f"| {kind} | {' | '.join(map(str, cells))} |", flush=True)
    if options.json:
        about = {"model": model.name, "sha256": model.sha256, "counts": results}
        options.json.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
