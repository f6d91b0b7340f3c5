#!/usr/bin/env bash
# ngio gives a boolean feature back as booleans or as floats, by what the other columns hold.
#
# Versions: Python 3.11 and 3.13, ngio 1.1.3, pandas 2.3.3, numpy 2.2.6.
# Expected: a column of booleans comes back as booleans, whatever lies beside it.
# Seen:     beside a column of integers it does. Beside a column of floats it comes back as 1.0 and 0.0, so that
#           "not touches_border" (~column), which works on the table that was written, is a TypeError.
#           Seen with ngio's default table backend; csv, json and parquet keep the booleans.
# Output seen:
#   beside integers: touches_border is bool [True, False, True]
#   beside floats: touches_border is float64 [1.0, 0.0, 1.0]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ngio==1.1.3 pandas==2.3.3 numpy==2.2.6
cd "$work"
venv/bin/python -W ignore - <<'PY'
import sys

import numpy as np
import pandas as pd
from ngio import create_ome_zarr_from_array, open_ome_zarr_container
from ngio.tables import FeatureTable

dtypes = []
for name, area in (("integers", [10, 20, 30]), ("floats", [10.5, 20.5, 30.5])):
    features = pd.DataFrame({"label": [1, 2, 3], "area": area, "touches_border": [True, False, True]})
    image = create_ome_zarr_from_array(f"{name}.zarr", array=np.zeros((64, 64), np.uint16), pixelsize=1.0)
    image.add_table("features", FeatureTable(features))
    back = open_ome_zarr_container(f"{name}.zarr").get_table("features").dataframe["touches_border"]
    dtypes.append(str(back.dtype))
    print(f"beside {name}: touches_border is {back.dtype} {back.tolist()}")
sys.exit(None if dtypes == ["bool", "float64"] else "The behavior has changed.")
PY
