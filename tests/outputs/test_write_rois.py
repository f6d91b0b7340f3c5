"""ROI sets: read back, filled, they are the labels; names and positions fit."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import roifile
from hypothesis import given, settings

from cellunet.imaging.measure import ObjectBatch
from cellunet.imaging.outlines import outlines
from cellunet.outputs.shapes import Place, RoiSet, roi_bytes
from tests.imaging.test_outlines import LABELS, fill


def read(outline, place=None, number=1) -> roifile.ImagejRoi:
    return roifile.ImagejRoi.frombytes(roi_bytes(outline, place or Place(), number))


def write(path, labels, places=None) -> None:
    found = outlines(labels)
    batch = ObjectBatch(0, np.array(list(found)), {}, list(found.values()))
    rois = RoiSet(path)
    for place in places or [Place()]:
        rois.add(place, batch)
    assert not path.exists()
    rois.commit()


@settings(max_examples=100)
@given(labels=LABELS)
def test_a_roi_read_back_and_filled_is_the_label(labels) -> None:
    for number, outline in outlines(labels).items():
        rings = read(outline).coordinates(multi=True)
        filled = fill([[ring.astype(float) for ring in rings]], labels.shape)
        np.testing.assert_array_equal(filled, labels == number)


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
        (Place(), "00012", (0, 0, 0, 0)),
        (Place(z=3), "z003_00012", (4, 0, 0, 0)),
        (Place(t=0), "t000_00012", (1, 0, 0, 0)),
        (Place(t=1, z=2), "t001_z002_00012", (0, 0, 3, 2)),
        (Place(z=3, channels=2), "z003_00012", (0, 0, 4, 0)),
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
        write(tmp_path / name, np.eye(4, dtype=int), [Place(t=0), Place(t=1)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_far_corners_of_large_planes_are_exact() -> None:
    ring = np.array([[70_000.25, 9.0], [70_003.0, 9.25], [70_001.0, 12.0]])
    assert read([[ring]]).coordinates().tolist() == ring.tolist()


def test_an_aborted_set_leaves_nothing(tmp_path) -> None:
    rois = RoiSet(tmp_path / "s.zip")
    found = outlines(np.ones((2, 2), int))
    rois.add(Place(), ObjectBatch(0, np.array([1]), {}, list(found.values())))
    rois.abort()
    rois.abort()
    assert list(tmp_path.iterdir()) == []
