"""Settings: round trip, unknown keys and wrong types refused, checks across fields."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellunet import config as module
from cellunet.command_config import PredictConfig, SplitConfig
from cellunet.config import (
    AugmentConfig,
    DecodeConfig,
    EncodingConfig,
    NormalizationConfig,
    TrainConfig,
    UNetConfig,
    WeightConfig,
)
from cellunet.errors import ConfigError
from cellunet.presets import PRESETS, for_target

EVERY: list[module.Config] = [
    NormalizationConfig(kind="standard"),
    EncodingConfig(boundary_side="outer", boundary_px=3),
    WeightConfig(class_weights=(1.0, 2.5)),
    DecodeConfig(class_odds=(1.0, 2.0), min_area_px=0),
    UNetConfig(channels=(8, 16), stem_stride=1),
    AugmentConfig(flips=False, scale_range=(1.0, 1.0)),
    *PRESETS.values(),
    *(for_target(preset, "boundary") for preset in PRESETS.values()),
    PredictConfig(save=("classes", "outlines"), channel="DAPI", scale=2.0),
    PredictConfig(),
    SplitConfig(validation_fraction=0.5),
]


@pytest.mark.parametrize("config", EVERY, ids=lambda c: type(c).__name__)
def test_settings_survive_json(config: module.Config) -> None:
    text = json.dumps(config.to_dict(), allow_nan=False)
    assert type(config).from_dict(json.loads(text)) == config


@pytest.mark.parametrize("config", EVERY, ids=lambda c: type(c).__name__)
def test_settings_are_frozen_and_given_by_keyword(config: module.Config) -> None:
    with pytest.raises(TypeError):
        type(config)(1)  # type: ignore[call-arg]
    name = dataclasses.fields(config)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, name, None)


@given(
    st.builds(
        EncodingConfig,
        boundary_px=st.integers(1, 8),
        boundary_side=st.sampled_from(["inner", "outer"]),
    )
)
def test_any_encoding_survives_the_round_trip(config: EncodingConfig) -> None:
    assert EncodingConfig.from_dict(config.to_dict()) == config


def test_an_unknown_key_is_refused_by_name() -> None:
    with pytest.raises(ConfigError) as caught:
        EncodingConfig.from_dict({"boundary": 2, "boundary_px": 2, "side": "inner"})
    assert caught.value.message == ("EncodingConfig has no setting 'boundary', 'side'.")
    assert "boundary_px" in caught.value.hint


def test_an_unknown_key_inside_a_group_is_refused_too() -> None:
    values = TrainConfig().to_dict()
    values["network"]["depth"] = 4
    with pytest.raises(ConfigError, match="UNetConfig has no setting 'depth'"):
        TrainConfig.from_dict(values)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (TrainConfig, {"batch": 2.5}, "TrainConfig.batch is 2.5; int is expected."),
        (TrainConfig, {"batch": True}, "TrainConfig.batch is True; int is expected."),
        (TrainConfig, {"preset": 3}, "TrainConfig.preset is 3; str is expected."),
        (TrainConfig, {"network": [1]}, "a group of settings is expected"),
        (TrainConfig, {"schedule": "step"}, "TrainConfig.schedule is 'step'."),
        (UNetConfig, {"channels": 8}, "UNetConfig.channels is 8; a list is expected."),
        (UNetConfig, {"channels": [8, "x"]}, "UNetConfig.channels is 'x'"),
        (UNetConfig, {"stem_stride": 3}, "UNetConfig.stem_stride is 3."),
        (AugmentConfig, {"scale_range": [1]}, "has 1 values, 2 expected"),
        (AugmentConfig, {"flips": 1}, "AugmentConfig.flips is 1; bool is expected."),
        (PredictConfig, {"scale": "2"}, "PredictConfig.scale is '2'"),
        (PredictConfig, {"save": ["masks"]}, "PredictConfig.save is 'masks'."),
    ],
)
def test_a_wrong_type_is_refused_with_its_place(
    kind: type[module.Config], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        kind.from_dict(values)
    assert message in caught.value.message


def test_a_whole_number_serves_as_a_float_and_none_where_it_may() -> None:
    config = TrainConfig.from_dict({"learning_rate": 1})
    assert isinstance(config.learning_rate, float)
    assert PredictConfig.from_dict({"scale": None}).scale is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NormalizationConfig(low_percentile=99.9), "do not rise"),
        (lambda: NormalizationConfig(noise_floor=-1.0), "noise_floor is -1;"),
        (lambda: EncodingConfig(boundary_px=0), "boundary_px is 0; it must be 1 to 8"),
        (lambda: EncodingConfig(boundary_px=9), "boundary_px is 9; it must be 1 to 8"),
        (
            lambda: EncodingConfig(target="boundary", boundary_side="outer"),
            "needs boundary_side 'inner'",
        ),
        (lambda: WeightConfig(class_weights=(1.0, 0.0)), "are 1,0; it must be above 0"),
        (lambda: WeightConfig(border_weight=-0.5), "border_weight is -0.5"),
        (lambda: WeightConfig(border_sigma_px=0.0), "border_sigma_px is 0;"),
        (lambda: DecodeConfig(class_odds=(0.0,)), "it must be above 0"),
        (lambda: DecodeConfig(seed_threshold=1.0), "it must be above 0 and below 1"),
        (lambda: DecodeConfig(min_area_px=-1), "min_area_px is -1"),
        (lambda: DecodeConfig(growth_px=65), "it must be 0 to 64"),
        (lambda: DecodeConfig(max_hole_px=-1), "max_hole_px is -1"),
        (lambda: DecodeConfig(max_core_px=0), "max_core_px is 0"),
        (lambda: UNetConfig(channels=(8,)), "2 to 8 levels"),
        (lambda: UNetConfig(channels=(8,) * 9), "2 to 8 levels"),
        (lambda: UNetConfig(in_channels=0), "in_channels is 0"),
        (lambda: UNetConfig(classes=1), "classes is 1"),
        (lambda: AugmentConfig(scale_range=(1.2, 0.8)), "must rise"),
        (lambda: AugmentConfig(warp_probability=1.5), "warp_probability is 1.5"),
        (lambda: AugmentConfig(noise_sigma=-0.1), "noise_sigma is -0.1"),
        (lambda: TrainConfig(epochs=0), "epochs is 0; it must be at least 1"),
        (lambda: TrainConfig(seed=-1), "seed is -1; it must be at least 0"),
        (lambda: TrainConfig(learning_rate=0.0), "learning_rate is 0;"),
        (
            lambda: TrainConfig(average_decay=1.0),
            "average_decay is 1; it must be at least 0 and below 1",
        ),
        (lambda: PredictConfig(scale=1.0, diameter_px=9.0), "Both scale and diameter"),
        (lambda: PredictConfig(scale=0.01), "scale is 0.01"),
        (
            lambda: PredictConfig(diameter_px=1.0),
            "diameter_px is 1; it must be 2 to 2000",
        ),
        (lambda: PredictConfig(min_area_px=-1), "min_area_px is -1"),
        (lambda: PredictConfig(max_area_px=0), "max_area_px is 0"),
        (
            lambda: PredictConfig(min_foreground=0.0),
            "min_foreground is 0",
        ),
        (lambda: PredictConfig(min_confidence=1.5), "min_confidence is 1.5"),
        (
            lambda: PredictConfig(min_area_px=9, max_area_px=8),
            "at least 9 and at most 8 pixels",
        ),
        (lambda: PredictConfig(seed_threshold=0.0), "seed_threshold is 0;"),
        (lambda: PredictConfig(tile_px=63), "tile_px is 63; it must be at least 64"),
        (lambda: PredictConfig(part=(3, 2)), "1 <= i <= n"),
        (lambda: PredictConfig(part=(0, 2)), "1 <= i <= n"),
        (lambda: PredictConfig(max_memory_mb=0), "above 0"),
        (lambda: SplitConfig(validation_fraction=0.0), "validation_fraction is 0;"),
    ],
)
def test_values_out_of_range_are_refused(
    make: Callable[[], module.Config], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert message in caught.value.message


def test_crops_must_fit_the_network_and_the_nearest_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig(crop_px=190)
    assert "not a multiple of the network's 8" in caught.value.message
    assert caught.value.hint == "The nearest that fits: crop_px = 192."


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"network": UNetConfig(classes=2)}, "network.classes is for 2 classes"),
        ({"weights": WeightConfig(class_weights=(1.0,))}, "class_weights is for 1"),
        ({"decode": DecodeConfig(class_odds=(1.0, 2.0))}, "class_odds is for 2"),
    ],
)
def test_groups_must_agree_on_the_number_of_classes(
    changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig().replace(**changes)
    assert what in caught.value.message
    assert "target three-class has 3" in caught.value.message


def test_the_boundary_target_changes_all_that_depends_on_it() -> None:
    config = for_target(TrainConfig(), "boundary")
    assert config.encoding.classes == ("rest", "boundary")
    assert config.network.classes == 2
    assert len(config.weights.class_weights) == len(config.decode.class_odds) == 2
    assert for_target(config, "three-class") == TrainConfig()


def test_a_setting_that_came_later_is_kept_only_where_it_is_set() -> None:
    plain = PredictConfig().recorded()
    assert not {"pages", "max_area_px"} & set(plain)
    asked = PredictConfig(max_area_px=900).recorded()
    assert asked == plain | {"max_area_px": 900}
    rows = PredictConfig.rows(asked)
    assert rows["Largest object"] == "900 px"
    assert "Largest object" not in PredictConfig.rows(plain)


def test_presets_are_named_as_in_their_table() -> None:
    assert {name: config.preset for name, config in PRESETS.items()} == {
        name: name for name in PRESETS
    }


def test_classic_states_the_numbers_of_the_study() -> None:
    config = PRESETS["classic"]
    assert (config.crop_px, config.learning_rate, config.batch) == (256, 0.01, 5)
    assert (config.epochs, config.patience_epochs) == (50, 10)
    assert config.network.channels == (64, 128, 256, 512, 1024)
    assert config.normalization.channels == config.network.in_channels == 1


def test_the_receptive_field_of_two_levels_is_counted_by_hand() -> None:
    # Down 2 + 4, up 2 + 2 over levels of 1 and 2 px: 2*(1+2) + 2*1 + 2-1 = 9 px,
    # rounded up to the stride of 2.
    network = UNetConfig(channels=(8, 16), stem_stride=1)
    assert (network.stride_px, network.halo_px) == (2, 10)
