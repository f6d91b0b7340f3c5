"""How well outlines are placed, and how much of the error two models share.

    python benchmarks/outlines.py DATA MODEL [OTHER]

On the 50 BBBC039 validation images: the error of each nucleus's radius (that of the
circle of its area, predicted minus annotated) by size and by brightness, for nuclei of
at least 100 pixels matched at IoU .70. With a second model, trained from other random
weights: what part of the error is common to both. What two networks get wrong alike is
not chance in their training.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
from accuracy import by_model, pixels
from scipy import ndimage

from cellunet.annotations.pairs import find_pairs
from cellunet.annotations.read import read_labels
from cellunet.metrics.matching import score_image

MATCH, LEAST_PX = 0.7, 100
SIZES_PX = (5, 8, 11, 13, 15, 18, 40)
SHARES = (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0)
"""Of the nuclei, dimmest first."""


def radii(true: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each true object the radius of its best match, and their IoU."""
    table = np.zeros((int(true.max()) + 1, int(found.max()) + 1), np.int64)
    np.add.at(table, (true.ravel(), found.ravel().astype(np.int64)), 1)
    mine, theirs = table.sum(axis=1), table.sum(axis=0)
    iou = table / np.maximum(mine[:, None] + theirs[None] - table, 1)
    iou[0] = 0
    iou[:, 0] = 0
    best = iou.argmax(axis=1)
    return np.sqrt(theirs[best] / np.pi), iou[np.arange(len(best)), best]


def brightness(true: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return the median of each true object, on the range that the image spans."""
    numbers = np.arange(int(true.max()) + 1)
    low, high = np.percentile(image, 1), float(image.max())
    return (ndimage.median(image, true, numbers) - low) / max(high - low, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("other", nargs="?")
    options = parser.parse_args()
    models = [m for m in (options.model, options.other) if m]
    pairs = find_pairs(options.data / "bbbc039")
    held = set(pairs.validation or ())
    segment = [by_model(name, flips=False) for name in models]
    rows, agreement = [], []
    for pair in (p for p in pairs.pairs if p.name in held):
        true = read_labels(pair.annotation)
        radius = np.sqrt(np.bincount(true.ravel()) / np.pi)
        masks = [s(pair).astype(np.int32) for s in segment]
        found = [radii(true, m) for m in masks]
        good = np.bincount(true.ravel()) >= LEAST_PX
        for _, iou in found:
            good &= iou >= MATCH
        off = [r[good] - radius[good] for r, _ in found]
        bright = brightness(true, pixels(pair))
        rows.append(np.stack([*off, radius[good], bright[good]], axis=1))
        if len(masks) == 2 and masks[0].any():
            agreement.append(score_image(*masks, name=pair.name)["all"].mean_ap)
    table = np.concatenate(rows)
    errors, radius, bright = table[:, :-2], table[:, -2], table[:, -1]
    steps = np.quantile(bright, SHARES)
    for name, error in zip(models, errors.T, strict=True):
        print(f"{name}: bias {error.mean():+.3f}, spread {error.std():.3f} px")
        for low, high in pairwise(SIZES_PX):
            one = error[(radius >= low) & (radius < high)]
            print(
                f"  radius {low} to {high} px: {len(one)} nuclei, "
                f"bias {one.mean():+.2f}, spread {one.std():.2f} px"
            )
        for low, high in pairwise(steps):
            one = error[(bright >= low) & (bright <= high)]
            print(
                f"  brightness {low:.2f} to {high:.2f} of the range: bias "
                f"{one.mean():+.2f}, spread {one.std():.2f} px"
            )
    if errors.shape[1] == 2:
        common = np.cov(errors.T)
        own = [np.sqrt(max(common[i, i] - common[0, 1], 0)) for i in range(2)]
        print(f"common spread {np.sqrt(common[0, 1]):.3f} px", end=", ")
        print(f"each model's own {own[0]:.3f} and {own[1]:.3f} px", end=", ")
        print(f"correlation {np.corrcoef(errors.T)[0, 1]:.3f}")
        print(f"one model scored against the other: mean AP {np.mean(agreement):.3f}")


if __name__ == "__main__":
    main()
