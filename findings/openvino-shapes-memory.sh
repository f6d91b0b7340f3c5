#!/usr/bin/env bash
# OpenVINO's CPU plugin keeps memory for every input shape that a dynamic model has seen; images of many sizes fill it.
#
# Versions: Python 3.11, openvino 2026.4.1, numpy 2.4.6; Linux, x86-64.
# Expected: a model of dynamic height and width that has seen images of 256 sizes, one after the other, needs about
#           as much memory as one that has seen the largest of them 256 times.
# Seen:     it keeps what it prepared for each size (nine small convolutions: more than 100 MB for 256 sizes of up to
#           184 x 184 pixels; memory of one size stays as it is). CPU_RUNTIME_CACHE_CAPACITY bounds it, and is accepted
#           when a model is compiled, but is not among the supported properties of the device or of the compiled model,
#           and the compiled model cannot be asked for it.
# Output seen:
#   one size: less than 20 MB more
#   256 sizes: more than 80 MB more
#   256 sizes, CPU_RUNTIME_CACHE_CAPACITY=32: less than two thirds of that
#   among the supported properties: False
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.4.6
cd "$work"
cat >grow.py <<'PY'
import random
import sys

import numpy as np
import openvino
from openvino import opset13

SIZES = [(64 + 8 * i, 64 + 8 * j) for i in range(16) for j in range(16)]
CHANNELS = [1, 16, 32, 32, 32, 32, 32, 16, 16, 2]
KEY = "CPU_RUNTIME_CACHE_CAPACITY"


def network():
    image = node = opset13.parameter([1, 1, -1, -1], np.float32)
    for before, after in zip(CHANNELS, CHANNELS[1:]):
        weights = np.full((after, before, 3, 3), 0.01, np.float32)
        node = opset13.convolution(node, weights, [1, 1], [1, 1], [1, 1], [1, 1])
        node = opset13.relu(node)
    return openvino.Model([node], [image])


def resident_mb():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


core = openvino.Core()
model = core.compile_model(network(), "CPU", {KEY: 32} if sys.argv[1] == "bounded" else {})
sizes = [SIZES[-1]] * len(SIZES) if sys.argv[1] == "one" else random.Random(0).sample(SIZES, len(SIZES))
for _ in range(2):
    model(np.zeros((1, 1, *SIZES[-1]), np.float32))
before = resident_mb()
for size in sizes:
    model(np.zeros((1, 1, *size), np.float32))
named = {*core.get_property("CPU", "SUPPORTED_PROPERTIES"), *model.get_property("SUPPORTED_PROPERTIES")}
print(f"{resident_mb() - before:.0f} {KEY in named}")
PY
read -r one named < <("$work/venv/bin/python" grow.py one)
read -r many _ < <("$work/venv/bin/python" grow.py many)
read -r bounded _ < <("$work/venv/bin/python" grow.py bounded)
echo "measured: $one, $many and $bounded MB more" >&2
yes_no() { if (($1)); then echo "$2"; else echo "$3"; fi; }
found=$(
  echo "one size: $(yes_no "one < 20" "less than" "at least") 20 MB more"
  echo "256 sizes: $(yes_no "many > 80" "more than" "at most") 80 MB more"
  echo "256 sizes, CPU_RUNTIME_CACHE_CAPACITY=32: $(yes_no "3 * bounded < 2 * many" "less than" "at least") two thirds of that"
  echo "among the supported properties: $named"
)
echo "$found"
diff <(grep -A4 '^# Output seen' "$0" | tail -n +2 | sed 's/^#   //') <(echo "$found")
