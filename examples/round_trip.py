"""Outlines to Fiji and QuPath and back: filled again, they are the very labels.

ROI sets are read as Fiji reads them (package roifile), detections as
QuPath reads them (GeoJSON). Each outline is filled by the rule of both: a pixel belongs
to an object if its center lies inside.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import roifile
import tifffile
from matplotlib.path import Path as Outline

from cellunet.command_config import PredictConfig
from cellunet.tasks.predict.batch import predict

HERE = Path(__file__).parent
Rings = list[np.ndarray]


def fill(rings: Rings, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels whose center lies in an odd number of rings."""
    inside = np.zeros(shape, bool)
    for ring in rings:
        left, top = np.floor(np.min(ring, axis=0)).astype(int)
        right, bottom = np.ceil(np.max(ring, axis=0)).astype(int)
        y, x = np.mgrid[top:bottom, left:right]
        centers = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1)
        found = Outline(ring).contains_points(centers)
        inside[top:bottom, left:right] ^= found.reshape(y.shape)
    return inside


def from_fiji(path: Path) -> Iterator[tuple[int, Rings]]:
    for roi in roifile.roiread(path):
        yield int(roi.name), roi.coordinates(multi=True)


def from_qupath(path: Path) -> Iterator[tuple[int, Rings]]:
    for feature in json.loads(path.read_text(encoding="utf-8"))["features"]:
        geometry = feature["geometry"]
        several = geometry["type"] == "MultiPolygon"
        pieces = geometry["coordinates"] if several else [geometry["coordinates"]]
        yield int(feature["properties"]["name"]), [r for p in pieces for r in p]


def main(out: Path) -> None:
    predict([str(HERE / "images")], out, config=PredictConfig(save=("rois", "geojson")))
    for image in sorted((HERE / "images").glob("*.tif")):
        labels = tifffile.imread(out / image.name)
        for program, objects in (
            ("Fiji", from_fiji(out / f"{image.stem}_rois.zip")),
            ("QuPath", from_qupath(out / f"{image.stem}.geojson")),
        ):
            again = np.zeros_like(labels)
            for number, rings in objects:
                again[fill(rings, labels.shape)] = number
            same = "the same" if np.array_equal(again, labels) else "not the same"
            print(f"{image.stem}, {program}: {again.max()} objects, {same}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "round_trip"))
