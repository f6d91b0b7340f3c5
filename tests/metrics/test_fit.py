"""Decode constants are chosen to score well; learning curves."""

from __future__ import annotations

import numpy as np
import pytest

from cellunet.config import DecodeConfig, EncodingConfig
from cellunet.metrics import fit as fitting
from cellunet.metrics.fit import (
    DecodeFit,
    Trial,
    ValidationImage,
    fit,
    outlook,
    piece_scores,
    points_of,
    score_truth,
    sizes_up_to,
)
from cellunet.progress import silent_track

ENCODING = EncodingConfig(boundary_px=1)
START = DecodeConfig(class_odds=(1.0, 1.0, 1.0), min_area_px=1, growth_px=2)


def truth(name: str, speck_px: int, *, dim: bool = False) -> ValidationImage:
    """An image of one 8 x 8 object and an untrue speck of a few pixels.

    `dim`: the network calls the outer ring of the object boundary more likely than it
    should, and its inside interior with a probability of .35 only.
    """
    labels = np.zeros((24, 24), np.int32)
    labels[4:12, 4:12] = 1
    probabilities = np.zeros((3, 24, 24), np.float32)
    probabilities[0] = 1
    inside = (0.05, 0.35, 0.6) if dim else (0.02, 0.96, 0.02)
    probabilities[:, 4:12, 4:12] = np.array(inside)[:, None, None]
    probabilities[:, 20, 2 : 2 + speck_px] = np.array((0.02, 0.96, 0.02))[:, None]
    return ValidationImage(
        name=name,
        intensities=np.zeros((24, 24), np.float32),
        probabilities=probabilities.astype(np.float16),
        labels=labels,
        annotated=np.ones((24, 24), bool),
    )


def fitted(*truths: ValidationImage, start: DecodeConfig = START) -> DecodeFit:
    return fit(truths, ENCODING, start, silent_track)


def test_constants_that_are_right_stay() -> None:
    found = fitted(truth("a", 0), truth("b", 0))
    assert found.decode == START
    assert [s.mean_ap for s in found.scores] == [1, 1]


def test_the_least_area_that_drops_the_specks_is_chosen() -> None:
    found = fitted(truth("a", 12), truth("b", 12))
    assert found.decode == START.replace(min_area_px=15)
    assert [s.mean_ap for s in found.scores] == [1, 1]
    assert [s.name for s in found.scores] == ["a", "b"]


def test_all_constants_can_change_together() -> None:
    # Specks need a larger area, and dim objects other odds or another threshold.
    found = fitted(*(truth(n, 12, dim=True) for n in "ab"))
    assert found.decode.min_area_px == 15
    assert (found.decode.class_odds, found.decode.seed_threshold) != (
        START.class_odds,
        START.seed_threshold,
    )
    assert [s.mean_ap for s in found.scores] == [1, 1]


def test_each_half_is_scored_with_the_constants_of_the_other() -> None:
    # Only the second image asks for a larger area; for the first any will do. So the
    # second is scored with what the first needs: nothing, and its speck counts.
    found = fitted(truth("clean", 0), truth("specks", 12))
    assert found.decode.min_area_px == 15
    clean, specks = found.scores
    assert clean.mean_ap == 1
    assert (specks.tp[0], specks.extra) == (1, 1)
    assert specks.mean_ap == 0.5


@pytest.mark.slow
def test_halves_are_every_other_image() -> None:
    found = fitted(*(truth(str(i), 12 if i % 2 else 0) for i in range(5)))
    assert [s.mean_ap for s in found.scores] == [1, 0.5, 1, 0.5, 1]


def test_a_single_image_is_scored_with_the_constants_before() -> None:
    found = fitted(truth("only", 12))
    assert found.decode.min_area_px == 15
    assert found.scores[0].mean_ap == 0.5


def test_what_is_not_annotated_is_no_error() -> None:
    speck = truth("a", 12)
    speck.annotated[18:] = False
    assert fitted(speck).decode == START


def test_constants_that_are_not_chosen_stay_as_they_were() -> None:
    start = START.replace(growth_px=3, max_hole_px=7, max_core_px=99)
    decode = fitted(truth("a", 12, dim=True), start=start).decode
    assert (decode.growth_px, decode.max_hole_px, decode.max_core_px) == (3, 7, 99)


@pytest.mark.slow
def test_no_image_is_decoded_twice_with_the_same_constants(monkeypatch) -> None:
    seen: list[tuple[int, DecodeConfig]] = []
    decode_plane = fitting.decode_plane

    def counted(probabilities, encoding, decode, intensities):
        seen.append((int(probabilities[1, 20, 2:].sum()), decode))
        return decode_plane(probabilities, encoding, decode, intensities)

    monkeypatch.setattr(fitting, "decode_plane", counted)
    fitted(truth("a", 0), truth("b", 12))
    assert len(seen) == len(set(seen))


def test_constants_are_scored_with_their_edge() -> None:
    # The network draws the object two pixels further in than the image shows it.
    labels = np.zeros((24, 24), np.int32)
    labels[6:18, 6:18] = 1
    drawn = np.zeros((24, 24), bool)
    drawn[8:16, 8:16] = True
    only = ValidationImage(
        name="a",
        intensities=(labels > 0).astype(np.float32),
        probabilities=np.stack([~drawn, drawn, drawn & False]).astype(np.float16),
        labels=labels,
        annotated=np.ones((24, 24), bool),
    )
    plain, moved = score_truth(only, ENCODING, [START, START.replace(edge=0.5)])
    # An IoU of 64/144.
    assert (plain.tp[0], moved.mean_ap) == (0, 1)
    pieces = piece_scores([only], [START.replace(edge=0.5)], ENCODING)
    assert [s.mean_ap for s in pieces] == [1]


def test_known_constants_stay_unless_others_score_better() -> None:
    known = START.replace(growth_px=3)
    found = fit([truth("a", 0)] * 2, ENCODING, START, silent_track, known=known)
    assert (found.decode, found.crossed) == (known, (known, known))
    assert [s.mean_ap for s in found.scores] == [1, 1]
    specks = [truth("a", 12), truth("b", 12)]
    better = fit(specks, ENCODING, START, silent_track, known=known)
    assert better.decode == START.replace(min_area_px=15)


def test_nothing_is_chosen_on_all_images_where_known_constants_stay(
    monkeypatch,
) -> None:
    chosen_on = []
    choose = fitting._choose

    def noted(subset, start, score):
        chosen_on.append(list(subset))
        return choose(subset, start, score)

    monkeypatch.setattr(fitting, "_choose", noted)
    fit([truth("a", 0)] * 3, ENCODING, START, silent_track, known=START)
    assert chosen_on == [[0, 2], [1]]
    chosen_on.clear()
    fit([truth("a", 12)] * 3, ENCODING, START, silent_track, known=START)
    assert chosen_on == [[0, 2], [1], [0, 1, 2]]


def test_progress_is_told() -> None:
    labels: list[str] = []

    def track(items, label, total=None):
        labels.append(label)
        yield from items

    fit([truth("a", 0)], ENCODING, START, track)
    assert labels == ["Choosing decode constants"]


@pytest.mark.parametrize("target", ["boundary"])
def test_the_boundary_target_fits_too(target) -> None:
    encoding = EncodingConfig(target=target, boundary_px=1)
    start = DecodeConfig(class_odds=(1.0, 1.0), min_area_px=1)
    labels = np.zeros((24, 24), np.int32)
    labels[4:12, 4:12] = 1
    ring = np.zeros((24, 24), bool)
    ring[4:12, 4:12] = True
    ring[5:11, 5:11] = False
    # The loss tripled the odds of the boundary: what is inside looks like it.
    edge = np.where(ring, 0.9, 0.05).astype(np.float16)
    edge[5:11, 5:11] = 0.6
    only = ValidationImage(
        name="a",
        intensities=np.zeros((24, 24), np.float32),
        probabilities=np.stack([1 - edge, edge]),
        labels=labels,
        annotated=np.ones((24, 24), bool),
    )
    found = fit([only, only], encoding, start, silent_track)
    assert found.decode.class_odds[1] > 1
    assert found.decode.class_odds[0] == 1


def test_the_outline_is_moved_by_the_odds_of_the_background() -> None:
    labels = np.zeros((24, 24), np.int32)
    labels[6:16, 6:16] = 1
    # The rim looks a little more like background than like an object, and not at all
    # like boundary: only the odds of the background can bring it back.
    interior = np.where(labels > 0, 0.45, 0.0)
    interior[7:15, 7:15] = 0.9
    boundary = np.where(labels > 0, 0.0, 0.05)
    only = ValidationImage(
        name="a",
        intensities=np.zeros((24, 24), np.float32),
        probabilities=np.stack([1 - interior - boundary, interior, boundary]).astype(
            np.float16
        ),
        labels=labels,
        annotated=np.ones((24, 24), bool),
    )
    start = DecodeConfig(class_odds=(1.0, 1.0, 1.0), min_area_px=1)
    found = fit([only, only], EncodingConfig(boundary_px=1), start, silent_track)
    assert found.scores[0].mean_ap == 1
    assert found.decode.class_odds[0] > 1


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


def test_images_that_every_trial_scores_count_once_in_the_intervals() -> None:
    errors = {n: [0.3 / n, 0.5 / n, 0.1 / n] for n in (1, 2, 4)}
    once = [trial(n, *(1 - e for e in of_images)) for n, of_images in errors.items()]
    thrice = [p.mean_ap for p in points_of(3 * once, shared=True)]
    for found, single in zip(thrice, points_of(once), strict=True):
        assert vars(found) == pytest.approx(vars(single.mean_ap))
    found, single = outlook(3 * once, 20, shared=True), outlook(once, 20)
    assert vars(found.gain) == pytest.approx(vars(single.gain))


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
