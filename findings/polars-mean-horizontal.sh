#!/usr/bin/env bash
# The mean of two columns in polars lies far below both of them, if they hold 8- or 16-bit integers.
#
# Versions: Python 3.11 and 3.13, polars 2.1.0.
# Expected: mean_horizontal is the mean of each row, whatever the type, as the mean down a column is. The result is a
#           float in any case.
# Seen:     the row is summed in the type of its columns, wraps around there, and then becomes a float: 200 and 100
#           in uint8 have a mean of 22, 30000 and 20000 in int16 a negative one. Maximum intensities of cells come in
#           the type of the image, and their mean over channels is hit. A list of the two columns has the right mean.
# Output seen:
#   UInt8: [200, 100]: mean_horizontal 22.0, mean of a list 150.0
#   UInt16: [40000, 30000]: mean_horizontal 2232.0, mean of a list 35000.0
#   Int16: [30000, 20000]: mean_horizontal -7768.0, mean of a list 25000.0
#   Int64: [40000, 30000]: mean_horizontal 35000.0, mean of a list 35000.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check polars==2.1.0
cd "$work"
venv/bin/python - <<'PY'
import sys

import polars as pl

right = []
for dtype, row in (
    (pl.UInt8, [200, 100]),
    (pl.UInt16, [40000, 30000]),
    (pl.Int16, [30000, 20000]),
    (pl.Int64, [40000, 30000]),
):
    cells = pl.DataFrame({"max_1": row[:1], "max_2": row[1:]}, schema={"max_1": dtype, "max_2": dtype})
    horizontal = cells.select(pl.mean_horizontal("max_1", "max_2")).item()
    listed = cells.select(pl.concat_list("max_1", "max_2").list.mean()).item()
    right.append((horizontal == sum(row) / 2, listed == sum(row) / 2))
    print(f"{dtype}: {row}: mean_horizontal {horizontal}, mean of a list {listed}")
sys.exit(None if right == [(False, True)] * 3 + [(True, True)] else "The behavior has changed.")
PY
