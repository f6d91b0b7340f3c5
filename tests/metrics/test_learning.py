"""A learning curve: points, and what more images would give."""

from __future__ import annotations

import pytest

from cellunet.metrics.fit import Trial, outlook, points_of, sizes_up_to


def trial(images: int, *scores: float, loss: float = 0.2) -> Trial:
    return Trial(images=images, objects=10 * images, loss=loss, mean_ap=scores)


def test_points_are_means_over_trials() -> None:
    points = points_of(
        [trial(5, 0.8), trial(1, 0.4, 0.6, loss=0.1), trial(1, 0.8, 0.6, loss=0.3)]
    )
    assert [p.images for p in points] == [1, 5]
    assert points[0].mean_ap.value == pytest.approx(0.6)
    assert points[0].loss == pytest.approx(0.2)
    assert points[0].objects == 10


def test_an_error_that_falls_as_a_power_goes_on_to_fall() -> None:
    # E = .4 n^-1/2: .4, .2, .1 at 1, 4, 16 images; at 64 it is .05.
    trials = [trial(n, 1 - e, 1 - e) for n, e in ((1, 0.4), (4, 0.2), (16, 0.1))]
    found = outlook([trial(0, 0.1, 0.1), *trials], 48)
    assert found is not None
    assert found.gain.value == pytest.approx(0.05)
    assert found.gain.low == pytest.approx(0.05)


def test_a_curve_that_does_not_rise_promises_nothing() -> None:
    found = outlook([trial(n, 0.7, 0.8) for n in (1, 2, 5)], 20)
    assert found is not None
    assert found.gain.value == pytest.approx(0, abs=1e-9)


def test_two_numbers_of_images_make_no_law() -> None:
    assert outlook([trial(0, 0.5), trial(1, 0.6), trial(2, 0.7)], 20) is None


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, [0, 1]), (2, [0, 1, 2]), (30, [0, 1, 2, 5, 10, 20, 30])]
)
def test_sizes_end_with_all(most, sizes) -> None:
    assert sizes_up_to(most) == sizes
