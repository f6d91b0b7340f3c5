#!/usr/bin/env bash
# SciPy gives a median to a label that is not in the image: the darkest pixel of the background.
#
# Versions: Python 3.11 with scipy 1.17.1, Python 3.13 with scipy 1.17.1 and 1.18.1; numpy 2.2.6.
# Expected: nan for a label without pixels, as scipy.ndimage.mean gives it, or an error. To ask for one is nothing odd:
#           one list of labels serves all frames of a series, and not every cell is in every frame.
# Seen:     in a list of labels the median of an absent one is the smallest value of the lowest label of the image,
#           as a rule of the background; its minimum and maximum are 0. Asked for alone, not in a list, the same label
#           has the median nan, and its maximum is a ValueError. In the list only the mean warns.
# Output seen (labels 1 and 3 are bright, label 2 is absent; the background is 50 but for one pixel of 7):
#   mean of labels [1, 2, 3]: [100.0, nan, 400.0]
#   median of labels [1, 2, 3]: [100.0, 7.0, 400.0]
#   maximum of labels [1, 2, 3]: [100.0, 0.0, 400.0]
#   median of label 2: nan
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.2.6
cd "$work"
venv/bin/python -W ignore - <<'PY'
import sys

import numpy as np
from scipy import ndimage

labels = np.zeros((64, 64), np.int32)
labels[2:22, 2:22] = 1
labels[30:40, 30:40] = 3
image = np.choose(labels, [50, 100, 0, 400])
image[60, 60] = 7

ids = [1, 2, 3]
seen = []
for measure in (ndimage.mean, ndimage.median, ndimage.maximum):
    values = [float(value) for value in measure(image, labels, ids)]
    seen.append(values[1])
    print(f"{measure.__name__} of labels {ids}: {values}")
alone = float(ndimage.median(image, labels, 2))
print(f"median of label 2: {alone}")
as_stated = np.isnan([seen[0], alone]).all() and seen[1:] == [7, 0]
sys.exit(None if as_stated else "The behavior has changed.")
PY
