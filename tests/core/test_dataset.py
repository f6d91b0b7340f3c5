"""Prepared images, and crops that follow from (seed, epoch, index) alone."""

from __future__ import annotations

import itertools
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")


from cellunet.config import AugmentConfig, NormalizationConfig, WeightConfig
from cellunet.core.dataset import (
    CropSampler,
    crop_center,
    crop_corner,
    prepare,
)
from cellunet.imaging.normalize import (
    measure_channels,
    network_input,
    rescale_channels,
)
from cellunet.imaging.targets import encode, weight_map
from tests.networks import sample_of

PLAIN = AugmentConfig(
    flips=False,
    warp_probability=0.0,
    gain_sigma=0.0,
    offset_sigma=0.0,
    intensity_probability=0.0,
    dim_probability=0.0,
)


def _same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _draw(images, config, indices, epoch=0):
    sampler = CropSampler(images, config)
    return [sampler.crop(epoch, i) for i in indices]


def test_preparing_scales_encodes_and_weighs(make_sample, tiny_config) -> None:
    sample = make_sample((64, 64), 1)
    prepared = prepare(sample, tiny_config)
    norm = tiny_config.normalization
    statistics = measure_channels(lambda: [sample.image], norm)
    scaled = rescale_channels(sample.image, statistics, norm)
    assert np.array_equal(prepared.crop.image, scaled)
    class_map = encode(sample.labels, tiny_config.encoding)
    assert np.array_equal(prepared.class_map, class_map)
    assert np.array_equal(
        prepared.weight_map, weight_map(sample.labels, class_map, tiny_config.weights)
    )
    assert prepared.name == sample.name


def test_channels_are_scaled_each_by_itself(make_sample, tiny_config) -> None:
    one = make_sample((40, 40), 1)
    two = replace(one, image=np.concatenate((one.image, 7 * one.image)))
    prepared = prepare(two, tiny_config)
    assert np.allclose(prepared.crop.image[0], prepared.crop.image[1], atol=1e-5)
    assert network_input(prepared.crop.image, tiny_config.normalization).shape == (
        4,
        40,
        40,
    )


def test_what_is_not_annotated_never_has_weight(make_sample, tiny_config) -> None:
    whole = make_sample((64, 64), 2)
    # Half of the image, and a stray pixel, are not annotated; their pixels glow.
    annotated = np.ones((64, 64), bool)
    annotated[:, 32:] = annotated[5, 5] = False
    sample = replace(whole, annotated=annotated)
    prepared = prepare(sample, tiny_config)
    assert np.array_equal(prepared.weight_map > 0, annotated)
    # Mark the annotation in the image, to find it again in the warped crops.
    marked = prepared._replace(
        crop=prepared.crop._replace(image=annotated[None].astype(np.float32))
    )
    config = tiny_config.replace(
        augment=PLAIN.replace(flips=True, warp_probability=0.5),
        normalization=NormalizationConfig(kind="standard"),
    )
    seen = []
    for image, _, weights in _draw([marked], config, range(30)):
        assert not weights[image[0] < 0.05].any()
        assert (weights[image[0] > 0.95] > 0).all()
        seen.append((weights > 0).mean())
    # Whatever is drawn holds something that is annotated.
    assert 0 < min(seen) < 0.55
    assert max(seen) > 0.9


def test_a_crop_follows_from_seed_epoch_and_index_alone(
    tiny_images, tiny_config
) -> None:
    forwards = _draw(tiny_images, tiny_config, range(12), epoch=3)
    backwards = _draw(tiny_images, tiny_config, reversed(range(12)), epoch=3)[::-1]
    np.random.seed(1)
    torch.manual_seed(1)
    again = _draw(tiny_images, tiny_config, range(12), epoch=3)
    for a, b, c in zip(forwards, backwards, again, strict=True):
        assert _same(a, b)
        assert _same(a, c)
    others = [
        _draw(tiny_images, tiny_config, [0], epoch=4)[0],
        _draw(tiny_images, tiny_config.replace(seed=6), [0], epoch=3)[0],
        forwards[1],
    ]
    assert not any(_same(forwards[0], other) for other in others)


def test_crops_have_one_shape_and_the_types_of_a_batch(
    tiny_images, tiny_config
) -> None:
    for image, class_map, weights in _draw(tiny_images, tiny_config, range(10)):
        assert (image.shape, image.dtype) == ((2, 32, 32), np.float32)
        assert (class_map.shape, class_map.dtype) == ((32, 32), np.uint8)
        assert (weights.shape, weights.dtype) == ((32, 32), np.float32)
        assert np.isfinite(image).all()
        assert np.isfinite(weights).all()


def test_an_unvaried_crop_is_cut_from_the_prepared_image(tiny_images, tiny_config):
    prepared = tiny_images[1]
    whole = network_input(prepared.crop.image, tiny_config.normalization)
    config = tiny_config.replace(augment=PLAIN)
    corners = set()
    for image, class_map, weights in _draw([prepared], config, range(25)):
        places = np.argwhere(
            np.isclose(whole[0, :-31, :-31], image[0, 0, 0], atol=1e-7)
        )
        ((y, x),) = [
            (y, x)
            for y, x in places
            if np.allclose(whole[:, y : y + 32, x : x + 32], image, atol=1e-6)
        ]
        view = np.s_[y : y + 32, x : x + 32]
        assert np.array_equal(prepared.class_map[view], class_map)
        assert np.array_equal(prepared.weight_map[view], weights)
        corners.add((y, x))
    assert len(corners) > 15


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (15, 4000), (31, 33)])
@pytest.mark.parametrize("warped", [0.0, 1.0])
def test_a_crop_larger_than_its_image_is_padded_without_weight(
    tiny_config, shape, warped
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 900, shape).astype(np.uint16)
    sample = sample_of(np.ones(shape), image)
    rigid = PLAIN.replace(warp_probability=warped, scale_range=(1, 1), elastic_px=0.0)
    config = tiny_config.replace(augment=rigid, weights=WeightConfig(border_weight=0.0))
    most = min(shape[0], 32) * min(shape[1], 32)
    for image, _, weights in _draw([prepare(sample, config)], config, range(6)):
        assert image.shape == (2, 32, 32)
        assert np.isfinite(image).all()
        counted = int((weights > 0).sum())
        if warped:
            # A turned strip can be longer within the crop, by its diagonal.
            assert counted <= 1.5 * most + 2
        else:
            assert counted == most
            assert (weights[: min(shape[0], 32), : min(shape[1], 32)] > 0).all()


def test_the_padding_of_a_small_image_is_its_mirror_image(tiny_config) -> None:
    image = np.arange(6, dtype=np.uint16).reshape(2, 3)
    sample = sample_of(np.zeros((2, 3)), image)
    config = tiny_config.replace(augment=PLAIN)
    ((crop, class_map, weights),) = _draw([prepare(sample, config)], config, [0])
    assert np.array_equal(crop[:, :2, :3], crop[:, 3:1:-1, 5:2:-1])
    assert weights.sum() == 6
    assert not class_map.any()


def test_a_warped_crop_is_encoded_anew(tiny_images, tiny_config) -> None:
    """The boundary keeps its thickness however much the crop is magnified."""
    config = tiny_config.replace(
        augment=PLAIN.replace(
            warp_probability=1.0, scale_range=(4.0, 4.0), elastic_px=0.0
        )
    )
    found = 0
    for _, class_map, _ in _draw(tiny_images[:2], config, range(20)):
        if not (class_map == 1).any():
            continue
        # Background lies within 3 steps of every boundary pixel that is not contact.
        found += 1
        edge = (class_map == 2).sum()
        assert edge < 32 * 4 * 4
    assert found > 5


def test_images_are_drawn_by_their_area(make_sample, tiny_config) -> None:
    shapes = ((32, 32), (64, 64), (16, 16))
    images = [prepare(make_sample(s, i, 2), tiny_config) for i, s in enumerate(shapes)]
    sampler = CropSampler(images, tiny_config)
    # An image smaller than a crop counts as one crop.
    chosen = [
        sampler._choose(0, i, np.random.default_rng((0, 0, i))) for i in range(1200)
    ]
    share = np.bincount(chosen, minlength=3) / 1200
    assert share == pytest.approx([1 / 6, 4 / 6, 1 / 6], abs=0.05)
    # The very draws of `choice`, so that a resumed run goes on as it began.
    expected = [
        np.random.default_rng((0, 0, i)).choice(3, p=[1 / 6, 4 / 6, 1 / 6])
        for i in range(200)
    ]
    assert chosen[:200] == expected


def test_in_turn_every_image_comes_once_before_any_comes_again(
    tiny_images, tiny_config
) -> None:
    images = [tiny_images[0]] * 7
    config = tiny_config.replace(sampling="images", steps_per_epoch=0)
    sampler = CropSampler(images, config)
    assert sampler.steps_per_epoch == 4
    orders = []
    for epoch in range(2):
        chosen = [
            sampler._choose(epoch, i, np.random.default_rng(0)) for i in range(21)
        ]
        turns = [tuple(chosen[i : i + 7]) for i in (0, 7, 14)]
        assert all(sorted(turn) == list(range(7)) for turn in turns)
        orders += turns
    assert len(set(orders)) > 3


def test_batches_made_ahead_are_those_made_alone_from_any_step(
    tiny_images, tiny_config
) -> None:
    sampler = CropSampler(tiny_images, tiny_config)
    expected = [sampler.batch(1, s) for s in range(4)]
    for first, threads in itertools.product(range(5), (1, 3)):
        sampler = CropSampler(tiny_images, tiny_config, threads=threads)
        found = list(sampler.batches(1, first))
        assert len(found) == 4 - first
        for a, b in zip(found, expected[first:], strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_an_abandoned_epoch_leaves_no_thread(tiny_images, tiny_config) -> None:
    import threading

    batches = CropSampler(tiny_images, tiny_config).batches(0, 0)
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if "cellunet-crops" in t.name]


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.integers(1, 30),
    place=st.tuples(st.integers(0, 39), st.integers(0, 39)),
    seed=st.integers(0, 1000),
)
def test_a_crop_of_a_partly_annotated_image_holds_some_of_it(shape, size, place, seed):
    annotated = np.zeros(shape, bool)
    annotated[place[0] % shape[0], place[1] % shape[1]] = True
    y, x = crop_corner(annotated, size, np.random.default_rng(seed))
    assert annotated[y : y + size, x : x + size].any()
    # Within the image wherever the image is large enough.
    for corner, length in zip((y, x), shape, strict=True):
        assert 0 <= corner <= max(length - size, 0)
    if annotated.size > 1:
        center = crop_center(annotated, np.random.default_rng(seed))
        assert annotated[tuple(map(int, center))]


def test_every_crop_that_holds_an_annotated_pixel_can_come(rng):
    annotated = np.zeros((9, 20), bool)
    annotated[4, 10] = True
    found = {crop_corner(annotated, 4, rng) for _ in range(2000)}
    assert found == {(y, x) for y in range(1, 5) for x in range(7, 11)}


def test_a_pixel_is_drawn_as_from_a_list_of_all_annotated_ones(rng):
    annotated = rng.random((30, 50)) < 0.1
    annotated[4:9] = False
    listed = np.argwhere(annotated)
    for seed in range(50):
        drawn = np.random.default_rng(seed).integers(len(listed))
        place = crop_center(annotated, np.random.default_rng(seed))
        assert place == tuple(listed[drawn])


def test_drawing_a_pixel_takes_no_list_of_all_annotated_ones(rng):
    annotated = np.ones((1000, 1000), bool)
    annotated[0, 0] = False
    tracemalloc.start()
    crop_center(annotated, rng)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < annotated.size


def test_where_all_is_annotated_two_numbers_are_drawn():
    whole = np.ones((30, 50), bool)
    rng, same = (np.random.default_rng(3) for _ in range(2))
    for _ in range(20):
        corner = crop_corner(whole, 16, rng)
        assert corner == (int(same.integers(15)), int(same.integers(35)))
        assert crop_center(whole, rng) == (same.uniform(0, 29), same.uniform(0, 49))


def test_without_anything_annotated_crops_come_from_anywhere(rng):
    nothing = np.zeros((8, 8), bool)
    assert len({crop_corner(nothing, 2, rng) for _ in range(200)}) > 20
