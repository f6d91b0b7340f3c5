"""Intensities measured, and scaled to the network's input."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.filters import threshold_otsu

from cellunet.config import NormalizationConfig
from cellunet.errors import ConfigError, ImageReadError
from cellunet.imaging.normalize import (
    BINS,
    LogHistogram,
    OrderStatistics,
    channels,
    measure_channels,
    network_input,
    percentile_span,
    rescale_channels,
    rescale_intensity,
)

PERCENTILE = NormalizationConfig()
STANDARD = NormalizationConfig(kind="standard")
DTYPES = [
    "u1",
    "<u2",
    ">u2",
    "i1",
    "i2",
    "u4",
    "i4",
    "i8",
    "f2",
    "<f4",
    ">f4",
    "f8",
    "?",
]


def _bands(image, heights):
    """Cut into bands of these heights, over and over."""

    def bands():
        y, turn = 0, 0
        while y < len(image):
            height = heights[turn % len(heights)]
            yield image[np.newaxis, y : y + height]
            y, turn = y + height, turn + 1

    return bands


def normalize(image, statistics, config):
    return channels(rescale_intensity(image, statistics, config), config)


def _measure(image, config=PERCENTILE):
    return measure_channels(lambda: [image[np.newaxis]], config)[0]


@st.composite
def images(draw):
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    if dtype.kind == "f":
        # Few values, so that there are ties, and all the odd ones.
        elements = st.one_of(
            st.sampled_from([0.0, -0.0, 1.0, 0.5, -3.0]),
            st.floats(width=8 * dtype.itemsize),
        )
        return draw(hnp.arrays(dtype, shape, elements=elements))
    return draw(hnp.arrays(dtype, shape))


def _single(image):
    with np.errstate(over="ignore"):
        return image.astype(np.float32)


@pytest.mark.slow
@settings(max_examples=150)
@example(np.array([[0.0, 5e-324]]), [1], (0.0, 1.0))
@example(np.array([[0.0, 1e-300]]), [1], (0.0, 1.0))
@example(np.array([[0.0, 3e38]]), [1], (0.0, 1.0))
@given(
    images(),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.tuples(st.floats(0, 99), st.floats(0.01, 100)),
)
def test_percentiles_are_exact_order_statistics_however_the_bands_are_cut(
    image, heights, percentiles
) -> None:
    low, high = percentiles[0], min(percentiles[0] + percentiles[1], 100.0)
    config = NormalizationConfig(low_percentile=low, high_percentile=high)
    single = _single(image)
    finite = np.sort(single[np.isfinite(single)])
    if not len(finite):
        with pytest.raises(ImageReadError, match="no finite pixel"):
            _measure(image, config)
        return
    (found,) = measure_channels(_bands(image, heights), config)
    assert found.count == len(finite)
    assert found.low == finite[math.floor(low / 100 * (len(finite) - 1))]
    assert found.high == finite[math.floor(high / 100 * (len(finite) - 1))]
    wide = image[np.isfinite(single)].astype(np.float64)
    span = float(np.abs(wide).max()) or 1.0
    assert found.mean / span == pytest.approx(wide.mean() / span, abs=1e-9)
    # Smaller values are 0 to the network, and their squares to float64.
    least = 1e-150 / span
    assert found.std / span == pytest.approx((wide / span).std(), abs=max(1e-6, least))
    assert found == _measure(image, config)


@pytest.mark.slow
@settings(max_examples=100)
@given(images(), st.sampled_from([PERCENTILE, STANDARD]))
def test_any_image_becomes_finite_input_of_its_shape(image, config) -> None:
    if not np.isfinite(_single(image)).any():
        return
    found = normalize(image, _measure(image, config), config)
    assert found.dtype == np.float32
    assert found.shape == (config.channels, *image.shape)
    assert np.isfinite(found).all()


def test_the_percentiles_of_a_worked_image() -> None:
    # 0 .. 1000: rank floor(.01 * 1000) = 10 and floor(.998 * 1000) = 998.
    image = np.arange(1001, dtype=np.uint16).reshape(7, 143)
    found = _measure(image)
    assert (found.low, found.high, found.count) == (10, 998, 1001)
    assert (found.mean, found.std) == (
        500,
        pytest.approx(math.sqrt(1001**2 / 12), 1e-3),
    )
    assert found.noise == pytest.approx(1 / 0.9538725)


@pytest.mark.parametrize("dtype", ["u2", "f4", "i4"])
def test_the_noise_of_white_noise_is_its_standard_deviation(rng, dtype) -> None:
    image = np.rint(rng.normal(5000, 100, (300, 300))).astype(dtype)
    assert _measure(image).noise == pytest.approx(100, rel=0.02)


def test_unsigned_differences_do_not_wrap() -> None:
    image = np.array([[0, 255, 0, 255]], np.uint8)
    assert _measure(image).noise == pytest.approx(255 / 0.9538725)


def test_types_of_the_same_values_have_the_same_statistics(rng) -> None:
    image = rng.integers(0, 65536, (40, 30)).astype(np.uint16)
    expected = _measure(image)
    for dtype in (">u2", "u4", "i4", "f4", "f8", "i8"):
        assert _measure(image.astype(dtype)) == expected


def test_pixels_that_are_not_finite_count_nowhere_and_become_zero() -> None:
    image = np.array([[np.nan, 2.0, 4.0, np.inf], [-np.inf, 2.0, 4.0, np.nan]], "f4")
    found = _measure(image, STANDARD)
    assert (found.count, found.mean, found.std) == (4, 3.0, 1.0)
    assert normalize(image, found, STANDARD)[0].tolist() == [[0, -1, 1, 0]] * 2


def test_neighboring_infinities_are_no_warning() -> None:
    image = np.array([[np.inf, np.inf, 1.0, 3.0, -np.inf, np.inf]], np.float32)
    assert _measure(image).noise == pytest.approx(2 / 0.9538725)


def test_values_at_the_ends_of_float32_are_measure() -> None:
    top = float(np.finfo(np.float32).max)
    image = np.array([[-top, top, 0.0, 1e-45]], np.float32)
    config = NormalizationConfig(low_percentile=0.0, high_percentile=100.0)
    found = _measure(image, config)
    assert (found.low, found.high) == (-top, top)
    assert np.isfinite(normalize(image, found, config)).all()


def test_doubles_beyond_float32_count_as_infinite() -> None:
    image = np.array([[1e300, 1.0, 3.0, -1e300]])
    found = _measure(image, STANDARD)
    assert (found.count, found.mean, found.std) == (2, 2.0, 1.0)


@pytest.mark.parametrize(
    "config", [PERCENTILE, STANDARD], ids=["percentile", "standard"]
)
@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (0, "u1"),
        (255, "u1"),
        (40_000, "u2"),
        (2**31 - 1, "i4"),
        (0.1, "f4"),
        (-7.3, "f8"),
    ],
)
def test_a_constant_image_becomes_zero(config, value, dtype) -> None:
    for shape in ((1, 1), (1, 9), (9, 1), (31, 77)):
        image = np.full(shape, value, dtype)
        found = _measure(image, config)
        assert (found.std, found.noise) == (pytest.approx(0, abs=1e-6), 0)
        assert not normalize(image, found, config).any()


def test_an_image_of_nothing_finite_is_refused() -> None:
    with pytest.raises(ImageReadError, match="no finite pixel"):
        _measure(np.full((3, 3), np.nan))


def test_percentile_scaling_by_hand() -> None:
    config = NormalizationConfig(
        low_percentile=0.0, high_percentile=100.0, noise_floor=0.0
    )
    image = np.array([[100, 150, 200]], np.uint16)
    found = rescale_intensity(image, _measure(image, config), config)
    assert found.tolist() == [[0.0, 0.5, 1.0]]
    both = channels(np.array([[-2.0, -0.1, 0.0, 0.02, 1.0, 9.0]], np.float32), config)
    assert both[0].tolist() == [pytest.approx([-0.5, -0.1, 0.0, 0.02, 1.0, 3.0])]
    assert both[1].tolist() == [
        pytest.approx(
            [0, 0, 0, math.log(2) / math.log(51), 1, math.log(151) / math.log(51)]
        )
    ]


def test_an_empty_field_is_scaled_by_its_noise(rng) -> None:
    image = np.rint(rng.normal(1000, 100, (200, 200))).astype(np.uint16)
    found = rescale_intensity(image, _measure(image), PERCENTILE)
    # A span of at least 24 standard deviations: the noise stays a 24th.
    assert found.std() == pytest.approx(1 / 24, rel=0.05)


def test_standardized_images_have_mean_zero_and_unit_variance(rng) -> None:
    image = rng.gamma(2, 500, (60, 70)).astype(np.uint16)
    found = normalize(image, _measure(image, STANDARD), STANDARD)
    assert found.shape == (1, 60, 70)
    assert float(found.mean(dtype=float)) == pytest.approx(0, abs=1e-5)
    assert float(found.std(dtype=float)) == pytest.approx(1, abs=1e-5)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([PERCENTILE, STANDARD]))
def test_a_tile_cannot_tell_where_it_lies(seed, config) -> None:
    rng = np.random.default_rng(seed)
    image = rng.gamma(1, 900, tuple(rng.integers(1, 50, 2))).astype(np.uint16)
    statistics = _measure(image, config)
    y, x = (int(rng.integers(n)) for n in image.shape)
    view = np.s_[y : y + int(rng.integers(1, 50)), x : x + int(rng.integers(1, 50))]
    whole = normalize(image, statistics, config)
    assert np.array_equal(
        normalize(image[view], statistics, config), whole[:, view[0], view[1]]
    )


def test_the_negative_of_a_negative_image_is_scaled_alike(rng) -> None:
    image = np.rint(rng.gamma(2, 500, (80, 90))).astype(np.uint16)
    negative = (9000 - image.astype(np.int32)).astype(np.int32)
    inverted = PERCENTILE.replace(invert=True)
    expected = rescale_intensity(image, _measure(image), PERCENTILE)
    found = rescale_intensity(negative, _measure(negative, inverted), inverted)
    # Ranks are rounded down, which of a negative image is up: one rank of 7,200.
    assert np.abs(found - expected).max() < 0.02


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_channels_are_measured_side_by_side_as_each_alone(rng, dtype) -> None:
    image = rng.normal(100, 20, (3, 60, 40)).clip(0, 255).astype(dtype)
    image[1] //= 3
    config = NormalizationConfig()
    passes: list[int] = []

    def bands():
        passes.append(1)
        return (image[:, y : y + 7] for y in range(0, 60, 7))

    found = measure_channels(bands, config)
    assert found == tuple(_measure(c, config) for c in image)
    assert len(passes) == (1 if dtype in ("uint8", "uint16") else 3)
    passes.clear()
    measure_channels(bands, STANDARD)
    assert len(passes) == (1 if dtype in ("uint8", "uint16") else 2)
    scaled = rescale_channels(image, found, config)
    expected = [channels(s, config) for s in scaled]
    np.testing.assert_array_equal(
        network_input(scaled, config), np.concatenate(expected)
    )
    for own, plane, statistics in zip(scaled, image, found, strict=True):
        np.testing.assert_array_equal(own, rescale_intensity(plane, statistics, config))


def test_a_channel_of_nothing_finite_is_refused_before_anything_is_read_again() -> None:
    image = np.stack([np.ones((4, 4)), np.full((4, 4), np.nan)])
    passes: list[int] = []
    with pytest.raises(ImageReadError, match="no finite pixel"):
        measure_channels(lambda: passes.append(1) or [image], NormalizationConfig())
    assert passes == [1]


def test_the_square_root_lifts_what_is_dim() -> None:
    image = np.array([[0, 25, 100, 400], [0, 25, 100, 400]], np.uint16)
    root = PERCENTILE.replace(
        curve="square-root", low_percentile=0, high_percentile=100, noise_floor=0
    )
    root = root.replace(foreground_limit=0)
    values = rescale_intensity(image, _measure(image, root), root)
    np.testing.assert_allclose(values[0], [0, 0.25, 0.5, 1.0], rtol=1e-6)
    # What is darker than the low percentile is as dark as that.
    darker = replace(_measure(image, root), low=25.0)
    assert rescale_intensity(image, darker, root)[0, 0] == 0
    with pytest.raises(ConfigError, match="curve"):
        NormalizationConfig(kind="standard", curve="square-root")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_the_value_at_every_rank_is_that_of_sorting(rng, dtype) -> None:
    values = (
        rng.normal(100, 40, 200).clip(0) * (-1 if dtype == np.int32 else 1)
    ).astype(dtype)
    found = OrderStatistics()
    for part in (values[:90], values[90:]):
        found.add(part)
    ranks = (0, 77, 199)
    if found.wide:
        found.refine(ranks)
        for part in (values[:50], values[50:]):
            found.add_fine(part)
    assert [found.value(r) for r in ranks] == [float(np.sort(values)[r]) for r in ranks]


def test_values_that_come_after_a_question_count_in_the_next() -> None:
    found = OrderStatistics()
    found.add(np.array([9], np.uint8))
    assert found.value(0) == 9
    found.add(np.array([3], np.uint8))
    assert found.value(0) == 3


def test_sums_of_very_large_planes_are_exact() -> None:
    counted = OrderStatistics()
    counted.counts[[3, 65535]] = 7, 10**11
    total, squares = counted.sums()
    assert total == float(7 * 3 + 10**11 * 65535)
    assert squares == float(7 * 9 + 10**11 * 65535**2)


def _field(rng, count=40, brightness=(400, 700), background=150, noise=8):
    """Return discs of 24 px on a noisy background, float64."""
    image = rng.normal(background, noise, (400, 400))
    y, x = np.mgrid[:400, :400]
    for place in rng.permutation(100)[:count]:
        row, column = 40 * (place // 10) + 20, 40 * (place % 10) + 20
        disc = (y - row) ** 2 + (x - column) ** 2 < 12**2
        image[disc] += rng.uniform(*brightness)
    return image


def _with_dirt(image, brightness=4095):
    dirty = image.copy()
    dirty[100:120, 200:230] = brightness
    return dirty


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("invert", [False, True])
def test_bright_dirt_does_not_dim_the_nuclei(rng, dtype, invert) -> None:
    image = _field(rng)
    config = PERCENTILE.replace(invert=invert)
    dim = config.replace(foreground_limit=0.0)
    clean, dirty = (
        (4095 - i if invert else i).astype(dtype) for i in (image, _with_dirt(image))
    )
    found = _measure(clean, config), _measure(dirty, config)
    assert found[1].foreground == pytest.approx(found[0].foreground, rel=0.03)
    nuclei = image > 400
    seen, usual, unlimited = (
        float(np.median(rescale_intensity(i, _measure(i, c), c)[nuclei]))
        for i, c in ((dirty, config), (clean, config), (dirty, dim))
    )
    assert unlimited < 0.2 * usual
    assert 0.5 * usual < seen <= usual


@pytest.mark.parametrize("brightness", [9000, 20000, 65535])
@pytest.mark.parametrize("count", [20, 40])
def test_dirt_may_be_a_hundred_times_brighter(rng, brightness, count) -> None:
    image = _field(rng, count)
    clean, dirty = image.astype(np.uint16), _with_dirt(image, brightness)
    found = _measure(dirty.astype(np.uint16))
    assert found.foreground == pytest.approx(_measure(clean).foreground, rel=0.1)
    assert percentile_span(found, PERCENTILE) < 2 * 700


def test_a_clean_field_is_scaled_as_without_a_limit(rng) -> None:
    image = _field(rng).astype(np.uint16)
    found = _measure(image)
    assert 400 < found.foreground < 700
    assert percentile_span(found, PERCENTILE) == found.high - found.low


def test_few_nuclei_that_fill_less_than_noise_does_are_not_clipped(rng) -> None:
    # Otsu's threshold lies within the noise here, which is no foreground.
    for noise in (1.0, 0.4):
        image = _field(rng, 1, brightness=(60, 61), background=2.3, noise=noise)
        found = _measure(np.rint(image.clip(0)).astype(np.uint8))
        # Half of the neighbors of the smoother one are equal.
        assert (found.noise == 0) == (noise == 0.4)
        assert found.foreground == 0.0
        assert percentile_span(found, PERCENTILE) == found.high - found.low > 50


def test_an_empty_field_is_not_amplified(rng) -> None:
    found = _measure(_field(rng, count=0).astype(np.uint16))
    assert percentile_span(found, PERCENTILE) == PERCENTILE.noise_floor * found.noise


def test_a_plane_of_one_value_has_no_foreground() -> None:
    for dtype in (np.uint8, np.float32):
        found = _measure(np.full((9, 9), 7, dtype))
        assert found.foreground == 0.0
        assert percentile_span(found, PERCENTILE) == 0.0


def test_few_objects_on_a_background_of_exactly_zero_are_the_foreground() -> None:
    # Neighbors are equal: no noise. 0.5 % of the pixels are less than dirt may cover.
    image = np.zeros((400, 400), np.float32)
    image[100:120, 100:140] = 5
    found = _measure(image)
    assert found.noise == 0
    assert found.foreground == pytest.approx(5, rel=0.01)
    # Far brighter dirt does not hide them, as on any other background.
    image[300:310, 200:240] = 500
    assert _measure(image).foreground == pytest.approx(5, rel=0.2)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("cut", [0.5, 1.0, 1.5, 2.0])
def test_what_is_left_of_a_subtracted_background_is_no_foreground(
    rng, dtype, cut
) -> None:
    # In standard deviations of its noise. Otsu's threshold lies within what is left.
    image = _field(rng, 1, brightness=(300, 301), background=0, noise=10)
    image = (image - 10 * cut).clip(0).astype(dtype)
    found = _measure(image)
    assert found.noise < 1
    assert found.foreground == 0 or found.foreground > 200
    assert percentile_span(found, PERCENTILE) > 200


def test_nobody_pays_who_does_not_ask(rng) -> None:
    image = _field(rng).astype(np.uint16)
    assert _measure(image, PERCENTILE.replace(foreground_limit=0.0)).foreground is None
    assert _measure(image, PERCENTILE.replace(kind="standard")).foreground is None


@settings(max_examples=60)
@given(st.lists(st.integers(0, 3000), min_size=2, max_size=400), st.integers(0, 9))
def test_the_threshold_is_that_of_a_well_kept_library(values, seed) -> None:
    image = np.array(values, np.uint16)
    if image.min() == image.max():
        return
    low, high = float(image.min()), float(image.max())
    histogram = LogHistogram(low, high)
    histogram.add(image)
    scaled = np.log1p(50 * (image - low) / (high - low)) / np.log1p(50) * (BINS - 1)
    places = scaled.astype(int)
    counts = np.bincount(places, minlength=BINS)
    threshold = threshold_otsu(hist=(counts, np.arange(BINS)))
    # Several thresholds between the same two values are as good as each other.
    foreground = np.sort(image[places > threshold])
    level = foreground[int(np.ceil(0.9 * len(foreground))) - 1]
    assert histogram.foreground(1.0) * (high - low) == pytest.approx(
        level - low, rel=0.01, abs=0.002 * (high - low)
    )
    # Neither parts nor counts make a difference.
    parts = LogHistogram(low, high)
    for part in np.array_split(np.random.default_rng(seed).permutation(image), 3):
        parts.add(*np.unique(part, return_counts=True))
    assert parts.foreground(1.0) == histogram.foreground(1.0)


@pytest.mark.parametrize("limit", [-1.0, 0.5, float("nan")])
def test_a_limit_below_the_foreground_is_refused(limit) -> None:
    with pytest.raises(ConfigError, match="foreground_limit"):
        NormalizationConfig(foreground_limit=limit)
