"""Instance labels to class maps, and back through the decoder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellunet.annotations.read import read_labels
from cellunet.config import DecodeConfig, EncodingConfig
from cellunet.errors import ConfigError
from cellunet.imaging.decode import decode_plane
from cellunet.imaging.targets import BOUNDARY, INTERIOR, TARGETS, correct, encode

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
