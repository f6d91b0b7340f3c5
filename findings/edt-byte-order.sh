#!/usr/bin/env bash
# The distance transform of edt is 0 everywhere for a label image in the other byte order.
#
# Versions: Python 3.11 and 3.13, edt 3.1.2, tifffile 2026.3.3, numpy 2.2.6; a little-endian machine.
# Expected: distances as for the same labels in native byte order, or a refusal, as for any type that is not listed as
#           supported (integers of 8 to 64 bits, float32, float64 and booleans are).
# Seen:     a type that the library does not know leaves its result as it was prepared, all 0, and the call succeeds:
#           for the big-endian uint16 that tifffile.memmap gives of a big-endian TIFF (ImageJ's byte order), and for
#           float16. No seed is found and no object has a radius. No error, no warning.
# Output seen:
#   read into memory, uint16: largest distance 10.0
#   mapped from the file, >u2: largest distance 0.0
#   float32: largest distance 10.0
#   float16: largest distance 0.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check edt==3.1.2 tifffile==2026.3.3 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY'
import sys

import edt
import numpy as np
import tifffile

labels = np.zeros((64, 64), np.uint16)
labels[2:22, 2:22] = 1
labels[30:40, 30:44] = 2
tifffile.imwrite("labels.tif", labels, byteorder=">")
read = tifffile.imread("labels.tif")
mapped = tifffile.memmap("labels.tif", mode="r")
assert (read == labels).all() and (mapped == labels).all()

largest = []
for name, image in (
    (f"read into memory, {read.dtype}", read),
    (f"mapped from the file, {mapped.dtype}", mapped),
    ("float32", labels.astype(np.float32)),
    ("float16", labels.astype(np.float16)),
):
    largest.append(float(edt.edt(image).max()))
    print(f"{name}: largest distance {largest[-1]}")
sys.exit(None if largest == [10, 0, 10, 0] else "The behavior has changed.")
PY
