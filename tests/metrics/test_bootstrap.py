"""Intervals over images."""

from __future__ import annotations

import numpy as np
import pytest

from cellunet.config import BootstrapConfig
from cellunet.errors import ConfigError
from cellunet.metrics import summary
from cellunet.metrics.summary import estimate_means, estimate_ratios


def test_the_interval_of_a_mean_of_zeros_and_ones_is_binomial() -> None:
    # A draw of 16 from eight ones and eight zeros holds B(16, 1/2) ones. P(B <= 3) is
    # .0106 and P(B <= 4) .0384, so the 2.5 % quantile is 4 / 16; the other is 12 / 16.
    column = np.repeat([0.0, 1.0], 8)[:, None]
    (found,) = estimate_means(column, BootstrapConfig(resamples=20_000))
    assert (found.value, found.low, found.high) == (0.5, 0.25, 0.75)


def test_the_same_seed_gives_the_same_interval(rng: np.random.Generator) -> None:
    columns = rng.random((30, 3))
    first = estimate_means(columns, BootstrapConfig(seed=5))
    assert estimate_means(columns, BootstrapConfig(seed=5)) == first
    assert estimate_means(columns, BootstrapConfig(seed=6)) != first


def test_many_images_are_drawn_in_blocks_with_the_same_result(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = rng.random((30, 2))
    whole = estimate_means(columns, BootstrapConfig(resamples=100))
    monkeypatch.setattr(summary, "_BLOCK", 30 * 7)
    blocks = estimate_means(columns, BootstrapConfig(resamples=100))
    for one, other in zip(whole, blocks, strict=True):
        assert one.low == pytest.approx(other.low)
        assert one.high == pytest.approx(other.high)


def test_a_single_image_has_no_spread() -> None:
    (found,) = estimate_means(np.array([[0.7]]), BootstrapConfig())
    assert found.to_dict() == {"value": 0.7, "low": 0.7, "high": 0.7}


def test_a_ratio_is_that_of_the_sums() -> None:
    numerators = np.array([[1.0, 0.0], [2.0, 0.0]])
    denominators = np.array([[1.0, 0.0], [3.0, 0.0]])
    found, undefined = estimate_ratios(numerators, denominators, BootstrapConfig())
    assert found is not None
    assert found.value == 3 / 4
    assert found.low == pytest.approx(2 / 3)
    assert found.high == pytest.approx(1)
    assert undefined is None


def test_draws_without_a_denominator_are_left_out() -> None:
    # A draw of two images misses the second one quarter of the time.
    ones = np.array([[0.0], [1.0]])
    (found,) = estimate_ratios(ones, ones, BootstrapConfig())
    assert found is not None
    assert (found.value, found.low, found.high) == (1, 1, 1)
    many = np.zeros((1000, 1))
    many[0] = 1.0
    seed = next(
        s
        for s in range(99)
        if not np.random.default_rng(s).multinomial(1000, np.full(1000, 1 / 1000))[0]
    )
    (found,) = estimate_ratios(many, many, BootstrapConfig(resamples=1, seed=seed))
    assert found is not None
    assert (found.low, found.high) == (1, 1)


@pytest.mark.parametrize(
    "wrong", [{"resamples": 0}, {"confidence": 0.0}, {"confidence": 1.0}]
)
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        BootstrapConfig(**wrong)
