"""What follows from outlines, by hand and beside shapely."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from cellunet.imaging import outlines
from cellunet.imaging.measure import measure_labels
from cellunet.imaging.outlines import feret_diameters, hulls, shapes_of

SQUARE = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
HOLE = np.array([[1.0, 1], [1, 2], [2, 2], [2, 1]])
NUMBERS = st.integers(-9, 9)
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=30)


def test_a_hole_counts_in_length_and_against_area() -> None:
    found = shapes_of([[[SQUARE, HOLE]]], (0.5, 2.0))
    assert found.lengths[0].tolist() == [20]
    assert found.lengths[1].tolist() == [2 * (4 * 2 + 4 * 0.5) + 2 * (0.5 + 2)]
    assert found.solidity.tolist() == [15 / 16]


def test_objects_do_not_mix_and_far_corners_lose_nothing() -> None:
    alone = shapes_of([[[SQUARE, HOLE]]], None)
    piece = [[SQUARE + 1e7, HOLE + 1e7], [SQUARE + np.array([1e7 + 8, 1e7])]]
    both = shapes_of([[[SQUARE, HOLE]], piece], None)
    assert both.lengths[0].tolist() == [alone.lengths[0][0], 20 + 16]
    assert both.solidity.tolist() == [15 / 16, (15 + 16) / 48]


def test_without_a_pixel_size_there_are_no_micrometers() -> None:
    assert np.isnan(shapes_of([[[SQUARE]]], None).lengths[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("passes", [0, 1, 24])
@given(several=st.lists(POINTS, min_size=1, max_size=4))
def test_hulls_are_those_of_shapely(passes, several) -> None:
    expected = [shapely.MultiPoint(points).convex_hull for points in several]
    flat = [h.geom_type != "Polygon" for h in expected]
    several = [p for p, gone in zip(several, flat, strict=True) if not gone]
    expected = [h for h, gone in zip(expected, flat, strict=True) if not gone]
    if not several:
        return
    owner = np.repeat(np.arange(len(several)), [len(p) for p in several])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outlines, "PASSES", passes)
        found = hulls(np.concatenate([np.array(p, float) for p in several]), owner)
    for k, corners in enumerate(np.split(found.points, found.starts[1:])):
        ring = shapely.Polygon(corners)
        assert ring.equals(expected[k])
        assert ring.exterior.is_ccw
        assert len(corners) == len(expected[k].exterior.coords) - 1


@pytest.mark.parametrize("at_once", [1, 2**20])
def test_feret_diameters_are_distances_of_parallel_lines(at_once, monkeypatch) -> None:
    monkeypatch.setattr(outlines, "PAIRS_AT_ONCE", at_once)
    triangle = np.array([[0.0, 0], [3, 0], [0, 4]])
    around = hulls(np.concatenate((SQUARE, triangle)), np.array([0] * 4 + [1] * 3))
    far, wide = feret_diameters(around, (1.0, 1.0))
    np.testing.assert_allclose(far, [np.hypot(4, 4), 5])
    np.testing.assert_allclose(wide, [4, 12 / 5])
    # Pixels three times as high as wide.
    far, wide = feret_diameters(around, (3.0, 1.0))
    np.testing.assert_allclose(far, [np.hypot(4, 12), np.hypot(3, 12)])
    np.testing.assert_allclose(wide, [4, 36 / np.hypot(3, 12)])


def test_feret_diameters_are_of_pixel_corners() -> None:
    labels = np.zeros((9, 12), np.uint8)
    labels[1, 1], labels[3, 2:10], labels[5:8, 4:6] = 1, 2, 3
    labels[6, 4] = 0
    table = measure_labels(labels, detail=True)
    np.testing.assert_allclose(
        table["feret_max_px"], [np.sqrt(2), np.hypot(8, 1), np.hypot(3, 2)]
    )
    np.testing.assert_allclose(table["feret_min_px"], [1, 1, 2])


def test_a_disc_is_rounder_than_a_square_and_specks_have_no_circularity() -> None:
    labels = np.zeros((40, 70), np.uint8)
    y, x = np.mgrid[:40, :70]
    labels[(y - 15) ** 2 + (x - 15) ** 2 <= 100] = 1
    labels[5:15, 40:50], labels[30, 30:39], labels[36, 30:40] = 2, 3, 4
    found = measure_labels(labels, detail=True)["circularity"]
    np.testing.assert_allclose(found[:2], [0.917, 0.856], atol=5e-4)
    assert np.isnan(found[2])
    assert 0 < found[3] < 0.5


@pytest.mark.parametrize(
    ("step", "degrees"),
    [((0, 1), 0), ((-1, 1), 45), ((1, 0), 90), ((1, 1), 135)],
)
def test_orientation_is_that_of_imagej(step, degrees) -> None:
    labels = np.zeros((15, 15), np.uint8)
    for k in range(-4, 5):
        labels[7 + k * step[0], 7 + k * step[1]] = 1
    assert measure_labels(labels, detail=True)["orientation"].tolist() == [degrees]


def test_what_is_as_long_as_wide_has_no_orientation() -> None:
    labels = np.kron([[1, 0], [0, 2]], np.ones((5, 5), int))
    labels = np.pad(labels, ((3, 0), (7, 0)))
    assert np.isnan(measure_labels(labels, detail=True)["orientation"]).all()
    # Seen with pixels twice as high, both are upright.
    tall = measure_labels(labels, pixel_size_um=(2.0, 1.0), detail=True)
    assert tall["orientation"].tolist() == [90, 90]
