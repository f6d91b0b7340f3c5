"""The learning curve of a user's own images: nested, resumable, no model kept."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import tifffile

from cellunet import store
from cellunet.command_config import SplitConfig
from cellunet.errors import BusyError, ConfigError, InputError
from cellunet.metrics.fit import Trial, points_of
from cellunet.tasks.learning_curve import (
    PICTURE_FILE,
    TABLE_FILE,
    TRIALS_FILE,
    learning_curve,
)
from cellunet.tasks.train.finish import constants
from cellunet.tasks.train.request import Hooks
from tests.tasks.conftest import stop_at

pytestmark = pytest.mark.slow

SPLIT = SplitConfig(folds=3)


@pytest.fixture
def data(tmp_path, write_data):
    return write_data(tmp_path / "data", 6, first_seed=60)


@pytest.fixture
def asked(quick, quick_config, data):
    config = quick_config.replace(epochs=1, steps_per_epoch=2)
    return lambda **changes: quick(data, **{"config": config, "split": SPLIT} | changes)


def test_more_and_more_images_are_trained_on(asked, tmp_path, home) -> None:
    notes: list[str] = []
    out = tmp_path / "out"
    curve = learning_curve(asked(), out, Hooks(on_note=notes.append))
    assert curve.finished
    assert [p.images for p in curve.points] == [1, 2, 4]
    assert curve.outlook is not None
    assert curve.outlook.more == 20
    assert len(notes) == 3 * 3
    table = (out / TABLE_FILE).read_text().splitlines()
    assert table[0].startswith("images,objects,mean_ap")
    assert [line.split(",")[0] for line in table[1:]] == ["1", "2", "4"]
    assert "<svg" in (out / PICTURE_FILE).read_text()
    assert not home.exists()


def test_a_model_to_start_from_is_the_first_point(asked, tiny_model, tmp_path) -> None:
    config = tiny_model.config.replace(epochs=1, steps_per_epoch=2)
    request = asked(start=str(tiny_model.folder), config=config)
    curve = learning_curve(request, tmp_path / "out", Hooks())
    assert [p.images for p in curve.points] == [0, 1, 2, 4]
    assert curve.points[0].objects == 0


def test_the_first_point_has_the_edge_that_the_model_is_used_with(
    asked, tiny_model, tmp_path, monkeypatch
) -> None:
    seen = []

    def recorded(config, *rest, **options):
        seen.append(config.decode.edge)
        return constants(config, *rest, **options)

    monkeypatch.setattr("cellunet.tasks.learning_curve.constants", recorded)
    weights = tiny_model.folder / store.WEIGHTS_FILE
    card = store.read_card(weights)
    decode = card.config.decode.replace(edge=0.3)
    card = replace(card, name="edged", config=card.config.replace(decode=decode))
    edged = tmp_path / "edged" / store.WEIGHTS_FILE
    edged.parent.mkdir()
    store.write(edged, store.read_tensors(weights), card.to_dict())
    config = tiny_model.config.replace(epochs=1, steps_per_epoch=2)
    request = asked(start=str(edged.parent), config=config)
    learning_curve(request, tmp_path / "out", Hooks())
    assert seen[:2] == [0.3, 0.0]


def test_a_stopped_curve_goes_on_to_the_same_numbers(asked, tmp_path) -> None:
    whole = learning_curve(asked(), tmp_path / "whole", Hooks())
    out = tmp_path / "stopped"
    first = learning_curve(asked(), out, stop_at(15))
    assert not first.finished
    assert first.points
    before = (out / TRIALS_FILE).read_text().splitlines()
    again = learning_curve(asked(), out, Hooks())
    assert again.points == whole.points
    assert (out / TRIALS_FILE).read_text().splitlines()[: len(before)] == before


def test_a_second_curve_in_the_folder_is_refused_while_the_first_is_made(
    asked, tmp_path
) -> None:
    out, refusals = tmp_path / "out", []

    def begin_another(*_: object) -> None:
        if not refusals:
            with pytest.raises(BusyError, match="is being written by") as caught:
                learning_curve(asked(overwrite=True), out, Hooks())
            refusals.append(caught.value)

    assert learning_curve(asked(), out, Hooks(on_step=begin_another)).finished
    assert refusals
    assert not [p.name for p in out.iterdir() if p.name.startswith(".")]


def test_a_curve_of_other_settings_is_refused(
    asked, tmp_path, quick_config, write_data
) -> None:
    out = tmp_path / "out"
    learning_curve(asked(), out, Hooks())
    with pytest.raises(
        ConfigError, match="other images, annotations or settings"
    ) as found:
        learning_curve(asked(config=quick_config), out, Hooks())
    assert "--overwrite" in found.value.hint
    other = learning_curve(asked(config=quick_config, overwrite=True), out, Hooks())
    assert other.finished


def test_a_curve_of_labels_that_were_corrected_since_is_refused(
    asked, data, tmp_path
) -> None:
    out = tmp_path / "out"
    learning_curve(asked(), out, stop_at(15))
    file = data / "labels" / "a3.tif"
    labels = tifffile.imread(file)
    labels[labels == labels.max()] = 0
    tifffile.imwrite(file, labels)
    with pytest.raises(ConfigError, match="other images, annotations or settings"):
        learning_curve(asked(), out, Hooks())


def test_trials_that_cannot_be_read_are_refused(asked, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / TRIALS_FILE).write_text("{nothing")
    with pytest.raises(InputError, match="cannot be read"):
        learning_curve(asked(), tmp_path / "out", Hooks())


def test_validation_images_are_scored_in_every_round(
    asked, tmp_path, write_data
) -> None:
    held, out = write_data(tmp_path / "held", 2, first_seed=90), tmp_path / "out"
    curve = learning_curve(asked(validation=held), out, Hooks())
    assert [p.images for p in curve.points] == [1, 2, 5, 6]
    rows = map(json.loads, (out / TRIALS_FILE).read_text().splitlines()[1:])
    trials = [Trial(**row["trial"]) for row in rows]
    assert list(curve.points) == points_of(trials, shared=True)


def test_three_images_are_too_few(
    asked, quick, quick_config, tmp_path, write_data
) -> None:
    few = write_data(tmp_path / "few", 3)
    request = quick(few, config=quick_config, split=SPLIT)
    with pytest.raises(InputError, match="more than 3 annotated images; there are 3"):
        learning_curve(request, tmp_path / "out", Hooks())


def scribbled_alone(folder, names):
    """Take the labels of images, and click and scribble on them instead."""
    (folder / "scribbles").mkdir(exist_ok=True)
    for name in names:
        path = folder / "labels" / f"{name}.tif"
        labels = tifffile.imread(path)
        said = np.where(labels == 1, 2, 0).astype(np.uint8)
        said[:3][labels[:3] == 0] = 1
        tifffile.imwrite(folder / "scribbles" / path.name, said)
        path.unlink()


def test_images_of_scribbles_alone_are_trained_on_but_not_scored(
    asked, data, tmp_path
) -> None:
    scribbled_alone(data, ["a0", "a3"])
    out = tmp_path / "out"
    curve = learning_curve(asked(), out, Hooks())
    # Of 4 outlined images two folds of one and one of two are held out.
    assert [p.images for p in curve.points] == [1, 2, 4]
    lines = (out / TRIALS_FILE).read_text().splitlines()[1:]
    rows = [json.loads(line) for line in lines]
    scored = {row["round"]: len(row["trial"]["mean_ap"]) for row in rows}
    assert sum(scored.values()) <= 4 * 4
    assert all(np.isfinite(row["trial"]["mean_ap"]).all() for row in rows)
    scribbled_alone(data, ["a1"])
    with pytest.raises(InputError, match="there are 3, besides 3 that"):
        learning_curve(asked(overwrite=True), out, Hooks())


def test_a_curve_that_nothing_outlined_could_score_is_refused(
    asked, data, write_data, tmp_path
) -> None:
    held = write_data(tmp_path / "held", 2, first_seed=80)
    scribbled_alone(held, ["a0", "a1"])
    with pytest.raises(InputError, match="No object is outlined") as found:
        learning_curve(asked(validation=held), tmp_path / "out", Hooks())
    assert "scribbles and single objects cannot" in found.value.hint
