"""The picture is the same however its rows come, and shows where objects are."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

from cellunet.config import NormalizationConfig
from cellunet.imaging.normalize import measure
from cellunet.io.source import Statistics
from cellunet.outputs.pictures import PREDICTION, SIDE_PX, Thumbnail


def known(image) -> Statistics:
    return measure(lambda: [image], NormalizationConfig())


def made(image, labels, cuts=()) -> tuple[bytes, tuple[int, int]]:
    thumbnail = Thumbnail(image.shape, known(image), NormalizationConfig())
    for rows, ids in zip(np.split(image, cuts), np.split(labels, cuts), strict=True):
        if len(rows):
            thumbnail.add(rows, ids)
    return thumbnail.encode()


@pytest.mark.parametrize("shape", [(60, 50), (300, 700), (1, 9), (9, 1), (3, 3000)])
def test_the_bands_heights_change_no_byte(shape, rng) -> None:
    image = rng.integers(0, 4000, shape).astype(np.uint16)
    labels = (rng.integers(0, 3, shape) * (image > 1000)).astype(np.uint32)
    whole = made(image, labels)
    every = range(1, shape[0])
    for cuts in (every, every[::3], every[4::7]):
        assert made(image, labels, list(cuts)) == whole


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((520, 696), (232, 174)),
        ((256, 256), (256, 256)),
        ((257, 100), (50, 129)),
        ((64, 48), (192, 256)),
        ((5000, 10), (1, 250)),
    ],
)
def test_the_longest_side_fits_and_small_images_are_enlarged(shape, size) -> None:
    image = np.zeros(shape, np.uint8)
    encoded, found = made(image, image)
    assert found == size
    assert max(found) <= SIDE_PX
    assert imagecodecs.webp_decode(encoded).shape[:2] == size[::-1]


def test_outlines_are_colored_where_the_object_ends() -> None:
    image = np.zeros((256, 256), np.uint8)
    image[60:120, 80:200] = 200
    encoded, _ = made(image, (image > 0).astype(np.uint32))
    picture = imagecodecs.webp_decode(encoded)[..., :3].astype(int)
    redder = picture[..., 0] - picture[..., 2] > 60
    ys, xs = np.nonzero(redder)
    assert (ys.min(), ys.max()) == pytest.approx((60, 119), abs=2)
    assert (xs.min(), xs.max()) == pytest.approx((80, 199), abs=2)
    assert not redder[70:110, 90:190].any()
    assert PREDICTION[0] > PREDICTION[2]


def test_an_empty_field_looks_empty(rng) -> None:
    image = rng.normal(500, 5, (200, 200)).astype(np.float32)
    encoded, _ = made(image, np.zeros((200, 200), np.uint32))
    assert imagecodecs.webp_decode(encoded)[..., :3].std() < 25


def test_pixels_that_are_not_finite_are_black() -> None:
    image = np.linspace(0, 1, 900, dtype=np.float32).reshape(30, 30)
    image[:3] = [[np.nan], [np.inf], [-np.inf]]
    encoded, _ = made(image, np.zeros((30, 30), np.uint32))
    assert imagecodecs.webp_decode(encoded)[:20, :, :3].mean() < 10
