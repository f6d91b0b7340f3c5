#!/usr/bin/env bash
# A polygon of two points in a COCO file makes pycocotools complain of an argument that nobody gave.
#
# Versions: Python 3.11 and 3.13, pycocotools 2.0.11, numpy 2.2.6.
# Expected: [[1, 1, 5, 5]], a polygon of two points, as annotation tools leave them behind, encloses nothing: an empty
#           mask, or an error that names the polygon.
# Seen:     a list of four numbers is taken for a box, and a box in a list is no array: "Argument 'bb' has incorrect
#           type (expected numpy.ndarray, got list)". Through COCO.annToMask one such annotation costs every image it is
#           on, and the message names neither annotation nor polygon. Three points are read well.
# Output seen:
#   three points: 6 px
#   two points: TypeError: Argument 'bb' has incorrect type (expected numpy.ndarray, got list)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 numpy==2.2.6
cd "$work"
venv/bin/python -W ignore - <<'PY'
import sys

from pycocotools import mask

POLYGONS = {"three points": [1, 1, 5, 1, 5, 4], "two points": [1, 1, 5, 5]}
seen = {}
for name, polygon in POLYGONS.items():
    try:
        found = mask.frPyObjects([polygon], 6, 8)
        seen[name] = f"{mask.area(found).sum()} px"
    except TypeError as error:
        seen[name] = f"TypeError: {error}"
    print(f"{name}: {seen[name]}")
as_stated = seen["three points"] == "6 px" and "'bb'" in seen["two points"]
sys.exit(None if as_stated else "The behavior has changed.")
PY
