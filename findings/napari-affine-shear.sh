#!/usr/bin/env bash
# The shear that napari tells of a plain 2D transform is one that napari itself refuses.
#
# Versions: Python 3.11 and 3.13, napari 0.9.2, numpy 2.4.6. No window and no Qt are needed.
# Expected: `Affine(shear=transform.shear)` takes what the property returns: a transform of N axes has N (N - 1) / 2
#           numbers of shear, one in 2D, and a sheared transform tells so many.
# Seen:     a transform without shear and rotation returns N zeros: two in 2D, which no number of axes has. A layer that
#           is to lie as another one (`shear=layer.affine.shear`) cannot be made. In 3D the number is right by chance.
# Output seen:
#   2D, sheared: 1 number, accepted
#   2D, plain:   2 numbers, ValueError: 2 is a strange number of shear elements
#   3D, plain:   3 numbers, accepted
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check napari==0.9.2 numpy==2.4.6
cd "$work"
export HOME="$work"
venv/bin/python - <<'PY'
import sys
import warnings

warnings.simplefilter("ignore")
from napari.utils.transforms import Affine

seen = []
for name, transform in (
    ("2D, sheared:", Affine(scale=(1, 2), shear=[0.5])),
    ("2D, plain:  ", Affine(scale=(1, 2))),
    ("3D, plain:  ", Affine(scale=(1, 2, 3))),
):
    shear = transform.shear
    try:
        Affine(scale=transform.scale, shear=shear)
        said = "accepted"
    except ValueError as error:
        said = f"ValueError: {error}"
    print(f"{name} {len(shear)} number{'s' * (len(shear) > 1)}, {said}")
    seen.append((len(shear), said == "accepted"))
sys.exit(None if seen == [(1, True), (2, False), (3, True)] else "The behavior has changed.")
PY
