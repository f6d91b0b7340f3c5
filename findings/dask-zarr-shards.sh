#!/usr/bin/env bash
# Dask writes an array into a sharded Zarr store and leaves a third of the pixels 0.
#
# Versions: Python 3.11 with zarr 3.1.6 and Python 3.13 with zarr 3.4.2; dask 2026.8.0, numpy 2.2.6.
# Expected: what was written, or a refusal: the dask chunks are the inner chunks, smaller than a shard.
# Seen:     to_zarr(path, shards=...) lets several threads rewrite one shard at once; each keeps only its own chunks.
#           No error, no warning. The same data goes in whole when the sharded array is created first and handed over.
# Output seen (the first share differs from run to run):
#   to_zarr(path, shards=...): share of pixels that are 0: 0.34
#   create_array(shards=...), to_zarr(array): share of pixels that are 0: 0.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'dask[array]==2026.8.0' zarr==3.1.6 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY'
import sys

import dask.array as da
import numpy as np
import zarr

layout = {"chunks": (64, 64), "shards": (512, 512)}
ones = da.from_array(np.ones((1024, 1024), np.uint16), chunks=(64, 64))


def zeros(path):
    return float((zarr.open_array(path, mode="r")[:] == 0).mean())


shares = []
for attempt in range(3):
    ones.to_zarr(f"direct{attempt}.zarr", **layout)
    shares.append(zeros(f"direct{attempt}.zarr"))
ones.to_zarr(zarr.create_array("created.zarr", shape=ones.shape, dtype=ones.dtype, **layout))
print(f"to_zarr(path, shards=...): share of pixels that are 0: {max(shares):.2f}")
print(f"create_array(shards=...), to_zarr(array): share of pixels that are 0: {zeros('created.zarr'):.2f}")
as_stated = max(shares) > 0 and zeros("created.zarr") == 0
sys.exit(None if as_stated else "The behavior has changed.")
PY
