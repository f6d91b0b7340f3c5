"""Outlines for Fiji and QuPath."""

from __future__ import annotations

import json
import tempfile
import uuid
import zipfile
from pathlib import Path

import numpy as np
import pytest
import roifile
import shapely
from hypothesis import given, settings
from shapely.geometry import shape

from cellunet.imaging.measure import ObjectBatch, column_names, measure_labels
from cellunet.imaging.outlines import outlines
from cellunet.outputs.shapes import (
    Coordinates,
    GeoJson,
    RoiSet,
    StackPosition,
    geometry,
    numbers,
    roi_bytes,
)
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


@pytest.mark.slow
@settings(max_examples=100)
@given(labels=LABELS)
def test_a_geometry_is_valid_and_filled_it_is_the_label(labels) -> None:
    for number, outline in outlines(labels).items():
        found = json.loads(f"{{{geometry(outline, Coordinates())}}}")
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


@pytest.mark.usefixtures("windows_lines")
def test_lines_end_alike_on_all_systems(tmp_path) -> None:
    written(tmp_path / "a.geojson", np.array([[1, 0, 2]]))
    assert b"\r" not in (tmp_path / "a.geojson").read_bytes()


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


def read(outline, place=None, number=1) -> roifile.ImagejRoi:
    return roifile.ImagejRoi.frombytes(
        roi_bytes(outline, place or StackPosition(), number)
    )


def write(path, labels, places=None) -> None:
    found = outlines(labels)
    batch = ObjectBatch(0, np.array(list(found)), {}, list(found.values()))
    rois = RoiSet(path)
    for place in places or [StackPosition()]:
        rois.add(place, batch)
    assert not path.exists()
    rois.commit()


@pytest.mark.slow
@settings(max_examples=100)
@given(labels=LABELS)
def test_a_roi_read_back_and_filled_is_the_label(labels) -> None:
    for number, outline in outlines(labels).items():
        rings = read(outline).coordinates(multi=True)
        filled = fill([[ring.astype(float) for ring in rings]], labels.shape)
        np.testing.assert_array_equal(filled, labels == number)


@settings(max_examples=50)
@given(labels=LABELS)
def test_a_set_holds_the_rois_of_its_objects(labels) -> None:
    found = outlines(labels)
    batch = ObjectBatch(0, np.array(list(found)), {}, list(found.values()))
    place = StackPosition(t=1, z=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.zip")
        rois = RoiSet(path)
        rois.add(place, batch)
        rois.commit()
        with zipfile.ZipFile(path) as archive:
            contents = [archive.read(name) for name in archive.namelist()]
    assert contents == [roi_bytes(o, place, n) for n, o in found.items()]


def test_a_polygon_of_more_points_than_fit_its_usual_place_is_there(tmp_path) -> None:
    # A comb: four points a tooth.
    labels = np.zeros((3, 40_000), np.uint8)
    labels[0], labels[1, ::2] = 1, 1
    write(tmp_path / "a.zip", labels)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        (name,) = archive.namelist()
        roi = roifile.ImagejRoi.frombytes(archive.read(name))
    assert len(roi.coordinates()) == len(outlines(labels)[1][0][0]) > 2**16


def test_numbers_have_nine_digits_and_whole_ones_no_point() -> None:
    values = [12.0, -0.0, 1 / 3, 207.775, 1e-7, 2.5e-7, 1e12, np.nan, np.inf]
    assert numbers(np.array(values)) == [
        *("12", "0", "0.333333333", "207.775", "1e-07", "2.5e-07", "1000000000000"),
        *("", ""),
    ]
    # What rounding alone makes whole keeps its point.
    near = [11.9999999999, 123456789.4, 9876543210.5, -1234.00000001]
    assert numbers(np.array(near)) == [
        *("12.0", "123456789.0", "9876543210.0", "-1234.0")
    ]
    assert numbers(np.array([True, False])) == ["true", "false"]
    assert numbers(np.array([3, -4])) == ["3", "-4"]


def test_a_simple_object_is_a_polygon_with_subpixel_points() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[2:5, 3:8] = 1
    roi = read(outlines(labels)[1])
    assert roi.roitype == roifile.ROI_TYPE.POLYGON
    assert roi.subpixelresolution
    assert (roi.left, roi.top, roi.right, roi.bottom) == (3, 2, 8, 5)
    assert roi.coordinates().min(axis=0).tolist() == [3, 2]
    # Readers of whole pixels find the same to half a pixel.
    whole = roi.integer_coordinates + np.array([roi.left, roi.top])
    assert np.abs(whole - roi.coordinates()).max() <= 0.5


def test_no_outline_is_freehand_which_imagej_would_smooth() -> None:
    # ImageJ averages neighboring points of freehand and traced selections.
    labels = np.zeros((12, 12), np.uint8)
    labels[2:8, 3:8], labels[4:10, 5:10] = 1, 1
    assert read(outlines(labels)[1]).roitype is roifile.ROI_TYPE.POLYGON
    default = roifile.ImagejRoi.frompoints([[1, 1], [5, 1], [5, 5]])
    assert default.roitype is roifile.ROI_TYPE.FREEHAND


def test_an_object_with_a_hole_is_a_composite() -> None:
    labels = np.ones((5, 5), np.uint8)
    labels[2, 2] = 0
    roi = read(outlines(labels)[1])
    assert roi.composite
    assert len(roi.coordinates(multi=True)) == 2
    assert (roi.left, roi.top, roi.right, roi.bottom) == (0, 0, 5, 5)


@pytest.mark.parametrize(
    ("place", "name", "position"),
    [
        (StackPosition(), "00012", (0, 0, 0, 0)),
        (StackPosition(z=3), "z003_00012", (4, 0, 0, 0)),
        (StackPosition(t=0), "t000_00012", (1, 0, 0, 0)),
        (StackPosition(t=1, z=2), "t001_z002_00012", (0, 0, 3, 2)),
        (StackPosition(z=3, channels=2), "z003_00012", (0, 0, 4, 0)),
        (StackPosition(t=3, projected=2), "t003_00012", (0, 0, 0, 4)),
    ],
)
def test_names_and_positions(place, name, position) -> None:
    roi = read(outlines(np.ones((2, 2), int))[1], place, 12)
    assert roi.name == name
    found = (roi.position, roi.c_position, roi.z_position, roi.t_position)
    assert found == position


def test_a_set_opens_as_a_list_of_rois_in_order(tmp_path) -> None:
    labels = np.zeros((6, 30), np.uint8)
    labels[2:5, 1::3] = np.arange(1, 11)
    write(tmp_path / "s.zip", labels)
    rois = roifile.roiread(tmp_path / "s.zip")
    assert [roi.name for roi in rois] == [f"{n:05d}" for n in range(1, 11)]
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{roi.name}.roi" for roi in rois]


def test_the_same_objects_give_the_same_bytes(tmp_path) -> None:
    for name in "ab":
        write(
            tmp_path / name,
            np.eye(4, dtype=int),
            [StackPosition(t=0), StackPosition(t=1)],
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_far_corners_of_large_planes_are_exact() -> None:
    ring = np.array([[70_000.25, 9.0], [70_003.0, 9.25], [70_001.0, 12.0]])
    assert read([[ring]]).coordinates().tolist() == ring.tolist()


def test_an_aborted_set_leaves_nothing(tmp_path) -> None:
    rois = RoiSet(tmp_path / "s.zip")
    found = outlines(np.ones((2, 2), int))
    rois.add(StackPosition(), ObjectBatch(0, np.array([1]), {}, list(found.values())))
    rois.abort()
    rois.abort()
    assert list(tmp_path.iterdir()) == []
