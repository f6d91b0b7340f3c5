"""What is left of objects inside their boundaries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellunet.imaging.growth import grow
from cellunet.imaging.targets import cores


def _parts(labels):
    """4-connected parts, one flood fill per id: slow, and another way than `cores`."""
    parts, count = np.zeros(labels.shape, int), 0
    for number in np.unique(labels[labels > 0]):
        found, n = ndimage.label(labels == number)
        parts[found > 0] = found[found > 0] + count
        count += n
    return parts


def _touches_another(labels):
    framed = np.pad(labels, 1)
    middle = framed[1:-1, 1:-1]
    touches = np.zeros(labels.shape, bool)
    for other in (framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2]):
        touches |= (other > 0) & (other != middle)
    other = framed[1:-1, 2:]
    return (touches | ((other > 0) & (other != middle))) & (labels > 0)


def _random_labels(seed):
    """Noise, blobs, plateaus that touch, or a mosaic; 1 to 22 pixels a side."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 23, 2))
    kind = rng.integers(4)
    if kind == 0:
        return rng.integers(0, rng.integers(2, 5), shape)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0.5, 3))
    steps = np.quantile(smooth, np.sort(rng.random(rng.integers(1, 4))))
    level = np.digitize(smooth, steps)
    if kind == 1:
        return level
    if kind == 2:
        return ndimage.label(level)[0]
    points = rng.integers(0, shape, (6, 2))
    yx = np.stack(np.mgrid[: shape[0], : shape[1]], -1)
    nearest = ((yx[:, :, None] - points) ** 2).sum(-1).argmin(-1)
    return np.where(level > 0, nearest + 1, 0)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_every_part_keeps_one_connected_core_off_its_contacts(seed, thickness) -> None:
    labels = _random_labels(seed)
    core = cores(labels, thickness)
    parts, contact = _parts(labels), _touches_another(labels)
    assert core.shape == labels.shape
    assert core.dtype == bool
    assert not core[labels == 0].any()
    for number in range(1, parts.max() + 1):
        part = parts == number
        assert ndimage.label(core & part)[1] == 1
        # Only a part of which every pixel touches another label has a core there.
        if (part & ~contact).any():
            assert not (core & part & contact).any()


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_cores_are_blind_to_the_numbering(seed, thickness) -> None:
    labels = _random_labels(seed)
    rng = np.random.default_rng(seed)
    other = np.concatenate(([0], 3 * rng.permutation(labels.max()) + 5))[labels]
    core = cores(labels, thickness)
    assert np.array_equal(cores(other.astype(np.uint16), thickness), core)


def test_the_frame_is_no_boundary() -> None:
    assert cores(np.ones((4, 6), int), 3).all()
    half = np.zeros((6, 8), int)
    half[:, :5] = 1
    assert np.array_equal(cores(half, 2), np.arange(8)[None].repeat(6, 0) < 3)


@pytest.mark.parametrize(("thickness", "side"), [(0, 9), (1, 7), (2, 5), (3, 3)])
def test_a_square_loses_its_boundary_on_every_side(thickness, side) -> None:
    labels = np.zeros((11, 11), int)
    labels[1:10, 1:10] = 1
    expected = np.zeros((11, 11), bool)
    at = 1 + thickness
    expected[at : at + side, at : at + side] = True
    assert np.array_equal(cores(labels, thickness), expected)


def test_an_inward_corner_is_left_by_octagonal_steps() -> None:
    labels = np.ones((7, 7), int)
    labels[0, 0] = 0
    missing = np.argwhere(~cores(labels, 1)).tolist()
    # Step 1 reaches the 4 neighbors, step 2 from there all 8.
    assert missing == [[0, 0], [0, 1], [1, 0]]
    assert np.argwhere(~cores(labels, 2)).tolist() == [
        *([0, x] for x in range(3)),
        *([1, x] for x in range(3)),
        *([2, x] for x in range(2)),
    ]


def test_thickness_zero_leaves_out_contacts_alone() -> None:
    labels = np.array([[1, 1, 1, 2, 2, 2, 0, 3]])
    assert cores(labels, 0).astype(int).tolist() == [[1, 1, 0, 0, 1, 1, 0, 1]]


def test_a_core_that_would_break_is_thinner_there() -> None:
    # A dumbbell: two 7 x 7 squares joined by a bar of 3 rows.
    labels = np.zeros((9, 23), int)
    labels[1:8, 1:8] = labels[1:8, 15:22] = 1
    labels[3:6, 8:15] = 1
    core = cores(labels, 2)
    assert ndimage.label(core)[1] == 1
    # The middle of the bar joins what is left of the squares.
    assert core[4, 3:20].all()
    # The squares keep their thickness far from the bar.
    assert not core[:, :3].any()
    assert not core[:, 20:].any()


@pytest.mark.parametrize(
    "labels",
    [
        np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
        np.array([[1]]),
        np.ones((1, 9), int),
        np.array([[1, 2, 3, 4]]),
        np.array([[1, 2], [2, 1]]),
        np.array([[2, 2, 2], [2, 1, 2], [2, 2, 2]]),
        np.array([[1, 0, 1]]),
    ],
    ids=["one pixel", "1 x 1", "line", "row", "checkers", "enclosed", "two parts"],
)
def test_the_smallest_objects_have_a_core(labels) -> None:
    core = cores(labels, 2)
    parts = _parts(labels)
    for number in range(1, parts.max() + 1):
        assert ndimage.label(core & (parts == number))[1] == 1


def test_no_objects_have_no_cores() -> None:
    assert not cores(np.zeros((5, 4), np.uint16), 2).any()
    assert cores(np.zeros((0, 4), np.uint16), 2).shape == (0, 4)


@pytest.mark.parametrize("thickness", [1, 2, 3])
def test_drawn_nuclei_grow_back_from_their_cores(nuclei_image, thickness) -> None:
    _, labels = nuclei_image((160, 160), 40, 4)
    parts = _parts(labels).astype(np.int32)
    grown = grow(np.where(cores(labels, thickness), parts, 0), parts > 0, 10)
    for number in range(1, parts.max() + 1):
        mine, back = parts == number, grown == number
        assert 10 * (mine & back).sum() >= 9 * (mine | back).sum()
