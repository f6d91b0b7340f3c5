"""Save and load the state of a training run, and export the weights.

Both are safetensors files, written beside their place and renamed: never pickled, and
never partly written.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save

from cellunet.core.trainer import Tally, TrainState, new_state
from cellunet.core.unet import UNet
from cellunet.errors import CheckpointError
from cellunet.io.files import write_atomically
from cellunet.store import AGAIN, CARD_KEY, file_sha256, read_card, read_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cellunet.config import TrainConfig, UNetConfig
    from cellunet.store import ModelCard

PARTS = ("network", "average", "best")

STATE_FORMAT = 2


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
        "history": [{k: repr(v) for k, v in row.items()} for row in state.history],
        "tally": [repr(tally.loss_sum), tally.pixels, tally.confusion.tolist()],
    }
    _write(path, {k: v.contiguous() for k, v in tensors.items()}, numbers)


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
    try:
        for part in PARTS:
            getattr(state, part).load_state_dict(_of_part(part, tensors))
        _load_optimizer(state.optimizer, tensors)
        loss_sum, pixels, confusion = numbers["tally"]
        state.tally = Tally(
            classes=config.network.classes,
            loss_sum=float(loss_sum),
            pixels=pixels,
            confusion=np.array(confusion, np.int64),
        )
        state.epoch, state.step = numbers["epoch"], numbers["step"]
        state.best_loss = float(numbers["best_loss"])
        state.best_epoch = numbers["best_epoch"]
        state.history = [
            {k: float(v) for k, v in row.items()} for row in numbers["history"]
        ]
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} does not fit the network that it is for ({error}).",
            hint="Start anew with --overwrite.",
        ) from error
    return state


def save_parts(path: Path, parts: Mapping[str, UNet], about: dict[str, Any]) -> None:
    """Write networks by name, replaced as a whole, with JSON values beside them."""
    _write(path, _tensors(parts), about)


def load_parts(path: Path, parts: Mapping[str, UNet]) -> None:
    """Read networks that `save_parts` wrote into networks of the same shape.

    Raises
    ------
    CheckpointError
        If the file is missing, corrupt or of other networks.
    """
    tensors = _read(path)
    try:
        for part, network in parts.items():
            network.load_state_dict(_of_part(part, tensors))
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not fit the network that it is for ({error}).",
            hint="Start anew with --overwrite.",
        ) from error


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


def export_weights(
    weights: Path, onnx: Path, network: UNet, card: ModelCard
) -> ModelCard:
    """Write a network's weights with its card, and the ONNX twin.

    The twin is written first and its hash put in the card, so that weights never
    name a twin that is not there.

    Parameters
    ----------
    weights, onnx
        Where.
    network
        Its weights.
    card
        What travels with them; the twin's hash is filled in.

    Returns
    -------
    ModelCard
        As written.

    Raises
    ------
    CheckpointError
        If the twin does not compute what the network does.
    """
    from cellunet.engine.onnx import build

    tensors = {
        k: v.detach().cpu().contiguous()
        for k, v in network.state_dict().items()
        if v.is_floating_point()
    }
    graph = build({k: v.numpy() for k, v in tensors.items()}, network.config)
    check_twin(graph, network)
    with write_atomically(onnx) as path:
        path.write_bytes(graph)
    card = replace(card, onnx_sha256=file_sha256(onnx))
    _write(weights, tensors, card.to_dict())
    return card


TWIN_TOLERANCE = 1e-4
"""Largest difference of a probability between torch and the ONNX twin."""


def check_twin(graph: bytes, network: UNet) -> float:
    """Return the largest difference of a probability between a network and its twin.

    Raises
    ------
    CheckpointError
        If it is above `TWIN_TOLERANCE`.
    """
    from cellunet.core.device import TorchEngine
    from cellunet.engine.runtimes import OnnxRuntimeEngine

    side = 4 * network.config.stride_px
    shape = (1, network.config.in_channels, side, side + network.config.stride_px)
    image = np.random.default_rng(0).normal(0.3, 0.5, shape).astype(np.float32)
    device = next(network.parameters()).device
    expected = TorchEngine(network, device)(image)
    found = OnnxRuntimeEngine(graph)(image)
    difference = float(np.abs(found - expected).max())
    if not difference <= TWIN_TOLERANCE:
        raise CheckpointError(
            f"The ONNX twin differs from the network by {difference:.1e}, more than "
            f"{TWIN_TOLERANCE:.0e}.",
            hint="Report this with the training command.",
        )
    return difference


def load_network(path: Path) -> UNet:
    """Return the network of a weights file, on the CPU and set to evaluation.

    Raises
    ------
    CheckpointError
        If the file is missing, corrupt, of another network, or holds values that are
        not finite.
    """
    config = read_card(path).config.network
    tensors = _read(path)
    _check_fit(path, config, tensors)
    bad = [k for k, v in tensors.items() if not torch.isfinite(v).all()]
    if bad:
        raise CheckpointError(
            f"{path} holds values that are not finite ({bad[0]}).", hint=AGAIN
        )
    network = UNet(config)
    network.load_state_dict(tensors, strict=False)
    return network.eval()


def _check_fit(
    path: Path, config: UNetConfig, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Refuse weights that are not those of a network, before it takes any memory."""
    with torch.device("meta"):
        expected = UNet(config).state_dict()
    # Counters of batches are no weights and are not written.
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in expected.items()
        if not name.endswith("num_batches_tracked")
    }
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(shapes.keys() | found.keys()):
        if shapes.get(name) != found.get(name):
            told, wanted = (str(s.get(name, "none")) for s in (found, shapes))
            raise CheckpointError(
                f"{path} does not fit the network of its card: {name} is {told}; "
                f"{wanted} is expected.",
                hint=AGAIN,
            )


def _write(path: Path, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    # One metadata key: the order of several would differ from run to run. Its own keys
    # stay in order, because that of a history's columns is to outlast a stop.
    content = save(tensors, {CARD_KEY: json.dumps(about)})
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as weights ({error}).",
            hint=AGAIN,
        ) from error
