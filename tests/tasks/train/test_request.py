"""What a training begins with where nothing else is asked for."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import tifffile

from cellunet.cli.app import main
from cellunet.command_config import AnnotationConfig, SplitConfig
from cellunet.config import TARGET
from cellunet.tasks.train.request import PresetChoice, began_with
from cellunet.tasks.train.train import train
from tests.tasks.conftest import stop_at


@pytest.mark.parametrize("preset", ["default", "few"])
def test_a_training_goes_on_with_the_preset_that_it_began_with(
    preset, few, quick, quick_config
) -> None:
    config = quick_config.replace(preset=preset)
    train(quick(few, config=config), stop_at(1))
    assert began_with("quick") == PresetChoice(preset=preset, folds=0, target=TARGET)


def test_without_a_state_there_is_nothing_to_go_on_with(capsys, few) -> None:
    assert began_with("none") == PresetChoice(preset="default", folds=0, target=TARGET)
    assert main(["train", str(few), "--name", "none", "--resume"]) == 1
    assert "There is nothing to resume" in capsys.readouterr().err


@pytest.mark.slow
def test_options_of_a_training_may_be_left_out_when_it_is_resumed(
    capsys, few, quick, quick_config
) -> None:
    # Of few images: a new training of them would take another preset and three folds.
    split = SplitConfig(folds=2)
    stopped = train(quick(few, config=quick_config, split=split), stop_at(1))
    assert not stopped.finished
    words = ["train", str(few), "--name", "quick", "--resume", "--device", "cpu"]
    assert main([*words, "--threads", "1"]) == 0
    assert "2 folds" in capsys.readouterr().err


@pytest.mark.slow
def test_how_images_are_read_and_split_may_be_left_out_too(
    capsys, few, quick, quick_config
) -> None:
    labels = sorted((few / "labels").iterdir())
    for path in labels:
        marked = tifffile.imread(path)
        marked[:8] = 255
        tifffile.imwrite(path, marked)
    asked = {
        "split": SplitConfig(validation_fraction=0.5),
        "annotations": AnnotationConfig(ignore_value=255),
    }
    stopped = train(quick(few, config=quick_config, **asked), stop_at(1))
    assert not stopped.finished
    words = ["train", str(few), "--name", "quick", "--resume", "--device", "cpu"]
    assert main([*words, "--ignore-value", "7"]) == 1
    assert "(ignore_value)" in capsys.readouterr().err
    assert main([*words, "--val", "0.7"]) == 1
    assert "(validation_fraction)" in capsys.readouterr().err
    assert main([*words, "--threads", "1"]) == 0
    assert "Training on 2 images, 2 for validation" in capsys.readouterr().err
