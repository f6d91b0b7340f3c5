#!/usr/bin/env bash
# xarray makes the background of a label image in Zarr 2 nan, and its option against that changes nothing.
#
# Versions: Python 3.11 and 3.13, xarray 2026.9.0, zarr 3.1.6, dask 2026.8.0, numpy 2.2.6.
# Expected: the labels that are in the store, in their type, at least with use_zarr_fill_value_as_mask=False: "the
#           fill_value is ignored and the data are not masked".
# Seen:     the fill value of a Zarr array says what a chunk that was never written holds, and is 0 in a label image.
#           In format 2 (the one of OME-Zarr 0.4) each pixel of this value is taken for a missing one, with the option
#           and without: uint32 becomes float64, the background nan, no pixel is equal to 0, and "labels != 0" is true
#           everywhere. mask_and_scale=False gives the labels, and so does format 3.
# Output seen (16 x 16 pixels, 48 of them in two cells):
#   format 2: float64 [1.0, 2.0, nan], pixels that are not 0: 256
#   format 2, use_zarr_fill_value_as_mask=False: float64 [1.0, 2.0, nan], pixels that are not 0: 256
#   format 2, mask_and_scale=False: uint32 [0, 1, 2], pixels that are not 0: 48
#   format 3: uint32 [0, 1, 2], pixels that are not 0: 48
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    xarray==2026.9.0 zarr==3.1.6 'dask[array]==2026.8.0' numpy==2.2.6
cd "$work"
venv/bin/python -W ignore - <<'PY'
import sys

import numpy as np
import xarray
import zarr

labels = np.zeros((16, 16), np.uint32)
labels[2:6, 2:10] = 1
labels[10:14, 4:8] = 2

counts = []
for name, version, options in (
    ("format 2", 2, {}),
    ("format 2, use_zarr_fill_value_as_mask=False", 2, {"use_zarr_fill_value_as_mask": False}),
    ("format 2, mask_and_scale=False", 2, {"mask_and_scale": False}),
    ("format 3", 3, {}),
):
    group = zarr.create_group("labels.zarr", zarr_format=version, overwrite=True)
    axes = {"attributes": {"_ARRAY_DIMENSIONS": ["y", "x"]}} if version == 2 else {"dimension_names": ["y", "x"]}
    array = group.create_array("nuclei", shape=labels.shape, chunks=(8, 8), dtype=labels.dtype, **axes)
    array[:] = labels
    back = xarray.open_zarr("labels.zarr", consolidated=False, **options)["nuclei"]
    counts.append(int((back != 0).sum()))
    values = np.unique(back.values).tolist()
    print(f"{name}: {back.dtype} {values}, pixels that are not 0: {counts[-1]}")
sys.exit(None if counts == [256, 256, 48, 48] else "The behavior has changed.")
PY
