"""Two commands at once: refused with who is at work, or side by side, never mixed."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cellunet import store
from cellunet.cli.app import main
from cellunet.command_config import PredictConfig
from cellunet.engine import runtimes
from cellunet.errors import BusyError, CheckpointError
from cellunet.io.files import at_work
from cellunet.tasks.predict.batch import predict
from cellunet.tasks.predict.inputs import Predictions
from cellunet.tasks.predict.settings import load_engine, settings_for
from tests.faults.conftest import hashes


def test_a_second_training_under_the_name_is_refused_with_the_first_ones_process(
    annotated, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("CELLUNET_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "models").mkdir(parents=True)
    words = ["train", str(annotated), "--name", "cells"]
    with store.training("cells"):
        for again in ([], ["--overwrite"], ["--resume"]):
            assert main([*words, *again]) == 1
            told = capsys.readouterr().err
            assert f"is being trained by process {os.getpid()} on " in told
            assert "choose another --name" in told
    assert [p.name for p in (tmp_path / "home" / "models").iterdir()] == []


def test_a_model_that_is_being_trained_is_not_removed(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CELLUNET_HOME", str(tmp_path))
    (tmp_path / "models" / "cells").mkdir(parents=True)
    with store.training("cells"), pytest.raises(BusyError) as refused:
        store.remove("cells")
    assert "is being trained by" in refused.value.message
    assert "--name" not in refused.value.hint
    store.remove("cells")


def test_a_second_prediction_of_the_same_results_is_refused(
    small_images, tiny_model, tmp_path
) -> None:
    out = tmp_path / "out"
    with (
        at_work(out),
        pytest.raises(BusyError, match=rf"out is being .*{os.getpid()}"),
    ):
        predict([str(small_images)], out, model=str(tiny_model.folder))
    assert hashes(out) == {}


def test_parts_run_side_by_side_and_make_what_one_call_makes(
    small_images, tiny_model, tmp_path
) -> None:
    def part(number: int | None) -> Predictions:
        return predict(
            [str(small_images)],
            tmp_path / ("whole" if number is None else "out"),
            model=str(tiny_model.folder),
            engine="onnxruntime",
            threads=1,
            config=PredictConfig(part=number and (number, 2)),
        )

    with ThreadPoolExecutor(2) as pool:
        done = [image for found in pool.map(part, (1, 2)) for image in found.images]
    assert {image.status for image in done} == {"done"}
    assert not part(None).failed
    found = hashes(tmp_path / "out")
    # What `join` goes by.
    assert found.pop("parts-data/1-of-2.json")
    assert found.pop("parts-data/2-of-2.json")
    assert found == hashes(tmp_path / "whole")


def test_the_same_part_twice_is_refused(small_images, tiny_model, tmp_path) -> None:
    out = tmp_path / "out"
    with at_work(out, part=(2, 2)):
        done = predict(
            [str(small_images)],
            out,
            model=str(tiny_model.folder),
            config=PredictConfig(part=(1, 2)),
        )
        assert not done.failed
        with pytest.raises(BusyError):
            predict(
                [str(small_images)],
                out,
                model=str(tiny_model.folder),
                config=PredictConfig(part=(2, 2)),
            )


@pytest.fixture
def copied(tiny_model, tmp_path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model.folder, folder)
    return folder


def replace(folder: Path, name: str, content: bytes) -> None:
    """Replace a file as cellunet does: whole."""
    (folder / "new").write_bytes(content)
    (folder / "new").replace(folder / name)


@pytest.mark.parametrize("engine", ["onnxruntime", "torch", "openvino"])
def test_weights_replaced_while_a_model_is_read_are_never_mixed(copied, engine) -> None:
    if engine == "openvino" and not runtimes.installed():
        pytest.skip("openvino is not installed")
    model = store.find_model(str(copied))
    replace(copied, store.WEIGHTS_FILE, model.weights.read_bytes())
    with pytest.raises(CheckpointError, match="replaced while it was read") as caught:
        load_engine(model, engine=engine, device="cpu", threads=1)
    assert "again" in caught.value.hint


def test_a_model_in_memory_does_not_change_with_its_file(copied) -> None:
    model = store.find_model(str(copied))
    recipe = settings_for(model, PredictConfig(), "onnxruntime", "cpu", 1)
    digest = model.sha256
    image = np.random.default_rng(0).random((1, 2, 32, 32), np.float32)
    before = recipe.engine(image)
    replace(copied, store.WEIGHTS_FILE, b"newer")
    assert np.array_equal(recipe.engine(image), before)
    assert model.sha256 == digest
