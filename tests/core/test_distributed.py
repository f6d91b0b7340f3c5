"""Two processes take the steps of one; what fails on one of them ends both."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cellunet.core.checkpoint import load_state
from cellunet.core.dataset import CropSampler, prepare
from cellunet.core.device import choose_device
from cellunet.core.distributed import telling_lost
from cellunet.core.trainer import Trainer, new_state
from cellunet.errors import ConfigError, DeviceError, RankError
from cellunet.ranks import ALONE, Ranks
from tests.core.rank_worker import STOP_AFTER, train, weights

CPU = torch.device("cpu")
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config(tiny_config):
    return tiny_config.replace(
        batch=4, steps_per_epoch=2, epochs=3, average_decay=0.9, keep="last"
    )


@pytest.fixture(scope="module")
def images(tiny_images, make_sample, config):
    """Annotated everywhere and in part, so that shares of a batch weigh differently."""
    partly = make_sample((64, 64), 5)
    partly.annotated[:, 8:] = False
    # The last is seen in two windows.
    long = prepare(make_sample((1100, 24), 7, 12), config)
    return [*tiny_images[:2], prepare(partly, config), long]


@dataclass
class Together:
    """What two processes saw, and one that did the same alone."""

    ranks: list[dict]
    alone: dict
    folder: Path


def start(folder: Path, size: int) -> list[subprocess.Popen]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.core.rank_worker", str(folder)],
            cwd=CHECKOUT,
            env=os.environ | {k: str(v) for k, v in (common | {"RANK": rank}).items()},
            stderr=subprocess.PIPE,
        )
        for rank in range(size)
    ]


@pytest.fixture(scope="module")
def together(tmp_path_factory, images, config) -> Together:
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "images.pickle").write_bytes(pickle.dumps((images, config)))
    begun = start(folder, 2)
    state = new_state(config, CPU)
    alone = train(Trainer(images[:3], images, config, CPU), state, stops=False)
    alone |= {"weights": weights(state.network), "average": weights(state.average)}
    alone["history"] = state.history
    for process in begun:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()
    found = [torch.load(folder / f"rank-{rank}.pt") for rank in range(2)]
    return Together(ranks=found, alone=alone, folder=folder)


def test_shares_of_a_batch_are_the_batch_that_one_process_draws(
    tiny_images, config
) -> None:
    whole = CropSampler(tiny_images, config).batch(1, 2)
    shares = [
        CropSampler(tiny_images, config, Ranks(rank=rank, size=2)).batch(1, 2)
        for rank in range(2)
    ]
    for part, first, second in zip(whole, *shares, strict=True):
        assert len(first) == len(second) == 2
        assert torch.equal(torch.cat((first, second)), part)


def test_a_batch_that_cannot_be_shared_evenly_is_refused(tiny_images, config) -> None:
    with pytest.raises(ConfigError, match=r"4 crops cannot .* 3 processes\. Start 2"):
        CropSampler(tiny_images, config, Ranks(rank=0, size=3))


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_every_window_of_validation_is_one_processs_and_all_take_as_many_turns(
    images, config, size
) -> None:
    def windows(ranks):
        trainer = Trainer(images, images, config.replace(batch=size), CPU, ranks)
        return list(trainer._own_windows())

    whole = windows(ALONE)
    assert len(whole) == 5
    turns = [windows(Ranks(rank=rank, size=size)) for rank in range(size)]
    assert {len(own) for own in turns} == {-(-5 // size)}
    for number, window in enumerate(whole):
        own = turns[number % size][number // size]
        assert all(torch.equal(a, b) for a, b in zip(own, window, strict=True))
    assert sum(own is not None for turn in turns for own in turn) == 5


@pytest.mark.slow
def test_two_processes_hold_the_same_state(together) -> None:
    first, second = together.ranks
    for part in ("weights", "average"):
        assert all(torch.equal(v, second[part][k]) for k, v in first[part].items())
    assert first["history"] == second["history"]
    assert first["rest"]["losses"] == second["rest"]["losses"]


@pytest.mark.slow
def test_their_first_step_has_the_gradients_of_one_process(together) -> None:
    ours = together.ranks[0]["stopped"]["gradients"]
    for a, b in zip(ours, together.alone["gradients"], strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5 * float(b.abs().max()))


@pytest.mark.slow
def test_their_run_is_that_of_one_process_but_for_rounding(together) -> None:
    ours, alone = together.ranks[0], together.alone
    losses = ours["stopped"]["losses"] + ours["rest"]["losses"]
    assert losses == pytest.approx(alone["losses"], rel=1e-3)
    for part in ("weights", "average"):
        for name, values in ours[part].items():
            assert torch.allclose(values, alone[part][name], rtol=0.02, atol=0.002)
    for row, theirs in zip(ours["history"], alone["history"], strict=True):
        # Sums over pixels that one process counts, too.
        assert row["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-3)
        loss = theirs["validation_loss"]
        assert row["validation_loss"] == pytest.approx(loss, rel=0.01)


@pytest.mark.slow
def test_running_statistics_are_those_of_the_whole_batch(together) -> None:
    ours, alone = together.ranks[0]["weights"], together.alone["weights"]
    names = [name for name in alone if "running" in name]
    assert names
    for name in names:
        np.testing.assert_allclose(ours[name], alone[name], rtol=0.01, atol=1e-3)


@pytest.mark.slow
def test_a_wish_of_one_process_stops_all_after_the_same_step(together) -> None:
    for rank in together.ranks:
        assert not rank["stopped"]["finished"]
        assert len(rank["stopped"]["losses"]) == STOP_AFTER
        assert rank["rest"]["finished"]


@pytest.mark.slow
def test_one_process_goes_on_where_two_stopped(together, images, config) -> None:
    state = load_state(together.folder / "stopped.safetensors", config, CPU)
    assert (state.epoch, state.step) == (1, 1)
    rest = train(Trainer(images[:3], images, config, CPU), state, stops=False)
    expected = together.ranks[0]["rest"]["losses"]
    assert rest["losses"] == pytest.approx(expected, rel=1e-3)
    for name, values in together.ranks[0]["weights"].items():
        now = state.network.state_dict()[name]
        assert torch.allclose(values, now, rtol=0.02, atol=0.002)


@pytest.mark.slow
def test_what_fails_on_one_process_fails_on_all(together) -> None:
    first, second = (rank["failed"] for rank in together.ranks)
    assert first == ("ConfigError", "Process 1: The data are not here. Mount them.")
    assert second == ("ConfigError", "The data are not here. Mount them.")


@pytest.mark.slow
def test_processes_that_would_train_on_different_images_are_refused(together) -> None:
    for rank in together.ranks:
        kind, message = rank["differ"]
        assert kind == "RankError"
        assert message.startswith("Process 1 has other images than process 0.")


def test_a_lost_process_is_told_and_another_fault_is_not() -> None:
    with (
        pytest.raises(RankError, match="has lost the others"),
        telling_lost(Ranks(rank=1, size=2)),
    ):
        raise RuntimeError("[gloo/transport/tcp] Connection closed by peer")
    with (
        pytest.raises(RuntimeError, match="shape"),
        telling_lost(Ranks(rank=1, size=2)),
    ):
        raise RuntimeError("shape mismatch")


@pytest.mark.parametrize(
    ("there", "wish", "expected"),
    [
        (["cuda", "cuda:0", "cuda:1", "cpu"], "auto", "cuda:1"),
        (["cuda", "cuda:0", "cuda:1", "cpu"], "cuda", "cuda:1"),
        (["cuda", "cuda:0", "cpu"], "cpu", "cpu"),
        (["mps", "cpu"], "auto", "cpu"),
        (["cuda", "cuda:0", "cpu"], "auto", None),
        (["cuda", "cuda:0", "cuda:1", "cpu"], "cuda:1", None),
        (["mps", "cpu"], "mps", None),
    ],
)
def test_every_process_takes_a_gpu_of_its_own_or_all_take_the_cpu(
    there, wish, expected, monkeypatch
) -> None:
    monkeypatch.setattr("cellunet.core.device.available", lambda: there)
    second = Ranks(rank=3, size=4, local=1)
    if expected is None:
        with pytest.raises(DeviceError, match="no GPU of its own"):
            choose_device(wish, second)
    else:
        assert choose_device(wish, second) == torch.device(expected)
