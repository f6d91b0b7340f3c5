#!/usr/bin/env bash
# ome-zarr makes pyramid levels of a dask image that lie up to 30 pixels off their own metadata.
#
# Versions: Python 3.11 with ome-zarr 0.18.0 and zarr 3.1.6, Python 3.13 with ome-zarr 0.21.0 and zarr 3.4.2;
#           dask 2026.8.0, numpy 2.2.6.
# Expected: a level's pixels lie where its scale and translation say, within half a pixel of the level (8 pixels of the
#           image at level 4), whether the image is a numpy array or a dask array of the same pixels.
# Seen:     each dask chunk is made smaller on its own, and the rounding of one chunk shifts all that follow. At a
#           width of 8191 and chunks of 512 the last columns of level 4 show what lies 30 pixels to the left.
#           The image is a ramp, so that each pixel tells from where it was taken.
# Output seen:
#   numpy array: level s4, scale 16.03: farthest from its place 4.0 pixels
#   dask array: level s4, scale 16.03: farthest from its place 30.5 pixels
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    ome-zarr==0.18.0 zarr==3.1.6 'dask[array]==2026.8.0' numpy==2.2.6
cd "$work"
venv/bin/python -W ignore - <<'PY'
import sys

import dask.array as da
import numpy as np
import zarr
from ome_zarr.writer import write_image

width = 8191
ramp = np.broadcast_to(np.arange(width, dtype=np.uint16), (64, width)).copy()  # a pixel's value is its column
images = {"numpy array": ramp, "dask array": da.from_array(ramp, chunks=(64, 512))}
farthest = {}
for name, image in images.items():
    group = zarr.open_group(f"{name}.zarr", mode="w")
    write_image(image, group, axes="yx")
    level = group.attrs["ome"]["multiscales"][0]["datasets"][-1]
    scale, translation = level["coordinateTransformations"]
    row = group[level["path"]][0].astype(float)
    place = np.arange(row.size) * scale["scale"][1] + translation["translation"][1]
    farthest[name] = float(np.abs(row - place).max())
    print(
        f"{name}: level {level['path']}, scale {scale['scale'][1]:.2f}: "
        f"farthest from its place {farthest[name]:.1f} pixels"
    )
as_stated = farthest["numpy array"] < 8 and farthest["dask array"] > 16
sys.exit(None if as_stated else "The behavior has changed.")
PY
