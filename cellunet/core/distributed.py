"""One training on several processes: what they tell each other.

Every process holds all images and the whole state of the run; a step is divided by the
crops of its batch, a validation by its windows. What is added up here makes the step
that one process would take: gradients (`torch.nn.parallel.DistributedDataParallel`),
annotated pixels and the statistics of batch normalization are those of the whole batch.
Small numbers travel between processors (gloo), gradients and statistics between the
devices that compute (nccl on CUDA).
"""

from __future__ import annotations

import contextlib
import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed, nn

from cellunet.errors import CellunetError, ConfigError, RankError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cellunet.ranks import Ranks

T = TypeVar("T")

PATIENCE = datetime.timedelta(minutes=10)
"""How long a process waits for the others."""

LOST = ("connection", "gloo", "nccl", "timed out", "timeout", "socket")
"""Words of what torch says when another process is not there (any more)."""


@contextlib.contextmanager
def connected(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """Be connected to the other processes inside.

    Parameters
    ----------
    ranks
        Which process this is.
    device
        Where it computes.

    Raises
    ------
    ConfigError
        If this torch cannot do that.
    RankError
        If the others do not come.
    """
    if ranks.alone:
        yield
        return
    if not distributed.is_available():
        raise ConfigError(
            "This build of torch cannot train on several processes.",
            hint="Start one process, without torchrun.",
        )
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    with telling_lost(ranks):
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE
        )
    try:
        yield
    finally:
        distributed.destroy_process_group()


@contextlib.contextmanager
def telling_lost(ranks: Ranks) -> Iterator[None]:
    """Turn what torch says of a process that is not there into one line.

    Raises
    ------
    RankError
        In place of it.
    """
    try:
        yield
    except RuntimeError as error:
        if ranks.alone or not _is_lost(error):
            raise
        raise RankError(
            f"Process {ranks.rank} of the {ranks.size} of this training has lost the "
            "others: one of them ended, or cannot be reached.",
            hint="Its own message says why. What was saved last stays; --resume goes "
            "on from there, with any number of processes.",
        ) from error


def _is_lost(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or any(w in text for w in LOST)


@contextlib.contextmanager
def together(ranks: Ranks) -> Iterator[None]:
    """Fail on all processes if what is inside fails on one of them.

    Nothing inside may wait for another process.

    Raises
    ------
    CellunetError
        The first one's by rank.
    """
    failure: CellunetError | None = None
    try:
        yield
    except CellunetError as error:
        if ranks.alone:
            raise
        failure = error
    told = None
    if failure is not None:
        told = type(failure), failure.message, failure.hint
    for rank, found in enumerate(gathered(ranks, told)):
        if failure is not None and rank == ranks.rank:
            raise failure
        if found is not None:
            kind, message, hint = found
            raise kind(f"Process {rank}: {message}", hint=hint)


def gathered(ranks: Ranks, value: T) -> list[T]:
    """Return the values of all processes, by rank."""
    if ranks.alone:
        return [value]
    found: list[Any] = [None] * ranks.size
    with telling_lost(ranks):
        distributed.all_gather_object(found, value)
    return found


def summed(ranks: Ranks, numbers: torch.Tensor) -> torch.Tensor:
    """Return the sum of numbers on the CPU over all processes, on each of them."""
    if not ranks.alone:
        with telling_lost(ranks):
            distributed.all_reduce(numbers)
    return numbers


def any_of(ranks: Ranks, value: bool) -> bool:
    """Return whether a value is true on any process, on each of them."""
    return value if ranks.alone else bool(summed(ranks, torch.tensor(int(value))) > 0)


def divided(network: nn.Module, device: torch.device) -> nn.Module:
    """Return what computes a network whose gradients are the means over all processes.

    The network itself stays what it was but for its batch normalization, which takes
    the statistics of the whole batch in training from now on.
    """
    for module in network.modules():
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, WholeBatchNorm.like(child))
    places = [device.index] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=places)


class WholeBatchNorm(nn.BatchNorm2d):
    """Batch normalization with the statistics of a batch that processes share.

    As `torch.nn.SyncBatchNorm`, which does not run on CPUs. All shares are as large.
    """

    @classmethod
    def like(cls, module: nn.BatchNorm2d) -> WholeBatchNorm:
        """Return one of the very weights and statistics of `module`."""
        found = cls(module.num_features, module.eps, module.momentum)
        found.weight, found.bias = module.weight, module.bias
        for name, buffer in module.named_buffers(recurse=False):
            setattr(found, name, buffer)
        return found.train(module.training)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return normalized features, NCYX of the type they have."""
        if not self.training:
            return super().forward(features)
        found, mean, variance = _WholeBatch.apply(  # type: ignore[no-untyped-call]
            features, self.weight, self.bias, self.eps
        )
        count = features.numel() // features.shape[1] * distributed.get_world_size()
        with torch.no_grad():
            share = self.momentum or 0.0
            self.running_mean.lerp_(mean, share)  # type: ignore[union-attr]
            self.running_var.lerp_(variance * (count / max(count - 1, 1)), share)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return found  # type: ignore[no-any-return]


class _WholeBatch(torch.autograd.Function):
    """Normalize by mean and variance over all processes, and back.

    Ioffe and Szegedy (2015), "Batch Normalization", ICML, algorithm 1 and section 3.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        features: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        eps: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        values = features.float()  # N C Y X
        variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
        own = torch.stack((mean, variance))  # 2 C
        shares = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(shares, own)
        means, variances = torch.stack(shares, dim=1)  # processes C
        mean = means.mean(dim=0)
        # The mean of the shares' variances and the variance of their means.
        variance = variances.mean(dim=0) + (means - mean).square().mean(dim=0)
        scale = torch.rsqrt(variance + eps)
        ctx.save_for_backward(features, weight, mean, scale)
        ctx.mark_non_differentiable(mean, variance)
        found = (values - _wide(mean)) * _wide(scale * weight) + _wide(bias)
        return found.to(features.dtype), mean, variance

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        *gradients: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        features, weight, mean, scale = ctx.saved_tensors
        gradient = gradients[0].float()
        normalized = (features.float() - _wide(mean)) * _wide(scale)
        of_bias = gradient.sum(dim=(0, 2, 3))
        of_weight = (gradient * normalized).sum(dim=(0, 2, 3))
        sums = torch.stack((of_bias, of_weight))
        distributed.all_reduce(sums)
        count = features.numel() // features.shape[1] * distributed.get_world_size()
        through = sums / count
        rest = gradient - _wide(through[0]) - normalized * _wide(through[1])
        back = (rest * _wide(scale * weight)).to(features.dtype)
        return back, of_weight, of_bias, None


def _wide(values: torch.Tensor) -> torch.Tensor:
    """Return a value a channel as it goes with NCYX."""
    return values[None, :, None, None]


def refuse_different(ranks: Ranks, known: Mapping[str, object]) -> None:
    """Refuse processes that are about to train on different things.

    Parameters
    ----------
    ranks
        Which process this is.
    known
        What has to be the same, by what it is called.

    Raises
    ------
    RankError
        If it is not.
    """
    every = gathered(ranks, dict(known))
    for rank, theirs in enumerate(every):
        differ = [name for name in known if theirs[name] != every[0][name]]
        if differ:
            raise RankError(
                f"Process {rank} has other {' and '.join(differ)} than process 0.",
                hint="Start all processes with the same command, on machines that see "
                "the same files.",
            )
