"""Which process of a training this is, by the variables that torchrun sets."""

from __future__ import annotations

import pytest

from cellunet.errors import ConfigError
from cellunet.ranks import ALONE, Ranks, is_further, ranks_of

SET = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1"}, {"RANK": "3"}])
def test_without_a_world_a_process_is_alone(environment) -> None:
    assert ranks_of(environment) == ALONE
    assert ALONE.alone
    assert ALONE.first
    assert not is_further(environment)


def test_torchrun_says_which_process_it_is() -> None:
    own = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", **SET}
    assert ranks_of(own) == Ranks(rank=3, size=4, local=1)
    assert is_further(own)
    assert not is_further(own | {"RANK": "0"})


@pytest.mark.parametrize(
    ("environment", "match"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, MASTER_ADDR, MASTER_PORT are not set"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "x"}, "MASTER_PORT is not"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', no whole number"),
        ({"WORLD_SIZE": "2", "RANK": "2", **SET}, "RANK is 2, but WORLD_SIZE is 2"),
    ],
)
def test_a_world_that_makes_no_sense_is_refused(environment, match) -> None:
    with pytest.raises(ConfigError, match=match) as refused:
        ranks_of(environment)
    assert "torchrun --nproc-per-node" in refused.value.hint
    assert not is_further(environment)


def test_shares_are_as_large_and_follow_each_other() -> None:
    shares = [Ranks(rank=rank, size=3).share(6) for rank in range(3)]
    assert shares == [range(2), range(2, 4), range(4, 6)]
    assert ALONE.share(5) == range(5)


@pytest.mark.parametrize(("batch", "size", "fits"), [(8, 3, 2), (2, 4, 2), (7, 4, 1)])
def test_a_batch_that_does_not_divide_is_refused_with_a_number_that_does(
    batch, size, fits
) -> None:
    with pytest.raises(ConfigError) as refused:
        Ranks(size=size).share(batch)
    assert f"Start {fits} of them" in refused.value.hint
