"""Models are listed, shown and removed without a weight being loaded."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cellunet import store
from cellunet.config import PRESETS
from cellunet.errors import CheckpointError, ConfigError, ModelNotFoundError
from cellunet.tasks.models import (
    ModelInfo,
    list_models,
    remove_model,
    show_model,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's models and the shipped ones, both at first without any."""
    monkeypatch.setenv("CELLUNET_HOME", str(tmp_path / "home ä"))
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "home ä" / "models"


def _write(folder: Path, training: list[str] | None = None) -> Path:
    folder.mkdir(parents=True)
    card = store.ModelCard(
        name=folder.name,
        config=PRESETS["default"](),
        epochs=3,
        training=dict.fromkeys(training or ["a", "b"], "print"),
        scores={"mean_ap": 0.8},
        diameter_px=(10.0, 20.0, 30.0),
        versions={"cellunet": "0.1.0"},
    )
    metadata = {store.CARD_KEY: json.dumps(card.to_dict())}
    weights = {"w": np.zeros(3, np.float32)}
    save_file(weights, folder / store.WEIGHTS_FILE, metadata)
    return folder


def _unfinished(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / store.STATE_FILE).write_bytes(b"12345")
    return folder


def _names(found: tuple[ModelInfo, ...]) -> list[tuple[str, str]]:
    return [(info.name, info.status) for info in found]


def test_without_a_home_there_are_no_models() -> None:
    assert list_models() == ()


def test_the_users_models_come_first_then_the_shipped(home: Path) -> None:
    _write(home / "zebra")
    _unfinished(home / "middle")
    _write(home / "apple")
    _write(store.SHIPPED / "nuclei")
    assert _names(list_models()) == [
        ("apple", "ready"), ("middle", "unfinished"), ("zebra", "ready"),
        ("nuclei", "ready"),
    ]  # fmt: skip
    assert [info.shipped for info in list_models()] == [False, False, False, True]


def test_a_model_tells_its_target_images_score_and_size(home: Path) -> None:
    folder = _write(home / "cells", ["a", "b", "c"])
    (folder / "pictures").mkdir()
    (folder / "pictures" / "one.png").write_bytes(b"1234")
    (info,) = list_models()
    assert (info.target, info.training_images) == ("three-class", 3)
    assert info.trained_on == "3 images"
    assert info.score == {"mean_ap": 0.8}
    assert info.created_with == "0.1.0"
    assert info.bytes == (folder / store.WEIGHTS_FILE).stat().st_size + 4
    assert (info.sha256, info.card) == ("", {})


@pytest.mark.parametrize(
    ("training", "told"),
    [
        (["x/a", "x/b", "y/a"], "x (2), y (1)"),
        (["x/a", "b"], "2 images"),
        ([f"{i}/a" for i in range(6)], "6 images"),
    ],
)
def test_source_folders_are_named_where_all_images_have_one(
    home: Path, training: list[str], told: str
) -> None:
    _write(home / "cells", training)
    assert list_models()[0].trained_on == told


def test_a_broken_model_is_listed_with_its_problem(home: Path) -> None:
    folder = _write(home / "bad")
    (folder / store.WEIGHTS_FILE).write_bytes(b"odd")
    _write(home / "good")
    bad, good = list_models()
    assert (bad.status, good.status) == ("broken", "ready")
    assert "is not a safetensors file" in bad.problem
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        show_model("bad")


def test_showing_adds_hash_and_card(home: Path) -> None:
    folder = _write(home / "cells")
    info = show_model("cells")
    assert info.sha256 == store.file_sha256(folder / store.WEIGHTS_FILE)
    assert info.card["config"] == PRESETS["default"]().to_dict()
    assert info.path == folder
    assert json.loads(json.dumps(info.to_dict())) == info.to_dict()


def test_a_model_is_shown_by_path_too(tmp_path: Path) -> None:
    folder = _write(tmp_path / "else where")
    assert show_model(str(folder)).path == folder
    single = folder / "mine.safetensors"
    (folder / store.WEIGHTS_FILE).rename(single)
    info = show_model(str(single))
    assert (info.name, info.path) == ("mine", single)
    assert info.bytes == single.stat().st_size


def test_an_unfinished_training_is_shown_with_what_to_do(home: Path) -> None:
    folder = _unfinished(home / "half")
    info = show_model("half")
    assert (info.status, info.bytes, info.path) == ("unfinished", 5, folder)
    assert "--resume" in info.problem


def test_an_unknown_model_is_refused_with_the_known(home: Path) -> None:
    _write(home / "cells")
    with pytest.raises(ModelNotFoundError) as caught:
        show_model("cell")
    assert "cells" in caught.value.hint


def test_removing_takes_the_whole_folder(home: Path) -> None:
    folder = _write(home / "cells")
    half = _unfinished(home / "half")
    assert remove_model("cells") == folder
    assert remove_model("half") == half
    assert not folder.exists()
    assert not half.exists()
    with pytest.raises(ModelNotFoundError, match="There is no model 'cells'"):
        remove_model("cells")


def test_a_shipped_model_stays() -> None:
    folder = _write(store.SHIPPED / "nuclei")
    with pytest.raises(ConfigError, match="ships with cellunet"):
        remove_model("nuclei")
    assert folder.is_dir()
