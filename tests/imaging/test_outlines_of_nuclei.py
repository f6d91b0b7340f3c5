"""All annotated validation nuclei through the files for Fiji and QuPath and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import roifile
import shapely
from skimage.draw import polygon

from cellunet.imaging.measure import ObjectBatch, measure_labels
from cellunet.imaging.outlines import outlines
from cellunet.outputs.shapes import GeoJson, RoiSet, StackPosition
from tests.conftest import read_labels


def filled(objects, shape) -> np.ndarray:
    labels = np.zeros(shape, int)
    for number, rings in objects:
        inside = np.zeros(shape, bool)
        for ring in rings:
            x, y = np.asarray(ring, float).T - 0.5
            inside[polygon(y, x, shape)] ^= True
        assert not labels[inside].any()
        labels[inside] = number
    return labels


@pytest.mark.slow
@pytest.mark.data
def test_every_nucleus_comes_back_pixel_by_pixel(data_dir, tmp_path) -> None:
    stems = (data_dir / "bbbc039/metadata/validation.txt").read_text().split()
    objects = 0
    for stem in stems:
        labels = read_labels(data_dir / f"bbbc039/masks/{stem}.png")
        table = measure_labels(labels)
        batch = ObjectBatch(0, table.pop("id"), table, list(outlines(labels).values()))
        objects += len(batch.ids)
        rois = RoiSet(tmp_path / f"{stem}.zip")
        rois.add(StackPosition(), batch)
        rois.commit()
        detections = GeoJson(tmp_path / f"{stem}.geojson", stem)
        detections.add({}, batch)
        detections.commit()
        if not len(batch.ids):
            continue
        read = roifile.roiread(tmp_path / f"{stem}.zip")
        read = read if isinstance(read, list) else [read]
        fiji = [(int(r.name), r.coordinates(multi=True)) for r in read]
        np.testing.assert_array_equal(filled(fiji, labels.shape), labels)
        text = (tmp_path / f"{stem}.geojson").read_text(encoding="ascii")
        qupath = []
        for feature in json.loads(text)["features"]:
            shape = shapely.geometry.shape(feature["geometry"])
            assert shape.is_valid
            pieces = getattr(shape, "geoms", [shape])
            rings = [
                ring.coords[:-1] for p in pieces for ring in (p.exterior, *p.interiors)
            ]
            qupath.append((int(feature["properties"]["name"]), rings))
        np.testing.assert_array_equal(filled(qupath, labels.shape), labels)
    assert objects == 5896
