"""How often a check notices labels that were moved, or given to another image.

``python benchmarks/checks.py FOLDER``: every image with an object, its labels moved by
1 to 8 px, and all labels passed on to the next image of the same size. Then how often
three, five or ten images next to each other are told to be moved alike.
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from cellunet.annotations.check import (
    LabelFit,
    better_partners,
    brightness,
    common_shift,
    fit_of,
    small_picture,
)
from cellunet.annotations.pairs import find_annotations
from cellunet.config import CheckConfig
from cellunet.tasks.check_labels import read_labels_with_image


def main(folder: Path) -> None:
    config = CheckConfig()
    shifted: dict[int, list[bool]] = defaultdict(list)
    fits: dict[int, list[LabelFit]] = defaultdict(list)
    groups: dict[tuple[int, ...], list[tuple[np.ndarray, np.ndarray]]]
    groups = defaultdict(list)
    for one in find_annotations(folder).drawn:
        found = read_labels_with_image(one, kind="auto", ignore_value=None)
        labels = found.annotation.labels
        fit = fit_of(found.image, labels, None, config)
        if fit is None:
            continue
        groups[labels.shape].append((found.image, labels))
        shifted[0].append(fit.is_shifted(config) or fit.is_other(config))
        fits[0].append(fit)
        for px in (1, 2, 3, 5, 8):
            moved = np.roll(labels, (px, 0), (0, 1))
            fit = fit_of(found.image, moved, None, config)
            shifted[px].append(fit is not None and fit.is_shifted(config))
            if fit is not None:
                fits[px].append(fit)
    for px, flags in shifted.items():
        print(f"moved by {px} px: {sum(flags)} of {len(flags)} told")
    for px, seen in fits.items():
        for count in (3, 5, 10):
            starts = range(len(seen) - count + 1)
            told = sum(common_shift(seen[i : i + count]) != (0, 0) for i in starts)
            print(f"moved by {px} px, {count} alike: {told} of {len(starts)} told")
    told = by_partner = count = 0
    for pairs in groups.values():
        if len(pairs) < 2:
            continue
        names = [str(i) for i in range(len(pairs))]
        labels = [pairs[i - 1][1] for i in range(len(pairs))]
        images = [image for image, _ in pairs]
        here = [fit_of(i, d, None, config) for i, d in zip(images, labels, strict=True)]
        other = [fit is not None and fit.is_other(config) for fit in here]
        better = better_partners(
            {
                n: small_picture(brightness(i))
                for n, i in zip(names, images, strict=True)
            },
            {n: small_picture(d > 0) for n, d in zip(names, labels, strict=True)},
            config,
        )
        count += len(pairs)
        by_partner += len(better)
        told += sum(o or n in better for o, n in zip(other, names, strict=True))
    print(f"labels of another image: {told} of {count} told, {by_partner} with whose")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
