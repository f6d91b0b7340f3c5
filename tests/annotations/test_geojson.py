"""GeoJSON as QuPath writes it becomes objects with holes and classes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cellunet.annotations.geojson import (
    CELLS,
    OUTER,
    OUTLINES,
    REGIONS,
    TILES,
    geojson_drawings,
)
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
    def read(document, name="a.geojson", shape=SHAPE, cells=False):
        (tmp_path / name).write_text(json.dumps(document), encoding="utf-8")
        return read_annotation(tmp_path / name, shape=shape, cells=cells)

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


def areas(found):
    return np.bincount(found.labels.ravel())[1:].tolist()


def cell(box, nucleus=None):
    found = feature(polygon(ring(*box)), kind="cell")
    return found | ({} if nucleus is None else {"nucleusGeometry": nucleus})


def test_a_cell_is_its_nucleus_unless_its_outline_is_asked_for(read):
    document = collection(
        cell((1, 1, 9, 9), polygon(ring(3, 3, 5, 5))),
        cell((9, 1, 15, 7), polygon(ring(10, 2, 13, 5))),
    )
    found = read(document)
    assert areas(found) == [4, 9]
    assert found.notes == (CELLS,)
    outlines = read(document, cells=True)
    assert areas(outlines) == [64, 36]
    assert outlines.notes == (OUTLINES,)


@pytest.mark.parametrize("kind", ["Point", "LineString"])
def test_a_point_or_line_left_in_costs_itself_alone(read, kind):
    at = [3, 3] if kind == "Point" else [[3, 3], [5, 5]]
    stray = feature({"type": kind, "coordinates": at}, objectType="annotation")
    found = read(collection(feature(polygon(ring(3, 3, 5, 5))), stray))
    assert areas(found) == [4]
    (note,) = found.notes
    assert f"feature 2 ({kind})" in note


def test_cells_of_which_none_has_a_nucleus_are_their_outlines(read):
    assert areas(read(cell((1, 1, 9, 9)))) == [64]


def test_a_cell_without_nucleus_among_others_is_left_out_by_name(read):
    found = read([cell((1, 1, 9, 9), polygon(ring(3, 3, 5, 5))), cell((9, 1, 15, 7))])
    assert areas(found) == [4]
    assert "feature 2 has no nucleusGeometry" in found.notes[1]


BOX, LEFT, RIGHT = ring(0, 0, 14, 10), ring(1, 1, 4, 4), ring(8, 5, 12, 8)


@pytest.mark.parametrize(
    "around",
    [
        feature(polygon(BOX)),
        feature(polygon(BOX), classification=TUMOR),
        feature(polygon(BOX), kind="tmaCore", isMissing=False),
        {**feature(polygon(BOX), kind=None), "id": "PathAnnotationObject"},
    ],
    ids=["annotation", "of a class", "core", "of QuPath 0.2"],
)
def test_what_was_drawn_around_detections_is_a_region(read, around):
    inside = [feature(polygon(r), kind="detection") for r in (LEFT, RIGHT)]
    found = read(collection(around, *inside))
    assert areas(found) == [9, 12]
    assert np.count_nonzero(found.annotated) == 140
    assert found.notes == (REGIONS,)


@pytest.mark.parametrize("kind", ["detection", "annotation"])
def test_objects_listed_in_an_annotation_are_read_and_it_is_a_region(read, kind):
    children = [feature(polygon(r), kind=kind) for r in (LEFT, RIGHT)]
    found = read(collection(feature(polygon(BOX), childObjects=children)))
    assert areas(found) == [9, 12]
    assert np.count_nonzero(found.annotated) == 140


def test_the_innermost_annotation_around_detections_is_the_region(read):
    found = read(
        collection(
            feature(polygon(ring(0, 0, 16, 12)), kind="tmaCore"),
            feature(polygon(ring(0, 0, 15, 11))),
            feature(polygon(BOX)),
            feature(polygon(LEFT), kind="detection"),
            # Drawn beside the detections: an object.
            feature(polygon(RIGHT)),
        )
    )
    assert areas(found) == [9, 12]
    assert np.count_nonzero(found.annotated) == 140
    assert found.notes == (REGIONS, OUTER)


def test_a_core_without_objects_counts_as_empty_and_a_missing_one_not_at_all(read):
    cores = [
        feature(polygon(ring(0, 0, 6, 6)), kind="tmaCore", isMissing=False),
        feature(polygon(ring(4, 0, 10, 6)), kind="tmaCore", isMissing=True),
    ]
    found = read(collection(*cores, feature(polygon(RIGHT), kind="detection")))
    assert found.annotated[0].tolist() == [True] * 4 + [False] * 12


def test_an_annotation_around_many_others_is_a_region_around_two_an_object(read):
    nuclei = [feature(polygon(ring(x, 2, x + 2, 4))) for x in (1, 5, 9)]
    box = feature(polygon(ring(0, 1, 12, 6)))
    cell_of_two = read(collection(box, *nuclei[:2]))
    assert areas(cell_of_two) == [52, 4, 4]
    assert cell_of_two.annotated is None
    many = read(collection(box, *nuclei))
    assert areas(many) == [4, 4, 4]
    assert np.count_nonzero(many.annotated) == 60


def test_tiles_are_no_objects(read):
    tile = feature(polygon(ring(0, 0, 16, 12)), kind="tile")
    found = read(collection(tile, feature(polygon(LEFT), kind="detection")))
    assert areas(found) == [9]
    assert found.notes == (TILES,)


def test_bare_nan_in_measurements_does_not_matter(read):
    # As QuPath up to 0.4 writes it; it is no JSON.
    found = read(collection(feature(polygon(LEFT), measurements={"x": float("nan")})))
    assert areas(found) == [9]


@pytest.mark.parametrize(
    "bad",
    [None, {"type": "Polygon", "coordinates": []}, polygon([[0, 0], [1, 1], [0, 0]])],
    ids=["null", "empty", "two points"],
)
def test_one_feature_that_encloses_nothing_is_left_out_by_name(read, bad):
    found = read(collection(feature(bad), feature(A)))
    assert areas(found) == [12]
    assert found.notes[0].startswith("1 of 2 shapes enclose nothing")
    assert "feature 1" in found.notes[0]


def test_a_part_without_area_takes_nothing_from_the_others(read):
    part = {
        "type": "MultiPolygon",
        "coordinates": [[[[0, 0], [1, 1]]], [ring(1, 1, 5, 5), [[2, 2], [3, 3]]]],
    }
    assert areas(read(feature(part))) == [16]


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
        (collection(feature(None)), "feature 1 has no geometry"),
        (collection(feature(3)), "geometry of feature 1 is 3"),
        (collection(feature({"type": "Polygon"})), "coordinates of feature 1 is null"),
        (collection(feature(polygon([[0, 0], [1, 1]]))), "encloses an area: feat"),
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
