"""Score images magnified as another objective would show them, with and without sizes.

    python benchmarks/magnified.py DATA --count 8

DATA is as for `benchmarks/accuracy.py`. Prints mean AP and F1 at .50 of evenly chosen
images, parts of 360 x 360 px at most, seen as they are and with `--diameter auto`.
"""

import argparse
from pathlib import Path

import numpy as np
from accuracy import PARTS, chosen, pixels
from scipy import ndimage

from cellunet import store
from cellunet.command_config import MODEL, PredictConfig
from cellunet.config import NormalizationConfig
from cellunet.imaging.normalize import measure_channels
from cellunet.imaging.sizes import looked_up, magnified
from cellunet.metrics.matching import score_image
from cellunet.tasks.predict.session import load_model
from cellunet.tasks.train.data import read_annotated

FACTORS = (0.35, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
SIDE_PX = 360


def seen_by(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Return an image at another magnification, with the noise of the same camera."""
    if factor == 1:
        return image
    (seen,) = measure_channels(lambda: [image[np.newaxis]], NormalizationConfig())
    exact = image.astype(np.float32)
    if factor > 1:
        optics = ndimage.gaussian_filter(exact, 0.5)
        larger = ndimage.zoom(optics, factor, order=3, grid_mode=True, mode="nearest")
        exact = ndimage.gaussian_filter(larger, 0.3 * factor)
    else:
        exact = magnified(exact[np.newaxis], factor)[0]
    exact = exact + rng.normal(0, max(seen.noise, 0.3), exact.shape)
    info = np.iinfo(image.dtype)
    counts: np.ndarray = np.clip(np.rint(exact), info.min, info.max)
    return counts.astype(image.dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--count", type=int, default=8)
    arguments = parser.parse_args()
    trained = set(store.find_model(MODEL).card.training.values())
    models = [
        load_model(threads=1, config=PredictConfig(diameter_px=how))
        for how in ("model", "auto")
    ]
    for part, pairs in chosen(arguments.data, trained).items():
        some = pairs[:: max(len(pairs) // arguments.count, 1)][: arguments.count]
        for factor in FACTORS:
            scores = []
            for number, pair in enumerate(some):
                rng = np.random.default_rng(number)
                image = pixels(pair)[:SIDE_PX, :SIDE_PX]
                labels = read_annotated(pair).labels[:SIDE_PX, :SIDE_PX]
                image = seen_by(image, factor, rng)
                labels = looked_up(np.ascontiguousarray(labels), factor)
                for model in models:
                    found = model.segment(image).labels
                    forms = score_image(labels, found, name=pair.name)
                    one = next(iter(forms.values()))
                    scores += [one.mean_ap, one.f1_at(10)]
            means = np.reshape(scores, (len(some), 4)).mean(0)
            print(PARTS[part], factor, *(f"{mean:.3f}" for mean in means))


if __name__ == "__main__":
    main()
