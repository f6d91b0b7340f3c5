"""What a training leaves, in folds and from a model: verdict, card, pictures."""

from __future__ import annotations

import csv
import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import tifffile
from imagecodecs import png_decode

from cellunet import store
from cellunet.command_config import PredictConfig, SplitConfig
from cellunet.config import EncodingConfig
from cellunet.core.dataset import Sample
from cellunet.errors import ConfigError, InputError, OutputError
from cellunet.imaging.targets import encode
from cellunet.metrics.fit import ValidationImage
from cellunet.tasks.evaluate import evaluate_model
from cellunet.tasks.predict.settings import scale_of
from cellunet.tasks.train.finish import (
    PICTURES,
    draw_curves,
    write_history,
    write_pictures,
)
from cellunet.tasks.train.request import Hooks
from cellunet.tasks.train.train import train
from tests.networks import sample_of
from tests.tasks.conftest import stop_at

ROWS = [
    {"epoch": 1.0, "train_loss": 0.5, "validation_loss": 0.75},
    {"epoch": 2.0, "train_loss": 0.25, "validation_loss": float("nan")},
]


def test_history_is_a_table_with_a_row_an_epoch(tmp_path) -> None:
    write_history(tmp_path, ROWS[:1])
    write_history(tmp_path, ROWS)
    draw_curves(tmp_path, ROWS, ["rest", "boundary"])
    text = (tmp_path / "history.csv").read_bytes().decode()
    assert text.splitlines()[0] == "epoch,train_loss,validation_loss"
    assert "\r" not in text
    rows = list(csv.DictReader(text.splitlines()))
    assert [float(row["train_loss"]) for row in rows] == [0.5, 0.25]
    assert "<svg" in (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.svg", "history.csv"]


def samples(nuclei_image, count: int) -> list[Sample]:
    drawn = [nuclei_image((48, 64), 6, number) for number in range(count)]
    return [
        sample_of(labels, image, name=f"set/n {number}")
        for number, (image, labels) in enumerate(drawn)
    ]


def truths(found: list[Sample]) -> list[ValidationImage]:
    """What a network without a doubt would say of them."""
    made = []
    for sample in found:
        class_map = encode(sample.labels, EncodingConfig())
        one_hot = np.stack([class_map == c for c in range(3)]).astype(np.float16)
        made.append(
            ValidationImage(
                name=sample.name,
                intensities=sample.image[0].astype(np.float32),
                probabilities=one_hot,
                labels=sample.labels,
                annotated=sample.annotated,
            )
        )
    return made


def test_some_validation_images_are_drawn_and_old_ones_removed(
    tmp_path, tiny_model, nuclei_image
) -> None:
    config = tiny_model.config.replace(decode=tiny_model.trained.decode)
    found = samples(nuclei_image, PICTURES + 2)
    (tmp_path / "validation").mkdir()
    (tmp_path / "validation" / "old.png").touch()
    write_pictures(tmp_path, truths(found), [s.image[0] for s in found], config)
    names = sorted(p.name for p in (tmp_path / "validation").iterdir())
    assert names == ["set_n 0.png", "set_n 1.png", "set_n 3.png", "set_n 5.png"]
    picture = png_decode((tmp_path / "validation" / names[0]).read_bytes())
    # Enlarged by a whole factor.
    assert picture.shape[0] * 64 == picture.shape[1] * 48
    assert picture.shape[2] == 3


def test_names_of_pictures_are_names_of_files_on_every_system(
    tmp_path, tiny_model, nuclei_image
) -> None:
    found = [replace(samples(nuclei_image, 1)[0], name=r"D:\a/b")]
    write_pictures(
        tmp_path, truths(found), [s.image[0] for s in found], tiny_model.config
    )
    assert [p.name for p in tmp_path.rglob("*.png")] == ["D__a_b.png"]


def test_a_picture_that_cannot_be_written_is_an_output_error(
    tmp_path, tiny_model, nuclei_image, monkeypatch
) -> None:
    config = tiny_model.config
    found = samples(nuclei_image, 1)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OutputError, match="no room"):
        write_pictures(tmp_path, truths(found), [s.image[0] for s in found], config)


FOLDS = SplitConfig(folds=3)
MODEL_FILES = ("model.safetensors", "history.csv")


def card_of(trained) -> store.ModelCard:
    return store.read_card(trained.folder / store.WEIGHTS_FILE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "fold"),
    [
        pytest.param(2, 1, id="in the first fold"),
        pytest.param(12, 2, id="in the second"),
        pytest.param(24, 3, id="in the third"),
        pytest.param(33, 3, id="in the choice of constants"),
    ],
)
def test_a_stop_in_any_fold_changes_no_bit(call, fold, few, quick, tiny_model) -> None:
    asked = {"split": FOLDS, "start": str(tiny_model.folder)}
    config = tiny_model.config.replace(epochs=2, steps_per_epoch=3)
    whole = train(quick(few, config=config, name="whole", **asked))
    stopped = train(quick(few, config=config, **asked), stop_at(call))
    assert not stopped.finished
    assert (stopped.fold, stopped.folds) == (fold, 3)
    resumed = train(quick(few, config=config, resume=True, **asked))
    assert resumed.finished
    assert sorted(p.name for p in resumed.folder.iterdir()) == sorted(
        p.name for p in whole.folder.iterdir()
    )
    for name in MODEL_FILES:
        ours, theirs = ((t.folder / name).read_bytes() for t in (resumed, whole))
        assert ours.replace(b"quick", b"whole") == theirs, name
    assert resumed.expected == whole.expected


@pytest.mark.slow
def test_folds_make_one_model_that_knows_every_image(few, quick) -> None:
    told: list[str] = []
    steps: list[tuple[int, int]] = []
    hooks = Hooks(
        on_note=told.append,
        on_step=lambda step, total, loss: steps.append((step, total)),
    )
    trained = train(quick(few, split=FOLDS), hooks)
    assert [n for n in told if "Fold" in n] == [f"Fold {i} of 3:" for i in (1, 2, 3)]
    assert steps == [(step, 18) for step in range(1, 19)]
    card = card_of(trained)
    assert (len(card.training), card.validation) == (4, {})
    assert not list(trained.folder.glob("fold-*"))
    assert trained.expected is not None
    assert (trained.expected.pieces, trained.expected.quarters) == (16, True)
    assert not evaluate_model(few, model="quick").groups.get("unseen")


@pytest.mark.slow
def test_a_single_image_is_trained_in_halves(few, quick) -> None:
    for number in (1, 2, 3):
        for side in ("images", "labels"):
            (few / side / f"a{number}.tif").unlink()
    trained = train(quick(few, split=SplitConfig(folds=2)))
    assert trained.finished
    assert len(card_of(trained).training) == 1
    assert trained.expected.of_one_image
    # Two of the eight quarters hold no object.
    assert trained.expected.pieces == 6


@pytest.mark.slow
def test_a_single_validation_image_is_another_image(few, quick) -> None:
    trained = train(quick(few, split=SplitConfig(validation_fraction=0.25)))
    assert trained.expected.pieces == 4
    assert not trained.expected.of_one_image


@pytest.mark.slow
def test_a_start_that_is_better_is_kept(few, quick, tiny_model) -> None:
    # A rate at which nothing that was learned survives.
    config = tiny_model.config.replace(
        epochs=1, steps_per_epoch=5, learning_rate=30.0, warmup_steps=0
    )
    start = str(tiny_model.folder)
    trained = train(quick(few, config=config, split=FOLDS, start=start))
    assert trained.kept_start
    assert trained.expected.gain.value <= 0
    card, theirs = card_of(trained), store.find_model(start).card
    assert card.start["kept"] == "yes"
    # The card tells what the weights were made with, not what was tried in vain.
    assert card.config == theirs.config
    assert card.diameter_px == theirs.diameter_px
    ours = store.read_tensors(trained.folder / store.WEIGHTS_FILE)
    kept = store.read_tensors(tiny_model.folder / store.WEIGHTS_FILE)
    assert ours.keys() == kept.keys()
    for name, values in kept.items():
        assert np.array_equal(ours[name], values), name


@pytest.mark.slow
def test_a_start_is_scored_with_its_edge_which_is_not_taken_over(
    few, quick, tiny_model, tmp_path
) -> None:
    weights = tiny_model.folder / store.WEIGHTS_FILE
    card = store.read_card(weights)
    start = tmp_path / "edged" / store.WEIGHTS_FILE
    start.parent.mkdir()
    decode = card.config.decode.replace(edge=0.3)
    card = replace(card, name="edged", config=card.config.replace(decode=decode))
    store.write(start, store.read_tensors(weights), card.to_dict())
    # A rate at which nothing that was learned survives.
    config = tiny_model.config.replace(
        epochs=1, steps_per_epoch=5, learning_rate=30.0, warmup_steps=0
    )
    told: list[str] = []
    trained = train(
        quick(few, config=config, split=FOLDS, start=str(start.parent)),
        Hooks(on_note=told.append),
    )
    assert trained.kept_start
    assert card_of(trained).config.decode.edge == 0.3
    found = evaluate_model(few, model=str(start.parent)).unseen.summaries["all"]
    assert trained.scores["mean_ap"] == pytest.approx(found.mean_ap.value)
    assert any("an edge of 0.3" in note for note in told)


@pytest.mark.slow
def test_a_network_that_finds_nothing_gains_nothing_where_nothing_is(
    few, quick, tiny_model
) -> None:
    # Three quarters of each image are empty by its labels: whoever finds nothing is
    # right there, and the model that training starts from is not.
    for path in (few / "labels").iterdir():
        labels = tifffile.imread(path)
        labels[32:] = labels[:, 32:] = 0
        tifffile.imwrite(path, labels)
    config = tiny_model.config.replace(
        epochs=1, steps_per_epoch=5, learning_rate=30.0, warmup_steps=0
    )
    trained = train(
        quick(few, config=config, split=FOLDS, start=str(tiny_model.folder))
    )
    assert trained.kept_start
    assert trained.scores["f1_50"] > 0
    assert trained.expected.pieces == 4


@pytest.mark.slow
def test_a_gain_makes_a_new_model_that_names_its_start(few, quick, tiny_model) -> None:
    weak = train(quick(tiny_model.data, name="weak"))
    config = tiny_model.config.replace(network=card_of(weak).config.network)
    trained = train(
        quick(
            few, config=config.replace(decode=config.decode), start="weak", split=FOLDS
        )
    )
    assert not trained.kept_start
    assert trained.expected.gain.value > 0
    card = card_of(trained)
    assert card.start == {
        "name": "weak",
        "sha256": store.find_model(str(weak.folder)).sha256,
        "kept": "no",
    }
    # Images that made the start made this model too.
    assert len(card.training) + len(card.validation) == 4 + 6
    assert "weak: a0" in {*card.training, *card.validation}


@pytest.mark.slow
def test_objects_of_another_size_train_and_predict_at_the_models(
    tmp_path, quick, tiny_model, few
) -> None:
    large = tmp_path / "large"
    for side in ("images", "labels"):
        (large / side).mkdir(parents=True)
        for path in (few / side).iterdir():
            pixels = tifffile.imread(path)
            tifffile.imwrite(
                large / side / path.name, np.kron(pixels, np.ones((4, 4), pixels.dtype))
            )
    config = tiny_model.config.replace(epochs=1, steps_per_epoch=3)
    told: list[str] = []
    trained = train(
        quick(large, config=config, split=FOLDS, start=str(tiny_model.folder)),
        Hooks(on_note=told.append),
    )
    card = card_of(trained)
    assert 0.2 < card.config.scale < 0.35
    assert any("magnified by" in note for note in told)
    model = store.find_model(str(trained.folder))
    assert scale_of(PredictConfig(), model) == card.config.scale
    assert scale_of(PredictConfig(scale=2.0), model) == 2 * card.config.scale
    found = evaluate_model(large, model="quick").groups["trained"]
    assert found.summaries["all"].f1_at(10).value > 0.5


@pytest.mark.slow
def test_dark_objects_are_trained_on_in_the_negative(few, quick, tiny_model) -> None:
    for path in (few / "images").iterdir():
        tifffile.imwrite(path, 4000 - np.minimum(tifffile.imread(path), 4000))
    config = tiny_model.config.replace(epochs=1, steps_per_epoch=3)
    asked = {"config": config, "split": FOLDS, "start": str(tiny_model.folder)}
    assert not train(quick(few, **asked), stop_at(2)).finished
    trained = train(quick(few, resume=True, **asked))
    assert card_of(trained).config.normalization.invert is True
    assert trained.expected.f1_50.value > 0.5


@pytest.mark.slow
def test_known_images_are_said(quick, tiny_model) -> None:
    told: list[str] = []
    config = tiny_model.config.replace(epochs=1, steps_per_epoch=1)
    request = quick(tiny_model.data, config=config, start=str(tiny_model.folder))
    train(request, Hooks(on_note=told.append))
    assert any("6 of the 6 images are among those" in note for note in told)


@pytest.mark.slow
def test_a_start_that_changed_is_not_resumed_from(few, quick, tiny_model) -> None:
    train(quick(tiny_model.data, name="base"))
    asked = {"split": FOLDS, "start": "base"}
    train(quick(few, **asked), stop_at(2))
    train(quick(few, name="base", split=FOLDS, overwrite=True))
    with pytest.raises(ConfigError, match=r"'base'.* is not the same any more"):
        train(quick(few, resume=True, **asked))


@pytest.mark.slow
def test_other_folds_are_not_resumed(few, quick) -> None:
    train(quick(few, split=FOLDS), stop_at(2))
    with pytest.raises(ConfigError, match=r"other settings \(folds\)"):
        train(quick(few, split=SplitConfig(folds=2), resume=True))


@pytest.mark.slow
def test_images_without_any_object_are_refused(few, quick, home) -> None:
    for path in (few / "labels").iterdir():
        tifffile.imwrite(path, np.zeros((64, 64), np.uint16))
    with pytest.raises(InputError, match="None of the 4 training images"):
        train(quick(few, split=FOLDS))
    assert not any((home / "models").iterdir())
