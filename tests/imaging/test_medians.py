"""Medians of objects and of the background around them, however they are cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellunet.imaging import medians
from cellunet.imaging.measure import measure_labels
from cellunet.imaging.medians import GAP_PX, RING_PX, Medians, Rings
from cellunet.io.scratch import Scratch

KINDS = ("uint8", "uint16", "int16", "uint32", "int32", "float32", "float64", "bool")


@pytest.mark.parametrize("large", [2, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_medians_are_those_of_numpy(kind, large, rng, monkeypatch) -> None:
    monkeypatch.setattr(medians, "LARGE_PX", large)
    labels = rng.integers(0, 6, (40, 30))
    values = (rng.random((40, 30)) * 3 - (kind[0] in "fi")) * 40_000
    pixels = values.clip(0 if kind[0] in "ub" else -30_000, 30_000).astype(kind)
    if kind == "uint8":
        pixels = (values / 500).clip(0, 255).astype(kind)
    areas = np.bincount(labels.ravel())
    with Scratch(memory_bytes=100) as scratch:
        found = Medians(areas, scratch)
        for y in range(0, 40, 7):
            rows = labels[y : y + 7]
            there = rows > 0
            found.add(rows[there], pixels[y : y + 7][there])
            found.finish(np.zeros(6, bool))
        found.finish(np.ones(6, bool))
    for n in range(1, 6):
        assert found.values[n] == np.median(pixels[labels == n].astype(np.float64))


def test_wide_whole_numbers_keep_their_last_digit() -> None:
    labels = np.array([[1, 1, 1]])
    image = np.array([[2**32 - 1, 2**32 - 3, 2**32 - 2]], np.uint32)
    table = measure_labels(labels, [image], detail=True)
    assert table["intensity_median"].tolist() == [2**32 - 2]
    assert table["intensity_std"].tolist() == [1]


@pytest.mark.parametrize("large", [1, 1000])
def test_what_is_no_number_has_no_median(large, monkeypatch) -> None:
    monkeypatch.setattr(medians, "LARGE_PX", large)
    labels = np.array([[1, 1, 2, 2]])
    image = np.array([[np.nan, 1, 2, np.inf]], np.float32)
    found = measure_labels(labels, [image], detail=True)["intensity_median"]
    np.testing.assert_array_equal(found, [np.nan, np.inf])


def test_the_ring_lies_around_the_object_and_belongs_to_no_other() -> None:
    labels = np.zeros((41, 60), np.uint8)
    labels[20, 20], labels[17:24, 29:33] = 1, 2
    rings = rings_of(labels, [41])
    ring = {(y, x) for y, x in np.argwhere(rings == 1).tolist()}
    assert not (rings[labels > 0]).any()
    assert {(20, 20 - k) for k in range(12)} & ring == {
        (20, 20 - k) for k in range(GAP_PX + 1, RING_PX + 1)
    }
    # Every second step may be diagonal: of seven steps three.
    assert (20 - 5, 20 - 5) in ring
    assert (20 - 6, 20 - 6) not in ring
    # Between both a pixel is of the nearer one.
    assert rings[20, 21:29].tolist() == [0, 0, 1, 1, 2, 2, 0, 0]


def rings_of(labels, heights):
    found = np.zeros(labels.shape, np.int64)
    places = np.arange(labels.size).reshape(labels.shape)

    def take(ids, values):
        assert not found.flat[values[0]].any()
        found.flat[values[0]] = ids

    rings, y0 = Rings(take), 0
    for height in heights:
        rows = slice(y0, y0 + height)
        y0 += height
        rings.add(labels[rows], [places[rows]], last=y0 == len(labels))
    return found


@pytest.mark.slow
@settings(max_examples=40)
@given(
    cuts=st.sets(st.integers(1, 59)),
    seed=st.integers(0, 5),
    piece=st.sampled_from([1, 300, 2**18]),
)
def test_rings_do_not_depend_on_the_cut(cuts, seed, piece) -> None:
    from tests.conftest import draw_nuclei

    labels = draw_nuclei((60, 70), 8, seed)[1]
    whole = rings_of(labels, [60])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(medians, "PIECE_PX", piece)
        patch.setattr(medians, "ROWS_AT_ONCE", 1 + piece % 11)
        again = rings_of(labels, np.diff([0, *sorted(cuts), 60]))
    np.testing.assert_array_equal(again, whole)


def test_background_is_that_of_each_object_and_its_neighbors_are_left_out() -> None:
    image = np.full((60, 90), 100, np.uint16)
    image[:, 45:] = 300
    labels = np.zeros((60, 90), np.uint8)
    labels[20:30, 15:25], labels[20:30, 65:75], labels[20:30, 78:82] = 1, 2, 3
    image[labels > 0] = 9000
    found = measure_labels(labels, [image], detail=True)["background"]
    assert found.tolist() == [100, 300, 300]


def test_an_object_without_background_has_none() -> None:
    labels = np.full((20, 20), 2)
    labels[8:12, 8:12] = 1
    found = measure_labels(labels, [labels], detail=True)["background"]
    assert np.isnan(found).all()


def test_memory_is_that_of_open_objects(rng, monkeypatch) -> None:
    monkeypatch.setattr(medians, "LARGE_PX", 100)
    labels = np.zeros((600, 50), np.int64)
    labels[:, :10] = 1
    for n in range(2, 60):
        labels[n * 10 : n * 10 + 9, 20:29] = n
    areas = np.bincount(labels.ravel())
    seen = np.zeros(len(areas), np.int64)
    with Scratch(memory_bytes=0) as scratch:
        found = Medians(areas, scratch)
        for y in range(0, 600, 10):
            rows = labels[y : y + 10]
            there = rows > 0
            found.add(rows[there], rows[there].astype(np.uint16))
            seen += np.bincount(rows.ravel(), minlength=len(areas))
            found.finish(seen == areas)
            assert sum(len(ids) for ids, _ in found._held) <= 9 * 9
    assert found.values[1:].tolist()[:1] == [1]
    assert found.values[2:60].tolist() == list(range(2, 60))
