"""A start that is not a training: a model with another network or other settings."""

from collections.abc import Callable
from dataclasses import replace

from cellunet import store
from cellunet.config import TrainConfig
from cellunet.core.checkpoint import export_weights, load_network
from cellunet.core.unet import UNet


def write(
    name: str,
    start: str,
    change: Callable[[UNet, TrainConfig], tuple[UNet, TrainConfig]],
) -> None:
    """Write a changed model to the store, if it is not there yet.

    Parameters
    ----------
    name
        Of the model that is written.
    start
        Of the model that is changed; the card of the new one names it.
    change
        Returns the network and the settings to write, given those of `start`.
    """
    folder = store.model_folder(name)
    if (folder / store.WEIGHTS_FILE).is_file():
        return
    model = store.find_model(start)
    network, config = change(load_network(model.weights), model.card.config)
    began = {"name": start, "sha256": model.sha256}
    folder.mkdir(parents=True, exist_ok=True)
    export_weights(
        folder / store.WEIGHTS_FILE,
        network,
        replace(
            model.card,
            name=name,
            config=config,
            start=began,
            scores={},
            int8_ranges={},
        ),
    )
