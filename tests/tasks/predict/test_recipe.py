"""How a model is applied at the scale asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cellunet import store
from cellunet.config import DecodeConfig, PredictConfig
from cellunet.errors import ConfigError
from cellunet.store import Model
from cellunet.tasks.predict.settings import at_scale, scale_of, settings_for


@pytest.fixture
def model(tiny_model) -> Model:
    return store.find_model(str(tiny_model.folder))


def made(model: Model, **asked):
    return settings_for(model, PredictConfig(**asked), "onnxruntime", "cpu", 1)


def test_constants_are_as_trained_where_nothing_is_asked(model) -> None:
    recipe = made(model)
    assert recipe.decode == model.card.config.decode
    assert recipe.config == model.card.config
    assert recipe.scale == 1.0


def test_areas_and_lengths_follow_the_scale() -> None:
    trained = DecodeConfig(
        min_area_px=20, growth_px=10, max_hole_px=40, max_core_px=1000
    )
    assert at_scale(trained, 1.0) is trained
    # Seen at half its size, an object has a quarter of its pixels.
    half = at_scale(trained, 0.5)
    assert (half.min_area_px, half.growth_px) == (80, 20)
    assert (half.max_hole_px, half.max_core_px) == (160, 4000)
    double = at_scale(trained, 2.0)
    assert (double.min_area_px, double.growth_px) == (5, 5)
    assert (double.max_hole_px, double.max_core_px) == (10, 250)
    # Growth has a limit, and no core is of no pixel.
    assert at_scale(trained, 0.05).growth_px == 64
    assert at_scale(trained, 20.0).max_core_px == 2
    assert at_scale(trained.replace(max_core_px=1), 20.0).max_core_px == 1


def test_what_is_asked_for_is_taken_as_it_is(model) -> None:
    diameter = model.card.diameter_px[1]
    for size in ({}, {"scale": 3.0}, {"diameter_px": diameter / 3}):
        recipe = made(model, min_area_px=33, seed_threshold=0.25, **size)
        assert recipe.decode.min_area_px == 33
        assert recipe.decode.seed_threshold == 0.25


def test_the_scale_follows_from_the_diameter(model) -> None:
    known = replace(model, card=replace(model.card, diameter_px=(8.0, 12.0, 30.0)))
    assert scale_of(PredictConfig(), known) == 1
    assert scale_of(PredictConfig(scale=0.7), known) == 0.7
    assert scale_of(PredictConfig(diameter_px=24.0), known) == 0.5
    # 12 / 20 and 12 / .05 pixels are the ends.
    with pytest.raises(ConfigError, match="12 px") as caught:
        scale_of(PredictConfig(diameter_px=241.0), known)
    assert "0.6 to 240 px" in caught.value.hint


def test_a_model_without_a_diameter_needs_a_scale(model) -> None:
    without = replace(model, card=replace(model.card, diameter_px=(0.0, 0.0, 0.0)))
    with pytest.raises(ConfigError, match="does not know") as caught:
        scale_of(PredictConfig(diameter_px=24.0), without)
    assert "a scale in a file" in caught.value.hint


def test_a_models_own_scale_is_multiplied_within_limits(model) -> None:
    config = model.card.config
    own = replace(model, card=replace(model.card, config=config.replace(scale=0.1)))
    assert scale_of(PredictConfig(scale=2.0), own) == pytest.approx(0.2)
    with pytest.raises(ConfigError, match=r"magnified by 0\.1 as it is; 0\.01 in all"):
        scale_of(PredictConfig(scale=0.1), own)
