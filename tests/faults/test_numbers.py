"""Pixels of every kind, through the model that ships: what comes out of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.session import load_model
from tests.conftest import draw_nuclei

Image = npt.NDArray[Any]


@pytest.fixture(scope="module")
def segment() -> Callable[[Image], Image]:
    model = load_model(threads=1)
    return lambda image: model.segment(image)[0]


@pytest.fixture(scope="module")
def field() -> Image:
    """About a dozen nuclei of the size that the model knows."""
    return draw_nuclei((192, 192), 14, 3, radius_px=(9, 13))[0]


@pytest.fixture(scope="module")
def count(segment, field) -> int:
    found = int(segment(field).max())
    assert found > 5
    return found


def test_not_a_number_and_infinity_are_holes_and_nothing_else(
    segment, field, count
) -> None:
    image = field.astype(np.float32)
    image[:8, :8], image[8:16, :8] = np.nan, np.inf
    assert abs(int(segment(image).max()) - count) <= 1


@pytest.mark.parametrize("value", [0, 1, 65535])
def test_a_constant_image_holds_nothing(segment, value) -> None:
    assert segment(np.full((96, 96), value, np.uint16)).max() == 0


def test_twelve_bits_in_sixteen_and_their_place_in_them_change_nothing(
    segment, field
) -> None:
    twelve = (field >> 1).clip(0, 4095).astype(np.uint16)
    assert np.array_equal(segment(twelve), segment(twelve << 4))


def test_negative_floats_are_an_offset(segment, field) -> None:
    image = field.astype(np.float32)
    assert np.array_equal(segment(image), segment(image - 4096))


def test_saturated_nuclei_are_found(segment, field, count) -> None:
    assert abs(int(segment(field.clip(0, 900)).max()) - count) <= 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 80), (80, 1)])
def test_one_pixel_and_one_row_are_images(segment, shape) -> None:
    image = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    labels = segment(image)
    assert labels.shape == shape


def test_pure_noise_is_not_thousands_of_nuclei(segment) -> None:
    noise = np.random.default_rng(0).normal(200, 10, (512, 512)).astype(np.float32)
    assert segment(noise).max() <= 5


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda field: 4000 - field.clip(0, 4000), "Bright all over"),
        (
            lambda field: np.random.default_rng(0).normal(200, 10, field.shape),
            "Hardly more than noise",
        ),
    ],
    ids=["inverted contrast", "pure noise"],
)
def test_what_is_no_fluorescence_is_reported_as_such(
    field, tmp_path, make, told
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", make(field).astype(np.uint16))
    found = predict([str(tmp_path / "a.tif")], tmp_path / "out", threads=1)
    (image,) = found.images
    assert image.status == "done"
    assert told in " ".join(image.warnings)
