"""``torchrun -m cellunet train``: one of the processes speaks and writes for all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch")

from cellunet.cli.app import main
from cellunet.store import find_model

if TYPE_CHECKING:
    from tests.cli.conftest import Run

CHECKOUT = Path(__file__).parents[2]
FURTHER = {
    "WORLD_SIZE": "2",
    "RANK": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}
SETTINGS = """
batch = 6
crop_px = 32
epochs = 40
steps_per_epoch = 5
[network]
channels = [4, 8]
"""


def started(log: Path, *words: str | Path) -> subprocess.Popen:
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *torchrun, "-m", "cellunet", *map(str, words)],
            cwd=CHECKOUT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals as Unix has them")
def test_two_processes_are_stopped_and_one_goes_on(
    tmp_path, home, toml, write_data
) -> None:
    data = write_data(tmp_path / "data", 4)
    words = ["train", data, "--name", "shared", "--config", toml(SETTINGS)]
    words += ["--from", "scratch", "--val", "0.5", "--threads", "1"]
    log = tmp_path / "log"
    process = started(log, *words)
    for _ in range(1200):
        if "\nepoch 1/40" in log.read_text() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=120)
    told = log.read_text()
    assert "40 epochs of 5 steps" in told
    assert "2 processes, each on 1 thread." in told
    for once in (
        "cellunet: stopping at the next good place",
        "every step is saved in",
        "Run folder:",
        "\nepoch 1/40",
    ):
        assert told.count(once) == 1, told
    assert main([str(word) for word in (*words, "--resume")]) == 0
    assert find_model("shared").card.epochs == 40
    assert len((home / "models/shared/history.csv").read_text().splitlines()) == 41


def test_a_further_process_leaves_messages_to_the_first(
    run: Run, tmp_path, monkeypatch
) -> None:
    for name, value in FURTHER.items():
        monkeypatch.setenv(name, value)
    ran = run("train", tmp_path, "--minutes", "none", "--json")
    assert (ran.code, ran.out, ran.err) == (2, "", "")
    # Other commands know nothing of it.
    assert "There is no image" in run("predict", tmp_path / "no", "--out", tmp_path).err


def test_a_world_without_torchrun_is_refused(run: Run, write_data, tmp_path) -> None:
    data = write_data(tmp_path / "data", 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        ran = run("train", data, "--name", "alone")
    assert ran.code == 1
    assert "RANK, MASTER_ADDR, MASTER_PORT are not set" in ran.err


def test_a_learning_curve_is_made_in_one_process(
    run: Run, write_data, tmp_path, monkeypatch
) -> None:
    for name, value in (FURTHER | {"RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    data = write_data(tmp_path / "data", 4)
    ran = run("train", data, "--learning-curve", "--out", tmp_path / "curve")
    assert ran.code == 1
    assert "A learning curve is made in one process" in ran.err
