"""Labels to every format of shapes and back, on the validation images of BBBC039.

    python benchmarks/round_trips.py DATA

ROI sets and GeoJSON are written as `predict --save` writes them; COCO and labelme files
by this script, from the same outlines, since cellunet reads these two only. Prints how
many objects came back, and the smallest IoU with which one did.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cellunet.annotations.pairs import find_pairs
from cellunet.annotations.read import read_annotation, read_labels
from cellunet.imaging.measure import ObjectBatch, measure_labels
from cellunet.imaging.outlines import outlines
from cellunet.outputs.shapes import GeoJson, Place, RoiSet


def batch_of(labels: np.ndarray) -> ObjectBatch:
    table = measure_labels(labels)
    return ObjectBatch(0, table.pop("id"), table, list(outlines(labels).values()))


def rois(labels: np.ndarray, path: Path) -> Path:
    out = RoiSet(path.with_suffix(".zip"))
    out.add(Place(), batch_of(labels))
    out.commit()
    return path.with_suffix(".zip")


def geojson(labels: np.ndarray, path: Path) -> Path:
    out = GeoJson(path.with_suffix(".geojson"), path.stem)
    out.add({}, batch_of(labels))
    out.commit()
    return path.with_suffix(".geojson")


def rings(labels: np.ndarray) -> dict[int, list[list[list[float]]]]:
    """Return the closed rings of each object, xy, holes left out."""
    with tempfile.TemporaryDirectory() as folder:
        text = geojson(labels, Path(folder) / "rings").read_text()
    features = json.loads(text)["features"]
    found = {}
    for number, feature in zip(outlines(labels), features, strict=True):
        shape = feature["geometry"]
        polygons = shape["coordinates"]
        if shape["type"] == "Polygon":
            polygons = [polygons]
        found[number] = [polygon[0] for polygon in polygons]
    return found


def coco(labels: np.ndarray, path: Path, segmentations: list[object]) -> Path:
    height, width = labels.shape
    image = {"id": 1, "file_name": f"{path.stem}.tif", "height": height, "width": width}
    objects = [
        {"id": i, "image_id": 1, "segmentation": s}
        for i, s in enumerate(segmentations, 1)
    ]
    path.write_text(json.dumps({"images": [image], "annotations": objects}))
    return path


def coco_polygons(labels: np.ndarray, path: Path) -> Path:
    flat = [
        [np.ravel(ring[:-1]).tolist() for ring in mine]
        for mine in rings(labels).values()
    ]
    return coco(labels, path.with_suffix(".polygons.json"), flat)


def coco_runs(labels: np.ndarray, path: Path) -> Path:
    runs = []
    for number in np.unique(labels[labels > 0]):
        # Column by column, beginning with a run outside.
        inside = (labels == number).T.ravel()
        edges = np.flatnonzero(np.diff(inside, prepend=False, append=False))
        ends = [0, *edges]
        if ends[-1] < inside.size:
            ends.append(inside.size)
        counts = np.diff(ends)
        runs.append({"size": list(labels.shape), "counts": counts.tolist()})
    return coco(labels, path.with_suffix(".runs.json"), runs)


def labelme(labels: np.ndarray, path: Path) -> Path:
    shapes = [
        {
            "label": "nucleus",
            "points": ring[:-1],
            "shape_type": "polygon",
            "group_id": number if len(mine) > 1 else None,
        }
        for number, mine in rings(labels).items()
        for ring in mine
    ]
    height, width = labels.shape
    document = {"shapes": shapes, "imageHeight": height, "imageWidth": width}
    path.with_suffix(".labelme.json").write_text(json.dumps(document))
    return path.with_suffix(".labelme.json")


FORMATS: dict[str, Callable[[np.ndarray, Path], Path]] = {
    "Fiji ROI set": rois,
    "QuPath GeoJSON": geojson,
    "COCO polygons": coco_polygons,
    "COCO run lengths": coco_runs,
    "labelme": labelme,
}


def smallest_iou(true: np.ndarray, found: np.ndarray) -> tuple[int, float]:
    """Return how many true objects have an own partner, and the least IoU of these."""
    table = np.zeros((int(true.max()) + 1, int(found.max()) + 1), np.int64)
    np.add.at(table, (true.ravel(), found.ravel()), 1)
    union = table.sum(axis=1)[:, None] + table.sum(axis=0)[None] - table
    iou = (table / np.maximum(union, 1))[1:, 1:]
    present = np.unique(true[true > 0]) - 1
    if not len(present):
        return 0, 1.0
    best = iou[present].max(axis=1, initial=0.0)
    return int((best > 0.5).sum()), float(best.min())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    found = find_pairs(parser.parse_args().data / "bbbc039")
    held = set(found.validation or ())
    truths = {p.name: read_labels(p.annotation) for p in found.pairs if p.name in held}
    print("| format | objects | came back | smallest IoU |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        for title, write in FORMATS.items():
            total, back, least = 0, 0, 1.0
            for name, true in truths.items():
                if not true.any():
                    continue
                path = write(true, Path(temporary) / name)
                again = read_annotation(path, shape=true.shape).labels
                count, iou = smallest_iou(true, again)
                total += len(np.unique(true[true > 0]))
                back, least = back + count, min(least, iou)
            print(f"| {title} | {total:,} | {back:,} | {least:.3f} |", flush=True)


if __name__ == "__main__":
    main()
