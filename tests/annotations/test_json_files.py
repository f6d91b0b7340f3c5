"""JSON is read within limits and refused in one clear line."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from cellunet.annotations import json_files
from cellunet.annotations.json_files import kind_of, number, read_json, ring, whole
from cellunet.errors import AnnotationError


def test_plain_packed_and_marked_files_are_read(tmp_path):
    document = {"a": [1, 2.5, "ü"]}
    text = json.dumps(document, ensure_ascii=False).encode()
    for name, content in (
        ("a.json", text),
        ("b.json", b"\xef\xbb\xbf" + text),
        ("c.geojson.gz", gzip.compress(text, mtime=0)),
    ):
        (tmp_path / name).write_bytes(content)
        assert read_json(tmp_path / name) == document


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON"),
        (b'{"shapes": [', "is no JSON"),
        (b'"\xff\xfe"', "is no JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b"[1" + b"0" * 5000 + b"]", "is no JSON"),
        (gzip.compress(b"[1, 2, 3]", mtime=0)[:-9], "is cut off"),
        (b"\x1f\x8b\x08 nothing packed", "cannot be read|is cut off"),
    ],
)
def test_what_is_no_json_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match=message) as caught:
        read_json(path)
    assert str(path) in caught.value.message
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="cannot be read: No such file"):
        read_json(tmp_path / "none.json")


def test_too_much_is_refused_however_small_it_is_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "MAX_BYTES", 1 << 20)
    path = tmp_path / "bomb.geojson.gz"
    path.write_bytes(gzip.compress(b" " * (1 << 21)))
    assert path.stat().st_size < 4096
    with pytest.raises(AnnotationError, match="more than 1 MiB"):
        read_json(path)


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"type": "FeatureCollection", "features": []}, "geojson"),
        ([{"type": "Feature"}], "geojson"),
        ([], "geojson"),
        ([1, 2], None),
        ({"images": [], "annotations": [], "categories": []}, "coco"),
        ({"images": []}, None),
        ({"version": "5.0", "shapes": []}, "labelme"),
        ({"type": 3}, None),
        ("text", None),
        (None, None),
    ],
)
def test_kinds_are_told_by_content(document, kind):
    assert kind_of(document) == kind


def test_rings_are_pairs_of_finite_numbers():
    found = ring([[0, 1], [2.5, 3, 99], [4, 5], [0, 1]], "it")
    assert found.dtype == np.float64
    assert found.tolist() == [[0, 1], [2.5, 3], [4, 5], [0, 1]]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ("text", "a list is expected"),
        ([[0, 0], [1], [2, 2]], "no pair x, y"),
        ([[0, 0], [1, None], [2, 2]], "no finite number"),
        ([[0, 0], ["1", 2], [2, 2]], "no finite number"),
        ([[0, 0], [True, 2], [2, 2]], "no finite number"),
        ([[0, 0], [1e400, 2], [2, 2]], "no finite number"),
        ([[0, 0], [10**400, 2], [2, 2]], "no pair x, y"),
        ([0, 1, 2], "no pair x, y"),
    ],
)
def test_what_is_no_ring_is_refused(points, message):
    with pytest.raises(AnnotationError, match=message):
        ring(points, "it")


def test_bare_nan_is_read_where_it_is_no_coordinate(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"measured": [NaN, -Infinity], "point": [[NaN, 1]]}')
    found = read_json(path)
    assert found["measured"][1] == float("-inf")
    with pytest.raises(AnnotationError, match="no finite number"):
        ring(found["point"], "it")


def test_numbers_are_checked():
    assert number(3, "n") == 3.0
    assert whole(4.0, "n") == 4
    for wrong in (True, "3", None, float("inf"), 10**400):
        with pytest.raises(AnnotationError, match="a number is expected"):
            number(wrong, "n")
    for wrong in (-1, 2.5):
        with pytest.raises(AnnotationError, match="0, 1, 2"):
            whole(wrong, "n")
