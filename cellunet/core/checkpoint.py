"""Save and load the state of a training run, and export the weights.

Both are safetensors files, written as a whole: never pickled, never partly written.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cellunet.core.trainer import LossAndConfusion, TrainState, new_state
from cellunet.core.unet import UNet
from cellunet.engine.onnx import check_weights, read_weights
from cellunet.errors import CheckpointError
from cellunet.store import read_card, read_metadata, read_tensors, write

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from cellunet.config import TrainConfig
    from cellunet.store import ModelCard

PARTS = ("network", "average", "best")

STATE_FORMAT = 3


def save_state(
    path: Path, state: TrainState, config: TrainConfig, about: dict[str, Any]
) -> None:
    """Write all that a run needs to go on.

    Parameters
    ----------
    path
        Where; replaced as a whole.
    state
        After any step.
    config
        Settings of the run.
    about
        What the caller wants to find again, JSON values.
    """
    tensors = _tensors({part: getattr(state, part) for part in PARTS})
    for index, values in state.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            tensors[f"optimizer/{index}/{name}"] = torch.as_tensor(value).cpu()
    tally = state.tally
    numbers = {
        "format": STATE_FORMAT,
        "config": config.to_dict(),
        "about": about,
        "epoch": state.epoch,
        "step": state.step,
        "best_loss": repr(state.best_loss),
        "best_epoch": state.best_epoch,
        "history": _exact(state.history),
        "tally": [repr(tally.loss_sum), tally.pixels, tally.confusion.tolist()],
    }
    _write(path, tensors, numbers)


def read_state(path: Path) -> dict[str, Any]:
    """Return the numbers of a saved state, its tensors left aside.

    Raises
    ------
    CheckpointError
        If the file is not a state that this version wrote.
    """
    numbers = read_metadata(path)
    if numbers.get("format") != STATE_FORMAT or "about" not in numbers:
        raise CheckpointError(
            f"{path} is no state of a training that this version can go on with.",
            hint="Start anew with --overwrite.",
        )
    return numbers


def load_state(path: Path, config: TrainConfig, device: torch.device) -> TrainState:
    """Return the state that `save_state` wrote.

    Raises
    ------
    CheckpointError
        If the file is missing, corrupt or of another network.
    """
    numbers = read_state(path)
    tensors = _read(path)
    state = new_state(config, device)
    with _fitting(path):
        for part in PARTS:
            getattr(state, part).load_state_dict(_of_part(part, tensors))
        _load_optimizer(state.optimizer, tensors)
        loss_sum, pixels, confusion = numbers["tally"]
        state.tally = LossAndConfusion(
            classes=config.network.classes,
            loss_sum=float(loss_sum),
            pixels=pixels,
            confusion=np.array(confusion, np.int64),
        )
        state.epoch, state.step = numbers["epoch"], numbers["step"]
        state.best_loss = float(numbers["best_loss"])
        state.best_epoch = numbers["best_epoch"]
        state.history = _rows(numbers["history"])
    return state


def save_fold(
    path: Path, network: UNet, history: Sequence[Mapping[str, float]]
) -> None:
    """Write the network of a finished fold and its history, replaced as a whole."""
    _write(path, _tensors({"network": network}), {"history": _exact(history)})


def load_fold(path: Path, network: UNet) -> list[dict[str, float]]:
    """Read what `save_fold` wrote into a network of the same shape.

    Returns
    -------
    list
        The history.

    Raises
    ------
    CheckpointError
        If the file is missing, corrupt or of another network.
    """
    about, tensors = read_metadata(path), _read(path)
    with _fitting(path):
        network.load_state_dict(_of_part("network", tensors))
        return _rows(about["history"])


@contextlib.contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """Refuse a file that does not hold what is read from it."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} does not fit the network that it is for ({error}).",
            hint="Start anew with --overwrite.",
        ) from error


def _exact(history: Sequence[Mapping[str, float]]) -> list[dict[str, str]]:
    """Return rows that come back to the bit, nan and infinity too."""
    return [{name: repr(value) for name, value in row.items()} for row in history]


def _rows(exact: Sequence[Mapping[str, str]]) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in row.items()} for row in exact]


def _tensors(parts: Mapping[str, UNet]) -> dict[str, torch.Tensor]:
    return {
        f"{part}/{name}": tensor.detach().cpu().contiguous()
        for part, network in parts.items()
        for name, tensor in network.state_dict().items()
    }


def _of_part(part: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        key.removeprefix(f"{part}/"): tensor
        for key, tensor in tensors.items()
        if key.startswith(f"{part}/")
    }


def _load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    saved: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if not key.startswith("optimizer/"):
            continue
        _, index, name = key.split("/")
        like = parameters[int(index)]
        # A copy, laid out in memory as its parameter is: the next steps compute as if
        # there had been no stop, and no view of the file hinders replacing it.
        like = like if like.shape == tensor.shape else tensor
        saved.setdefault(int(index), {})[name] = torch.empty_like(like).copy_(tensor)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": saved, "param_groups": groups})


def weights_of(network: UNet) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights of a network by name; counters of batches are none."""
    return {
        name: tensor.detach().cpu().numpy()
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point()
    }


def export_weights(file: Path, network: UNet, card: ModelCard) -> None:
    """Write a network's weights with its card.

    Parameters
    ----------
    file
        Where; replaced as a whole.
    network
        Its weights.
    card
        What travels with them.

    Raises
    ------
    CheckpointError
        If a weight is not finite.
    OutputError
        If the file cannot be written.
    """
    weights = weights_of(network)
    check_weights(weights, network.config)
    write(file, weights, card.to_dict())


def load_network(path: Path) -> UNet:
    """Return the network of a weights file, on the CPU and set to evaluation.

    Raises
    ------
    CheckpointError
        If the file is missing, corrupt, of another network, or holds values that are
        not finite.
    """
    config = read_card(path).config.network
    weights = read_weights(path, config)
    network = UNet(config)
    network.load_state_dict(
        {name: torch.tensor(values) for name, values in weights.items()}, strict=False
    )
    return network.eval()


def _read(path: Path) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(values) for name, values in read_tensors(path).items()}


def _write(path: Path, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    write(path, {name: values.numpy() for name, values in tensors.items()}, about)
