"""Compare cellunet's matching with StarDist's on random pairs of label images.

StarDist's `stardist.matching` (Weigert et al. 2020) is a published implementation of
the same counts; importing it needs no TensorFlow. In an environment that has cellunet::

    pip install "stardist>=0.9"
    python benchmarks/matching_reference.py

Every pair is scored at IoU .50 to .95 by both. True positives, false positives, false
negatives, F1, AP ("accuracy" there) and the mean IoU of matches at .50 must agree.
StarDist compares IoU as binary fractions and matches by the largest sum of IoU; at the
ten thresholds neither changes a count. The exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from scipy import ndimage
from stardist.matching import matching, relabel_sequential

from cellunet.metrics.matching import MatchRule, score_image

RULE = MatchRule()
TOLERANCE = 1e-6


def draw_labels(rng: np.random.Generator) -> np.ndarray:
    """Return random labels: regions of noise, a Voronoi mosaic, rectangles or none."""
    height, width = rng.integers(6, 97, size=2)
    kind = rng.integers(4)
    if kind == 0:
        noise = ndimage.gaussian_filter(
            rng.random((height, width)), rng.uniform(0.5, 3)
        )
        return ndimage.label(noise > np.quantile(noise, rng.uniform(0.4, 0.9)))[0]
    labels = np.zeros((height, width), int)
    if kind == 1:
        count = rng.integers(2, 30)
        seeds = rng.random((count, 2)) * (height, width)
        yx = np.stack(np.mgrid[:height, :width], axis=-1)[:, :, None]
        distances = np.linalg.norm(yx - seeds, axis=-1)
        labels = distances.argmin(axis=-1) + 1
        labels[distances.min(axis=-1) > rng.uniform(3, 15)] = 0
    elif kind == 2:
        for number in range(1, rng.integers(2, 40)):
            top, left = rng.integers(0, height), rng.integers(0, width)
            tall, wide = rng.integers(1, 13, size=2)
            labels[top : top + tall, left : left + wide] = number
    return labels


def vary(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a prediction of `labels`: moved, cut, merged, grown and thinned out."""
    found = np.roll(labels, rng.integers(-2, 3, size=2), axis=(0, 1))
    highest = int(found.max(initial=0))
    if highest and rng.random() < 0.6:  # some objects go, some become one
        number = np.arange(highest + 1)
        number[rng.random(highest + 1) < 0.1] = 0
        joined = rng.random(highest + 1) < 0.2
        number[joined] = rng.integers(1, highest + 1)
        number[0] = 0
        found = number[found]
    if rng.random() < 0.5:  # cut all objects along a line
        half = rng.integers(0, found.shape[1] + 1)
        found = np.where((np.arange(found.shape[1]) < half) & (found > 0), 0, highest)
        found = np.where(labels > 0, labels + found, 0)
    if rng.random() < 0.5:
        found = ndimage.grey_dilation(found, size=(2, 3))
    return np.where(rng.random(found.shape) < rng.choice([0, 0.05, 0.3]), 0, found)


def draw_pair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return true and predicted labels of one shape; some are exact halves."""
    labels = draw_labels(rng)
    if rng.random() < 0.1:  # IoU of exactly 1/2: each run of columns in two halves
        labels = np.repeat(np.arange(1, 13), 4)[None, :].repeat(8, axis=0)
        halves = np.repeat(np.arange(1, 25), 2)[None, :].repeat(8, axis=0)
        return (labels, halves) if rng.random() < 0.5 else (halves, labels)
    return labels, vary(labels, rng)


def differences(labels: np.ndarray, found: np.ndarray) -> list[str]:
    """Return what the two implementations do not agree on, in words."""
    ours = score_image(labels, found, name="", forms={"it": RULE})["it"]
    true, predicted = (relabel_sequential(x)[0] for x in (labels, found))
    wrong = []
    for k, t20 in enumerate(RULE.t20):
        theirs = matching(true, predicted, thresh=t20 / 20)
        pairs = {
            "tp": (ours.tp[k], theirs.tp),
            "fp": (ours.fp[k], theirs.fp),
            "fn": (ours.fn[k], theirs.fn),
        }
        if true.any() or predicted.any():  # StarDist scores two empty images 0
            pairs["F1"] = (ours.f1[k], theirs.f1)
            pairs["AP"] = (ours.ap[k], theirs.accuracy)
        if k == 0:
            iou = ours.mean_matched_iou or 0.0
            pairs["mean matched IoU"] = (iou, theirs.mean_matched_score)
        wrong += [
            f"{name} at {t20 / 20:.2f}: {one}, StarDist {other}"
            for name, (one, other) in pairs.items()
            if abs(one - other) > TOLERANCE
        ]
    return wrong


def main() -> int:
    """Compare, print one summary, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000, help="pairs to draw")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    start = time.perf_counter()
    wrong = matched = empty = halves = 0
    for number in range(arguments.pairs):
        labels, found = draw_pair(rng)
        scores = score_image(labels, found, name="", forms={"it": RULE})["it"]
        strict = score_image(
            labels, found, name="", forms={"it": MatchRule(strict=True)}
        )["it"]
        matched += sum(scores.tp)
        empty += not (labels.any() and found.any())
        halves += scores.tp[0] != strict.tp[0]
        for text in differences(labels, found):
            print(f"pair {number}: {text}")
            wrong += 1
    print(
        f"{arguments.pairs} pairs, {matched} matches over {len(RULE.t20)} thresholds, "
        f"{empty} pairs with an empty side, {halves} with an IoU of exactly .5: "
        f"{wrong} differences ({time.perf_counter() - start:.0f} s)"
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
