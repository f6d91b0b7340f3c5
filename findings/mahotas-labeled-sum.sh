#!/usr/bin/env bash
# The sum of a label's pixels in mahotas wraps around in the type of the image.
#
# Versions: Python 3.11 and 3.13, mahotas 1.4.19, numpy 2.2.6.
# Expected: sum[i] is "equal to np.sum(array[labeled == i])", as the docstring of labeled_sum says; numpy adds up small
#           integers in 64 bits.
# Seen:     the sum is kept in the type of the image (which the same docstring gives as the type of the result). In
#           uint16 a nucleus of 400 pixels at 1000 counts is too much: of two nuclei of one brightness the smaller one
#           has the larger sum. A mask gives True in place of a number of pixels. No error, no warning.
# Output seen:
#   uint16: 6784 and 34464, numpy 400000 and 100000
#   float64: 400000 and 100000, numpy 400000 and 100000
#   bool: 1 and 1, numpy 400 and 100
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check mahotas==1.4.19 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY'
import sys

import mahotas
import numpy as np

labels = np.zeros((64, 64), np.int32)
labels[2:22, 2:22] = 1
labels[30:40, 30:40] = 2
image = np.where(labels > 0, 1000, 0)

differ = []
for dtype in ("uint16", "float64", "bool"):
    pixels = image.astype(dtype)
    sums = mahotas.labeled.labeled_sum(pixels, labels)
    plain = [np.sum(pixels[labels == label]) for label in range(3)]
    differ.append(not np.array_equal(sums, plain))
    print(f"{dtype}: {sums[1]:.0f} and {sums[2]:.0f}, numpy {plain[1]:.0f} and {plain[2]:.0f}")
sys.exit(None if differ == [True, False, True] else "The behavior has changed.")
PY
