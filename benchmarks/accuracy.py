"""Score a model, a folder of masks, or Otsu's threshold on the annotated images.

    python benchmarks/accuracy.py DATA                        # the shipped model
    python benchmarks/accuracy.py DATA --model u2os
    python benchmarks/accuracy.py DATA --masks FOLDER --name "another tool"
    python benchmarks/accuracy.py DATA --otsu

DATA holds the folders `bbbc039` and `dsb2018-fluorescence`. Scored are the 50 official
validation images of BBBC039, and those images of the Data Science Bowl that neither the
shipped model nor the one to score was trained on. Each call replaces its own entry of
`benchmarks/accuracy.json`, then the tables between the marks in docs/accuracy.md are
written anew from all entries.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed
from tables import rewrite

from cellunet import store
from cellunet.annotations.pairs import Pair, find_pairs, fingerprint
from cellunet.annotations.read import read_annotation
from cellunet.command_config import EvaluateConfig, PredictConfig
from cellunet.engine.onnx import operations_per_pixel
from cellunet.io.images import open_image
from cellunet.io.scratch import Scratch
from cellunet.io.source import Region
from cellunet.tasks.evaluate import Scorable, score_pairs
from cellunet.tasks.predict.plane import as_labels, segment
from cellunet.tasks.predict.settings import settings_for
from cellunet.tasks.predict.sizes import settings_by_size
from cellunet.tasks.train.data import read_annotated

HERE = Path(__file__).parent
RESULTS = HERE / "accuracy.json"
PARTS = {
    "bbbc039": "BBBC039 validation",
    "dsb2018-fluorescence": "Data Science Bowl, kept out",
}

Segment = Callable[[Pair], np.ndarray]


def pixels(pair: Pair) -> np.ndarray:
    with open_image(pair.image) as source:
        height, width = source.shape
        return source.read(Region(0, 0, height, 0, width))[0]


def by_model(name: str, *, flips: bool) -> Segment:
    config = PredictConfig(flips=flips)
    model = store.find_model(name)
    recipe = settings_for(model, config, "auto", "auto", 0)

    def of(pair: Pair) -> np.ndarray:
        with open_image(pair.image) as source, Scratch() as scratch:
            chosen = settings_by_size(source, recipe, config, model.card)
            return as_labels(segment(source, 0, chosen.recipe, scratch).bands())

    return of


def by_masks(folder: Path) -> Segment:
    def segment(pair: Pair) -> np.ndarray:
        found = [
            p
            for p in sorted(folder.iterdir())
            if p.stem.removesuffix("_cp_masks").removesuffix("_masks") == pair.name
        ]
        if len(found) != 1:
            raise SystemExit(f"{folder} has {len(found)} files for {pair.name}.")
        return read_annotation(found[0], kind="labels").labels

    return segment


def by_otsu(pair: Pair) -> np.ndarray:
    return otsu_watershed(pixels(pair))


def otsu_watershed(plane: np.ndarray) -> np.ndarray:
    """Segment with Otsu's threshold and a watershed from the distance's maxima."""
    smooth = gaussian(plane.astype(np.float32), 1)
    if smooth.min() == smooth.max():
        return np.zeros(smooth.shape, np.int32)
    mask = ndimage.binary_fill_holes(smooth > threshold_otsu(smooth))
    distance = gaussian(ndimage.distance_transform_edt(mask), 1)
    peaks = peak_local_max(distance, min_distance=7, labels=ndimage.label(mask)[0])
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-distance, markers, mask=mask)


def chosen(data: Path, trained: set[str]) -> dict[str, list[Pair]]:
    """Return the pairs of each part that are not trained on (fingerprints)."""
    bbbc = find_pairs(data / "bbbc039")
    official = set(bbbc.validation or ())
    dsb = find_pairs(data / "dsb2018-fluorescence")
    return {
        "bbbc039": [p for p in bbbc.pairs if p.name in official],
        "dsb2018-fluorescence": [
            p for p in dsb.pairs if fingerprint(pixels(p)[np.newaxis]) not in trained
        ],
    }


def measured(pairs: list[Pair], segment: Segment) -> dict[str, Any]:
    """Return the figures of one part."""
    sizes: dict[str, list[str]] = defaultdict(list)
    scorables = []
    for pair in pairs:
        true, predicted = read_annotated(pair).labels, segment(pair)
        scorables.append(Scorable(name=pair.name, labels=true, predicted=predicted))
        sizes[f"{true.shape[0]} x {true.shape[1]}"].append(pair.name)
    standard = score_pairs(scorables).unseen
    caicedo = score_pairs(scorables, config=EvaluateConfig(protocol="caicedo2019"))
    assert standard is not None  # noqa: S101
    assert caicedo.unseen is not None  # noqa: S101
    summary = standard.summaries["all"]
    rest = summary.with_true_objects
    by_name = {s.name: s for s in standard.scores["all"]}
    return {
        "images": len(pairs),
        "mean_ap": interval(summary.mean_ap),
        "mean_ap_with_objects": interval(rest.mean_ap) if rest else None,
        "mean_ap_small_ignored": interval(standard.summaries["small_ignored"].mean_ap),
        "f1_50": interval(summary.f1_at(10)),
        "f1_70": interval(summary.f1_at(14)),
        "f1_90": interval(summary.f1_at(18)),
        "average_f1": interval(caicedo.unseen.summaries["plain"].mean_f1),
        "true_objects": summary.totals.true_objects,
        "missed": summary.totals.missed,
        "extra": summary.totals.extra,
        "merges": summary.totals.merges,
        "splits": summary.totals.splits,
        "ap": [round(e.value, 4) for e in summary.ap],
        "by_size": {
            size: {
                "images": len(names),
                "mean_ap": mean([by_name[n].mean_ap for n in names]),
                "f1_50": mean([by_name[n].f1[0] for n in names]),
            }
            for size, names in sorted(sizes.items())
        },
        "worst": sorted((round(s.mean_ap, 4), s.name) for s in by_name.values())[:5],
    }


def mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 4)


def interval(estimate: Any) -> list[float]:  # noqa: ANN401
    return [round(v, 4) for v in (estimate.value, estimate.low, estimate.high)]


def tables(results: dict[str, Any]) -> str:
    """Return what stands between the marks of docs/accuracy.md."""
    return "\n\n".join(
        f"### {title}\n\n{long_table(results, part)}" for part, title in PARTS.items()
    )


def bracketed(values: list[float]) -> str:
    value, low, high = values
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def long_table(results: dict[str, Any], part: str) -> str:
    names = {
        "mean_ap": "mean AP, IoU .50 to .95",
        "mean_ap_with_objects": "the same, images with a nucleus",
        "mean_ap_small_ignored": "the same, true objects under 25 px nobody's error",
        "f1_50": "F1 at .50",
        "f1_70": "F1 at .70",
        "f1_90": "F1 at .90",
        "average_f1": "average F1 (caicedo2019, no dilation)",
    }
    counts = ("true_objects", "missed", "extra", "merges", "splits")
    entries = {n: e["parts"][part] for n, e in results.items() if part in e["parts"]}
    rows = [
        "| | " + " | ".join(entries) + " |",
        "| --- |" + " --- |" * len(entries),
    ]
    for key, title in names.items():
        cells = (bracketed(e[key]) for e in entries.values())
        rows.append(f"| {title} | " + " | ".join(cells) + " |")
    for key in counts:
        cells = (f"{e[key]:,}" for e in entries.values())
        rows.append(f"| {key.replace('_', ' ')} | " + " | ".join(cells) + " |")
    for size in next(iter(entries.values()))["by_size"]:
        cells = (f"{e['by_size'][size]['mean_ap']:.3f}" for e in entries.values())
        images = next(iter(entries.values()))["by_size"][size]["images"]
        rows.append(
            f"| mean AP of the {images} images of {size} | " + " | ".join(cells) + " |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", default="nuclei")
    what.add_argument("--masks", type=Path, help="a folder of label images")
    what.add_argument("--otsu", action="store_true")
    parser.add_argument("--flips", action="store_true", help="with the setting flips")
    parser.add_argument("--name", help="name of the row")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    args = parser.parse_args()
    shipped = store.find_model("nuclei").card
    trained = set(shipped.training.values())
    entry: dict[str, Any] = {}
    if args.otsu:
        name, segment = "Otsu + watershed", by_otsu
    elif args.masks:
        name, segment = args.masks.name, by_masks(args.masks)
    else:
        card = store.find_model(args.model).card
        name = f"`{args.model}`" + " with `flips`" * args.flips
        segment = by_model(args.model, flips=args.flips)
        trained |= set(card.training.values())
        cost = operations_per_pixel(card.config.network)
        entry["kflop_per_px"] = round(cost / 1e3, 1)
        entry["decode"] = card.config.decode.to_dict()
    parts = chosen(args.data, trained)
    entry["parts"] = {p: measured(parts[p], segment) for p in args.parts}
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results[args.name or name] = entry
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(entry["parts"], indent=1))
    rewrite(HERE.parent / "docs" / "accuracy.md", "accuracy", tables(results))


if __name__ == "__main__":
    main()
