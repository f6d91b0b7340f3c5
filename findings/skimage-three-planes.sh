#!/usr/bin/env bash
# scikit-image's imread takes three focal planes for red, green and blue.
#
# Versions: Python 3.11 and 3.13, scikit-image 0.26.0, tifffile 2026.3.3, numpy 2.2.6.
# Expected: the stored shape, as tifffile gives it: the file says in its own tags that its planes are gray.
# Seen:     when the axis before Y and X has the length 3 or 4, it is moved to the end. A series of five planes
#           keeps its shape; the same series with three planes becomes one of color images.
# Output seen:
#   2 time points of 5 planes: stored (2, 5, 64, 48), tifffile (2, 5, 64, 48), scikit-image (2, 5, 64, 48)
#   2 time points of 4 planes: stored (2, 4, 64, 48), tifffile (2, 4, 64, 48), scikit-image (2, 64, 48, 4)
#   2 time points of 3 planes: stored (2, 3, 64, 48), tifffile (2, 3, 64, 48), scikit-image (2, 64, 48, 3)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scikit-image==0.26.0 tifffile==2026.3.3 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY'
import sys

import numpy as np
import tifffile
from skimage import io

as_stated = True
for planes in (5, 4, 3):
    stack = np.arange(2 * planes * 64 * 48).reshape(2, planes, 64, 48).astype(np.uint16)
    tifffile.imwrite("stack.tif", stack, photometric="minisblack", imagej=True, metadata={"axes": "TZYX"})
    exact, read = tifffile.imread("stack.tif").shape, io.imread("stack.tif").shape
    print(f"2 time points of {planes} planes: stored {stack.shape}, tifffile {exact}, scikit-image {read}")
    expected = (2, 64, 48, planes) if planes in (3, 4) else stack.shape
    as_stated = as_stated and exact == stack.shape and read == expected
sys.exit(None if as_stated else "The behavior has changed.")
PY
