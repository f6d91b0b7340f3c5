"""States and weights on disk: nothing lost, nothing foreign taken in."""

from __future__ import annotations

import errno
import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file

from cellunet import store
from cellunet.config import TrainConfig, UNetConfig
from cellunet.core.checkpoint import (
    export_weights,
    load_network,
    load_state,
    read_state,
    save_state,
)
from cellunet.core.trainer import Trainer, TrainState, new_state
from cellunet.errors import CheckpointError, OutputError
from tests.networks import random_network

CPU = torch.device("cpu")
ABOUT = {"training": {"a": "0"}, "minutes": None}


@pytest.fixture
def trained(tiny_images, tiny_config) -> tuple[Trainer, TrainState]:
    """A training after two steps of its second epoch."""
    config = tiny_config.replace(epochs=3)
    trainer = Trainer(tiny_images, tiny_images[:1], config, CPU)
    state = new_state(config, CPU)
    calls = iter(range(100))
    trainer.run(
        state, should_stop=lambda: next(calls) == 6, on_step=lambda state, loss: None
    )
    assert (state.epoch, state.step) == (1, 2)
    return trainer, state


def tensors(state: TrainState) -> dict[str, torch.Tensor]:
    found = {}
    for part in ("network", "average", "best"):
        for name, value in getattr(state, part).state_dict().items():
            found[f"{part} {name}"] = value
    for index, values in state.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            found[f"optimizer {index} {name}"] = value
    return found


def test_a_state_comes_back_bit_by_bit(trained, tmp_path) -> None:
    trainer, state = trained
    path = tmp_path / "state.safetensors"
    save_state(path, state, trainer.config, ABOUT)
    numbers = read_state(path)
    assert numbers["about"] == ABOUT
    assert TrainConfig.from_dict(numbers["config"]) == trainer.config
    back = load_state(path, trainer.config, CPU)
    assert tensors(back).keys() == tensors(state).keys()
    for name, value in tensors(state).items():
        assert torch.equal(tensors(back)[name], value), name
        assert tensors(back)[name].stride() == value.stride(), name
    assert (back.epoch, back.step) == (1, 2)
    assert (back.best_loss, back.best_epoch) == (state.best_loss, state.best_epoch)
    assert [list(row) for row in back.history] == [list(row) for row in state.history]
    np.testing.assert_equal(back.history, state.history)
    assert back.tally.loss_sum == state.tally.loss_sum
    assert back.tally.pixels == state.tally.pixels
    np.testing.assert_array_equal(back.tally.confusion, state.tally.confusion)


def test_the_same_state_gives_the_same_bytes(trained, tmp_path) -> None:
    trainer, state = trained
    for name in "ab":
        save_state(tmp_path / name, state, trainer.config, ABOUT)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_state_before_the_first_step_comes_back(tiny_config, tmp_path) -> None:
    state = new_state(tiny_config, CPU)
    save_state(tmp_path / "state", state, tiny_config, ABOUT)
    back = load_state(tmp_path / "state", tiny_config, CPU)
    assert back.best_loss == float("inf")
    assert back.history == []
    assert back.optimizer.state_dict()["state"] == {}


def test_a_loaded_state_is_no_view_of_its_file(trained, tmp_path) -> None:
    trainer, state = trained
    path = tmp_path / "state"
    save_state(path, state, trainer.config, ABOUT)
    back = load_state(path, trainer.config, CPU)
    # In place: a mapped file would change what is mapped.
    with path.open("rb+") as file:
        file.seek(8 + 4000)
        file.write(b"\xff" * (path.stat().st_size - 4008))
    for name, value in tensors(state).items():
        assert torch.equal(tensors(back)[name], value), name


@pytest.mark.parametrize("fails", ["fsync", "replace", "write"])
def test_a_failing_write_leaves_the_last_good_state(
    fails, trained, tmp_path, monkeypatch
) -> None:
    trainer, state = trained
    path = tmp_path / "state"
    save_state(path, state, trainer.config, ABOUT)
    before = path.read_bytes()
    trainer.step(state, trainer.sampler.batch(1, 2))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def half(file: Path, content: bytes) -> None:
        with file.open("wb") as stream:
            stream.write(content[:1000])
        full()

    with monkeypatch.context() as patch:
        if fails == "fsync":
            patch.setattr(os, "fsync", full)
        elif fails == "replace":
            patch.setattr(Path, "replace", full)
        else:
            patch.setattr(Path, "write_bytes", half)
        with pytest.raises(OutputError, match="no room"):
            save_state(path, state, trainer.config, ABOUT)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    assert load_state(path, trainer.config, CPU).step == 2


def test_weights_are_no_state_and_a_state_is_no_model(
    trained, tiny_model, tmp_path
) -> None:
    with pytest.raises(CheckpointError, match="no state") as caught:
        read_state(tiny_model.folder / "model.safetensors")
    assert "--overwrite" in caught.value.hint
    trainer, state = trained
    save_state(tmp_path / "state.safetensors", state, trainer.config, ABOUT)
    with pytest.raises(CheckpointError) as caught:
        load_network(tmp_path / "state.safetensors")
    assert caught.value.hint


def test_a_state_of_another_network_is_refused(trained, tmp_path) -> None:
    trainer, state = trained
    save_state(tmp_path / "state", state, trainer.config, ABOUT)
    for channels in ((4, 6), (4, 8, 8)):
        other = trainer.config.replace(network=UNetConfig(channels=channels))
        with pytest.raises(CheckpointError, match="does not fit") as caught:
            load_state(tmp_path / "state", other, CPU)
        assert caught.value.hint


def test_a_state_without_its_numbers_is_refused(trained, tmp_path) -> None:
    trainer, state = trained
    path = tmp_path / "state"
    save_state(path, state, trainer.config, ABOUT)
    numbers = read_state(path)
    for missing in ("tally", "epoch", "history"):
        kept = {k: v for k, v in numbers.items() if k != missing}
        save_file(
            load_file(path), tmp_path / "less", {store.CARD_KEY: json.dumps(kept)}
        )
        with pytest.raises(CheckpointError, match="does not fit"):
            load_state(tmp_path / "less", trainer.config, CPU)


@pytest.fixture
def exported(tmp_path, tiny_config) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    export_weights(
        folder / store.WEIGHTS_FILE,
        random_network(tiny_config.network),
        store.ModelCard(name="model", config=tiny_config),
    )
    return folder


def test_exported_weights_come_back_with_their_card(exported, tiny_config) -> None:
    model = store.find_model(str(exported))
    assert model.card.config == tiny_config
    network = load_network(model.weights)
    assert not network.training
    for name, value in random_network(tiny_config.network).state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


def test_the_same_weights_give_the_same_files(exported, tiny_config, tmp_path) -> None:
    before = {p.name: p.read_bytes() for p in exported.iterdir()}
    export_weights(
        exported / store.WEIGHTS_FILE,
        load_network(exported / store.WEIGHTS_FILE),
        store.ModelCard(name="model", config=tiny_config),
    )
    assert {p.name: p.read_bytes() for p in exported.iterdir()} == before


def test_where_there_is_no_room_the_weights_that_were_there_stay(
    exported, tiny_config, monkeypatch
) -> None:
    before = {p.name: p.read_bytes() for p in exported.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="no room"):
        export_weights(
            exported / store.WEIGHTS_FILE,
            random_network(tiny_config.network),
            store.ModelCard(name="newer", config=tiny_config),
        )
    assert {p.name: p.read_bytes() for p in exported.iterdir()} == before


def test_nothing_is_exported_that_is_not_finite(tiny_config, tmp_path) -> None:
    network = random_network(tiny_config.network)
    with torch.no_grad():
        network.head.weight[0] = float("nan")
    with pytest.raises(CheckpointError, match="not finite"):
        export_weights(
            tmp_path / "w",
            network,
            store.ModelCard(name="model", config=tiny_config),
        )
    assert list(tmp_path.iterdir()) == []


def rewrite(folder: Path, change) -> Path:
    """Write the weights anew, changed, under the same card."""
    path = folder / store.WEIGHTS_FILE
    values = load_file(path)
    card = json.dumps(store.read_metadata(path))
    values = {k: v.clone() for k, v in values.items()}
    change(values)
    save_file(values, path, {store.CARD_KEY: card})
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v["head.bias"].fill_(float("nan")), "not finite"),
        (lambda v: v["head.bias"].fill_(float("inf")), "not finite"),
        (lambda v: v.pop("head.bias"), r"miss head\.bias"),
        (lambda v: v.update(more=torch.zeros(2)), "the network does not, more"),
        (lambda v: v.update({"head.bias": torch.zeros(7)}), "does not fit"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, words, exported) -> None:
    path = rewrite(exported, change)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_network(path)
    assert caught.value.hint


def test_a_card_of_a_huge_network_takes_no_memory(exported, tmp_path) -> None:
    path = exported / store.WEIGHTS_FILE
    card = store.read_metadata(path)
    # 24 GB of weights.
    card["config"]["network"]["channels"] = [4096] * 8
    card["config"]["crop_px"] = 256
    metadata = {store.CARD_KEY: json.dumps(card)}
    save_file(load_file(path), tmp_path / "a.safetensors", metadata)
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="does not fit the network of its card"):
        load_network(tmp_path / "a.safetensors")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin < 200_000


def test_weights_cut_off_or_scrambled_are_refused(exported) -> None:
    path = exported / store.WEIGHTS_FILE
    content = path.read_bytes()
    for broken in (content[:-4], content[: len(content) // 2], b"", b"\0" * 64):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError) as caught:
            load_network(path)
        assert caught.value.hint
    # The header has the right size, but two of its tensors overlap.
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    twice = [n for n in header if n.startswith("down.0") and n.endswith("bias")][:2]
    header[twice[0]]["data_offsets"] = header[twice[1]]["data_offsets"]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(CheckpointError, match="cut off or damaged") as caught:
        load_network(path)
    assert caught.value.hint
