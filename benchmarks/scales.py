"""Score models on images magnified or reduced, to see how much scale they can take.

    python benchmarks/scales.py DATA MODEL [MODEL ...] [--every 2]

Every second BBBC039 validation image is resampled by a factor (labels by the nearest
pixel) and segmented as it is, and with ``--scale`` of the inverse factor, which brings
nuclei back to the size that the model was trained on. Scores are of the resampled
labels; small objects lose their outlines when images are reduced, for every model
alike. Results go to `benchmarks/results-scales.json`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from accuracy import pixels

from cellunet import store
from cellunet.annotations.pairs import find_pairs
from cellunet.config import PredictConfig
from cellunet.imaging.resample import resampled, target_length
from cellunet.io.scratch import Scratch
from cellunet.io.source import ArraySource
from cellunet.metrics.matching import score_image
from cellunet.tasks.predict.plane import as_labels, segment_plane
from cellunet.tasks.predict.session import settings_for
from cellunet.tasks.train.data import read_annotated

RESULTS = Path(__file__).with_name("results-scales.json")
FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0)


def magnified(image: np.ndarray, labels: np.ndarray, factor: float) -> tuple:
    """Return an image and its labels at another size."""
    shape = image.shape
    size = tuple(target_length(n, factor) for n in shape)
    plane = image.astype(np.float32)[np.newaxis]
    read = resampled(lambda y0, y1, x0, x1: plane[:, y0:y1, x0:x1], shape, size)
    index = [
        np.minimum((np.arange(m) + 0.5) * n / m, n - 1).astype(int)
        for n, m in zip(shape, size, strict=True)
    ]
    return read(0, size[0], 0, size[1])[0], labels[np.ix_(*index)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--every", type=int, default=2)
    args = parser.parse_args()
    pairs = find_pairs(args.data / "bbbc039")
    held = [p for p in pairs.pairs if p.name in set(pairs.validation)][:: args.every]
    table = {}
    for name in args.models:
        model = store.find_model(name)
        for factor in FACTORS:
            for scale in sorted({1.0, 1.0 / factor}):
                recipe = settings_for(
                    model, PredictConfig(scale=scale), "auto", "auto", 0
                )
                scores = []
                for pair in held:
                    image, labels = magnified(
                        pixels(pair), read_annotated(pair).labels, factor
                    )
                    with Scratch() as scratch:
                        plane = segment_plane(ArraySource(image), 0, recipe, scratch)
                        found = as_labels(plane.bands())
                    scored = score_image(labels, found, name=pair.name)
                    scores.append(next(iter(scored.values())))
                key = f"{name}, images x {factor:g}, --scale {scale:.3g}"
                table[key] = {
                    "mean_ap": round(float(np.mean([s.mean_ap for s in scores])), 4),
                    "f1_50": round(float(np.mean([s.f1[0] for s in scores])), 4),
                }
                print(key, table[key], flush=True)
    RESULTS.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
