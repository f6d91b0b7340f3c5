"""Measure whether suggested crops teach a model more than crops drawn at random.

    python benchmarks/suggest.py DATA --from MODEL [--draws N] [--json FILE]

DATA is `dsb2018-fluorescence`: images of many cell types, of which those of 256 x 256
and 360 x 360 pixels are taken. MODEL is one that never saw them. Every fifth image of
each size is held out. Each draw takes `POOL` of the others; from the same pool each
method takes `CROPS` crops of 256 x 256 pixels, their annotation is the published one,
and the model is trained on them for `STEPS` steps with the same seed. Scores are the
mean AP on the held-out images; the figure of merit is the paired difference of methods
over draws, with a Student interval.

Results are kept as JSON lines, one a training, and a call goes on where the last one
stopped.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from scipy import stats

from cellunet import store
from cellunet.annotations.pairs import Pair, find_pairs
from cellunet.command_config import PredictConfig
from cellunet.core.checkpoint import load_network
from cellunet.core.dataset import Sample, prepare
from cellunet.core.device import TorchEngine, choose_device, use_threads
from cellunet.core.trainer import Trainer, state_from
from cellunet.io.crops import CropChannel, CropMetadata
from cellunet.io.images import open_image
from cellunet.io.scratch import Scratch
from cellunet.io.source import Region
from cellunet.metrics.matching import score_image
from cellunet.tasks.predict.plane import as_labels, segment_plane
from cellunet.tasks.predict.settings import InferenceSettings, settings_for
from cellunet.tasks.suggest.choose import (
    CandidateWindows,
    WindowFeatures,
    area_share,
    choose,
    windows,
)
from cellunet.tasks.train.data import read_annotated

SIZES = ((256, 256), (360, 360))
SIDE = 256
POOL = 100
CROPS = 8
STEPS = 75
TRAINED_PX = 128
"""Side of the training crops that are drawn from the suggested ones."""
HELD = 5
RESULTS = Path(__file__).with_name("results-suggest.jsonl")


class Place:
    """One window of one image."""

    def __init__(
        self,
        pair: Pair,
        y: int,
        x: int,
        seen: WindowFeatures,
        cut: CropMetadata,
        area: float,
    ) -> None:
        self.pair, self.y, self.x, self.cut = pair, y, x, cut
        self.seen, self.area = seen, area


def look(pair: Pair, recipe: InferenceSettings) -> list[Place]:
    """Return the windows of an image."""
    with open_image(pair.image) as source, Scratch() as scratch:
        found = segment_plane(source, 0, recipe, scratch)
        norm = recipe.config.normalization
        every = list(windows(source, 0, found, recipe, SIDE))
        own = CropChannel(
            channel="0", statistics=found.statistics, negative=found.statistics
        )
        return [
            Place(
                pair,
                w.y,
                w.x,
                w.seen,
                CropMetadata(
                    image=pair.image.name,
                    plane=0,
                    y=w.y,
                    x=w.x,
                    percentiles=(norm.low_percentile, norm.high_percentile),
                    channels=(own,),
                ),
                area_share(source.shape, SIDE, len(every)),
            )
            for w in every
        ]


def at_random(pool: list[list[Place]], rng: np.random.Generator) -> list[Place]:
    """Return a window each of images drawn at random."""
    drawn = rng.permutation(len(pool))[:CROPS]
    return [pool[i][int(rng.integers(len(pool[i])))] for i in drawn]


def covering(pool: list[list[Place]], *, doubt: bool = True) -> list[Place]:
    """Return the windows that `choose` takes."""
    flat = [p for places in pool for p in places]
    numbers = np.array([i for i, places in enumerate(pool) for _ in places])
    windows_ = CandidateWindows(
        uncertainties=np.array(
            [p.area * (p.seen.uncertainty if doubt else 1) for p in flat]
        ),
        looks=np.array([p.seen.look for p in flat]),
        images=numbers,
        fields=numbers,
        corners=np.array([(p.y, p.x) for p in flat]),
        side=SIDE,
        beside=np.zeros(len(flat), bool),
    )
    known = np.empty((0, windows_.looks.shape[1]))
    return [flat[c.index] for c in choose(windows_, known, CROPS)]


def doubtful(pool: list[list[Place]]) -> list[Place]:
    """Return the windows of greatest doubt, one an image."""
    best = [max(places, key=lambda p: p.seen.uncertainty) for places in pool]
    return sorted(best, key=lambda p: -p.seen.uncertainty)[:CROPS]


METHODS = {
    "random": at_random,
    "suggest": lambda pool, rng: covering(pool),
    "without doubt": lambda pool, rng: covering(pool, doubt=False),
    "doubt alone": lambda pool, rng: doubtful(pool),
}


def sample_of(place: Place) -> Sample:
    """Return a window with its published annotation."""
    region = Region(0, place.y, place.y + SIDE, place.x, place.x + SIDE)
    with open_image(place.pair.image) as source:
        image = source.read(region)
    labels = read_annotated(place.pair).labels[
        region.y0 : region.y1, region.x0 : region.x1
    ]
    return Sample(
        name=place.pair.name,
        image=image,
        labels=labels,
        annotated=np.ones(labels.shape, bool),
        measured=place.cut.by_channel,
    )


def trained(start: store.Model, samples: list[Sample], seed: int) -> InferenceSettings:
    """Return the start model after a short training on some crops."""
    config = start.card.config.replace(
        epochs=1,
        steps_per_epoch=STEPS,
        batch=8,
        crop_px=TRAINED_PX,
        learning_rate=1e-3,
        warmup_steps=10,
        schedule="cosine",
        average_decay=0.99,
        seed=seed,
    )
    device = choose_device("cpu")
    state = state_from(load_network(start.weights), config, device)
    prepared = [prepare(s, config) for s in samples]
    trainer = Trainer(prepared, prepared[:1], config, device)
    trainer.run(state, should_stop=lambda: False, on_step=lambda state, loss: None)
    engine = TorchEngine(trainer.result(state).eval(), device)
    return InferenceSettings(engine=engine, config=config, decode=config.decode)


def scored(recipe: InferenceSettings, pairs: list[Pair]) -> dict[str, float]:
    """Return the mean AP of each image."""
    found = {}
    for pair in pairs:
        with open_image(pair.image) as source, Scratch() as scratch:
            labels = as_labels(segment_plane(source, 0, recipe, scratch).bands())
        truth = read_annotated(pair).labels
        scores = score_image(truth, labels.astype(np.int32), name=pair.name)
        found[pair.name] = round(float(scores["all"].mean_ap), 4)
    return found


def sides(data: Path) -> tuple[list[Pair], list[Pair]]:
    """Return the images to choose from, and those held out."""
    pool, held = [], []
    for size in SIZES:
        of_size = []
        for pair in find_pairs(data).pairs:
            with open_image(pair.image) as source:
                if source.shape == size:
                    of_size.append(pair)
        held += of_size[::HELD]
        pool += [p for i, p in enumerate(of_size) if i % HELD]
    return pool, held


def run(data: Path, model: str, draws: int, file: Path, methods: list[str]) -> None:
    """Train and score what is not in the file yet."""
    done = {(r["draw"], r["method"]) for r in read(file)}
    start = store.find_model(model)
    recipe = settings_for(start, PredictConfig(), "onnxruntime", "cpu", 1)
    everything, held = sides(data)
    seen: dict[str, list[Place]] = {}
    if (-1, "start") not in done:
        keep(file, {"draw": -1, "method": "start", "ap": scored(recipe, held)})
    for draw in range(draws):
        rng = np.random.default_rng((draw, 1))
        chosen = [everything[i] for i in rng.permutation(len(everything))[:POOL]]
        for method in methods:
            if (draw, method) in done:
                continue
            for pair in chosen:
                if pair.name not in seen:
                    seen[pair.name] = look(pair, recipe)
            pool = [seen[pair.name] for pair in chosen]
            places = METHODS[method](pool, np.random.default_rng((draw, 2)))
            begin = time.perf_counter()
            taught = trained(start, [sample_of(p) for p in places], draw)
            keep(
                file,
                {
                    "draw": draw,
                    "method": method,
                    "crops": [[p.pair.name, p.y, p.x] for p in places],
                    "seconds": round(time.perf_counter() - begin),
                    "ap": scored(taught, held),
                },
            )


def keep(file: Path, row: dict) -> None:
    """Append a result, and say it."""
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")
    print(row["draw"], row["method"], round(mean_ap(row), 4), flush=True)


def read(file: Path) -> list[dict]:
    """Return the results so far."""
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def mean_ap(row: dict) -> float:
    """Return the mean AP over the held-out images."""
    return float(np.mean(list(row["ap"].values())))


def report(rows: list[dict]) -> None:
    """Print each method's mean, and its paired difference to random choice."""
    by = {m: {r["draw"]: mean_ap(r) for r in rows if r["method"] == m} for m in METHODS}
    for row in rows:
        if row["method"] == "start":
            print(f"start model: {mean_ap(row):.3f}")
    for method, scores in by.items():
        if not scores:
            continue
        line = f"{method}: {np.mean(list(scores.values())):.3f} ({len(scores)} draws)"
        shared = sorted(set(scores) & set(by["random"]))
        if method != "random" and len(shared) > 1:
            gains = np.array([scores[d] - by["random"][d] for d in shared])
            half = stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains)
            line += (
                f"; minus random {gains.mean():+.3f} "
                f"[{gains.mean() - half:+.3f}, {gains.mean() + half:+.3f}], "
                f"better in {int((gains > 0).sum())} of {len(gains)}"
            )
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--from", dest="model", required=True)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--methods", default="random,suggest")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="only print the table")
    given = parser.parse_args()
    if not given.report:
        use_threads(1)
        methods = given.methods.split(",")
        run(given.data, given.model, given.draws, given.json, methods)
    report(read(given.json))


if __name__ == "__main__":
    main()
