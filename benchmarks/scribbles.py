"""What scribbles alone do to a model: scores before and after a short training.

``python benchmarks/scribbles.py DSB2018 [--images 3] [--clicks 10] [--steps 100]``: of
the folder's images that the shipped model's weights were not trained on, those that it
segments worst get scribbles: clicks in the middle of nuclei, lines of background. A
training on them alone starts from the shipped model. Both models are then scored, with
all objects, on the images that were scribbled on and on others.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

from cellunet import store
from cellunet.config import TrainConfig
from cellunet.imaging.figures import Strokes
from cellunet.imaging.pairing import Pair, find_pairs
from cellunet.imaging.scribbles import BACKGROUND, INTERIOR
from cellunet.tasks.evaluate_model import evaluate_model
from cellunet.tasks.evaluation import GroupScores
from cellunet.tasks.train import TrainRequest, train

LINES = 6
LENGTH_PX = 40
FREE_PX = 4
"""How far from objects lines of background are drawn, at least."""


def scribbles(labels: np.ndarray, clicks: int, rng: np.random.Generator) -> np.ndarray:
    """Return scribbles as a person would draw them, who sees where nuclei are."""
    said = np.zeros(labels.shape, np.uint8)
    depth = ndimage.distance_transform_edt(labels > 0)
    ids = np.unique(labels[labels > 0])
    drawn = []
    for number in rng.permutation(ids)[:clicks]:
        y, x = np.unravel_index((depth * (labels == number)).argmax(), labels.shape)
        drawn.append((INTERIOR, np.array([(x + 0.5, y + 0.5)])))
    free = np.argwhere(ndimage.distance_transform_edt(labels == 0) >= FREE_PX)
    for y, x in free[rng.permutation(len(free))[:LINES]] if len(free) else ():
        angle = rng.uniform(0, 2 * np.pi)
        steps = np.arange(0, LENGTH_PX, 4)[:, None]
        line = np.array([x, y]) + 0.5 + steps * [np.cos(angle), np.sin(angle)]
        inside = ((line >= 0) & (line < labels.shape[::-1])).all(axis=1)
        rows, columns = (
            np.minimum(line[:, ::-1], np.array(labels.shape) - 1).astype(int).T.clip(0)
        )
        blocked = ~inside | (labels[rows, columns] > 0)
        drawn.append((BACKGROUND, line[: int(blocked.argmax()) or len(line)]))
    for value, line in drawn:
        window, inside, *_ = Strokes((line,)).fill(labels.shape)
        said[window][inside] = value
    return said


def folder_of(pairs: Sequence[Pair], where: Path, clicks: int = 0) -> Path:
    """Lay images out for `train` or `evaluate`, with scribbles or with all objects."""
    rng = np.random.default_rng(0)
    side = "scribbles" if clicks else "labels"
    for name in ("images", side):
        (where / name).mkdir(parents=True)
    for pair in pairs:
        (where / "images" / f"{pair.name}.tif").symlink_to(pair.image.resolve())
        labels = tifffile.imread(pair.annotation)
        if clicks:
            said = scribbles(labels, clicks, rng)
            truth = labels > 0
            right = (said == INTERIOR) == truth
            print(
                f"{pair.name}: {(said == 2).sum()} px inside, {(said == 1).sum()} px "
                f"background, {right[said > 0].mean():.1%} of them true"
            )
            tifffile.imwrite(where / side / f"{pair.name}.tif", said)
        else:
            (where / side / f"{pair.name}.tif").symlink_to(pair.annotation.resolve())
    return where


def told(what: str, folder: Path, model: str) -> GroupScores:
    (found,) = evaluate_model(folder, model=model).groups.values()
    (summary, *_), classes = list(found.summaries.values()), found.classes
    boundary = classes[-1]
    print(
        f"{what}: mean AP {summary.mean_ap.value:.3f}, F1@.5 "
        f"{summary.f1[0].value:.3f}, boundary precision {boundary.precision:.3f}, "
        f"recall {boundary.recall:.3f}, predicted px {boundary.predicted_pixels:,}",
        flush=True,
    )
    return found


def main(args: argparse.Namespace) -> None:
    card = store.find_model("nuclei").card
    held = {name.rpartition("/")[2] for name in card.validation}
    pairs = [p for p in find_pairs(args.data).pairs if p.name in held]
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        os.environ["CELLUNET_HOME"] = str(work / "home")
        found = told("all, before", folder_of(pairs, work / "all"), "nuclei")
        (form, *_) = found.scores.values()
        worst = sorted(form, key=lambda s: s.mean_ap)[: args.images]
        names = {s.name for s in worst}
        chosen = [p for p in pairs if p.name in names]
        # A training validates on something, here on scribbles too.
        spare, *others = [p for p in pairs if p.name not in names]
        here = folder_of(chosen, work / "here")
        away = folder_of(others, work / "away")
        said = folder_of(chosen, work / "said", args.clicks)
        held_out = folder_of([spare], work / "held-out", args.clicks)
        told("scribbled on, before", here, "nuclei")
        told("others, before", away, "nuclei")
        for rate in args.rates:
            config = TrainConfig(
                epochs=1,
                steps_per_epoch=args.steps,
                learning_rate=rate,
                warmup_steps=10,
                average_decay=0.95,
                weights=card.config.weights,
                encoding=card.config.encoding,
                network=card.config.network,
                normalization=card.config.normalization,
                augment=card.config.augment,
            )
            request = TrainRequest(
                data=(said,),
                validation=held_out,
                name=f"said-{rate:g}",
                config=config,
                start="nuclei",
            )
            done = train(request)
            for note in done.notes:
                print("  note:", note)
            told(f"scribbled on, after, rate {rate:g}", here, str(done.folder))
            told(f"others, after, rate {rate:g}", away, str(done.folder))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--clicks", type=int, default=10)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-4, 1e-3])
    main(parser.parse_args())
