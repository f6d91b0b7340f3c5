"""The seam for several processes, alone."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")


from cellunet.core.trainer import Distributed


def test_alone_the_sum_is_the_value_and_nobody_is_waited_for() -> None:
    alone = Distributed()
    value = torch.tensor([1.0, 2.0])
    assert (alone.rank, alone.world) == (0, 1)
    assert alone.all_reduce(value) is value
    assert alone.barrier() is None


def test_a_place_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Distributed().rank = 1
