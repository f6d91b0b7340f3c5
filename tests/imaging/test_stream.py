"""What is measured of objects: by hand, beside scikit-image, and however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import regionprops_table

from cellunet.imaging import medians
from cellunet.imaging.measure import WHOLE, Objects, column_names, measure_labels
from cellunet.imaging.outlines import outlines
from cellunet.io.scratch import Scratch


@pytest.fixture
def field(nuclei_image):
    return nuclei_image((80, 90), 14, 3)


def test_one_object_by_hand() -> None:
    labels = np.array([[0, 0, 0, 0], [0, 4, 4, 4], [0, 4, 0, 0]])
    image = np.array([[9, 9, 9, 9], [9, 1, 2, 3], [9, 10, 9, 9]], np.uint8)
    evidence = np.full((3, 4), 204, np.uint8)
    table = measure_labels(labels, [image], pixel_size_um=(0.5, 2.0), evidence=evidence)
    row = {name: values[0] for name, values in table.items()}
    assert list(row) == ["id", *column_names()]
    expected = {
        "id": 4,
        "area_px": 4,
        "x_px": (1.5 + 2.5 + 3.5 + 1.5) / 4,
        "y_px": (3 * 1.5 + 2.5) / 4,
        "left_px": 1,
        "top_px": 1,
        "right_px": 4,
        "bottom_px": 3,
        "area_um2": 4.0,
        "x_um": 4.5,
        "y_um": 0.875,
        "left_um": 2.0,
        "top_um": 0.5,
        "right_um": 8.0,
        "bottom_um": 1.5,
        "touches_border": 1,
        "intensity_mean": 4.0,
        "intensity_min": 1.0,
        "intensity_max": 10.0,
        "intensity_sum": 16.0,
        "confidence": 0.8,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_every_column_has_its_type() -> None:
    table = measure_labels(np.array([[1, 1], [0, 2]]))
    whole = {n for n, values in table.items() if values.dtype == np.int64}
    assert whole == {"id", *WHOLE}
    assert {values.dtype.name for values in table.values()} == {"int64", "float64"}


def test_what_is_not_known_is_nan() -> None:
    table = measure_labels(np.array([[1]]))
    unknown = {name for name, values in table.items() if np.isnan(values).all()}
    assert unknown == {n for n in table if n.endswith(("_um", "_um2"))} | {
        *("intensity_mean", "intensity_min", "intensity_max", "intensity_sum"),
        "confidence",
    }
    # A single pixel is as long as it is wide.
    assert (table["eccentricity"][0], table["solidity"][0]) == (0, 1)


def test_moments_agree_with_scikit_image(field) -> None:
    image, labels = field
    ours = measure_labels(labels, [image])
    theirs = regionprops_table(
        labels,
        image,
        properties=(
            *("label", "area", "centroid", "bbox", "axis_major_length"),
            *("axis_minor_length", "eccentricity", "intensity_mean"),
            *("intensity_min", "intensity_max"),
        ),
    )
    pairs = {
        "label": "id",
        "area": "area_px",
        "bbox-0": "top_px",
        "bbox-1": "left_px",
        "bbox-2": "bottom_px",
        "bbox-3": "right_px",
        "axis_major_length": "major_axis_px",
        "axis_minor_length": "minor_axis_px",
        "eccentricity": "eccentricity",
        "intensity_mean": "intensity_mean",
        "intensity_min": "intensity_min",
        "intensity_max": "intensity_max",
    }
    for name, mine in pairs.items():
        np.testing.assert_allclose(ours[mine], theirs[name], atol=1e-6, err_msg=name)
    # Pixel centers are at whole numbers there, and at halves here.
    np.testing.assert_allclose(ours["y_px"], theirs["centroid-0"] + 0.5)
    np.testing.assert_allclose(ours["x_px"], theirs["centroid-1"] + 0.5)


def test_shape_in_micrometers_is_that_of_what_was_seen() -> None:
    # A disc, seen with pixels twice as high as wide.
    y, x = np.mgrid[:60, :120]
    disc = ((2 * (y - 29.5)) ** 2 + (x - 59.5) ** 2 <= 50**2).astype(np.uint8)
    known = measure_labels(disc, pixel_size_um=(2.0, 1.0))
    assert known["eccentricity"][0] < 0.1
    assert known["major_axis_um"][0] == pytest.approx(100, rel=0.01)
    assert known["minor_axis_um"][0] == pytest.approx(100, rel=0.01)
    assert known["perimeter_um"][0] == pytest.approx(100 * np.pi, rel=0.05)
    assert measure_labels(disc)["eccentricity"][0] == pytest.approx(0.866, abs=0.01)


def test_solidity_tells_a_notch_from_a_disc() -> None:
    y, x = np.mgrid[:50, :50]
    disc = ((y - 24.5) ** 2 + (x - 24.5) ** 2 <= 20**2).astype(np.uint8)
    assert measure_labels(disc)["solidity"][0] > 0.98
    disc[:25, 23:27] = 0
    assert measure_labels(disc)["solidity"][0] < 0.93


def test_the_border_is_each_of_four_sides() -> None:
    labels = np.zeros((7, 7), np.uint8)
    labels[3, 3], labels[0, 2], labels[6, 2] = 1, 2, 3
    labels[2, 0], labels[2, 6], labels[1, 1] = 4, 5, 6
    found = measure_labels(labels)["touches_border"]
    assert found.tolist() == [0, 1, 1, 1, 1, 0]


def test_channels_have_columns_of_their_own() -> None:
    labels = np.array([[1, 1]])
    images = [np.array([[1, 3]]), np.array([[0.5, 0.25]])]
    table = measure_labels(labels, images, channels=["DAPI", "GFP"])
    assert table["intensity_mean_DAPI"] == 2
    assert table["intensity_sum_GFP"] == 0.75
    assert list(table)[1:] == column_names(["DAPI", "GFP"])
    assert column_names(["a", "a"])[-2] == "intensity_sum_a_1"


def test_a_standard_deviation_is_that_of_a_sample() -> None:
    labels = np.array([[1, 1, 1, 2]])
    # Far from 0, where squares of floats would lose what differs.
    image = np.array([[1e9, 1e9 + 1, 1e9 + 2, 5]])
    found = measure_labels(labels, [image], detail=True)["intensity_std"]
    np.testing.assert_array_equal(found, [1, np.nan])


def test_all_that_is_measured_holds_the_basic_table(field) -> None:
    image, labels = field
    basic = measure_labels(labels, [image], pixel_size_um=(0.5, 0.5))
    every = measure_labels(labels, [image], pixel_size_um=(0.5, 0.5), detail=True)
    for name, values in basic.items():
        np.testing.assert_array_equal(every[name], values, err_msg=name)
    assert [n for n in every if n in basic] == list(basic)
    assert set(every) - set(basic) == {
        *("feret_max_px", "feret_min_px", "feret_max_um", "feret_min_um"),
        *("circularity", "orientation"),
        *("intensity_std", "intensity_median", "background"),
    }
    # By scikit-image's own definitions.
    theirs = regionprops_table(
        labels, image, properties=("orientation", "intensity_std", "feret_diameter_max")
    )
    count = basic["area_px"]
    np.testing.assert_allclose(
        every["intensity_std"], theirs["intensity_std"] * np.sqrt(count / (count - 1))
    )
    turned = (np.degrees(theirs["orientation"]) + 90) % 180
    apart = np.abs(every["orientation"] - turned)
    np.testing.assert_allclose(np.minimum(apart, 180 - apart), 0, atol=1e-6)
    assert np.abs(every["feret_max_px"] - theirs["feret_diameter_max"]).max() < 1


def test_labels_may_have_gaps_and_be_large() -> None:
    labels = np.array([[2**32 - 1, 0, 70_000]], np.uint32)
    assert measure_labels(labels)["id"].tolist() == [70_000, 2**32 - 1]


def gathered(labels, image, evidence, heights, detail=None):
    objects = Objects(
        0,
        labels.shape,
        np.bincount(labels.ravel())[1:],
        channels=["x"],
        pixel_size_um=(0.3, 0.4),
        detail=detail,
    )
    batches, y0 = [], 0
    for height in heights:
        rows = slice(y0, y0 + height)
        batches.append(objects.add(labels[rows], [image[rows]], evidence[rows]))
        y0 += height
    return batches


@pytest.mark.slow
@settings(max_examples=40)
@given(
    cuts=st.sets(st.integers(1, 79)),
    seed=st.integers(0, 5),
    large=st.sampled_from([9, 100]),
)
def test_bands_of_any_height_give_the_same_objects(cuts, seed, large) -> None:
    from tests.conftest import draw_nuclei

    image, labels = draw_nuclei((80, 60), 10, seed)
    # Fractions, so that the order of additions shows in the last bits.
    image = image / 7
    evidence = (image % 251).astype(np.uint8)
    heights = np.diff([0, *sorted(cuts), 80])
    with pytest.MonkeyPatch.context() as patch, Scratch() as scratch:
        patch.setattr(medians, "LARGE_PX", large)
        batches = gathered(labels, image, evidence, heights, scratch)
    whole = measure_labels(
        labels, [image], pixel_size_um=(0.3, 0.4), evidence=evidence, detail=True
    )
    ids = np.concatenate([b.ids for b in batches])
    np.testing.assert_array_equal(ids, whole.pop("id"))
    for name, values in whole.items():
        found = np.concatenate([b.table[name] for b in batches])
        np.testing.assert_array_equal(found, values, err_msg=name)
    rings = [outline for b in batches for outline in b.outlines]
    for found, expected in zip(rings, outlines(labels).values(), strict=True):
        for piece, other in zip(found, expected, strict=True):
            for ring, same in zip(piece, other, strict=True):
                np.testing.assert_array_equal(ring, same)


def test_objects_come_out_as_soon_as_they_can_and_in_order() -> None:
    labels = np.zeros((6, 5), np.uint8)
    labels[0:5, 0], labels[0, 2], labels[2, 2], labels[5, 4] = 1, 2, 3, 4
    batches = gathered(labels, labels, labels, [1] * 6)
    assert [b.ids.tolist() for b in batches] == [[], [], [], [], [], [1, 2, 3, 4]]
    labels[4, 0] = 0
    batches = gathered(labels, labels, labels, [1] * 6)
    assert [b.ids.tolist() for b in batches] == [[], [], [], [], [1, 2, 3], [4]]


def test_pieces_far_apart_are_one_object() -> None:
    labels = np.zeros((9, 5), np.uint8)
    labels[0, 0] = labels[8, 4] = 1
    (*before, last) = gathered(labels, labels, labels, [1] * 9)
    assert all(not len(b.ids) for b in before)
    assert last.table["area_px"].tolist() == [2]
    assert len(last.outlines[0]) == 2


def test_only_edges_of_open_objects_are_kept(nuclei_image) -> None:
    _, labels = nuclei_image((400, 80), 60, 1)
    objects = Objects(0, labels.shape, np.bincount(labels.ravel())[1:])
    most = 0
    for y0 in range(0, 400, 20):
        objects.add(labels[y0 : y0 + 20])
        most = max(most, len(objects._tracer._open.keys))
    everything = np.count_nonzero(np.diff(labels, axis=0)) + np.count_nonzero(
        np.diff(labels, axis=1)
    )
    assert most < everything / 4


def test_a_plane_without_objects_has_an_empty_table() -> None:
    table = measure_labels(np.zeros((4, 4), np.uint8))
    assert list(table) == ["id", *column_names()]
    assert {len(values) for values in table.values()} == {0}
    objects = Objects(0, (4, 4), np.zeros(0, np.int64))
    assert list(objects.add(np.zeros((4, 4), np.uint8)).table) == column_names()
