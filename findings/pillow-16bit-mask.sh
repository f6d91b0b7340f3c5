#!/usr/bin/env bash
# Pillow pastes only the left half of a 16-bit label image, if it pastes through a mask.
#
# Versions: Python 3.11 and 3.13, pillow 13.0.0, numpy 2.2.6.
# Expected: where the mask is 255 the pasted image is "copied as is", as paste says and does without a mask; or an
#           error, as the filters give it for this mode ("I;16", what Pillow makes of a uint16 array).
# Seen:     the mask has one byte per pixel, the image two, and only as many bytes of each row are copied as the mask
#           has pixels. Image.composite goes the same way. Through a mask of one bit an image is pasted well, and it is
#           a label painted through it that stops at half of the width, with both bytes of its pixels set to the lower
#           byte of the label. Mode "I" (32 bits) is well in each case. No error, no warning.
# Output seen (an image of 40 columns, label 1000 in all of them; the mask covers all):
#   I;16, mask L: paste columns 0 to 19 [0, 1000], paint columns 0 to 39 [1000]
#   I;16, mask 1: paste columns 0 to 39 [1000], paint columns 0 to 19 [0, 59624]
#   I, mask L: paste columns 0 to 39 [1000], paint columns 0 to 39 [1000]
#   I, mask 1: paste columns 0 to 39 [1000], paint columns 0 to 39 [1000]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY'
import sys

import numpy as np
from PIL import Image

right = []
for dtype in (np.uint16, np.int32):
    labels = Image.fromarray(np.full((10, 40), 1000, dtype))
    for mode, covered in (("L", 255), ("1", 1)):
        mask = Image.new(mode, labels.size, covered)
        said = []
        for verb, source in (("paste", labels), ("paint", 1000)):
            canvas = Image.new(labels.mode, labels.size)
            canvas.paste(source, (0, 0, *labels.size), mask)
            pixels = np.array(canvas)
            columns = np.flatnonzero(pixels.any(axis=0))
            said.append(f"{verb} columns {columns[0]} to {columns[-1]} {np.unique(pixels).tolist()}")
            right.append(bool((pixels == 1000).all()))
        print(f"{labels.mode}, mask {mode}: {', '.join(said)}")
sys.exit(None if right == [False, True, True, False] + [True] * 4 else "The behavior has changed.")
PY
