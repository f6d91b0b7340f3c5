#!/usr/bin/env bash
# SimpleITK reads a tiled 16-bit label TIFF as 8-bit colors.
#
# Versions: Python 3.11 and 3.13, SimpleITK 2.5.7, tifffile 2026.3.3, numpy 2.2.6.
# Expected: the label image that was written, as the same pixels stored in strips give it.
# Seen:     an RGBA image of 8 bits a channel. Labels 1 to 127 become 0 and so are lost in the background,
#           higher labels merge. The call succeeds; ITK prints one warning about "data loss" to the terminal.
# Output seen (without that warning):
#   written           (512, 512) uint16 [0, 1, 2, 100, 700]
#   read from strips  (512, 512) uint16 [0, 1, 2, 100, 700]
#   read from tiles   (512, 512, 4) uint8, first channel [0, 2]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check SimpleITK==2.5.7 tifffile==2026.3.3 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY'
import sys

import numpy as np
import SimpleITK as sitk
import tifffile

labels = np.zeros((512, 512), np.uint16)
for index, value in enumerate((1, 2, 100, 700)):
    labels[20 + 120 * index : 80 + 120 * index, 100:400] = value
tifffile.imwrite("strips.tif", labels, rowsperstrip=64)
tifffile.imwrite("tiles.tif", labels, tile=(256, 256))


def read(name):
    return sitk.GetArrayFromImage(sitk.ReadImage(name))


strips, tiles = read("strips.tif"), read("tiles.tif")
first = np.unique(tiles[..., 0]).tolist()
print("written          ", labels.shape, labels.dtype, np.unique(labels).tolist())
print("read from strips ", strips.shape, strips.dtype, np.unique(strips).tolist())
print(f"read from tiles   {tiles.shape} {tiles.dtype}, first channel {first}")
as_stated = (
    np.array_equal(strips, labels)
    and tiles.shape == (512, 512, 4)
    and tiles.dtype == np.uint8
    and not tiles[labels == 100][:, :3].any()
    and first == [0, 2]
)
sys.exit(None if as_stated else "The behavior has changed.")
PY
