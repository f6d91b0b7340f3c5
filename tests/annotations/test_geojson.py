"""GeoJSON as QuPath writes it becomes objects with holes and classes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cellunet.annotations.geojson import geojson_drawings
from cellunet.annotations.read import read_annotation
from cellunet.errors import AnnotationError

SHAPE = (12, 16)


def ring(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


def feature(geometry, kind="annotation", **properties):
    """A feature as QuPath exports it."""
    return {
        "type": "Feature",
        "id": "f4a0b5a8-5b6d-4a6c-9c39-4d1b6e0ec4f1",
        "geometry": geometry,
        "properties": {"objectType": kind, **properties},
    }


def collection(*features):
    return {"type": "FeatureCollection", "features": list(features)}


A = polygon(ring(1, 1, 5, 5), ring(2, 2, 4, 4))
B = {
    "type": "MultiPolygon",
    "coordinates": [[ring(6, 1, 9, 4)], [ring(10, 1, 12, 4), ring(10, 2, 11, 3)]],
}
TUMOR = {"name": "Tumor", "color": [200, 0, 0]}


@pytest.fixture
def read(tmp_path):
    def read(document, name="a.geojson", shape=SHAPE):
        (tmp_path / name).write_text(json.dumps(document), encoding="utf-8")
        return read_annotation(tmp_path / name, shape=shape)

    return read


def test_polygons_with_holes_and_multipolygons_are_objects(read):
    found = read(
        collection(
            feature(A, classification=TUMOR, isLocked=True),
            feature(B, kind="detection", measurements={"Area": 14.0}),
        )
    )
    assert found.kind == "geojson"
    assert np.bincount(found.labels.ravel())[1:].tolist() == [16 - 4, 9 + 6 - 1]
    assert not found.labels[2:4, 2:4].any()
    assert found.labels[2].tolist() == [0, 1, 0, 0, 1, 0, 2, 2, 2, 0, 0, 2, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "document",
    [
        collection(feature(A), feature(B)),
        [feature(A), feature(B)],
        [A, B],
        {"type": "GeometryCollection", "geometries": [A, B]},
    ],
    ids=["collection", "features", "geometries", "geometry collection"],
)
def test_every_form_holds_the_same_objects(read, document):
    expected = read(collection(feature(A), feature(B))).labels
    assert np.array_equal(read(document).labels, expected)


def test_a_single_feature_and_a_cell_with_its_nucleus_are_one_object(read):
    cell = feature(polygon(ring(1, 1, 9, 9)), kind="cell")
    cell["nucleusGeometry"] = polygon(ring(3, 3, 5, 5))
    assert np.bincount(read(cell).labels.ravel())[1:].tolist() == [64]


def test_a_collection_within_a_feature_is_one_object(read):
    both = {"type": "GeometryCollection", "geometries": [A, B]}
    assert np.bincount(read(feature(both)).labels.ravel())[1:].tolist() == [26]


def test_classes_say_what_does_not_count(read):
    found = read(
        collection(
            feature(A),
            feature(polygon(ring(0, 0, 8, 12)), classification={"name": "Region*"}),
            feature(polygon(ring(0, 0, 2, 12)), classification={"names": ["Ignore*"]}),
            # A name counts where there is no class.
            feature(polygon(ring(0, 6, 16, 12)), name="ignore"),
            feature(B, name="ignore", classification=TUMOR),
        )
    )
    assert found.annotated[0].tolist() == [False] * 2 + [True] * 6 + [False] * 8
    assert not found.annotated[6:].any()
    assert found.labels.max() == 2


def test_an_empty_collection_is_an_image_without_objects(read):
    assert not read(collection()).labels.any()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            collection(
                feature({"type": "Point", "coordinates": [1, 2]}, name="spot"),
                feature({"type": "LineString", "coordinates": [[1, 2], [3, 4]]}),
            ),
            r"spot \(Point\), feature 2 \(LineString\)",
        ),
        (collection(feature(None)), "geometry of feature 1 is null"),
        (collection(feature({"type": "Polygon"})), "coordinates of feature 1 is null"),
        (collection(feature(polygon([[0, 0], [1, 1]]))), "2 different points"),
        (collection(feature(polygon([[0, 0], [1, 1], ["x", 2]]))), "no pair x, y"),
        ({"type": "FeatureCollection"}, "features is null"),
        ({"type": "Topology"}, "feature 1 .Topology"),
        (collection(3), "Feature 1 is 3"),
        (
            feature({"type": "GeometryCollection", "geometries": [{"type": "Point"}]}),
            "holds a Point",
        ),
    ],
)
def test_what_encloses_nothing_is_refused_by_name(read, document, message):
    with pytest.raises(AnnotationError, match=message) as caught:
        read(document)
    assert "a.geojson" in caught.value.message


def test_collections_nested_without_end_are_refused():
    geometry = A
    for _ in range(20):
        geometry = {"type": "GeometryCollection", "geometries": [geometry]}
    with pytest.raises(AnnotationError, match="nested too deeply"):
        geojson_drawings(feature(geometry))


def test_features_of_several_planes_are_refused(read):
    planes = [A | {"plane": {"c": -1, "z": z, "t": 0}} for z in (0, 1)]
    assert read([planes[0], planes[0]]).hidden == 1
    with pytest.raises(AnnotationError, match="lie on 2 planes"):
        read(planes)


def test_without_the_size_of_the_image_it_is_refused(read):
    with pytest.raises(AnnotationError, match="there is no image"):
        read(collection(feature(A)), shape=None)
