#!/usr/bin/env bash
# bioimageio.spec refuses every model once a newer pydantic, which it allows, is installed.
#
# Versions: Python 3.11 and 3.13, bioimageio.spec 0.5.12.0, pydantic 2.14.4 and 2.12.5, numpy 2.4.6.
# Expected: the same description of a model, with the same files, is valid with both: bioimageio.spec asks for
#           pydantic >=2.10.3,<3, and pip installs 2.14.4 beside it.
# Seen:     with pydantic 2.14.4 it is not valid; the reason is a TypeError from inside of the library, and so no
#           model at all can be loaded, tested or packaged.
# Output seen:
#   pydantic 2.12.5: valid-format
#   pydantic 2.14.4: failed (TypeError inside of bioimageio.spec)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
pip="$work/venv/bin/pip --quiet --disable-pip-version-check"
cd "$work"
cat >check.py <<'PY'
import hashlib
import sys
import warnings
from pathlib import Path

import numpy as np

warnings.simplefilter("ignore")
import pydantic
from bioimageio.spec import InvalidDescr, load_description

for name in ("in.npy", "out.npy"):
    np.save(name, np.ones((1, 1, 8, 8), np.float32))
Path("model.onnx").write_bytes(b"not looked into here")


def file(name):
    return f"{{source: {name}, sha256: {hashlib.sha256(Path(name).read_bytes()).hexdigest()}}}"


space = "{type: space, id: y, size: 8}, {type: space, id: x, size: 8}"
axes = f"[{{type: batch}}, {{type: channel, channel_names: [a]}}, {space}]"
Path("rdf.yaml").write_text(
    f"""format_version: "0.5.12"
type: model
name: an example
description: an example
inputs: [{{id: image, axes: {axes}, test_tensor: {file("in.npy")}}}]
outputs: [{{id: result, axes: {axes}, test_tensor: {file("out.npy")}}}]
weights: {{onnx: {{opset_version: 12, {file("model.onnx")[1:-1]}}}}}
"""
)
found = load_description("rdf.yaml")
summary = found.validation_summary
inside = any("TypeError" in e.msg for d in summary.details for e in d.errors)
if isinstance(found, InvalidDescr) and not inside:
    print(summary.display())
status = f"{summary.status} (TypeError inside of bioimageio.spec)" if inside else summary.status
print(f"pydantic {pydantic.VERSION}: {status}")
sys.exit(isinstance(found, InvalidDescr))
PY
$pip install bioimageio.spec==0.5.12.0 numpy==2.4.6 pydantic==2.12.5
venv/bin/python check.py 2>/dev/null
$pip install pydantic==2.14.4
if venv/bin/python check.py 2>/dev/null; then
    echo "The behavior has changed."
    exit 1
fi
