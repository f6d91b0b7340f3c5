"""Models listed, shown and removed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cellunet import store
from cellunet.errors import CheckpointError, ConfigError, ModelNotFoundError
from cellunet.tasks.models import (
    MOST_SOURCES,
    _sources,
    list_models,
    show_model,
)


@pytest.fixture
def models(home: Path, tiny_model, tmp_path, monkeypatch) -> Path:
    """A shipped model, one of the user's, a broken one, a stopped training."""
    shutil.copytree(tiny_model.folder, tmp_path / "shipped" / "nuclei")
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "shipped")
    folder = home / "models"
    shutil.copytree(tiny_model.folder, folder / "cells")
    (folder / "broken").mkdir(parents=True)
    (folder / "broken" / store.WEIGHTS_FILE).write_bytes(b"?" * 99)
    (folder / "another").mkdir()
    (folder / "another" / store.STATE_FILE).write_bytes(b"12345")
    (folder / "empty").mkdir()
    (folder / "notes.txt").touch()
    return folder


def test_all_models_are_listed_the_users_first(models, tiny_model) -> None:
    found = list_models()
    assert [(m.name, m.status, m.shipped) for m in found] == [
        ("another", "unfinished", False),
        ("broken", "broken", False),
        ("cells", "ready", False),
        ("nuclei", "ready", True),
    ]
    unfinished, broken, ready, _ = found
    assert "--resume" in unfinished.problem
    assert unfinished.bytes == 5
    assert "model.safetensors" in broken.problem
    assert ready.path == models / "cells"
    assert ready.bytes == sum(p.stat().st_size for p in ready.path.rglob("*.*"))
    assert ready.target == "three-class"
    assert (ready.training_images, ready.trained_on) == (5, "5 images")
    assert ready.score == tiny_model.trained.scores
    assert (ready.sha256, ready.card) == ("", {})


def test_a_model_in_training_says_so(models) -> None:
    with pytest.raises(ModelNotFoundError, match="not trained to its end"):
        store.find_model("another")
    with store.training("another"):
        assert list_models()[0].status == "in training"
        with pytest.raises(ModelNotFoundError, match="'another' is being trained"):
            store.find_model("another")


def test_no_models_no_list(home, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "none")
    assert list_models() == ()


def test_folders_that_cannot_be_names_are_listed_with_what_to_do(models) -> None:
    (models / "cells").rename(models / "my-cells - Copy")
    (models / "another").rename(models / "another - Copy")
    found = {m.name: m for m in list_models()}
    assert list(found) == ["another - Copy", "broken", "my-cells - Copy", "nuclei"]
    for name in ("another - Copy", "my-cells - Copy"):
        assert found[name].status == "broken"
        assert f"{name!r} cannot name a model. Rename" in found[name].problem
        assert show_model(name) == found[name]
    with pytest.raises(ModelNotFoundError) as caught:
        store.find_model("unknown")
    assert "Known: broken, nuclei." in caught.value.hint


def test_a_folder_that_may_not_be_entered_is_a_broken_model(
    models, monkeypatch
) -> None:
    plain = Path.stat
    (models / "lost+found").mkdir()
    closed = {models / "cells", models / "lost+found"}

    def stat(path: Path, **how: bool) -> os.stat_result:
        if path.parent in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, **how)

    monkeypatch.setattr(Path, "stat", stat)
    # What cannot be a model's name is nobody's model.
    names = [m.name for m in list_models()]
    assert names == ["another", "broken", "cells", "nuclei"]
    with pytest.raises(CheckpointError, match="cells cannot be read") as caught:
        store.find_model("cells")
    assert "permissions" in caught.value.hint
    # Nothing is known of a home that may not be entered: the shipped ones are there.
    closed.add(models)
    closed.add(models / "nuclei")
    assert store.find_model("nuclei").shipped


def test_one_model_is_shown_whole(models, tiny_model) -> None:
    info = show_model("cells")
    assert info.sha256 == store.find_model(str(models / "cells")).sha256
    assert info.card["config"]["decode"] == tiny_model.trained.decode.to_dict()
    assert info.created_with == info.card["versions"]["cellunet"]
    plain = info.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["path"] == str(models / "cells")


def test_a_path_shows_the_model_there(models, tmp_path) -> None:
    assert show_model(str(models / "cells")).path == models / "cells"
    file = tmp_path / "plain.safetensors"
    shutil.copy(models / "cells" / store.WEIGHTS_FILE, file)
    info = show_model(str(file))
    assert (info.path, info.name) == (file, "plain")
    assert info.bytes == file.stat().st_size


def test_a_stopped_training_is_shown_as_such(models) -> None:
    assert show_model("another").status == "unfinished"


def test_what_cannot_be_shown_is_refused(models) -> None:
    with pytest.raises(CheckpointError):
        show_model("broken")
    for name in ("empty", "unknown", "../models/another"):
        with pytest.raises(ModelNotFoundError):
            show_model(name)


def test_models_are_removed_unless_shipped(models) -> None:
    for name in ("cells", "broken", "another"):
        assert store.remove(name) == models / name
    assert [m.name for m in list_models()] == ["nuclei"]
    with pytest.raises(ConfigError, match="ships with"):
        store.remove("nuclei")
    with pytest.raises(ConfigError, match="cannot name"):
        store.remove("../models")


def test_sources_are_named_where_all_names_have_one() -> None:
    assert _sources({"a/1": "", "a/2": "", "b/1": ""}) == "a (2), b (1)"
    assert _sources({"a/1": "", "2": ""}) == "2 images"
    assert _sources({}) == "0 images"
    assert _sources({f"{i}/x": "" for i in range(MOST_SOURCES + 1)}) == "6 images"


def test_listing_imports_no_torch(models) -> None:
    code = (
        "import sys; from cellunet.tasks.models import list_models; "
        "assert len(list_models()) >= 3; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'scipy', 'skimage')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
