#!/usr/bin/env bash
# Reading a COCO mask stops test suites that treat warnings as errors: pycocotools has no numpy 2 conversion.
#
# Versions: Python 3.11 and 3.13, pycocotools 2.0.11, numpy 2.2.6.
# Expected: mask.decode(mask.encode(m)) gives m.
# Seen:     it does, and each call warns that "__array__ implementation doesn't accept a copy keyword"; with
#           -W error, as many test suites run, decode and frPyObjects raise DeprecationWarning. numpy announces that
#           the fallback behind it goes away. encode is not concerned.
# Output seen:
#   decoded: 12 px, warnings: 1
#   with warnings as errors: DeprecationWarning
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY'
import sys
import warnings

import numpy as np
from pycocotools import mask

drawn = np.zeros((6, 8), np.uint8, order="F")
drawn[1:4, 2:6] = 1
runs = mask.encode(drawn)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    decoded = mask.decode(runs)
print(f"decoded: {decoded.sum()} px, warnings: {len(told)}")
raised = "none"
with warnings.catch_warnings():
    warnings.simplefilter("error")
    try:
        mask.decode(runs)
    except DeprecationWarning as warning:
        raised = type(warning).__name__
print(f"with warnings as errors: {raised}")
as_stated = decoded.sum() == 12 and told and raised == "DeprecationWarning"
sys.exit(None if as_stated else "The behavior has changed.")
PY
