#!/usr/bin/env bash
# SimpleITK's median of a label can lie outside the range of the label's own pixels.
#
# Versions: Python 3.11 and 3.13, SimpleITK 2.5.7, numpy 2.2.6.
# Expected: the median of a label's pixels, or at least a value between their minimum and maximum, which the same
#           filters report correctly.
# Seen:     both label statistics filters read the median off a histogram over the range of the whole image.
#           One saturated pixel far away moves the median of every label, and the two filters differ from each other.
# Output seen:
#   pixels of the label: minimum 90.0, median 100.0, maximum 109.0
#   LabelStatisticsImageFilter: minimum 90.0, median 217.8, maximum 109.0
#   LabelIntensityStatisticsImageFilter: minimum 90.0, median 345.6, maximum 109.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check SimpleITK==2.5.7 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY'
import sys

import numpy as np
import SimpleITK as sitk

image = np.random.default_rng(0).integers(90, 110, (256, 256)).astype(np.uint16)
labels = np.zeros(image.shape, np.uint8)
labels[20:60, 20:60] = 1
image[200, 200] = 65535  # one saturated pixel, outside the label

pixels = image[labels == 1]
plain = sitk.LabelStatisticsImageFilter()
plain.Execute(sitk.GetImageFromArray(image), sitk.GetImageFromArray(labels))
intensity = sitk.LabelIntensityStatisticsImageFilter()
intensity.Execute(sitk.GetImageFromArray(labels), sitk.GetImageFromArray(image))

rows = {
    "pixels of the label": (pixels.min(), np.median(pixels), pixels.max()),
    "LabelStatisticsImageFilter": (plain.GetMinimum(1), plain.GetMedian(1), plain.GetMaximum(1)),
    "LabelIntensityStatisticsImageFilter": (
        intensity.GetMinimum(1),
        intensity.GetMedian(1),
        intensity.GetMaximum(1),
    ),
}
for name, (low, median, high) in rows.items():
    print(f"{name}: minimum {low:.1f}, median {median:.1f}, maximum {high:.1f}")
medians = [plain.GetMedian(1), intensity.GetMedian(1)]
as_stated = min(medians) > pixels.max() and medians[0] != medians[1] and plain.GetMaximum(1) == pixels.max()
sys.exit(None if as_stated else "The behavior has changed.")
PY
