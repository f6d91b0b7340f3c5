"""GeoJSON: valid, as QuPath reads it, and filled it is the labels."""

from __future__ import annotations

import json
import uuid

import numpy as np
import shapely
from hypothesis import given, settings
from shapely.geometry import shape

from cellunet.imaging.measure import ObjectBatch, column_names, measure_labels
from cellunet.imaging.outlines import outlines
from cellunet.outputs.shapes import GeoJson, geometry
from tests.imaging.test_outlines import LABELS, fill


def batch(labels, plane=0) -> ObjectBatch:
    table = measure_labels(labels, [labels], pixel_size_um=(0.5, 0.5))
    return ObjectBatch(plane, table.pop("id"), table, list(outlines(labels).values()))


def written(path, labels, image="a.tif", place=None) -> dict:
    file = GeoJson(path, image)
    file.add(place or {}, batch(labels))
    assert not path.exists()
    file.commit()
    text = path.read_bytes()
    assert text.isascii()
    return json.loads(text)


@settings(max_examples=100)
@given(labels=LABELS)
def test_a_geometry_is_valid_and_filled_it_is_the_label(labels) -> None:
    for number, outline in outlines(labels).items():
        found = json.loads(json.dumps(geometry(outline)))
        assert shape(found).is_valid
        assert shape(found).area > 0
        pieces = found["coordinates"]
        pieces = pieces if found["type"] == "MultiPolygon" else [pieces]
        for ring in (ring for piece in pieces for ring in piece):
            assert ring[0] == ring[-1]
            assert len(ring) >= 4
        filled = fill([[np.array(r[:-1]) for r in p] for p in pieces], labels.shape)
        np.testing.assert_array_equal(filled, labels == number)


def test_objects_are_detections_with_measurements(tmp_path) -> None:
    labels = np.array([[1, 1, 0, 0], [0, 0, 2, 2]])
    found = written(tmp_path / "a.geojson", labels)
    assert found["type"] == "FeatureCollection"
    first, second = found["features"]
    assert first["type"] == "Feature"
    properties = first["properties"]
    assert properties["objectType"] == "detection"
    assert properties["name"] == "1"
    assert properties["classification"]["name"] == "nucleus"
    # Confidence is not known here, and so left out.
    assert list(properties["measurements"]) == column_names()[:-1]
    assert properties["measurements"]["area_um2"] == 0.5
    assert second["properties"]["measurements"]["x_px"] == 3
    assert first["geometry"]["plane"] == {"c": -1, "z": 0, "t": 0}
    assert uuid.UUID(first["id"]) != uuid.UUID(second["id"])


def test_planes_are_counted_from_0(tmp_path) -> None:
    found = written(tmp_path / "a", np.array([[1]]), place={"t": 1, "z": 2})
    assert found["features"][0]["geometry"]["plane"] == {"c": -1, "z": 2, "t": 1}


def test_ids_tell_images_planes_and_objects_apart(tmp_path) -> None:
    labels = np.array([[1, 2]])
    ids = set()
    for image in ("a.tif", "b.tif"):
        for place in ({}, {"t": 1}, {"z": 1}):
            for _ in range(2):
                found = written(tmp_path / "x", labels, image, place)
                (tmp_path / "x").unlink()
                ids |= {feature["id"] for feature in found["features"]}
    assert len(ids) == 12


def test_no_name_breaks_the_json(tmp_path) -> None:
    name = '"</script><b>\n=1+1,ä😀\udcff'
    assert len(written(tmp_path / "a", np.array([[1]]), name)["features"]) == 1


def test_no_object_is_an_empty_collection(tmp_path) -> None:
    found = written(tmp_path / "a", np.zeros((2, 2), int))
    assert found == {"type": "FeatureCollection", "features": []}


def test_an_aborted_file_leaves_nothing(tmp_path) -> None:
    file = GeoJson(tmp_path / "a", "a")
    file.add({}, batch(np.array([[1]])))
    file.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_whole_field_is_read_back(tmp_path, nuclei_image) -> None:
    _, labels = nuclei_image((120, 120), 20, 5)
    found = written(tmp_path / "a", labels)
    shapes = [shape(feature["geometry"]) for feature in found["features"]]
    assert all(s.is_valid for s in shapes)
    parts = sum(s.area for s in shapes)
    assert shapely.union_all(shapes).area == parts
