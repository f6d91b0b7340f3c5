"""Training: what it leaves, what it refuses, and that no stop changes a bit of it."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch")

import tifffile

from cellunet import store
from cellunet.command_config import SplitConfig
from cellunet.config import TrainConfig, UNetConfig
from cellunet.core.checkpoint import read_state
from cellunet.core.dataset import prepare
from cellunet.core.device import choose_device
from cellunet.core.trainer import Trainer
from cellunet.errors import (
    CellunetError,
    CheckpointError,
    ConfigError,
    DeviceError,
    InputError,
    ModelNotFoundError,
    OutputError,
)
from cellunet.presets import PRESETS, for_target
from cellunet.tasks.train.request import Hooks
from cellunet.tasks.train.train import FoldRun, train, within
from tests.tasks.conftest import stop_at

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL_FILES = (
    "model.safetensors",
    "history.csv",
    "curves.svg",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_data) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "drawn", 5)


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in MODEL_FILES}


@pytest.fixture(scope="module")
def kept() -> dict[object, dict[str, bytes]]:
    return {}


@pytest.fixture
def whole(tmp_path: Path, data: Path, quick, kept, monkeypatch) -> Callable[..., dict]:
    """``whole(config=...)``: the files of a training that nobody interrupts."""

    def run(**changes: object) -> dict[str, bytes]:
        key = changes.get("config")
        if key not in kept:
            with monkeypatch.context() as patch:
                patch.setenv("CELLUNET_HOME", str(tmp_path / "undisturbed"))
                kept[key] = files_of(train(quick(data, **changes)).folder)
        return kept[key]

    return run


@pytest.mark.smoke
def test_a_training_leaves_model_history_curves_and_pictures(data, quick, home) -> None:
    seen: list[str] = []
    hooks = Hooks(
        on_start=lambda info: seen.append(f"start {info.steps_per_epoch}"),
        on_step=lambda step, steps, loss: seen.append(f"{step}/{steps}"),
        on_epoch=lambda row: seen.append(f"epoch {row['epoch']:.0f}"),
    )
    trained = train(quick(data), hooks)
    folder = home / "models" / "quick"
    assert trained.finished
    assert trained.folder == folder
    first, second = ["1/6", "2/6", "3/6"], ["4/6", "5/6", "6/6"]
    assert seen == ["start 3", *first, "epoch 1", *second, "epoch 2"]
    left = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.*"))
    # Two of five images validate.
    assert left[:3] == ["curves.svg", "history.csv", "model.safetensors"]
    assert len(left) == 5
    assert all(name.startswith("validation/a") for name in left[3:])
    card = store.read_card(folder / "model.safetensors")
    assert card.epochs == trained.epochs == 2
    assert len(card.training) == 3
    assert len(card.validation) == 2
    assert card.scores == trained.scores
    assert card.config.decode == trained.decode
    assert 5 < card.diameter_px[0] <= card.diameter_px[1] <= card.diameter_px[2] < 20
    assert set(card.versions) == {"cellunet", "torch", "numpy"}
    plain = trained.to_dict()
    assert plain["folder"] == str(folder)
    assert plain["decode"] == trained.decode.to_dict()
    assert [row["epoch"] for row in plain["history"]] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(1, id="the first step"),
        pytest.param(3, id="the last step of an epoch"),
        pytest.param(4, id="the middle of validation"),
        pytest.param(7, id="the second epoch"),
        pytest.param(10, id="the end of the last validation"),
        pytest.param(11, id="prediction of validation images"),
        pytest.param(14, id="the choice of decode constants"),
    ],
)
def test_a_stop_changes_no_bit(call, data, quick, whole) -> None:
    stopped = train(quick(data), stop_at(call))
    assert not stopped.finished
    assert stopped.scores is None
    resumed = train(quick(data, resume=True))
    assert resumed.finished
    assert files_of(resumed.folder) == whole()
    assert not (resumed.folder / store.STATE_FILE).exists()


def test_a_run_that_moves_is_told_what_will_differ(data, quick, monkeypatch) -> None:
    notes: list[str] = []

    def hooks():
        return replace(stop_at(1), on_note=notes.append)

    train(quick(data, threads=1), hooks())
    train(quick(data, threads=1, resume=True), hooks())
    assert not [n for n in notes if n.startswith("So far")]
    monkeypatch.setattr("cellunet.tasks.train.train.use_threads", lambda wish: 7)
    train(quick(data, resume=True), hooks())
    (told,) = [n for n in notes if n.startswith("So far")]
    assert "threads: 1, processes: 1); it continues on cpu (threads: 7," in told
    assert "last digits" in told
    # What is said once is not said again: the run is there now.
    train(quick(data, resume=True), hooks())
    assert len([n for n in notes if n.startswith("So far")]) == 1


@pytest.mark.slow
def test_a_stop_after_every_step_changes_no_bit(data, quick, whole) -> None:
    for resume in (False, *[True] * 6):
        taken: list[int] = []
        hooks = Hooks(
            on_step=lambda step, steps, loss, taken=taken: taken.append(step),
            should_stop=lambda taken=taken: bool(taken),
        )
        trained = train(quick(data, resume=resume), hooks)
        assert trained.finished == (not taken)
    assert trained.finished
    assert files_of(trained.folder) == whole()


@pytest.mark.slow
def test_a_stop_changes_no_bit_of_the_best_of_amsgrad(
    data, quick, quick_config, whole
) -> None:
    config = quick_config.replace(
        optimizer="adam-amsgrad",
        schedule="constant",
        learning_rate=0.05,
        average_decay=0.0,
        keep="best",
        patience_epochs=2,
        epochs=6,
        sampling="images",
        steps_per_epoch=0,
    )
    # 2 steps and 2 validation windows an epoch: the stop is in the second one's steps.
    stopped = train(quick(data, config=config), stop_at(6))
    assert (stopped.finished, stopped.epoch) == (False, 1)
    resumed = train(quick(data, config=config, resume=True))
    assert files_of(resumed.folder) == whole(config=config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "epochs"),
    [
        # Of each epoch the state and the history; at the end history and curves.
        pytest.param(2, 1, id="the state of the second epoch"),
        pytest.param(6, 2, id="the weights"),
        pytest.param(7, 2, id="the pictures"),
    ],
)
def test_a_full_disk_leaves_the_last_state_to_resume_from(
    files, epochs, data, quick, whole, monkeypatch
) -> None:
    room = iter(range(files))
    sync = os.fsync

    def fill(file: int) -> None:
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill)
        with pytest.raises(OutputError, match="no room") as caught:
            train(quick(data))
    assert "--resume" in caught.value.hint
    folder = store.model_folder("quick")
    assert read_state(folder / store.STATE_FILE)["epoch"] == epochs
    assert not list(folder.glob(".*"))
    assert files_of(train(quick(data, resume=True)).folder) == whole()


def test_resume_takes_the_same_options_or_none(data, quick, quick_config) -> None:
    train(quick(data), stop_at(2))
    for config in (quick_config, TrainConfig()):
        trained = train(quick(data, resume=True, config=config), stop_at(1))
        assert trained.epochs == quick_config.epochs


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config": {"epochs": 7}}, "epochs"),
        ({"config": {"seed": 1, "batch": 3}}, "batch, seed"),
        ({"minutes": 3.0}, "minutes"),
        ({"start": "other"}, "start"),
    ],
)
def test_resume_with_other_settings_is_refused(
    changes, named, data, quick, quick_config
) -> None:
    train(quick(data), stop_at(2))
    if "config" in changes:
        changes = {"config": quick_config.replace(**changes["config"])}
    with pytest.raises(ConfigError, match=rf"other settings \({named}\)") as caught:
        train(quick(data, resume=True, **changes))
    assert "--overwrite" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["epochs", "crop_px", "precision", "validation_fraction"]
)
def test_a_default_that_was_given_is_no_setting_left_out(
    name, data, quick, quick_config
) -> None:
    train(quick(data), stop_at(2))
    asked = {"config": TrainConfig(), "split": SplitConfig(), "resume": True}
    with pytest.raises(ConfigError, match=rf"other settings \({name}\)"):
        train(quick(data, **asked, given=frozenset({name})))
    assert train(quick(data, **asked), stop_at(1)).epochs == quick_config.epochs


def test_resume_with_another_preset_is_refused(data, quick) -> None:
    train(quick(data), stop_at(2))
    with pytest.raises(ConfigError, match="other settings"):
        train(quick(data, resume=True, config=PRESETS["classic"]))


def test_resume_with_other_images_is_refused(data, quick, write_data) -> None:
    train(quick(data), stop_at(2))
    before = (store.model_folder("quick") / store.STATE_FILE).read_bytes()
    other = write_data(data.parent / "unlike", 5, first_seed=50)
    with pytest.raises(ConfigError, match="images are not those"):
        train(quick(other, resume=True))
    with pytest.raises(ConfigError, match="images are not those"):
        train(quick(data, resume=True, validation=other))
    assert (store.model_folder("quick") / store.STATE_FILE).read_bytes() == before


def test_resume_with_labels_that_were_corrected_since_is_refused(quick, few) -> None:
    train(quick(few), stop_at(2))
    file = few / "labels" / "a0.tif"
    labels = tifffile.imread(file)
    labels[labels == labels.max()] = 0
    tifffile.imwrite(file, labels)
    with pytest.raises(ConfigError, match="annotations are not those that training"):
        train(quick(few, resume=True))
    state = store.model_folder("quick") / store.STATE_FILE
    numbers = read_state(state)
    # As an earlier version wrote it.
    del numbers["about"]["annotations"]
    store.write(state, store.read_tensors(state), numbers)
    assert not train(quick(few, resume=True), stop_at(1)).finished


def test_what_is_told_of_the_images_is_among_the_notes(quick, few) -> None:
    tifffile.imwrite(few / "images" / "a0.tif", np.zeros((64, 64), np.uint8))
    told: list[str] = []
    hooks = replace(stop_at(1), on_note=told.append)
    trained = train(quick(few), hooks)
    assert any("Images with a single value: 1 of 4" in note for note in trained.notes)
    assert list(trained.notes) == told


@pytest.mark.slow
def test_nothing_to_resume_is_said_with_its_reason(data, quick) -> None:
    with pytest.raises(ConfigError, match="has not begun"):
        train(quick(data, resume=True))
    train(quick(data))
    with pytest.raises(ConfigError, match="is finished"):
        train(quick(data, resume=True))


def test_a_corrupt_state_is_refused_in_words(data, quick) -> None:
    train(quick(data), stop_at(2))
    state = store.model_folder("quick") / store.STATE_FILE
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(CheckpointError) as caught:
        train(quick(data, resume=True))
    assert caught.value.hint


@pytest.mark.slow
def test_a_taken_name_is_refused_unless_overwrite(data, quick, quick_config) -> None:
    first = train(quick(data))
    kept = files_of(first.folder)
    (first.folder / "validation" / "of an older run.png").touch()
    with pytest.raises(ConfigError, match="exists already") as caught:
        train(quick(data))
    assert "--overwrite" in caught.value.hint
    assert files_of(first.folder) == kept
    config = quick_config.replace(seed=9)
    again = train(quick(data, overwrite=True, config=config))
    assert files_of(again.folder) != kept
    assert len(list((first.folder / "validation").iterdir())) == 2


def test_a_stopped_training_is_not_begun_anew_unasked(data, quick) -> None:
    train(quick(data), stop_at(2))
    with pytest.raises(ConfigError, match="exists already") as caught:
        train(quick(data))
    assert "--resume" in caught.value.hint


def test_a_shipped_name_is_refused(data, quick, tmp_path, monkeypatch) -> None:
    shipped = tmp_path / "shipped"
    (shipped / "nuclei").mkdir(parents=True)
    (shipped / "nuclei" / store.WEIGHTS_FILE).touch()
    monkeypatch.setattr(store, "SHIPPED", shipped)
    with pytest.raises(ConfigError, match="ships with cellunet"):
        train(quick(data, name="nuclei", overwrite=True))


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".", "..", "x" * 65, "a."])
def test_a_name_that_leaves_the_folder_is_refused(name, data, quick, home) -> None:
    with pytest.raises(ConfigError, match="cannot name a model"):
        train(quick(data, name=name))
    assert not home.exists()


def test_an_unwritable_home_is_found_before_reading(
    quick, tmp_path, monkeypatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CELLUNET_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot be written") as caught:
        train(quick(tmp_path / "gone"))
    assert "CELLUNET_HOME" in caught.value.hint


def test_refused_data_leave_no_folder(quick, tmp_path, home) -> None:
    with pytest.raises(InputError, match="There is no folder"):
        train(quick(tmp_path / "gone"))
    assert not any((home / "models").iterdir())


def test_an_unavailable_device_is_refused_with_those_there_are(data, quick) -> None:
    with pytest.raises(DeviceError, match="cuda:9") as caught:
        train(quick(data, device="cuda:9"))
    assert "cpu" in caught.value.hint


@pytest.mark.parametrize(
    "changes",
    [{"minutes": 0.0}, {"minutes": float("nan")}, {"minutes": np.inf}, {"threads": -1}],
)
def test_impossible_requests_are_refused(changes, quick, tmp_path) -> None:
    with pytest.raises(ConfigError):
        quick(tmp_path, **changes)
    with pytest.raises(ConfigError, match="No annotated folder"):
        quick()


@pytest.mark.slow
def test_minutes_become_steps_before_the_first_step(data, quick) -> None:
    seen: list[object] = []
    hooks = Hooks(
        on_note=seen.append,
        on_start=lambda info: seen.append(info.steps_per_epoch),
        on_step=lambda step, steps, loss: seen.append((step, steps)),
    )
    # Far too little: one step an epoch is the least.
    trained = train(quick(data, minutes=1e-6), hooks)
    assert trained.finished
    note, *rest = seen
    assert note == (
        "A budget of 1e-06 min makes 2 epochs of 1 steps at the speed measured here."
    )
    assert rest == [1, (1, 2), (2, 2)]


@pytest.mark.slow
def test_a_training_of_minutes_resumes_with_its_steps(data, quick) -> None:
    train(quick(data, minutes=1e-6), stop_at(1))
    with pytest.raises(ConfigError, match="minutes"):
        train(quick(data, minutes=5.0, resume=True))
    trained = train(quick(data, minutes=1e-6, resume=True))
    assert store.read_card(trained.folder / "model.safetensors").config == (
        trained_config(trained.folder).replace(steps_per_epoch=1)
    )


def trained_config(folder: Path) -> TrainConfig:
    return store.read_card(folder / "model.safetensors").config


def test_steps_follow_from_the_measured_time(make_sample, quick_config) -> None:
    # 12 steps in 6 s, a validation in 10 s: of 2 minutes 111.6 s are planned, 20 s of
    # them for two validations, and 91.6 s make 183 steps of .5 s, 91 an epoch.
    clock = iter([100.0, 106.0, 200.0, 210.0])
    prepared = [prepare(make_sample(), quick_config)]
    stages = [FoldRun(training=prepared, validation=prepared)]
    device = choose_device("cpu")
    config = within(2.0, quick_config, stages, device, lambda: next(clock))
    assert config == quick_config.replace(steps_per_epoch=91)


@pytest.mark.slow
def test_a_training_can_start_from_a_model(data, quick, tiny_model) -> None:
    config = tiny_model.config.replace(epochs=1, steps_per_epoch=1, learning_rate=1e-9)
    trained = train(quick(tiny_model.data, config=config, start=str(tiny_model.folder)))
    losses = [row["validation_loss"] for row in tiny_model.trained.history]
    assert trained.history[0]["validation_loss"] < losses[0]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c.replace(network=UNetConfig(channels=(4, 8))), "another network"),
        (lambda c: for_target(c, "boundary"), "has the target three-class"),
        (
            lambda c: c.replace(normalization=c.normalization.replace(kind="standard")),
            "another normalization",
        ),
    ],
)
def test_a_start_of_another_kind_is_refused(change, named, quick, tiny_model) -> None:
    request = quick(
        tiny_model.data, config=change(tiny_model.config), start=str(tiny_model.folder)
    )
    with pytest.raises(ConfigError, match=named) as caught:
        train(request)
    assert "--from scratch" in caught.value.hint


def test_a_refused_start_keeps_the_stopped_training(data, quick) -> None:
    train(quick(data), stop_at(2))
    with pytest.raises(ModelNotFoundError):
        train(quick(data, start="unknown", overwrite=True))
    assert (store.model_folder("quick") / store.STATE_FILE).is_file()


@pytest.mark.slow
def test_the_boundary_target_trains(data, quick, quick_config) -> None:
    trained = train(quick(data, config=for_target(quick_config, "boundary")))
    assert set(trained.history[0]) >= {
        "validation_recall_rest",
        "validation_recall_boundary",
    }
    card = store.read_card(trained.folder / "model.safetensors")
    # Half as large again as the largest object; none is wider than 18 px.
    assert 80 < card.config.decode.max_core_px < 400


def test_a_loss_that_explodes_ends_the_training_in_words(
    data, quick, monkeypatch
) -> None:
    monkeypatch.setattr(Trainer, "step", lambda self, state, batch: float("nan"))
    with pytest.raises(CellunetError, match="loss became nan in step 1") as caught:
        train(quick(data))
    assert "learning_rate" in caught.value.hint


def put(folder: Path, name: str, image: np.ndarray, labels: np.ndarray) -> None:
    tifffile.imwrite(folder / "images" / f"{name}.tif", image)
    tifffile.imwrite(folder / "labels" / f"{name}.tif", labels.astype(np.uint16))


@pytest.mark.slow
def test_images_of_any_size_and_content_train(
    tmp_path, quick, write_data, nuclei_image
) -> None:
    data = write_data(tmp_path / "all", 2)
    strip, strip_labels = nuclei_image((15, 4000), 40, 3)
    put(data, "strip", strip, strip_labels)
    put(data, "pixel", np.full((1, 1), 9, np.uint8), np.ones((1, 1)))
    put(data, "flat", np.full((40, 30), 7, np.uint16), np.zeros((40, 30)))
    holes = nuclei_image((64, 64), 8, 77)[0].astype(np.float32)
    holes[10:20, 30:] = np.nan
    holes[0, 0] = np.inf
    put(data, "holes", holes, nuclei_image((64, 64), 8, 77)[1])
    validation = tmp_path / "validation"
    for side in ("images", "labels"):
        (validation / side).mkdir(parents=True)
        for name in ("strip", "pixel", "flat", "holes"):
            file = data / side / f"{name}.tif"
            if name == "strip":
                pixels = tifffile.imread(file)[:, ::-1]
            else:
                pixels = tifffile.imread(file)
            tifffile.imwrite(validation / side / f"{name} too.tif", pixels)
    # Not the same pixels, so that it is not the same image.
    for name in ("pixel too", "flat too", "holes too"):
        file = validation / "images" / f"{name}.tif"
        tifffile.imwrite(file, tifffile.imread(file) + 1)
    trained = train(quick(data, validation=validation))
    assert trained.finished
    assert all(np.isfinite(row["validation_loss"]) for row in trained.history)


@pytest.mark.slow
def test_validation_folder_is_used_as_it_is(data, quick, write_data) -> None:
    other = write_data(data.parent / "other", 2, first_seed=50)
    (other / "images" / "notes.txt").touch()
    trained = train(quick(data, validation=other))
    card = store.read_card(trained.folder / "model.safetensors")
    assert sorted(card.training) == ["a0", "a1", "a2", "a3", "a4"]
    assert sorted(card.validation) == ["val/a0", "val/a1"]
    assert any("notes" in n or "Left out" in n for n in trained.notes)
