#!/usr/bin/env bash
# LERC with a predictor makes a lossless float TIFF lossy.
#
# Versions: Python 3.11 with tifffile 2026.3.3 and imagecodecs 2026.3.6, Python 3.13 with tifffile 2026.11.8 and
#           imagecodecs 2026.10.10; numpy 2.2.6.
# Expected: the pixels that were written (each of the two is lossless: LERC alone, and the predictor with Deflate), or a
#           refusal, as tifffile gives for a predictor with JPEG 2000 or PNG.
# Seen:     the predictor rearranges the bytes of the floats, LERC takes the result for numbers again, and more than
#           half of the pixels come back with other values, some several times as large. No error, no warning.
# Output seen:
#   deflate, predictor=True: pixels that differ: 0.00, largest difference 0.0
#   lerc, predictor=False: pixels that differ: 0.00, largest difference 0.0
#   lerc, predictor=True: pixels that differ: 0.55, largest difference 377.7
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check imagecodecs==2026.3.6 tifffile==2026.3.3 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY'
import sys

import numpy as np
import tifffile

image = np.random.default_rng(0).normal(100, 10, (256, 256)).astype(np.float32)
shares = []
for codec, predictor in (("deflate", True), ("lerc", False), ("lerc", True)):
    tifffile.imwrite("image.tif", image, compression=codec, predictor=predictor)
    back = tifffile.imread("image.tif")
    shares.append(float((back != image).mean()))
    largest = float(np.abs(back - image).max())
    print(f"{codec}, predictor={predictor}: pixels that differ: {shares[-1]:.2f}, largest difference {largest:.1f}")
as_stated = shares[0] == 0 and shares[1] == 0 and shares[2] > 0.1
sys.exit(None if as_stated else "The behavior has changed.")
PY
