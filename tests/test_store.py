"""Names to models: what is found where, and what is refused and how."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellunet import store
from cellunet.config import TrainConfig
from cellunet.errors import (
    CheckpointError,
    ConfigError,
    ModelNotFoundError,
    OutputError,
)

CARD = store.ModelCard(
    name="cells",
    config=TrainConfig(),
    epochs=3,
    training={"a": "0" * 16},
    validation={"b": "1" * 16},
    scores={"mean_ap": 0.5},
    diameter_px=(5.0, 10.0, 20.0),
    training_statistics={"contrast": [float(n) for n in range(9)]},
    versions={"cellunet": "1"},
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("CELLUNET_HOME", str(folder))
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "shipped")
    return folder


def packed(header: dict[str, Any] | bytes, weights: bytes = b"\0" * 8) -> bytes:
    """A safetensors file: length of the header, header, weights."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + weights


def model_bytes(card: Any = None) -> bytes:
    card = CARD.to_dict() if card is None else card
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    text = card if isinstance(card, str) else json.dumps(card)
    return packed({"__metadata__": {store.CARD_KEY: text}, "head.bias": tensor})


def put(folder: Path, content: bytes | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / store.WEIGHTS_FILE).write_bytes(content or model_bytes())
    return folder


def test_a_card_comes_back_as_it_went() -> None:
    assert store.ModelCard.from_dict(json.loads(json.dumps(CARD.to_dict()))) == CARD


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "format 2; this version reads 1"),
        ({"format": None}, "format None"),
        ({"novel": 1}, "novel"),
        ({"config": {"novel": 1}}, "novel"),
        ({"diameter_px": [1.0, 2.0]}, "incomplete"),
        ({"diameter_px": "abc"}, "incomplete"),
        ({"diameter_px": None}, "incomplete"),
        ({"diameter_px": [1.0, float("inf"), 2.0]}, "diameters are"),
        ({"diameter_px": [float("nan")] * 3}, "diameters are"),
        ({"diameter_px": [-1.0, 1.0, 2.0]}, "diameters are"),
        ({"training": ["a"]}, "training"),
        ({"training": {"a": 1}}, "training"),
        ({"validation": None}, "validation"),
        ({"scores": {"mean_ap": "high"}}, "scores"),
        ({"epochs": "3", "name": 1}, "name, epochs"),
        ({"training_statistics": []}, "training_statistics"),
        ({"training_statistics": {"level": [1.0] * 8}}, "training_statistics"),
        ({"training_statistics": {"level": ["1"] * 9}}, "training_statistics"),
        ({"training_statistics": {"level": [float("nan")] * 9}}, "statistics"),
        ({"training_statistics": {"level": [2.0] + [1.0] * 8}}, "training_statistics"),
        ({"int8_ranges": [1]}, "int8_ranges"),
        ({"int8_ranges": {"image": [0.0, 3]}}, "int8_ranges"),
        ({"int8_ranges": {"image": [1e300, 3]}}, "int8_ranges"),
        ({"int8_ranges": {"image": [float("nan"), 3]}}, "int8_ranges"),
        ({"int8_ranges": {"image": [0.5, 256]}}, "int8_ranges"),
        ({"int8_ranges": {"image": [0.5, 2.5]}}, "int8_ranges"),
        ({"int8_ranges": {"image": ["1", 3]}}, "int8_ranges"),
        ({"int8_ranges": {"image": [0.5]}}, "int8_ranges"),
    ],
)
def test_a_card_of_another_kind_is_refused(change, words) -> None:
    with pytest.raises(ConfigError, match=words):
        store.ModelCard.from_dict(CARD.to_dict() | change)


def test_a_card_from_before_statistics_were_kept_is_read() -> None:
    values = CARD.to_dict()
    del values["training_statistics"]
    assert store.ModelCard.from_dict(values).training_statistics == {}


def test_a_card_without_settings_is_refused() -> None:
    values = CARD.to_dict()
    del values["config"]
    with pytest.raises(ConfigError, match="config"):
        store.ModelCard.from_dict(values)


def test_home_is_what_the_environment_says(home, monkeypatch) -> None:
    assert store.home() == home
    monkeypatch.delenv("CELLUNET_HOME")
    assert store.home().name == "cellunet"
    assert store.home().is_absolute()


@pytest.mark.parametrize("theirs", ["refused", "~/.local/share/cellunet"])
def test_without_a_home_there_are_the_models_that_ship(
    theirs, tmp_path, monkeypatch
) -> None:
    """As where a container runs as a user that it does not know."""

    def answer(_name: str) -> Path:
        if theirs == "refused":
            raise RuntimeError("could not determine the home directory")
        return Path(theirs)

    monkeypatch.delenv("CELLUNET_HOME", raising=False)
    monkeypatch.setattr("platformdirs.user_data_path", answer)
    put(tmp_path / "shipped" / "nuclei")
    assert store.find_model("nuclei").shipped
    assert [folder.name for folder, _ in store.list_folders()] == ["nuclei"]
    assert store.model_folder("mine").is_absolute()


@pytest.mark.parametrize("name", ["a", "A.b_c-1", "9" * 64])
def test_plain_names_have_a_folder_in_home(name, home) -> None:
    assert store.model_folder(name) == home / "models" / name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a",
        "a/b",
        "a\\b",
        "/a",
        "-a",
        "a.",
        "a.safetensors",
        "é",
        "x" * 65,
        "a\n",
        "NUL",
        "com1.x",
    ],
)
def test_names_that_climb_or_cannot_name_a_folder_are_refused(name) -> None:
    for call in (store.model_folder, store.remove):
        with pytest.raises(ConfigError, match="cannot name a model"):
            call(name)


def test_a_model_is_found_by_name_folder_and_file(home) -> None:
    folder = put(home / "models" / "cells")
    for name in ("cells", str(folder), str(folder / store.WEIGHTS_FILE)):
        found = store.find_model(name)
        assert found.name == "cells"
        assert found.weights == folder / store.WEIGHTS_FILE
        assert found.card == CARD
        assert not found.shipped
    assert found.sha256 == store.file_sha256(folder / store.WEIGHTS_FILE)


def test_a_file_of_any_name_is_a_model(tmp_path) -> None:
    shutil.copy(put(tmp_path / "x") / store.WEIGHTS_FILE, tmp_path / "ü 🔬.safetensors")
    found = store.find_model(str(tmp_path / "ü 🔬.safetensors"))
    assert found.name == "ü 🔬"


def test_a_folder_in_the_working_folder_is_found_by_its_bare_name(
    tmp_path, monkeypatch
) -> None:
    put(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    assert store.find_model("here").weights == Path("here") / store.WEIGHTS_FILE


def test_the_users_model_comes_before_the_shipped_one(home, tmp_path) -> None:
    put(tmp_path / "shipped" / "nuclei")
    assert store.find_model("nuclei").shipped
    put(home / "models" / "nuclei")
    assert not store.find_model("nuclei").shipped
    assert [(f.name, shipped) for f, shipped in store.list_folders()] == [
        ("nuclei", False),
        ("nuclei", True),
    ]


def test_an_unknown_model_is_refused_with_those_there_are(home) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        store.find_model("cels")
    assert "Known: none" in caught.value.hint
    put(home / "models" / "cells")
    (home / "models" / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match="no model 'cels'") as caught:
        store.find_model("cels")
    assert "Known: cells." in caught.value.hint


@pytest.mark.parametrize("name", ["", "  ", "../gone", "gone.safetensors", "no/where"])
def test_a_path_without_a_model_is_refused(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError) as caught:
        store.find_model(name)
    assert caught.value.hint


def header(**tensor: Any) -> dict[str, Any]:
    text = json.dumps(CARD.to_dict())
    whole = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    return {"__metadata__": {store.CARD_KEY: text}, "head.bias": whole | tensor}


FOREIGN = header() | {"__metadata__": {"format": "pt"}}
DAMAGED = "not a safetensors file, or it is cut off or damaged"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"\0", DAMAGED, id="one byte"),
        pytest.param(b"PK\3\4" * 100, DAMAGED, id="a zip"),
        pytest.param(model_bytes()[:200], DAMAGED, id="cut in the header"),
        pytest.param(model_bytes()[:-1], DAMAGED, id="cut in weights"),
        pytest.param(model_bytes() + b"\0", DAMAGED, id="too long"),
        pytest.param(packed(b"{nonsense}"), DAMAGED, id="no JSON"),
        pytest.param(packed(b"\xff\xfe\xfd\xfc"), DAMAGED, id="no text"),
        pytest.param(packed(b"[" * 99_999), DAMAGED, id="nested"),
        pytest.param(packed(b"[1]"), DAMAGED, id="a list"),
        pytest.param(
            packed(header(data_offsets=[0, "8"])), DAMAGED, id="offsets of text"
        ),
        pytest.param(packed(header(shape=[3])), DAMAGED, id="a shape past the bytes"),
        pytest.param(packed(header(dtype="F4")), DAMAGED, id="unknown numbers"),
        pytest.param(
            packed({"head.bias": FOREIGN["head.bias"]}),
            "no cellunet model",
            id="foreign",
        ),
        pytest.param(packed(FOREIGN), "no cellunet model", id="foreign with metadata"),
        pytest.param(model_bytes("{"), "card", id="card is no JSON"),
        pytest.param(model_bytes("[" * 99_999), "card", id="card is nested"),
        pytest.param(model_bytes("3"), "no cellunet model", id="card is a number"),
        pytest.param(
            model_bytes(CARD.to_dict() | {"format": 2}), "format 2", id="newer card"
        ),
        pytest.param(
            model_bytes(CARD.to_dict() | {"training": 5}), "training", id="wrong kind"
        ),
    ],
)
def test_what_is_no_model_is_refused_with_a_way_out(content, words, home) -> None:
    put(home / "models" / "cells", content)
    with pytest.raises(CheckpointError, match=words) as caught:
        store.find_model("cells")
    assert "model.safetensors" in caught.value.message
    assert caught.value.hint


def test_an_empty_file_is_refused(home) -> None:
    folder = put(home / "models" / "cells")
    (folder / store.WEIGHTS_FILE).write_bytes(b"")
    with pytest.raises(CheckpointError, match="cut off"):
        store.find_model("cells")


def test_a_file_that_cannot_be_opened_is_refused(tmp_path) -> None:
    for call in (store.read_metadata, store.read_tensors, store.file_sha256):
        with pytest.raises(CheckpointError, match="cannot be read") as caught:
            call(tmp_path)
        assert caught.value.hint


def test_read_metadata_returns_what_was_put_in(tmp_path) -> None:
    folder = put(tmp_path, model_bytes({"anything": [1]}))
    assert store.read_metadata(folder / store.WEIGHTS_FILE) == {"anything": [1]}
    with pytest.raises(CheckpointError):
        store.read_card(folder / store.WEIGHTS_FILE)


def test_remove_takes_models_and_unfinished_runs(home) -> None:
    folder = put(home / "models" / "cells")
    put(home / "models" / "others")
    assert store.remove("cells") == folder
    assert [folder.name for folder, _ in store.list_folders()] == ["others"]
    unfinished = home / "models" / "half"
    unfinished.mkdir()
    (unfinished / store.STATE_FILE).touch()
    store.remove("half")
    assert not unfinished.exists()


def test_remove_refuses_what_is_not_there_or_shipped(tmp_path) -> None:
    put(tmp_path / "shipped" / "nuclei")
    with pytest.raises(ConfigError, match="ships with cellunet"):
        store.remove("nuclei")
    with pytest.raises(ModelNotFoundError, match="no model 'gone'"):
        store.remove("gone")


def test_what_cannot_be_removed_is_an_output_error(home, monkeypatch) -> None:
    put(home / "models" / "cells")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(OutputError, match="cannot be removed"):
        store.remove("cells")


def test_no_models_no_list() -> None:
    assert store.list_folders() == []


def test_cards_are_read_without_torch(home) -> None:
    put(home / "models" / "cells")
    code = (
        "import sys; from cellunet import store; store.find_model('cells'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_card_from_before_a_setting_says_what_was_then() -> None:
    values = json.loads(json.dumps(CARD.to_dict()))
    values["config"]["augment"].pop("dim_probability")
    assert store.ModelCard.from_dict(values).config.augment.dim_probability == 0.0
    values["config"]["normalization"].pop("foreground_limit")
    assert store.read_config(values["config"]).normalization.foreground_limit == 0.0
    # One that holds the setting is taken at its word.
    values["config"]["augment"]["dim_probability"] = 0.25
    assert store.ModelCard.from_dict(values).config.augment.dim_probability == 0.25


def test_what_an_older_card_has_is_dropped_and_all_else_refused_by_name() -> None:
    values = CARD.to_dict()
    assert store.ModelCard.from_dict(values | {"onnx_sha256": "0" * 64}) == CARD
    with pytest.raises(ConfigError, match="Its int4, onnx are not known"):
        store.ModelCard.from_dict(values | {"onnx": 1, "int4": 2})


def test_an_older_model_with_its_files_beside_is_read(home) -> None:
    old = CARD.to_dict() | {"onnx_sha256": "0" * 64}
    folder = put(home / "models" / "cells", model_bytes(old))
    for name in ("model.onnx", "model-int8.onnx"):
        (folder / name).write_bytes(b"old")
    found = store.find_model("cells")
    assert found.card == CARD
    assert found.sha256 == store.file_sha256(folder / store.WEIGHTS_FILE)


def test_ranges_for_eight_bits_are_on_the_card_and_make_no_other_model(home) -> None:
    folder = put(home / "models" / "cells")
    file = folder / store.WEIGHTS_FILE
    plain = store.find_model("cells")
    # In the order of an older card, which has a field that this one drops.
    old = {"onnx_sha256": "0" * 64} | CARD.to_dict()
    for card in (CARD.to_dict(), old):
        store.write(file, store.read_tensors(file), card)
        before = store.find_model("cells").sha256
        assert before == store.file_sha256(file)
        ranged = card | {"int8_ranges": {"image": [0.5, 50]}}
        store.write(file, store.read_tensors(file), ranged)
        found = store.find_model("cells")
        assert found.card == replace(plain.card, int8_ranges={"image": [0.5, 50]})
        assert found.sha256 == before != store.file_sha256(file)


def test_other_weights_are_another_model_whatever_their_ranges(home) -> None:
    file = put(home / "models" / "cells") / store.WEIGHTS_FILE
    card = replace(CARD, int8_ranges={"image": [0.5, 50]}).to_dict()
    found = set()
    for value in (0.0, 1.0):
        store.write(file, {"head.bias": np.full(2, value, np.float32)}, card)
        found.add(store.find_model("cells").sha256)
    assert len(found) == 2


def test_arrays_come_back_as_they_went(tmp_path) -> None:
    file = tmp_path / "state.safetensors"
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "b": np.array(7, np.int64),
        "c": np.zeros((0, 2), np.float32),
    }
    store.write(file, arrays, {"z": 1, "a": "ü 🔬"})
    assert list(store.read_metadata(file).items()) == [("z", 1), ("a", "ü 🔬")]
    found = store.read_tensors(file)
    assert found.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype


def test_numbers_of_a_kind_that_is_not_ours_are_refused(tmp_path) -> None:
    put(tmp_path, packed(header(dtype="BF16", shape=[4])))
    with pytest.raises(CheckpointError, match="damaged"):
        store.read_tensors(tmp_path / store.WEIGHTS_FILE)


def test_a_setting_that_there_is_no_more_is_dropped_from_a_card() -> None:
    values = json.loads(json.dumps(CARD.to_dict()))
    values["config"]["weights"] |= {"small_object_px": 0.0, "small_object_gain": 4.0}
    assert store.ModelCard.from_dict(values).config == CARD.config
    values["config"]["weights"]["large_object_px"] = 1
    with pytest.raises(ConfigError, match="no setting 'large_object_px'"):
        store.ModelCard.from_dict(values)


def test_a_card_tells_of_several_channels_alone() -> None:
    assert "channels" not in CARD.to_dict()
    network = CARD.config.network.replace(in_channels=4)
    two = replace(
        CARD, config=CARD.config.replace(network=network), channels=("DAPI", "GFP")
    )
    values = json.loads(json.dumps(two.to_dict()))
    assert store.ModelCard.from_dict(values) == two
    for wrong in ([1, 2], ["DAPI"], "ab", 3):
        with pytest.raises(ConfigError, match="channels"):
            store.ModelCard.from_dict(values | {"channels": wrong})
