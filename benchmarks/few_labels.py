"""How many labels? Score models that were trained on few annotated images.

    python benchmarks/few_labels.py DATA --preset default --from scratch --steps 600
    python benchmarks/few_labels.py DATA --preset classic --from scratch --steps 300
    python benchmarks/few_labels.py DATA --kind plant-nuclei
    python benchmarks/few_labels.py --table --plot

DATA holds `bbbc039`, `dsb2018-fluorescence` and `zoo`. From the training images of a
kind nested subsets are drawn; each is what `cellunet train FOLDER --preset P --from M`
is given, and what comes out is scored on images of that kind which neither the weights
nor the constants of the model have seen: the 50 validation images of BBBC039, another
stack, or images of the Data Science Bowl that were kept out. `--steps` is the budget of
each training, the same for every number of images. All sizes are drawn once before any
is drawn again. One JSON line a training in `benchmarks/few_labels.jsonl`; what has one
is not run again. At the end of `--minutes` a training is saved within a step, and the
same call goes on with it.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tables

from cellunet import store
from cellunet.annotations.pairs import Pair, find_pairs
from cellunet.command_config import MODEL, SCRATCH, SplitConfig
from cellunet.config import TrainConfig
from cellunet.core.checkpoint import read_state
from cellunet.io.images import open_image
from cellunet.outputs import charts
from cellunet.presets import PRESETS
from cellunet.tasks.evaluate import evaluate_model
from cellunet.tasks.train.data import ChannelChoice, read_sample
from cellunet.tasks.train.request import Hooks, TrainRequest
from cellunet.tasks.train.train import train

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULTS = Path(__file__).with_name("few_labels.jsonl")
STUDY = Path(__file__).parents[1] / "docs" / "study.md"
PICTURE = STUDY.parent / "pictures" / "few-labels-scores.svg"
BBBC039 = "bbbc039"
DSB = {"256x256": 50, "360x360": 30, "512x640": 4}
"""Of the Data Science Bowl, by image size: images that are kept to be scored."""
ZOO = ("plant-nuclei", "qcanet-embryo")
"""Slices of two stacks each: one to train on, one to score."""
DRAWS = {
    (BBBC039, "few"): {0: 1, 1: 5, 2: 5, 5: 5, 10: 3, 20: 3, 100: 1},
    (BBBC039, "default"): dict.fromkeys((1, 2, 5, 10, 20, 50, 100), 3),
    (BBBC039, "classic"): dict.fromkeys((5, 20, 100), 1),
    ("512x640", "few"): {0: 1, 1: 3, 5: 3},
}
"""How many draws of how many images, by kind and preset."""
STUDIED = ((BBBC039, "default"), (BBBC039, "classic"))
OTHER_DRAWS = {0: 1} | dict.fromkeys((1, 2, 5, 10), 3)
FOLDS = 3
EPOCHS = {"few": 2, "default": 2, "classic": 15}
"""Into how many epochs `--steps` are divided; each ends with a validation."""
SCORES = {"mean_ap": "mean AP", "f1_50": "F1 at .50", "f1_90": "F1 at .90"}
SERIES = ("kind", "preset", "start", "steps")
"""What the trainings of one curve have in common."""
ZERO = 0.5
"""Where no image stands on the logarithmic axis."""
Points = dict[int, list[dict[str, Any]]]
"""Results by number of images."""


@dataclass(frozen=True)
class Sample:
    """A kind of sample: what may be trained on, and what is scored."""

    name: str
    training: list[Pair]
    held: list[Pair]


def sample_of(data: Path, kind: str) -> Sample:
    """Return a kind with the images that are kept out of every training."""
    if kind in ZOO:
        pairs = sorted(find_pairs(data / "zoo" / kind).pairs, key=lambda p: p.name)
        stacks = [pair.name.rpartition("_z")[0] for pair in pairs]
        mine = [stack == stacks[0] for stack in stacks]
    elif kind == BBBC039:
        found = find_pairs(data / BBBC039)
        mine = [pair.name in set(found.train or ()) for pair in found.pairs]
        pairs = list(found.pairs)
    else:
        shape = tuple(map(int, kind.split("x")))
        every = find_pairs(data / "dsb2018-fluorescence").pairs
        pairs = order_of(0, [pair for pair in every if shape_of(pair) == shape])
        mine = [number >= DSB[kind] for number in range(len(pairs))]
    sides = list(zip(pairs, mine, strict=True))
    return Sample(
        kind, [p for p, own in sides if own], [p for p, own in sides if not own]
    )


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
        "mean_ap": summary.mean_ap.value,
        "f1_50": summary.f1_at(10).value,
        "f1_90": summary.f1_at(18).value,
    }


def settings(preset: str, steps: int) -> TrainConfig:
    """Return a preset with a budget of steps; 0: its own."""
    config = PRESETS[preset]
    if steps:
        epochs = EPOCHS[preset]
        config = config.replace(epochs=epochs, steps_per_epoch=steps // epochs)
    return config


def run(
    sample: Sample, about: dict[str, Any], threads: int, should_stop: Callable[[], bool]
) -> dict[str, Any] | None:
    """Train on a subset and score; None if it was stopped before its end."""
    if not about["images"]:
        return (
            about | {"nuclei": 0, "minutes": 0.0} | figures(about["start"], sample.held)
        )
    begin = time.monotonic()
    name = "few-" + "-".join(map(str, about.values()))
    folder = store.model_folder(name)
    # Seconds of earlier slices, which the state does not know.
    clock, state = folder / "seconds.txt", folder / store.STATE_FILE
    resume = state.is_file()
    before = float(clock.read_text()) if resume and clock.is_file() else 0.0
    chosen = order_of(about["draw"], sample.training)[: about["images"]]
    config = settings(about["preset"], about["steps"]).replace(seed=about["draw"])
    # A single image can only be cut; `few` cuts and deals for itself.
    folds = min(FOLDS, max(len(chosen), 2)) if about["preset"] == "few" else 0
    with tempfile.TemporaryDirectory() as temporary:
        subset = Path(temporary) / "subset"
        write_subset(subset, chosen)
        trained = train(
            TrainRequest(
                data=(subset,),
                name=name,
                # What was asked for when it began is what goes on.
                config=store.read_config(read_state(state)["config"])
                if resume
                else config,
                split=SplitConfig(folds=2 if len(chosen) == 1 else folds),
                start=about["start"],
                threads=threads,
                resume=resume,
                overwrite=not resume,
            ),
            Hooks(should_stop=should_stop),
        )
    seconds = before + time.monotonic() - begin
    clock.write_text(str(seconds))
    if not trained.finished:
        return None
    labels = [read_sample(pair, ChannelChoice()).labels for pair in chosen]
    result = about | {
        "images": len(chosen),
        "nuclei": sum(len(np.unique(one)) - 1 for one in labels),
        "minutes": round(seconds / 60, 2),
        "threads": threads,
        "epochs": trained.epoch,
        "kept_start": trained.kept_start,
        "expected": asdict(trained.expected) if trained.expected else None,
        "decode": trained.decode.to_dict() if trained.decode else None,
    }
    result |= figures(name, sample.held)
    shutil.rmtree(folder)
    return result


def done() -> list[dict[str, Any]]:
    """Return the results that there are."""
    if not RESULTS.is_file():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def planned(sample: Sample, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what is known of each training before it: the first draws come first."""
    preset, start = options.preset, options.start
    steps = options.steps or (PRESETS[preset].steps_per_epoch * PRESETS[preset].epochs)
    plan = []
    for count, draws in DRAWS.get((sample.name, preset), OTHER_DRAWS).items():
        for draw in range(draws if count or start != SCRATCH else 0):
            about = {"kind": sample.name, "preset": preset, "start": start}
            about |= {"images": min(count, len(sample.training)), "draw": draw}
            plan.append(about | {"steps": steps * bool(count)})
    return sorted(plan, key=lambda about: about["draw"])


def curves() -> dict[tuple[Any, ...], Points]:
    """Return the points of each series, the score of what it starts from with them."""
    found: dict[tuple[Any, ...], Points] = defaultdict(lambda: defaultdict(list))
    rows = sorted(done(), key=lambda row: row["images"])
    for row in filter(lambda row: row["images"], rows):
        key = tuple(row[name] for name in SERIES)
        found[key][row["images"]].append(row)
    for row in filter(lambda row: not row["images"], rows):
        for key in found:
            if (row["kind"], row["start"]) == (key[0], key[2]):
                found[key][0].append(row)
    return {key: dict(sorted(found[key].items())) for key in sorted(found)}


def spread(rows: list[dict[str, Any]], name: str) -> tuple[float, float, float]:
    """Return mean, lowest and highest of a score over the draws."""
    values = [row[name] for row in rows]
    return float(np.mean(values)), min(values), max(values)


def table() -> None:
    """Write mean and range over the draws into the study."""
    lines = []
    for key, points in curves().items():
        for count, rows in points.items() if key[0] not in DSB else ():
            cells = [*map(str, key), str(count), str(len(rows))]
            for name in SCORES:
                mean, low, high = spread(rows, name)
                several = f" ({low:.3f} to {high:.3f})" * (len(rows) > 1)
                cells.append(f"{mean:.3f}{several}")
            lines.append([*cells, f"{np.mean([row['minutes'] for row in rows]):.1f}"])
    head = [*SERIES, "images", "draws", *SCORES.values(), "minutes"]
    text = f"{progress()}\n\n{tables.table(head, lines)}"
    tables.rewrite(STUDY, "few-labels", text)


def progress() -> str:
    """Return how many of the trainings of the study have a result."""
    words = []
    for kind, preset in (*STUDIED, *((kind, "few") for kind in ZOO)):
        plan = DRAWS.get((kind, preset), OTHER_DRAWS)
        planned = sum(draws for count, draws in plan.items() if count)
        mine = [r for r in done() if (r["kind"], r["preset"]) == (kind, preset)]
        run = sum(row["images"] > 0 for row in mine)
        words.append(f"{kind} with `{preset}` {run} of {planned}")
    return f"Trainings that are finished: {', '.join(words)}."


def plot() -> None:
    """Draw mean AP against the number of images: mean and range over the draws."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(charts.SETTINGS):
        figure = Figure(figsize=(12, 4.4), layout="constrained")
        there = {key[0] for key in curves()}
        kinds = [kind for kind in (BBBC039, *ZOO) if kind in there]
        ratios = [2 if kind == BBBC039 else 1 for kind in kinds]
        panels = figure.subplots(1, len(kinds), width_ratios=ratios, squeeze=False)[0]
        for axes, kind in zip(panels, kinds, strict=True):
            axes.set(title=kind, xscale="log", xlabel="annotated images (0: the start)")
            counts = set()
            for key, points in curves().items():
                if key[0] == kind:
                    draw_curve(axes, points, "{1}, {3} steps, from {2}".format(*key))
                    counts |= set(points)
            axes.set_xticks([max(n, ZERO) for n in sorted(counts)], sorted(counts))
            axes.minorticks_off()
            axes.grid(axis="y", color="#e5e5e5")
            # The legend lies above the points, or below them.
            axes.margins(y=0.2)
            axes.legend(
                frameon=False,
                fontsize=9,
                loc="upper left" if kind in ZOO else "lower right",
            )
        panels[0].set_ylabel("mean AP on images not trained on")
    text = charts.svg(figure, "Mean AP against annotated images")
    PICTURE.write_text(text, encoding="utf-8")


def draw_curve(axes: "Axes", points: Points, label: str) -> None:
    scores = [spread(rows, "mean_ap") for rows in points.values()]
    means = [mean for mean, _, _ in scores]
    around = [[m - low for m, low, _ in scores], [high - m for m, _, high in scores]]
    places = [max(count, ZERO) for count in points]
    axes.errorbar(places, means, yerr=around, fmt="o-", capsize=2, label=label)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--kind", choices=[BBBC039, *DSB, *ZOO], default=BBBC039)
    parser.add_argument("--preset", choices=EPOCHS, default="few")
    parser.add_argument("--from", dest="start", default=MODEL)
    parser.add_argument("--steps", type=int, default=0, help="0: as the preset has")
    parser.add_argument("--minutes", type=float, default=24 * 60)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--plot", action="store_true")
    options = parser.parse_args()
    if options.data and options.start == MODEL and options.kind not in ZOO:
        parser.error(f"{MODEL} was trained on images of this kind: --from another")
    if options.data and not (options.steps or PRESETS[options.preset].steps_per_epoch):
        parser.error(f"{options.preset} has no number of steps of its own: --steps")
    stop_at = time.monotonic() + 60 * options.minutes
    sample = sample_of(options.data, options.kind) if options.data else None
    for about in planned(sample, options) if sample else ():
        if any(about.items() <= row.items() for row in done()):
            continue
        row = run(sample, about, options.threads, lambda: time.monotonic() > stop_at)
        if row is None:
            print(f"stopped in {about}; the same call goes on with it")
            return
        with RESULTS.open("a") as out:
            out.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    if options.table:
        table()
    if options.plot:
        plot()


if __name__ == "__main__":
    main()
