#!/usr/bin/env bash
# py-ctcmetrics scores a perfect result below 1 as soon as an 8-bit mask holds more than 127 cells.
#
# Versions: Python 3.11 and 3.13, py-ctcmetrics 1.3.3, tifffile 2026.3.3, numpy 2.2.6.
# Expected: a result whose masks equal the ground truth has DET, SEG and TRA of 1, whatever the type of the masks.
# Seen:     before matching, the highest label of the ground truth plus 1 is added to the result's labels in their own
#           type, where they wrap around. At 127 cells in uint8 all is well; at 140 the perfect result loses a fifth;
#           in uint16 the same masks have 1 again (there labels from 32,768 on are hit). No error, no warning.
# Output seen:
#   127 cells, uint8: DET 1.000, SEG 1.000, TRA 1.000
#   140 cells, uint8: DET 0.796, SEG 0.814, TRA 0.797
#   140 cells, uint16: DET 1.000, SEG 1.000, TRA 1.000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check py-ctcmetrics==1.3.3 tifffile==2026.3.3 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY'
import contextlib
import io
import sys
from pathlib import Path

import numpy as np
import tifffile
from ctc_metrics import evaluate_sequence


def evaluate(cells, dtype):
    """Scores of a sequence of two equal frames against itself, in the layout of the Cell Tracking Challenge."""
    labels = np.zeros((240, 240), dtype)
    for label in range(1, cells + 1):
        y, x = divmod(label - 1, 12)
        labels[20 * y + 2 : 20 * y + 15, 20 * x + 2 : 20 * x + 15] = label
    root = Path(f"{cells}-{dtype}")
    truth, result = root / "01_GT", root / "01_RES"
    for folder in (truth / "TRA", truth / "SEG", result):
        folder.mkdir(parents=True)
    for frame in range(2):
        for name in (
            truth / f"TRA/man_track{frame:03d}.tif",
            truth / f"SEG/man_seg{frame:03d}.tif",
            result / f"mask{frame:03d}.tif",
        ):
            tifffile.imwrite(name, labels)
    tracks = "".join(f"{label} 0 1 0\n" for label in range(1, cells + 1))
    (truth / "TRA/man_track.txt").write_text(tracks)
    (result / "res_track.txt").write_text(tracks)
    with contextlib.redirect_stdout(io.StringIO()):
        scores = evaluate_sequence(res=str(result), gt=str(truth), metrics=["DET", "SEG", "TRA"], threads=1)
    print(f"{cells} cells, {dtype}: DET {scores['DET']:.3f}, SEG {scores['SEG']:.3f}, TRA {scores['TRA']:.3f}")
    return scores["DET"]


as_stated = evaluate(127, "uint8") == 1 and evaluate(140, "uint8") < 0.9 and evaluate(140, "uint16") == 1
sys.exit(None if as_stated else "The behavior has changed.")
PY
