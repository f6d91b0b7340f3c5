"""Measure how the confidence of an object relates to its being right.

    python benchmarks/confidence.py DATA [--model NAME] [--json FILE] [--picture FILE]

DATA holds `bbbc039` and `dsb2018-fluorescence`. Of both, the images are taken that the
model's card lists for validation: its weights never saw them (its decode constants were
chosen on them). Every object that the model finds is compared with the annotated object
that it overlaps most; it is right at IoU .50 or .75.

Several definitions of confidence are compared by the area under the ROC curve: the
chance that a right object has a higher confidence than a wrong one. Which definition is
best is cross-fitted: chosen on every other image, scored on the rest, and the other way
round. So is a logistic calibration, told for comparison; cellunet applies none.

The picture needs matplotlib.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.optimize import minimize
from scipy.stats import rankdata

from cellunet import store
from cellunet.annotations.pairs import find_pairs, fingerprint
from cellunet.command_config import MODEL, PredictConfig
from cellunet.imaging.measure import EVIDENCE_TOP, pixel_confidence
from cellunet.imaging.targets import BACKGROUND, INTERIOR
from cellunet.io.images import open_image
from cellunet.io.scratch import Scratch
from cellunet.io.source import Region
from cellunet.metrics.matching import overlaps
from cellunet.tasks.predict.plane import as_labels, segment_plane
from cellunet.tasks.predict.settings import settings_for
from cellunet.tasks.train.data import read_annotated

SETS = ("bbbc039", "dsb2018-fluorescence")
RIGHT = (0.5, 0.75)
EDGES = np.array([0.0, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0])
"""Of the bins of confidence; of three classes the likeliest has more than 1/3."""
DRAWN = 10
"""Fewest objects of a bin that is drawn; all are in the figures."""
SHIPPED = "mean of the likeliest class"


def definitions(
    probabilities: np.ndarray, labels: np.ndarray, ids: np.ndarray
) -> dict[str, np.ndarray]:
    """Return each definition's confidence of every object."""

    def mean(values: np.ndarray) -> np.ndarray:
        return ndimage.mean(values, labels, ids)

    foreground = 1 - probabilities[BACKGROUND]
    return {
        # As shipped, rounded to a byte a pixel.
        SHIPPED: mean(pixel_confidence(probabilities)) / EVIDENCE_TOP,
        "mean foreground": mean(foreground),
        "mean distance from undecided": mean(np.abs(2 * foreground - 1)),
        "greatest interior": ndimage.maximum(probabilities[INTERIOR], labels, ids),
        "mean foreground x greatest interior": mean(foreground)
        * ndimage.maximum(probabilities[INTERIOR], labels, ids),
    }


def objects(data: Path, name: str) -> Iterator[tuple[str, str, np.ndarray, dict]]:
    """Yield set, image, IoU of every object and its confidences, image by image."""
    model = store.find_model(name)
    recipe = settings_for(model, PredictConfig(), "auto", "auto", 0)
    known = set(model.card.validation.values())
    for folder in SETS:
        for pair in find_pairs(data / folder).pairs:
            with open_image(pair.image) as source:
                height, width = source.shape
                pixels = source.read(Region(0, 0, height, 0, width))
                if fingerprint(pixels) not in known:
                    continue
                bands: list[np.ndarray] = []
                with Scratch() as scratch:
                    found = segment_plane(
                        source,
                        0,
                        recipe,
                        scratch,
                        lambda y0, rows, kept=bands: kept.append(rows),
                    )
                    labels = as_labels(found.bands()).astype(np.int64)
            table = overlaps(read_annotated(pair).labels, labels)
            iou = np.zeros(len(table.predicted_ids))
            shared = table.intersections / table.unions
            np.maximum.at(iou, table.pair_predicted, shared)
            if len(iou):
                probabilities = np.concatenate(bands, axis=1)
                found = definitions(probabilities, labels, table.predicted_ids)
                yield folder, pair.name, iou, found


def auc(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the area under the ROC curve (Mann-Whitney, ties count half)."""
    positive = int(right.sum())
    negative = len(right) - positive
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(confidence)[right].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the mean distance of confidence and share right over the bins."""
    total = 0.0
    for chosen in bins(confidence):
        if chosen.any():
            off = abs(confidence[chosen].mean() - right[chosen].mean())
            total += off * chosen.mean()
    return float(total)


def bins(confidence: np.ndarray) -> list[np.ndarray]:
    place = np.clip(np.searchsorted(EDGES, confidence, "right") - 1, 0, len(EDGES) - 2)
    return [place == k for k in range(len(EDGES) - 1)]


def logistic(
    confidence: np.ndarray, right: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a calibration: a logistic function of the log odds of confidence."""

    def odds(values: np.ndarray) -> np.ndarray:
        safe = np.clip(values, 1e-3, 1 - 1e-3)
        return np.log(safe / (1 - safe))

    def loss(line: np.ndarray) -> float:
        z = line[0] + line[1] * odds(confidence)
        return float(np.logaddexp(0, np.where(right, -z, z)).mean())

    a, b = minimize(loss, np.array([0.0, 1.0])).x
    return lambda values: 1 / (1 + np.exp(-(a + b * odds(values))))


def interval(right: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    n, p, z = len(right), right.mean(), 1.96
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return float(middle - half), float(middle + half)


def summarize(iou: np.ndarray, half: np.ndarray, scores: dict) -> dict:
    """Return all figures of one set of objects; `half` is 0 or 1 by image."""
    result: dict = {"objects": len(iou)}
    for threshold in RIGHT:
        right = iou >= threshold
        raw = scores[SHIPPED]
        areas = {name: auc(values, right) for name, values in scores.items()}
        chosen, fair, calibrated = [], [], np.empty_like(raw)
        for side in (0, 1):
            rest = half != side
            best = max(scores, key=lambda n, r=rest, w=right: auc(scores[n][r], w[r]))
            chosen.append(best)
            fair.append(auc(scores[best][~rest], right[~rest]))
            calibrated[~rest] = logistic(raw[rest], right[rest])(raw[~rest])
        result[f"iou_{threshold}"] = {
            "share_right": float(right.mean()),
            "auc": areas,
            "chosen_by_halves": chosen,
            "auc_cross_fitted": fair,
            "calibration_error": calibration_error(raw, right),
            "calibration_error_logistic_cross_fitted": calibration_error(
                calibrated, right
            ),
            "bins": [
                {
                    "from": float(EDGES[k]),
                    "to": float(EDGES[k + 1]),
                    "objects": int(inside.sum()),
                    "confidence": float(raw[inside].mean()),
                    "right": float(right[inside].mean()),
                    "interval": interval(right[inside]),
                }
                for k, inside in enumerate(bins(raw))
                if inside.any()
            ],
        }
    return result


def draw(results: dict, path: Path) -> None:
    """Draw the reliability of the shipped definition."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    colors = {"0.5": "#0072b2", "0.75": "#d55e00"}
    figure, panels = plt.subplots(
        2, len(results), figsize=(4.6 * len(results), 5.4), sharex=True,
        height_ratios=(3, 1), layout="constrained",
    )  # fmt: skip
    for column, (name, result) in enumerate(results.items()):
        top, below = panels[:, column]
        top.plot([0.3, 1], [0.3, 1], color="#999", lw=1, ls=":")
        for threshold in RIGHT:
            every = result[f"iou_{threshold}"]["bins"]
            rows = [r for r in every if r["objects"] >= DRAWN]
            x = [r["confidence"] for r in rows]
            y = [r["right"] for r in rows]
            error = np.abs(np.array([r["interval"] for r in rows]).T - y)
            top.errorbar(
                x, y, error, color=colors[str(threshold)], marker="o", ms=4, lw=1.6,
                capsize=2, label=f"right at IoU {threshold:.2f}",
            )  # fmt: skip
        top.set(title=f"{name}, {result['objects']:,} objects", ylim=(0, 1.02))
        widths = [r["to"] - r["from"] for r in every]
        below.bar(
            [r["from"] for r in every], [r["objects"] for r in every], widths,
            align="edge", color="#bbb", edgecolor="white",
        )  # fmt: skip
        below.set(xlabel="confidence", xlim=(0.33, 1))
        if not column:
            top.set_ylabel("share of objects that are right")
            below.set_ylabel("objects")
            top.legend(loc="lower right", frameon=False)
        for panel in (top, below):
            panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    found = list(objects(options.data, options.model))
    results = {}
    for folder in SETS:
        mine = [row for row in found if row[0] == folder]
        if not mine:
            continue
        half = np.concatenate(
            [np.full(len(row[2]), k % 2) for k, row in enumerate(mine)]
        )
        scores = {n: np.concatenate([row[3][n] for row in mine]) for n in mine[0][3]}
        results[folder] = {
            "images": len(mine),
            **summarize(np.concatenate([row[2] for row in mine]), half, scores),
        }
    print(json.dumps(results, indent=1))
    if options.json:
        document = {"model": options.model, "results": results}
        text = json.dumps(document, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.picture:
        draw(results, options.picture)


if __name__ == "__main__":
    main()
