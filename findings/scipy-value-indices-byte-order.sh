#!/usr/bin/env bash
# SciPy's value_indices finds label 256 where the label image holds 1.
#
# Versions: Python 3.11 with scipy 1.17.1, Python 3.13 with scipy 1.17.1 and 1.18.1; tifffile 2026.3.3, numpy 2.2.6;
#           a little-endian machine.
# Expected: "a Python dictionary of array indices for each distinct value", keyed by the values.
# Seen:     for labels in the other byte order, as tifffile.memmap gives them of a big-endian TIFF (ImageJ's byte
#           order), the keys are read with their bytes swapped: 1 is 256, 2 is 512, 256 is 1. The indices are right, so
#           that each object is measured well and written down under the id of another one. scipy.ndimage.mean reads
#           the ids of the same image as they are, and scipy.ndimage.label refuses it.
# Output seen:
#   uint16: pixels by label {0: 3588, 1: 400, 2: 100, 256: 8}
#   >u2: pixels by label {0: 3588, 1: 8, 256: 400, 512: 100}
#   mean of label 1 in >u2: 1.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 tifffile==2026.3.3 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY'
import sys

import numpy as np
import tifffile
from scipy import ndimage

labels = np.zeros((64, 64), np.uint16)
labels[2:22, 2:22] = 1
labels[30:40, 30:40] = 2
labels[50:52, 50:54] = 256
tifffile.imwrite("labels.tif", labels, byteorder=">")
mapped = tifffile.memmap("labels.tif", mode="r")
assert (mapped == labels).all()

found = []
for image in (labels, mapped):
    pixels = {int(label): len(indices[0]) for label, indices in ndimage.value_indices(image).items()}
    found.append(dict(sorted(pixels.items())))
    print(f"{image.dtype}: pixels by label {found[-1]}")
print(f"mean of label 1 in {mapped.dtype}: {ndimage.mean(labels, mapped, 1)}")
as_stated = found == [{0: 3588, 1: 400, 2: 100, 256: 8}, {0: 3588, 1: 8, 256: 400, 512: 100}]
sys.exit(None if as_stated else "The behavior has changed.")
PY
