"""A record comes back as it was; anything else is refused."""

from __future__ import annotations

import json

import pytest

from cellunet.outputs.report import from_json, to_json


def test_a_record_comes_back_under_the_name_given(make_image) -> None:
    image = make_image(
        "field 1",
        7,
        warnings=("soft",),
        plane="plane 2 of 3",
        shape=(3, 96, 96),
        pixel_size_um=(0.5, 0.25),
    )
    again, of = from_json(to_json(image, "labels"), "field 1")
    assert again == image
    assert of == "labels"


def test_what_is_not_known_stays_unknown(make_image) -> None:
    image = make_image("a", 0, confidences=None, thumbnail=b"", thumbnail_size=(0, 0))
    assert from_json(to_json(image, ""), "a")[0] == image


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format": 99}',
        "[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_anything_else_is_no_record(content) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_json(content, "a")


@pytest.mark.parametrize("key", ["thumbnail", "diameters", "shape", "of"])
def test_a_record_without_a_part_is_refused(key, make_image) -> None:
    values = json.loads(to_json(make_image("a"), "x"))
    del values[key]
    with pytest.raises(ValueError, match=r".+"):
        from_json(json.dumps(values), "a")
