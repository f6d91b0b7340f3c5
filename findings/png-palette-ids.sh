#!/usr/bin/env bash
# A label image as PNG with a palette has as many objects as the reader chooses: ids, or the colors that they are shown in.
#
# Versions: Python 3.11 and 3.13, imagecodecs 2026.3.6, pillow 12.0.0, numpy 2.2.6.
# Expected: the pixels of a PNG of color type 3 are indices; that two of them share a color is a matter of display.
# Seen:     Pillow gives the indices. imagecodecs.png_decode (and what reads PNG through it) gives the colors alone, and
#           has no option for the indices: three objects, two of them in one color, are two. In a mask with an inverting
#           palette (index 0 is white, as ImageJ writes it) background and object change places.
# Output seen:
#   pillow: values 0 1 2 3
#   imagecodecs: (20, 40, 3), 3 colors with the background
#   inverting palette, value of the background: pillow 0, imagecodecs 255
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check imagecodecs==2026.3.6 pillow==12.0.0 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY'
import sys
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

labels = np.zeros((20, 40), np.uint8)
for label in (1, 2, 3):
    labels[5:15, 10 * label : 10 * label + 6] = label
RED, GREEN = [255, 0, 0], [0, 255, 0]


def save(pixels, colors):
    """Write a PNG of color type 3."""
    image = Image.fromarray(pixels, mode="P")
    image.putpalette(sum(colors, []))
    image.save("a.png")


save(labels, [[0, 0, 0], RED, GREEN, RED])
indices = np.unique(np.asarray(Image.open("a.png")))
print("pillow: values", *indices)
decoded = imagecodecs.png_decode(Path("a.png").read_bytes())
colors = len(np.unique(decoded.reshape(-1, decoded.shape[-1]), axis=0))
print(f"imagecodecs: {decoded.shape}, {colors} colors with the background")
save((labels > 0).astype(np.uint8), [[255] * 3, [0] * 3])
background = int(np.asarray(Image.open("a.png"))[0, 0])
shown = imagecodecs.png_decode(Path("a.png").read_bytes())
white = int(shown.reshape(20, 40, -1)[0, 0, 0])
print(f"inverting palette, value of the background: pillow {background}, imagecodecs {white}")
as_stated = indices.tolist() == [0, 1, 2, 3] and colors == 3 and (background, white) == (0, 255)
sys.exit(None if as_stated else "The behavior has changed.")
PY
