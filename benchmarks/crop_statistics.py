"""Measure what it costs to scale a crop by its own intensities, not its image's.

    python benchmarks/crop_statistics.py DATA --from MODEL [--draws N] [--json FILE]

DATA holds `bbbc039` and `dsb2018-fluorescence`.

In prediction: the four corner crops of 256 x 256 pixels of the BBBC039 validation
images, segmented by the shipped model, scaled once by their own percentiles and once by
those of their image.

In training: each draw takes 8 crops of `SIDE` pixels of DSB2018 images of 360 x 360
pixels, and MODEL (which never saw these images) is trained on them as in
`benchmarks/suggest.py`, once with either scale and the same seed; scores are the mean
AP on whole images that were held out. A call goes on where the last one stopped.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats
from suggest import HELD, keep, mean_ap, read, scored, trained

from cellunet import store
from cellunet.annotations.pairs import Pair, find_pairs
from cellunet.config import MODEL, PredictConfig, TrainConfig
from cellunet.core.dataset import Sample
from cellunet.core.device import use_threads
from cellunet.imaging.normalize import measure
from cellunet.io.crops import CropMetadata
from cellunet.io.images import open_image
from cellunet.io.scratch import Scratch
from cellunet.io.source import ArraySource, Region
from cellunet.metrics.matching import score_image
from cellunet.tasks.predict.plane import as_labels, segment_plane
from cellunet.tasks.predict.session import settings_for
from cellunet.tasks.train.data import read_annotated

SIDE, CROPS = 128, 8
PREDICTED = 256
RESULTS = Path(__file__).with_name("results-crop-statistics.jsonl")


def whole(pair: Pair) -> np.ndarray:
    """Return the pixels of an image, YX."""
    with open_image(pair.image) as source:
        height, width = source.shape
        return source.read(Region(0, 0, height, 0, width))[0]


def predicting(data: Path) -> dict:
    """Return scores and intensity ranges of crops, scaled either way."""
    recipe = settings_for(
        store.find_model(MODEL), PredictConfig(), "onnxruntime", "cpu", 1
    )
    norm = recipe.config.normalization
    pairs = find_pairs(data / "bbbc039")
    rows = []
    for pair in pairs.pairs:
        if pair.name not in (pairs.validation or ()):
            continue
        image, truth = whole(pair), read_annotated(pair).labels
        field = measure(lambda image=image: [image], norm)
        height, width = image.shape
        for y in (0, height - PREDICTED):
            for x in (0, width - PREDICTED):
                part = np.s_[y : y + PREDICTED, x : x + PREDICTED]
                own = measure(lambda crop=image[part]: [crop], norm)
                ap = []
                for statistics in (own, field):
                    with Scratch() as scratch:
                        source = ArraySource(image[part])
                        found = segment_plane(
                            source, 0, recipe, scratch, statistics=(statistics,)
                        )
                        labels = as_labels(found.bands()).astype(np.int32)
                    scores = score_image(truth[part], labels, name=pair.name)
                    ap.append(float(scores["all"].mean_ap))
                ratio = (own.high - own.low) / (field.high - field.low)
                rows.append([pair.name, y, x, round(ratio, 4), *np.round(ap, 4)])
    return {"draw": -1, "method": "prediction", "ap": {"": 0.0}, "crops": rows}


def samples(pairs: list[Pair], config: TrainConfig, draw: int) -> list[Sample]:
    """Return crops drawn at random, which know their images' intensities."""
    rng = np.random.default_rng((draw, 3))
    norm, found = config.normalization, []
    for number in rng.permutation(len(pairs))[:CROPS]:
        pair = pairs[number]
        image = whole(pair)
        y, x = (int(rng.integers(length - SIDE + 1)) for length in image.shape)
        part = np.s_[y : y + SIDE, x : x + SIDE]
        field = measure(lambda image=image: [image], norm)
        cut = CropMetadata(
            image=pair.name,
            plane=0,
            y=y,
            x=x,
            channel="0",
            percentiles=(norm.low_percentile, norm.high_percentile),
            statistics=field,
            negative=field,
        )
        found.append(
            Sample(
                name=pair.name,
                image=image[part][np.newaxis],
                labels=read_annotated(pair).labels[part],
                annotated=np.ones((SIDE, SIDE), bool),
                measured=cut.by_channel,
            )
        )
    return found


def training(data: Path, model: str, draws: int, file: Path) -> None:
    """Train with either scale and score on whole images."""
    done = {(r["draw"], r["method"]) for r in read(file)}
    start = store.find_model(model)
    pairs = []
    for pair in find_pairs(data / "dsb2018-fluorescence").pairs:
        with open_image(pair.image) as source:
            if source.shape == (360, 360):
                pairs.append(pair)
    held, pool = pairs[::HELD], [p for i, p in enumerate(pairs) if i % HELD]
    for draw in range(draws):
        taken = samples(pool, start.card.config, draw)
        for method in ("own", "field"):
            if (draw, method) in done:
                continue
            used = [
                replace(s, measured=None if method == "own" else s.measured)
                for s in taken
            ]
            ap = scored(trained(start, used, draw), held)
            keep(file, {"draw": draw, "method": method, "ap": ap})


def report(rows: list[dict]) -> None:
    """Print the costs."""
    for row in rows:
        if row["method"] == "prediction":
            ratio, own, field = np.array([c[3:] for c in row["crops"]], float).T
            shares = ", ".join(f"{v:.2f}" for v in np.percentile(ratio, (0, 5, 50, 95)))
            print(
                f"{len(ratio)} crops; range by the image's at 0, 5, 50, 95 %: {shares}"
            )
            print(f"prediction, own scale {own.mean():.3f}, image's {field.mean():.3f}")
            off = ratio < 0.5
            if off.any():
                print(
                    f"  {off.sum()} crops of less than half the range: "
                    f"{own[off].mean():.3f}, {field[off].mean():.3f}"
                )
    by = {m: {} for m in ("own", "field")}
    for row in rows:
        if row["method"] in by:
            by[row["method"]][row["draw"]] = mean_ap(row)
    shared = sorted(set(by["own"]) & set(by["field"]))
    if len(shared) > 1:
        gains = np.array([by["field"][d] - by["own"][d] for d in shared])
        half = stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains)
        print(
            f"training, {len(gains)} draws: own scale "
            f"{np.mean([by['own'][d] for d in shared]):.3f}, image's minus own "
            f"{gains.mean():+.3f} [{gains.mean() - half:+.3f}, "
            f"{gains.mean() + half:+.3f}]"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--from", dest="model", required=True)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--json", type=Path, default=RESULTS)
    given = parser.parse_args()
    use_threads(1)
    if not any(r["method"] == "prediction" for r in read(given.json)):
        row = predicting(given.data)
        with given.json.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
    report(read(given.json))
    training(given.data, given.model, given.draws, given.json)
    report(read(given.json))


if __name__ == "__main__":
    main()
