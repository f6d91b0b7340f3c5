#!/usr/bin/env bash
# StarDist's radial distances run through the border between two cells, if their ids are 65,536 apart.
#
# Versions: Python 3.11 and 3.13, stardist 0.9.2, scikit-image 0.26.0, numpy 2.2.6.
# Expected: star_dist takes "a label image with integer values that encode object ids": the distance from a pixel to
#           the border of its own object along each ray, whatever the ids are.
# Seen:     the labels are cast to uint16 first. Cells 1 and 65537 side by side become one cell, and cell 65536 becomes
#           background. No error, no warning. These distances are what a model is trained on, and ids of this size come
#           of numbering the cells of a whole slide through; each crop of it holds few of them.
# Output seen (from the middle of the left cell to its right border; both cells are 11 pixels wide):
#   cells 1 and 2: 5.5
#   cells 1 and 65537: 16.5
#   cells 65536 and 2: 0.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check stardist==0.9.2 scikit-image==0.26.0 numpy==2.2.6
cd "$work"
venv/bin/python -W ignore - <<'PY'
import sys

import numpy as np
from stardist import star_dist

seen = []
for left, right in ((1, 2), (1, 65537), (65536, 2)):
    labels = np.zeros((40, 40), np.int32)
    labels[10:21, 5:16] = left
    labels[10:21, 16:27] = right
    seen.append(float(star_dist(labels, n_rays=4)[15, 10].max()))
    print(f"cells {left} and {right}: {seen[-1]}")
sys.exit(None if seen == [5.5, 16.5, 0] else "The behavior has changed.")
PY
