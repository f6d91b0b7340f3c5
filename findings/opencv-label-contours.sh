#!/usr/bin/env bash
# OpenCV finds two contours per cell in a label image, and the larger one is that of the background's hole.
#
# Versions: Python 3.11 and 3.13, opencv-python-headless 5.0.0.93 (4.12.0.88 on 3.11 too), numpy 2.2.6.
# Expected: findContours takes a 32-bit label image with RETR_CCOMP, described as outer boundaries on the upper
#           of two levels and the boundaries of holes below: two cells have two contours, as in a mask of them.
# Seen:     the background counts as one more object, whose outer boundary is missing and whose holes are there: each
#           cell comes with a second contour, a pixel wider on all sides, and both are on the upper level, so that
#           nothing tells them apart. A cell that touches another has this wider contour in common with it.
# Output seen (two cells of 10 x 10 pixels; the contour through their outer pixels encloses 81):
#   mask, uint8: areas [81.0, 81.0], holes 0
#   labels, int32: areas [81.0, 81.0, 119.0, 119.0], holes 0
#   touching labels, int32: areas [81.0, 81.0, 229.0], holes 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check opencv-python-headless==5.0.0.93 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY'
import sys

import cv2
import numpy as np

apart = np.zeros((40, 40), np.int32)
apart[5:15, 5:15] = 1
touching = apart.copy()
apart[25:35, 25:35] = 2
touching[5:15, 15:25] = 2

seen = []
for name, image in (
    ("mask, uint8", (apart > 0).astype(np.uint8)),
    ("labels, int32", apart),
    ("touching labels, int32", touching),
):
    contours, levels = cv2.findContours(image, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    areas = sorted(cv2.contourArea(contour) for contour in contours)
    holes = int((levels[0, :, 3] >= 0).sum())
    seen.append((areas, holes))
    print(f"{name}: areas {areas}, holes {holes}")
as_stated = seen == [([81, 81], 0), ([81, 81, 119, 119], 0), ([81, 81, 229], 0)]
sys.exit(None if as_stated else "The behavior has changed.")
PY
