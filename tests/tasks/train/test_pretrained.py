"""What a training takes over from the model that it starts from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")


from cellunet import store
from cellunet.command_config import MODEL, SCRATCH
from cellunet.config import TrainConfig, UNetConfig
from cellunet.core.dataset import Sample
from cellunet.core.unet import UNet
from cellunet.errors import ConfigError
from cellunet.presets import PRESETS, for_target
from cellunet.tasks.train.pretrained import (
    PretrainedModel,
    adapt_pretrained,
    count_of,
    has_dark_objects,
    inherit_from_pretrained,
    known_images,
    with_pretrained,
)
from cellunet.tasks.train.request import pretrained_name
from tests.networks import sample_of


@pytest.fixture
def start() -> PretrainedModel:
    config = TrainConfig(network=UNetConfig(channels=(4, 8)))
    card = store.ModelCard(
        name="known",
        config=config.replace(decode=config.decode.replace(seed_threshold=0.7)),
        diameter_px=(4.0, 8.0, 16.0),
        training={"one": "aa"},
        validation={"two": "bb"},
    )
    return PretrainedModel(
        name="known", card=card, network=UNet(config.network), sha256="00"
    )


def discs(diameter: int, *, dark: bool = False) -> Sample:
    labels = np.zeros((160, 160), np.int32)
    y, x = np.mgrid[:160, :160]
    for number, center in enumerate((40, 120), 1):
        labels[np.hypot(y - center, x - center) < diameter / 2] = number
    image = np.where((labels > 0) != dark, 200, 20).astype(np.uint8)
    return sample_of(labels, image)


def test_the_model_that_ships_is_the_start_where_it_fits() -> None:
    assert pretrained_name(None, TrainConfig()) == MODEL
    assert pretrained_name("scratch", TrainConfig()) == SCRATCH
    assert pretrained_name("mine", PRESETS["classic"]) == "mine"
    assert pretrained_name(None, PRESETS["classic"]) == SCRATCH
    assert pretrained_name(None, for_target(TrainConfig(), "boundary")) == SCRATCH


def test_what_is_left_open_is_the_models(start) -> None:
    config = with_pretrained(TrainConfig(epochs=3, crop_px=192), start)
    assert config.network.channels == (4, 8)
    assert config.decode.seed_threshold == 0.7
    assert config.epochs == 3
    weights = TrainConfig().weights.replace(border_weight=2.0)
    assert with_pretrained(TrainConfig(weights=weights), start).weights == weights


def other_start(start, **weights) -> PretrainedModel:
    config = start.card.config
    other = config.replace(
        encoding=config.encoding.replace(boundary_px=3),
        weights=config.weights.replace(**weights),
    )
    return replace(start, card=replace(start.card, config=other))


def test_what_was_given_stays_even_where_it_equals_the_default(start) -> None:
    theirs = other_start(start, border_weight=3.0, class_weights=(1.0, 2.0, 5.0))
    names = {"weights.border_weight", "encoding.boundary_px"}
    given = with_pretrained(TrainConfig(), theirs, names)
    assert (given.weights.border_weight, given.encoding.boundary_px) == (10.0, 2)
    assert given.weights.class_weights == (1.0, 2.0, 5.0)
    left_open = with_pretrained(TrainConfig(), theirs)
    assert (left_open.weights.border_weight, left_open.encoding.boundary_px) == (3.0, 3)


def test_a_crop_that_was_given_is_refused_where_it_does_not_fit(start) -> None:
    config = TrainConfig(network=UNetConfig(channels=(4, 8, 8, 8, 8)))
    stride = config.network.stride_px
    theirs = replace(start, card=replace(start.card, config=config))
    asked = TrainConfig().replace(crop_px=192 + stride // 2)
    assert with_pretrained(asked, theirs).crop_px == 192
    with pytest.raises(ConfigError, match=f"a multiple of {stride} px") as caught:
        with_pretrained(asked, theirs, {"crop_px"})
    assert "crop_px = " in caught.value.hint


def test_a_crop_fits_the_models_stride(start) -> None:
    config = TrainConfig(network=UNetConfig(channels=(4, 8, 8, 8), stem_stride=1))
    deep = config.replace(crop_px=192).replace(crop_px=104)
    network = UNetConfig(channels=(4, 8, 8, 8, 8))
    theirs = TrainConfig(network=network, crop_px=192)
    assert inherit_from_pretrained(deep, theirs).crop_px == 96


def test_the_edge_of_a_model_is_not_taken_over(start) -> None:
    theirs = start.card.config
    theirs = theirs.replace(decode=theirs.decode.replace(edge=0.3))
    found = inherit_from_pretrained(TrainConfig(), theirs).decode
    assert (found.seed_threshold, found.edge) == (0.7, 0)
    decode = TrainConfig().decode.replace(edge=0.4)
    asked = TrainConfig().replace(decode=decode)
    assert inherit_from_pretrained(asked, theirs).decode.edge == 0.4


def test_another_network_that_was_asked_for_is_refused(start) -> None:
    with pytest.raises(ConfigError, match=r"another network.*preset classic"):
        with_pretrained(PRESETS["classic"], start)


def test_sizes_within_the_models_are_left_alone(start) -> None:
    config, notes = adapt_pretrained(start.card.config, start, [discs(15)])
    assert (config.scale, notes) == (1.0, [])


@pytest.mark.parametrize(("diameter", "scale"), [(40, 0.2), (3, 2.67)])
def test_sizes_beyond_the_models_are_brought_to_its_median(
    start, diameter, scale
) -> None:
    config, notes = adapt_pretrained(start.card.config, start, [discs(diameter)])
    assert config.scale == pytest.approx(scale, rel=0.12)
    assert "magnified by" in notes[0]


def test_dark_objects_are_seen_in_the_negative(start) -> None:
    config, notes = adapt_pretrained(start.card.config, start, [discs(10, dark=True)])
    assert config.normalization.invert
    assert "darker than their background" in notes[0]
    # And back, from a model of dark objects.
    negative = replace(start, card=replace(start.card, config=config))
    again, _ = adapt_pretrained(config, negative, [discs(10)])
    assert not again.normalization.invert


def test_objects_far_from_the_models_are_refused(start) -> None:
    far = replace(start, card=replace(start.card, diameter_px=(900.0, 1e3, 2e3)))
    with pytest.raises(ConfigError, match="too far from the 1000 px"):
        adapt_pretrained(start.card.config, far, [discs(10)])


def test_images_of_different_channels_are_refused() -> None:
    one = discs(10)
    two = replace(one, image=np.concatenate([one.image] * 2))
    assert count_of([two, two]) == 2
    with pytest.raises(ConfigError, match="different numbers of channels"):
        count_of([one, two])


def test_images_that_made_the_model_are_recognized(start) -> None:
    assert known_images(start, {"x": "aa", "y": "bb", "z": "cc"}) == ["x", "y"]


def test_pixels_without_a_finite_value_say_nothing_of_contrast() -> None:
    labels = [[1, 1, 0, 0, 0, 0]]
    # As a stitched image is padded: seen as 0, most of the background would be dark.
    padded = np.array([[-5, -5, -3, np.nan, np.nan, np.nan]], np.float32)
    assert has_dark_objects(sample_of(labels, padded)) is True
    assert has_dark_objects(sample_of(labels, -padded)) is False
    nowhere = np.array([[7, 7, np.nan, np.inf, -np.inf, np.nan]], np.float32)
    assert has_dark_objects(sample_of(labels, nowhere)) is None
