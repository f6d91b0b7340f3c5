"""Options: help texts tell the defaults of `config`, and tasks agree with them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import pytest
import typer

from cellunet.annotations.read import ANNOTATIONS
from cellunet.cli import options
from cellunet.cli import options as training_options
from cellunet.cli.options import as_default, by_preset, given, help_with_default
from cellunet.config import (
    ANNOTATION_KIND,
    DEVICE,
    ENGINE,
    FOLDS,
    MODEL,
    PRESETS,
    PROTOCOL,
    PROTOCOLS,
    THREADS,
    EvaluateConfig,
    PredictConfig,
    SplitConfig,
    TrainConfig,
)
from cellunet.metrics import matching as image_scores
from cellunet.tasks.evaluate import Side, evaluate_model
from cellunet.tasks.make_labels import make_labels
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.train.request import TrainRequest

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def _help(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> dict[str, str]:
    """Return each option's help text, whatever the width of the terminal."""
    monkeypatch.setenv("COLUMNS", "400")
    lines = run(command, "--help").out.splitlines()
    pattern = re.compile(r"^\W*?(?:\*\s+)?(--[a-z-]+)\s(.*?)\W*$")
    found = (pattern.match(line.strip("│ ")) for line in lines)
    return {m.group(1): m.group(2) for m in found if m}


def test_defaults_are_shown_with_their_unit() -> None:
    assert help_with_default("Side.", 192, "px") == "Side. Default: 192 px."
    assert as_default(0.003) == "0.003"
    assert as_default(10.0) == "10"
    assert as_default((1.0, 3.5)) == "1,3.5"
    assert as_default(()) == "nothing"
    assert as_default(False) == "no"


def test_presets_that_differ_are_named() -> None:
    assert by_preset("Crop.", lambda c: c.crop_px, "px") == (
        f"Crop. Default: {TrainConfig.crop_px} px; 256 px in classic."
    )
    assert by_preset("Seed.", lambda c: c.seed) == "Seed. Default: 0."


def test_only_what_was_given_changes_a_setting() -> None:
    assert given(a=0, b=None, c=False) == {"a": 0, "c": False}


def test_class_weights_are_numbers_with_commas() -> None:
    assert training_options.parse_weights("1, 2.5,3") == (1.0, 2.5, 3.0)
    assert training_options.parse_weights(None) is None
    for text in ("", "1,,2", "one"):
        with pytest.raises(typer.BadParameter, match="is not a list of numbers"):
            training_options.parse_weights(text)


def test_help_of_train_shows_the_defaults_of_the_default_preset(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PRESETS["default"]()
    expected = {
        "--boundary-px": (config.encoding.boundary_px, " px"),
        "--boundary-side": (config.encoding.boundary_side, ""),
        "--border-weight": (config.weights.border_weight, ""),
        "--border-sigma": (config.weights.border_sigma_px, " px"),
        "--class-weights": (config.weights.class_weights, ""),
        "--target": (config.encoding.target, ""),
        "--epochs": (config.epochs, ""),
        "--steps-per-epoch": (config.steps_per_epoch, ""),
        "--batch": (config.batch, ""),
        "--crop": (config.crop_px, " px"),
        "--learning-rate": (config.learning_rate, ""),
        "--precision": (config.precision, ""),
        "--seed": (config.seed, ""),
        "--preset": ("few", " for up to 20 images"),
        "--val-fraction": (SplitConfig().validation_fraction, ""),
        "--from": (MODEL, ", which ships"),
        "--folds": (FOLDS, " for up to 20 images"),
        "--device": ("auto", ""),
        "--threads": (0, ""),
        "--minutes": ("none, the preset's steps", ""),
    }
    texts = _help(run, monkeypatch, "train")
    for option, (value, unit) in expected.items():
        assert f"Default: {as_default(value)}{unit}" in texts[option]


@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "make-labels"])
def test_every_option_with_a_value_tells_its_default(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    texts = _help(run, monkeypatch, command)
    required = {"--name", "--out", "--help"}
    # Switches whose text says what they switch on, and folders of one of two ways.
    plain = {"--json", "--verbose", "--overwrite", "--pred", "--labels"}
    plain |= {"--quiet"}
    silent = {o for o, text in texts.items() if "Default: " not in text}
    assert silent <= required | plain
    assert len(texts) > 10


@pytest.mark.parametrize(
    ("task", "names"),
    [
        (predict, {"model": MODEL}),
        (evaluate_model, {"model": MODEL, "side": options.SIDE}),
        (predict, {"engine": ENGINE, "device": DEVICE}),
        (evaluate_model, {"engine": ENGINE, "device": DEVICE}),
        (predict, {"threads": THREADS}),
        (make_labels, {"kind": ANNOTATION_KIND, "overwrite": False}),
        (TrainRequest, {"start": None, "device": DEVICE}),
        (TrainRequest, {"threads": THREADS, "minutes": None}),
    ],
)
def test_tasks_have_the_same_defaults(
    task: Callable[..., Any], names: dict[str, object]
) -> None:
    parameters = inspect.signature(task).parameters
    assert {name: parameters[name].default for name in names} == names


def test_tables_of_other_floors_have_the_rows_that_help_texts_name() -> None:
    assert set(options.KINDS) == set(ANNOTATIONS)
    assert set(PROTOCOLS) == set(image_scores.PROTOCOLS)
    assert EvaluateConfig().protocol == PROTOCOL
    assert options.SIDE in get_args(Side)


def test_what_can_be_saved_is_what_the_configuration_knows() -> None:
    (literal, _) = get_args(get_type_hints(PredictConfig)["save"])
    assert tuple(get_args(literal)) == tuple(s.value for s in options.Saved)
    assert get_args(options.ZMode) == get_args(get_type_hints(PredictConfig)["z"])
