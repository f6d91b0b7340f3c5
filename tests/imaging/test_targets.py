"""Instance labels to class maps and weights, and back through the decoder."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellunet.config import DecodeConfig, EncodingConfig, WeightConfig
from cellunet.errors import ConfigError
from cellunet.imaging.cores import cores
from cellunet.imaging.decode import correct, decode_plane
from cellunet.imaging.growth import grow
from cellunet.imaging.targets import (
    BOUNDARY,
    INTERIOR,
    TARGETS,
    border_map,
    encode,
    weight_map,
)
from tests.conftest import read_labels

INNER = EncodingConfig()
OUTER = EncodingConfig(boundary_side="outer")
EDGE = EncodingConfig(target="boundary")


def _digits(*rows):
    return np.array([[int(d) for d in row] for row in rows])


def _decoded(labels, config):
    """Through the one-hot class map and the decoder with nothing filtered."""
    class_map = encode(labels, config)
    classes = len(config.classes)
    one_hot = np.stack([class_map == c for c in range(classes)]).astype(np.float32)
    decode = DecodeConfig(
        class_odds=(1.0,) * classes, min_area_px=0, seed_threshold=0.5
    )
    return decode_plane(one_hot, config, decode)


def _best_ious(labels, decoded):
    """Best IoU of each object of `labels` with any object of `decoded`."""
    width = int(decoded.max()) + 1
    height = int(labels.max()) + 1
    keys = (labels.astype(np.int64) * width + decoded).ravel()
    pairs = np.bincount(keys, minlength=height * width).reshape(height, width)
    union = pairs.sum(1, keepdims=True) + pairs.sum(0, keepdims=True) - pairs
    return (pairs / np.maximum(union, 1))[1:, 1:].max(axis=1, initial=0)


def test_an_inner_boundary_by_hand() -> None:
    labels = _digits("0000000", "0333330", "0333330", "0333330", "0333330", "0333330")
    assert np.array_equal(
        encode(labels, INNER.replace(boundary_px=1)),
        _digits("0000000", "0222220", "0211120", "0211120", "0211120", "0211120"),
    )
    assert np.array_equal(
        encode(labels, INNER.replace(boundary_px=2)),
        _digits("0000000", "0222220", "0222220", "0221220", "0221220", "0221220"),
    )


def test_an_outer_boundary_by_hand() -> None:
    labels = np.zeros((7, 7), int)
    labels[2:5, 2:5] = 8
    thin, thick = (encode(labels, OUTER.replace(boundary_px=t)) for t in (1, 2))
    assert np.array_equal(
        thin,
        _digits(
            "0000000", "0022200", "0211120", "0211120", "0211120", "0022200", "0000000"
        ),
    )
    # The second step passes corners too.
    assert np.array_equal(
        thick,
        _digits(
            "0222220", "2222222", "2211122", "2211122", "2211122", "2222222", "0222220"
        ),
    )


def test_touching_objects_by_hand() -> None:
    labels = _digits("11112222", "11112222", "11112222")
    # The edge of the image is no boundary.
    assert np.array_equal(encode(labels, OUTER), _digits(*["11122111"] * 3))
    assert np.array_equal(
        encode(labels, INNER.replace(boundary_px=1)), _digits(*["11122111"] * 3)
    )
    assert np.array_equal(encode(labels, INNER), _digits(*["11222211"] * 3))
    assert np.array_equal(
        encode(_digits("1110", "0333"), INNER.replace(boundary_px=1)),
        _digits("1220", "0221"),
    )


def test_the_boundary_target_by_hand() -> None:
    labels = np.zeros((6, 7), int)
    labels[1:, 1:6] = 1
    assert np.array_equal(
        encode(labels, EDGE.replace(boundary_px=1)),
        _digits("0000000", "0111110", "0100010", "0100010", "0100010", "0100010"),
    )


@pytest.mark.parametrize("thickness", [1, 2, 3])
def test_thickness_is_counted_in_pixels(thickness) -> None:
    labels = np.zeros((1, 40), int)
    labels[0, 10:30] = 1
    inner = encode(labels, INNER.replace(boundary_px=thickness))
    assert np.flatnonzero(inner == BOUNDARY).tolist() == [
        *range(10, 10 + thickness),
        *range(30 - thickness, 30),
    ]
    outer = encode(labels, OUTER.replace(boundary_px=thickness))
    assert np.flatnonzero(outer == BOUNDARY).tolist() == [
        *range(10 - thickness, 10),
        *range(30, 30 + thickness),
    ]
    edge = encode(labels, EDGE.replace(boundary_px=thickness))
    assert np.array_equal(edge == 1, inner == BOUNDARY)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_classes_of_random_blobs(seed, thickness) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 25, 2))
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0.4, 2))
    labels = np.digitize(smooth, np.quantile(smooth, [0.4, 0.7]))
    framed = np.pad(labels, 1, mode="edge")
    others = (framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:])
    inner, outer, edge = (
        encode(labels, c.replace(boundary_px=thickness)) for c in (INNER, OUTER, EDGE)
    )
    for class_map in (inner, outer, edge):
        assert class_map.dtype == np.uint8
        assert class_map.shape == shape
    assert np.array_equal(inner > 0, labels > 0)
    assert np.array_equal(edge == 1, inner == BOUNDARY)
    assert not (outer == INTERIOR)[labels == 0].any()
    assert (outer == 0)[labels > 0].sum() == 0
    # Apart from objects that are nothing but contact, contact is boundary.
    contact = np.any([(o > 0) & (o != labels) for o in others], axis=0) & (labels > 0)
    for class_map in (inner, outer):
        for number in (1, 2):
            parts, count = ndimage.label(labels == number)
            for part in (parts == i for i in range(1, count + 1)):
                assert ndimage.label(part & (class_map == INTERIOR))[1] == 1
                if (part & ~contact).any():
                    assert (class_map[part & contact] == BOUNDARY).all()


def test_correction_divides_by_the_odds_and_sums_to_one() -> None:
    q = np.array([0.25, 0.25, 0.5], np.float32).reshape(3, 1, 1)
    p = correct(q, (1.0, 1.0, 2.0))
    assert p.ravel().tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert p.dtype == np.float32
    assert np.array_equal(correct(q, (1.0, 1.0, 1.0)), q)
    # p weighted by a is proportional to q again.
    assert correct(p, (1.0, 1.0, 0.5)).ravel().tolist() == pytest.approx(
        [0.25, 0.25, 0.5]
    )
    assert q.ravel().tolist() == [0.25, 0.25, 0.5]


def test_every_row_has_a_configuration_of_as_many_classes() -> None:
    assert set(TARGETS) == {"three-class", "boundary"}
    with pytest.raises(ConfigError, match="inner"):
        EncodingConfig(target="boundary", boundary_side="outer")


def _ring(outside, inside):
    y, x = np.mgrid[-20:21, -20:21]
    square = y * y + x * x
    return ((square <= outside**2) & (square > inside**2)).astype(int)


def _dumbbell(bar):
    labels = np.zeros((24, 50), int)
    y, x = np.mgrid[:24, :50]
    for center in (12, 37):
        labels[(y - 12) ** 2 + (x - center) ** 2 <= 81] = 1
    labels[12 - bar // 2 : 12 - bar // 2 + bar, 12:38] = 1
    return labels


def _frame_cut():
    y, x = np.mgrid[:30, :30]
    labels = np.zeros((30, 30), int)
    for number, (cy, cx) in enumerate(((0, 0), (15, 0), (29, 15), (2, 28)), 1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= 49] = number
    return labels


def _specks():
    labels = np.zeros((9, 9), int)
    labels[1, 1], labels[4, 4:6], labels[7, 0], labels[0, 8] = 1, 2, 3, 4
    return labels


WHOLE = {
    "specks": _specks(),
    "one pixel image": np.array([[1]]),
    "thin ring": _ring(15, 13),
    "thick ring": _ring(15, 8),
    "dumbbell with a bar of 1": _dumbbell(1),
    "dumbbell with a bar of 4": _dumbbell(4),
    "frame-cut": _frame_cut(),
    "all of the image": np.ones((12, 9), int),
    "line": np.pad(np.ones((1, 20), int), 2),
}


@pytest.mark.parametrize("thickness", [1, 2, 3])
@pytest.mark.parametrize("name", WHOLE)
def test_odd_objects_come_back_whole(name, thickness) -> None:
    labels = WHOLE[name]
    decoded = _decoded(labels, INNER.replace(boundary_px=thickness))
    assert decoded.max() == labels.max()
    assert (_best_ious(labels, decoded) >= 0.9).all()


@pytest.mark.parametrize("config", [INNER, OUTER], ids=["inner", "outer"])
def test_an_object_of_two_parts_comes_back_as_two_objects(config) -> None:
    labels = np.zeros((12, 30), int)
    labels[2:10, 2:10] = labels[2:10, 18:28] = 6
    decoded = _decoded(labels, config)
    assert np.array_equal(decoded > 0, labels > 0)
    assert set(decoded[:, :14].ravel()) == {0, 1}
    assert set(decoded[:, 14:].ravel()) == {0, 2}


def test_a_hole_up_to_the_limit_is_filled_and_a_larger_one_stays() -> None:
    # Radii of 3 and 4 leave holes of 29 and 49 pixels; the limit is 40.
    assert (_decoded(_ring(12, 3), INNER) > 0).sum() == _ring(12, 0).sum() + 1
    assert (_decoded(_ring(12, 4), INNER) > 0).sum() == _ring(12, 4).sum()


@pytest.mark.parametrize("config", [INNER, OUTER], ids=["inner", "outer"])
def test_drawn_nuclei_come_back(nuclei_image, config) -> None:
    _, labels = nuclei_image((160, 160), 40, 3)
    decoded = _decoded(labels, config)
    assert decoded.max() == labels.max()
    assert (_best_ious(labels, decoded) >= 0.9).all()


def test_apart_from_each_other_nuclei_come_back_from_their_boundaries_alone() -> None:
    y, x = np.mgrid[:60, :60]
    labels = np.zeros((60, 60), int)
    for number, (cy, cx, r) in enumerate(
        ((12, 12, 8), (15, 40, 10), (45, 16, 9), (59, 45, 9)), 1
    ):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= r * r] = number
    assert np.array_equal(_decoded(labels, EDGE), labels)


def test_the_boundary_target_takes_background_that_nuclei_enclose_for_a_nucleus():
    # Four discs that touch; the background around them reaches across the image.
    y, x = np.mgrid[:88, :88]
    labels = np.zeros((88, 88), int)
    for number, (cy, cx) in enumerate(((24, 24), (24, 63), (63, 24), (63, 63)), 1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= 20**2] = number
    decoded = _decoded(labels, EDGE)
    assert decoded.max() == 5
    assert decoded[43, 43] > 0
    assert (_best_ious(labels, decoded) >= 0.9).all()
    # The three-class target tells the gap by its class.
    assert _decoded(labels, INNER).max() == 4


def _validation_labels(data_dir, step):
    stems = (data_dir / "bbbc039/metadata/validation.txt").read_text().split()
    return [read_labels(data_dir / f"bbbc039/masks/{s}.png") for s in stems[::step]]


def _round_trip(fields, config):
    """Return objects, those lost (IoU below .9) and those made up (below .5)."""
    objects = lost = invented = 0
    for labels in fields:
        decoded = _decoded(labels, config)
        ious = _best_ious(labels, decoded)
        objects += len(ious)
        lost += int((ious < 0.9).sum())
        invented += int((_best_ious(decoded, labels) < 0.5).sum())
    return objects, lost, invented


@pytest.mark.slow
@pytest.mark.data
def test_all_validation_nuclei_come_back(data_dir) -> None:
    fields = _validation_labels(data_dir, 1)
    assert len(fields) == 50
    assert _round_trip(fields, INNER) == (5896, 0, 0)


@pytest.mark.slow
@pytest.mark.data
def test_what_an_outer_boundary_and_the_boundary_target_lose(data_dir) -> None:
    """Of every fifth validation image.

    Outer: nuclei of a dozen pixels lose the contact pixels that face no pixel of the
    neighbor's. Boundary: nuclei of one pixel have no boundary at all; background that
    nuclei enclose, or cut off at the frame, counts for a nucleus.
    """
    fields = _validation_labels(data_dir, 5)
    objects, lost, invented = _round_trip(fields, OUTER)
    assert (objects, invented) == (1374, 0)
    assert lost <= 24
    _, lost, invented = _round_trip(fields, EDGE)
    assert lost <= 13
    assert invented <= 10


def _flooded(labels):
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


@pytest.mark.slow
@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_every_part_keeps_one_connected_core_off_its_contacts(seed, thickness) -> None:
    labels = _random_labels(seed)
    core = cores(labels, thickness)
    parts, contact = _flooded(labels), _touches_another(labels)
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


def test_an_arm_that_leads_nowhere_is_no_part_of_a_bridge() -> None:
    # The same, and up from the bar an arm of 3 columns.
    labels = np.zeros((20, 23), int)
    labels[12:19, 1:8] = labels[12:19, 15:22] = 1
    labels[14:17, 8:15] = 1
    labels[1:14, 10:13] = 1
    core = cores(labels, 2)
    assert ndimage.label(core)[1] == 1
    assert core[15, 3:20].all()
    assert not core[:14].any()


def test_a_bridge_is_one_piece_where_it_passes_a_corner() -> None:
    # Beside the path round the hook lies a pixel that touches it by a corner alone.
    drawn = """
        ......................
        ............###.......
        ...........#####......
        ...........#####..#...
        ...........#####.###..
        ............###..##...
        ..............#..#.#..
        ..............#..#.#..
        ..............#..#.#..
        ..............##.###..
        ...............###....
        ......................
    """
    labels = np.array([[pixel == "#" for pixel in row] for row in drawn.split()], int)
    assert ndimage.label(cores(labels, 2))[1] == 1


def test_a_bridge_follows_a_bar_that_bends() -> None:
    # Two squares whose bar goes round a corner.
    labels = np.zeros((24, 24), int)
    labels[1:8, 1:8] = labels[16:23, 16:23] = 1
    labels[3:6, 8:21] = labels[6:16, 18:21] = 1
    core = cores(labels, 2)
    assert ndimage.label(core)[1] == 1
    assert core[4, 5:19].all()
    assert core[5:19, 19].all()


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
    parts = _flooded(labels)
    for number in range(1, parts.max() + 1):
        assert ndimage.label(core & (parts == number))[1] == 1


def test_no_objects_have_no_cores() -> None:
    assert not cores(np.zeros((5, 4), np.uint16), 2).any()
    assert cores(np.zeros((0, 4), np.uint16), 2).shape == (0, 4)


@pytest.mark.parametrize("thickness", [1, 2, 3])
def test_drawn_nuclei_grow_back_from_their_cores(nuclei_image, thickness) -> None:
    _, labels = nuclei_image((160, 160), 40, 4)
    parts = _flooded(labels).astype(np.int32)
    grown = grow(np.where(cores(labels, thickness), parts, 0), parts > 0, 10)
    for number in range(1, parts.max() + 1):
        mine, back = parts == number, grown == number
        assert 10 * (mine & back).sum() >= 9 * (mine | back).sum()


def _brute_force(labels, config):
    """One distance transform of the whole image per object, sorted, in float64."""
    objects = [labels == i for i in np.unique(labels[labels > 0])]
    if len(objects) < 2:
        return np.zeros(labels.shape)
    distances = np.sort([ndimage.distance_transform_edt(~o) for o in objects], axis=0)
    total = distances[0] + distances[1]
    sigma = config.border_sigma_px
    return config.border_weight * np.exp(-(total**2) / (2 * sigma**2))


def test_weights_by_hand() -> None:
    labels = np.array([[1, 1, 0, 0, 0, 4]])
    class_map = np.array([[2, 1, 0, 0, 0, 2]], np.uint8)
    config = WeightConfig(
        class_weights=(1.0, 2.0, 3.0),
        border_weight=10.0,
        border_sigma_px=5.0,
    )
    # d1 + d2: inside an object d1 is 0; between the two, the sum is their gap.
    sums = [5, 4, 4, 4, 4, 4]
    expected = [
        w + 10 * math.exp(-(s**2) / 50)
        for w, s in zip([3, 2, 1, 1, 1, 3], sums, strict=True)
    ]
    weights = weight_map(labels, class_map, config)
    assert weights.dtype == np.float32
    assert weights.tolist() == [pytest.approx(expected)]


def test_either_part_can_be_switched_off() -> None:
    labels = np.array([[1, 0, 2]])
    class_map = np.array([[1, 0, 1]], np.uint8)
    flat = WeightConfig(class_weights=(1.0, 5.0), border_weight=0.0)
    assert weight_map(labels, class_map, flat).tolist() == [[5, 1, 5]]
    even = WeightConfig(class_weights=(1.0, 1.0))
    assert np.array_equal(
        weight_map(labels, class_map, even), 1 + border_map(labels, even)
    )


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 2.3, 5.0, 12.0]),
    st.sampled_from([1.0, 10.0, 250.0]),
)  # fmt: skip
def test_the_border_map_is_that_of_brute_force(seed, sigma, w0) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 70, 2))
    share = rng.choice([0.0005, 0.003, 0.02, 0.2])
    seeds = (rng.random(shape) < share) * rng.integers(1, 12, shape)
    labels = ndimage.grey_dilation(seeds, size=int(rng.integers(1, 6)))
    config = WeightConfig(border_weight=w0, border_sigma_px=sigma)
    error = np.abs(border_map(labels, config) - _brute_force(labels, config))
    assert error.max() <= 1e-6 * w0


def test_the_border_map_of_a_field_of_nuclei_is_that_of_brute_force(nuclei_image):
    _, labels = nuclei_image((200, 230), 40, 6)
    config = WeightConfig()
    found = border_map(labels, config)
    assert np.abs(found - _brute_force(labels, config)).max() <= 1e-6 * 10
    assert found.max() > 9


@pytest.mark.parametrize("labels", [
    np.zeros((9, 7), int), np.ones((9, 7), int), np.pad([[3, 3]], 4), np.zeros((1, 1)),
])  # fmt: skip
def test_fewer_than_two_objects_have_no_border(labels) -> None:
    found = border_map(labels.astype(np.int32), WeightConfig())
    assert found.shape == labels.shape
    assert not found.any()


def test_the_numbering_does_not_matter_and_may_have_gaps(nuclei_image, rng) -> None:
    _, labels = nuclei_image((80, 90), 12, 1)
    other = np.concatenate(([0], rng.permutation(60_000)[: labels.max()] + 1))
    expected = border_map(labels, WeightConfig())
    for dtype in (np.uint16, np.int32, np.int64):
        found = border_map(other[labels].astype(dtype), WeightConfig())
        assert np.array_equal(found, expected)


def test_an_image_without_background_has_borders_too() -> None:
    labels = np.repeat([[7, 7, 9, 9]], 3, axis=0)
    config = WeightConfig(border_weight=1.0, border_sigma_px=1.0)
    # The second nearest object is 2, 1, 1, 2 pixels away.
    expected = [math.exp(-2.0), math.exp(-0.5), math.exp(-0.5), math.exp(-2.0)]
    assert border_map(labels, config)[1].tolist() == pytest.approx(expected)


def test_two_parts_of_one_object_have_no_border_between_them() -> None:
    labels = np.array([[5, 0, 5, 0, 0, 0, 0, 0, 8]])
    found = border_map(labels, WeightConfig(border_weight=1.0, border_sigma_px=2.0))
    # Between the parts, d1 is 1 and d2 the 7 pixels to object 8.
    assert found[0, 1] == pytest.approx(math.exp(-(8**2) / 8))


def test_a_class_without_a_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="class 2, but there are 2"):
        weight_map(
            np.zeros((1, 1), int),
            np.array([[2]], np.uint8),
            WeightConfig(class_weights=(1.0, 1.0)),
        )
