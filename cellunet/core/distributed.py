"""The seam for training on several processes: rank, world, sum and barrier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


def _alone(value: torch.Tensor) -> torch.Tensor:
    return value


def _no_wait() -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Distributed:
    """Where this process stands among those that train together.

    `all_reduce` returns the sum of a tensor over all ranks, `barrier` waits for them.
    The default is one process alone.
    """

    rank: int = 0
    world: int = 1
    all_reduce: Callable[[torch.Tensor], torch.Tensor] = _alone
    barrier: Callable[[], None] = _no_wait
