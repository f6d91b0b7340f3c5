"""Outlines: valid polygons that fill to the very label, however the plane is cut."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from cellunet.imaging import outlines as module
from cellunet.imaging.outlines import Tracer, outlines, ring_areas


def ring_area(ring) -> float:
    return float(ring_areas(ring, np.array([0]))[0])


LABELS = arrays(
    np.int32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.sampled_from([0, 0, 1, 1, 2, 7]),
)
"""Small planes of any pattern: pieces, holes, pixels that touch at corners."""


def fill(outline, shape) -> np.ndarray:
    """Pixels whose center lies inside, by the even-odd rule over all rings."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for polygon in outline:
        for ring in polygon:
            ahead = np.roll(ring, -1, axis=0)
            for (ax, ay), (bx, by) in zip(ring, ahead, strict=True):
                if ay != by:
                    crosses = (ay > y) != (by > y)
                    inside ^= crosses & (x < ax + (y - ay) * (bx - ax) / (by - ay))
    return inside


def shape_of(outline) -> shapely.MultiPolygon:
    return shapely.MultiPolygon([(p[0], p[1:]) for p in outline])


@pytest.mark.slow
@settings(max_examples=300)
@given(labels=LABELS)
def test_filling_an_outline_gives_its_label_back(labels) -> None:
    found = outlines(labels)
    assert list(found) == sorted(set(np.unique(labels)) - {0})
    for number, outline in found.items():
        np.testing.assert_array_equal(fill(outline, labels.shape), labels == number)


@pytest.mark.slow
@settings(max_examples=300)
@given(labels=LABELS)
def test_polygons_are_valid_and_run_the_right_way_round(labels) -> None:
    for number, outline in outlines(labels).items():
        shape = shape_of(outline)
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert len(outline) == ndimage.label(labels == number)[1]
        for outer, *holes in outline:
            assert ring_area(outer) > 0
            assert shapely.LinearRing(outer).is_ccw
            assert all(ring_area(hole) < 0 for hole in holes)


@settings(max_examples=100)
@given(labels=LABELS)
def test_outlines_of_neighbors_do_not_overlap(labels) -> None:
    shapes = [shape_of(outline) for outline in outlines(labels).values()]
    parts = sum(shape.area for shape in shapes)
    assert shapely.union_all(shapes).area == pytest.approx(parts)


@settings(max_examples=100)
@given(labels=LABELS, heights=st.lists(st.integers(1, 4), min_size=9))
def test_bands_of_any_height_give_the_same_outlines(labels, heights) -> None:
    whole = outlines(labels)
    tracer = Tracer(labels.shape[1])
    y0, found = 0, {}
    for height in heights:
        rows = labels[y0 : y0 + height]
        y0 += height
        if not len(rows):
            break
        tracer.add(rows)
        if y0 >= len(labels):
            tracer.end()
        below = set(np.unique(labels[y0:])) | set(rows[-1] if y0 < len(labels) else ())
        found |= tracer.take(~np.isin(np.arange(8), list(below)))
    assert sorted(found) == sorted(whole)
    for number, outline in whole.items():
        for pieces in zip(outline, found[number], strict=True):
            for ring, other in zip(*pieces, strict=True):
                np.testing.assert_array_equal(ring, other)


def test_one_pixel_by_hand() -> None:
    ((ring,),) = outlines(np.array([[0, 0], [0, 5]]))[5]
    assert ring.tolist() == [[1.25, 1.25], [1.75, 1.25], [1.75, 1.75], [1.25, 1.75]]


def test_points_on_a_straight_line_are_left_out() -> None:
    ((ring,),) = outlines(np.ones((5, 40), np.uint8))[1]
    # Three points a corner are left.
    assert len(ring) == 12
    assert ring[:3].tolist() == [[0.25, 0.25], [1, 0], [39, 0]]


def test_a_hole_is_a_ring_of_its_piece() -> None:
    labels = np.ones((3, 3), np.uint8)
    labels[1, 1] = 0
    ((outer, hole),) = outlines(labels)[1]
    # Each corner that is cut takes 1/4 of a pixel off; of one pixel 1/4 is left.
    assert (ring_area(outer), ring_area(hole)) == (8, -0.25)


def test_pixels_that_touch_at_a_corner_are_two_pieces() -> None:
    found = outlines(np.array([[3, 0], [0, 3]]))[3]
    assert [[ring_area(ring) for ring in piece] for piece in found] == [[0.25], [0.25]]


def test_a_gap_between_a_hole_and_the_outside_is_open() -> None:
    # The hole and the outside meet at a corner: one ring around all.
    labels = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]])
    assert [len(piece) for piece in outlines(labels)[1]] == [1]


def test_a_piece_in_the_hole_of_another_keeps_its_own_hole() -> None:
    labels = np.ones((9, 9), np.uint8)
    labels[1:8, 1:8] = 0
    labels[2:7, 2:7] = 1
    labels[4, 4] = 0
    found = outlines(labels)[1]
    areas = [[ring_area(ring) for ring in piece] for piece in found]
    assert areas == [[80, -48], [24, -0.25]]


def test_holes_of_many_pieces_are_looked_for_in_the_pieces_around_alone(
    monkeypatch,
) -> None:
    labels = np.tile(np.pad(np.ones((3, 3), np.uint8), 1), (5, 6))
    labels[2::5, 2::5] = 0
    asked = []
    contains = module._contains

    def counted(ring, point):
        asked.append(point)
        return contains(ring, point)

    monkeypatch.setattr(module, "_contains", counted)
    found = outlines(labels)[1]
    assert len(found) == len(asked) == 30
    for piece in found:
        outer, hole = (ring.mean(axis=0) for ring in piece)
        assert outer.tolist() == hole.tolist()


def test_no_object_has_no_outline() -> None:
    assert outlines(np.zeros((3, 4), np.uint16)) == {}


def test_far_corners_of_large_planes_are_exact() -> None:
    tracer = Tracer(200_000)
    for _ in range(3):
        tracer.add(np.zeros((1, 200_000), np.uint8))
    row = np.zeros((1, 200_000), np.uint8)
    row[0, -1] = 1
    tracer.add(row)
    tracer.end()
    ((ring,),) = tracer.take(np.array([False, True]))[1]
    assert sorted(ring.tolist()) == [
        [199999.25, 3.25], [199999.25, 3.75], [199999.75, 3.25], [199999.75, 3.75]
    ]  # fmt: skip


def test_the_length_of_a_disc_is_right_to_4_percent() -> None:
    y, x = np.mgrid[:60, :60]
    disc = (y - 29.7) ** 2 + (x - 30.2) ** 2 <= 20**2
    ((ring,),) = outlines(disc.astype(np.uint8))[1]
    steps = np.roll(ring, -1, axis=0) - ring
    assert 1 < np.hypot(*steps.T).sum() / (2 * np.pi * 20) < 1.035
