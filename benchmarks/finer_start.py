"""A start for a network with a finer level, out of one that has been trained.

A level at full resolution takes the place of a stem of stride 2. All that lies below it
is kept; what is new is drawn from the seed.
"""

from dataclasses import replace

from cellunet import store
from cellunet.core.checkpoint import export_weights, load_network
from cellunet.core.unet import UNet, initialise


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
    initialise(network, seed)
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
    name = f"{start}-finer-{features}"
    folder = store.model_folder(name)
    if not (folder / store.WEIGHTS_FILE).is_file():
        model = store.find_model(start)
        network = finer(load_network(model.weights), features, seed)
        config = model.card.config.replace(network=network.config)
        began = {"name": start, "sha256": store.file_sha256(model.weights)}
        folder.mkdir(parents=True, exist_ok=True)
        export_weights(
            folder / store.WEIGHTS_FILE,
            folder / store.ONNX_FILE,
            network,
            replace(model.card, name=name, config=config, start=began, scores={}),
        )
    return name
