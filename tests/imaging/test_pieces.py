"""Pieces of a band cover it in raster order, and what is made of one stays small."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellunet.config import NormalizationConfig
from cellunet.imaging import measure as measuring
from cellunet.imaging import outlines, pieces, quality
from cellunet.imaging.measure import Confidences, ObjectSums, measure_labels
from cellunet.imaging.normalize import measure_channels
from cellunet.imaging.outlines import Tracer
from cellunet.io.source import Statistics
from cellunet.outputs import pictures
from cellunet.outputs.pictures import Thumbnail

WIDE = 2**23
STATISTICS = Statistics(low=0, high=1, mean=0.5, std=0.2, noise=0.01, count=WIDE)


@given(shape=st.tuples(st.integers(1, 9), st.integers(0, 9)), most=st.integers(1, 100))
def test_pieces_meet_every_pixel_once_in_raster_order(shape, most) -> None:
    pixels = np.arange(shape[0] * shape[1]).reshape(shape)
    found = [pixels[piece].ravel() for piece in pieces.pieces(shape, most)]
    assert all(0 < len(part) <= most for part in found)
    np.testing.assert_array_equal(np.concatenate([[], *found]), pixels.ravel())


def line(kind: type) -> np.ndarray:
    """A row in which every tenth pixel is one of a thousand objects, or bright."""
    row = np.zeros((1, WIDE), kind)
    row[0, ::10] = np.arange(len(row[0, ::10])) % 1000 + 1
    return row


def confidences() -> Callable[[], object]:
    labels, sure = line(np.uint32), np.zeros((1, WIDE), np.uint8)
    return lambda: Confidences(np.ones(1000, np.int64)).add(labels, sure)


def measured() -> Callable[[], object]:
    labels = line(np.uint32)
    return lambda: ObjectSums(1000, labels.shape, ("a",)).add(0, labels, [labels])


def statistics() -> Callable[[], object]:
    pixels = line(np.uint16)
    return lambda: measure_channels(
        lambda: [pixels[np.newaxis]], NormalizationConfig()
    )[0]


def sharp() -> Callable[[], object]:
    pixels = line(np.uint16)
    return lambda: quality.Sharpness(STATISTICS).add(pixels)


def drawn() -> Callable[[], object]:
    pixels, labels = line(np.uint16), line(np.uint32)
    return lambda: Thumbnail(
        labels.shape, STATISTICS, NormalizationConfig(noise_floor=1.0)
    ).add(pixels, labels)


def traced() -> Callable[[], object]:
    labels = line(np.uint32)
    labels[0, 2**20 :] = 0
    return lambda: Tracer(WIDE).add(labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "most"),
    # Bytes a pixel: of the whole row some keep a copy, of a piece all make many.
    [
        *((confidences, 1), (measured, 3), (statistics, 8)),
        *((sharp, 5), (drawn, 9), (traced, 12)),
    ],
)
def test_a_row_of_eight_million_pixels_takes_little_beside_itself(make, most) -> None:
    call = make()
    tracemalloc.start()
    try:
        call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most * WIDE


def cut(monkeypatch, most: int) -> None:
    def small(shape, _=None):
        return pieces.pieces(shape, most)

    for module in (outlines, measuring, quality):
        monkeypatch.setattr(module, "pieces", small)
    monkeypatch.setattr(pictures, "PIECE_PX", most)


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 7, 64])
def test_no_result_depends_on_the_pieces(rng, monkeypatch, most) -> None:
    labels = np.kron(rng.integers(0, 5, (6, 9)), np.ones((3, 5), int))
    pixels = rng.random(labels.shape).astype(np.float32)
    pixels[0, 3] = np.inf

    def everything() -> tuple:
        picture = Thumbnail(
            labels.shape, STATISTICS, NormalizationConfig(noise_floor=1.0)
        )
        sharp = quality.Sharpness(STATISTICS)
        for y in range(0, len(labels), 5):
            picture.add(pixels[y : y + 5], labels[y : y + 5])
            sharp.add(pixels[y : y + 5])
        return (
            outlines.outlines(labels),
            measure_labels(labels, [np.nan_to_num(pixels)]),
            sharp.value(),
            picture.encode(),
        )

    before = everything()
    cut(monkeypatch, most)
    monkeypatch.setattr(outlines, "EDGES_AT_ONCE", most)
    np.testing.assert_equal(everything(), before)
