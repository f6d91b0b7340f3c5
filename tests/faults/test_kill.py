"""Killed at any moment, a command leaves complete files, and finishes when run again.

The undisturbed run and all others are forks of one process (`workshop.py`), on one
thread of the CPU. Moments are every change of a file in turn (a sample of them in the
short form), and times drawn uniformly.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellunet import store
from cellunet.errors import CellunetError
from cellunet.tasks.predict.settings import load_engine
from tests.faults.conftest import (
    FULL,
    MOMENTS,
    Ended,
    Workshop,
    hashes,
    moments,
    whole_files,
)

KILLED = -9
SAVED = ("rois", "geojson", "table", "outlines", "classes")


@pytest.fixture(scope="module")
def tally() -> Iterator[dict[str, int]]:
    """What was killed how often; written where ``CELLUNET_FAULTS_RESULT`` says."""
    tried: dict[str, int] = {}
    yield tried
    path = os.environ.get("CELLUNET_FAULTS_RESULT")
    if path:
        Path(path).write_text(json.dumps(tried, indent=2) + "\n", encoding="utf-8")


def times(seconds: float, wanted: int, seed: int) -> list[float]:
    """Return moments drawn uniformly over the time that a run takes."""
    return np.random.default_rng(seed).uniform(0, seconds, wanted).tolist()


def check_readable(folder: Path) -> None:
    """Every file under a final name is complete."""
    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue
        assert path.stat().st_size > 0, path
        if path.suffix == ".tif":
            tifffile.imread(path)
        if path.suffix in (".geojson", ".json"):
            json.loads(path.read_bytes())
        if path.suffix == ".safetensors":
            store.read_metadata(path)
            store.read_tensors(path)


def predict_words(images: Path, model: Path, out: Path) -> list[str | Path]:
    words: list[str | Path] = ["predict", images, "--out", out, "--model", model]
    settings = images.parent / "settings.toml"
    settings.write_text("[predict]\ntile_px = 256\n", encoding="utf-8")
    words += ["--threads", "1", "--engine", "onnxruntime", "--json"]
    words += ["--config", settings]
    return words + [word for name in SAVED for word in ("--save", name)]


def predict_rounds(
    workshop: Workshop,
    words: Callable[[Path], list[str | Path]],
    folder: Path,
) -> int:
    """Kill `predict` at its moments and run it again, in a new folder each time."""
    whole = folder / "whole"
    undisturbed = workshop(*words(whole), root=whole)
    assert undisturbed.code == 0, undisturbed.err
    expected = hashes(whole)
    assert not [name for name in expected if Path(name).name.startswith(".")]
    at = moments(len(undisturbed.events), MOMENTS, 1)
    plan: list[dict[str, object]] = [{"at": k} for k in at]
    plan += [{"after_s": [s]} for s in times(undisturbed.seconds, MOMENTS, 2)]
    for number, moment in enumerate(plan):
        out = folder / f"k{number}"
        killed = workshop(*words(out), root=out, **moment)
        assert killed.code == KILLED or "after_s" in moment, (moment, killed.err)
        found = whole_files(out)
        assert all(expected.get(n) == digest for n, digest in found.items()), moment
        check_readable(out)
        again = workshop(*words(out), root=out)
        assert again.code == 0, (moment, again.err)
        assert hashes(out) == expected, moment
        shutil.rmtree(out)
    return len(plan)


def test_predict_over_many_images(
    workshop, small_images, tiny_model, tmp_path, tally
) -> None:
    tally["predict, many images"] = predict_rounds(
        workshop,
        lambda out: predict_words(small_images, tiny_model.folder, out),
        tmp_path,
    )


def test_predict_over_one_large_field(
    workshop, large_field, tiny_model, tmp_path, tally
) -> None:
    def words(out: Path) -> list[str | Path]:
        # Little memory, so that much waits on the disk.
        found = predict_words(large_field, tiny_model.folder, out)
        return [*found, "--max-memory", "420"]

    tally["predict, a large field"] = predict_rounds(workshop, words, tmp_path)


def train_words(annotated: Path, *more: str) -> list[str | Path]:
    words: list[str | Path] = ["train", annotated, "--name", "cells", "--preset"]
    return [*words, "tiny", "--threads", "1", "--device", "cpu", "--json", *more]


def finished(
    workshop: Workshop, annotated: Path, models: Path, options: tuple[str, ...]
) -> Ended:
    """Run a killed training again, as its messages say."""
    folder = models / "cells"
    if (folder / store.STATE_FILE).is_file():
        return workshop(*train_words(annotated, "--resume"), root=models)
    ended = workshop(*train_words(annotated, *options), root=models)
    if ended.code == 1 and (folder / store.WEIGHTS_FILE).is_file():
        # It was killed after the very last step: nothing is left to do.
        assert "exists already" in ended.err
        refused = workshop(*train_words(annotated, "--resume"), root=models)
        assert "is finished" in refused.err
    return ended


def refusal(folder: Path) -> CellunetError | None:
    """Return why a model cannot be used, None if it can or is not there yet."""
    if not (folder / store.WEIGHTS_FILE).is_file():
        return None
    try:
        model = store.find_model(str(folder))
        load_engine(model, engine="onnxruntime", device="cpu", threads=1)
    except CellunetError as error:
        return error
    return None


def train_rounds(
    workshop: Workshop,
    annotated: Path,
    home: Path,
    *,
    before: Callable[[Path], None] = lambda models: None,
    first: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
) -> int:
    """Kill `train` at its moments and resume it, in a new home each time.

    `first` is said by the run that is killed alone, `options` by all that begin anew.
    """

    def models(name: str) -> Path:
        folder = workshop.models(home / name)
        before(folder)
        return folder

    whole = models("whole")
    undisturbed = workshop(*train_words(annotated, *first, *options), root=whole)
    assert undisturbed.code == 0, undisturbed.err
    expected = hashes(whole)
    assert "cells/model.safetensors" in expected
    assert not [name for name in expected if Path(name).name.startswith(".")]
    # A training takes longer than a prediction: the short form has fewer.
    wanted = MOMENTS if FULL else 1
    at = moments(len(undisturbed.events), wanted, 3)
    plan: list[dict[str, object]] = [{"at": k} for k in at]
    plan += [{"after_s": [s]} for s in times(undisturbed.seconds, wanted, 4)]
    for number, moment in enumerate(plan):
        folder = models(f"k{number}")
        words = train_words(annotated, *first, *options)
        killed = workshop(*words, root=folder, **moment)
        assert killed.code == KILLED or "after_s" in moment, (moment, killed.err)
        check_readable(folder)
        assert refusal(folder / "cells") is None, moment
        again = finished(workshop, annotated, folder, options)
        assert again.code in (0, 1), (moment, again.err)
        if first and hashes(folder) != expected:
            # Killed before its first save: the model that was there is still there.
            again = workshop(*train_words(annotated, *first), root=folder)
            assert again.code == 0, (moment, again.err)
        assert hashes(folder) == expected, moment
        shutil.rmtree(folder.parent)
    return len(plan)


def test_train(workshop, annotated, tmp_path, tally) -> None:
    tally["train"] = train_rounds(workshop, annotated, tmp_path)


def test_a_history_older_than_its_state_is_mended(
    workshop, annotated, tmp_path
) -> None:
    def ended(name: str, *words: str, **moment: object) -> Path:
        folder = workshop.models(tmp_path / name)
        workshop(*train_words(annotated, *words), root=folder, **moment)
        return folder

    whole = ended("whole")
    # Per epoch a state and a history; the sixth is the last history of three epochs.
    killed = ended("killed", matching="cellunet.commit", at=6)
    assert hashes(killed)["cells/history.csv"] != hashes(whole)["cells/history.csv"]
    assert hashes(ended("killed", "--resume")) == hashes(whole)


def test_train_in_place_of_a_model(
    workshop, annotated, tiny_model, tmp_path, tally
) -> None:
    def before(models: Path) -> None:
        shutil.copytree(tiny_model.folder, models / "cells", dirs_exist_ok=True)

    tally["train --overwrite"] = train_rounds(
        workshop, annotated, tmp_path, before=before, first=("--overwrite",)
    )


def test_train_in_folds(workshop, annotated, tmp_path, tally) -> None:
    tally["train --folds"] = train_rounds(
        workshop, annotated, tmp_path, options=("--folds", "2")
    )
