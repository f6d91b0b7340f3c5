#!/usr/bin/env bash
# With the pydantic that pip picks, bioimageio.spec cannot describe any model.
#
# Versions: Python 3.11, bioimageio.spec 0.5.12.0 with pydantic 2.14.4 and 2.13.5, numpy 2.4.6.
# Expected: a valid description gives a ModelDescr with every pydantic that the package allows (2.10.3 up to below 3).
# Seen:     with pydantic 2.14.4 each description is refused. The error speaks of an index key and names no field, as if
#           the description were at fault. The same lines work with pydantic 2.13.5.
# Output seen (cut):
#   pydantic 2.14.4: ValidationError: 'index_key' is expected to be an integer or a string
#   pydantic 2.13.5: a description of "nucleus model"
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    bioimageio.spec==0.5.12.0 pydantic==2.14.4 numpy==2.4.6
cd "$work"
cat > describe.py <<'PY'
from importlib.metadata import version
from pathlib import Path

import bioimageio.spec.model.v0_5 as spec
import numpy as np
from pydantic import ValidationError


def file(name):
    return spec.FileDescr(source=Path(name).absolute())


def axes(space):
    channel = spec.ChannelAxis(channel_names=[spec.Identifier("nuclei")])
    return [spec.BatchAxis(), channel, *(space(id=spec.AxisId(name), size=64) for name in "yx")]


image = np.ones((1, 1, 64, 64), np.float32)
np.save("input.npy", image)
np.save("output.npy", 2 * image)
Path("README.md").write_text("# A model\n")
Path("weights.onnx").write_bytes(b"weights")  # no model: its content is not looked at here
try:
    model = spec.ModelDescr(
        name="nucleus model",
        description="Segments nuclei.",
        authors=[spec.Author(name="A. Author")],
        cite=[spec.CiteEntry(text="No paper", url=spec.HttpUrl("https://example.org"))],
        license=spec.LicenseId("MIT"),
        documentation=file("README.md"),
        inputs=[
            spec.InputTensorDescr(
                id=spec.TensorId("image"), axes=axes(spec.SpaceInputAxis), test_tensor=file("input.npy")
            )
        ],
        outputs=[
            spec.OutputTensorDescr(
                id=spec.TensorId("mask"), axes=axes(spec.SpaceOutputAxis), test_tensor=file("output.npy")
            )
        ],
        weights=spec.WeightsDescr(
            onnx=spec.OnnxWeightsDescr(source=Path("weights.onnx").absolute(), opset_version=12)
        ),
    )
    result = f'a description of "{model.name}"'
except ValidationError as error:
    result = f"ValidationError: {str(error).partition('TypeError: ')[2].partition(',')[0]}"
print(f"pydantic {version('pydantic')}: {result}")
PY
newer=$(timeout 120 venv/bin/python -W ignore describe.py)
venv/bin/pip install --quiet --disable-pip-version-check pydantic==2.13.5
older=$(timeout 120 venv/bin/python -W ignore describe.py)
printf '%s\n' "$newer" "$older"
case "$newer" in *"'index_key' is expected to be"*) ;; *) echo "The behavior has changed." >&2; exit 1 ;; esac
case "$older" in *'a description of "nucleus model"') ;; *) echo "The behavior has changed." >&2; exit 1 ;; esac
