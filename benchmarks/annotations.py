"""Seconds to read 10,000 objects of one image in every format of shapes.

``python benchmarks/annotations.py [FOLDER]``; medians of three readings.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import roifile

from cellunet.annotations.read import read_annotation

SIDE, STEP, COUNT = 4000, 40, 10_000
CORNERS = 40


def outlines() -> list[np.ndarray]:
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    circle = 12 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    per_row = SIDE // STEP
    centres = [(i % per_row, i // per_row) for i in range(COUNT)]
    return [circle + (np.array(c) + 0.5) * STEP for c in centres]


def run_lengths(rings: list[np.ndarray]) -> list[dict[str, object]]:
    """Return the circles as COCO's plain run lengths, column by column."""
    found = []
    for ring in rings:
        x, y = ring.mean(axis=0)
        counts, last = [], 0
        for column in range(int(x) - 12, int(x) + 12):
            half = np.sqrt(max(144 - (column + 0.5 - x) ** 2, 0))
            top, bottom = int(np.ceil(y - half - 0.5)), int(np.ceil(y + half - 0.5))
            start = column * SIDE + top
            counts += [start - last, bottom - top]
            last = start + bottom - top
        counts.append(SIDE * SIDE - last)
        found.append({"size": [SIDE, SIDE], "counts": counts})
    return found


def write(folder: Path) -> dict[str, Path]:
    rings = outlines()
    rois = [roifile.ImagejRoi.frompoints(r, name=str(i)) for i, r in enumerate(rings)]
    roifile.roiwrite(folder / "a.zip", rois, mode="w")
    closed = [np.round([*r, r[0]], 3).tolist() for r in rings]
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [c]}}
        for c in closed
    ]
    (folder / "a.geojson").write_text(json.dumps(features))
    shapes = [{"label": "cell", "points": c, "shape_type": "polygon"} for c in closed]
    size = {"imageHeight": SIDE, "imageWidth": SIDE}
    (folder / "labelme.json").write_text(json.dumps({"shapes": shapes} | size))
    image = {"id": 1, "file_name": "a.tif", "height": SIDE, "width": SIDE}
    flat = [[np.round(r, 3).ravel().tolist()] for r in rings]
    for name, forms in (("polygons", flat), ("runs", run_lengths(rings))):
        annotations = [
            {"id": i, "image_id": 1, "segmentation": f} for i, f in enumerate(forms)
        ]
        document = {"images": [image], "annotations": annotations}
        (folder / f"coco-{name}.json").write_text(json.dumps(document))
    names = ("a.zip", "a.geojson", "labelme.json", "coco-polygons.json")
    return {name: folder / name for name in (*names, "coco-runs.json")}


def main(folder: Path) -> None:
    for name, path in write(folder).items():
        seconds = []
        for turn in range(3):
            # COCO files are kept once they are read, unless they change.
            path.touch()
            begin = time.perf_counter()
            found = read_annotation(path, shape=(SIDE, SIDE))
            seconds.append(time.perf_counter() - begin)
            if len(np.unique(found.labels)) != COUNT + 1:
                raise SystemExit(f"{name}: objects are missing in turn {turn}")
        size = path.stat().st_size / 2**20
        print(f"{name}: {statistics.median(seconds):.2f} s, {size:.1f} MiB")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
