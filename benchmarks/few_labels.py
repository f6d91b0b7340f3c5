"""A new kind of sample from few labels: scores against annotated images.

    python benchmarks/few_labels.py DATA --start nuclei-dsb [--minutes M] [--threads N]
    python benchmarks/few_labels.py DATA --start c-32-32-64 --kind 360x360

DATA holds `bbbc039` and `dsb2018-fluorescence`. Of the 100 BBBC039 training images
nested subsets are drawn, 5 draws of up to 5 images and 3 of more; each is what
`cellunet train FOLDER --preset few --folds N` is given, once from `--start` and once
from scratch. What comes out is scored on the 50 validation images, which neither the
weights nor the constants of any of these models have seen. With `--kind` the new sample
is the images of one size of the Data Science Bowl, some of them kept to be scored. One
JSON line a training in `benchmarks/few_labels.jsonl`; what has one is not run again, so
that the command can be stopped at any time. `--table` prints what there is.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellunet import store
from cellunet.annotations.pairs import Pair, find_pairs
from cellunet.command_config import SplitConfig
from cellunet.core.checkpoint import load_network
from cellunet.core.dataset import prepare
from cellunet.core.device import choose_device
from cellunet.core.trainer import Trainer
from cellunet.io.images import open_image
from cellunet.presets import PRESETS
from cellunet.tasks.evaluate import evaluate_model
from cellunet.tasks.train.data import ChannelChoice, read_sample
from cellunet.tasks.train.request import TrainRequest
from cellunet.tasks.train.train import train

RESULTS = Path(__file__).with_name("few_labels.jsonl")
BBBC039 = "bbbc039"
DRAWS = {0: 1, 1: 5, 5: 5, 10: 3, 2: 5, 100: 1, 20: 3}
"""How many draws of how many images, in the order in which they are run."""
KINDS = {
    "256x256": (50, (1, 5, 10)),
    "360x360": (30, (1, 5, 10)),
    "512x640": (4, (1, 5)),
}
"""Of the Data Science Bowl, by image size: images kept to be scored, numbers drawn."""
KIND_DRAWS = 3
KIND_SCRATCH = 5
"""Training images of another kind from which scratch is tried too."""
FOLDS = 3


@dataclass(frozen=True)
class Sample:
    """A kind of sample: what may be trained on, and what is scored."""

    name: str
    training: list[Pair]
    held: list[Pair]


def sample_of(data: Path, kind: str) -> Sample:
    """Return BBBC039 with its official validation images, or one size of the others."""
    if kind == BBBC039:
        pairs = find_pairs(data / BBBC039)
        held = set(pairs.validation or ())
        train_on = set(pairs.train or ())
        return Sample(
            kind,
            [p for p in pairs.pairs if p.name in train_on],
            [p for p in pairs.pairs if p.name in held],
        )
    height, width = map(int, kind.split("x"))
    found = find_pairs(data / "dsb2018-fluorescence").pairs
    alike = order_of(0, [p for p in found if shape_of(p) == (height, width)])
    kept, _ = KINDS[kind]
    return Sample(kind, alike[kept:], alike[:kept])


def shape_of(pair: Pair) -> tuple[int, int]:
    with open_image(pair.image) as source:
        return source.shape


def order_of(draw: int, pairs: list[Pair]) -> list[Pair]:
    """Return the images in the order of a draw; its subsets are nested."""
    ordered = sorted(pairs, key=lambda pair: pair.name)
    random.Random(draw).shuffle(ordered)
    return ordered


def write_subset(folder: Path, pairs: list[Pair]) -> None:
    """Copy images with their annotations into a folder of the same layout."""
    for pair in pairs:
        for path in (pair.image, pair.annotation):
            (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / path.parent.name)


def figures(model: str, held: list[Pair]) -> dict[str, Any]:
    """Return the scores of a model on images that it never saw."""
    with tempfile.TemporaryDirectory() as temporary:
        write_subset(Path(temporary), held)
        found = evaluate_model(Path(temporary), model=model, side="all")
    (group,) = found.groups.values()
    summary = group.summaries["all"]
    return {
        "validation_loss": round(loss(model, held), 5),
        "mean_ap": summary.mean_ap.value,
        "f1_50": summary.f1_at(10).value,
        "f1_90": summary.f1_at(18).value,
    }


def loss(model: str, held: list[Pair]) -> float:
    """Return the loss of a model on images that it never saw."""
    found = store.find_model(model)
    config = found.card.config
    samples = [prepare(read_sample(pair, ChannelChoice()), config) for pair in held]
    trainer = Trainer(samples[:1], samples, config, choose_device("cpu"))
    tally = trainer.validate(load_network(found.weights))
    return tally.loss if tally else float("nan")


def run(
    sample: Sample, start: str, count: int, draw: int, threads: int
) -> dict[str, Any]:
    """Train on a subset and score; nothing is trained if it is empty."""
    begin = time.monotonic()
    about = {"kind": sample.name, "start": start, "images": count, "draw": draw}
    if count == 0:
        return about | {"nuclei": 0, "minutes": 0.0} | figures(start, sample.held)
    name = f"few-{sample.name}-{start}-{count}-{draw}"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "subset"
        chosen = order_of(draw, sample.training)[:count]
        nuclei = sum(
            len(np.unique(read_sample(pair, ChannelChoice()).labels)) - 1
            for pair in chosen
        )
        write_subset(folder, chosen)
        trained = train(
            TrainRequest(
                data=(folder,),
                name=name,
                config=PRESETS["few"]().replace(seed=draw),
                split=SplitConfig(folds=min(FOLDS, max(count, 2))),
                start=start,
                threads=threads,
                overwrite=True,
            )
        )
    minutes = round((time.monotonic() - begin) / 60, 2)
    result = about | {
        "minutes": minutes,
        "threads": threads,
        "kept_start": trained.kept_start,
        "nuclei": nuclei,
        "expected": asdict(trained.expected) if trained.expected else None,
        "decode": trained.decode.to_dict() if trained.decode else None,
        "steps": trained.epochs * PRESETS["few"]().steps_per_epoch,
    }
    result |= figures(name, sample.held)
    shutil.rmtree(store.model_folder(name))
    return result


def done() -> list[dict[str, Any]]:
    """Return the results that there are."""
    if not RESULTS.is_file():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def table() -> None:
    """Print mean and range over the draws."""
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in done():
        groups[row["kind"], row["start"], row["images"]].append(row)
    print(
        "| kind | start | images | draws | mean AP | F1 at .50 | F1 at .90 | minutes |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for (kind, start, count), rows in sorted(groups.items()):
        cells = []
        for key in ("mean_ap", "f1_50", "f1_90"):
            values = [row[key] for row in rows]
            spread = f" ({min(values):.3f} to {max(values):.3f})"
            cells.append(f"{np.mean(values):.3f}" + spread * (len(values) > 1))
        minutes = f"{np.mean([row['minutes'] for row in rows]):.1f}"
        print(
            "|",
            " | ".join([kind, start, f"{count}", f"{len(rows)}", *cells, minutes]),
            "|",
        )


def planned(kind: str, start: str) -> Iterator[tuple[str, int, int]]:
    """Yield start, number of images and draw of each training, in order."""
    draws = DRAWS
    if kind != BBBC039:
        draws = {0: 1} | dict.fromkeys(KINDS[kind][1], KIND_DRAWS)
    for count, number in draws.items():
        for draw in range(number):
            yield start, count, draw
            if count and (kind == BBBC039 or count == KIND_SCRATCH):
                yield "scratch", count, draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--start", default="nuclei-dsb")
    parser.add_argument("--kind", choices=[BBBC039, *KINDS], default=BBBC039)
    parser.add_argument("--minutes", type=float, default=24 * 60)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    stop_at = time.monotonic() + 60 * options.minutes
    if options.data:
        sample = sample_of(options.data, options.kind)
        for key in planned(options.kind, options.start):
            rows = [r for r in done() if r["kind"] == options.kind]
            if key in {(r["start"], r["images"], r["draw"]) for r in rows}:
                continue
            if time.monotonic() > stop_at:
                return
            row = run(sample, *key, options.threads)
            with RESULTS.open("a") as out:
                out.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    if options.table:
        table()


if __name__ == "__main__":
    main()
