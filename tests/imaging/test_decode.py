"""Probabilities to labels: the same bits for every way to cut the plane."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellunet.config import DecodeConfig, EncodingConfig, UNetConfig
from cellunet.imaging.blocks import BlockArea, plan
from cellunet.imaging.decode import (
    OPEN,
    SEED,
    ObjectMerger,
    SeedMerger,
    _seen,
    as_one,
    correct,
    decode_plane,
    distinct_pairs,
    finalize_block,
    grow_block,
    halo_px,
    seed_and_foreground_mask,
    seed_block,
    seed_border,
    waits_for_all,
)
from cellunet.imaging.targets import encode
from tests.conftest import read_labels

INNER = EncodingConfig()
OUTER = EncodingConfig(boundary_side="outer")
EDGE = EncodingConfig(target="boundary")
ALL = {"inner": INNER, "outer": OUTER, "edge": EDGE}


def _decode(encoding, **settings):
    odds = (1.0,) * len(encoding.classes)
    return DecodeConfig(class_odds=odds, seed_threshold=0.5).replace(**settings)


def _cuts(length, every, first=0):
    """Return the edges of cores of `every` pixels, the first of them `first`."""
    inner = range(first or every, length, every)
    return [0, *inner, length]


def _areas(shape, rows, columns, halo):
    """Return (area, where it lies, where its core lies) of each block of a grid."""
    found = []
    for i, (y0, y1) in enumerate(pairwise(rows)):
        for j, (x0, x1) in enumerate(pairwise(columns)):
            top, left = max(y0 - halo, 0), max(x0 - halo, 0)
            bottom, right = min(y1 + halo, shape[0]), min(x1 + halo, shape[1])
            area = BlockArea(
                place=(i, j),
                y0=top,
                x0=left,
                height=bottom - top,
                width=right - left,
                core=(slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)),
                plane=shape,
            )
            view = np.s_[:, top:bottom, left:right]
            found.append((area, view, np.s_[y0:y1, x0:x1]))
    return found


def _decode_blocks(probabilities, cuts, encoding, decode, *, halo=None, rng=None):
    """Decode in blocks; `rng` shuffles the order in which they are decoded."""
    shape = probabilities.shape[1:]
    halo = halo_px(encoding, decode) if halo is None else halo
    areas = _areas(shape, *cuts, halo)
    if rng is not None:
        areas = [areas[i] for i in rng.permutation(len(areas))]
    marks = seed_and_foreground_mask(
        correct(probabilities, decode.class_odds), encoding, decode
    )
    seeds = [seed_block(marks[v[1:]], a) for a, v, _ in areas]
    merger = SeedMerger(encoding, decode)
    borders = [seed_border(s, halo_px(encoding, decode)) for s in seeds]
    offsets = {
        s.area.place: merger.add(s) for s in sorted(borders, key=lambda s: s.area.place)
    }
    merged = merger.numbers()
    grown = []
    for block in seeds:
        first = offsets[block.area.place] + 1
        same = None
        if waits_for_all(encoding):
            same = as_one(merged[first : first + len(block.pixels) - 1])
        grown.append(grow_block(block.parts, block.area, encoding, decode, same))
    objects = ObjectMerger(decode)
    for _, block in sorted(grown, key=lambda item: item[1].place):
        objects.add(block, offsets[block.place])
    numbers = objects.numbers(merged)
    labels = np.zeros(shape, np.uint32)
    for (pixels, block), (_, _, core) in zip(grown, areas, strict=True):
        labels[core] = finalize_block(pixels, block.place, numbers)
    assert np.bincount(labels.ravel())[1:].tolist() == numbers.areas.tolist()
    assert len(numbers.areas) == numbers.count
    return labels


def _assert_cuts_agree(probabilities, cuts, encoding, decode, **kwargs):
    whole = decode_plane(probabilities, encoding, decode)
    blocks = _decode_blocks(probabilities, cuts, encoding, decode, **kwargs)
    assert np.array_equal(blocks, whole)
    return whole


def _normalized(positive):
    return (positive / positive.sum(axis=0)).astype(np.float32)


def _one_hot(labels, encoding):
    class_map = encode(labels, encoding)
    classes = range(len(encoding.classes))
    return np.stack([class_map == c for c in classes]).astype(np.float32)


def _soft(labels, encoding, rng):
    """Return probabilities like a network's: blurred, with smooth and white noise."""
    hard = _one_hot(labels, encoding)
    noise = ndimage.gaussian_filter(rng.random(hard.shape), (0, 1, 1)) - 0.5
    blurred = ndimage.gaussian_filter(hard, (0, 0.7, 0.7))
    noisy = blurred + noise + rng.normal(0, 0.05, hard.shape)
    return _normalized(np.maximum(noisy, 1e-3))


def _foreground(objects):
    """Return three-class probabilities that decode to `objects` as they are."""
    return np.stack([~objects, objects, np.zeros_like(objects)]).astype(np.float32)


def _random_cuts(rng, length):
    count = int(rng.integers(0, min(length, 9)))
    inner = rng.choice(np.arange(1, length), count, replace=False) if count else []
    return [0, *sorted(int(i) for i in inner), length]


def _random_probabilities(rng, shape, classes):
    """Return white noise or a smooth field, faint or sharp, of any mix of classes."""
    logits = rng.normal(size=(classes, *shape))
    if rng.random() < 0.6:
        sigma = rng.uniform(0.6, 3)
        logits = ndimage.gaussian_filter(logits, (0, sigma, sigma))
        logits /= logits.std() + 1e-9
    logits = logits * rng.uniform(1, 6) + rng.normal(size=(classes, 1, 1)) * 0.7
    return _normalized(np.exp(logits))


@pytest.mark.slow
@settings(max_examples=150)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(sorted(ALL)))
def test_any_grid_of_blocks_gives_the_same_labels(seed, name) -> None:
    rng = np.random.default_rng(seed)
    encoding = ALL[name]
    shape = tuple(int(n) for n in rng.integers(1, 48, 2))
    decode = _decode(
        encoding,
        class_odds=tuple(rng.uniform(0.5, 4, len(encoding.classes))),
        seed_threshold=float(rng.choice([0.2, 0.5, 0.7])),
        min_area_px=int(rng.choice([0, 5, 20])),
        growth_px=int(rng.integers(0, 12)),
        max_hole_px=int(rng.choice([0, 1, 3, 10, 40])),
        max_core_px=int(rng.choice([30, 200, 20_000])),
    )
    probabilities = _random_probabilities(rng, shape, len(encoding.classes))
    cuts = [_random_cuts(rng, n) for n in shape]
    # More than the least halo changes nothing either.
    halo = halo_px(encoding, decode) + int(rng.choice([0, 0, 3]))
    _assert_cuts_agree(probabilities, cuts, encoding, decode, halo=halo, rng=rng)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "cuts",
    [
        ([0, 53, 97], [0, 31, 89]),
        ([0, 96, 97], [0, 88, 89]),
        ([0, 1, 97], [0, 1, 89]),
        (_cuts(97, 24), _cuts(89, 24)),
        (_cuts(97, 32, 7), _cuts(89, 32, 1)),
        ([0, 97], _cuts(89, 3)),
        (_cuts(97, 9), _cuts(89, 9)),
    ],
    ids=["four", "last 1", "first 1", "24", "32", "strips of 3", "9"],
)
def test_drawn_nuclei_of_a_network_do_not_depend_on_the_cut(
    nuclei_image, rng, name, cuts
) -> None:
    encoding = ALL[name]
    _, labels = nuclei_image((97, 89), 22, 5)
    probabilities = _soft(labels, encoding, rng)
    for decode in (
        _decode(encoding, seed_threshold=0.4),
        _decode(encoding, min_area_px=0, growth_px=3, max_hole_px=4),
    ):
        found = _assert_cuts_agree(probabilities, cuts, encoding, decode)
        assert found.max() >= 10


@pytest.mark.parametrize("name", ALL)
def test_a_nucleus_across_four_corners_is_one_object(name) -> None:
    encoding = ALL[name]
    y, x = np.mgrid[:64, :64]
    for cy, cx in ((32, 32), (31, 33), (25, 32)):
        labels = ((y - cy) ** 2 + (x - cx) ** 2 <= 100).astype(int)
        found = _assert_cuts_agree(
            _one_hot(labels, encoding),
            (_cuts(64, 32), _cuts(64, 32)),
            encoding,
            _decode(encoding),
        )
        assert np.array_equal(found, labels)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("every", [1, 2, 3])
def test_blocks_of_a_few_pixels_hold_pieces_of_nuclei_and_agree(
    nuclei_image, name, every
) -> None:
    encoding = ALL[name]
    _, labels = nuclei_image((19, 17), 2, 1, radius_px=(3, 6))
    cuts = (_cuts(19, every), _cuts(17, every))
    decode = _decode(encoding, min_area_px=0)
    found = _assert_cuts_agree(_one_hot(labels, encoding), cuts, encoding, decode)
    assert found.max() >= 2


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("growth", [0, 1, 2])
def test_the_least_growth_still_sees_across_faces(rng, name, growth) -> None:
    encoding = ALL[name]
    decode = _decode(encoding, growth_px=growth, min_area_px=0)
    for _ in range(3):
        probabilities = _random_probabilities(rng, (40, 37), len(encoding.classes))
        cuts = (_random_cuts(rng, 40), _random_cuts(rng, 37))
        _assert_cuts_agree(probabilities, cuts, encoding, decode)


def test_the_halo_is_the_growth_but_never_nothing() -> None:
    assert halo_px(INNER, _decode(INNER, growth_px=10)) == 10
    assert halo_px(INNER, _decode(INNER, growth_px=0)) == 1
    assert halo_px(EDGE, _decode(EDGE, growth_px=7)) == 7
    assert halo_px(OUTER, _decode(OUTER, growth_px=0)) == 2


@pytest.mark.parametrize("side", [1, 6, 7])
@pytest.mark.parametrize("cut", range(8, 19))
def test_a_hole_is_filled_by_its_whole_size_wherever_it_is_cut(side, cut) -> None:
    # 1 and 36 pixels are filled; of 49, no block need see more than 40.
    objects = np.zeros((26, 26), bool)
    objects[4:22, 4:22] = True
    objects[10 : 10 + side, 10 : 10 + side] = False
    decode = _decode(INNER, growth_px=1)
    for cuts in (
        ([0, cut, 26], [0, 13, 26]),
        ([0, cut, 26], [0, 26]),
        ([0, cut, 26], [0, 10, 11, 12, 14, 26]),
    ):
        found = _assert_cuts_agree(_foreground(objects), cuts, INNER, decode)
        assert (found > 0).sum() == (18 * 18 if side < 7 else 18 * 18 - 49)
        assert found.max() == 1


def test_a_snake_of_a_hole_is_too_large_though_each_of_its_pieces_is_small():
    objects = np.ones((20, 40), bool)
    objects[[0, -1]] = objects[:, [0, -1]] = False
    objects[10, 4:36] = objects[4:10, 4] = objects[4:10, 35] = False
    decode = _decode(INNER, growth_px=0, max_hole_px=43)
    hole = 32 + 12
    cuts = ([0, 5, 8, 10, 11, 20], _cuts(40, 4))
    found = _assert_cuts_agree(_foreground(objects), cuts, INNER, decode)
    assert (found > 0).sum() == 18 * 38 - hole
    decode = decode.replace(max_hole_px=hole)
    found = _assert_cuts_agree(_foreground(objects), cuts, INNER, decode)
    assert (found > 0).sum() == 18 * 38


@pytest.mark.parametrize("cut", range(1, 12))
def test_background_at_the_frame_is_no_hole_even_where_a_block_cannot_know(cut) -> None:
    # A channel leads from the frame into the object; its end looks like a hole.
    objects = np.ones((12, 12), bool)
    objects[0:6, 5] = False
    decode = _decode(INNER, growth_px=0)
    for cuts in (([0, cut, 12], [0, 12]), ([0, cut, 12], [0, 5, 6, 12])):
        found = _assert_cuts_agree(_foreground(objects), cuts, INNER, decode)
        assert np.array_equal(found > 0, objects)


@pytest.mark.parametrize("edge", ["top", "bottom", "left", "right"])
def test_a_bay_at_each_edge_of_the_plane_stays_open(edge) -> None:
    objects = np.ones((9, 9), bool)
    objects[0:2, 4] = False
    turns = {"top": 0, "left": 1, "bottom": 2, "right": 3}[edge]
    objects = np.rot90(objects, turns)
    # Every bay is cut in two: one piece is at the frame, the other is not.
    cuts = ([0, 1, 4, 8, 9], [0, 1, 4, 8, 9])
    found = _assert_cuts_agree(_foreground(objects), cuts, INNER, _decode(INNER))
    assert np.array_equal(found > 0, objects)


@pytest.mark.parametrize("cut", range(4, 9))
def test_a_hole_between_two_objects_belongs_to_none_wherever_it_is_cut(cut) -> None:
    # Two C shapes, of seeds that a line of boundary parts, enclose 3 x 4 pixels.
    interior = np.zeros((11, 12), np.float32)
    interior[1:10, 1:11] = 1
    boundary = np.zeros_like(interior)
    boundary[1:10, 5:7] = 1
    interior[:, 5:7] = 0
    hole = np.zeros(interior.shape, bool)
    hole[4:7, 4:8] = True
    interior[hole] = boundary[hole] = 0
    probabilities = np.stack((1 - interior - boundary, interior, boundary))
    decode = _decode(INNER, growth_px=2)
    for cuts in (([0, 11], [0, cut, 12]), ([0, 5, 11], [0, cut, 12])):
        found = _assert_cuts_agree(probabilities, cuts, INNER, decode)
        assert found.max() == 2
        assert not found[hole].any()
    # Of one object the same hole is filled.
    whole = np.maximum(interior, boundary)
    alone = np.stack((1 - whole, whole, np.zeros_like(whole)))
    cuts = ([0, 5, 11], [0, cut, 12])
    assert _assert_cuts_agree(alone, cuts, INNER, decode)[hole].all()


def test_holes_that_meet_at_a_corner_alone_are_two(rng) -> None:
    objects = np.ones((14, 14), bool)
    objects[[0, -1]] = objects[:, [0, -1]] = False
    objects[3:7, 3:7] = objects[7:11, 7:11] = False
    cuts = ([0, 7, 14], [0, 7, 14])
    decode = _decode(INNER, growth_px=0, max_hole_px=16)
    found = _assert_cuts_agree(_foreground(objects), cuts, INNER, decode, rng=rng)
    assert (found > 0).sum() == 144


@pytest.mark.parametrize(("least", "kept"), [(20, 1), (21, 0)])
@pytest.mark.parametrize("cut", range(3, 9))
def test_a_cut_object_is_measured_whole(least, kept, cut) -> None:
    objects = np.zeros((12, 12), bool)
    objects[4:8, 3:8] = True
    decode = _decode(INNER, growth_px=0, min_area_px=least)
    for cuts in (([0, 12], [0, cut, 12]), ([0, 6, 12], [0, cut, 12])):
        found = _assert_cuts_agree(_foreground(objects), cuts, INNER, decode)
        assert found.max() == kept


def test_a_filled_hole_counts_for_the_area() -> None:
    objects = np.zeros((12, 12), bool)
    objects[4:8, 4:8] = True
    objects[5:7, 5:7] = False
    cuts = ([0, 6, 12], [0, 6, 12])
    for least, kept in ((16, 1), (17, 0)):
        decode = _decode(INNER, growth_px=0, min_area_px=least)
        found = _assert_cuts_agree(_foreground(objects), cuts, INNER, decode)
        assert found.max() == kept


@pytest.mark.parametrize("lowest", [0, 1, 1_000_000])
def test_numbers_first_pixels_and_areas_of_a_block_are_those_of_sorting(
    rng, lowest
) -> None:
    for density in (0.0, 0.1, 0.9, 1.0):
        shape = tuple(rng.integers(1, 20, 2))
        numbers = rng.integers(lowest, lowest + 9, shape).astype(np.int32)
        objects = np.where(rng.random(shape) < density, numbers, 0)
        expected = np.unique(objects, return_index=True, return_counts=True)
        there = expected[0] > 0
        for found, known in zip(_seen(objects), expected, strict=True):
            assert found.tolist() == known[there].tolist()


def test_objects_are_numbered_by_first_pixel_in_raster_order_of_the_plane(rng) -> None:
    objects = np.zeros((40, 40), bool)
    # The first pixel of the left object lies below that of the right one.
    objects[5:30, 30:36] = objects[6:12, 2:8] = objects[20:39, 10:20] = True
    cuts = (_cuts(40, 16), _cuts(40, 16))
    found = _assert_cuts_agree(
        _foreground(objects), cuts, INNER, _decode(INNER), rng=rng
    )
    assert (found[5, 30], found[6, 2], found[20, 10]) == (1, 2, 3)
    assert found.dtype == np.uint32


def test_dropped_objects_leave_no_gap_in_the_numbers() -> None:
    objects = np.zeros((20, 20), bool)
    objects[1, 1] = objects[10, 1] = True
    objects[3:9, 3:9] = objects[12:18, 12:18] = True
    found = decode_plane(_foreground(objects), INNER, _decode(INNER))
    assert np.unique(found).tolist() == [0, 1, 2]
    assert found[5, 5] == 1


def test_objects_grow_by_growth_px_steps_and_no_farther() -> None:
    probabilities = np.zeros((3, 1, 30), np.float32)
    probabilities[2] = 1
    probabilities[:, 0, 10] = 0, 1, 0
    for steps in (0, 1, 4):
        decode = _decode(INNER, growth_px=steps, min_area_px=0)
        cuts = ([0, 1], [0, 9, 12, 30])
        found = _assert_cuts_agree(probabilities, cuts, INNER, decode)
        assert np.flatnonzero(found).tolist() == [*range(10 - steps, 11 + steps)]


def test_seeds_that_meet_only_in_a_third_block_are_one_object() -> None:
    # A horseshoe: its two arms lie in blocks of their own.
    objects = np.zeros((30, 30), bool)
    objects[4:26, 4:9] = objects[4:26, 20:25] = objects[21:26, 4:25] = True
    decode = _decode(INNER, growth_px=0)
    for cuts in (([0, 20, 30], [0, 15, 30]), (_cuts(30, 2), _cuts(30, 2))):
        found = _assert_cuts_agree(_foreground(objects), cuts, INNER, decode)
        assert found.max() == 1


def test_the_odds_move_the_outline_back() -> None:
    q = np.array([[0.4, 0.3, 0.0], [0.0, 0.0, 1.0], [0.6, 0.7, 0.0]], np.float32)
    probabilities = q[:, None, :]
    # Boundary three times too likely: .4 against .6 / 3, .3 against .7 / 3.
    decode = _decode(INNER, min_area_px=0)
    assert decode_plane(probabilities, INNER, decode).tolist() == [[1, 1, 1]]
    decode = decode.replace(class_odds=(1.0, 1.0, 3.0))
    assert decode_plane(probabilities, INNER, decode).tolist() == [[0, 0, 1]]
    decode = decode.replace(class_odds=(1.0, 1.0, 2.0))
    assert decode_plane(probabilities, INNER, decode).tolist() == [[0, 1, 1]]


def test_a_seed_needs_more_than_the_threshold_and_lies_in_the_foreground() -> None:
    probabilities = np.array([[0.5, 0.45], [0.5, 0.25], [0.0, 0.3]], np.float32)
    decode = _decode(INNER, min_area_px=0, seed_threshold=0.25, growth_px=0)
    assert not decode_plane(probabilities[:, None], INNER, decode).any()
    decode = decode.replace(seed_threshold=0.24)
    found = decode_plane(probabilities[:, None], INNER, decode)
    assert found.tolist() == [[0, 1]]


def test_unsure_objects_are_dropped_and_the_others_numbered_anew() -> None:
    # Three objects, each a pixel of interior, of confidence .55, .6 and .9.
    interior = np.array([[0.55, 0, 0, 0.6, 0, 0, 0.9]], np.float32)
    probabilities = np.stack([1 - interior, interior, np.zeros_like(interior)])
    decode = _decode(INNER, min_area_px=0, seed_threshold=0.3, growth_px=0)
    for least, expected in (
        (0.0, [1, 0, 0, 2, 0, 0, 3]),
        (0.59, [0, 0, 0, 1, 0, 0, 2]),
        (0.61, [0, 0, 0, 0, 0, 0, 1]),
        (1.0, [0] * 7),
    ):
        found = decode_plane(probabilities, INNER, decode.replace(min_confidence=least))
        assert found.tolist() == [expected]


def test_a_plane_of_one_class_and_a_plane_of_one_pixel() -> None:
    for encoding in (INNER, OUTER, EDGE):
        decode = _decode(encoding, min_area_px=0)
        classes = len(encoding.classes)
        for shape in ((1, 1), (1, 9), (7, 5)):
            cuts = [[0, *([1] if n > 1 else []), n] for n in shape]
            for c in range(classes):
                probabilities = np.zeros((classes, *shape), np.float32)
                probabilities[c] = 1
                _assert_cuts_agree(probabilities, cuts, encoding, decode)
    full = decode_plane(np.ones((3, 4, 4), np.float32) * [[[0]], [[1]], [[0]]], INNER,
                        _decode(INNER, min_area_px=16))  # fmt: skip
    assert (full == 1).all()


@pytest.mark.parametrize("largest", [64, 40])
def test_background_that_nuclei_enclose_is_told_by_its_size_across_blocks(
    largest,
) -> None:
    # A ring of nucleus around a square of background, which lies in several blocks.
    labels = np.ones((80, 80), int)
    labels[:, :5] = labels[:5] = 0
    labels[30:50, 30:50] = 0
    probabilities = _one_hot(labels, EDGE)
    for limit, counts in ((400, True), (399, False)):
        # The square counts for a nucleus up to the limit; the ring's two cores are
        # larger, the outer background reaches across.
        decode = _decode(EDGE, max_core_px=limit)
        for cuts in (
            (_cuts(80, largest), _cuts(80, largest)),
            ([0, 40, 80], [0, 39, 40, 80]),
            (_cuts(80, 7), _cuts(80, 11)),
        ):
            found = _assert_cuts_agree(probabilities, cuts, EDGE, decode)
            assert (found[40, 40] > 0) == counts


@pytest.mark.parametrize("turned", [False, True])
def test_background_that_reaches_across_is_told_though_no_block_sees_both_ends(
    rng, turned
) -> None:
    # Four nuclei in the corners, each at two neighboring sides of the plane. Between
    # them background goes from one side to the opposite one, around a corner.
    labels = np.zeros((30, 60), int)
    labels[:12, :20] = 1
    labels[:12, 24:] = 2
    labels[16:, :40] = 3
    labels[16:, 44:] = 4
    labels = labels.T if turned else labels
    probabilities = _one_hot(labels, EDGE)
    height, width = labels.shape
    for cuts in (
        ([0, height], [0, width]),
        (_cuts(height, 14), _cuts(width, 14)),
        (_cuts(height, 5), _cuts(width, 7)),
    ):
        found = _assert_cuts_agree(probabilities, cuts, EDGE, _decode(EDGE), rng=rng)
        assert found.max() == 4
        assert np.array_equal(found > 0, labels > 0)


def test_a_core_that_is_too_large_is_background_though_no_block_sees_that_much(rng):
    labels = np.zeros((40, 40), int)
    labels[2:38, 2:38] = 1
    core = 32 * 32
    probabilities = _one_hot(labels, EDGE)
    cuts = (_cuts(40, 8), _cuts(40, 8))
    for largest, objects in ((core, 1), (core - 1, 0)):
        decode = _decode(EDGE, max_core_px=largest)
        found = _assert_cuts_agree(probabilities, cuts, EDGE, decode, rng=rng)
        assert found.max() == objects


def test_the_plan_of_the_network_serves_the_decoder(nuclei_image, rng) -> None:
    _, labels = nuclei_image((230, 190), 60, 2)
    network = UNetConfig(channels=(4, 8))
    blocks = plan(
        labels.shape,
        stride_px=network.stride_px,
        halo_px=network.halo_px,
        largest_px=64,
    )
    cuts = (
        [0, *(blocks.at(i, 0).y.core_stop for i in range(blocks.rows))],
        [0, *(blocks.at(0, j).x.core_stop for j in range(blocks.columns))],
    )
    assert len(blocks.blocks) >= 30
    for encoding in ALL.values():
        probabilities = _soft(labels, encoding, rng)
        _assert_cuts_agree(probabilities, cuts, encoding, _decode(encoding), rng=rng)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ALL)
def test_a_real_field_does_not_depend_on_the_cut(data_dir, rng, name) -> None:
    stem = (data_dir / "bbbc039/metadata/validation.txt").read_text().split()[0]
    labels = read_labels(data_dir / f"bbbc039/masks/{stem}.png")
    encoding = ALL[name]
    probabilities = _soft(labels, encoding, rng)
    height, width = labels.shape
    decode = _decode(encoding, seed_threshold=0.4)
    whole = decode_plane(probabilities, encoding, decode)
    assert whole.max() > 50
    for every in (256, 61):
        cuts = (_cuts(height, every), _cuts(width, every))
        blocks = _decode_blocks(probabilities, cuts, encoding, decode, rng=rng)
        assert np.array_equal(blocks, whole)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(*[st.integers(0, 4) | st.integers(2**31 - 3, 2**31)] * 2)),
)
def test_pairs_are_told_apart_by_both_numbers(pairs) -> None:
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    found = distinct_pairs(first, second)
    assert found.dtype == np.int64
    assert found.shape == (len(set(pairs)), 2)
    assert [tuple(row) for row in found.tolist()] == sorted(set(pairs))


@pytest.mark.parametrize(
    ("encoding", "threshold", "marks"),
    [
        (INNER, 0.5, [SEED, OPEN, 0, 0]),
        (INNER, 0.25, [SEED, OPEN, OPEN, 0]),
        (INNER, 0.75, [SEED, 0, 0, 0]),
        (OUTER, 0.5, [SEED, 0, 0, 0]),
        (OUTER, 0.25, [SEED, OPEN, 0, 0]),
    ],
)
def test_the_foreground_threshold_opens_pixels_by_hand(
    encoding, threshold, marks
) -> None:
    # Background, interior, boundary of four pixels: sure, likely, unlikely, none.
    pixels = [(0.1, 0.9, 0.0), (0.4, 0.3, 0.3), (0.7, 0.1, 0.2), (0.9, 0.1, 0.0)]
    probabilities = np.array(pixels, np.float32).T[:, np.newaxis]
    found = seed_and_foreground_mask(
        probabilities, encoding, _decode(encoding, seed_threshold=0.5), threshold
    )
    assert found.tolist() == [marks]
