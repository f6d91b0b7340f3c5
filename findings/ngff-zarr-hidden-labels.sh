#!/usr/bin/env bash
# Labels added to an image that ngff-zarr wrote are on disk, and zarr does not find them.
#
# Versions: Python 3.11 with zarr 3.1.6 and Python 3.13 with zarr 3.4.2; ngff-zarr 0.50.0, numpy 2.2.6.
# Expected: an array that was just written is found when the image is opened again.
# Seen:     ngff-zarr stores consolidated metadata, a list of all that is in the image at that time. zarr trusts
#           this list, so the new labels do not exist for it, although writing them through zarr raised no error.
#           Opened without the list they are there, with their pixels.
# Output seen:
#   opened as usual: ['scale0']
#   opened with use_consolidated=False: ['labels', 'scale0'], labeled pixels: 400
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ngff-zarr==0.50.0 zarr==3.1.6 numpy==2.2.6
cd "$work"
venv/bin/python -W ignore - <<'PY'
import sys

import ngff_zarr
import numpy as np
import zarr

image = ngff_zarr.to_ngff_image(np.zeros((128, 128), np.uint16), dims=["y", "x"])
ngff_zarr.to_ngff_zarr("image.zarr", ngff_zarr.to_multiscales(image), version="0.5")

labels = np.zeros((128, 128), np.uint16)
labels[10:30, 10:30] = 1
group = zarr.open_group("image.zarr", mode="r+")
group.require_group("labels").create_array("nuclei", data=labels, chunks=(64, 64))

usual = zarr.open_group("image.zarr", mode="r")
direct = zarr.open_group("image.zarr", mode="r", use_consolidated=False)
labeled = int(np.count_nonzero(direct["labels/nuclei"][:]))
print("opened as usual:", sorted(usual.keys()))
print(f"opened with use_consolidated=False: {sorted(direct.keys())}, labeled pixels: {labeled}")
as_stated = "labels" not in usual and "labels" in direct and labeled == 400
sys.exit(None if as_stated else "The behavior has changed.")
PY
