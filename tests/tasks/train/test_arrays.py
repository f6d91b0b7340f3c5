"""Training on arrays: what a viewer shows becomes a model, or nothing stays behind."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from cellunet.errors import AnnotationError, ConfigError
from cellunet.tasks.models import list_models
from cellunet.tasks.train.arrays import train_arrays
from cellunet.tasks.train.request import Hooks
from tests.networks import few_candidates


@pytest.fixture
def pairs(nuclei_image):
    drawn = [nuclei_image((64, 64), 8, seed) for seed in range(4)]
    return {f"field {n}": pair for n, pair in enumerate(drawn)}


@pytest.fixture(autouse=True)
def quickly(home, monkeypatch) -> None:
    few_candidates(monkeypatch.setattr)


def _train(pairs, config, **options):
    # Folds train three networks; one look at the loop is enough here.
    return train_arrays(pairs, "mine", start="scratch", config=config, **options)


def _mine() -> list[str]:
    return [info.name for info in list_models() if not info.shipped]


def test_arrays_make_a_model_that_names_its_images(pairs, quick_config) -> None:
    steps = []
    hooks = Hooks(on_step=lambda step, steps_, loss: steps.append((step, steps_)))
    trained = _train(pairs, quick_config, hooks=hooks)
    assert trained.finished
    assert steps[-1][0] == steps[-1][1] == len(steps)
    assert _mine() == ["mine"]
    with pytest.raises(ConfigError, match="exists already"):
        _train(pairs, quick_config)
    assert _mine() == ["mine"]


def test_a_configuration_may_have_a_name_and_network_of_its_own(
    pairs, quick_config
) -> None:
    # With this network no model is started from, so there are no folds.
    own = quick_config.replace(preset="mine")
    assert train_arrays(pairs, "mine", config=own).folds == 1


def test_a_stopped_training_leaves_nothing(pairs, quick_config, home) -> None:
    taken = []
    hooks = Hooks(
        on_step=lambda step, steps, loss: taken.append(step),
        should_stop=lambda: len(taken) > 1,
    )
    assert not _train(pairs, quick_config, hooks=hooks).finished
    assert taken
    assert _mine() == []
    assert [p for p in (home / "models").iterdir() if not p.name.startswith(".")] == []


def test_a_training_that_breaks_leaves_nothing(pairs, quick_config) -> None:
    def broken(step: int, steps: int, loss: float) -> None:
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        _train(pairs, quick_config, hooks=Hooks(on_step=broken))
    assert _mine() == []


def test_labels_without_an_object_are_refused(pairs, quick_config) -> None:
    empty = {name: (image, 0 * labels) for name, (image, labels) in pairs.items()}
    with pytest.raises(AnnotationError, match="hold no object"):
        _train(empty, quick_config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels[:-1], r"field 1 are of shape \(63, 64\)"),
        (lambda labels: labels + 0.5, "no whole numbers"),
        (lambda labels: -labels.astype(int), "no whole numbers"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    pairs, quick_config, change, message
) -> None:
    image, labels = pairs["field 1"]
    pairs["field 1"] = (image, change(labels))
    with pytest.raises(AnnotationError, match=message):
        _train(pairs, quick_config)
    assert _mine() == []


def test_the_number_of_an_object_means_nothing(quick_config) -> None:
    # A single object of number 1 is one object, not a mask of several.
    image = np.random.default_rng(0).normal(100, 5, (64, 64))
    labels = np.zeros((64, 64), np.int64)
    labels[10:20, 10:20] = labels[40:50, 40:50] = 1
    labels[30, 5:8] = 2**20
    image[labels > 0] += 300
    assert _train({"a": (image, labels), "b": (image.T, labels.T)}, quick_config)
