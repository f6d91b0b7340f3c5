#!/usr/bin/env bash
# A channel, time point or plane that a CZI does not have is read as one that it has, without an error.
#
# Versions: Python 3.11 and 3.13, pylibCZIrw 6.1.0, numpy 2.2.6.
# Expected: to read channel 5 of a file of one channel is an error, as channel 5 of a file of two is.
# Seen:     where an axis has the length one, read() drops it from the request: channel 5, time point 7 and plane 9 are
#           all channel 0, time point 0, plane 0. A loop over the channels of one file, run on a file of fewer, measures
#           the same channel again.
# Output seen:
#   one channel, channel 5: equal to channel 0
#   one channel, T 7 Z 9: equal to T 0 Z 0
#   two channels, channel 2: Coordinate for dimension 'C' is out-of-range.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pylibCZIrw==6.1.0 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY'
import sys

import numpy as np
from pylibCZIrw import czi

pixels = np.arange(1, 1201, dtype=np.uint16).reshape(30, 40, 1)
for name, channels in (("one.czi", 1), ("two.czi", 2)):
    with czi.create_czi(name) as file:
        for channel in range(channels):
            file.write(pixels + np.uint16(channel), plane={"C": channel, "T": 0, "Z": 0})

with czi.open_czi("one.czi") as file:
    first = file.read(plane={"C": 0})
    channel = np.array_equal(file.read(plane={"C": 5}), first)
    plane = np.array_equal(file.read(plane={"C": 0, "T": 7, "Z": 9}), first)
with czi.open_czi("two.czi") as file:
    try:
        said = f"values up to {file.read(plane={'C': 2}, pixel_type='Gray16').max()}"
    except RuntimeError as error:
        said = str(error)
print("one channel, channel 5:", "equal to channel 0" if channel else "another")
print("one channel, T 7 Z 9:", "equal to T 0 Z 0" if plane else "another")
print("two channels, channel 2:", said)
sys.exit(None if channel and plane and "out-of-range" in said else "The behavior has changed.")
PY
