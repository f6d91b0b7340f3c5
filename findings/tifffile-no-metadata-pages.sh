#!/usr/bin/env bash
# tifffile cuts a stack with a last axis of 1 into pages of one column as soon as no metadata are asked for.
#
# Versions: Python 3.11 and 3.13, tifffile 2026.3.3, numpy 2.2.6.
# Expected: metadata=None leaves out the description; the pages are the same, 3 of 64 x 80.
# Seen:     an array (3, 64, 80, 1), as a model with a channel axis at the end returns it, is written as 3 pages of
#           64 x 80 by default, and as 192 pages of 80 x 1 with metadata=None: every row of every plane becomes an image.
#           No error, no warning; the number of pixels is right, so a reader that counts them finds nothing odd.
# Output seen:
#   default: 3 pages of (64, 80)
#   metadata=None: 192 pages of (80, 1)
#   metadata=None, without the last axis: 3 pages of (64, 80)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check tifffile==2026.3.3 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY'
import sys

import numpy as np
import tifffile

stack = np.arange(3 * 64 * 80, dtype=np.uint16).reshape(3, 64, 80, 1)
CASES = {
    "default": (stack, {}),
    "metadata=None": (stack, {"metadata": None}),
    "metadata=None, without the last axis": (stack[..., 0], {"metadata": None}),
}
seen = {}
for name, (array, options) in CASES.items():
    tifffile.imwrite("a.tif", array, photometric="minisblack", **options)
    with tifffile.TiffFile("a.tif") as file:
        seen[name] = len(file.pages), file.pages[0].shape
    print(f"{name}: {seen[name][0]} pages of {seen[name][1]}")
as_stated = list(seen.values()) == [(3, (64, 80)), (192, (80, 1)), (3, (64, 80))]
sys.exit(None if as_stated else "The behavior has changed.")
PY
