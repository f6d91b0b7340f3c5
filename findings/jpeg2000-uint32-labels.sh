#!/usr/bin/env bash
# A uint32 label image stored as lossless JPEG 2000 gets a background that is not 0.
#
# Versions: Python 3.11 with imagecodecs 2026.3.6 and tifffile 2026.3.3, Python 3.13 with imagecodecs 2026.10.10 and
#           tifffile 2026.11.8; OpenJPEG 2.5.4 in both; numpy 2.2.6.
# Expected: the labels that were written, as uint16 gives them, or a refusal of the type.
# Seen:     with uint32, nine tenths of the background pixels come back as 1, so that they belong to an object.
#           The only label is 5, far below the 26 bits that the codec's docstring puts in doubt. No error, no warning.
# Output seen:
#   uint16: values [0, 5], pixels that differ: 0 of 65536
#   uint32: values [0, 1, 5], pixels that differ: 58039 of 65536
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

differ = {}
for dtype in ("uint16", "uint32"):
    labels = np.zeros((256, 256), dtype)
    labels[100:120, 100:120] = 5
    tifffile.imwrite(f"{dtype}.tif", labels, compression="jpeg2000")
    back = tifffile.imread(f"{dtype}.tif")
    differ[dtype] = int((back != labels).sum())
    print(f"{dtype}: values {np.unique(back).tolist()}, pixels that differ: {differ[dtype]} of {labels.size}")
as_stated = differ["uint16"] == 0 and differ["uint32"] > labels.size // 2
sys.exit(None if as_stated else "The behavior has changed.")
PY
