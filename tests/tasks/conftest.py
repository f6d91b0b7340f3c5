"""What the tests of tasks share: a home for models, and trainings of a second."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from cellunet.config import AugmentConfig, TrainConfig
from cellunet.tasks.train.request import Hooks
from tests.networks import TINY, few_candidates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cellunet.tasks.train.request import TrainRequest


def stop_at(call: int) -> Hooks:
    """Return hooks that ask for a stop the `call`-th time that the training asks."""
    calls = itertools.count(1)
    return Hooks(should_stop=lambda: next(calls) == call)


@pytest.fixture
def few(tmp_path: Path, write_data: Callable[..., Path]) -> Path:
    """Four annotated images that no other test has."""
    return write_data(tmp_path / "few", 4, first_seed=40)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home for models, so that no test sees the user's."""
    folder = tmp_path / "home"
    monkeypatch.setenv("CELLUNET_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def quick_config() -> TrainConfig:
    """Two levels, 2 epochs of 3 steps on crops of 32 px."""
    return TINY.replace(
        augment=AugmentConfig(intensity_probability=0.2),
        steps_per_epoch=3,
        average_decay=0.9,
    )


@pytest.fixture
def quick(
    home: Path, quick_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., TrainRequest]]:
    """``quick(DATA, ...)``: a request for a training that takes a blink.

    It is called ``quick``; two candidates of each decode constant are tried, and
    pictures are small.
    """
    torch = pytest.importorskip("torch")
    from cellunet.command_config import SplitConfig
    from cellunet.tasks.train.request import TrainRequest

    few_candidates(monkeypatch.setattr)

    def make(*data: Path, **changes: object) -> TrainRequest:
        settings = {
            "data": data,
            "name": "quick",
            "config": quick_config,
            "start": "scratch",
            "split": SplitConfig(validation_fraction=0.4),
            "threads": 1,
        }
        return TrainRequest(**settings | changes)  # type: ignore[arg-type]

    threads = torch.get_num_threads()
    yield make
    torch.set_num_threads(threads)
