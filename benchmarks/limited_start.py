"""A start that scales by the foreground, out of one trained before that was measured.

The weights are the same; training then goes on with a range that bright dirt does not
set (`cellunet.imaging.foreground`).
"""

from dataclasses import replace

from cellunet import store
from cellunet.core.checkpoint import export_weights, load_network


def write(start: str, limit: float) -> str:
    """Write a model with another `foreground_limit` to the store; return its name."""
    name = f"{start}-limited"
    folder = store.model_folder(name)
    if not (folder / store.WEIGHTS_FILE).is_file():
        model = store.find_model(start)
        config = model.card.config
        scaling = config.normalization.replace(foreground_limit=limit)
        config = config.replace(normalization=scaling)
        began = {"name": start, "sha256": store.file_sha256(model.weights)}
        folder.mkdir(parents=True, exist_ok=True)
        export_weights(
            folder / store.WEIGHTS_FILE,
            folder / store.ONNX_FILE,
            load_network(model.weights),
            replace(model.card, name=name, config=config, start=began, scores={}),
        )
    return name
