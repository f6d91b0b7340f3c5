"""One of the processes of `test_distributed`: trains, and writes what it saw."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import torch

from cellunet.core.checkpoint import save_state
from cellunet.core.distributed import connected, refuse_different, together
from cellunet.core.trainer import Trainer, new_state
from cellunet.errors import CellunetError, ConfigError
from cellunet.ranks import ranks_of

CPU = torch.device("cpu")
STOP_AFTER = 3


def gradients(state) -> list[torch.Tensor]:
    return [p.grad.clone() for p in state.network.parameters()]


def weights(network) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


def train(trainer, state, *, stops: bool) -> dict[str, object]:
    """Run to the end, or until the last rank alone asks to stop."""
    losses, first = [], []

    def on_step(state, loss):
        losses.append(loss)
        first[:] = first or gradients(state)

    finished = trainer.run(
        state,
        should_stop=lambda: stops and len(losses) >= STOP_AFTER,
        on_step=on_step,
    )
    return {"finished": finished, "losses": losses, "gradients": first}


def raised(call) -> tuple[str, str]:
    try:
        call()
    except CellunetError as error:
        return type(error).__name__, str(error)
    return "", ""


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    ranks = ranks_of(os.environ)
    images, config = pickle.loads((folder / "images.pickle").read_bytes())
    last = ranks.rank == ranks.size - 1
    with connected(ranks, CPU):
        state = new_state(config, CPU)
        trainer = Trainer(images[:3], images, config, CPU, ranks)
        found: dict[str, object] = {"stopped": train(trainer, state, stops=last)}
        if ranks.first:
            save_state(folder / "stopped.safetensors", state, config, {})
        found["rest"] = train(trainer, state, stops=False)
        found["weights"] = weights(state.network)
        found["average"] = weights(state.average)
        found["history"] = state.history

        def fail() -> None:
            with together(ranks):
                if last:
                    raise ConfigError("The data are not here.", hint="Mount them.")

        found["failed"] = raised(fail)
        found["differ"] = raised(
            lambda: refuse_different(ranks, {"images": int(last), "settings": 0})
        )
    torch.save(found, folder / f"rank-{ranks.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
