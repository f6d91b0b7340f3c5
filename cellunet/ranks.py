"""Which of several processes of one training this one is, as ``torchrun`` says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellunet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables of the environment that go with ``WORLD_SIZE``."""

START = "torchrun --nproc-per-node N -m cellunet train DATA"


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Place of this process among those of a training; by default it is alone."""

    rank: int = 0
    """Its number, from 0."""
    size: int = 1
    """How many processes there are."""
    local: int = 0
    """Its number among those of its machine."""

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """Return which crops of a batch are this process's; all have as many.

        Raises
        ------
        ConfigError
            If they cannot be divided evenly.
        """
        own, left = divmod(batch, self.size)
        if left or not own:
            fits = [n for n in range(1, min(batch, self.size) + 1) if batch % n == 0]
            raise ConfigError(
                f"A batch of {batch} crops cannot be divided evenly among {self.size} "
                "processes.",
                hint=f"Start {fits[-1]} of them, or set batch to a multiple of "
                f"{self.size} in a file for --config.",
            )
        return range(self.rank * own, (self.rank + 1) * own)


ALONE = Ranks()


def ranks_of(environment: Mapping[str, str]) -> Ranks:
    """Return which process this is by the variables that ``torchrun`` sets.

    Raises
    ------
    ConfigError
        If some of them are missing or make no sense.
    """
    size = _number(environment, "WORLD_SIZE", 1)
    if size < 2:
        return ALONE
    missing = [name for name in NEEDED if not environment.get(name)]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {size}, as in a training on several processes, but "
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set.",
            hint=f"Start all processes with: {START}. To train in one process, unset "
            "WORLD_SIZE.",
        )
    rank = _number(environment, "RANK", 0)
    if rank >= size:
        raise ConfigError(
            f"RANK is {rank}, but WORLD_SIZE is {size}: ranks count from 0.",
            hint=f"Start all processes with: {START}.",
        )
    return Ranks(rank=rank, size=size, local=_number(environment, "LOCAL_RANK", rank))


def is_further(environment: Mapping[str, str]) -> bool:
    """Return whether another process of this training writes and speaks for all."""
    try:
        return not ranks_of(environment).first
    except ConfigError:
        return False


def _number(environment: Mapping[str, str], name: str, usual: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return usual
    if not text.isdecimal():
        raise ConfigError(
            f"The environment variable {name} is {text!r}, no whole number.",
            hint=f"Unset it, or start the training with: {START}.",
        )
    return int(text)
