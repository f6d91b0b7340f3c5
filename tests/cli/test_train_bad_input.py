"""What is odd about training images is told before the first step, or refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch")

import tifffile

from cellunet.cli import console
from cellunet.tasks.train import train as task

if TYPE_CHECKING:
    from tests.cli.conftest import Run


@pytest.fixture
def told(run: Run, monkeypatch, toml):
    """``told(DATA, ...)``: what ``cellunet train`` says before its first step."""

    def call(*words: str | Path) -> str:
        def stop(prepared: object) -> bool:
            return False

        monkeypatch.setattr(task, "_steps", stop)
        # However slow the machine: progress is not what is told of the images.
        monkeypatch.setattr(console, "PLAIN_SECONDS", float("inf"))
        ran = run("train", *words, "--name", "odd", "--config", toml("crop_px = 64"))
        assert ran.code == 130, ran.err
        assert "Training on" in ran.err
        return ran.err.partition("Training on")[0].replace("\n", " ")

    return call


@pytest.fixture
def data(tmp_path: Path, write_data) -> Path:
    return write_data(tmp_path / "drawn", 5, side_px=112)


def spoil(data: Path, side: str, numbers: Iterable[int], made_of) -> None:
    """Replace images, or labels, by what is made of an image and its labels."""
    for number in numbers:
        both = [data / of / f"a{number}.tif" for of in ("images", "labels")]
        made = made_of(*map(tifffile.imread, both))
        tifffile.imwrite(both[side == "labels"], made)


@pytest.mark.slow
def test_nothing_is_said_of_good_images(told, data):
    assert told(data) == ""


ALL = range(5)


@pytest.mark.parametrize(
    ("side", "numbers", "made_of", "words"),
    [
        pytest.param(
            *("labels", (0, 1), lambda i, x: 0 * x),
            ["Training images without an object: ", "if they were not annotated"],
            id="no objects",
        ),
        pytest.param(
            *("labels", (2,), lambda i, x: np.roll(x, 2, 1)),
            ["fit better moved: 1 of 5", "a2 by 2 px to the left)", "cellunet check"],
            id="labels of one image shifted",
        ),
        pytest.param(
            *("labels", ALL, lambda i, x: np.roll(x, 1, 0)),
            ["fit better moved by 1 px up:", "drawn or saved with an offset?"],
            id="all labels shifted",
        ),
        pytest.param(
            *("labels", ALL, lambda i, x: x + 1),
            ["No pixel of any image is background"],
            id="no background at all",
        ),
        pytest.param(
            *("labels", (3,), lambda i, x: x + 1),
            ["No pixel is background in 1 of 5 images (a3)."],
            id="an image without background",
        ),
        pytest.param(
            *("labels", ALL, lambda i, x: np.where(x == x.max(), x, 0)),
            ["Labels that do not fit their image", "^in brackets", "which part counts"],
            id="only some objects outlined",
        ),
        pytest.param(
            *("labels", ALL, lambda i, x: np.where(x > 0, 1 + x % 2, 0)),
            ["No value of the label images (1, 2) marks", "^--ignore-value"],
            id="classes in place of objects",
        ),
        pytest.param(
            *("images", (0, 3), lambda i, x: 0 * i + 7),
            ["Images with a single value: 2 of 5 (a0, a3)", "another channel"],
            id="blank images",
        ),
        pytest.param(
            *("images", (2,), lambda i, x: x.astype(np.uint16)),
            ["1 of 5 (a2). Were labels saved in place of images?"],
            id="labels in place of an image",
        ),
        pytest.param(
            *("images", (2,), lambda i, x: (255 * (x > 0)).astype(np.uint16)),
            ["1 of 5 (a2). Were labels saved in place of images?"],
            id="a mask in place of an image",
        ),
        pytest.param(
            *("images", (1, 2), lambda i, x: 9000 - np.minimum(i, 9000)),
            ["In 2 of 5 images objects are darker than their background", "(a1, a2)"],
            id="either contrast",
        ),
    ],
)
def test_what_is_odd_about_images_is_told(
    told, data, side, numbers, made_of, words
) -> None:
    """Words behind ^ are not said."""
    spoil(data, side, numbers, made_of)
    # In folds an image that comes twice, as blank ones do, would be refused.
    said = told(data, *(("--folds", "0") if side == "images" else ()))
    assert all((word.lstrip("^") in said) == (word[0] != "^") for word in words)


@pytest.mark.parametrize(
    ("side", "made_of", "words"),
    [
        ("labels", lambda i, x: 0 * x, ["training images has an annotated object"]),
        (
            *("images", lambda i, x: np.full_like(i, i.sum() % 9973)),
            ["Every training image has a single value (a0, a1, a2", "channel"],
        ),
    ],
)
def test_images_that_teach_nothing_are_refused(
    run, data, home, side, made_of, words
) -> None:
    spoil(data, side, ALL, made_of)
    ran = run("train", data, "--name", "blank")
    assert ran.code == 1
    assert all(word in ran.err.replace("\n", " ") for word in words)
    assert not (home / "models" / "blank").exists()


def test_one_nucleus_in_one_image_needs_another_to_validate_on(run, data, tmp_path):
    for number in range(1, 5):
        for side in ("images", "labels"):
            (data / side / f"a{number}.tif").unlink()
    spoil(data, "labels", [0], lambda i, x: np.where(x == 1, x, 0))
    ran = run("train", data, "--name", "one")
    assert ran.code == 1
    said = ran.err.replace("\n", " ")
    assert "The training images hold 1 outlined object in all" in said
    assert "a0 has 1 annotated object" in said
    assert "Annotate more objects" in said


@pytest.mark.slow
def test_one_nucleus_in_one_image_trains_and_is_warned_of(run, data, write_data, toml):
    for number in range(1, 5):
        for side in ("images", "labels"):
            (data / side / f"a{number}.tif").unlink()
    spoil(data, "labels", [0], lambda i, x: np.where(x == 1, x, 0))
    val = write_data(data.parent / "val", 1, first_seed=9)
    words = ("--epochs", "1", "--steps-per-epoch", "1", "--threads", "1")
    settings = toml("batch = 1\ncrop_px = 64")
    ran = run("train", data, "--val", val, "--config", settings, *words)
    assert ran.code == 0, ran.err
    said = ran.err.replace("\n", " ")
    assert "The training images hold 1 outlined object in all" in said


def test_a_validation_without_objects_is_told(told, data, write_data):
    val = write_data(data.parent / "val", 2, first_seed=9)
    spoil(val, "labels", range(2), lambda i, x: 0 * x)
    assert "there will be no score" in told(data, "--val", val)


def test_labels_of_another_image_are_told_with_whose_they_are(told, data):
    first, second = (data / "labels" / f"a{n}.tif" for n in (0, 1))
    one, two = tifffile.imread(first), tifffile.imread(second)
    tifffile.imwrite(first, two)
    tifffile.imwrite(second, one)
    said = told(data)
    assert "Labels that do not fit their image: 2 of the 5" in said
    assert "a0 (a1)" in said
    assert "a1 (a0)" in said


def test_one_image_on_both_sides_is_refused(run, data, write_data):
    val = write_data(data.parent / "val", 1, side_px=112)
    (val / "images" / "a0.tif").rename(val / "images" / "other.tif")
    (val / "labels" / "a0.tif").rename(val / "labels" / "other.tif")
    ran = run("train", data, "--val", val, "--name", "both")
    assert ran.code == 1
    assert "a0 (training) = other (validation)" in ran.err.replace("\n", " ")


def test_one_image_twice_in_training_is_told(told, data, write_data):
    val = write_data(data.parent / "val", 1, first_seed=9)
    for side in ("images", "labels"):
        copy = data / side / "copy of a1.tif"
        copy.write_bytes((data / side / "a1.tif").read_bytes())
    said = told(data, "--val", val)
    assert "comes more than once in training: a1 = copy of a1." in said


def test_one_image_twice_is_refused_where_all_are_scored_in_turn(run, data):
    for side in ("images", "labels"):
        copy = data / side / "copy of a1.tif"
        copy.write_bytes((data / side / "a1.tif").read_bytes())
    ran = run("train", data, "--name", "twice")
    assert ran.code == 1
    said = ran.err.replace("\n", " ")
    assert "comes more than once: a1 = copy of a1." in said
    assert "Keep one of each" in said


@pytest.mark.parametrize("value", [7, 255])
def test_a_value_that_nobody_declared_is_told(told, data, value):
    """In every image the numbers go on past 7, or end far below 255."""

    def mark(image, labels):
        labels = np.where(labels == value, 0, labels)
        ys, xs = np.nonzero(labels == 0)
        for corner in (0, len(ys) // 3, 2 * len(ys) // 3, len(ys) - 1):
            labels[ys[corner], xs[corner]] = value
        return labels

    spoil(data, "labels", ALL, mark)
    assert f"--ignore-value {value}" in told(data)
    assert told(data, "--ignore-value", str(value), "--overwrite").startswith(
        "Annotated in part: 5 of 5 images"
    )


def test_crops_far_larger_than_the_images_are_refused(run, data, home, toml):
    settings = toml("crop_px = 8192")
    ran = run("train", data, "--name", "vast", "--config", settings)
    assert ran.code == 1
    said = ran.err.replace("\n", " ")
    assert "Crops of 8192 px are far larger than the training images" in said
    assert "crop_px = 256" in said
    assert not (home / "models" / "vast").exists()


def test_a_learning_rate_that_is_none_says_what_one_is(run, data, toml):
    ran = run("train", data, "--name", "still", "--config", toml("learning_rate = 0"))
    assert ran.code == 1
    assert "it must be above 0" in ran.err.replace("\n", " ")


def test_a_value_to_ignore_that_no_label_image_holds_is_told(told, data):
    said = told(data, "--ignore-value", "999")
    assert "No label image holds the value 999" in said
