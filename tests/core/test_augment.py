"""Image, labels and annotation are varied as one."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy import ndimage
from torch.nn import functional

from cellunet.config import AugmentConfig
from cellunet.core.augment import (
    HALO_PX,
    TrainingCrop,
    flip,
    vary_appearance,
    vary_intensity,
    warp,
    warp_grid,
)

STILL = AugmentConfig(
    gain_sigma=0.0,
    offset_sigma=0.0,
    gamma_sigma=0.0,
    noise_sigma=0.0,
    blur_sigma_px=0.0,
    dim_probability=0.0,
)
RIGID = AugmentConfig(scale_range=(1.0, 1.0), elastic_px=0.0)


def _grid(size, config=None, seed=0):
    return warp_grid(size, config or AugmentConfig(), np.random.default_rng(seed))


def _identity(size):
    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    return np.stack(np.meshgrid(axis, axis, indexing="ij"))


def _whole(shape, labels=None):
    labels = np.ones(shape, np.int32) if labels is None else labels
    image = labels[np.newaxis].astype(np.float32)
    return TrainingCrop(image, labels, np.ones(shape, bool), -image[0])


def test_the_eight_flips_are_different_and_alike_for_all_arrays() -> None:
    plane = np.arange(9).reshape(3, 3)
    turned = [flip((plane, np.stack((plane, plane + 9))), c) for c in range(8)]
    assert len({t[0].tobytes() for t in turned}) == 8
    for single, double in turned:
        assert np.array_equal(double[0], single)
        assert np.array_equal(double[1], single + 9)
    assert np.array_equal(turned[0][0], plane)
    assert np.array_equal(turned[1][0], np.rot90(plane))
    assert np.array_equal(turned[4][0], plane[:, ::-1])


def test_an_unmoved_warp_is_the_crop_itself(rng) -> None:
    labels = rng.integers(0, 60_000, (20, 30)).astype(np.int32)
    annotated = rng.random((20, 30)) < 0.8
    image = rng.random((2, 20, 30)).astype(np.float32)
    border = -image[0]
    crop = warp(
        TrainingCrop(image, labels, annotated, border), (9.5, 11.5), _identity(8)
    )
    assert np.allclose(crop.image, image[:, 6:14, 8:16], atol=1e-5)
    assert np.array_equal(crop.labels, labels[6:14, 8:16])
    assert np.array_equal(crop.annotated, annotated[6:14, 8:16])
    assert np.allclose(crop.border, border[6:14, 8:16], atol=1e-5)
    assert crop.labels.dtype == np.int32
    assert crop.annotated.dtype == bool


def test_a_warp_keeps_labels_on_their_image() -> None:
    # The image is the label number itself: inside a blob both must say the same.
    y, x = np.mgrid[:120, :120]
    labels = np.zeros((120, 120), np.int32)
    for number, (cy, cx) in enumerate(((30, 30), (40, 80), (85, 50), (90, 95)), 1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= 144] = number
    source = _whole((120, 120), labels)
    around = np.ones((5, 5), bool)
    for seed in range(5):
        config = AugmentConfig(scale_range=(0.7, 1.4), elastic_px=2.0)
        crop = warp(source, (60.0, 58.0), _grid(64, config, seed))
        # Beyond the image its pixels are mirrored, which labels need not be.
        inside = ndimage.binary_erosion(crop.labels > 0, around) & crop.annotated
        assert inside.sum() > 50
        assert np.allclose(crop.image[0][inside], crop.labels[inside], atol=1e-3)
        outside = ndimage.binary_erosion(crop.labels == 0, around)
        assert not crop.image[0][outside & crop.annotated].any()


def test_labels_are_not_shifted_against_their_image() -> None:
    y, x = np.mgrid[:120, :120]
    disc = ((y - 60) ** 2 + (x - 60) ** 2 <= 400).astype(np.int32)
    config = AugmentConfig(scale_range=(0.9, 1.1), elastic_px=1.0)
    for seed in range(5):
        crop = warp(_whole((120, 120), disc), (61.0, 58.0), _grid(64, config, seed))
        ((cy, cx), (ly, lx)) = (
            ndimage.center_of_mass(plane) for plane in (crop.image[0], crop.labels)
        )
        assert abs(cy - ly) < 0.1
        assert abs(cx - lx) < 0.1
        assert ((crop.image[0] > 0.5) != (crop.labels > 0)).mean() < 0.01


@pytest.mark.parametrize("magnification", [0.5, 1.0, 2.0])
def test_a_magnification_scales_areas_by_its_square(magnification) -> None:
    y, x = np.mgrid[:100, :100]
    disc = ((y - 50) ** 2 + (x - 50) ** 2 <= 144).astype(np.int32)
    config = RIGID.replace(scale_range=(magnification, magnification))
    crop = warp(_whole((100, 100), disc), (50.0, 50.0), _grid(80, config))
    expected = disc.sum() * magnification**2
    assert (crop.labels > 0).sum() == pytest.approx(expected, rel=0.08)


def test_magnifications_stay_in_their_range_and_turns_go_all_around() -> None:
    angles = []
    for seed in range(40):
        grid = _grid(9, AugmentConfig(scale_range=(0.5, 2.0), elastic_px=0.0), seed)
        assert grid[:, 4, 4].tolist() == [0, 0]
        step = grid[:, 5, 4]
        assert 0.5 <= np.hypot(*step) <= 2.0
        assert np.isclose(step @ grid[:, 4, 5], 0, atol=1e-5)
        angles.append(np.arctan2(step[1], step[0]))
    assert np.ptp(angles) > 5


def test_elastic_displacements_are_smooth_and_as_strong_as_asked() -> None:
    rigid, elastic = (
        _grid(192, RIGID.replace(elastic_px=e), 3) for e in (0.0, 2.0)
    )  # The same turn: it is drawn before the displacements.
    moved = elastic - rigid
    assert 0.7 < moved.std() < 3.5
    assert np.abs(np.diff(moved, axis=1)).max() < 1.0


@pytest.mark.parametrize("size", [16, 33, 192])
def test_elastic_displacements_are_cubics_between_their_knots(size) -> None:
    rigid, elastic = (_grid(size, RIGID.replace(elastic_px=e), 4) for e in (0.0, 2.0))
    rng = np.random.default_rng(4)
    rng.uniform(size=2)  # Magnification and angle.
    knots = size // 32 + 3
    drawn = torch.from_numpy(rng.normal(0.0, 2.0, (1, 2, knots, knots)))
    expected = functional.interpolate(drawn, (size, size), mode="bicubic")[0].numpy()
    assert np.allclose(elastic - rigid, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3), (15, 400)])
def test_nothing_beyond_an_image_is_annotated(shape) -> None:
    middle = tuple((n - 1) / 2 for n in shape)
    crop = warp(_whole(shape), middle, _identity(32))
    top, left = (int(np.ceil(c - 15.5)) for c in middle)
    expected = np.zeros((32, 32), bool)
    for i in range(32):
        for j in range(32):
            y, x = middle[0] + i - 15.5, middle[1] + j - 15.5
            expected[i, j] = -0.5 < y < shape[0] - 0.5 and -0.5 < x < shape[1] - 0.5
    assert np.array_equal(crop.annotated, expected)
    # Pixels whose centers lie on a pixel's edge count outside.
    assert crop.annotated.sum() <= min(32, shape[0]) * min(32, shape[1])
    assert top <= 0 or left <= 0
    assert np.isfinite(crop.image).all()
    assert crop.image.shape == (1, 32, 32)


def test_what_is_not_annotated_stays_so_where_it_is_warped_to() -> None:
    labels = np.zeros((60, 60), np.int32)
    labels[:, 30:] = 1
    plain = np.ones(labels.shape, np.float32)
    source = TrainingCrop(labels[None].astype(np.float32), labels, labels > 0, plain)
    crop = warp(source, (30.0, 30.0), _grid(40, RIGID, 1))
    assert 0 < crop.annotated.sum() < 1600
    assert np.array_equal(crop.annotated, crop.labels > 0)


def test_no_strength_changes_nothing(rng) -> None:
    image = rng.random((2, 9, 9)).astype(np.float32) - 0.2
    found = vary_intensity(image, STILL, np.random.default_rng(1))
    assert np.array_equal(found, image)
    assert found.dtype == np.float32


def test_gain_and_offset_are_one_line_for_all_pixels(rng) -> None:
    image = rng.random((1, 20, 20)).astype(np.float32)
    config = STILL.replace(gain_sigma=0.5, offset_sigma=0.2)
    found = vary_intensity(image, config, np.random.default_rng(1))
    gain, offset = np.polyfit(image.ravel(), found.ravel(), 1)
    assert gain > 0
    assert abs(gain - 1) > 0.01
    assert np.allclose(found, gain * image + offset, atol=1e-5)


def test_a_dimmed_crop_keeps_its_signal_to_noise(rng) -> None:
    image = rng.random((1, 40, 40)).astype(np.float32)
    noisy = STILL.replace(noise_sigma=0.2, offset_sigma=0.1, intensity_probability=1.0)
    dim = noisy.replace(dim_probability=1.0, dim_range=(0.2, 0.2))
    plain, dimmed = (
        vary_intensity(image, config, np.random.default_rng(3))
        for config in (noisy, dim)
    )
    assert np.allclose(dimmed, 0.2 * plain, atol=1e-6)


def test_intensities_vary_by_the_seed_and_the_input_is_left_alone(rng) -> None:
    image = rng.normal(0.3, 0.5, (2, 24, 24)).astype(np.float32)
    before = image.copy()
    config = AugmentConfig(intensity_probability=1.0)
    a, b, c = (
        vary_intensity(image, config, np.random.default_rng(s)) for s in (1, 1, 2)
    )
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert np.isfinite(a).all()
    assert np.array_equal(image, before)


class _Chosen:
    """A generator whose first draw chooses which changes are made."""

    def __init__(self, *made: int, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._first = np.array([0.0 if i in made else 1.0 for i in range(8)])

    def random(self, size=None, dtype=float):
        if size == 8:
            return self._first
        return self._rng.random(size, dtype)

    def __getattr__(self, name):
        return getattr(self._rng, name)


DIMMED, GRAINED, BODIES, NOISY, STEPPED = 0, 1, 2, 6, 7


def _two_squares():
    labels = np.zeros((96, 96), np.int32)
    labels[10:30, 10:30] = 3
    labels[60:80, 50:70] = 8
    image = np.where(labels > 0, 0.9, 0.1).astype(np.float32)[np.newaxis]
    return image, labels


def test_objects_are_dimmed_one_by_one_and_the_background_stays() -> None:
    image, labels = _two_squares()
    inside = ndimage.binary_erosion(labels > 0, iterations=4)
    far = ndimage.distance_transform_edt(labels == 0) > HALO_PX
    apart = []
    for seed in range(8):
        dimmed = vary_appearance(image, labels, _Chosen(DIMMED, seed=seed))[0]
        assert np.allclose(dimmed[far], 0.1, atol=1e-4)
        levels = [dimmed[inside & (labels == i)] for i in (3, 8)]
        assert all(np.ptp(level) < 0.02 for level in levels)
        apart.append(abs(levels[0].mean() - levels[1].mean()))
        assert all(0.1 < level.mean() < 0.92 for level in levels)
    assert max(apart) > 0.3


def test_grain_stays_within_objects() -> None:
    image, labels = _two_squares()
    grained = vary_appearance(image, labels, _Chosen(GRAINED))[0]
    assert grained[labels > 0].std() > 0.03
    far = ndimage.distance_transform_edt(labels == 0) > HALO_PX
    assert np.allclose(grained[far], 0.1, atol=1e-4)


def test_bodies_of_cells_shine_around_objects_and_end_somewhere() -> None:
    labels = np.zeros((256, 256), np.int32)
    labels[20:40, 20:40] = 1
    image = 0.8 * (labels > 0)[None].astype(np.float32)
    near = ndimage.distance_transform_edt(labels == 0) < 4
    far = ndimage.distance_transform_edt(labels == 0) > 200
    lights = [
        (vary_appearance(image, labels, _Chosen(BODIES, seed=seed)) - image)[0]
        for seed in range(8)
    ]
    assert all(light.min() >= -1e-6 and np.isfinite(light).all() for light in lights)
    # Dimmer than the objects, brighter beside them than far away, and each another.
    assert max(light.max() for light in lights) < 1.2
    assert np.mean([light[near].mean() for light in lights]) > 0.05
    assert np.mean([light[far].mean() for light in lights]) < 0.01
    assert np.ptp([light[near].mean() for light in lights]) > 0.05


def test_photons_make_bright_pixels_noisier() -> None:
    labels = np.zeros((128, 128), np.int32)
    image = np.zeros((1, 128, 128), np.float32)
    image[0, :, 64:] = 4.0
    noisy = [
        vary_appearance(image, labels, _Chosen(NOISY, seed=seed)) - image
        for seed in range(8)
    ]
    dark, bright = (np.std([n[0][:, half] for n in noisy]) for half in HALVES)
    assert bright > 1.2 * dark > 0


HALVES = (slice(0, 64), slice(64, 128))


def test_few_bits_leave_few_levels(rng) -> None:
    image = rng.random((1, 64, 64)).astype(np.float32)
    stepped = vary_appearance(image, np.zeros((64, 64), np.int32), _Chosen(STEPPED))
    assert len(np.unique(stepped)) <= 256
    assert np.abs(stepped - image).max() <= 0.5 / 12 + 1e-6


def test_the_same_numbers_make_the_same_crop_and_the_image_is_left_alone() -> None:
    image, labels = _two_squares()
    before = image.copy()
    made = [
        vary_appearance(image, labels, np.random.default_rng(5)).tobytes()
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert np.array_equal(image, before)


def test_a_crop_without_objects_is_varied_too() -> None:
    flat = np.full((1, 64, 64), 0.2, np.float32)
    empty = np.zeros((64, 64), np.int32)
    for seed in range(6):
        varied = vary_appearance(flat, empty, np.random.default_rng(seed))
        assert varied.dtype == np.float32
        assert np.isfinite(varied).all()
