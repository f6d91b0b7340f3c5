"""What scribbles alone do to a model, against whole outlines of the same images.

    python benchmarks/scribbles.py DATA [--start nuclei-dsb] [--draws 0] [--rate R]

DATA holds `bbbc039`. Of its 100 training images each draw takes 5, as
`benchmarks/few_labels.py` does, whose trainings on their outlines are what scribbles
are compared with: none of these models has seen the 50 validation images, on which all
are scored, and `nuclei-dsb` has seen no image of BBBC039 before.

Scribbles are drawn as a person would who sees where nuclei are (`AMOUNTS`): `few` are
10 clicks in the middle of nuclei and 6 lines of background an image, `many` a click in
every nucleus and 30 lines, `mistakes` are where the start is wrong: a click in each
nucleus that it leaves out, a line along each thing that it invents, and the few. `ten
outlined` are no clicks, but the outlines of 10 nuclei an image beside 6 lines of
background.

What is trained is `cellunet train FOLDER --from START`: for up to 20 images the preset
`few`. `--rate` is another learning rate than the preset's. One JSON line a training in
`benchmarks/scribbles.jsonl`; what has one is not run again. `--table` prints what there
is.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from few_labels import done as outlined
from few_labels import order_of
from scipy import ndimage

from cellunet import store
from cellunet.annotations.pairs import Pair, find_pairs
from cellunet.annotations.shapes import Strokes
from cellunet.config import FOLDS, PRESETS, SplitConfig
from cellunet.core.device import use_threads
from cellunet.imaging.targets import SCRIBBLED_BACKGROUND, SCRIBBLED_INTERIOR
from cellunet.tasks.evaluate import evaluate_model
from cellunet.tasks.predict.session import load_model
from cellunet.tasks.train.data import read_annotated
from cellunet.tasks.train.request import TrainRequest
from cellunet.tasks.train.train import train

RESULTS = Path(__file__).with_name("scribbles.jsonl")
IMAGES = 5
EVERY = 10**6
OUTLINED = "ten outlined"
AMOUNTS = {"few": (10, 6), "many": (EVERY, 30), "mistakes": (10, 6), OUTLINED: (10, 6)}
"""Nuclei that are clicked into or outlined, and lines of background, an image."""
LENGTH_PX = 40
FREE_PX = 4
"""How far from nuclei lines of background begin, at least."""

Drawn = tuple[int, np.ndarray]


def clicks(labels: np.ndarray, numbers: np.ndarray) -> Iterator[Drawn]:
    """Yield a click in the middle of each of some nuclei."""
    depth = ndimage.distance_transform_edt(labels > 0)
    boxes = ndimage.find_objects(labels)
    for number in numbers:
        box = boxes[number - 1]
        inside = depth[box] * (labels[box] == number)
        y, x = np.unravel_index(inside.argmax(), inside.shape)
        at = (x + box[1].start + 0.5, y + box[0].start + 0.5)
        yield SCRIBBLED_INTERIOR, np.array([at])


def lines(
    labels: np.ndarray, begins: np.ndarray, rng: np.random.Generator
) -> Iterator[Drawn]:
    """Yield lines of background that begin somewhere and end before a nucleus."""
    for y, x in begins:
        angle = rng.uniform(0, 2 * np.pi)
        steps = np.arange(0, LENGTH_PX, 4)[:, None]
        line = np.array([x, y]) + 0.5 + steps * [np.cos(angle), np.sin(angle)]
        inside = ((line >= 0) & (line < labels.shape[::-1])).all(axis=1)
        last = np.array(labels.shape) - 1
        rows, columns = np.clip(line[:, ::-1].astype(int), 0, last).T
        blocked = ~inside | (labels[rows, columns] > 0)
        yield SCRIBBLED_BACKGROUND, line[: int(blocked.argmax()) or len(line)]


def free(labels: np.ndarray) -> np.ndarray:
    """Return the pixels at which a line of background may begin."""
    return np.argwhere(ndimage.distance_transform_edt(labels == 0) >= FREE_PX)


def mistakes(
    labels: np.ndarray, found: np.ndarray, rng: np.random.Generator
) -> Iterator[Drawn]:
    """Yield clicks on nuclei that are mostly left out, lines on what is invented."""
    left_out = np.unique(labels[labels > 0])
    share = ndimage.mean(found > 0, labels, left_out)
    yield from clicks(labels, left_out[np.asarray(share) < 0.5])
    numbers = np.unique(found[found > 0])
    covered = np.asarray(ndimage.mean(labels > 0, found, numbers))
    where = np.isin(found, numbers[covered < 0.5]) & (labels == 0)
    parts, count = ndimage.label(where)
    middles = ndimage.center_of_mass(where, parts, range(1, count + 1))
    begins = np.round(np.array(middles).reshape(-1, 2)).astype(int)
    yield from lines(labels, begins[labels[tuple(begins.T)] == 0], rng)


def scribbles(
    labels: np.ndarray, amount: str, found: np.ndarray | None, seed: int
) -> np.ndarray:
    """Return scribbles of an image, uint8."""
    rng = np.random.default_rng(seed)
    count, background = AMOUNTS[amount]
    ids = rng.permutation(np.unique(labels[labels > 0]))[:count]
    begins = rng.permutation(free(labels))[:background]
    drawn = [*lines(labels, begins, rng)]
    if amount != OUTLINED:
        drawn = [*clicks(labels, ids), *drawn]
    if found is not None:
        drawn += mistakes(labels, found, rng)
    said = np.zeros(labels.shape, np.uint8)
    for value, line in drawn:
        window, inside, *_ = Strokes((line,)).fill(labels.shape)
        said[window][inside] = value
    return said


def write(folder: Path, pairs: list[Pair], amount: str, start: str) -> dict[str, Any]:
    """Write images with their scribbles; return what was scribbled."""
    model = load_model(start) if amount == "mistakes" else None
    for side in ("images", "scribbles", *(["labels"] if amount == OUTLINED else [])):
        (folder / side).mkdir(parents=True)
    inside = background = right = 0
    for seed, pair in enumerate(pairs):
        labels, image = read_annotated(pair).labels, tifffile.imread(pair.image)
        found = None if model is None else model.segment(image)[0]
        said = scribbles(labels, amount, found, seed)
        shutil.copy(pair.image, folder / "images" / f"{pair.name}.tif")
        tifffile.imwrite(folder / "scribbles" / f"{pair.name}.tif", said)
        if amount == OUTLINED:
            ids = np.random.default_rng(seed).permutation(np.unique(labels)[1:])[:10]
            kept = np.where(np.isin(labels, ids), labels, 0).astype(np.uint16)
            tifffile.imwrite(folder / "labels" / f"{pair.name}.tif", kept)
        inside += int((said == SCRIBBLED_INTERIOR).sum())
        background += int((said == SCRIBBLED_BACKGROUND).sum())
        right += int(((said == SCRIBBLED_INTERIOR) == (labels > 0))[said > 0].sum())
    return {
        "inside_px": inside,
        "background_px": background,
        "right": round(right / (inside + background), 4),
    }


def figures(model: str, data: Path) -> dict[str, Any]:
    """Return the scores of a model on the validation images."""
    found = evaluate_model(data, model=model, side="validation")
    (group,) = found.groups.values()
    summary, totals = group.summaries["all"], group.summaries["all"].totals
    return {
        "mean_ap": summary.mean_ap.value,
        "f1_50": summary.f1_at(10).value,
        "f1_90": summary.f1_at(18).value,
        "missed": totals.missed,
        "extra": totals.extra,
        "merges": totals.merges,
        "splits": totals.splits,
    }


def run(args: argparse.Namespace, amount: str, draw: int) -> dict[str, Any]:
    """Train on scribbles and score."""
    begin = time.monotonic()
    name = f"scribbles-{amount.replace(' ', '-')}-{draw}"
    data, start = args.data / "bbbc039", args.start
    config = PRESETS["few"]().replace(seed=draw)
    if args.rate is not None:
        config = config.replace(learning_rate=args.rate)
    pairs = find_pairs(data)
    training = [p for p in pairs.pairs if p.name in set(pairs.train or ())]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "scribbled"
        chosen = order_of(draw, training)[:IMAGES]
        about = write(folder, chosen, amount, start)
        trained = train(
            TrainRequest(
                data=(folder,),
                name=name,
                config=config,
                split=SplitConfig(folds=FOLDS),
                start=start,
                threads=args.threads,
                overwrite=True,
            )
        )
    minutes = round((time.monotonic() - begin) / 60, 2)
    result = {"start": start, "amount": amount, "draw": draw, "minutes": minutes}
    result |= {"rate": config.learning_rate, "kept_start": trained.kept_start}
    result |= about | figures(name, data)
    shutil.rmtree(store.model_folder(trained.name))
    return result


def done() -> list[dict[str, Any]]:
    """Return the results that there are."""
    if not RESULTS.is_file():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def table(start: str) -> None:
    """Print means over the draws, with the range of mean AP."""
    usual = PRESETS["few"]().learning_rate
    rows = [row for row in done() if row["start"] == start]
    draws = {row["draw"] for row in rows if row["amount"] != "none"}
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        slow = row.get("rate", usual) != usual
        groups[row["amount"] + (f", rate {row['rate']:g}" if slow else "")].append(row)
    groups["all outlined"] = [
        row
        for row in outlined()
        if (row["start"], row["images"]) == (start, IMAGES) and row["draw"] in draws
    ]
    print("| what is drawn | draws | mean AP | F1 at .50 | F1 at .90 |")
    print("| --- | --- | --- | --- | --- |")
    for name, found in groups.items():
        ap, f1_50, f1_90 = (
            np.array([row[key] for row in found])
            for key in ("mean_ap", "f1_50", "f1_90")
        )
        print(
            f"| {name} | {len(ap)} | {ap.mean():.3f} ({ap.min():.3f} to "
            f"{ap.max():.3f}) | {f1_50.mean():.3f} | {f1_90.mean():.3f} |"
        )


def main(args: argparse.Namespace) -> None:
    if args.table:
        table(args.start)
        return
    use_threads(args.threads)
    data = args.data / "bbbc039"
    usual = PRESETS["few"]().learning_rate
    have = {(r["start"], r["amount"], r["draw"], r.get("rate", usual)) for r in done()}
    work = [("none", 0), *((a, d) for d in args.draws for a in args.amounts)]
    for amount, draw in work:
        rate = usual if amount == "none" or args.rate is None else args.rate
        if (args.start, amount, draw, rate) in have:
            continue
        if amount == "none":
            row = {"start": args.start, "amount": amount, "draw": draw}
            row |= figures(args.start, data)
        else:
            row = run(args, amount, draw)
        print(json.dumps(row), flush=True)
        with RESULTS.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
    table(args.start)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--start", default="nuclei-dsb")
    parser.add_argument("--draws", type=int, nargs="+", default=[0])
    parser.add_argument("--amounts", nargs="+", default=list(AMOUNTS), choices=AMOUNTS)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    main(parser.parse_args())
