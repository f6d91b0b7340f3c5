"""What is odd about training images is told before the first step, or refused."""

from __future__ import annotations

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
    return write_data(tmp_path / "drawn", 5)


def change(data: Path, number: int, change) -> None:
    path = data / "labels" / f"a{number}.tif"
    tifffile.imwrite(path, change(tifffile.imread(path)))


def picture(data: Path, number: int, change) -> None:
    """Replace an image by what `change` makes of it and its labels."""
    image, labels = (data / side / f"a{number}.tif" for side in ("images", "labels"))
    tifffile.imwrite(image, change(tifffile.imread(image), tifffile.imread(labels)))


@pytest.mark.slow
def test_nothing_is_said_of_good_images(told, data):
    assert told(data) == ""


def test_one_nucleus_in_one_image_needs_another_to_validate_on(run, data, tmp_path):
    for number in range(1, 5):
        for side in ("images", "labels"):
            (data / side / f"a{number}.tif").unlink()
    change(data, 0, lambda labels: np.where(labels == 1, labels, 0))
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
    change(data, 0, lambda labels: np.where(labels == 1, labels, 0))
    val = write_data(data.parent / "val", 1, first_seed=9)
    words = ("--epochs", "1", "--steps-per-epoch", "1", "--threads", "1")
    settings = toml("batch = 1\ncrop_px = 64")
    ran = run("train", data, "--val", val, "--config", settings, *words)
    assert ran.code == 0, ran.err
    said = ran.err.replace("\n", " ")
    assert "The training images hold 1 outlined object in all" in said


def test_images_without_objects_are_told(told, data):
    change(data, 0, np.zeros_like)
    change(data, 1, np.zeros_like)
    said = told(data)
    assert "Training images without an object: " in said
    assert "leave them out if they were not annotated" in said


def test_no_object_in_any_training_image_is_refused(run, data):
    for number in range(5):
        change(data, number, np.zeros_like)
    ran = run("train", data, "--name", "none")
    assert ran.code == 1
    assert "training images has an annotated object" in ran.err.replace("\n", " ")


def test_a_validation_without_objects_is_told(told, data, write_data):
    val = write_data(data.parent / "val", 2, first_seed=9)
    for number in range(2):
        change(val, number, np.zeros_like)
    assert "there will be no score" in told(data, "--val", val)


def test_labels_of_one_image_shifted_by_two_pixels_are_told(told, data):
    change(data, 2, lambda labels: np.roll(labels, (0, 2), (0, 1)))
    said = told(data)
    assert "Labels that fit better moved: 1 of 5" in said
    assert "a2 by 2 px to the left)" in said
    assert "cellunet check shows" in said


def test_a_shift_of_all_labels_by_one_pixel_is_told(told, data):
    for number in range(5):
        change(data, number, lambda labels: np.roll(labels, (1, 0), (0, 1)))
    said = told(data)
    assert "labels fit better moved by 1 px up:" in said
    assert "were they drawn or saved with an offset?" in said


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
    val = write_data(data.parent / "val", 1)
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

    def mark(labels):
        labels = np.where(labels == value, 0, labels)
        ys, xs = np.nonzero(labels == 0)
        for corner in (0, len(ys) // 3, 2 * len(ys) // 3, len(ys) - 1):
            labels[ys[corner], xs[corner]] = value
        return labels

    for number in range(5):
        change(data, number, mark)
    assert f"--ignore-value {value}" in told(data)
    assert told(data, "--ignore-value", str(value), "--overwrite").startswith(
        "Annotated in part: 5 of 5 images"
    )


def test_blank_images_are_told(told, data):
    for number in (0, 3):
        picture(data, number, lambda image, labels: np.full_like(image, 7))
    said = told(data, "--folds", "0")
    assert "Images of one value everywhere: 2 of 5 (a0, a3)" in said
    assert "another channel" in said


@pytest.mark.parametrize(
    "drawn", [lambda i, labels: labels, lambda i, labels: 255 * (labels > 0)]
)
def test_labels_saved_in_place_of_an_image_are_told(told, data, drawn):
    picture(data, 2, lambda *both: drawn(*both).astype(np.uint16))
    said = told(data)
    assert "1 of 5 (a2). Were labels saved in place of images?" in said


def test_images_of_either_contrast_are_told(told, data):
    for number in (1, 2):
        picture(data, number, lambda image, labels: 9000 - np.minimum(image, 9000))
    said = told(data)
    assert "In 2 of 5 images objects are darker than their background" in said
    assert "(a1, a2)" in said


def test_labels_without_any_background_are_told(told, data):
    for number in range(5):
        change(data, number, lambda labels: labels + 1)
    assert "No pixel of any image is background" in told(data)


def test_an_image_whose_labels_have_no_background_is_named(told, data):
    change(data, 3, lambda labels: labels + 1)
    said = told(data)
    assert "No pixel is background in 1 of 5 images (a3)." in said


def test_images_of_which_none_shows_anything_are_refused(run, data, home):
    for number in range(5):
        value = number + 1
        picture(data, number, lambda image, _, v=value: np.full_like(image, v))
    ran = run("train", data, "--name", "blank")
    assert ran.code == 1
    said = ran.err.replace("\n", " ")
    assert "Every training image has one value everywhere (a0, a1, a2" in said
    assert "another channel" in said
    assert not (home / "models" / "blank").exists()


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


def test_where_only_some_objects_are_outlined_the_way_out_is_told(told, data):
    def first(labels):
        return np.where(labels == labels.max(), labels, 0)

    for number in range(5):
        change(data, number, first)
    said = told(data)
    assert "Labels that do not fit their image" in said
    assert "in brackets" not in said
    assert "say which part counts (docs/annotations.md)" in said


def test_classes_in_place_of_objects_are_told(told, data):
    for number in range(5):
        change(data, number, lambda labels: np.where(labels > 0, 1 + labels % 2, 0))
    said = told(data)
    assert "All values of the label images (1, 2) mark what is no single object" in said
    assert "--ignore-value" not in said
