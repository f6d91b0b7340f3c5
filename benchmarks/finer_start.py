"""A start for a network with a finer level, out of one that has been trained.

A level at full resolution takes the place of a stem of stride 2. All that lies below it
is kept; what is new is drawn from the seed.
"""

from dataclasses import replace

import changed_start

from cellunet.config import TrainConfig
from cellunet.core.unet import UNet, initialize


def finer(coarse: UNet, features: int, seed: int) -> UNet:
    """Return the network of one level more.

    Parameters
    ----------
    coarse
        A network with a stem of stride 2.
    features
        Channels of the new level.
    seed
        Of the weights that are new.
    """
    shape = coarse.config
    if shape.stem_stride != 2:
        raise SystemExit(
            "The network is at full resolution already: take a start whose stem "
            "has stride 2, or leave out `finer`."
        )
    channels = (features, *shape.channels)
    network = UNet(replace(shape, channels=channels, stem_stride=1))
    initialize(network, seed)
    weights = network.state_dict()
    for name, tensor in coarse.state_dict().items():
        part, *rest = name.split(".")
        if part == "stem":
            name = ".".join(("down.0", *rest))
        elif part == "down":
            name = ".".join(("down", str(int(rest[0]) + 1), *rest[1:]))
        # Of the stem the convolution over the image itself, and the head, do not fit.
        if name in weights and weights[name].shape == tensor.shape:
            weights[name] = tensor
    network.load_state_dict(weights)
    return network.eval()


def write(start: str, features: int, seed: int) -> str:
    """Write the finer network of a model to the store, and return its name."""

    def change(coarse: UNet, config: TrainConfig) -> tuple[UNet, TrainConfig]:
        network = finer(coarse, features, seed)
        return network, config.replace(network=network.config)

    name = f"{start}-finer-{features}"
    changed_start.write(name, start, change)
    return name
